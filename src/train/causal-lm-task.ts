// What Trainer and SFTTrainer train: rows of ids and labels, cross entropy of each label given the
// tokens before it, summed. Packed rows see only their own text, and count positions anew.
import * as tf from '@tensorflow/tfjs';
import { collate } from '../data/collator.ts';
import type { TokenRow } from '../data/packing.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { crossEntropy } from '../nn/functional.ts';
import type { Rows } from './batch-sampler.ts';
import { dropoutVariables } from './dropout-variables.ts';
import { learntPlaces } from './learnt-places.ts';
import type { TrainingTask } from './training-loop.ts';
import type { BatchLoss, TensorBatch } from './training-step.ts';

const IGNORED = -100;

/** How rows become batches. */
export interface CausalTaskOptions {
  /** What stands on padding; any id will do, since it has no label. Default 0. */
  padTokenId?: number | undefined;
  /** Lengths are rounded up to a multiple of this, within the model's limit. Default 8. */
  padToMultipleOf?: number | undefined;
  /** Whether the mean token accuracy is logged, which costs an argmax over the vocabulary. */
  logAccuracy?: boolean | undefined;
  /**
   * Divides a step's loss by all labels, as transformers' num_items_in_batch: also by that of a row's
   * first token, which nothing predicts. Default false: by the labels that are predicted.
   */
  countsFirstLabels?: boolean | undefined;
}

/** The task of training `model` on rows of ids and labels. */
export function causalLMTask(
  model: CausalLM,
  options: CausalTaskOptions = {},
): TrainingTask<TokenRow> {
  const { padTokenId = 0, padToMultipleOf = 8, logAccuracy = false } = options;
  const limit = lengthLimit(model);
  return {
    model,
    mean: 'items',
    collate: (rows) => {
      const canPick = model.supportsStaticCache === true;
      const isPrompted = hasPrompt(model);
      return collateRows(rows, { padTokenId, padToMultipleOf, limit, canPick, isPrompted });
    },
    loss: (batch) => causalLoss(model, batch, logAccuracy),
    count: (rows, _, isTraining) => {
      const all = hasPrompt(model) || (isTraining && options.countsFirstLabels === true);
      return rows.reduce((sum, row) => sum + (all ? countAll(row) : countLabels(row)), 0);
    },
    tokens: ({ inputIds }) => inputIds.length,
    variables: () => dropoutVariables(model),
  };
}

/** Labels of a row that are learnt: those of each packed text but its first token's. */
export function countLabels({
  inputIds,
  labels,
  seqLengths = [inputIds.length],
}: TokenRow): number {
  const starts = new Set(startsOf(seqLengths));
  return labels.filter((label, i) => label !== IGNORED && !starts.has(i)).length;
}

/** The same with the first label of a row that holds one text. */
function countAll(row: TokenRow): number {
  const isPacked = (row.seqLengths?.length ?? 1) > 1;
  return countLabels(row) + (!isPacked && (row.labels[0] ?? IGNORED) !== IGNORED ? 1 : 0);
}

/** The longest row that a model takes. */
export function lengthLimit({ config }: CausalLM): number {
  return 'nPositions' in config ? config.nPositions : config.maxPositionEmbeddings;
}

/** Throws if a row is longer than the model takes, or has not a label for each id. */
export function checkTokenRows(rows: Rows<TokenRow>, limit: number): void {
  for (let i = 0; i < rows.length; i++) {
    const { inputIds, labels } = rows.at(i)!;
    if (inputIds.length > limit) {
      throw new RangeError(`Row ${i} has ${inputIds.length} tokens, the model takes ${limit}`);
    }
    if (inputIds.length !== labels.length) {
      throw new RangeError(
        `Row ${i} must have a label for each id, got ${labels.length} for ${inputIds.length}`,
      );
    }
  }
}

interface CollateOptions {
  padTokenId: number;
  padToMultipleOf: number;
  /** The longest row that the model takes. */
  limit: number;
  /** Whether the model can compute logits at some positions only. */
  canPick: boolean;
  /** Whether something comes before a row's first token, so that it is predicted too. */
  isPrompted: boolean;
}

/** Whether prompt tuning's tokens come before the text's. */
const hasPrompt = (model: CausalLM) => (model.promptLength ?? 0) > 0;

/**
 * Rows as tensors; packed ones with the number of each token's text, 0 on padding, and positions.
 * `targets` are the tokens to predict at all positions but the last, or only at `places`.
 */
