// Rows that say the same: exact copies up to case, white space and punctuation, and near copies by the
// Jaccard similarity of their word triples; and splits that keep such rows on one side.

import { RandomState } from '../tensor/random.ts';
import { Dataset } from './dataset.ts';

/** How rows are compared. */
export interface DuplicateOptions<Row> {
  /** The text of a row. Default: its values as JSON. */
  textOf?: (row: Row) => string;
  /** Similarity from which on rows are copies; 1 takes exact ones only. Default 1. */
  threshold?: number;
}

/** Rows without later copies of earlier ones, and how many were left out. */
export function deduplicate<Row extends object>(
  rows: Iterable<Row>,
  options: DuplicateOptions<Row> = {},
): { rows: Dataset<Row>; removed: number } {
  const all = [...rows];
  const groups = groupCopies(all, options);
  const firsts = new Set(groups.map(([first]) => first!));
  return {
    rows: new Dataset(all.filter((_, i) => firsts.has(i))),
    removed: all.length - firsts.size,
  };
}

/**
 * Two parts of which neither has a copy of a row of the other: `testSize` of the rows (a share below
 * 1, or a count), as nearly as groups of copies allow. `groupOf` keeps further rows together, such as
 * those of one document. Throws a RangeError if a part would be empty.
 */
export function splitWithoutLeaks<Row extends object>(
  rows: Iterable<Row>,
  {
    testSize,
    seed,
    groupOf,
    ...options
  }: DuplicateOptions<Row> & {
    testSize: number;
    seed: number;
    groupOf?: (row: Row) => string;
  },
): { train: Dataset<Row>; test: Dataset<Row> } {
  const all = [...rows];
  const groups = groupCopies(all, options, groupOf);
  const wanted = testSize < 1 ? Math.ceil(testSize * all.length) : testSize;
  const test: number[] = [];
  const train: number[] = [];
  for (const group of new RandomState(seed).permutation(groups)) {
    (test.length + group.length <= wanted ? test : train).push(...group);
  }
  if (test.length === 0 || train.length === 0) {
    throw new RangeError(
      `testSize must leave rows in both parts of ${all.length} in ${groups.length} groups, got ${testSize}`,
    );
  }
  const part = (indices: number[]) => new Dataset(indices.map((i) => all[i]!));
  return { train: part(train), test: part(test) };
}

/** Numbers of rows that are copies of one another, directly or through others. */
function groupCopies<Row>(
  rows: readonly Row[],
  {
    textOf = (row) => JSON.stringify(Object.values(row as object)),
    threshold = 1,
  }: DuplicateOptions<Row>,
  groupOf?: (row: Row) => string,
): number[][] {
  if (!(threshold > 0 && threshold <= 1)) {
    throw new RangeError(`threshold must be above 0 and at most 1, got ${threshold}`);
  }
  const parents = rows.map((_, i) => i);
  const root = (i: number): number => (parents[i] === i ? i : root(parents[i]!));
  const join = (a: number, b: number) => {
    parents[Math.max(root(a), root(b))] = Math.min(root(a), root(b));
  };
  const texts = rows.map((row) => normalized(textOf(row)));
  joinEqual(texts, join);
  if (groupOf) joinEqual(rows.map(groupOf), join);
  if (threshold < 1) joinSimilar(texts, threshold, join);
  const groups = new Map<number, number[]>();
  for (const i of rows.keys()) groups.set(root(i), [...(groups.get(root(i)) ?? []), i]);
  return [...groups.values()];
}

function joinEqual(keys: readonly string[], join: (a: number, b: number) => void): void {
  const first = new Map<string, number>();
  for (const [i, key] of keys.entries()) {
    const before = first.get(key);
    if (before === undefined) first.set(key, i);
    else join(before, i);
  }
}

/** Joins texts whose triples of words are alike; only those that share a triple are compared. */
function joinSimilar(
  texts: readonly string[],
  threshold: number,
  join: (a: number, b: number) => void,
): void {
  const sets = texts.map(triples);
  const holders = new Map<string, number[]>();
  for (const [i, own] of sets.entries()) {
    const shared = new Map<number, number>();
    for (const triple of own) {
      for (const other of holders.get(triple) ?? []) {
        shared.set(other, (shared.get(other) ?? 0) + 1);
      }
      holders.set(triple, [...(holders.get(triple) ?? []), i]);
    }
    for (const [other, count] of shared) {
      if (count / (own.size + sets[other]!.size - count) >= threshold) join(other, i);
    }
  }
}

function triples(text: string): Set<string> {
  const words = text.split(' ');
  const count = Math.max(1, words.length - 2);
  return new Set(Array.from({ length: count }, (_, i) => words.slice(i, i + 3).join(' ')));
}

/** Lower case words and numbers, single spaces between them. */
function normalized(text: string): string {
  return text
    .toLowerCase()
    .normalize('NFKC')
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim();
}
