// Kinds 06_packing, 06_sft_labels and 06_sft_run: TRL's packed rows, labels and batches, exactly, and
// its training step by step.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { collate, collatePaddingFree } from '../../src/data/collator.ts';
import { type PackingStrategy, packRows, type TokenRow } from '../../src/data/packing.ts';
import { type SftRow, tokenizeRows } from '../../src/data/tokenize-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { PeftModel } from '../../src/peft/peft-model.ts';
import { loadFile, toFloat32 } from '../../src/tensor/safetensors.ts';
import type { SchedulerType } from '../../src/train/schedulers.ts';
import { SFTTrainer } from '../../src/train/sft-trainer.ts';
import type { LogEntry } from '../../src/train/training-state.ts';
import { type Check, close, type Measure, same } from './measure.ts';

interface PackingCase {
  strategy: PackingStrategy;
  seq_length: number;
  packed: { input_ids: number[][]; seq_lengths?: number[][] };
}

/** Compares packed ids and the lengths inside. */
export const checkPacking: Check = async (_, manifest) => {
  const rows = (manifest.input_ids as number[][]).map((ids) => ({ inputIds: ids, labels: ids }));
  return (manifest.cases as PackingCase[]).flatMap(({ strategy, seq_length: length, packed }) => {
    const name = `${strategy} ${length}`;
    const got = packRows(rows, length, strategy);
    const ids = got.map(({ inputIds }) => inputIds);
    const measures = [same(name, ids, packed.input_ids)];
    if (packed.seq_lengths) {
      const lengths = got.map(({ seqLengths }) => seqLengths);
      measures.push(same(`${name} lengths`, lengths, packed.seq_lengths));
    }
    return measures;
  });
};

interface LabelsCase {
  name: string;
  data: SftRow[];
  config: {
    max_length?: number;
    completion_only_loss?: boolean;
    assistant_only_loss?: boolean;
    packing?: boolean;
    packing_strategy?: PackingStrategy;
    truncation_mode?: 'keep_start' | 'keep_end';
    pad_to_multiple_of?: number;
  };
  padding_free: boolean;
  dataset: { input_ids: number[]; labels: number[]; seq_lengths?: number[] }[];
  collated_first_two: Record<string, unknown>;
}

/** Compares the rows of the prepared data set and a batch of the first two. */
export const checkSftLabels: Check = async (folder, manifest) => {
  const tokenizer = Tokenizer.fromFolder(join(folder, manifest.tokenizer as string));
  const template = manifest.assistant_only_template as string;
  return (manifest.cases as LabelsCase[]).flatMap((labelsCase) => {
    const { name, dataset, collated_first_two: batch } = labelsCase;
    const rows = prepare(labelsCase, tokenizer, template);
    const inDisk = rows.map(({ inputIds, labels, seqLengths }) => [inputIds, labels, seqLengths]);
    const expected = dataset.map((row) => [row.input_ids, row.labels, row.seq_lengths]);
    return [same(name, inDisk, expected), ...checkBatch(labelsCase, rows, batch, tokenizer)];
  });
};

function prepare({ data, config }: LabelsCase, tokenizer: Tokenizer, template: string): TokenRow[] {
  const { max_length: maxLength, packing, packing_strategy: strategy } = config;
  const rows = tokenizeRows(data, tokenizer, {
    ...(config.completion_only_loss !== undefined && {
      completionOnlyLoss: config.completion_only_loss,
    }),
    ...(config.assistant_only_loss && { assistantOnlyLoss: true, chatTemplate: template }),
    ...(maxLength !== undefined && !packing && { maxLength }),
    ...(config.truncation_mode && { truncationMode: config.truncation_mode }),
  });
  return packing ? packRows(rows, maxLength!, strategy) : rows;
}

function checkBatch(
  { name, config, padding_free: paddingFree }: LabelsCase,
  rows: TokenRow[],
  expected: Record<string, unknown>,
  tokenizer: Tokenizer,
): Measure[] {
  const first = rows.slice(0, 2);
  if (paddingFree) {
    const { inputIds, labels, positionIds, cuSeqLens, maxLength, seqIdx } =
      collatePaddingFree(first);
    const got = { inputIds, labels, positionIds, cuSeqLens, maxLength, seqIdx };
    const names = [
      'input_ids',
      'labels',
      'position_ids',
      'cu_seq_lens_q',
      'max_length_q',
      'seq_idx',
    ];
    return Object.values(got).map((value, i) =>
      same(`${name} ${names[i]}`, value, expected[names[i]!] ?? value),
    );
  }
  const batch = collate(first, {
    padTokenId: tokenizer.padTokenId!,
    padToMultipleOf: config.pad_to_multiple_of ?? 1,
  });
  return [
    same(`${name} input_ids`, batch.inputIds, expected.input_ids),
    same(`${name} labels`, batch.labels, expected.labels),
    same(`${name} attention_mask`, batch.attentionMask, expected.attention_mask),
  ];
}

