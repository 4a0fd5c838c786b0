// RouterTrainer: the router of a RoutedModel, trained with frozen experts by the language model's loss
// through their mixture, the experts' names where rows tell them, and the load-balancing loss:
// L = a CE(next token) + b CE(expert) + c balance.
import * as tf from '@tensorflow/tfjs';
import { collate } from '../data/collator.ts';
import type { TokenRow } from '../data/packing.ts';
import { crossEntropy, IGNORE_INDEX } from '../nn/functional.ts';
import type { RoutedModel } from '../peft/routed-model.ts';
import { loadBalancingLoss, type Routing } from '../peft/router.ts';
import { countLabels } from './causal-lm-task.ts';
import { following, learntPlaces } from './learnt-places.ts';
import { type LoopOptions, TrainingLoop, type TrainingTask } from './training-loop.ts';
import type { BatchLoss, TensorBatch } from './training-step.ts';

/** Ids and labels; what stands before the first label is the prompt that the router sees. */
export interface RoutedRow extends TokenRow {
  /** The adapter that should serve it, where that is known. */
  expert?: string;
}

/** How much each part of the loss counts. */
export interface RouterLossWeights {
  /** Next tokens, through the experts. 0 runs no experts at all. Default 1. */
  language?: number;
  /** The expert that a row names. Default 0. */
  expert?: number;
  /** Default 0.01, as in the Switch Transformer. */
  balance?: number;
}

/** What RouterTrainer takes. */
export interface RouterTrainerOptions extends LoopOptions<RoutedRow> {
  model: RoutedModel;
  lossWeights?: RouterLossWeights;
  padTokenId?: number;
}

/** Trains a router; `train` and `evaluate` are those of TrainingLoop. */
export class RouterTrainer extends TrainingLoop<RoutedRow> {
  readonly model: RoutedModel;

  /** Throws if a row names an expert that the router does not have. */
  constructor({ model, lossWeights = {}, padTokenId = 0, ...options }: RouterTrainerOptions) {
    const { language = 1, expert = 0, balance = 0.01 } = lossWeights;
    for (let i = 0; i < options.trainDataset.length; i++) {
      const name = options.trainDataset.at(i)!.expert;
      if (name !== undefined && !model.experts.includes(name)) {
        throw new RangeError(
          `Row ${i} names expert '${name}', the router has ${model.experts.join(', ')}`,
        );
      }
    }
    super(routerTask(model, { language, expert, balance }, padTokenId), options);
    this.model = model;
  }
}

function routerTask(
  model: RoutedModel,
  weights: Required<RouterLossWeights>,
  padTokenId: number,
): TrainingTask<RoutedRow> {
  return {
    model,
    mean: 'batches',
    dropout: false,
    collate: (rows) => collateRouted(rows, model, padTokenId),
    loss: (batch) => routerLoss(model, batch, weights),
    count: (rows) => rows.reduce((sum, row) => sum + countLabels(row), 0),
    tokens: ({ inputIds }) => inputIds.length,
  };
}

function collateRouted(
  rows: readonly RoutedRow[],
  { experts, model }: RoutedModel,
  padTokenId: number,
): TensorBatch {
  const { inputIds, labels, attentionMask } = collate(rows, { padTokenId });
  const prompts = labels.map((list, i) => {
    const start = list.findIndex((label) => label !== IGNORE_INDEX);
    return attentionMask[i]!.map((one, t) => (start < 0 || t < start ? one : 0));
  });
  const numbers = rows.map(({ expert }) =>
    expert === undefined ? IGNORE_INDEX : experts.indexOf(expert),
  );
  const table = (values: number[][]) => tf.tensor2d(values, undefined, 'int32');
  const places = model.supportsStaticCache
    ? learntPlaces(labels.map((list) => list.map((label) => label !== IGNORE_INDEX)))
    : undefined;
  return {
    inputIds: table(inputIds),
    labels: table(labels),
    ...(places && { places: table(places) }), // [B, K], -1 where there are fewer
    attentionMask: table(attentionMask),
    promptMask: table(prompts),
    experts: tf.tensor1d(numbers, 'int32'),
  };
}

/** The loss of a batch times its labels, since the loop divides by them. */
function routerLoss(
  model: RoutedModel,
  batch: TensorBatch,
  { language, expert, balance }: Required<RouterLossWeights>,
): BatchLoss {
  const ids = batch.inputIds as tf.Tensor2D;
  const attentionMask = batch.attentionMask as tf.Tensor2D;
  const { labels, places } = batch;
  const options = {
    attentionMask,
    promptMask: batch.promptMask as tf.Tensor2D,
    ...(places && { logitsAt: tf.maximum(places, tf.scalar(0, 'int32')) as tf.Tensor2D }),
  };
  const { routing, logits } =
    language > 0
      ? model.forward(ids, options)
      : { routing: model.route(ids, options), logits: undefined };
  const next = places ? labelsAt(labels!, places) : tf.slice(labels!, [0, 1], [-1, -1]);
  const targets = tf.reshape(next, [-1]); // [B * K] or [B * (T-1)]
  const counted = tf.cast(tf.notEqual(targets, tf.scalar(IGNORE_INDEX, 'int32')), 'float32');
  const items = tf.sum(counted);
  const isToken = routing.logits.shape[1] > 1;
  const balanced = loadBalancingLoss(routing, isToken ? attentionMask : undefined);
  const named = expertLoss(routing, batch.experts as tf.Tensor1D);
  const extra = tf.add(tf.mul(balanced, balance), tf.mul(named.loss, expert));
  const extras = tf.mul(extra, items) as tf.Scalar;
  const metrics = { balance: balanced, expertAccuracy: named.accuracy };
  if (!logits) return { loss: extras, metrics };
  const [, , size] = logits.shape;
  const guesses = tf.reshape(tf.slice(logits, [0, 0, 0], [-1, next.shape[1]!, -1]), [-1, size]);
  const spoken = crossEntropy(guesses, targets, { reduction: 'sum' });
  return { loss: tf.add(tf.mul(spoken, language), extras) as tf.Scalar, metrics };
}

/** The labels [B, T] of the tokens after each place [B, K]; none at places below 0. */
function labelsAt(labels: tf.Tensor, places: tf.Tensor): tf.Tensor {
  const none = tf.fill(places.shape, IGNORE_INDEX, 'int32');
  const isReal = tf.greaterEqual(places, tf.scalar(0, 'int32'));
  return tf.where(isReal, following(labels, places), none);
}

/** Cross entropy of the experts that rows name, and the share that is right; 0 where none does. */
function expertLoss({ logits }: Routing, experts: tf.Tensor1D) {
  const mean = tf.mean(logits, 1) as tf.Tensor2D; // [B, E]
  const isNamed = tf.cast(tf.notEqual(experts, tf.scalar(IGNORE_INDEX, 'int32')), 'float32'); // [B]
  const count = tf.maximum(tf.sum(isNamed), 1);
  const isRight = tf.cast(tf.equal(tf.argMax(mean, 1), experts), 'float32'); // [B]
  return {
    loss: tf.div(crossEntropy(mean, experts, { reduction: 'sum' }), count) as tf.Scalar,
    accuracy: tf.div(tf.sum(tf.mul(isRight, isNamed)), count) as tf.Scalar,
  };
}
