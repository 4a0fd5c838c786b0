// Combining task tensors by PEFT's conventions (its utils/merge_utils.py): task arithmetic, TIES
// (Yadav et al. 2023), DARE (Yu et al. 2024) and magnitude pruning. Against mergekit.ts: signs are
// elected before the weighting, TIES divides by the count that agrees, DARE by the density.
import * as tf from '@tensorflow/tfjs';
import {
  agreeingMask,
  checkDensity,
  type MaskSource,
  magnitudeMask,
  seededMasks,
} from './prune.ts';

/** `linear` is sum_i w_i t_i; the others prune each t_i first, `*ties` elect signs between. */
export type CombineMethod = 'linear' | 'ties' | 'dare_linear' | 'dare_ties' | 'magnitude_prune';

/** What the methods that prune need. */
export interface CombineOptions {
  /** Share of entries kept, 0 to 1; needed by all but `linear`. */
  density?: number;
  /** Whether values or signs are summed to elect a sign; default `'total'`. */
  majoritySignMethod?: 'total' | 'frequency';
  /** Where DARE's masks come from; default `seededMasks(0)`. */
  masks?: MaskSource;
}

/**
 * sum_i w_i p_i with p_i the pruned t_i; in `*ties` only entries of the elected sign, divided by how
 * many those are. `tensors` have one shape; `weights` may be negative.
 */
export function combineTasks(
  method: CombineMethod,
  tensors: tf.Tensor[],
  weights: number[],
  options: CombineOptions = {},
): tf.Tensor {
  if (tensors.length === 0 || tensors.length !== weights.length) {
    throw new RangeError(
      `A merge needs as many weights as tensors and at least one, got ${weights.length} and ` +
        `${tensors.length}`,
    );
  }
  const prune = pruner(method, options);
  return tf.tidy(() => {
    const pruned = tf.stack(tensors.map(prune)); // [n, ...]
    const column = tf.reshape(tf.tensor1d(weights), [-1, ...pruned.shape.slice(1).fill(1)]);
    const weighted = tf.mul(pruned, column);
    if (!method.endsWith('ties')) return tf.sum(weighted, 0); // [...]
    const agreeing = agreeingMask(pruned, options.majoritySignMethod);
    return tf.div(tf.sum(tf.mul(weighted, agreeing), 0), tf.maximum(tf.sum(agreeing, 0), 1));
  });
}

function pruner(method: CombineMethod, { density, masks = seededMasks() }: CombineOptions) {
  if (method === 'linear') return (tensor: tf.Tensor) => tensor;
  if (density === undefined) {
    throw new RangeError(`combinationType '${method}' needs a density from 0 to 1, got none`);
  }
  checkDensity(density);
  return (tensor: tf.Tensor): tf.Tensor => {
    if (density === 1) return tensor;
    if (!method.startsWith('dare')) {
      return tf.mul(tensor, magnitudeMask(tensor, Math.trunc(density * tensor.size)));
    }
    if (density === 0) return tf.zerosLike(tensor);
    return tf.div(tf.mul(tensor, masks(tensor.shape, density).toFloat()), density);
  };
}
