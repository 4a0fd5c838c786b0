// Mixed precision, emulated in f32: what fp16 and bf16 round, and the loss scale of torch's GradScaler.
// Weights, logits' gradients and gradients are rounded to the nearest half number, ties to even;
// master weights stay f32. Left out: rounding between the layers of a model, memory savings.
import * as tf from '@tensorflow/tfjs';

/** Which numbers a run pretends to compute with. */
export type MixedPrecision = 'no' | 'fp16' | 'bf16';

/** torch.amp.GradScaler's numbers. */
export const GRAD_SCALER = {
  initScale: 65536,
  growthFactor: 2,
  backoffFactor: 0.5,
  growthInterval: 2000,
} as const;

/** Where the loss scale stands. */
export interface LossScale {
  scale: number;
  /** Steps without overflow since the scale last changed. */
  goodSteps: number;
}

/** The scale after a step: half after an overflow, double after 2000 steps without one. */
export function nextLossScale({ scale, goodSteps }: LossScale, fits: boolean): LossScale {
  const { growthFactor, backoffFactor, growthInterval } = GRAD_SCALER;
  if (!fits) return { scale: scale * backoffFactor, goodSteps: 0 };
  if (goodSteps + 1 < growthInterval) return { scale, goodSteps: goodSteps + 1 };
  return { scale: scale * growthFactor, goodSteps: 0 };
}

/**
 * x rounded to fp16 (11 significant bits; beyond 65504 infinite, below 2^-14 in steps of 2^-24) or to
 * bf16 (8 significant bits, f32's range); its gradient is rounded likewise.
 */
export function roundHalf(x: tf.Tensor, precision: MixedPrecision): tf.Tensor {
  if (precision === 'no') return x;
  const round = tf.customGrad((input) => ({
    value: rounded(input as tf.Tensor, precision),
    gradFunc: (dy: tf.Tensor) => rounded(dy, precision),
  }));
  return round(x);
}

function rounded(x: tf.Tensor, precision: 'fp16' | 'bf16'): tf.Tensor {
  if (precision === 'bf16') {
    const isLarge = tf.greater(tf.abs(x), 1e30); // where x * 65537 would overflow
    const small = tf.where(isLarge, tf.mul(x, 2 ** -60), x);
    const kept = keepBits(small, 16);
    return tf.where(isLarge, tf.mul(kept, 2 ** 60), kept);
  }
  const normal = keepBits(tf.clipByValue(x, -1e6, 1e6), 13);
  // Adding 1.5 * 2^-1 leaves no room for bits below 2^-24.
  const magic = 1.5 * 2 ** -1;
  const near = tf.clipByValue(x, -(2 ** -13), 2 ** -13);
  const subnormal = tf.sub(tf.add(near, magic), magic);
  const value = tf.where(tf.less(tf.abs(x), 2 ** -14), subnormal, normal);
  const infinite = tf.mul(tf.sign(x), tf.scalar(Infinity));
  const isOver = tf.greaterEqual(tf.abs(value), 65520);
  const finite = tf.where(isOver, tf.where(isOver, infinite, value), value);
  return tf.where(tf.isNaN(x), x, finite);
}

/** x without its last `bits` bits: c - (c - x) with c = (2^bits + 1) x (Veltkamp's splitting). */
function keepBits(x: tf.Tensor, bits: number): tf.Tensor {
  const c = tf.mul(x, 2 ** bits + 1);
  return tf.sub(c, tf.sub(c, x));
}
