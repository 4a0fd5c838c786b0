// Log-probabilities of completions, as TRL sums them: log p(token | tokens before it) over the tokens
// of a completion. Shared by the trainers of preferences.
import * as tf from '@tensorflow/tfjs';
import type { CausalLM } from '../models/causal-lm.ts';
import { crossEntropy } from '../nn/functional.ts';
import type { TensorBatch } from './training-step.ts';

/** A prompt and one completion of it. */
export interface Completion {
  promptIds: readonly number[];
  completionIds: readonly number[];
}

/** How completions become a batch. */
export interface CompletionOptions {
  padTokenId: number;
  padToMultipleOf: number;
  maxLength: number;
  truncationMode?: 'keep_start' | 'keep_end';
}

/** inputIds, attentionMask and completionMask [B, T], padded on the right. */
export function collateCompletions(
  completions: readonly Completion[],
  { padTokenId, padToMultipleOf, maxLength, truncationMode = 'keep_start' }: CompletionOptions,
): TensorBatch {
  const cut = (list: number[]) =>
    truncationMode === 'keep_start' ? list.slice(0, maxLength) : list.slice(-maxLength);
  const rows = completions.map(({ promptIds, completionIds }) => ({
    ids: cut([...promptIds, ...completionIds]),
    mask: cut([...promptIds.map(() => 0), ...completionIds.map(() => 1)]),
  }));
  const longest = Math.max(...rows.map(({ ids }) => ids.length));
  const length = Math.min(Math.ceil(longest / padToMultipleOf) * padToMultipleOf, maxLength);
  const tensor = (lists: number[][], value: number) =>
    tf.tensor2d(
      lists.map((list) => [...list, ...Array<number>(length - list.length).fill(value)]),
      [rows.length, length],
      'int32',
    );
  const idsOf = rows.map(({ ids }) => ids);
  return {
    inputIds: tensor(idsOf, padTokenId),
    attentionMask: tensor(
      idsOf.map((ids) => ids.map(() => 1)),
      0,
    ),
    completionMask: tensor(
      rows.map(({ mask }) => mask),
      0,
    ),
  };
}

/** Log-probability of each token of completions given those before it, 0 elsewhere: [B, T-1]. */
export function tokenLogps(
  model: CausalLM,
  { inputIds, attentionMask, completionMask }: TensorBatch,
): tf.Tensor2D {
  const options = { attentionMask: attentionMask as tf.Tensor2D };
  const { logits } = model.forward(inputIds as tf.Tensor2D, options); // [B, virtual + T, V]
  const [batch, length] = inputIds!.shape as [number, number];
  const [, total, size] = logits.shape;
  const ofText = tf.slice(logits, [0, total - length, 0], [batch, length - 1, size]);
  const guesses = tf.reshape(ofText, [-1, size]);
  const targets = tf.slice(inputIds!, [0, 1], [batch, length - 1]); // [B, T-1]
  const losses = crossEntropy(guesses, tf.reshape(targets, [-1]), { reduction: 'none' }); // [B * (T-1)]
  const counted = completionWeights({ completionMask: completionMask! }); // [B, T-1]
  return tf.mul(tf.neg(tf.reshape(losses, [batch, length - 1])), counted) as tf.Tensor2D;
}

/** 1 for each token that is predicted and of a completion, [B, T-1]. */
export function completionWeights({ completionMask }: TensorBatch): tf.Tensor2D {
  const [batch, length] = completionMask!.shape as [number, number];
  return tf.cast(tf.slice(completionMask!, [0, 1], [batch, length - 1]), 'float32') as tf.Tensor2D;
}

/** Sums of log-probabilities of completions, [B]. */
export function sequenceLogps(model: CausalLM, batch: TensorBatch): tf.Tensor1D {
  return tf.sum(tokenLogps(model, batch), 1) as tf.Tensor1D;
}

/** The two halves of [2B, ...]: chosen and rejected. */
export function halves(x: tf.Tensor): [tf.Tensor, tf.Tensor] {
  return tf.split(x, 2) as [tf.Tensor, tf.Tensor];
}
