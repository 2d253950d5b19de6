// Mixtures with a residual leverage h(T) of at most that of 95 % of the runs, by an interior-point method.
// In z = log T it is convex: maximise theta' z with h quadratic, sum exp(z) <= 1, and bounds on z. Where the sum stays
// below one the rule of the analysis has another answer, and the page says that it has none.

const SMALLEST = 1e-9; // share below which a logarithm is not followed
const ROOM = 1e-8; // bounds closer than this leave nothing to search

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
    if (!this.contains(this.reference) && !this.runs.some((run) => this.contains(Array.from(run)))) {
      this.note = "Neither the reference nor a run that keeps the limits lies in the support: the reference is kept.";
      return this.reference.slice();
    }
    if (this.offset > 0) throw new NoRule("With shares moved before their logarithm is taken");
    const z = new Barrier(this.listLimits()).maximise(theta);
    const mixture = z && z.map(Math.exp);
    if (!mixture || Math.abs(sum(mixture) - 1) > 1e-7) throw new NoRule("At these limits");
    return mixture.map((share) => share / sum(mixture));
  }

  // The limits as functions of z that must stay above zero, with gradient and curvature.
  listLimits() {
    const { basis, centre, inverse, limit } = this.leverage;
    const low = this.box.floor.map((share) => Math.log(Math.max(share, SMALLEST)));
    const high = this.box.cap.map(Math.log);
    // h(z) = z' A z - 2 b' z + c
    const half = basis.map((row) => multiply(inverse, row));
    const A = half.map((row) => basis.map((other) => dot(row, other)));
    const b = half.map((row) => dot(row, centre));
    const c = quadratic(inverse, centre);
    const support = (z) => {
      const Az = multiply(A, z);
      return {
        slack: 1 - (dot(z, Az) - 2 * dot(b, z) + c) / limit,
        gradient: Az.map((value, k) => (-2 * (value - b[k])) / limit),
        curvature: (i, j) => (-2 * A[i][j]) / limit,
      };
    };
    const total = (z) => {
      const shares = z.map(Math.exp);
      return {
        slack: 1 - sum(shares),
        gradient: shares.map((share) => -share),
        curvature: (i, j) => (i === j ? -shares[i] : 0),
      };
    };
    return { low, high, curved: [support, total] };
  }
}

// Why there is no answer in the page.
class NoRule extends Error {
  constructor(where) {
    super(`${where} the support region has no rule in this page: ask python -m analysis with policy.region=support.`);
  }
}

// Maximise a linear function within bounds and curved limits by Newton steps on a logarithmic barrier.
class Barrier {
  constructor({ low, high, curved }) {
    Object.assign(this, { low, high, curved });
  }

  maximise(theta) {
    if (this.low.some((value, k) => this.high[k] - value < ROOM)) return null;
    let z = this.enter();
    if (!z) return null;
    const scale = Math.max(...theta.map(Math.abs));
    const slope = theta.map((value) => value / scale);
    for (let t = 1; t < 1e13; t *= 8) z = this.centre(z, slope, t, 0);
    return z;
  }

  // A point inside all limits: the least common excess s is pushed below zero.
  enter() {
    let z = this.low.map((value, k) => 0.5 * (value + this.high[k]));
    let s = this.excess(z) + 1;
    for (let t = 1; t < 1e12; t *= 8) {
      [z, s] = this.relax(z, s, t);
      if (this.excess(z) < 0) return z;
    }
    return null;
  }

  excess(z) {
    return Math.max(...this.curved.map((limit) => -limit(z).slack));
  }

  // Newton steps for s t - sum log(slack + s) - bounds, over (z, s).
  relax(z, s, t) {
    const n = z.length;
    const split = (point) => [point.slice(0, n), point[n]];
    const value = (point) => {
      const [at, by] = split(point);
      const slacks = [...this.curved.map((limit) => limit(at).slack + by), ...this.listRooms(at)];
      return slacks.every((slack) => slack > 0) ? t * by - sum(slacks.map(Math.log)) : Infinity;
    };
    const model = (point) => {
      const [at, by] = split(point);
      const { gradient, hessian } = this.expand(at, by);
      gradient[n] += t;
      return { gradient, hessian };
    };
    return split(descend([...z, s], value, model));
  }

  // Newton steps for -t slope' z - sum log slack - bounds.
  centre(z, slope, t) {
    const n = z.length;
    const value = (at) => {
      const slacks = [...this.curved.map((limit) => limit(at).slack), ...this.listRooms(at)];
      return slacks.every((slack) => slack > 0) ? -t * dot(slope, at) - sum(slacks.map(Math.log)) : Infinity;
    };
    const model = (at) => {
      const { gradient, hessian } = this.expand(at, 0);
      return {
        gradient: range(n).map((k) => gradient[k] - t * slope[k]),
        hessian: range(n).map((k) => hessian[k].slice(0, n)),
      };
    };
    return descend(z, value, model);
  }

  listRooms(z) {
    return z.flatMap((value, k) => [value - this.low[k], this.high[k] - value]);
  }

  // Gradient and curvature of the barrier over (z, s), the curved slacks raised by s.
  expand(z, s) {
    const n = z.length;
    const gradient = new Float64Array(n + 1);
    const hessian = zeros(n + 1, n + 1);
    for (const limit of this.curved) {
      const found = limit(z);
      const slack = found.slack + s;
      const slope = [...found.gradient, 1];
      for (let i = 0; i <= n; i += 1) {
        gradient[i] -= slope[i] / slack;
        for (let j = 0; j <= n; j += 1) {
          const bend = i < n && j < n ? found.curvature(i, j) : 0;
          hessian[i][j] += (slope[i] * slope[j]) / slack ** 2 - bend / slack;
        }
      }
    }
    for (let k = 0; k < n; k += 1) {
      const [down, up] = [z[k] - this.low[k], this.high[k] - z[k]];
      gradient[k] += 1 / up - 1 / down;
      hessian[k][k] += 1 / down ** 2 + 1 / up ** 2;
    }
    return { gradient, hessian };
  }
}

// Newton's method with halved steps, for convex functions that are infinite outside their domain.
function descend(start, value, model) {
  let at = start;
  let height = value(at);
  for (let i = 0; i < 60; i += 1) {
    const { gradient, hessian } = model(at);
    const step = solvePositive(hessian, Array.from(gradient, (part) => -part));
    const fall = -dot(gradient, step);
    if (!(fall > 1e-13)) return at;
    let size = 1;
    let next = at.map((part, k) => part + step[k]);
    let below = value(next);
    while (!(below <= height - 0.1 * size * fall) && size > 1e-10) {
      size *= 0.5;
      next = at.map((part, k) => part + size * step[k]);
      below = value(next);
    }
    if (size <= 1e-10) return at;
    [at, height] = [next, below];
  }
  return at;
}

// Solve a positive definite system by Cholesky.
function solvePositive(matrix, right) {
  const n = right.length;
  const L = zeros(n, n);
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      let rest = matrix[i][j];
      for (let k = 0; k < j; k += 1) rest -= L[i][k] * L[j][k];
      L[i][j] = i === j ? Math.sqrt(Math.max(rest, 1e-300)) : rest / L[j][j];
    }
  }
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
