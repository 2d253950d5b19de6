// The Gaussian process of the analysis: its posterior at any state, from the runs themselves.

const MATERN = {
  matern12: (distance) => Math.exp(-distance),
  matern32: (distance) => (1 + Math.sqrt(3) * distance) * Math.exp(-Math.sqrt(3) * distance),
  matern52: (distance) =>
    (1 + Math.sqrt(5) * distance + (5 * distance ** 2) / 3) * Math.exp(-Math.sqrt(5) * distance),
};

// The posterior of a Gaussian process whose effects vary with the state, averaged over the steps they may have.
class ProcessModel extends Model {
  constructor(content, coordinates) {
    super(content, coordinates);
    this.X = unpackRows(content.X);
    this.R = unpackRows(content.R);
    this.Z = unpackRows(content.Z);
    this.pulls = this.R.map((row) => content.common * content.common * sum(row));
    this.isShared = content.columns.every((row) => row.every((column, f) => column === content.columns[0][f]));
    this.solutions = content.processes.map((part) => this.unpackSolution(part));
  }

  unpackSolution(part) {
    const n_features = this.content.columns[0].length;
    const solution = {
      variances: part.values.slice(0, 5).map((value) => Math.exp(2 * value)),
      lengths: part.values.slice(5, 5 + n_features).map(Math.exp),
      surface: part.surface && {
        variance: Math.exp(2 * part.values.at(-2)),
        length: Math.exp(part.values.at(-1)),
        across: unpackRows(part.surface.across),
        own: part.surface.own,
      },
      inverse: unpackSymmetric(part.inverse),
      alpha: unpack(part.alpha),
      steps: part.steps,
      share: part.share,
      jumps: part.mean,
      spread: unpackSymmetric(part.covariance),
    };
    // The regressors of every step in the runs: of one coordinate's effect, or of the level.
    solution.regressors = part.steps.map((step) =>
      Float64Array.from(this.X, (state, i) => {
        const { coordinate } = step;
        if (coordinate !== null) return this.raise(step, state, coordinate) * this.Z[i][coordinate];
        return sum(step.means.map((_, p) => this.raise(step, state, p))) / step.means.length;
      }),
    );
    solution.weights = this.weighRuns(solution);
    return solution;
  }

  // How much each run's covariance with the surface adds to the surface's mean: (n,).
  weighRuns({ inverse, alpha, share, jumps, regressors }) {
    const raised = new Float64Array(alpha.length);
    jumps.forEach((jump, a) => {
      for (let i = 0; i < raised.length; i += 1) raised[i] += jump * regressors[a][i];
    });
    const pulled = multiply(inverse, raised);
    return alpha.map((value, i) => share * (value - pulled[i]));
  }

  // A step at a standardised state, as coordinate p sees it, less its mean over the runs.
  raise(step, state, p) {
    const holds = step.conditions.every(
      ({ feature, threshold, above }) => state[this.content.columns[p][feature]] > threshold === above,
    );
    return (holds ? 1 : 0) - step.means[p];
  }

  // The prior covariance of one coordinate's effect between two standardised states.
  correlate(solution, a, b, p) {
    const { variances, lengths } = solution;
    let linear = 0;
    let square = 0;
    this.content.columns[p].forEach((column, f) => {
      linear += a[column] * b[column];
      square += ((a[column] - b[column]) / lengths[f]) ** 2;
    });
    const smooth = MATERN[this.content.smoothness](Math.sqrt(square));
    return variances[1] + (variances[2] * linear) / lengths.length + variances[3] * smooth;
  }

  // The prior covariance of the surface between two mixtures' coordinates.
  bend({ surface }, a, b) {
    let square = 0;
    for (let p = 0; p < a.length; p += 1) square += ((a[p] - b[p]) / surface.length) ** 2;
    return surface.variance * MATERN.matern32(Math.sqrt(square));
  }

  // The prior of theta at a state: its variance (p,) and its covariance with the runs' outcomes (n, p).
  crossEffects(solution, state) {
    const n = this.basis[0].length;
    const kinds = this.isShared ? [0] : range(n);
    const own = kinds.map((p) => this.correlate(solution, state, state, p));
    const across = this.X.map((run, i) => {
      const each = kinds.map((p) => this.correlate(solution, run, state, p));
      return Float64Array.from({ length: n }, (_, p) => each[this.isShared ? 0 : p] * this.R[i][p]);
    });
    return { own: range(n).map((p) => own[this.isShared ? 0 : p]), across };
  }

