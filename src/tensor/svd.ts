// Thin singular value decomposition A = U diag(s) Vh by one-sided Jacobi rotations (Hestenes 1958),
// in double precision; the results have numpy.linalg.svd's names and order. For matrices up to a few
// hundred on a side. Left out: full U and Vh, complex numbers.
import * as tf from '@tensorflow/tfjs';

const MAX_SWEEPS = 60;
const TOLERANCE = 1e-15;

/** U [m, k] and Vh [k, n] with orthonormal columns and rows, s [k] falling; k = min(m, n). */
export interface Svd {
  u: tf.Tensor2D;
  s: tf.Tensor1D;
  vh: tf.Tensor2D;
}

/** A = U diag(s) Vh for a matrix A [m, n]. Throws a RangeError if an entry is not finite. */
export function svd(matrix: tf.Tensor2D): Svd {
  const [m, n] = matrix.shape;
  const values = matrix.dataSync();
  if (!values.every(Number.isFinite)) throw new RangeError('svd needs finite entries, got others');
  const isTall = m >= n;
  const [long, short] = isTall ? [m, n] : [n, m];
  const entry = isTall
    ? (j: number, i: number) => values[i * n + j]!
    : (j: number, i: number) => values[j * n + i]!;
  const columns = Array.from({ length: short }, (_, j) =>
    Float64Array.from({ length: long }, (_, i) => entry(j, i)),
  );
  const turns = Array.from({ length: short }, (_, j) => unit(short, j));
  orthogonalize(columns, turns);
  const norms = columns.map((column) => Math.sqrt(dot(column, column)));
  const order = [...norms.keys()].sort((a, b) => norms[b]! - norms[a]!);
  const left = normalized(order.map((j) => columns[j]!));
  const right = order.map((j) => turns[j]!);
  const s = tf.tensor1d(order.map((j) => norms[j]!));
  const [uColumns, vColumns] = isTall ? [left, right] : [right, left];
  const u = tf.tidy(() => tf.transpose(rows(uColumns, m)));
  return { u, s, vh: rows(vColumns, n) };
}

/** Singular values of A [m, n], largest first. */
export function singularValues(matrix: tf.Tensor2D): number[] {
  return tf.tidy(() => Array.from(svd(matrix).s.dataSync()));
}

/** Turns pairs of columns until all are orthogonal; `turns` collects the rotations, V. */
function orthogonalize(columns: Float64Array[], turns: Float64Array[]): void {
  for (let sweep = 0; sweep < MAX_SWEEPS; sweep++) {
    let isDone = true;
    for (let p = 0; p < columns.length; p++) {
      for (let q = p + 1; q < columns.length; q++) {
        const angle = jacobiAngle(columns[p]!, columns[q]!);
        if (angle === undefined) continue;
        isDone = false;
        rotate(columns[p]!, columns[q]!, angle);
        rotate(turns[p]!, turns[q]!, angle);
      }
    }
    if (isDone) return;
  }
}

/** Cosine and sine that make two columns orthogonal; undefined if they are. */
function jacobiAngle(p: Float64Array, q: Float64Array): [number, number] | undefined {
  const alpha = dot(p, p);
  const beta = dot(q, q);
  const gamma = dot(p, q);
  if (Math.abs(gamma) <= TOLERANCE * Math.sqrt(alpha * beta) || gamma === 0) return undefined;
  const zeta = (beta - alpha) / (2 * gamma);
  const t = (zeta < 0 ? -1 : 1) / (Math.abs(zeta) + Math.hypot(1, zeta));
  const cosine = 1 / Math.hypot(1, t);
  return [cosine, cosine * t];
}

function rotate(p: Float64Array, q: Float64Array, [cosine, sine]: [number, number]): void {
  for (let i = 0; i < p.length; i++) {
    const [x, y] = [p[i]!, q[i]!];
    p[i] = cosine * x - sine * y;
    q[i] = sine * x + cosine * y;
  }
}

/** Columns of length one; those that are zero, up to rounding, become new orthogonal directions. */
function normalized(columns: Float64Array[]): Float64Array[] {
  const largest = columns[0] ? Math.sqrt(dot(columns[0], columns[0])) : 0;
  const done: Float64Array[] = [];
  for (const column of columns) {
    const norm = Math.sqrt(dot(column, column));
    const isZero = norm <= largest * 1e-13;
    done.push(isZero ? newDirection(done, column.length) : column.map((x) => x / norm));
  }
  return done;
}

/** A unit vector orthogonal to all of `others`: the coordinate axis that they cover least. */
function newDirection(others: Float64Array[], length: number): Float64Array {
  const covered = (i: number) => others.reduce((sum, other) => sum + other[i]! ** 2, 0);
  const axis = [...Array(length).keys()].reduce((a, b) => (covered(b) < covered(a) ? b : a), 0);
  const vector = unit(length, axis);
  for (const other of [...others, ...others]) {
    const share = dot(vector, other);
    for (let i = 0; i < length; i++) vector[i]! -= share * other[i]!;
  }
  const norm = Math.sqrt(dot(vector, vector));
  return vector.map((x) => x / norm);
}

function unit(length: number, at: number): Float64Array {
  return Float64Array.from({ length }, (_, i) => (i === at ? 1 : 0));
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function rows(list: Float64Array[], width: number): tf.Tensor2D {
  const values = new Float32Array(list.length * width);
  for (const [i, row] of list.entries()) values.set(row, i * width);
  return tf.tensor2d(values, [list.length, width]);
}
