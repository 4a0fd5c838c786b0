// DPOTrainer (Rafailov et al. 2023): pairs of completions, the policy's and the reference's
// log-probabilities, the loss of dpo-loss.ts; batches are [chosen, rejected], as TRL's.
import * as tf from '@tensorflow/tfjs';
import {
  type PreferenceIds,
  type PreferenceRow,
  tokenizePreferences,
} from '../data/preference-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { jit } from '../jit/jit.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { lengthLimit } from './causal-lm-task.ts';
import { type DPOLossOptions, dpoLoss } from './dpo-loss.ts';
import { makeReference, type Reference, type ReferenceKind } from './reference.ts';
import {
  type CompletionOptions,
  collateCompletions,
  completionWeights,
  halves,
  sequenceLogps,
} from './sequence-logps.ts';
import type { TrainingArguments } from './training-arguments.ts';
import { type LoopOptions, TrainingLoop, type TrainingTask } from './training-loop.ts';
import type { BatchLoss, TensorBatch } from './training-step.ts';

/** TRL's DPOConfig: the learning rate is 1e-6 by default, the rest is that of TrainingArguments. */
export interface DPOConfig extends TrainingArguments, DPOLossOptions {
  /** Longest prompt with completion in tokens. Default 1024, or the model's limit. */
  maxLength?: number;
  truncationMode?: 'keep_start' | 'keep_end';
  /** Asks the reference once for each pair before training, not at each step. Default false. */
  precomputeRefLogProbs?: boolean;
  /** Without `refModel`: a frozen copy of what is trained, or the adapter off. Default 'frozen_copy'. */
  reference?: ReferenceKind;
}

/** A pair, and what the reference says of it once it is known. */
export interface PairRow extends PreferenceIds {
  refLogps?: readonly [chosen: number, rejected: number];
}

/** What DPOTrainer takes. */
export interface DPOTrainerOptions
  extends Omit<LoopOptions<PairRow>, 'trainDataset' | 'evalDataset' | 'args'> {
  model: CausalLM;
  /** Default: see DPOConfig.reference. */
  refModel?: CausalLM;
  args?: DPOConfig;
  processingClass: Tokenizer;
  trainDataset: Iterable<PreferenceRow>;
  evalDataset?: Iterable<PreferenceRow>;
}

/** Trains a model to prefer the chosen completion. Dropout is off, as TRL's default. */
export class DPOTrainer extends TrainingLoop<PairRow> {
  readonly model: CausalLM;
  private readonly reference: Reference;
  private readonly lists: PairRow[][];
  private readonly isPrecomputed: boolean;

  constructor({
    model,
    refModel,
    args = {},
    processingClass: tokenizer,
    ...options
  }: DPOTrainerOptions) {
    const { trainDataset, evalDataset, ...rest } = options;
    const collate = completionOptions(model, tokenizer, args);
    const prepare = (rows: Iterable<PreferenceRow>) =>
      withRoom(tokenizePreferences(rows, tokenizer), collate);
    const train: PairRow[] = prepare(trainDataset);
    const evaluation: PairRow[] | undefined = evalDataset && prepare(evalDataset);
    const reference = makeReference(model, { refModel, kind: args.reference ?? 'frozen_copy' });
    super(dpoTask(model, reference, { ...args, collate }), {
      ...rest,
      trainDataset: train,
      ...(evaluation && { evalDataset: evaluation }),
      args: { learningRate: 1e-6, ...args },
    });
    this.model = model;
    this.reference = reference;
    this.lists = evaluation ? [train, evaluation] : [train];
    this.isPrecomputed = args.precomputeRefLogProbs ?? false;
  }

  override async train(options: { resumeFromCheckpoint?: boolean | string } = {}) {
    if (this.isPrecomputed) for (const rows of this.lists) await this.precompute(rows);
    return super.train(options);
  }

  override dispose(): void {
    super.dispose();
    this.reference.dispose();
  }

