// ORPOTrainer: the loss of the chosen text and the odds ratio of orpo-loss.ts, without a reference.
// Log-probabilities are means over completions, the chosen loss is that of prompt and completion.
import * as tf from '@tensorflow/tfjs';
import {
  type PreferenceIds,
  type PreferenceRow,
  tokenizePreferences,
} from '../data/preference-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { collatePairs, completionOptions, pairTokens, withRoom } from './dpo-trainer.ts';
import { orpoLoss } from './orpo-loss.ts';
import { completionWeights, halves, tokenLogps } from './sequence-logps.ts';
import type { TrainingArguments } from './training-arguments.ts';
import { type LoopOptions, TrainingLoop } from './training-loop.ts';

/** TRL's ORPOConfig: the learning rate is 1e-6 by default. */
export interface ORPOConfig extends TrainingArguments {
  /** Weight of the odds ratio. Default 0.1. */
  beta?: number;
  maxLength?: number;
}

/** What ORPOTrainer takes. */
export interface ORPOTrainerOptions
  extends Omit<LoopOptions<PreferenceIds>, 'trainDataset' | 'evalDataset' | 'args'> {
  model: CausalLM;
  args?: ORPOConfig;
  processingClass: Tokenizer;
  trainDataset: Iterable<PreferenceRow>;
}

/** Trains on pairs without a reference. */
export class ORPOTrainer extends TrainingLoop<PreferenceIds> {
  constructor({ model, args = {}, processingClass, trainDataset, ...rest }: ORPOTrainerOptions) {
    const collate = { ...completionOptions(model, processingClass, args), canPick: false };
    const { beta = 0.1 } = args;
    super(
      {
        model,
        mean: 'batches',
        collate: (rows) => collatePairs(rows, collate),
        count: (rows) => rows.length,
        tokens: pairTokens,
        loss: (batch) => {
          const [size] = batch.inputIds!.shape as [number];
          const everything = { ...batch, completionMask: batch.attentionMask! };
          const all = tokenLogps(model, everything); // [2B, T-1]
          const weights = completionWeights(batch); // [2B, T-1]
          const means = tf.div(tf.sum(tf.mul(all, weights), 1), tf.sum(weights, 1)); // [2B]
          const [chosen, rejected] = halves(means);
          const [chosenAll] = halves(all);
          const [counted] = halves(completionWeights(everything));
          const chosenLoss = tf.neg(tf.div(tf.sum(chosenAll), tf.sum(counted)));
          const loss = orpoLoss(chosen, rejected, chosenLoss, { beta });
          return {
            loss: tf.mul(loss, size / 2) as tf.Scalar,
            metrics: {
              'logps/chosen': tf.mean(chosen) as tf.Scalar,
              'logps/rejected': tf.mean(rejected) as tf.Scalar,
            },
          };
        },
      },
      {
        ...rest,
        trainDataset: withRoom(tokenizePreferences(trainDataset, processingClass), collate),
        args: { learningRate: 1e-6, ...args },
      },
    );
  }
}
