// From settings to an answer: mixture, gain with its interval, support, advice; what `python -m analysis` would say.

const TOLERANCE = 1e-12;
const ROUNDING = 1e-8; // of the leverage's limit

class Explorer {
  constructor(content) {
    this.content = content;
    this.model = makeModel(content.model, content.coordinates, content.support);
    this.leverage = { ...content.leverage, inverse: unpackRows(content.leverage.inverse) };
    this.runs = unpackRows(content.runs);
  }

  // settings: {state: (d,), floor: (K,), cap: (K,), policy, region, rho, aitchison, l2}; the last three are radii.
  // An answer, or {problem} where there is none.
  answer(settings) {
    try {
      return this.answerOrThrow(settings);
    } catch (error) {
      if (error instanceof NoRule) return { problem: error.message };
      throw error;
    }
  }

  answerOrThrow(settings) {
    const problem = this.findProblem(settings);
    if (problem) return { problem };
    const box = { floor: settings.floor, cap: settings.cap };
    const reference = projectToBox(this.content.wanted, box);
    const placed = this.model.place(settings.state);
    const { theta, covariance } = this.model.read(placed.x);
    const region = this.makeRegion(settings, reference, box, placed.x);
    const isSearch = settings.policy === "s";
    const { mixture, note } = isSearch
      ? searchMixture(this.model, placed.x, { theta, covariance }, region, this.content.search)
      : { mixture: region.solve(theta), note: region.note };
    const zero = this.nameZero([mixture, reference]);
    if (zero) return { problem: `${zero} gets a share of zero, which has no logarithm: give it a floor above zero.` };
    const gain = this.spread(this.model.gain(placed.x, mixture, reference));
    const effects = theta.map((estimate, k) => this.spread({ estimate, variance: covariance[k][k] }));
    const support = this.measureSupport(settings.state);
    const leverage = this.measureLeverage(placed.x, mixture);
    const found = { mixture, reference, gain, effects, support, leverage, placed, note };
    return { ...found, ...this.advise(found) };
  }

  makeRegion(settings, reference, box, state) {
    const kinds = {
      off: [Region, Infinity],
      box: [Region, Infinity],
      kl: [KLRegion, settings.rho],
      reverse_kl: [ReverseKLRegion, settings.rho],
      aitchison: [AitchisonRegion, settings.aitchison],
      l2: [L2Region, settings.l2],
    };
    const region =
      settings.region === "support"
        ? new SupportRegion(reference, box, this.placeLeverage(state), this.runs, this.content.coordinates.offset)
        : new kinds[settings.region][0](reference, box, kinds[settings.region][1]);
    region.name = settings.region;
    return region;
  }

  // The leverage at a state, its centre predicted there.
  placeLeverage(state) {
    const { centre, slopes, inverse, limit } = this.leverage;
    const at = centre.map((level, p) => level + sum(state.map((value, j) => value * slopes[j][p])));
    return { basis: this.content.coordinates.basis, centre: at, inverse, limit };
  }

  spread({ estimate, variance }) {
    const half = this.content.quantile * Math.sqrt(Math.max(variance, 0));
    return { estimate, low: estimate - half, high: estimate + half };
  }

  findProblem(settings) {
    const { floor, cap } = settings;
    const crossed = this.content.domains.filter((_, k) => floor[k] > cap[k]);
    if (crossed.length) return `No mixture keeps the limits: the floor of ${crossed.join(", ")} is above its cap.`;
    if (sum(floor) > 1 + TOLERANCE) return `No mixture keeps the limits: the floors sum to ${spellShare(sum(floor))}.`;
    if (settings.policy === "a" && ["off", "box"].includes(settings.region) && !this.content.has_level) {
      return "The effects of log-ratios sum to zero: without a region, CausalMix-A has no answer.";
    }
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
    if (!support) return { distance: 0, limit: 0, outside: [], unrelated: [], holds: true, isFar: false };
    const deviation = state.map((value, j) => value - support.mean[j]);
    const distance = Math.sqrt(quadratic(support.inverse, deviation));
    // Features that break a relation which holds exactly in all runs: no distance can be told there.
    const gaps = support.off.map((row) => Math.abs(sum(row.map((weight, j) => weight * deviation[j]))));
    const unrelated = support.names.filter((_, j) => gaps[j] > support.off_limit);
    const outside = this.content.state.filter((f, j) => state[j] < f.least || state[j] > f.greatest).map((f) => f.name);
    const holds = distance <= support.limit && !outside.length && !unrelated.length;
    const tooFar = unrelated.length > 0 || distance > support.far * support.limit;
    const isFar = !holds && support.far !== null && tooFar;
    return { distance, limit: support.limit, outside, unrelated, holds, isFar };
  }

  // The residual leverage of a mixture at a state.
  measureLeverage(state, mixture) {
    const { basis, centre, inverse, limit } = this.placeLeverage(state);
    const logs = embed(mixture, this.content.coordinates.offset);
    const value = quadratic(inverse, centre.map((level, p) => sum(logs.map((log, k) => log * basis[k][p])) - level));
    return { value, limit, holds: value <= limit * (1 + ROUNDING) };
  }

  // Advice only where the gain is above zero for sure, and no failed check stands against it.
  advise({ mixture, reference, gain, support }) {
    const reasons = this.content.blocking.slice();
    if (support.isFar) {
      const { code } = this.content.support;
      const why = support.unrelated.length
        ? `The state breaks a relation of ${support.unrelated.join(", ")} that holds exactly in all runs.`
        : `The state is more than ${this.content.support.far} times as far out as 95 % of the runs.`;
      reasons.push(`[${code}] ${why}`);
    }
    if (reasons.length) return { advice: "withheld", reason: reasons.join(" ") };
    if (Math.max(...mixture.map((share, k) => Math.abs(share - reference[k]))) < 1e-9) {
      return { advice: "withheld", reason: "The answer is the reference itself." };
    }
    if (!(gain.low > 0)) return { advice: "withheld", reason: "The gain over the reference is not above zero for sure." };
    return { advice: "given", reason: "The predicted gain over the reference is above zero." };
  }
}
