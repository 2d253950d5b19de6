// From settings to an answer: mixture, gain with its interval, support, advice; what `python -m analysis` would say.

const TOLERANCE = 1e-12;

class Explorer {
  constructor(content) {
    this.content = content;
    this.model = makeModel(content.model, content.coordinates, content.support);
    this.search = { ...content.search, draws: unpackRows(content.search.draws) };
    this.leverage = { ...content.leverage, inverse: unpackRows(content.leverage.inverse) };
  }

  // settings: {state: (d,), floor: (K,), cap: (K,), region, rho}. An answer, or {problem} where there is none.
  answer(settings) {
    const problem = this.findProblem(settings);
    if (problem) return { problem };
    const box = { floor: settings.floor, cap: settings.cap };
    const reference = projectToBox(this.content.wanted, box);
    const placed = this.model.place(settings.state);
    const { theta, covariance } = this.model.read(placed.x);
    const mixture =
      settings.region === "search"
        ? searchMixture(this.model, placed.x, covariance, reference, box, this.search)
        : proposeMixture(theta, reference, box, settings.region, settings.rho);
    const zero = this.nameZero([mixture, reference]);
    if (zero) return { problem: `${zero} gets a share of zero, which has no logarithm: give it a floor above zero.` };
    const gain = this.spread(this.model.gain(placed.x, mixture, reference));
    const effects = theta.map((estimate, k) => this.spread({ estimate, variance: covariance[k][k] }));
    const support = this.measureSupport(settings.state);
    const leverage = this.measureLeverage(placed.x, mixture);
    const found = { mixture, reference, gain, effects, support, leverage, placed };
    return { ...found, ...this.advise(found) };
  }

  spread({ estimate, variance }) {
    const half = this.content.quantile * Math.sqrt(Math.max(variance, 0));
    return { estimate, low: estimate - half, high: estimate + half };
  }

  findProblem({ floor, cap }) {
    const crossed = this.content.domains.filter((_, k) => floor[k] > cap[k]);
    if (crossed.length) return `No mixture keeps the limits: the floor of ${crossed.join(", ")} is above its cap.`;
    if (sum(floor) > 1 + TOLERANCE) return `No mixture keeps the limits: the floors sum to ${spellShare(sum(floor))}.`;
    if (sum(cap) < 1 - TOLERANCE) return `No mixture keeps the limits: the caps sum to ${spellShare(sum(cap))}.`;
    return null;
  }

  nameZero(mixtures) {
    const { offset } = this.content.coordinates;
    return this.content.domains.find((_, k) => mixtures.some((mixture) => !(mixture[k] + offset > 0)));
  }

  // The Mahalanobis distance of a state from the runs' mean, and the features outside their range.
  measureSupport(state) {
    const { support } = this.content;
    if (!support) return { distance: 0, limit: 0, outside: [], holds: true, isFar: false };
    const distance = Math.sqrt(quadratic(support.inverse, state.map((value, j) => value - support.mean[j])));
    const outside = this.content.state.filter((f, j) => state[j] < f.least || state[j] > f.greatest).map((f) => f.name);
    const holds = distance <= support.limit && !outside.length;
    const isFar = !holds && support.far !== null && distance > support.far * support.limit;
    return { distance, limit: support.limit, outside, holds, isFar };
  }

  // The residual leverage of a mixture at a state.
  measureLeverage(state, mixture) {
    const { basis, offset } = this.content.coordinates;
    const logs = embed(mixture, offset);
    const { centre, slopes, inverse, limit } = this.leverage;
    const d = centre.map((level, p) => {
      const expected = level + sum(state.map((value, j) => value * slopes[j][p]));
      return sum(logs.map((log, k) => log * basis[k][p])) - expected;
    });
    const value = quadratic(inverse, d);
    return { value, limit, holds: value <= limit };
  }

  // Advice only where the gain is above zero for sure, and no failed check stands against it.
  advise({ mixture, reference, gain, support }) {
    const reasons = this.content.blocking.slice();
    if (support.isFar) {
      const { code } = this.content.support;
      reasons.push(`[${code}] The state is more than ${this.content.support.far} times as far out as 95 % of the runs.`);
    }
    if (reasons.length) return { advice: "withheld", reason: reasons.join(" ") };
    if (Math.max(...mixture.map((share, k) => Math.abs(share - reference[k]))) < 1e-9) {
      return { advice: "withheld", reason: "The answer is the reference itself." };
    }
    if (!(gain.low > 0)) return { advice: "withheld", reason: "The gain over the reference is not above zero for sure." };
    return { advice: "given", reason: "The predicted gain over the reference is above zero." };
  }
}
