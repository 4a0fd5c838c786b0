// The rows of a benchmark: printed as a table, and written as JSON where `--json FILE` asks for it.
import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

/** One measured figure beside a peer's. */
export interface Row {
  name: string;
  ours: number;
  theirs: number | null;
  peer: string;
  unit: string;
  /** ours / theirs. */
  ratio: number | null;
  /** Largest allowed ratio (or value, without a peer); null if the row is information only. */
  target: number | null;
  holds: boolean | null;
}

/** Makes a row; a target is the largest ratio, or the largest value where there is no peer. */
export function row(
  name: string,
  unit: string,
  ours: number,
  {
    theirs = null,
    peer = '',
    target = null,
  }: Partial<Pick<Row, 'theirs' | 'peer' | 'target'>> = {},
): Row {
  const ratio = theirs === null ? null : ours / theirs;
  const measured = ratio ?? ours;
  return {
    name,
    ours,
    theirs,
    peer,
    unit,
    ratio,
    target,
    holds: target === null ? null : measured <= target,
  };
}

/** Prints all rows and writes them to the file that `--json` names. */
export function report(rows: readonly Row[]): void {
  const { values } = parseArgs({ options: { json: { type: 'string' } }, strict: false });
  console.table(
    rows.map((r) => ({
      name: r.name,
      ours: Number(r.ours.toPrecision(4)),
      theirs: r.theirs === null ? '' : Number(r.theirs.toPrecision(4)),
      peer: r.peer,
      unit: r.unit,
      ratio: r.ratio === null ? '' : Number(r.ratio.toFixed(2)),
      target: r.target ?? '',
      holds: r.holds ?? '',
    })),
  );
  if (typeof values.json === 'string')
    writeFileSync(values.json, `${JSON.stringify(rows, null, 1)}\n`);
}

/** The middle of `values`. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
