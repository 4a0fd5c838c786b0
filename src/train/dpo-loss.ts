// DPO's losses: -log sigmoid(beta * (chosen log-ratio - rejected log-ratio)), Rafailov et al. 2023
// (arXiv 2305.18290), and its relatives under TRL's names, as DPOTrainer computes them.
// Left out: the sft term and weighting by the policy (WPO), which need log-probabilities of tokens.
import * as tf from '@tensorflow/tfjs';

/** Values of TRL's `loss_type`. */
export type DPOLossType = keyof typeof LOSSES;

/** How far policy and reference are apart: TRL's `f_divergence_type`. */
export type FDivergence = 'reverse_kl' | 'forward_kl' | 'js_divergence' | 'alpha_divergence';

/** Sums of log-probabilities of completions, [B] each, and their lengths in tokens. */
export type PreferenceLogps = {
  chosen: tf.Tensor;
  rejected: tf.Tensor;
  refChosen: tf.Tensor;
  refRejected: tf.Tensor;
  chosenLengths: tf.Tensor;
  rejectedLengths: tf.Tensor;
};

/** Options in TRL's names. */
export interface DPOLossOptions {
  lossType?: DPOLossType;
  /** Strength of the pull to the reference. Default 0.1. */
  beta?: number;
  /** Share of wrong labels; used by robust, exo_pair, aot and aot_unpaired only. Default 0. */
  labelSmoothing?: number;
  fDivergenceType?: FDivergence;
  /** Of alpha_divergence. Default 0.5. */
  fAlphaDivergenceCoef?: number;
  /** Of discopop. Default 0.05. */
  discopopTau?: number;
}

/** The loss, its mean over pairs, and what TRL logs; all scalars. */
export type DPOLoss = {
  loss: tf.Scalar;
  chosenRewards: tf.Scalar;
  rejectedRewards: tf.Scalar;
  /** Share of pairs whose chosen reward is the higher. */
  accuracy: tf.Scalar;
  margin: tf.Scalar;
};

/** The loss of pairs; throws a RangeError for unknown types and for beta that is not positive. */
export function dpoLoss(logps: PreferenceLogps, options: DPOLossOptions = {}): DPOLoss {
  const { lossType = 'sigmoid', beta = 0.1 } = options;
  if (!Object.hasOwn(LOSSES, lossType)) {
    const names = Object.keys(LOSSES).join(', ');
    throw new RangeError(`lossType must be one of ${names}, got '${lossType}'`);
  }
  if (!(beta > 0)) throw new RangeError(`beta must be above 0, got ${beta}`);
  const chosenRatio = tf.sub(logps.chosen, logps.refChosen); // [B]
  const rejectedRatio = tf.sub(logps.rejected, logps.refRejected); // [B]
  const terms: Terms = {
    chosenRatio,
    rejectedRatio,
    chosenScore: divergence(chosenRatio, options),
    rejectedScore: divergence(rejectedRatio, options),
    beta,
    smoothing: options.labelSmoothing ?? 0,
    tau: options.discopopTau ?? 0.05,
    logps,
  };
  const rewards = [tf.mul(chosenRatio, beta), tf.mul(rejectedRatio, beta)] as const;
  return {
    loss: tf.mean(LOSSES[lossType](terms)),
    chosenRewards: tf.mean(rewards[0]),
    rejectedRewards: tf.mean(rewards[1]),
    accuracy: tf.mean(tf.cast(tf.greater(rewards[0], rewards[1]), 'float32')),
    margin: tf.mean(tf.sub(rewards[0], rewards[1])),
  };
}

interface Terms {
  /** Log-ratios of policy to reference, [B]. */
  chosenRatio: tf.Tensor;
  rejectedRatio: tf.Tensor;
  /** The same through the derivative of the divergence, [B]. */
  chosenScore: tf.Tensor;
  rejectedScore: tf.Tensor;
  beta: number;
  smoothing: number;
  tau: number;
  logps: PreferenceLogps;
}

