// Collators: rows of ids to one batch of equal length. Padding as TRL's DataCollatorForLanguageModeling;
// padding-free batches join all rows and start positions anew at each.
import type { TokenRow } from './packing.ts';

/** A batch [B, T] as lists; padding has id `padTokenId`, label -100 and mask 0. */
export interface LanguageModelingBatch {
  inputIds: number[][];
  labels: number[][];
  attentionMask: number[][];
  /** Count from 0 in each packed row; only for packed rows and with `returnPositionIds`. */
  positionIds?: number[][];
}

/** All rows in one line [1, T]: the first token of each row has position 0 and label -100. */
export interface PaddingFreeBatch {
  inputIds: number[][];
  labels: number[][];
  positionIds: number[][];
  /** Where each row starts, and the end: [rows + 1]. */
  cuSeqLens: number[];
  maxLength: number;
  /** The number of the row that each token belongs to, [1, T]. */
  seqIdx: number[][];
}

/** How rows are padded. */
export interface CollatorOptions {
  padTokenId: number;
  /** Lengths are rounded up to a multiple of this, so that few shapes occur. Default 1. */
  padToMultipleOf?: number;
  returnPositionIds?: boolean;
}

/** Rows padded on the right to the longest. Throws a RangeError for no rows. */
export function collate(
  rows: readonly TokenRow[],
  options: CollatorOptions,
): LanguageModelingBatch {
  const { padTokenId, padToMultipleOf: step = 1 } = options;
  if (rows.length === 0) throw new RangeError('A batch needs at least one row, got 0');
  const longest = Math.max(...rows.map(({ inputIds }) => inputIds.length));
  const length = Math.ceil(longest / step) * step;
  const pad = (list: number[], value: number) => [
    ...list,
    ...Array<number>(length - list.length).fill(value),
  ];
  const batch: LanguageModelingBatch = {
    inputIds: rows.map(({ inputIds }) => pad(inputIds, padTokenId)),
    labels: rows.map(({ labels }) => pad(labels, -100)),
    attentionMask: rows.map(({ inputIds }) =>
      pad(
        inputIds.map(() => 1),
        0,
      ),
    ),
  };
  if (options.returnPositionIds) batch.positionIds = rows.map((row) => pad(positions(row), 0));
  return batch;
}

/** Rows without padding, one after the other. */
export function collatePaddingFree(rows: readonly TokenRow[]): PaddingFreeBatch {
  const positionIds = rows.flatMap(positions);
  const labels = rows.flatMap((row) => row.labels);
  const starts = positionIds.flatMap((position, i) => (position === 0 ? [i] : []));
  const cuSeqLens = [...starts, positionIds.length];
  const lengths = starts.map((start, i) => cuSeqLens[i + 1]! - start);
  return {
    inputIds: [rows.flatMap(({ inputIds }) => inputIds)],
    labels: [labels.map((label, i) => (positionIds[i] === 0 ? -100 : label))],
    positionIds: [positionIds],
    cuSeqLens,
    maxLength: Math.max(...lengths),
    seqIdx: [lengths.flatMap((length, i) => Array<number>(length).fill(i))],
  };
}

/** 0, 1, ... anew for each row packed inside. */
function positions({ inputIds, seqLengths = [inputIds.length] }: TokenRow): number[] {
  return seqLengths.flatMap((length) => Array.from({ length }, (_, i) => i));
}
