// Files of rows: JSON (a list), JSON Lines, CSV (with a header) and Parquet, by their endings.
// CSV is read by csv-parse, Parquet by hyparquet. Left out: compressed text, several files as one.
import { readFileSync } from 'node:fs';
import { basename, extname } from 'node:path';
import { parse } from 'csv-parse/sync';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { Dataset } from './dataset.ts';
import { isObject, type RawRow } from './row-fields.ts';

/** How a file is read. */
export interface ReadOptions {
  /** Fields that every row must have, none of them null. */
  required?: readonly string[];
  /** Leave malformed rows out and count them, in place of throwing at the first. Default false. */
  skipMalformed?: boolean;
}

/** The rows of a file, where each stands, and one sentence for each that was left out. */
export interface ReadRows {
  rows: Dataset<RawRow>;
  /** 'line 3', or 'row 3' where a file has no lines; for `convertRows`. */
  places: string[];
  skipped: string[];
}

/** A row, or why it is none, with its place in the file. */
type Found = { place: string; row: unknown } | { place: string; problem: string };

/**
 * The rows of a .json, .jsonl, .csv or .parquet file. Throws a SyntaxError that names file, line and
 * field for a malformed row, and a RangeError for a file without rows or of another ending.
 */
export async function readRows(path: string, options: ReadOptions = {}): Promise<ReadRows> {
  const { required = [], skipMalformed = false } = options;
  const name = basename(path);
  const rows: RawRow[] = [];
  const places: string[] = [];
  const skipped: string[] = [];
  for (const found of await findRows(path)) {
    const problem = 'problem' in found ? found.problem : problemOf(found.row, required);
    if (problem === undefined) {
      rows.push((found as { row: RawRow }).row);
      places.push(found.place);
    } else if (skipMalformed) skipped.push(`${name} ${found.place} ${problem}`);
    else throw new SyntaxError(`${name} ${found.place} ${problem}`);
  }
  if (rows.length === 0) throw new RangeError(`${name} must hold at least one row, got none`);
  return { rows: new Dataset(rows), places, skipped };
}

async function findRows(path: string): Promise<Found[]> {
  switch (extname(path)) {
    case '.jsonl':
      return readFileSync(path, 'utf8').split('\n').flatMap(readLine);
    case '.json':
      return readJson(path);
    case '.csv':
      return readCsv(path);
    case '.parquet':
      return readParquet(path);
    default:
      throw new RangeError(
        `${basename(path)} must end in .json, .jsonl, .csv or .parquet, got '${extname(path)}'`,
      );
  }
}

function readLine(line: string, i: number): Found[] {
  if (line.trim() === '') return [];
  const place = `line ${i + 1}`;
  try {
    return [{ place, row: JSON.parse(line) }];
  } catch (error) {
    return [{ place, problem: `is not JSON: ${(error as Error).message}` }];
  }
}

function readJson(path: string): Found[] {
  let value: unknown;
  try {
    value = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new SyntaxError(`${basename(path)} is not JSON: ${(error as Error).message}`);
  }
  const rows = Array.isArray(value) ? value : (value as { data?: unknown } | null)?.data;
  if (!Array.isArray(rows)) {
    throw new SyntaxError(`${basename(path)} must be a list of rows, or hold one as 'data'`);
  }
  return rows.map((row, i) => ({ place: `row ${i + 1}`, row }));
}

/** Values of CSV stay text. */
function readCsv(path: string): Found[] {
  const records = parse(readFileSync(path), {
    bom: true,
    info: true,
    relax_column_count: true,
    skip_empty_lines: true,
  }) as unknown as { record: string[]; info: { lines: number } }[];
  const header = records.shift()?.record ?? [];
  return records.map(({ record, info }): Found => {
    const place = `line ${info.lines}`;
    if (record.length === header.length) {
      return { place, row: Object.fromEntries(header.map((field, i) => [field, record[i]])) };
    }
    return { place, problem: `must have ${header.length} fields, got ${record.length}` };
  });
}

async function readParquet(path: string): Promise<Found[]> {
  try {
    const rows = await parquetReadObjects({ file: await asyncBufferFromFile(path) });
    return rows.map((row, i) => ({ place: `row ${i + 1}`, row: plain(row) }));
  } catch (error) {
    throw new SyntaxError(`${basename(path)} is not Parquet: ${(error as Error).message}`);
  }
}

/** Parquet's 64-bit integers as numbers, where they fit. */
function plain(value: unknown): unknown {
  if (typeof value === 'bigint') {
    return value <= Number.MAX_SAFE_INTEGER && value >= Number.MIN_SAFE_INTEGER
      ? Number(value)
      : value;
  }
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
}

function problemOf(row: unknown, required: readonly string[]): string | undefined {
  if (!isObject(row)) {
    return `must be an object, got ${JSON.stringify(row)?.slice(0, 60)}`;
  }
  const missing = required.find((field) => (row[field] ?? null) === null);
  return missing && `must have ${missing}, got ${Object.keys(row).join(', ') || 'no field'}`;
}
