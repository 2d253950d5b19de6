// Mixtures with a residual leverage h(T) of at most that of 95 % of the runs, by an interior-point method: h is
// quadratic in z = log T.

const SMALLEST = 1e-9; // share below which a logarithm is not followed
const N_RUNS = 2; // runs' own mixtures from which the search starts, besides the reference

class SupportRegion extends Region {
  // leverage: {basis, centre, inverse, limit}; runs: the runs' mixtures.
  constructor(reference, box, leverage, runs, offset) {
    super(reference, box, leverage.limit);
    Object.assign(this, { leverage, runs, offset });
  }

  measure(mixture) {
    const { basis, centre, inverse } = this.leverage;
    const least = this.offset > 0 ? 0 : LOWEST;
    const logs = mixture.map((share) => Math.log(Math.max(share, least) + this.offset));
    return quadratic(inverse, centre.map((level, p) => sum(logs.map((log, k) => log * basis[k][p])) - level));
  }

  maximise(theta) {
    this.note = null;
    const free = fillBox(theta, this.reference, this.box);
    const up = range(theta.length).filter((k) => theta[k] > 0);
    const rest = range(theta.length).filter((k) => !(theta[k] > 0));
    const isFilled = sum(pick(this.box.cap, up)) + sum(pick(this.box.floor, rest)) >= 1;
    if (isFilled && this.contains(this.reference) && this.contains(free)) return free;
    const value = (mixture) => sum(theta.map((part, k) => part * Math.log(Math.max(mixture[k], SMALLEST))));
    const starts = this.listStarts(value);
    if (!starts.length) {
      this.note = "Neither the reference nor a run that keeps the limits lies in the support: the reference is kept.";
      return this.reference.slice();
    }
    if (!isFilled || this.offset > 0) throw new NoRule();
    const barrier = new Barrier(this, theta);
    const found = starts.map((start) => barrier.climb(start)).filter((mixture) => mixture !== null);
    if (!found.length) throw new NoRule();
    return found.reduce((best, mixture) => (value(mixture) > value(best) ? mixture : best));
  }

  // The reference and the best runs, those that lie inside.
  listStarts(value) {
    const runs = this.runs.map((run) => Array.from(run)).filter((run) => this.contains(run));
    runs.sort((a, b) => value(b) - value(a));
    return [this.reference, ...runs.slice(0, N_RUNS)].filter((start) => this.contains(start));
  }
}

// Why there is no answer in the page.
class NoRule extends Error {
  constructor() {
    super("At these limits the support region has no rule in this page: ask python -m analysis with policy.region=support.");
  }
}

// Maximise theta' log T within the support, floors and caps: Newton steps on a logarithmic barrier, over the
// log-ratios w of a mixture T = softmax(w, 0), so that shares always sum to one.
class Barrier {
  constructor({ box, leverage }, theta) {
    const { basis, centre, inverse, limit } = leverage;
    const scale = Math.max(...theta.map(Math.abs));
    this.slope = theta.map((value) => value / scale);
    this.low = box.floor.map((share) => Math.log(Math.max(share, SMALLEST)));
    this.high = box.cap.map(Math.log);
    this.middle = this.findMiddle(box);
    // The slack of the support, 1 - h / limit, h = z' A z - 2 b' z + c.
    const half = basis.map((row) => multiply(inverse, row));
    this.A = half.map((row) => basis.map((other) => dot(row, other) / limit));
    this.b = half.map((row) => dot(row, centre) / limit);
    this.c = quadratic(inverse, centre) / limit;
  }

  // A mixture strictly between floors and caps.
  findMiddle({ floor, cap }) {
    const rooms = difference(cap, floor);
    const left = 1 - sum(floor);
    return floor.map((share, k) => share + (left * rooms[k]) / sum(rooms));
  }

  // From a mixture inside to the best one; null where there is no room about the start.
  climb(start) {
    let w = null;
    for (let part = 0.1; part > 1e-9 && !w; part *= 0.3) {
      const mixture = start.map((share, k) => (1 - part) * share + part * this.middle[k]);
      const at = mixture.slice(0, -1).map((share) => Math.log(share / mixture.at(-1)));
      if (Number.isFinite(this.measure(at, 0))) w = at;
    }
    if (!w) return null;
    for (let t = 1; t < 1e13; t *= 8) w = this.descend(w, t);
    const shares = this.place(w).map(Math.exp);
    return shares.map((share) => share / sum(shares));
  }

