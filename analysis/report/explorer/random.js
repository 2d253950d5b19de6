// Draws of the analysis, draw for draw: NumPy's generator and distributions, as their papers have them.
// PCG64, XSL-RR output (O'Neill 2014); ziggurats of 256 layers (Marsaglia and Tsang 2000); gammas by squeeze
// (Marsaglia and Tsang 2000), below a shape of one by rejection (Ahrens and Dieter 1974).

const LAYERS = 256;
const TWO = (power) => 2 ** power;

// Layers of equal area under a falling density: widths, bounds within which no look at the density is needed, heights.
function cutLayers(last, area, bits, density, inverse) {
  const [width, sure, height] = [0, 1, 2].map(() => new Float64Array(LAYERS));
  const base = area / density(last);
  [width[0], sure[0], height[0]] = [base / TWO(bits), (last / base) * TWO(bits), 1];
  width[LAYERS - 1] = last / TWO(bits);
  height[LAYERS - 1] = density(last);
  let edge = last;
  for (let i = LAYERS - 2; i >= 1; i -= 1) {
    const inner = inverse(area / edge + density(edge));
    sure[i + 1] = (inner / edge) * TWO(bits);
    [width[i], height[i]] = [inner / TWO(bits), density(inner)];
    edge = inner;
  }
  return { last, width, sure, height };
}

const NORMAL = cutLayers(
  3.654152885361009,
  0.004928673233974655,
  52,
  (x) => Math.exp(-0.5 * x * x),
  (y) => Math.sqrt(-2 * Math.log(y)),
);
const EXPONENTIAL = cutLayers(7.69711747013105, 0.0039496598225815572, 53, (x) => Math.exp(-x), (y) => -Math.log(y));

const MULTIPLIER = [0x9fccf645, 0x4385df64, 0x1fc65da4, 0x2360ed05]; // 128 bits, the lowest 32 first

// The upper 32 bits of a product of two numbers of 32 bits.
function multiplyHigh(a, b) {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return a1 * b1 + Math.floor(middle / 65536) + Math.floor(other / 65536);
}

class Generator {
  // state, increment: four numbers of 32 bits, the lowest first.
  constructor({ state, increment }) {
    this.state = Uint32Array.from(state);
    this.increment = Uint32Array.from(increment);
  }

  // The next 64 bits, as this.high and this.low.
  step() {
    const { state, increment } = this;
    const sums = [increment[0], increment[1], increment[2], increment[3]];
    for (let i = 0; i < 4; i += 1) {
      for (let j = 0; i + j < 4; j += 1) {
        sums[i + j] += Math.imul(state[i], MULTIPLIER[j]) >>> 0;
        if (i + j < 3) sums[i + j + 1] += multiplyHigh(state[i], MULTIPLIER[j]);
      }
    }
    let carry = 0;
    for (let i = 0; i < 4; i += 1) {
      const total = sums[i] + carry;
      state[i] = total % 4294967296;
      carry = Math.floor(total / 4294967296);
    }
    const turn = state[3] >>> 26;
    let [high, low] = [state[3] ^ state[1], state[2] ^ state[0]];
    if (turn & 32) [high, low] = [low, high];
    const by = turn & 31;
    if (by) [high, low] = [(high >>> by) | (low << (32 - by)), (low >>> by) | (high << (32 - by))];
    this.high = high >>> 0;
    this.low = low >>> 0;
  }

  uniform() {
    this.step();
    return (this.high * TWO(21) + (this.low >>> 11)) / TWO(53);
  }

  exponential() {
    for (;;) {
      this.step();
      const layer = (this.low >>> 3) & 0xff;
      const part = this.high * TWO(21) + (this.low >>> 11);
      const x = part * EXPONENTIAL.width[layer];
      if (part < EXPONENTIAL.sure[layer]) return x;
      if (layer === 0) return EXPONENTIAL.last - Math.log1p(-this.uniform());
      if (this.isUnder(EXPONENTIAL.height, layer, Math.exp(-x))) return x;
    }
  }

  normal() {
    for (;;) {
      this.step();
      const { high, low } = this;
      const layer = low & 0xff;
      const part = (high & 0x1fffffff) * TWO(23) + (low >>> 9);
      const x = (low & 0x100 ? -1 : 1) * part * NORMAL.width[layer];
      if (part < NORMAL.sure[layer]) return x;
      if (layer === 0) return (low & 0x20000 ? -1 : 1) * this.tail();
      if (this.isUnder(NORMAL.height, layer, Math.exp(-0.5 * x * x))) return x;
    }
  }

  tail() {
    for (;;) {
      const over = -Math.log1p(-this.uniform()) / NORMAL.last;
      const y = -Math.log1p(-this.uniform());
      if (y + y > over * over) return NORMAL.last + over;
    }
  }

  isUnder(height, layer, density) {
    return (height[layer - 1] - height[layer]) * this.uniform() + height[layer] < density;
  }

  gamma(shape) {
    if (shape === 1) return this.exponential();
    return shape < 1 ? this.smallGamma(shape) : this.largeGamma(shape);
  }

  smallGamma(shape) {
    for (;;) {
      const u = this.uniform();
      const v = this.exponential();
      if (u <= 1 - shape) {
        const x = u ** (1 / shape);
        if (x <= v) return x;
      } else {
        const y = -Math.log((1 - u) / shape);
        const x = (1 - shape + shape * y) ** (1 / shape);
        if (x <= v + y) return x;
      }
    }
  }

  largeGamma(shape) {
    const b = shape - 1 / 3;
    const c = 1 / Math.sqrt(9 * b);
    for (;;) {
      let x;
      let v;
      do {
        x = this.normal();
        v = 1 + c * x;
      } while (v <= 0);
      v = v * v * v;
      const u = this.uniform();
      if (u < 1 - 0.0331 * (x * x) * (x * x)) return b * v;
      if (Math.log(u) < 0.5 * x * x + b * (1 - v + Math.log(v))) return b * v;
    }
  }

  // n mixtures, none with a share of exactly zero.
  dirichlet(shape, n) {
    const parts = shape.map((part) => Math.max(part, 1e-3));
    return range(n).map(() => {
      const drawn = parts.map((part) => this.gamma(part));
      const whole = sum(drawn);
      const held = drawn.map((part) => Math.max(part / whole, 1e-12));
      const total = sum(held);
      return held.map((part) => part / total);
    });
  }
}
