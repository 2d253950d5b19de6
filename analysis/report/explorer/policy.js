// The rules of CausalMix-A for floors and caps, and for KL(q || T) <= rho: the best mixture for theta' log T.

const NEGLIGIBLE = 1e-15;

// Solve sum clip(s * shape, low, high) = mass for the scale s, by its sorted breakpoints.
function fillShape(shape, low, high, mass) {
  const fill = (scale) => shape.map((part, k) => clamp(scale * part, low[k], high[k]));
  const breakpoints = shape.flatMap((part, k) => [low[k] / part, high[k] / part]).sort((a, b) => a - b);
  const totals = breakpoints.map((scale) => sum(fill(scale)));
  if (mass <= totals[0]) return low.slice();
  if (mass >= totals.at(-1)) return high.slice();
  const after = totals.findIndex((total) => total >= mass);
  const before = after - 1;
  const part = (mass - totals[before]) / (totals[after] - totals[before]);
  return fill(breakpoints[before] + part * (breakpoints[after] - breakpoints[before]));
}

const pick = (values, places) => places.map((k) => values[k]);

// Move a mixture into a box, keeping the ratios of the domains that no limit binds.
function projectToBox(reference, box) {
  const total = sum(reference);
  const scaled = reference.map((share) => share / total);
  if (scaled.every((share, k) => share >= box.floor[k] && share <= box.cap[k])) return scaled;
  const held = range(scaled.length).filter((k) => scaled[k] > NEGLIGIBLE);
  const rest = range(scaled.length).filter((k) => scaled[k] <= NEGLIGIBLE);
  const result = box.floor.slice();
  const reachable = Math.min(1 - sum(pick(box.floor, rest)), sum(pick(box.cap, held)));
  fillShape(pick(scaled, held), pick(box.floor, held), pick(box.cap, held), reachable).forEach((share, i) => {
    result[held[i]] = share;
  });
  if (rest.length) {
    const left = 1 - sum(pick(result, held));
    fillShape(rest.map(() => 1), pick(box.floor, rest), pick(box.cap, rest), left).forEach((share, i) => {
      result[rest[i]] = share;
    });
  }
  return result;
}

// Maximise sum [scores]+ log T over the box; what the caps of positive scores leave over goes by the reference.
function fillBox(scores, reference, box) {
  const up = range(scores.length).filter((k) => scores[k] > 0);
  const rest = range(scores.length).filter((k) => !(scores[k] > 0));
  if (sum(pick(box.cap, up)) + sum(pick(box.floor, rest)) >= 1) {
    return projectToBox(scores.map((score) => Math.max(score, 0)), box);
  }
  const weights = box.cap.slice();
  const left = 1 - sum(pick(weights, up));
  const within = {
    floor: pick(box.floor, rest).map((share) => share / left),
    cap: pick(box.cap, rest).map((share) => share / left),
  };
  projectToBox(pick(reference, rest), within).forEach((share, i) => {
    weights[rest[i]] = left * share;
  });
  return weights;
}

// KL(q || T) in nats.
const divergence = (reference, weights) =>
  sum(reference.map((share, k) => (share > 0 ? share * (Math.log(share) - Math.log(weights[k])) : 0)));

// The multiplier below which a domain without a floor is dropped, and theta + edge q there.
function priceEdge(theta, reference, box) {
  const edges = theta.map((value, k) => (value < 0 && box.floor[k] <= 0 && reference[k] > 0 ? -value / reference[k] : 0));
  const edge = Math.max(...edges);
  if (edge <= 0) return theta.slice();
  const scores = theta.map((value, k) => value + edge * reference[k]);
  scores[edges.indexOf(edge)] = 0;
  return scores;
}

// Scores theta + lam q with the smallest lam that keeps KL(q || T) <= rho; found by halving in log lam.
function solveKl(theta, reference, box, rho) {
  const free = fillBox(theta, reference, box);
  if (divergence(reference, free) <= rho) return free;
  const scores = priceEdge(theta, reference, box);
  const answer = (log) => fillBox(scores.map((score, k) => score + Math.exp(log) * reference[k]), reference, box);
  // exp(-KL) stays finite where a domain is dropped and KL is not.
  const isOut = (log) => Math.exp(-rho) > Math.exp(-divergence(reference, answer(log)));
  const scale = Math.log(Math.max(...theta.map(Math.abs)));
  let [low, high] = [scale - 300, scale];
  while (isOut(high)) {
    if (high > scale + 60) return reference.slice();
    [low, high] = [high, high + 1.5];
  }
  if (!isOut(low)) return answer(low);
  for (let i = 0; i < 200; i += 1) {
    const middle = 0.5 * (low + high);
    if (middle === low || middle === high) break;
    if (isOut(middle)) low = middle;
    else high = middle;
  }
  return answer(high);
}
