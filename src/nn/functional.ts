// Functions of tensors as torch.nn.functional has them: cross entropy and dropout.
import * as tf from '@tensorflow/tfjs';
import { fusedTokenLosses } from '../jit/fused.ts';
import { seededUniform } from '../jit/random.ts';
import { isTracing } from '../jit/trace.ts';

/** What torch and transformers mark labels with that count for nothing. */
export const IGNORE_INDEX = -100;

/**
 * -log softmax(logits)[label], averaged over the labels that are not `ignoreIndex` (default -100):
 * logits [N, V], labels [N] int32. Its gradient is (softmax - onehot) / count, made without a chain
 * through the softmax. `reduction: 'none'` gives [N], `'sum'` the sum; NaN if all are ignored.
 */
export function crossEntropy(
  logits: tf.Tensor,
  labels: tf.Tensor,
  options: { ignoreIndex?: number; reduction?: 'mean' | 'sum' | 'none' } = {},
): tf.Tensor {
  const { ignoreIndex = IGNORE_INDEX, reduction = 'mean' } = options;
  const kept = tf.cast(tf.notEqual(labels, tf.scalar(ignoreIndex, 'int32')), 'float32'); // [N]
  const losses = tf.mul(tokenLosses(logits, labels), kept); // [N]
  if (reduction === 'none') return losses;
  const sum = tf.sum(losses);
  return reduction === 'sum' ? sum : tf.div(sum, tf.sum(kept));
}

/** logsumexp(logits) - logits[label] for each row, [N]; what a label outside 0..V-1 picks is masked. */
function tokenLosses(logits: tf.Tensor, labels: tf.Tensor): tf.Tensor {
  if (isTracing()) return fusedTokenLosses(logits, tf.cast(labels, 'int32'));
  const size = logits.shape[1] as number;
  const loss = tf.customGrad((x, save) => {
    const scores = x as tf.Tensor;
    const shifted = tf.sub(scores, tf.max(scores, 1, true)); // [N, V]
    const exps = tf.exp(shifted);
    const sums = tf.sum(exps, 1, true); // [N, 1]
    const target = tf.oneHot(tf.cast(labels, 'int32'), size); // [N, V]
    const picked = tf.sum(tf.mul(shifted, target), 1); // [N]
    (save as tf.GradSaveFunc)([tf.div(exps, sums), target]);
    const value = tf.sub(tf.reshape(tf.log(sums), [-1]), picked); // [N]
    const gradFunc = (dy: tf.Tensor, [probabilities, wanted]: tf.Tensor[]) =>
      tf.mul(tf.sub(probabilities!, wanted!), tf.reshape(dy, [-1, 1])); // [N, V]
    return { value, gradFunc };
  });
  return loss(logits);
}

/**
 * x with each element 0 with probability `rate` and else x / (1 - rate), from a seed: an int32 scalar
 * tensor, so that a `jit` draws anew at each call. The same seed and shape drop the same elements.
 * Throws unless `rate` is in [0, 1).
 */
export function dropout(x: tf.Tensor, rate: number, seed: tf.Tensor): tf.Tensor {
  if (!(rate >= 0 && rate < 1)) {
    throw new RangeError(`The rate of dropout must be at least 0 and below 1, got ${rate}`);
  }
  if (rate === 0) return x;
  const kept = tf.cast(tf.greaterEqual(seededUniform(x.shape, seed), rate), 'float32');
  return tf.mul(x, tf.mul(kept, 1 / (1 - rate)));
}
