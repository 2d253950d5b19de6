// theta(x), its covariance, and the gain of one mixture over another: the fit, as the analysis has it.
// Every model answers place(x), the state that it can speak of; read(x), theta and its covariance for the logs of
// the shares; gain(x, T, q), an estimate and its variance.

const embed = (mixture, offset) => mixture.map((share) => Math.log(share + offset));

function makeModel(content, coordinates, support) {
  const kinds = { linear: LinearModel, process: ProcessModel, table: TableModel, judged: JudgedModel };
  return new kinds[content.kind](content, coordinates, support);
}

class Model {
  constructor(content, coordinates) {
    this.content = content;
    this.basis = coordinates.basis; // K rows of p
    this.offset = coordinates.offset;
  }

  place(x) {
    return { x, name: null };
  }

  gain(x, mixture, reference) {
    const { theta, covariance } = this.read(x);
    const from = embed(reference, this.offset);
    const d = embed(mixture, this.offset).map((value, k) => value - from[k]);
    return { estimate: dot(d, theta), variance: Math.max(quadratic(covariance, d), 0) };
  }

  // The outcome of mixtures at a state, up to one constant.
  predict(x, mixtures) {
    const { theta } = this.read(x);
    return mixtures.map((mixture) => dot(embed(mixture, this.offset), theta));
  }

  // Effects on the p coordinates, read as effects on the K logs.
  lift(theta, covariance) {
    const half = this.basis.map((row) => multiply(covariance, row));
    return {
      theta: multiply(this.basis, theta),
      covariance: this.basis.map((row) => half.map((column) => dot(row, column))),
    };
  }
}

// theta(x) = A(x) beta; every entry of A is a product of two of (1, standardised x).
class LinearModel extends Model {
  constructor(content, coordinates) {
    super(content, coordinates);
    this.covariance = unpackSymmetric(content.covariance);
  }

  read(x) {
    const { centre, scale, entries, beta } = this.content;
    const s = [1, ...x.map((value, j) => (value - centre[j]) / scale[j])];
    const n = this.basis[0].length;
    const rows = range(n).map(() => []);
    for (const [p, b, i, j] of entries) rows[p].push([b, s[i] * s[j]]);
    const theta = rows.map((row) => sum(row.map(([b, value]) => value * beta[b])));
    const cross = (one, other) => {
      let total = 0;
      for (const [b, u] of one) for (const [c, v] of other) total += u * v * this.covariance[b][c];
      return total;
    };
    return this.lift(theta, rows.map((one) => rows.map((other) => cross(one, other))));
  }
}

// Known at some states: any other is answered by the nearest of them.
class TableModel extends Model {
  constructor(content, coordinates, support) {
    super(content, coordinates);
    this.states = unpackRows(content.states);
    this.theta = unpackRows(content.theta);
    this.covariance = unpackRows(content.covariance);
    this.inverse = support.inverse;
  }

  find(x) {
    const distances = this.states.map((state) => quadratic(this.inverse, x.map((value, j) => value - state[j])));
    return distances.indexOf(Math.min(...distances));
  }

  place(x) {
    const at = this.find(x);
    return { x: Array.from(this.states[at]), name: this.content.names[at] };
  }

  read(x) {
    const at = this.find(x);
    return { theta: Array.from(this.theta[at]), covariance: this.covariance[at] };
  }
}

// The effects of one fit, with the squared error that the posterior of another expects of them.
class JudgedModel extends Model {
  constructor(content, coordinates, support) {
    super(content, coordinates);
    this.effects = makeModel(content.effects, coordinates, support);
    this.judge = makeModel(content.judge, coordinates, support);
  }

  place(x) {
    return this.effects.place(x);
  }

  read(x) {
    const { theta } = this.effects.read(x);
    const judged = this.judge.read(x);
    const off = theta.map((value, k) => value - judged.theta[k]);
    const covariance = judged.covariance.map((row, k) => Array.from(row, (value, j) => value + off[k] * off[j]));
    return { theta, covariance };
  }

  predict(x, mixtures) {
    return this.effects.predict(x, mixtures);
  }

  gain(x, mixture, reference) {
    const { estimate } = this.effects.gain(x, mixture, reference);
    const judged = this.judge.gain(x, mixture, reference);
    return { estimate, variance: judged.variance + (estimate - judged.estimate) ** 2 };
  }
}

const MATERN = {
  matern12: (distance) => Math.exp(-distance),
  matern32: (distance) => (1 + Math.sqrt(3) * distance) * Math.exp(-Math.sqrt(3) * distance),
};

// The posterior of a Gaussian process whose effects vary with the state, averaged over the steps they may have.
class ProcessModel extends Model {
  constructor(content, coordinates) {
    super(content, coordinates);
    this.X = unpackRows(content.X);
    this.R = unpackRows(content.R);
    this.Z = content.Z && unpackRows(content.Z);
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
      models: part.models.map((model) => ({ ...model, covariance: unpackSymmetric(model.covariance) })),
    };
    // The regressors of every step in the runs: of one coordinate's effect, or of the level.
    solution.regressors = part.steps.map((step) =>
      Float64Array.from(this.X, (state, i) => {
        const { coordinate } = step;
        if (coordinate !== null) return this.raise(step, state, coordinate) * this.R[i][coordinate];
        return sum(step.means.map((_, p) => this.raise(step, state, p))) / step.means.length;
      }),
    );
    solution.weights = this.weighRuns(solution);
    return solution;
  }

  // How much each run's covariance with the surface adds to the surface's mean: (n,).
  weighRuns({ inverse, alpha, models, regressors }) {
    const raised = new Float64Array(alpha.length);
    for (const { share, rows, mean } of models) {
      rows.forEach((row, a) => {
        for (let i = 0; i < raised.length; i += 1) raised[i] += share * mean[a] * regressors[row][i];
      });
    }
    const pulled = multiply(inverse, raised);
    const whole = sum(models.map((model) => model.share));
    return alpha.map((value, i) => whole * value - pulled[i]);
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
    const parts = this.solutions.flatMap((solution) => this.answerSolution(solution, state, D, askSurface(solution)));
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
    const columns = D.map((d, j) =>
      Float64Array.from(across, (row, i) => dot(row, d) + (surface ? surface.across(i, j) : 0)),
    );
    const prior = D.map((d, i) =>
      D.map((e, j) => sum(d.map((value, p) => value * own[p] * e[p])) + (surface ? surface.own(i, j) : 0)),
    );
    const solved = columns.map((column) => multiply(solution.inverse, column));
    const mean = columns.map((column) => dot(column, solution.alpha));
    const covariance = prior.map((row, i) => row.map((value, j) => value - dot(columns[i], solved[j])));
    // What each step moves beyond what the runs already say of it: (steps, J).
    const moved = solution.steps.map((step, s) =>
      D.map((d, j) => {
        const p = step.coordinate;
        const direct = p === null ? 0 : this.raise(step, state, p) * d[p];
        return direct - dot(solution.regressors[s], solved[j]);
      }),
    );
    return solution.models.map((model) => {
      const rows = model.rows.map((row) => moved[row]);
      const spread = (i, j) => sum(rows.map((row, a) => row[i] * sum(rows.map((o, b) => model.covariance[a][b] * o[j]))));
      return {
        share: model.share,
        mean: mean.map((value, j) => value + sum(rows.map((row, a) => model.mean[a] * row[j]))),
        covariance: covariance.map((row, i) => row.map((value, j) => value + spread(i, j))),
      };
    });
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