function collateRows(
  rows: readonly TokenRow[],
  { padTokenId, padToMultipleOf, limit, canPick, isPrompted }: CollateOptions,
): TensorBatch {
  const longest = Math.max(...rows.map(({ inputIds }) => inputIds.length));
  const rounded = Math.ceil(longest / padToMultipleOf) * padToMultipleOf;
  const step = Math.max(1, Math.min(rounded, limit));
  const isPacked = rows.some(({ seqLengths = [] }) => seqLengths.length > 1);
  const batch = collate(rows, { padTokenId, padToMultipleOf: step, returnPositionIds: isPacked });
  const tensor = (values: number[][]) => tf.tensor2d(values, undefined, 'int32');
  const labels = batch.labels.map((list, i) => withoutStarts(list, rows[i]!));
  const places = canPick
    ? learntPlaces(labels.map((list) => list.map((label) => label !== IGNORED)))
    : undefined;
  const at = (list: number[], place: number) => (place < 0 ? IGNORED : list[place + 1]!);
  const wanted = places
    ? {
        places: tensor(places.map((list) => list.map((place) => Math.max(place, 0)))),
        targets: tensor(labels.map((list, i) => places[i]!.map((place) => at(list, place)))),
      }
    : { targets: tensor(isPrompted ? batch.labels : labels.map((list) => list.slice(1))) };
  const inputIds = tensor(batch.inputIds);
  if (!isPacked) return { inputIds, ...wanted, attentionMask: tensor(batch.attentionMask) };
  const texts = rows.map((row) => pad(textNumbers(row), step));
  return { inputIds, ...wanted, texts: tensor(texts), positionIds: tensor(batch.positionIds!) };
}

/** Labels without those that follow another text. */
function withoutStarts(labels: number[], { seqLengths = [] }: TokenRow): number[] {
  const starts = new Set(startsOf(seqLengths));
  return labels.map((label, i) => (starts.has(i) ? IGNORED : label));
}

function startsOf(lengths: readonly number[]): number[] {
  let at = 0;
  return lengths.map((length) => {
    at += length;
    return at - length;
  });
}

/** 1, 1, 2, 2, 2, ...: which of the packed texts each token is of. */
function textNumbers({ inputIds, seqLengths = [inputIds.length] }: TokenRow): number[] {
  return seqLengths.flatMap((length, i) => Array<number>(length).fill(i + 1));
}

const pad = (list: number[], length: number) => [
  ...list,
  ...Array<number>(length - list.length).fill(0),
];

function causalLoss(
  model: CausalLM,
  { inputIds, targets: wanted, places, attentionMask, texts, positionIds }: TensorBatch,
  logAccuracy: boolean,
): BatchLoss {
  const options = texts
    ? { attentionMask: sameText(texts), positionIds: positionIds as tf.Tensor2D }
    : { attentionMask: attentionMask as tf.Tensor2D };
  const { logits } = model.forward(inputIds as tf.Tensor2D, {
    ...options,
    ...(places && { logitsAt: places as tf.Tensor2D }),
  }); // [B, K, V] or [B, virtual + T, V]
  const picked = places ? logits : guesses(logits, wanted!.shape[1]!); // [B, K, V]
  const flat = tf.reshape(picked, [-1, logits.shape[2]]);
  const targets = tf.reshape(wanted!, [-1]); // [B * K], K = T - 1, or T after a prompt
  const loss = crossEntropy(flat, targets, { reduction: 'sum' }) as tf.Scalar;
  if (!logAccuracy) return { loss };
  const isLearnt = tf.cast(tf.notEqual(targets, tf.scalar(IGNORED, 'int32')), 'float32');
  const isRight = tf.cast(tf.equal(tf.argMax(flat, 1), targets), 'float32');
  const share = tf.div(tf.sum(tf.mul(isRight, isLearnt)), tf.maximum(tf.sum(isLearnt), 1));
  return { loss, metrics: { meanTokenAccuracy: share as tf.Scalar } };
}

/** The logits of `count` positions before the last, which predict as many tokens, [B, count, V]. */
function guesses(logits: tf.Tensor3D, count: number): tf.Tensor3D {
  const [batch, total, size] = logits.shape;
  return tf.slice(logits, [0, total - 1 - count, 0], [batch, count, size]);
}

/** 1 where two positions are of one text, [B, T, T]. */
function sameText(texts: tf.Tensor): tf.Tensor3D {
  const [of, seen] = [tf.expandDims(texts, 2), tf.expandDims(texts, 1)];
  return tf.cast(tf.equal(of, seen), 'float32') as tf.Tensor3D; // [B, T, T]
}