  // log T of log-ratios.
  place(w) {
    const top = Math.max(0, ...w);
    const log = top + Math.log(sum(w.map((value) => Math.exp(value - top))) + Math.exp(-top));
    return [...w, 0].map((value) => value - log);
  }

  listSlacks(z) {
    const support = 1 - (dot(z, multiply(this.A, z)) - 2 * dot(this.b, z) + this.c);
    return [support, ...difference(z, this.low), ...difference(this.high, z)];
  }

  // -t theta' z - sum log slack; infinite outside.
  measure(w, t) {
    const z = this.place(w);
    const slacks = this.listSlacks(z);
    return slacks.every((slack) => slack > 0) ? -t * dot(this.slope, z) - sum(slacks.map(Math.log)) : Infinity;
  }

  // Its gradient and curvature, first by z, then by w: dz/dw = I - 1 p', and p = T moves with w too.
  expand(w, t) {
    const n = w.length;
    const z = this.place(w);
    const p = z.map(Math.exp);
    const slack = this.listSlacks(z)[0];
    const lean = difference(multiply(this.A, z), this.b).map((value) => (2 * value) / slack);
    const down = z.map((value, k) => 1 / (value - this.low[k]));
    const up = z.map((value, k) => 1 / (this.high[k] - value));
    const g = z.map((_, k) => -t * this.slope[k] + lean[k] - down[k] + up[k]);
    const whole = sum(g);
    const H = z.map((_, i) =>
      z.map((__, j) => {
        const bend = (2 * this.A[i][j]) / slack + lean[i] * lean[j];
        return i === j ? bend + down[i] ** 2 + up[i] ** 2 : bend;
      }),
    );
    const rows = H.map(sum);
    const total = sum(rows);
    const gradient = range(n).map((k) => g[k] - whole * p[k]);
    const hessian = range(n).map((i) =>
      range(n).map((j) => {
        const turned = H[i][j] - rows[i] * p[j] - p[i] * rows[j] + total * p[i] * p[j];
        return turned - whole * ((i === j ? p[i] : 0) - p[i] * p[j]);
      }),
    );
    return { gradient, hessian };
  }

  // Newton's method with halved steps; a ridge where the curvature is not positive.
  descend(start, t) {
    let at = start;
    let height = this.measure(at, t);
    for (let i = 0; i < 60; i += 1) {
      const { gradient, hessian } = this.expand(at, t);
      const step = solveDownhill(hessian, gradient);
      const fall = -dot(gradient, step);
      if (!(fall > 1e-13)) return at;
      let size = 1;
      let next = at.map((part, k) => part + step[k]);
      let below = this.measure(next, t);
      while (!(below <= height - 0.1 * size * fall)) {
        size *= 0.5;
        if (size < 1e-10) return at;
        next = at.map((part, k) => part + size * step[k]);
        below = this.measure(next, t);
      }
      [at, height] = [next, below];
    }
    return at;
  }
}

// -(matrix + ridge)^-1 gradient by Cholesky, with the least ridge in powers of ten that makes it positive definite.
function solveDownhill(matrix, gradient) {
  const size = Math.max(...matrix.map((row, i) => Math.abs(row[i])));
  for (let ridge = 0; ; ridge = Math.max(10 * ridge, 1e-12 * size)) {
    const L = factorise(matrix, ridge);
    if (L) return solveTriangles(L, gradient.map((part) => -part));
  }
}

// The lower triangle L with L L' = matrix + ridge; null where there is none.
function factorise(matrix, ridge) {
  const n = matrix.length;
  const L = zeros(n, n);
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      let rest = matrix[i][j] + (i === j ? ridge : 0);
      for (let k = 0; k < j; k += 1) rest -= L[i][k] * L[j][k];
      if (i === j && !(rest > 0)) return null;
      L[i][j] = i === j ? Math.sqrt(rest) : rest / L[j][j];
    }
  }
  return L;
}

function solveTriangles(L, right) {
  const n = right.length;
  const half = new Float64Array(n);
  for (let i = 0; i < n; i += 1) half[i] = (right[i] - dot(L[i].subarray(0, i), half)) / L[i][i];
  const found = new Array(n).fill(0);
  for (let i = n - 1; i >= 0; i -= 1) {
    let rest = half[i];
    for (let k = i + 1; k < n; k += 1) rest -= L[k][i] * found[k];
    found[i] = rest / L[i][i];
  }
  return found;
}
