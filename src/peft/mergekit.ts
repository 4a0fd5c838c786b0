// Merging whole weights by mergekit's conventions: linear, slerp, task_arithmetic, ties, dare_linear,
// dare_ties. theta = base + lambda * sum_i w_i prune(theta_i - base), with signs elected after the
// weighting and DARE rescaled to the L1 norm it had. After mergekit's merge_methods and sparsify.py.
// Left out: the gradients of parameters over layers, its other methods, tokenizer merging.
import * as tf from '@tensorflow/tfjs';
import {
  agreeingMask,
  checkDensity,
  type MaskSource,
  magnitudeMask,
  seededMasks,
} from './prune.ts';

/** How `mergeTensors` weighs the models; each list has one number a model. */
export interface MergeParameters {
  weights: number[];
  /** Share of entries that each model keeps, 0 to 1; all by default. */
  densities?: number[];
  /** Divide by the weights that took part; default true for `linear` and `ties`, else false. */
  normalize?: boolean;
  /** Factor of the merged change; default 1. */
  lambda?: number;
  /** Give pruned changes their L1 norm back; default true for `dare_*`, else false. */
  rescale?: boolean;
  /** Where DARE's masks come from; default `seededMasks(0)`. */
  masks?: MaskSource;
}

/** The methods that need a base model, with mergekit's names. */
export type TaskMergeMethod = 'task_arithmetic' | 'ties' | 'dare_linear' | 'dare_ties';

/** sum_i w_i theta_i / sum_i w_i; with `normalize: false` no division. Tensors of one shape. */
export function linearMerge(
  tensors: tf.Tensor[],
  { weights, normalize = true }: Pick<MergeParameters, 'weights' | 'normalize'>,
): tf.Tensor {
  checkLists(tensors, weights, 'weights');
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  if (normalize && total === 0) {
    throw new RangeError(`linear's weights must not sum to 0 when normalized, got ${weights}`);
  }
  return tf.tidy(() => {
    const sum = tf.addN(tensors.map((tensor, i) => tf.mul(tensor, weights[i]!)));
    return normalize ? tf.div(sum, total) : sum;
  });
}

/**
 * (sin((1-t) a) v0 + sin(t a) v1) / sin(a) with a the angle between v0 and v1 as flat vectors;
 * (1-t) v0 + t v1 when |cos a| > 0.9995.
 */
export function slerp(t: number, v0: tf.Tensor, v1: tf.Tensor): tf.Tensor {
  checkShapes([v0, v1]);
  return tf.tidy(() => {
    const [n0, n1] = [norm(v0), norm(v1)];
    const cosine = tf.sum(tf.mul(tf.div(v0, n0), tf.div(v1, n1))).dataSync()[0]!;
    const isLinear = Math.abs(cosine) > 0.9995;
    const angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
    const share = (part: number) => (isLinear ? part : Math.sin(part * angle) / Math.sin(angle));
    return tf.add(tf.mul(v0, share(1 - t)), tf.mul(v1, share(t)));
  });
}

/** base + lambda * sum_i w_i d_i, d_i = prune(theta_i - base), all as the method's name says. */
export function taskMerge(
  method: TaskMergeMethod,
  base: tf.Tensor,
  tensors: tf.Tensor[],
  parameters: MergeParameters,
): tf.Tensor {
  const { weights, lambda = 1, normalize = method === 'ties' } = parameters;
  checkLists(tensors, weights, 'weights');
  checkShapes([base, ...tensors]);
  const prune = pruner(method, parameters, tensors.length);
  return tf.tidy(() => {
    const deltas = tensors.map((tensor, i) => prune(tf.sub(tensor, base), i));
    const weighted = tf.stack(deltas.map((delta, i) => tf.mul(delta, weights[i]!))); // [n, ...]
    const mask = method.endsWith('ties') ? agreeingMask(weighted) : tf.onesLike(weighted);
    const sum = tf.sum(tf.mul(weighted, mask), 0); // [...]
    const mixed = normalize ? tf.div(sum, divisor(mask, weights)) : sum;
    return tf.add(base, tf.mul(mixed, lambda));
  });
}

/** Weight that took part in each entry, 1 where that is 0. */
function divisor(mask: tf.Tensor, weights: number[]): tf.Tensor {
  const column = tf.reshape(tf.tensor1d(weights), [-1, ...mask.shape.slice(1).fill(1)]);
  const taken = tf.sum(tf.mul(mask, column), 0);
  return tf.where(tf.less(tf.abs(taken), 1e-8), tf.onesLike(taken), taken);
}

function pruner(method: TaskMergeMethod, parameters: MergeParameters, count: number) {
  const { densities = Array<number>(count).fill(1), masks = seededMasks() } = parameters;
  const { rescale = method.startsWith('dare') } = parameters;
  if (densities.length !== count) {
    throw new RangeError(`${count} models need ${count} densities, got ${densities.length}`);
  }
  densities.forEach(checkDensity);
  return (delta: tf.Tensor, at: number): tf.Tensor => {
    const density = densities[at]!;
    if (method === 'task_arithmetic' || density === 1) return delta;
    const mask =
      method === 'ties' ? largest(delta, density) : masks(delta.shape, density).toFloat();
    const pruned = tf.mul(delta, mask);
    return rescale ? withNorm(pruned, delta) : pruned;
  };
}

/** At least one entry is kept, unless the density is 0. */
function largest(delta: tf.Tensor, density: number): tf.Tensor {
  const count = density === 0 ? 0 : Math.max(1, Math.trunc(density * delta.size));
  return magnitudeMask(delta, count);
}

/** `pruned` with the L1 norm of `delta`; as it is where either norm is below 1e-7. */
function withNorm(pruned: tf.Tensor, delta: tf.Tensor): tf.Tensor {
  const [before, after] = [delta, pruned].map((x) => tf.sum(tf.abs(x)).dataSync()[0]!);
  return before! < 1e-7 || after! < 1e-7 ? pruned : tf.mul(pruned, before! / after!);
}

/** Euclidean norm, 1 for vectors of about zero. */
function norm(vector: tf.Tensor): number {
  const value = tf.norm(vector).dataSync()[0]!;
  return value > 1e-8 ? value : 1;
}

function checkLists(tensors: tf.Tensor[], numbers: number[], what: string): void {
  if (tensors.length === 0) throw new RangeError('A merge needs at least one model, got none');
  if (tensors.length !== numbers.length) {
    const { length } = tensors;
    throw new RangeError(`${length} models need ${length} ${what}, got ${numbers.length}`);
  }
  checkShapes(tensors);
}

function checkShapes([first, ...rest]: tf.Tensor[]): void {
  const other = rest.find(({ shape }) => !tf.util.arraysEqual(shape, first!.shape));
  if (other) {
    throw new RangeError(
      `Tensors to merge must have one shape, got [${first!.shape}] and [${other.shape}]`,
    );
  }
}
