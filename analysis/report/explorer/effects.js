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
