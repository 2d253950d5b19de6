// Trust regions: who is inside, and the best mixture inside by CausalMix-A's rule for each.

const INSIDE = 1e-9; // of a radius, a floor or a cap
const LOWEST = 1e-300;

const norm = (values) => Math.sqrt(dot(values, values));
const difference = (a, b) => a.map((value, k) => value - b[k]);
const searchFirst = (values, holds) => {
  const found = values.findIndex(holds);
  return found < 0 ? values.length : found;
};
const sortUnique = (values) => Array.from(new Set(values)).sort((a, b) => a - b);

// The point between inside and outside where excess turns positive, on the inner side.
function findEdge(excess, inside, outside) {
  let [low, high] = [inside, outside];
  for (let i = 0; i < 200; i += 1) {
    const middle = 0.5 * (low + high);
    if (middle === low || middle === high) break;
    if (excess(middle) > 0) high = middle;
    else low = middle;
  }
  return low;
}

class Region {
  constructor(reference, box, radius) {
    this.reference = reference;
    this.box = box;
    this.radius = radius;
  }

  measure() {
    return 0;
  }

  contains(mixture) {
    const { floor, cap } = this.box;
    if (!mixture.every((share, k) => share >= floor[k] - INSIDE && share <= cap[k] + INSIDE)) return false;
    return this.measure(mixture) <= this.radius + INSIDE;
  }

  solve(theta) {
    return theta.some((value) => value > 0) ? this.maximise(theta) : this.reference.slice();
  }

  // What the floors and caps alone allow.
  maximise(theta) {
    return fillBox(theta, this.reference, this.box);
  }

  // A path from the reference outwards, walked to the edge; `end` where even its end lies inside.
  walk(end, answer, low, high, least, most) {
    const excess = (log) => this.measure(answer(log)) - this.radius;
    if (this.measure(end) <= this.radius) return end;
    let [near, far] = [low, high];
    while (excess(near) > 0 && near > least) near -= 2;
    while (excess(far) <= 0 && far < most) far += 2;
    if (excess(near) > 0) return this.reference.slice(); // a radius below what rounding can tell from the reference
    if (excess(far) <= 0) return answer(far); // only the end among equally good ones lies out
    return answer(findEdge(excess, near, far));
  }
}

// KL(q || T) <= rho.
class KLRegion extends Region {
  measure(mixture) {
    return divergence(this.reference, mixture);
  }

  maximise(theta) {
    return solveKl(theta, this.reference, this.box, this.radius);
  }
}

// KL(T || q) <= rho, the gain linearised at q: exponential tilting.
class ReverseKLRegion extends Region {
  measure(mixture) {
    return sum(
      mixture.map((share, k) => share * (Math.log(Math.max(share, LOWEST)) - Math.log(this.reference[k]))),
    );
  }

  maximise(theta) {
    const slope = theta.map((value, k) => value / this.reference[k]);
    const top = Math.max(...slope);
    const spread = top - Math.min(...slope);
    if (spread <= 1e-14 * Math.max(...slope.map(Math.abs))) return this.reference.slice();
    const answer = (log) =>
      fillLogs(
        slope.map((value, k) => Math.log(this.reference[k]) + (Math.exp(log) / spread) * (value - top)),
        this.box,
      );
    return this.walk(fillGreedily(slope, this.box), answer, 0, 0, -60, 700);
  }
}

// ||clr(T) - clr(q)|| <= r, walked along one ray.
class AitchisonRegion extends Region {
  measure(mixture) {
    const ratios = mixture.map((share, k) => Math.log(share) - Math.log(this.reference[k]));
    const mean = sum(ratios) / ratios.length;
    const length = norm(ratios.map((ratio) => ratio - mean));
    return Number.isNaN(length) ? Infinity : length;
  }

  maximise(theta) {
    const mean = sum(theta) / theta.length;
    const centred = theta.map((value) => value - mean);
    const length = norm(centred);
    if (length <= 1e-14 * Math.max(...theta.map(Math.abs))) return this.reference.slice();
    const answer = (t) => {
      const logs = this.reference.map((share, k) => Math.log(share) + (t / length) * centred[k]);
      const top = Math.max(...logs);
      return projectToBox(logs.map((log) => Math.max(Math.exp(log - top), LOWEST)), this.box);
    };
    const loss = (t) => {
      const weights = answer(t);
      if (this.measure(weights) > this.radius + INSIDE) return Infinity;
      return -sum(theta.map((value, k) => value * (Math.log(weights[k]) - Math.log(this.reference[k]))));
    };
    const steps = 64;
    const places = range(steps + 1).map((i) => this.radius * (i / steps) ** 2);
    const losses = places.map(loss);
    const best = losses.indexOf(Math.min(...losses));
    const found = searchGolden(loss, places[Math.max(best - 1, 0)], places[Math.min(best + 1, steps)]);
    const t = loss(found) < losses[best] ? found : places[best];
    return loss(t) < 0 ? answer(t) : this.reference.slice();
  }
}

