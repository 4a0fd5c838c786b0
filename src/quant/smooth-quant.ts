// SmoothQuant (Xiao et al. 2022): X W^T = (X / s) (W s)^T with s_j = max|X_j|^a / max|W_j|^(1-a), which moves
// outliers of activations into weights, where each row has a scale of its own. 1/s goes into the norm before.
// Left out: models whose linear layers do not follow a norm (o_proj and down_proj stay as they are).
import * as tf from '@tensorflow/tfjs';
import { Linear } from '../nn/linear.ts';
import type { Module } from '../nn/module.ts';
import { LayerNorm, RMSNorm } from '../nn/norm.ts';

/** The least scale, and the least max|W_j|. */
const LEAST = 1e-5;

/** Norms of a block and the linear layers that read them, by llama's and GPT-NeoX' names. */
const FOLLOWERS: readonly (readonly [string, readonly string[]])[] = [
  ['input_layernorm', ['self_attn.q_proj', 'self_attn.k_proj', 'self_attn.v_proj']],
  ['post_attention_layernorm', ['mlp.gate_proj', 'mlp.up_proj']],
];

/**
 * s [in] for weights [out, in] that read the same inputs, whose largest sizes are `maxima` [in]: alpha 0
 * leaves all to the activations, 1 to the weights. Default 0.5.
 */
export function smoothScales(
  maxima: Float32Array,
  weights: readonly tf.Tensor[],
  alpha = 0.5,
): Float32Array {
  if (!(alpha >= 0 && alpha <= 1)) {
    throw new RangeError(`SmoothQuant's alpha must be from 0 to 1, got ${alpha}`);
  }
  const columns = maxima.length;
  const largest = new Float32Array(columns).fill(LEAST);
  for (const weight of weights) {
    if (weight.rank !== 2 || weight.shape[1] !== columns) {
      throw new RangeError(
        `Weights must have ${columns} inputs as the activations have, got [${weight.shape}]`,
      );
    }
    weight.dataSync().forEach((value, i) => {
      largest[i % columns] = Math.max(largest[i % columns]!, Math.abs(value));
    });
  }
  return maxima.map((x, j) => {
    const scale = x ** alpha / largest[j]! ** (1 - alpha);
    if (!Number.isFinite(scale)) {
      throw new RangeError(
        `SmoothQuant needs finite numbers, got a scale of ${scale} in column ${j}`,
      );
    }
    return Math.max(scale, LEAST);
  });
}

/**
 * Smooths a model in place: what it computes stays the same but for rounding. `maxima` are the largest
 * sizes of each linear layer's inputs by its path; returns the scales by the path of the norm.
 */
export function smoothModel(
  model: Module,
  maxima: ReadonlyMap<string, Float32Array>,
  { alpha = 0.5 } = {},
): Map<string, Float32Array> {
  const modules = new Map(model.namedModules());
  const found = new Map<string, Float32Array>();
  for (const [path, norm] of modules) {
    if (!(norm instanceof RMSNorm || norm instanceof LayerNorm)) continue;
    const [name, followers] = FOLLOWERS.find(([own]) => path.endsWith(own)) ?? [];
    if (!name || !followers) continue;
    const paths = followers.map((follower) => path.slice(0, -name.length) + follower);
    const layers = paths.map((one) => modules.get(one)).filter((one) => one instanceof Linear);
    const seen = maxima.get(paths[0]!);
    if (layers.length === 0) continue;
    if (!seen) throw new RangeError(`smoothModel needs the maxima of '${paths[0]}', got none`);
    const weights = layers.map(({ weight }) => weight);
    const scales = smoothScales(seen, weights, alpha);
    apply(norm, weights, scales);
    found.set(path, scales);
  }
  if (found.size === 0) {
    throw new RangeError(
      'smoothModel found no norm with linear layers after it, as llama has them',
    );
  }
  return found;
}

/** weight / s in the norm, W s in the layers. */
function apply(norm: RMSNorm | LayerNorm, weights: tf.Tensor[], scales: Float32Array): void {
  tf.tidy(() => {
    const s = tf.tensor1d(scales);
    const parameters = [norm.weight, ...('bias' in norm ? [norm.bias] : [])] as tf.Variable[];
    for (const parameter of parameters) parameter.assign(tf.div(parameter, s));
    for (const weight of weights) (weight as tf.Variable).assign(tf.mul(weight, s));
  });
}
