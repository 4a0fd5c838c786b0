// KTO: 1 - sigmoid(beta * (log-ratio - KL)) for wanted completions, 1 - sigmoid(beta * (KL - log-ratio))
// for unwanted ones, Ethayarajh et al. 2024 (arXiv 2402.01306), as TRL's KTOTrainer.
import * as tf from '@tensorflow/tfjs';

/** Strength of the pull to the reference and weights of the two kinds; defaults 0.1, 1, 1. */
export interface KTOLossOptions {
  beta?: number;
  desirableWeight?: number;
  undesirableWeight?: number;
}

/**
 * The mean loss over completions: log-ratios of policy to reference [B], 1 or 0 for wanted [B], and
 * log-ratios of mismatched completions [B], whose mean, at least 0 and without gradient, is the KL.
 */
export function ktoLoss(
  logRatios: tf.Tensor,
  wanted: tf.Tensor,
  mismatchedLogRatios: tf.Tensor,
  options: KTOLossOptions = {},
): tf.Scalar {
  const { beta = 0.1, desirableWeight = 1, undesirableWeight = 1 } = options;
  if (!(beta > 0)) throw new RangeError(`beta must be above 0, got ${beta}`);
  const constant = tf.customGrad((x) => ({
    value: tf.relu(tf.mean(x as tf.Tensor)),
    gradFunc: () => tf.zerosLike(x as tf.Tensor),
  }));
  const gap = tf.mul(tf.sub(logRatios, constant(mismatchedLogRatios)), beta); // [B]
  const good = tf.mul(tf.sub(1, tf.sigmoid(gap)), desirableWeight);
  const bad = tf.mul(tf.sub(1, tf.sigmoid(tf.neg(gap))), undesirableWeight);
  return tf.mean(tf.add(tf.mul(good, wanted), tf.mul(bad, tf.sub(1, wanted))));
}
