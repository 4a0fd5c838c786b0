// LoRA+ (Hayou et al. 2024): B learns at `ratio` times the rate of A. Groups, and which parameter is in
// which, are those of PEFT's create_loraplus_optimizer.
import type * as tf from '@tensorflow/tfjs';
import type { ParamGroup } from './optimizers.ts';

/** Rates of LoRA+, with PEFT's defaults. */
export interface LoraPlusOptions {
  /** Rate of A and of matrices that are no part of LoRA. */
  lr: number;
  /** Rate of B over that of A. */
  loraplusLrRatio: number;
  /** Rate of LoRA on embeddings. Default 1e-6. */
  loraplusLrEmbedding?: number;
  /** Decay of all but biases and norms. Default 0. */
  loraplusWeightDecay?: number;
}

/**
 * The trainable ones of `named` parameters in groups for an optimizer: `lora_B` and vectors at the
 * rate lr * ratio, embeddings' LoRA at its own, the rest at lr. Throws a RangeError unless the ratio
 * is above 0.
 */
export function loraPlusGroups(
  named: Iterable<[string, tf.Variable]>,
  {
    lr,
    loraplusLrRatio: ratio,
    loraplusLrEmbedding = 1e-6,
    loraplusWeightDecay: weightDecay = 0,
  }: LoraPlusOptions,
): ParamGroup<{ lr: number; weightDecay: number }>[] {
  if (!(ratio > 0)) {
    throw new RangeError(`The loraplusLrRatio must be above 0, got ${ratio}`);
  }
  const groups = {
    a: { params: [] as tf.Variable[], lr, weightDecay },
    embedding: { params: [] as tf.Variable[], lr: loraplusLrEmbedding, weightDecay },
    b: { params: [] as tf.Variable[], lr: lr * ratio, weightDecay },
    bWithoutDecay: { params: [] as tf.Variable[], lr: lr * ratio, weightDecay: 0 },
  };
  for (const [name, parameter] of named) {
    if (parameter.trainable) groups[groupOf(name, parameter)].params.push(parameter);
  }
  return Object.values(groups).filter(({ params }) => params.length > 0);
}

function groupOf(name: string, { rank }: tf.Variable): 'a' | 'embedding' | 'b' | 'bWithoutDecay' {
  if (/(^|\.)lora_embedding_[ab](\.|$)/i.test(name)) return 'embedding';
  if (!/(^|\.)lora_b(\.|$)/i.test(name) && rank !== 1) return 'a';
  return /bias|norm|(^|\.)ln_/.test(name) ? 'bWithoutDecay' : 'b';
}
