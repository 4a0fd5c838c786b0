// Which entries of a task tensor a merge keeps: the largest (TIES, Yadav et al. 2023) or random ones
// (DARE, Yu et al. 2024). The mask is apart from the merge, so that a merge can be repeated exactly.
// Left out: torch's own random stream; the same seed gives other masks there.
import * as tf from '@tensorflow/tfjs';
import { RandomState } from '../tensor/random.ts';

/** Draws a mask of zeros and ones of `shape` in which each entry is 1 with chance `density`. */
export type MaskSource = (shape: number[], density: number) => tf.Tensor;

/** mask ~ Bernoulli(density), one stream of seeded draws after the other; default seed 0. */
export function seededMasks(seed = 0): MaskSource {
  const random = new RandomState(seed);
  return (shape, density) => {
    const draw = () => (random.random() < density ? 1 : 0);
    const values = new Float32Array(tf.util.sizeFromShape(shape)).map(draw);
    return tf.tensor(values, shape);
  };
}

/** 1 at the `count` entries of largest magnitude, 0 elsewhere; of equals the first are kept. */
export function magnitudeMask(tensor: tf.Tensor, count: number): tf.Tensor {
  const sizes = new Float32Array(tensor.dataSync()).map(Math.abs);
  const rising = sizes.slice().sort();
  const limit = rising[rising.length - count] ?? Number.POSITIVE_INFINITY;
  const larger = sizes.reduce((sum, size) => sum + (size > limit ? 1 : 0), 0);
  let left = count - larger; // of those that equal the limit
  const isKept = (size: number) => size > limit || (size === limit && left-- > 0);
  const mask = sizes.map((size) => (isKept(size) ? 1 : 0));
  return tf.tensor(mask, tensor.shape);
}

/** Throws a RangeError unless `density` is a number from 0 to 1. */
export function checkDensity(density: number): void {
  if (!(density >= 0 && density <= 1)) {
    throw new RangeError(`A merge's density must be a number from 0 to 1, got ${density}`);
  }
}

/** 1 where an entry has the sign of the majority, whose sum over the first axis is >= 0 or < 0. */
export function agreeingMask(
  stacked: tf.Tensor,
  method: 'total' | 'frequency' = 'total',
): tf.Tensor {
  const votes = method === 'total' ? stacked : tf.sign(stacked); // [n, ...]
  const isUp = tf.greaterEqual(tf.sum(votes, 0), 0); // [...]
  const majority = tf.sub(tf.mul(tf.cast(isUp, 'float32'), 2), 1);
  return tf.cast(tf.equal(tf.sign(stacked), majority), 'float32'); // [n, ...]
}
