// Linear8bitLt: LLM.int8's layer, y = (Q_x Q_W^T) s_x s_W / 127^2 + X_outliers W_outliers^T + b.
// W is kept as int8 codes (four an int32) and a scale a row; columns of x with a number of at least
// `threshold` are multiplied by dequantized weights. Backward: dx = dy dequantize(W).
import * as tf from '@tensorflow/tfjs';
import { isTracing } from '../jit/trace.ts';
import { Module } from '../nn/module.ts';
import { dequantizeRows, quantizeRows } from './llm-int8.ts';
import { constant, PackedBytes } from './packed-bytes.ts';

/** bitsandbytes' literals: nearly 1 / 127^2, and 1 / 127. */
const PRODUCT_SCALE = 6.200124e-5;
const ROW_SCALE = 7.874015718698502e-3;

/** A weight [out, in] as int8 codes and the absmax of each row. */
export interface Int8Weight {
  codes: Int8Array;
  rowStats: Float32Array;
  shape: number[];
}

/** A linear layer whose weight [out, in] is int8. */
export class Linear8bitLt extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly threshold: number;
  bias: tf.Tensor | undefined;
  private readonly packed: PackedBytes;
  /** Absmax of each row; in an object, since it is no parameter. */
  private readonly scales: { rows: tf.Variable };

  /**
   * Quantizes a weight [out, in], which is not disposed, or takes one that is int8 already; takes over
   * `bias`. Default threshold 0.
   */
  constructor(weight: tf.Tensor | Int8Weight, bias?: tf.Tensor, { threshold = 0 } = {}) {
    super();
    if (weight.shape.length !== 2) {
      throw new RangeError(`Linear8bitLt needs a weight of 2 dimensions, got [${weight.shape}]`);
    }
    [this.outFeatures, this.inFeatures] = weight.shape as [number, number];
    const { codes, rowStats } =
      'codes' in weight ? weight : quantizeRows(weight.dataSync() as Float32Array, this.inFeatures);
    if (
      codes.length !== this.inFeatures * rowStats.length ||
      rowStats.length !== this.outFeatures
    ) {
      throw new RangeError(
        `A weight [${weight.shape}] in int8 needs ${this.outFeatures} scales, got ${rowStats.length}`,
      );
    }
    this.threshold = threshold;
    this.packed = new PackedBytes(Uint8Array.from(codes, (code) => code + 128));
    this.scales = { rows: constant(tf.tensor1d(rowStats)) };
    this.bias = bias;
  }

  /** x [..., in] to [..., out]. */
  forward(x: tf.Tensor): tf.Tensor {
    const rows = tf.reshape(x, [-1, this.inFeatures]); // [N, in]
    const product = tf.customGrad((...args) => {
      const [input] = args as tf.Tensor[];
      const value = tf.tidy(() => this.multiply(input!)); // [N, out]
      const gradFunc = (dy: tf.Tensor) => tf.tidy(() => tf.matMul(dy, this.dequantize(dy)));
      return { value, gradFunc };
    });
    const y = product(rows);
    return tf.reshape(this.bias ? tf.add(y, this.bias) : y, [
      ...x.shape.slice(0, -1),
      this.outFeatures,
    ]);
  }

  /** W = codes * absmax of the row / 127, [out, in]; `after` as in Linear4bit. */
  dequantize(after?: tf.Tensor): tf.Tensor {
    if (!isTracing()) {
      const { codes, rowStats } = this.state();
      const shape: [number, number] = [this.outFeatures, this.inFeatures];
      return tf.tensor2d(dequantizeRows({ codes, rowStats }), shape);
    }
    return tf.tidy(() => {
      const scales = tf.reshape(this.scales.rows, [-1, 1]);
      return tf.mul(tf.mul(this.codes(after), scales), ROW_SCALE);
    });
  }

  /** int8 codes [out * in] and the absmax of each row [out] (`weight` and `SCB` in checkpoints). */
  state(): { codes: Int8Array; rowStats: Float32Array } {
    const codes = Int8Array.from(this.packed.bytes(), (byte) => byte - 128);
    return { codes, rowStats: Float32Array.from(this.scales.rows.dataSync()) };
  }

  /** Bytes that the weight takes in memory. */
  get bytes(): number {
    return this.packed.size + this.scales.rows.size * 4;
  }

  override dispose(): void {
    this.packed.tensor.dispose();
    this.scales.rows.dispose();
    this.bias?.dispose();
  }

  /** x Q + outliers, without the bias. */
  private multiply(x: tf.Tensor): tf.Tensor {
    const { threshold } = this;
    const isOutlier =
      threshold > 0 ? tf.greaterEqual(tf.abs(x), threshold) : tf.zerosLike(x).cast('bool'); // [N, in]
    const kept = tf.where(isOutlier, tf.zerosLike(x), x);
    const columns = tf.cast(tf.max(tf.cast(isOutlier, 'int32'), 0, true), 'float32'); // [1, in]
    const stats = tf.max(tf.abs(kept), 1, true); // [N, 1]
    const divisor = tf.where(tf.greater(stats, 0), stats, tf.onesLike(stats));
    const inverse = tf.div(127, divisor);
    const codes = tf.mul(tf.round(tf.mul(kept, inverse)), tf.sub(1, columns));
    const weight = this.codes();
    const scales = tf.mul(stats, tf.reshape(this.scales.rows, [1, -1])); // [N, out]
    const y = tf.mul(tf.mul(tf.matMul(codes, weight, false, true), scales), PRODUCT_SCALE);
    if (threshold === 0) return y;
    const exact = tf.mul(weight, tf.mul(tf.reshape(this.scales.rows, [-1, 1]), ROW_SCALE));
    return tf.add(y, tf.matMul(tf.mul(x, columns), exact, false, true));
  }

  /** The codes as float32 [out, in]. */
  private codes(after?: tf.Tensor): tf.Tensor {
    const shape: [number, number] = [this.outFeatures, this.inFeatures];
    if (!isTracing()) return tf.tensor2d(Float32Array.from(this.state().codes), shape);
    return tf.reshape(tf.sub(tf.cast(this.packed.unpack(after), 'float32'), 128), shape);
  }
}
