// GPTQ's second-order knowledge: H = 2/n sum X^T X over n calibration sequences (auto_gptq's add_batch),
// and the upper U with H^-1 = U^T U. U comes from one factorization: with the indices reversed H = L L^T,
// and U is L^-1 reversed, which is computed by halves whose products are matrix products.
import * as tf from '@tensorflow/tfjs';
import { jit } from '../jit/jit.ts';

/** Rows and columns that are factored one number at a time. */
const BLOCK = 64;

/** Halves from this size on are worth a native graph. */
const LARGE = 128;

/** Products of so many multiplications are, too. */
const NATIVE = 2 ** 25;

/** X^T X of [T, n] or [B, T, n], compiled once for each shape of X. */
const squares = jit((x: tf.Tensor) => {
  const flat = tf.reshape(x, [-1, x.shape.at(-1)!]);
  if (flat.shape[1]! < LARGE || flat.shape[1]! % 2 === 1) return tf.matMul(flat, flat, true);
  // The product is symmetric: three of its quarters are computed.
  const [a, b] = tf.split(flat, 2, 1) as [tf.Tensor2D, tf.Tensor2D];
  const corner = tf.matMul(a, b, true);
  const top = tf.concat([tf.matMul(a, a, true), corner], 1);
  const bottom = tf.concat([tf.transpose(corner), tf.matMul(b, b, true)], 1);
  return tf.concat([top, bottom], 0);
});

/** The sum so far, which it uses up, and X^T X. */
const addSquares = jit((sum: tf.Tensor, x: tf.Tensor) => tf.add(sum, squares(x)), { donate: [0] });

/** Of a half factored as X11 = L11^-1: L21 = A21 X11^T, and what is left of A22, A22 - L21 L21^T. */
function eliminate(a21: tf.Tensor, a22: tf.Tensor, x11: tf.Tensor) {
  const l21 = tf.matMul(a21, x11, false, true);
  return { l21, left: tf.sub(a22, tf.matMul(l21, l21, false, true)) };
}

/** X21 = -X22 L21 X11. */
function below(x22: tf.Tensor, l21: tf.Tensor, x11: tf.Tensor) {
  return tf.neg(tf.matMul(x22, tf.matMul(l21, x11)));
}

const compiled = {
  eliminate: jit(eliminate),
  below: jit(below),
  product: jit((a: tf.Tensor2D, b: tf.Tensor2D) => tf.matMul(a, b)),
};

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
    this.sum = (this.sum ? addSquares(this.sum, x) : squares(x)) as tf.Tensor2D;
    this.sequences += x.rank === 3 ? x.shape[0]! : 1;
    this.rows += x.size / this.columns;
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
  const reversed = new Float32Array(n * n);
  for (let i = 0; i < n * n; i++) reversed[i] = h[n * n - 1 - i]!;
  const inverse = new Float32Array(n * n);
  if (!factor(reversed, inverse, n, 0, n)) return undefined;
  return inverse.reverse();
}

/** Writes X = L^-1 of A[begin:end, begin:end] = L L^T into x; uses a up. False if there is no L. */
function factor(a: Float32Array, x: Float32Array, n: number, begin: number, end: number): boolean {
  if (end - begin <= BLOCK) return factorBlock(a, x, n, begin, end);
  const middle = begin + BLOCK * 2 ** Math.floor(Math.log2((end - begin - 1) / BLOCK));
  if (!factor(a, x, n, begin, middle)) return false;
  const [first, second] = [
    [begin, middle],
    [middle, end],
  ] as const;
  const matrix = (from: Float32Array, rows: Span, columns: Span) =>
    tf.tensor2d(part(from, n, rows, columns), [rows[1] - rows[0], columns[1] - columns[0]]);
  const isLarge = end - middle >= LARGE;
  const x11 = matrix(x, first, first);
  const [a21, a22] = [matrix(a, second, first), matrix(a, second, second)];
  const { l21, left } = isLarge
    ? compiled.eliminate(a21, a22, x11)
    : tf.tidy(() => eliminate(a21, a22, x11));
  put(left, a, n, middle, middle);
  const isFactored = factor(a, x, n, middle, end);
  if (isFactored) {
    const x22 = matrix(x, second, second);
    const x21 = isLarge ? compiled.below(x22, l21, x11) : tf.tidy(() => below(x22, l21, x11));
    put(x21, x, n, middle, begin);
    tf.dispose([x22, x21]);
  }
  tf.dispose([x11, a21, a22, l21, left]);
  return isFactored;
}

/** Writes a matrix into one n wide, at a row and column. */
function put(values: tf.Tensor, into: Float32Array, n: number, top: number, left: number): void {
  const [rows, columns] = values.shape as [number, number];
  const data = values.dataSync() as Float32Array;
  for (let i = 0; i < rows; i++) {
    into.set(data.subarray(i * columns, (i + 1) * columns), (top + i) * n + left);
  }
}

/** a [m, k] times b [k, n]. (tf.tidy would look for tensors in each number that it returns.) */
export function product(
  a: Float32Array,
  b: Float32Array,
  [m, k, n]: readonly [number, number, number],
): Float32Array {
  const factors = [tf.tensor2d(a, [m, k]), tf.tensor2d(b, [k, n])] as const;
  const result = (m * k * n < NATIVE ? tf.matMul : compiled.product)(...factors);
  const values = result.dataSync() as Float32Array;
  tf.dispose([...factors, result]);
  return values;
}

/** From a row or column to the one before another. */
type Span = readonly [number, number];

/** Copies rows and columns of a matrix n wide. */
export function part(
  a: Float32Array,
  n: number,
  [top, bottom]: Span,
  [left, right]: Span,
): Float32Array {
  const columns = right - left;
  const out = new Float32Array((bottom - top) * columns);
  for (let row = top; row < bottom; row++) {
    out.set(a.subarray(row * n + left, row * n + right), (row - top) * columns);
  }
  return out;
}

/** As `factor`, number by number in doubles. */
function factorBlock(
  a: Float32Array,
  x: Float32Array,
  n: number,
  begin: number,
  end: number,
): boolean {
  const size = end - begin;
  const l = new Float64Array(size * size);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = a[(begin + i) * n + begin + j]!;
      for (let k = 0; k < j; k++) sum -= l[i * size + k]! * l[j * size + k]!;
      if (i === j && !(sum > 0)) return false;
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
    x.set(inverse.subarray(i * size, (i + 1) * size), (begin + i) * n + begin);
  }
  return true;
}