const LOSSES = {
  /** -log sigmoid(beta * delta) */
  sigmoid: (t: Terms) => tf.neg(logSigmoid(delta(t))),
  /** max(0, 1 - beta * delta), as SLiC */
  hinge: (t: Terms) => tf.relu(tf.sub(1, delta(t))),
  /** (delta of averages over tokens - 1 / (2 beta))^2 */
  ipo: (t: Terms) => tf.square(tf.sub(meanDelta(t), 1 / (2 * t.beta))),
  /** ((1 - e) * loss - e * loss of the swapped pair) / (1 - 2e) */
  robust: (t: Terms) =>
    tf.div(
      tf.add(
        tf.mul(logSigmoid(delta(t)), t.smoothing - 1),
        tf.mul(logSigmoid(tf.neg(delta(t))), t.smoothing),
      ),
      1 - 2 * t.smoothing,
    ),
  exo_pair: exoPair,
  nca_pair: (t: Terms) => {
    const [chosen, rejected] = rewards(t);
    const pull = tf.add(logSigmoid(tf.neg(chosen)), logSigmoid(tf.neg(rejected)));
    return tf.neg(tf.add(logSigmoid(chosen), tf.mul(pull, 0.5)));
  },
  bco_pair: (t: Terms) => {
    const [chosen, rejected] = rewards(t);
    return tf.neg(tf.add(logSigmoid(chosen), logSigmoid(tf.neg(rejected))));
  },
  sppo_hard: (t: Terms) =>
    tf.add(
      tf.square(tf.sub(t.chosenRatio, 0.5 / t.beta)),
      tf.square(tf.add(t.rejectedRatio, 0.5 / t.beta)),
    ),
  aot: (t: Terms) => {
    const { chosen, rejected, refChosen, refRejected } = t.logps;
    return smoothed(
      t,
      tf.sub(sorted(tf.sub(chosen, rejected)), sorted(tf.sub(refChosen, refRejected))),
    );
  },
  aot_unpaired: (t: Terms) => smoothed(t, tf.sub(sorted(t.chosenRatio), sorted(t.rejectedRatio))),
  apo_zero: (t: Terms) => {
    const [chosen, rejected] = rewards(t);
    return tf.add(tf.sub(1, tf.sigmoid(chosen)), tf.sigmoid(rejected));
  },
  apo_down: (t: Terms) => {
    const [chosen, rejected] = rewards(t);
    return tf.add(tf.sigmoid(chosen), tf.sub(1, tf.sigmoid(tf.sub(chosen, rejected))));
  },
  discopop: (t: Terms) => {
    const share = tf.sigmoid(tf.div(delta(t), t.tau));
    const logistic = tf.neg(logSigmoid(delta(t)));
    return tf.add(tf.mul(logistic, tf.sub(1, share)), tf.mul(tf.exp(tf.neg(delta(t))), share));
  },
  /** sigmoid on averages over tokens */
  sigmoid_norm: (t: Terms) => tf.neg(logSigmoid(tf.mul(meanDelta(t), t.beta))),
};

/** KL of the pair's softmax to (1 - e, e). */
function exoPair(t: Terms): tf.Tensor {
  if (!(t.smoothing > 0)) {
    throw new RangeError(`labelSmoothing must be above 0 for exo_pair, got ${t.smoothing}`);
  }
  const side = (x: tf.Tensor, target: number) =>
    tf.mul(tf.sigmoid(x), tf.sub(logSigmoid(x), Math.log(target)));
  return tf.add(side(delta(t), 1 - t.smoothing), side(tf.neg(delta(t)), t.smoothing));
}

/** The derivative of the divergence's generator at the ratio, [B]. */
function divergence(logRatio: tf.Tensor, options: DPOLossOptions): tf.Tensor {
  const { fDivergenceType: type = 'reverse_kl', fAlphaDivergenceCoef: alpha = 0.5 } = options;
  if (type === 'forward_kl') return tf.sub(1, tf.exp(tf.neg(logRatio)));
  if (type === 'js_divergence') return tf.add(logSigmoid(logRatio), Math.log(2));
  if (type === 'reverse_kl' || Math.abs(alpha - 1) < 1e-6) return logRatio;
  if (type !== 'alpha_divergence') {
    throw new RangeError(
      `fDivergenceType must be one of reverse_kl, forward_kl, js_divergence, alpha_divergence, got '${type}'`,
    );
  }
  const power = tf.minimum(tf.mul(logRatio, alpha - 1), 80);
  return tf.div(tf.sub(tf.exp(power), 1), alpha - 1);
}

/** beta * (chosen score - rejected score) */
const delta = (t: Terms) => tf.mul(tf.sub(t.chosenScore, t.rejectedScore), t.beta);

const rewards = (t: Terms) =>
  [tf.mul(t.chosenRatio, t.beta), tf.mul(t.rejectedRatio, t.beta)] as const;

function meanDelta({ chosenScore, rejectedScore, logps }: Terms): tf.Tensor {
  return tf.sub(
    tf.div(chosenScore, tf.maximum(logps.chosenLengths, 1)),
    tf.div(rejectedScore, tf.maximum(logps.rejectedLengths, 1)),
  );
}

function smoothed({ beta, smoothing }: Terms, gap: tf.Tensor): tf.Tensor {
  const scaled = tf.mul(gap, beta);
  const kept = tf.mul(logSigmoid(scaled), smoothing - 1);
  return tf.sub(kept, tf.mul(logSigmoid(tf.neg(scaled)), smoothing));
}

/** Values in descending order; gradients go back to where each came from. */
function sorted(x: tf.Tensor): tf.Tensor {
  const sort = tf.customGrad((input, save) => {
    const { values, indices } = tf.topk(input as tf.Tensor, x.size, true);
    (save as tf.GradSaveFunc)([indices]);
    const gradFunc = (dy: tf.Tensor, [places]: tf.Tensor[]) =>
      tf.sum(tf.mul(tf.reshape(dy, [-1, 1]), tf.oneHot(places as tf.Tensor1D, x.size)), 0);
    return { value: values, gradFunc };
  });
  return sort(x);
}

/** log(1 / (1 + exp(-x))), which does not overflow. */
export function logSigmoid(x: tf.Tensor): tf.Tensor {
  return tf.neg(tf.softplus(tf.neg(x)));
}
