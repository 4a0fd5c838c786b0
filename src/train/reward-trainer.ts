// RewardTrainer: a number for each text, trained so that the chosen one of a pair has the higher:
// -log sigmoid(r_chosen - r_rejected) (Bradley and Terry 1952), as TRL's RewardTrainer.
import * as tf from '@tensorflow/tfjs';
import {
  type PreferenceIds,
  type PreferenceRow,
  tokenizePreferences,
} from '../data/preference-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { ModelConfig } from '../models/config.ts';
import type { Module } from '../nn/module.ts';
import { logSigmoid } from './dpo-loss.ts';
import { collatePairs, pairTokens } from './dpo-trainer.ts';
import { halves } from './sequence-logps.ts';
import type { TrainingArguments } from './training-arguments.ts';
import { type LoopOptions, TrainingLoop } from './training-loop.ts';

/** A model with one score a text: ForSequenceClassification with numLabels 1, or an adapted one. */
export interface RewardModel extends Module {
  readonly config: ModelConfig;
  forward(ids: tf.Tensor2D, options: { attentionMask: tf.Tensor2D }): { logits: tf.Tensor };
}

/** TRL's RewardConfig: the learning rate is 1e-4 by default. */
export interface RewardConfig extends TrainingArguments {
  /** Longest text in tokens. Default 1024. */
  maxLength?: number;
  /** Weight of mean((r_chosen + r_rejected)^2), which keeps scores near 0. Default: none. */
  centerRewardsCoefficient?: number;
}

/** What RewardTrainer takes. */
export interface RewardTrainerOptions
  extends Omit<LoopOptions<PreferenceIds>, 'trainDataset' | 'evalDataset' | 'args'> {
  model: RewardModel;
  args?: RewardConfig;
  processingClass: Tokenizer;
  trainDataset: Iterable<PreferenceRow>;
  evalDataset?: Iterable<PreferenceRow>;
}

/** Trains a reward model on pairs. */
export class RewardTrainer extends TrainingLoop<PreferenceIds> {
  readonly model: RewardModel;

  constructor({ model, args = {}, processingClass: tokenizer, ...options }: RewardTrainerOptions) {
    const { trainDataset, evalDataset, ...rest } = options;
    const collate = {
      padTokenId: tokenizer.padTokenId ?? tokenizer.eosTokenId ?? 0,
      padToMultipleOf: args.padToMultipleOf ?? 8,
      maxLength: args.maxLength ?? 1024,
    };
    const center = args.centerRewardsCoefficient ?? 0;
    super(
      {
        model,
        mean: 'batches',
        collate: (rows) => collatePairs(rows, collate),
        count: (rows) => rows.length,
        tokens: pairTokens,
        loss: ({ inputIds, attentionMask }) => {
          const mask = attentionMask as tf.Tensor2D;
          const { logits } = model.forward(inputIds as tf.Tensor2D, { attentionMask: mask });
          const [chosen, rejected] = halves(tf.reshape(logits, [-1])); // [B]
          const gap = tf.sub(chosen, rejected);
          const loss = tf.neg(tf.sum(logSigmoid(gap)));
          const sums = tf.mul(tf.sum(tf.square(tf.add(chosen, rejected))), center);
          const accuracy = tf.mean(tf.cast(tf.greater(gap, 0), 'float32'));
          return {
            loss: tf.add(loss, sums) as tf.Scalar,
            metrics: { accuracy: accuracy as tf.Scalar, margin: tf.mean(gap) as tf.Scalar },
          };
        },
      },
      {
        ...rest,
        trainDataset: tokenizePreferences(trainDataset, tokenizer),
        ...(evalDataset && { evalDataset: tokenizePreferences(evalDataset, tokenizer) }),
        args: { learningRate: 1e-4, ...args },
      },
    );
    this.model = model;
  }
}
