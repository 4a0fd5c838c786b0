// ORPO: loss of the chosen completion - beta * log sigmoid(log odds ratio), which needs no reference,
// Hong et al. 2024 (arXiv 2403.07691), as TRL's ORPOTrainer.
import * as tf from '@tensorflow/tfjs';
import { logSigmoid } from './dpo-loss.ts';

/**
 * The loss of pairs from mean log-probabilities of their tokens [B] and the mean negative
 * log-likelihood of the chosen ones; beta defaults to 0.1.
 */
export function orpoLoss(
  chosen: tf.Tensor,
  rejected: tf.Tensor,
  chosenLoss: tf.Tensor,
  { beta = 0.1 }: { beta?: number } = {},
): tf.Scalar {
  const logOdds = (logp: tf.Tensor) => tf.sub(logp, tf.log1p(tf.neg(tf.exp(logp)))); // [B]
  const ratio = logSigmoid(tf.sub(logOdds(chosen), logOdds(rejected))); // [B]
  return tf.sub(chosenLoss, tf.mul(tf.mean(ratio), beta));
}
