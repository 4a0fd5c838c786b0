// Losses as functions of tensors: cross entropy as torch.nn.functional has it.
import * as tf from '@tensorflow/tfjs';

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

/** logsumexp(logits) - logits[label] for each row, [N]; a label outside 0..V-1 picks 0. */
function tokenLosses(logits: tf.Tensor, labels: tf.Tensor): tf.Tensor {
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
