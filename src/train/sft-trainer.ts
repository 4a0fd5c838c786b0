// SFTTrainer: rows of text, prompts with completions, or chats, to ids and labels, perhaps packed, and
// trained with cross entropy, as TRL's. Left out: datasets that are columns of images, Liger kernels.
import { type PackingStrategy, packRows, type TokenRow } from '../data/packing.ts';
import { type SftRow, type TokenizeOptions, tokenizeRows } from '../data/tokenize-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import type { PeftConfig } from '../peft/mapping.ts';
import { getPeftModel } from '../peft/peft-model.ts';
import { lengthLimit } from './causal-lm-task.ts';
import { Trainer } from './trainer.ts';
import type { TrainingArguments } from './training-arguments.ts';
import type { LoopOptions } from './training-loop.ts';

/** TRL's SFTConfig: the learning rate is 2e-5 by default, the rest is that of TrainingArguments. */
export interface SFTConfig extends TrainingArguments, TokenizeOptions {
  /** Longest row in tokens. Default 1024, or the model's limit. */
  maxLength?: number;
  /** Put several texts into one row of maxLength. Default false. */
  packing?: boolean;
  /** Default 'bfd'. */
  packingStrategy?: PackingStrategy;
}

/** What SFTTrainer takes. */
export interface SFTTrainerOptions
  extends Omit<LoopOptions<TokenRow>, 'trainDataset' | 'evalDataset' | 'args'> {
  model: CausalLM;
  args?: SFTConfig;
  /** The model's tokenizer. */
  processingClass: Tokenizer;
  trainDataset: Iterable<SftRow>;
  evalDataset?: Iterable<SftRow>;
  /** Makes a row of another kind into text. */
  formattingFunc?: (row: SftRow) => string;
  /** Adapts the model first; then only the adapter is trained. */
  peftConfig?: PeftConfig;
}

/** Trains a model on rows as people write them. */
export class SFTTrainer extends Trainer {
  /** Throws what `tokenizeRows` throws, and if no row has anything to learn. */
  constructor(options: SFTTrainerOptions) {
    const { args = {}, processingClass: tokenizer, peftConfig, formattingFunc, ...rest } = options;
    const model = peftConfig
      ? (getPeftModel(options.model, peftConfig, { seed: args.seed ?? 42 }) as CausalLM)
      : options.model;
    const prepare = (rows: Iterable<SftRow>) =>
      prepareRows(formattingFunc ? formatted(rows, formattingFunc) : rows, tokenizer, {
        ...args,
        maxLength: args.maxLength ?? Math.min(1024, lengthLimit(model)),
      });
    const trainDataset = prepare(rest.trainDataset);
    if (trainDataset.length === 0) {
      throw new RangeError('trainDataset has no rows with anything to learn');
    }
    const { evalDataset, ...others } = rest;
    super({
      ...others,
      model,
      trainDataset,
      countsFirstLabels: true,
      ...(evalDataset && { evalDataset: prepare(evalDataset) }),
      args: { learningRate: 2e-5, ...args },
      ...(tokenizer.padTokenId !== undefined && { padTokenId: tokenizer.padTokenId }),
    });
  }
}

function* formatted(rows: Iterable<SftRow>, format: (row: SftRow) => string): Generator<SftRow> {
  for (const row of rows) yield { text: format(row) };
}

/** Ids and labels as SFT trains on them; packed with `packing`. */
export function prepareRows(
  rows: Iterable<SftRow>,
  tokenizer: Tokenizer,
  {
    packing = false,
    packingStrategy = 'bfd',
    maxLength,
    ...options
  }: SFTConfig & { maxLength: number },
): TokenRow[] {
  if (!packing) return tokenizeRows(rows, tokenizer, { ...options, maxLength });
  return packRows(tokenizeRows(rows, tokenizer, options), maxLength, packingStrategy);
}
