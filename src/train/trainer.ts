// Trainer: a causal language model on rows of ids and labels. The loss is a sum over tokens divided by
// the labels of the whole accumulation window, not a mean of the means of micro-batches.
import type { TokenRow } from '../data/packing.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { causalLMTask, checkTokenRows, lengthLimit } from './causal-lm-task.ts';
import { type LoopOptions, TrainingLoop } from './training-loop.ts';

/** What a trainer trains, and on what. */
export interface TrainerOptions extends LoopOptions<TokenRow> {
  model: CausalLM;
  /** What stands on padding; any id will do, since it has no label. Default 0. */
  padTokenId?: number;
  /** Whether the share of tokens that the model would have written is logged. Default false. */
  logAccuracy?: boolean;
  /** See CausalTaskOptions. Default false. */
  countsFirstLabels?: boolean;
}

/** Trains a causal language model; `train`, `evaluate` and `save` are those of TrainingLoop. */
export class Trainer extends TrainingLoop<TokenRow> {
  readonly model: CausalLM;

  /** Throws if a row is longer than the model takes, or has not a label for each id. */
  constructor({ model, padTokenId, logAccuracy, countsFirstLabels, ...options }: TrainerOptions) {
    const padToMultipleOf = options.args?.padToMultipleOf;
    const own = { padTokenId, padToMultipleOf, logAccuracy, countsFirstLabels };
    super(causalLMTask(model, own), options);
    this.model = model;
    checkTokenRows(options.trainDataset, lengthLimit(model));
    if (options.evalDataset) checkTokenRows(options.evalDataset, lengthLimit(model));
  }
}
