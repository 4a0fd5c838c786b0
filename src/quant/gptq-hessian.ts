// GPTQ's second-order knowledge: H = 2/n sum X^T X over n calibration sequences (auto_gptq's add_batch),
// and the upper U with H^-1 = U^T U. U comes from one factorization: with the indices reversed H = L L^T,
// and U is L^-1 reversed. Both are computed by blocks whose products are matrix products.
import * as tf from '@tensorflow/tfjs';
import { jit } from '../jit/jit.ts';

/** Rows and columns that are factored one number at a time. */
const BLOCK = 64;

/** X^T X, compiled once for each shape of X. */
const squares = jit((x: tf.Tensor2D) => tf.matMul(x, x, true));

/** The sum so far, which it uses up, and X^T X. */
const addSquares = jit((sum: tf.Tensor2D, x: tf.Tensor2D) => tf.add(sum, tf.matMul(x, x, true)), {
  donate: [0],
});

/** Sums X^T X over calibration batches. */
export class GptqHessian {
  readonly columns: number;
  /** Sequences and rows seen so far. */
  sequences = 0;
  rows = 0;
  private sum: tf.Tensor2D | undefined;

  /** `columns` is the layer's number of inputs. */
  constructor(columns: number) {
    this.columns = columns;
  }

  /** Adds a layer's inputs: one sequence [T, columns], or some [B, T, columns]. */
  addBatch(x: tf.Tensor2D | tf.Tensor3D): void {
    if (x.shape.at(-1) !== this.columns) {
      throw new RangeError(
        `Calibration inputs must have ${this.columns} columns, got shape [${x.shape}]`,
      );
    }
    const flat = x.reshape([-1, this.columns]) as tf.Tensor2D;
    this.sum = (this.sum ? addSquares(this.sum, flat) : squares(flat)) as tf.Tensor2D;
    this.sequences += x.rank === 3 ? x.shape[0]! : 1;
    this.rows += flat.shape[0];
    flat.dispose();
  }

  /** H [columns, columns]; throws if there were no rows, or a number is NaN or infinite. */
  values(): Float32Array {
    if (!this.sum || this.rows === 0)
      throw new RangeError('A Hessian must have calibration rows, got none');
    const sum = this.sum.dataSync();
    const factor = 2 / this.sequences;
    const out = new Float32Array(sum.length);
    for (let i = 0; i < sum.length; i++) {
      out[i] = sum[i]! * factor;
      if (!Number.isFinite(out[i])) {
        const column = i % this.columns;
        throw new RangeError(
          `Calibration inputs must be finite, got ${out[i]} in column ${column}`,
        );
      }
    }
    return out;
  }

  /** Frees what it holds. */
  dispose(): void {
    this.sum?.dispose();
    this.sum = undefined;
  }
}

/** Upper U [n, n] with H^-1 = U^T U, or undefined if H is not positive definite. */
export function inverseFactor(h: Float32Array, n: number): Float32Array | undefined {
  const lower = new Float32Array(n * n);
  for (let i = 0; i < n * n; i++) lower[i] = h[n * n - 1 - i]!;
  const diagonal: Float32Array[] = [];
  for (let begin = 0; begin < n; begin += BLOCK) {
    const end = Math.min(begin + BLOCK, n);
    subtractEarlier(lower, n, begin, end);
    const inverse = factorDiagonal(lower, n, begin, end);
    if (!inverse) return undefined;
    diagonal.push(inverse);
    solveBelow(lower, n, begin, end, inverse);
  }
  const inverse = invertLower(lower, n, diagonal);
  const out = new Float32Array(n * n);
  for (let i = 0; i < n * n; i++) out[i] = inverse[n * n - 1 - i]!;
  return out;
}

/** a [m, k] times b [k, n]. (tf.tidy would look for tensors in each number that it returns.) */
export function product(
  a: Float32Array,
  b: Float32Array,
  [m, k, n]: readonly [number, number, number],
): Float32Array {
  const factors = [tf.tensor2d(a, [m, k]), tf.tensor2d(b, [k, n])] as const;
  const result = tf.matMul(...factors);
  const values = result.dataSync() as Float32Array;
  tf.dispose([...factors, result]);
  return values;
}