  // J functionals D_j' theta(x) + what they ask of the surface: mean (J,) and covariance (J, J), in points.
  answer(x, D, askSurface) {
    const state = x.map((value, j) => (value - this.content.centre[j]) / this.content.spread[j]);
    const parts = this.solutions.map((solution) => this.answerSolution(solution, state, D, askSurface(solution)));
    const size = range(D.length);
    const mean = size.map((i) => sum(parts.map((part) => part.share * part.mean[i])));
    const covariance = size.map((i) =>
      size.map((j) =>
        sum(
          parts.map(
            (part) => part.share * (part.covariance[i][j] + (part.mean[i] - mean[i]) * (part.mean[j] - mean[j])),
          ),
        ),
      ),
    );
    const { y } = this.content;
    return { mean: mean.map((value) => value * y), covariance: covariance.map((row) => row.map((v) => v * y * y)) };
  }

  answerSolution(solution, state, D, surface) {
    const { own, across } = this.crossEffects(solution, state);
    const { common } = this.content; // what all effects share: its mean and its standard deviation
    const totals = D.map(sum);
    const columns = D.map((d, j) =>
      Float64Array.from(
        across,
        (row, i) => dot(row, d) + this.pulls[i] * totals[j] + (surface ? surface.across(i, j) : 0),
      ),
    );
    const prior = D.map((d, i) =>
      D.map(
        (e, j) =>
          sum(d.map((value, p) => value * own[p] * e[p])) +
          common * common * totals[i] * totals[j] +
          (surface ? surface.own(i, j) : 0),
      ),
    );
    const solved = columns.map((column) => multiply(solution.inverse, column));
    const mean = columns.map((column, j) => common * totals[j] + dot(column, solution.alpha));
    const covariance = prior.map((row, i) => row.map((value, j) => value - dot(columns[i], solved[j])));
    // What each step moves beyond what the runs already say of it: (steps, J).
    const moved = solution.steps.map((step, s) =>
      D.map((d, j) => {
        const p = step.coordinate;
        const direct = p === null ? 0 : this.raise(step, state, p) * d[p];
        return direct - dot(solution.regressors[s], solved[j]);
      }),
    );
    const { share, jumps, spread } = solution;
    // For every functional, the covariance of the jumps times what they move.
    const carried = D.map((_, j) => spread.map((row) => sum(row.map((value, b) => value * moved[b][j]))));
    return {
      share,
      mean: mean.map((value, j) => value + sum(jumps.map((jump, a) => jump * moved[a][j]))),
      covariance: covariance.map((row, i) =>
        row.map((value, j) => value + sum(moved.map((each, a) => each[i] * carried[j][a]))),
      ),
    };
  }

  // The directions of the coordinates, one by one.
  listDirections() {
    const n = this.basis[0].length;
    return range(n).map((p) => range(n).map((j) => (j === p ? 1 : 0)));
  }

  predict(x, mixtures) {
    const { y } = this.content;
    const slopes = this.answer(x, this.listDirections(), () => null).mean;
    return mixtures.map((mixture) => {
      const place = this.locate(mixture);
      let bent = 0;
      for (const solution of this.solutions) {
        if (!solution.surface) continue;
        for (let i = 0; i < this.Z.length; i += 1) bent += this.bend(solution, place, this.Z[i]) * solution.weights[i];
      }
      return dot(place, slopes) + bent * y;
    });
  }

  read(x) {
    const D = this.listDirections();
    const { mean, covariance } = this.answer(x, D, ({ surface }) =>
      surface && { across: (i, j) => surface.across[i][j], own: (i, j) => surface.own[i][j] },
    );
    const { z } = this.content;
    return this.lift(mean.map((value) => value / z), covariance.map((row) => row.map((v) => v / z / z)));
  }

  // Coordinates of a mixture in the units of the process.
  locate(mixture) {
    const logs = embed(mixture, this.offset);
    const { level, z } = this.content;
    return level.map((value, p) => (sum(logs.map((log, k) => log * this.basis[k][p])) - value) / z);
  }

  gain(x, mixture, reference) {
    const [up, down] = [this.locate(mixture), this.locate(reference)];
    const D = [up.map((value, p) => value - down[p])];
    const { mean, covariance } = this.answer(x, D, (solution) =>
      solution.surface && {
        across: (i) => this.bend(solution, this.Z[i], up) - this.bend(solution, this.Z[i], down),
        own: () => 2 * (solution.surface.variance - this.bend(solution, up, down)),
      },
    );
    return { estimate: mean[0], variance: covariance[0][0] };
  }
}