  /** Lets each row know what the reference says of it. */
  private async precompute(rows: PairRow[]): Promise<void> {
    const size = this.args.perDeviceEvalBatchSize;
    const ask = jit((batch: TensorBatch) =>
      this.reference.call((model) => sequenceLogps(model, batch)),
    );
    this.model.eval();
    for (let i = 0; i < rows.length; i += size) {
      const part = rows.slice(i, i + size);
      if (part.every(({ refLogps }) => refLogps)) continue;
      const batch = await this.task.collate(part);
      const logps = ask(batch);
      const values = await logps.data();
      tf.dispose([batch, logps] as tf.TensorContainer);
      for (const [j, row] of part.entries()) {
        row.refLogps = [values[j]!, values[part.length + j]!];
      }
    }
    ask.dispose();
  }
}

/** How a trainer of preferences makes batches. */
export function completionOptions(
  model: CausalLM,
  tokenizer: Tokenizer,
  args: Pick<DPOConfig, 'maxLength' | 'padToMultipleOf' | 'truncationMode'>,
): CompletionOptions {
  return {
    padTokenId: tokenizer.padTokenId ?? tokenizer.eosTokenId ?? 0,
    padToMultipleOf: args.padToMultipleOf ?? 8,
    maxLength: args.maxLength ?? Math.min(1024, lengthLimit(model)),
    canPick: model.supportsStaticCache === true,
    ...(args.truncationMode && { truncationMode: args.truncationMode }),
  };
}

/** Pairs that keep something of both completions when they are cut; throws if none does. */
export function withRoom<Row extends PreferenceIds>(
  rows: Row[],
  { maxLength, truncationMode }: CompletionOptions,
): Row[] {
  const kept =
    truncationMode === 'keep_end' ? rows : rows.filter((row) => row.promptIds.length < maxLength);
  if (kept.length > 0) return kept;
  throw new RangeError(
    `trainDataset must have a pair whose prompt is shorter than ${maxLength} tokens, got ${rows.length} pairs without`,
  );
}

/** Chosen completions of rows, then the rejected ones, as one batch. */
export function collatePairs(rows: readonly PreferenceIds[], options: CompletionOptions) {
  const completions = [
    ...rows.map(({ promptIds, chosenIds }) => ({ promptIds, completionIds: chosenIds })),
    ...rows.map(({ promptIds, rejectedIds }) => ({ promptIds, completionIds: rejectedIds })),
  ];
  return collateCompletions(completions, options);
}

/** Tokens of a pair, the prompt counted twice, as TRL's num_tokens. */
export const pairTokens = ({ promptIds, chosenIds, rejectedIds }: PreferenceIds) =>
  2 * promptIds.length + chosenIds.length + rejectedIds.length;

function dpoTask(
  model: CausalLM,
  reference: Reference,
  { collate, ...options }: DPOConfig & { collate: CompletionOptions },
): TrainingTask<PairRow> {
  return {
    model,
    mean: 'batches',
    dropout: false,
    collate: (rows) => {
      const batch = collatePairs(rows, collate);
      if (!rows.every(({ refLogps }) => refLogps)) return batch;
      const column = (i: 0 | 1) => rows.map(({ refLogps }) => refLogps![i]);
      return { ...batch, refLogps: tf.tensor1d([...column(0), ...column(1)]) };
    },
    count: (rows) => rows.length,
    tokens: pairTokens,
    loss: (batch) => pairLoss(model, reference, batch, options),
  };
}

function pairLoss(
  model: CausalLM,
  reference: Reference,
  batch: TensorBatch,
  options: DPOLossOptions,
): BatchLoss {
  const ref = batch.refLogps ?? reference.call((own) => sequenceLogps(own, batch)); // [2B]
  const [refChosen, refRejected] = halves(ref);
  const [chosen, rejected] = halves(sequenceLogps(model, batch)); // [B]
  const [chosenLengths, rejectedLengths] = halves(tf.sum(completionWeights(batch), 1)); // [B]
  const logps = { chosen, rejected, refChosen, refRejected, chosenLengths, rejectedLengths };
  const { loss, ...logged } = dpoLoss(logps, options);
  return {
    loss: tf.mul(loss, chosen.size) as tf.Scalar,
    metrics: {
      'rewards/chosen': logged.chosenRewards,
      'rewards/rejected': logged.rejectedRewards,
      'rewards/accuracies': logged.accuracy,
      'rewards/margins': logged.margin,
      'logps/chosen': tf.mean(chosen),
      'logps/rejected': tf.mean(rejected),
    },
  };
}
