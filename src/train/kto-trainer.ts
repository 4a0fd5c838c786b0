// KTOTrainer: completions that are wanted or not, each alone, with the loss of kto-loss.ts. How far
// policy and reference are apart is measured on mismatched completions: each prompt with the answer
// of the row before it in the batch, as TRL pairs them.
import * as tf from '@tensorflow/tfjs';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { completionOptions } from './dpo-trainer.ts';
import { type KTOLossOptions, ktoLoss } from './kto-loss.ts';
import { makeReference, type ReferenceKind } from './reference.ts';
import { type Completion, collateCompletions, halves, sequenceLogps } from './sequence-logps.ts';
import type { TrainingArguments } from './training-arguments.ts';
import { type LoopOptions, TrainingLoop } from './training-loop.ts';

/** A completion and whether it is wanted. */
export interface KTORow {
  prompt: string;
  completion: string;
  label: boolean;
}

/** TRL's KTOConfig: the learning rate is 1e-6 by default. */
export interface KTOConfig extends TrainingArguments, KTOLossOptions {
  maxLength?: number;
  reference?: ReferenceKind;
}

interface KTOIds extends Completion {
  label: boolean;
}

/** What KTOTrainer takes. */
export interface KTOTrainerOptions
  extends Omit<LoopOptions<KTOIds>, 'trainDataset' | 'evalDataset' | 'args'> {
  model: CausalLM;
  refModel?: CausalLM;
  args?: KTOConfig;
  processingClass: Tokenizer;
  trainDataset: Iterable<KTORow>;
}

/** Trains on completions that are wanted or not. Batches need two rows or more. */
export class KTOTrainer extends TrainingLoop<KTOIds> {
  constructor({ model, refModel, args = {}, processingClass, ...options }: KTOTrainerOptions) {
    if (args.perDeviceTrainBatchSize === 1) {
      throw new RangeError('KTO needs perDeviceTrainBatchSize of at least 2, got 1');
    }
    const { trainDataset, ...rest } = options;
    const collate = completionOptions(model, processingClass, args);
    const reference = makeReference(model, { refModel, kind: args.reference ?? 'frozen_copy' });
    super(
      {
        model,
        mean: 'batches',
        dropout: false,
        collate: (rows) => {
          const mismatched = rows.map(({ promptIds }, i) => ({
            promptIds,
            completionIds: rows.at(i - 1)!.completionIds,
          }));
          const wanted = tf.tensor1d(rows.map(({ label }) => Number(label)));
          return { ...collateCompletions([...rows, ...mismatched], collate), wanted };
        },
        count: (rows) => rows.length,
        tokens: ({ promptIds, completionIds }) => promptIds.length + completionIds.length,
        loss: (batch) => {
          const own = sequenceLogps(model, batch); // [2B]
          const ratios = tf.sub(
            own,
            reference.call((ref) => sequenceLogps(ref, batch)),
          );
          const [matched, mismatched] = halves(ratios);
          const loss = ktoLoss(matched, batch.wanted!, mismatched, args);
          return {
            loss: tf.mul(loss, matched.size) as tf.Scalar,
            metrics: { kl: tf.relu(tf.mean(mismatched)) as tf.Scalar },
          };
        },
      },
      {
        ...rest,
        trainDataset: Array.from(trainDataset, (row) => encode(row, processingClass)),
        args: { learningRate: 1e-6, ...args },
      },
    );
  }
}

function encode({ prompt, completion, label }: KTORow, tokenizer: Tokenizer): KTOIds {
  const promptIds = tokenizer.encode(prompt);
  const end = tokenizer.eosToken ?? '';
  const whole = tokenizer.encode(
    prompt + (completion.endsWith(end) ? completion : completion + end),
  );
  return { promptIds, completionIds: whole.slice(promptIds.length), label };
}
