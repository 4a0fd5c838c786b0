// Log-probabilities of completions, as TRL sums them: log p(token | tokens before it) over the tokens
// of a completion. Shared by the trainers of preferences.
import * as tf from '@tensorflow/tfjs';
import type { CausalLM } from '../models/causal-lm.ts';
import { crossEntropy } from '../nn/functional.ts';
import { following, isPlace, learntPlaces } from './learnt-places.ts';
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
  /** Whether the model can compute logits at some positions only. */
  canPick?: boolean;
}

/**
 * inputIds, attentionMask and completionMask [B, T], padded on the right, and where completions leave
 * much of a batch, the `places` [B, K] before their tokens.
 */
export function collateCompletions(
  completions: readonly Completion[],
  options: CompletionOptions,
): TensorBatch {
  const { padTokenId, padToMultipleOf, maxLength, truncationMode = 'keep_start' } = options;
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
  const isLearnt = rows.map(({ mask }) => Array.from({ length }, (_, t) => mask[t] === 1));
  const places = options.canPick ? learntPlaces(isLearnt) : undefined;
  return {
    ...(places && { places: tensor(places, -1) }),
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

/**
 * Log-probability of each token of completions given those before it, 0 elsewhere: [B, T-1], or [B, K]
 * at the places of a batch.
 */
export function tokenLogps(model: CausalLM, batch: TensorBatch): tf.Tensor2D {
  const { inputIds, attentionMask, places } = batch;
  const [rows, length] = inputIds!.shape as [number, number];
  const options = {
    attentionMask: attentionMask as tf.Tensor2D,
    ...(places && { logitsAt: tf.maximum(places, tf.scalar(0, 'int32')) as tf.Tensor2D }),
  };
  const { logits } = model.forward(inputIds as tf.Tensor2D, options); // [B, K or virtual + T, V]
  const [, total, size] = logits.shape;
  const guesses = places
    ? logits
    : tf.slice(logits, [0, total - length, 0], [rows, length - 1, size]);
  const targets = places
    ? following(inputIds!, places)
    : tf.slice(inputIds!, [0, 1], [rows, length - 1]); // [B, K or T-1]
  const losses = crossEntropy(tf.reshape(guesses, [-1, size]), tf.reshape(targets, [-1]), {
    reduction: 'none',
  });
  return tf.mul(tf.neg(tf.reshape(losses, targets.shape)), completionWeights(batch)) as tf.Tensor2D;
}

/** 1 for each token that is predicted and of a completion, [B, T-1], or [B, K] at places. */
export function completionWeights({ completionMask, places }: TensorBatch): tf.Tensor2D {
  if (places) return isPlace(places);
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
