// Kinds 06_packing and 06_sft_labels: TRL's packed rows, labels and batches, exactly.
import { join } from 'node:path';
import { collate, collatePaddingFree } from '../../src/data/collator.ts';
import { type PackingStrategy, packRows, type TokenRow } from '../../src/data/packing.ts';
import { type SftRow, tokenizeRows } from '../../src/data/tokenize-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { type Check, type Measure, same } from './measure.ts';

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