// The least of a function between two points, by golden sections; where both are infinite, the nearer half.
function searchGolden(loss, from, to) {
  const part = (Math.sqrt(5) - 1) / 2;
  let [low, high] = [from, to];
  let [left, right] = [high - part * (high - low), low + part * (high - low)];
  let [one, other] = [loss(left), loss(right)];
  for (let i = 0; i < 80; i += 1) {
    if (one <= other) {
      [high, right, other] = [right, left, one];
      left = high - part * (high - low);
      one = loss(left);
    } else {
      [low, left, one] = [left, right, other];
      right = low + part * (high - low);
      other = loss(right);
    }
  }
  return one <= other ? left : right;
}

// ||T - q|| <= r, the gain linearised at q: the projected gradient path.
class L2Region extends Region {
  measure(mixture) {
    return norm(difference(mixture, this.reference));
  }

  maximise(theta) {
    const slope = theta.map((value, k) => value / this.reference[k]);
    const mean = sum(slope) / slope.length;
    const step = slope.map((value) => value - mean);
    const size = Math.max(...step.map(Math.abs));
    if (size <= 1e-14 * Math.max(...slope.map(Math.abs))) return this.reference.slice();
    const answer = (log) =>
      projectEuclidean(
        this.reference.map((share, k) => share + (Math.exp(log) / size) * step[k]),
        this.box,
      );
    const start = Math.log(this.radius);
    return this.walk(fillGreedily(step, this.box), answer, start, start, start - 60, Math.log(1e8));
  }
}

// clip(s exp(logs), floor, cap) with the scale s that makes the sum one.
function fillLogs(logs, box) {
  const edges = logs.flatMap((log, k) => [Math.log(box.floor[k]) - log, Math.log(box.cap[k]) - log]);
  const breakpoints = sortUnique(edges.filter(Number.isFinite));
  const raise = (by) => logs.map((log) => Math.exp(Math.min(log + by, 1)));
  const clip = (values) => values.map((value, k) => clamp(value, box.floor[k], box.cap[k]));
  const totals = breakpoints.map((by) => sum(clip(raise(by))));
  const after = Math.min(searchFirst(totals, (total) => total >= 1), breakpoints.length - 1);
  const middle = after === 0 ? breakpoints[0] - 1 : 0.5 * (breakpoints[after - 1] + breakpoints[after]);
  const trial = raise(middle);
  const weights = clip(trial);
  const free = range(logs.length).filter((k) => trial[k] > box.floor[k] && trial[k] < box.cap[k]);
  return shareRest(weights, free, box, (left) => {
    const top = Math.max(...pick(logs, free));
    const shape = free.map((k) => Math.exp(logs[k] - top));
    return shape.map((part) => (left * part) / sum(shape));
  });
}

// The nearest mixture of the box.
function projectEuclidean(point, box) {
  const breakpoints = sortUnique(point.flatMap((value, k) => [value - box.floor[k], value - box.cap[k]]));
  const clip = (by) => point.map((value, k) => clamp(value - by, box.floor[k], box.cap[k]));
  const before = Math.max(searchFirst(breakpoints, (by) => sum(clip(by)) < 1) - 1, 0);
  const middle = 0.5 * (breakpoints[before] + breakpoints[Math.min(before + 1, breakpoints.length - 1)]);
  const free = range(point.length).filter((k) => point[k] - middle > box.floor[k] && point[k] - middle < box.cap[k]);
  return shareRest(clip(middle), free, box, (left) => {
    const mean = sum(pick(point, free)) / free.length;
    return free.map((k) => point[k] - mean + left / free.length);
  });
}

// Give the shares that no limit holds what the others leave.
function shareRest(weights, free, box, split) {
  if (!free.length) return weights;
  const left = 1 - sum(weights.filter((_, k) => !free.includes(k)));
  const filled = weights.slice();
  split(left).forEach((share, i) => {
    filled[free[i]] = clamp(share, box.floor[free[i]], box.cap[free[i]]);
  });
  return filled;
}

// Floors first, then up to the caps in falling order of the slope.
function fillGreedily(slope, box) {
  const weights = box.floor.slice();
  for (const k of range(slope.length).sort((a, b) => slope[b] - slope[a] || a - b)) {
    weights[k] += Math.min(box.cap[k] - box.floor[k], Math.max(1 - sum(weights), 0));
  }
  return weights;
}