/** Copies rows and columns of a matrix n wide, transposed if asked to. */
export function part(
  a: Float32Array,
  n: number,
  [top, bottom]: readonly [number, number],
  [left, right]: readonly [number, number],
  isTransposed = false,
): Float32Array {
  const [rows, columns] = [bottom - top, right - left];
  const out = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++) {
    const at = (top + i) * n + left;
    if (!isTransposed) out.set(a.subarray(at, at + columns), i * columns);
    else for (let j = 0; j < columns; j++) out[j * rows + i] = a[at + j]!;
  }
  return out;
}

/** A[begin:, begin:end] -= L[begin:, :begin] L[begin:end, :begin]^T. */
function subtractEarlier(a: Float32Array, n: number, begin: number, end: number): void {
  if (begin === 0) return;
  const [rows, columns] = [n - begin, end - begin];
  const below = part(a, n, [begin, n], [0, begin]);
  const beside = part(a, n, [begin, end], [0, begin], true);
  const taken = product(below, beside, [rows, begin, columns]);
  for (let i = 0; i < rows; i++) {
    const at = (begin + i) * n + begin;
    for (let j = 0; j < columns; j++) a[at + j]! -= taken[i * columns + j]!;
  }
}

/** Factors a block of the diagonal in place (in doubles) and returns its inverse, or undefined. */
function factorDiagonal(
  a: Float32Array,
  n: number,
  begin: number,
  end: number,
): Float32Array | undefined {
  const size = end - begin;
  const l = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[(begin + i) * n + begin + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * size + k]! * l[j * size + k]!;
      if (i === j && !(sum > 0)) return undefined;
      l[i * size + j] = i === j ? Math.sqrt(sum) : sum / l[j * size + j]!;
    }
  }
  const inverse = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = i === j ? 1 : 0;
      for (let k = j; k < i; k++) sum -= l[i * size + k]! * inverse[k * size + j]!;
      inverse[i * size + j] = sum / l[i * size + i]!;
    }
  }
  for (let i = 0; i < size; i++) {
    for (let j = 0; j < size; j++) a[(begin + i) * n + begin + j] = l[i * size + j]!;
  }
  return new Float32Array(inverse);
}

/** L[end:, begin:end] = A[end:, begin:end] L[begin:end, begin:end]^-T. */
function solveBelow(
  a: Float32Array,
  n: number,
  begin: number,
  end: number,
  inverse: Float32Array,
): void {
  const size = end - begin;
  if (end === n) return;
  const transposed = part(inverse, size, [0, size], [0, size], true);
  const solved = product(part(a, n, [end, n], [begin, end]), transposed, [n - end, size, size]);
  for (let i = end; i < n; i++) {
    a.set(solved.subarray((i - end) * size, (i - end + 1) * size), i * n + begin);
  }
}

/** L^-1, row block by row block: X_I = -L_II^-1 (L_I,before X_before), X_II = L_II^-1. */
function invertLower(lower: Float32Array, n: number, diagonal: Float32Array[]): Float32Array {
  const out = new Float32Array(n * n);
  for (const [block, inverse] of diagonal.entries()) {
    const begin = block * BLOCK;
    const end = Math.min(begin + BLOCK, n);
    const size = end - begin;
    for (let i = 0; i < size; i++) {
      out.set(inverse.subarray(i * size, (i + 1) * size), (begin + i) * n + begin);
    }
    if (begin === 0) continue;
    const beside = part(lower, n, [begin, end], [0, begin]);
    const above = part(out, n, [0, begin], [0, begin]);
    const inner = product(beside, above, [size, begin, begin]);
    const rows = product(inverse, inner, [size, size, begin]);
    for (let i = 0; i < size; i++) {
      for (let j = 0; j < begin; j++) out[(begin + i) * n + j] = -rows[i * begin + j]!;
    }
  }
  return out;
}
