// What every causal language model here offers: ids in, logits out, in transformers' conventions.
import * as tf from '@tensorflow/tfjs';
import { cachePositions, type KeyValue, type StaticCache } from '../nn/attention.ts';
import { Embedding } from '../nn/embedding.ts';
import { crossEntropy } from '../nn/functional.ts';
import type { Module } from '../nn/module.ts';
import type { ModelConfig } from './config.ts';

/** Optional inputs of a forward pass. */
export interface ForwardOptions {
  /**
   * [B, S] over past and new positions, 1 for tokens and 0 for padding; default all 1. [B, T, S] tells
   * what each position may see of those before it.
   */
  attentionMask?: tf.Tensor2D | tf.Tensor3D;
  /** [B or 1, T] int32; default: counted on from the past, whatever the mask. */
  positionIds?: tf.Tensor2D;
  /** Keys and values of earlier positions, one entry a layer. */
  pastKeyValues?: KeyValue[];
  /** A cache of fixed size in the place of `pastKeyValues`; rows count on from their own lengths. */
  cache?: StaticCache;
  /**
   * Of each row, the new position whose logits are wanted, [B] int32, or several, [B, K]; logits are
   * [B, 1, V] or [B, K, V].
   */
  logitsAt?: tf.Tensor1D | tf.Tensor2D;
  /** Vectors [B, T, C] in the place of `inputIds`, which must then be null. */
  inputsEmbeds?: tf.Tensor3D;
  /** Return keys and values for the next call. Default false. */
  useCache?: boolean;
  /** Return what enters each layer and, last, what leaves the final norm. Default false. */
  outputHiddenStates?: boolean;
}

/** What a forward pass returns. */
export type CausalLMOutput = {
  /** [B, T, V] */
  logits: tf.Tensor3D;
  /** One a layer, with `useCache`. */
  pastKeyValues?: KeyValue[];
  /** layers + 1 tensors [B, T, C], with `outputHiddenStates`. */
  hiddenStates?: tf.Tensor3D[];
};

/** A causal language model: `inputIds` [B, T] int32 to logits [B, T, V], a pure function. */
export interface CausalLM extends Module {
  readonly config: ModelConfig;
  /** Whether `forward` takes `cache` and `logitsAt`. */
  readonly supportsStaticCache?: boolean;
  /** What `forward` depends on besides its inputs and parameters, such as adapters that are active. */
  readonly forwardKey?: string;
  /** Logits that come before those of the text: prompt tuning's. Default 0. */
  readonly promptLength?: number;
  forward(inputIds: tf.Tensor2D | null, options?: ForwardOptions): CausalLMOutput;
}

/** Positions [1, T] that count on from `past`, for models that were given none. */
export function nextPositions(past: number, length: number): tf.Tensor2D {
  return tf.tensor2d(
    Int32Array.from({ length }, (_, i) => past + i),
    [1, length],
    'int32',
  );
}

/** Positions [B or 1, T] of new tokens, as the options of a forward pass tell them. */
export function newPositions(options: ForwardOptions, past: number, length: number): tf.Tensor2D {
  const { positionIds, cache, logitsAt } = options;
  if (positionIds) return positionIds;
  if (!cache) return nextPositions(past, length);
  const positions = cachePositions(cache.lengths, length); // [B, T]
  if (!logitsAt) return positions;
  // What follows the wanted position is padding, and must not count as a longer text.
  const at = tf.max(tf.reshape(logitsAt, [logitsAt.shape[0], -1]), 1); // [B]
  const last = tf.expandDims(tf.add(cache.lengths, at), 1); // [B, 1]
  return tf.minimum(positions, last) as tf.Tensor2D;
}

/** Of states [B, T, C], those at `logitsAt` [B] or [B, K] as [B, 1 or K, C]; all of them without it. */
export function wantedStates(
  states: tf.Tensor,
  logitsAt: tf.Tensor1D | tf.Tensor2D | undefined,
): tf.Tensor {
  if (!logitsAt) return states;
  const [batch, length, width] = states.shape as [number, number, number];
  const starts = tf.mul(tf.range(0, batch, 1, 'int32'), tf.scalar(length, 'int32')); // [B]
  const places = tf.add(tf.reshape(starts, [batch, 1]), tf.reshape(logitsAt, [batch, -1])); // [B, K]
  const rows = tf.gather(tf.reshape(states, [-1, width]), tf.reshape(places, [-1]) as tf.Tensor1D); // [B * K, C]
  return tf.reshape(rows, [batch, -1, width]);
}

/** Positions [B, T] that count real tokens only, 0 on padding: max(cumsum(mask) - 1, 0). */
export function maskedPositions(attentionMask: tf.Tensor2D): tf.Tensor2D {
  const counted = tf.sub(tf.cumsum(tf.cast(attentionMask, 'int32'), 1), 1); // [B, T]
  return tf.cast(tf.maximum(counted, 0), 'int32') as tf.Tensor2D;
}

/**
 * Cross entropy of each token given those before it: logits [B, T, V] at t against labels [B, T] at
 * t + 1, averaged over labels that are not -100.
 */
export function causalLMLoss(logits: tf.Tensor3D, labels: tf.Tensor2D): tf.Scalar {
  const [batch, length, size] = logits.shape;
  const guesses = tf.slice(logits, [0, 0, 0], [batch, length - 1, size]); // [B, T-1, V]
  const targets = tf.slice(labels, [0, 1], [batch, length - 1]); // [B, T-1]
  return crossEntropy(tf.reshape(guesses, [-1, size]), tf.reshape(targets, [-1])) as tf.Scalar;
}

/** The sum of all parameters' sizes, each counted once, as transformers' num_parameters. */
export function numParameters(
  model: Module,
  { onlyTrainable = false, excludeEmbeddings = false } = {},
): number {
  const left = new Set<tf.Tensor>();
  for (const [, module] of model.namedModules()) {
    if (excludeEmbeddings && module instanceof Embedding) left.add(module.weight);
  }
  return model
    .parameters()
    .filter((parameter) => !left.has(parameter) && (parameter.trainable || !onlyTrainable))
    .reduce((sum, parameter) => sum + parameter.size, 0);
}