interface RunCase {
  base_model: string;
  adapter_init: string;
  config: {
    lr: number;
    schedule: SchedulerType;
    warmup_steps: number;
    max_steps: number;
    batch_size: number;
    gradient_accumulation_steps: number;
    max_grad_norm: number;
    weight_decay: number;
  };
  log_history: { loss: number; grad_norm: number; learning_rate: number; num_tokens: number }[];
  tolerance: { loss_atol: number };
}

/** Compares losses, gradients' norms, rates, counts of tokens and the trained adapter of a run. */
export const checkSftRun: Check = async (folder, manifest) => {
  const { config, log_history: expected, tolerance, ...run } = manifest as unknown as RunCase;
  const labels = join(folder, (manifest.data_case as string) ?? '../06_sft_labels');
  const { cases, tokenizer } = JSON.parse(readFileSync(join(labels, 'manifest.json'), 'utf8'));
  const name = /06_sft_labels (\w+) data repeated (\d+)x/.exec(manifest.data as string);
  if (!name) throw new Error(`The case must name its rows, got '${manifest.data}'`);
  const own = (cases as LabelsCase[]).find((other) => other.name === name[1])!;
  const rows = Array.from({ length: Number(name[2]) }, () => own.data).flat();
  const base = loadFolder(join(folder, run.base_model));
  const model = PeftModel.fromPretrained(base, join(folder, run.adapter_init), {
    isTrainable: true,
  });
  const trainer = new SFTTrainer({
    model,
    processingClass: Tokenizer.fromFolder(join(labels, tokenizer)),
    trainDataset: rows,
    args: {
      learningRate: config.lr,
      lrSchedulerType: config.schedule,
      warmupSteps: config.warmup_steps,
      maxSteps: config.max_steps,
      perDeviceTrainBatchSize: config.batch_size,
      gradientAccumulationSteps: config.gradient_accumulation_steps,
      maxGradNorm: config.max_grad_norm,
      weightDecay: config.weight_decay,
      trainSamplingStrategy: 'sequential',
    },
  });
  const { logHistory } = await trainer.train();
  const measures = [
    ...compareLogs(logHistory, expected, tolerance.loss_atol),
    ...compareAdapter(folder, model),
  ];
  trainer.dispose();
  model.dispose();
  return measures;
};

/** Losses within `atol`, gradients' norms within 1e-3, rates and counts of tokens. */
export function compareLogs(
  got: readonly LogEntry[],
  expected: RunCase['log_history'],
  atol: number,
): Measure[] {
  const column = (pick: (entry: LogEntry) => number) => got.map(pick);
  return [
    close(
      'losses',
      column(({ loss }) => loss),
      expected.map(({ loss }) => loss),
      { atol },
    ),
    close(
      "gradients' norms",
      column(({ gradNorm }) => gradNorm),
      expected.map((entry) => entry.grad_norm),
      { rtol: 1e-3, atol: 1e-4 },
    ),
    close(
      'learning rates',
      column(({ learningRate }) => learningRate),
      expected.map((entry) => entry.learning_rate),
      { rtol: 1e-9 },
    ),
    same(
      'tokens',
      column(({ numTokens }) => numTokens),
      expected.map((entry) => entry.num_tokens),
    ),
  ];
}

/** Each tensor of the trained adapter; AdamW moves numbers of tiny gradients either way. */
export function compareAdapter(folder: string, model: PeftModel): Measure[] {
  const tensors = loadFile(join(folder, 'expected.safetensors'));
  const state = model.getAdapterState();
  const final = [...tensors].filter(([key]) => key.startsWith('final:'));
  return final.map(([key, raw]) => {
    const own = state.get(key.slice('final:'.length));
    if (!own) return same(key, undefined, 'a tensor of the adapter');
    return close(key, own.dataSync(), toFloat32(raw), { atol: 5e-4 });
  });
}
