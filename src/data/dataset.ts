// Rows of named columns, read from JSON Lines; the names follow Hugging Face's `datasets`.
// Left out: columns on disk (Arrow), streaming, formats other than JSON Lines.
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { RandomState } from '../tensor/random.ts';

const SHOWN_ROWS = 5;

/** A list of rows that no method changes: each gives a new Dataset. */
export class Dataset<Row extends object> {
  private readonly rows: readonly Row[];

  constructor(rows: Iterable<Row>) {
    this.rows = [...rows];
  }

  /** Reads JSON Lines: one object a line. Throws a SyntaxError that names file and line. */
  static fromJson<Row extends object>(path: string | URL): Dataset<Row> {
    const name = basename(path instanceof URL ? path.pathname : path);
    const lines = readFileSync(path, 'utf8').split('\n');
    const isRow = (line: string) => line.trim() !== '';
    return new Dataset(
      lines.flatMap((line, i) =>
        isRow(line) ? [parseRow<Row>(line, `${name} line ${i + 1}`)] : [],
      ),
    );
  }

  get length(): number {
    return this.rows.length;
  }

  /** Names of the columns, in their first order of appearance. */
  get columnNames(): string[] {
    return [...new Set(this.rows.flatMap((row) => Object.keys(row)))];
  }

  [Symbol.iterator](): IterableIterator<Row> {
    return this.rows.values();
  }

  /** Row `index`; negative ones count from the end. A RangeError if there is none. */
  at(index: number): Row {
    const row = this.rows.at(index);
    if (row !== undefined) return row;
    throw new RangeError(`Dataset has ${this.length} rows, got index ${index}`);
  }

  /** All values of one column. */
  column<Name extends keyof Row>(name: Name): Row[Name][] {
    return this.rows.map((row) => row[name]);
  }

  map<Next extends object>(change: (row: Row, index: number) => Next): Dataset<Next> {
    return new Dataset(this.rows.map(change));
  }

  filter(keep: (row: Row, index: number) => boolean): Dataset<Row> {
    return new Dataset(this.rows.filter(keep));
  }

  /** The rows at `indices`, in that order. */
  select(indices: Iterable<number>): Dataset<Row> {
    return new Dataset(Array.from(indices, (index) => this.at(index)));
  }

  /** The rows in a random order that `seed` fixes. */
  shuffle({ seed }: { seed: number }): Dataset<Row> {
    return new Dataset(new RandomState(seed).permutation(this.rows));
  }

  /**
   * Two parts without a common row: `testSize` of the rows (a share below 1, or a count) and the
   * rest. Shuffled by `seed`. Throws a RangeError if a part would be empty.
   */
  trainTestSplit({ testSize, seed }: { testSize: number; seed: number }): {
    train: Dataset<Row>;
    test: Dataset<Row>;
  } {
    const count = testSize < 1 ? Math.ceil(testSize * this.length) : testSize;
    if (!Number.isInteger(count) || count < 1 || count >= this.length) {
      throw new RangeError(
        `testSize must leave rows in both parts of ${this.length}, got ${testSize}`,
      );
    }
    const mixed = [...this.shuffle({ seed })];
    return { test: new Dataset(mixed.slice(0, count)), train: new Dataset(mixed.slice(count)) };
  }

  /** Lists of `batchSize` rows, in order; the last may be shorter unless `dropLastBatch`. */
  *iter(batchSize: number, { dropLastBatch = false } = {}): Generator<Row[], void, undefined> {
    if (!Number.isInteger(batchSize) || batchSize < 1) {
      throw new RangeError(`batchSize must be a positive integer, got ${batchSize}`);
    }
    for (let start = 0; start < this.length; start += batchSize) {
      const rows = this.rows.slice(start, start + batchSize);
      if (rows.length === batchSize || !dropLastBatch) yield rows;
    }
  }

  /** The first rows as a table. */
  [Symbol.for('Jupyter.display')](): Record<string, string> {
    const names = this.columnNames;
    const shown = this.rows.slice(0, SHOWN_ROWS);
    const cells = shown.map((row) => names.map((name) => String(Reflect.get(row, name))));
    const line = (tag: string, texts: string[]) =>
      `<tr>${texts.map((text) => `<${tag}>${escapeHtml(text)}</${tag}>`).join('')}</tr>`;
    const size = `${this.length} rows x ${names.length} columns`;
    const caption = `Dataset: ${size}${shown.length < this.length ? `, the first ${shown.length}` : ''}`;
    return {
      'text/html': `<table><caption>${caption}</caption>${line('th', names)}${cells.map((row) => line('td', row)).join('')}</table>`,
      'text/plain': [caption, ...shown.map((row) => JSON.stringify(row))].join('\n'),
    };
  }
}

/** Reads `datasets/<name>.jsonl` of this package, as `loadDataset('small-world')`. */
export function loadDataset<Row extends object>(name: string): Dataset<Row> {
  if (!/^[a-z0-9-]+$/.test(name)) {
    throw new RangeError(`Dataset names are lower-case words with hyphens, got '${name}'`);
  }
  return Dataset.fromJson(new URL(`../../datasets/${name}.jsonl`, import.meta.url));
}

function parseRow<Row extends object>(line: string, place: string): Row {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch (error) {
    throw new SyntaxError(`${place} is not JSON: ${(error as Error).message}`);
  }
  if (typeof row === 'object' && row !== null && !Array.isArray(row)) return row as Row;
  throw new SyntaxError(`${place} must be a JSON object, got ${line.trim()}`);
}

function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
