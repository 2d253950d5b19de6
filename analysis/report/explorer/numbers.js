// Vectors and matrices. A matrix is an array of rows; packed arrays are little-endian 64-bit floats in base64.

const sum = (values) => values.reduce((total, value) => total + value, 0);
const dot = (a, b) => {
  let total = 0;
  for (let i = 0; i < a.length; i += 1) total += a[i] * b[i];
  return total;
};
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const multiply = (rows, vector) => rows.map((row) => dot(row, vector));
const quadratic = (rows, vector) => dot(vector, multiply(rows, vector));
const range = (n) => Array.from({ length: n }, (_, i) => i);
const zeros = (n, m) => range(n).map(() => new Float64Array(m));

function unpack(packed) {
  const text = atob(packed.base64);
  const bytes = new DataView(new ArrayBuffer(text.length));
  for (let i = 0; i < text.length; i += 1) bytes.setUint8(i, text.charCodeAt(i));
  return Float64Array.from({ length: text.length / 8 }, (_, i) => bytes.getFloat64(8 * i, true));
}

// An array of any shape as nested arrays; the innermost are rows.
function unpackRows(packed) {
  const values = unpack(packed);
  const cut = (shape, start) => {
    if (shape.length === 1) return values.subarray(start, start + shape[0]);
    const size = shape.slice(1).reduce((product, n) => product * n, 1);
    return range(shape[0]).map((i) => cut(shape.slice(1), start + i * size));
  };
  return cut(packed.shape, 0);
}

// A symmetric matrix from its lower triangle.
function unpackSymmetric(packed) {
  const values = unpack(packed);
  const n = Math.round((Math.sqrt(8 * values.length + 1) - 1) / 2);
  const rows = zeros(n, n);
  let at = 0;
  for (let i = 0; i < n; i += 1) {
    for (let j = 0; j <= i; j += 1) {
      rows[i][j] = values[at];
      rows[j][i] = values[at];
      at += 1;
    }
  }
  return rows;
}
