// What prefix and prompt tuning share: learned vectors before the text, and a model that is called
// with them. Callers see a cache, a mask and positions of the text alone.
import * as tf from '@tensorflow/tfjs';
import type { KeyValue } from '../nn/attention.ts';
import { Module } from '../nn/module.ts';
import type { RandomState } from '../tensor/random.ts';
import type { CommonOptions } from './peft-config.ts';

/** Optional inputs of a base model, of those that a prompt changes. */
export interface BaseOptions {
  attentionMask?: tf.Tensor2D;
  positionIds?: tf.Tensor2D;
  pastKeyValues?: KeyValue[];
  inputsEmbeds?: tf.Tensor3D;
  useCache?: boolean;
}

/** What a base model gives. */
export interface BaseOutput {
  logits: tf.Tensor;
  pastKeyValues?: KeyValue[];
}

/** A model that can be adapted. */
export interface BaseModel extends Module {
  readonly config: object;
  readonly supportsStaticCache?: boolean;
  forward(inputIds: tf.Tensor2D | null, options?: BaseOptions): BaseOutput;
}

/** Fields of both configs; those of the model's shape are filled in from the base model. */
export interface PromptOptions extends CommonOptions {
  /** Learned vectors before the text. */
  numVirtualTokens: number;
  tokenDim?: number | null;
  numLayers?: number | null;
  numAttentionHeads?: number | null;
}

/** A config whose adapter is an encoder of virtual tokens. */
export interface PromptConfig extends Required<CommonOptions> {
  readonly peftType: 'PREFIX_TUNING' | 'PROMPT_TUNING';
  readonly numVirtualTokens: number;
  /** Fills in the model's shape and makes the encoder; undefined `random` leaves it zero. */
  createEncoder(
    base: BaseModel,
    random: RandomState | undefined,
    encode?: (text: string) => readonly number[],
  ): PromptEncoder;
}

/** Virtual tokens, and how a model is called with them. */
export abstract class PromptEncoder extends Module {
  abstract readonly numVirtualTokens: number;

  /** What is saved as `prompt_embeddings`; call it in a tidy. */
  abstract promptEmbeddings(): tf.Tensor2D;

  /** The variable that a file's `prompt_embeddings` goes into. */
  abstract get loadable(): tf.Variable;

  /** Calls the model with the virtual tokens before the text. */
  abstract forward(base: BaseModel, ids: tf.Tensor2D | null, options: BaseOptions): BaseOutput;
}

/** Sizes of a model, in the names of Llama's config or GPT-2's. */
export function modelShape(config: object): {
  hiddenSize: number;
  numLayers: number;
  numHeads: number;
  numKeyValueHeads: number;
  headDim: number;
} {
  const fields = config as Record<string, number | undefined>;
  const hiddenSize = (fields.hiddenSize ?? fields.nEmbd)!;
  const numHeads = (fields.numAttentionHeads ?? fields.nHead)!;
  return {
    hiddenSize,
    numLayers: (fields.numHiddenLayers ?? fields.nLayer)!,
    numHeads,
    numKeyValueHeads: fields.numKeyValueHeads ?? numHeads,
    headDim: fields.headDim ?? hiddenSize / numHeads,
  };
}

/** Calls a model with keys and values before the text's own. */
export function forwardWithPrefix(
  base: BaseModel,
  ids: tf.Tensor2D | null,
  options: BaseOptions,
  prefix: KeyValue[],
): BaseOutput {
  const length = prefix[0]!.key.shape[2];
  const { pastKeyValues: past } = options;
  const output = base.forward(ids, {
    ...shifted(options, prefix[0]!.key.shape[0], length),
    pastKeyValues: past ? prefix.map((before, i) => joined(before, past[i]!)) : prefix,
  });
  return withoutPrefix(output, length);
}

/** Mask and positions that count `length` virtual tokens. */
export function shifted(options: BaseOptions, batch: number, length: number): BaseOptions {
  const { attentionMask: mask, positionIds, ...rest } = options;
  const ones = () => tf.ones([batch, length], mask!.dtype as 'int32');
  return {
    ...rest,
    ...(mask ? { attentionMask: tf.concat([ones(), mask], 1) as tf.Tensor2D } : {}),
    ...(positionIds
      ? { positionIds: tf.add(positionIds, tf.scalar(length, 'int32')) as tf.Tensor2D }
      : {}),
  };
}

/** An output whose cache lacks the first `length` positions. */
export function withoutPrefix(output: BaseOutput, length: number): BaseOutput {
  if (!output.pastKeyValues) return output;
  const cut = (x: tf.Tensor4D) => tf.slice(x, [0, 0, length, 0], [-1, -1, -1, -1]);
  const pastKeyValues = output.pastKeyValues.map(({ key, value }) => ({
    key: cut(key),
    value: cut(value),
  }));
  return { ...output, pastKeyValues };
}

const joined = (before: KeyValue, after: KeyValue): KeyValue => ({
  key: tf.concat([before.key, after.key], 2),
  value: tf.concat([before.value, after.value], 2),
});
