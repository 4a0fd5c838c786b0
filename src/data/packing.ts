// Packing: many short rows into few of one length, so that less is padding. Best-fit-decreasing after
// Ding et al. 2024 (arXiv 2404.10830), as TRL's pack_dataset does it.
// Left out: the segment tree, which only makes the search for the best bin faster.

/** Tokens and labels of one row; a packed one tells the lengths of the rows inside. */
export interface TokenRow {
  inputIds: number[];
  labels: number[];
  seqLengths?: number[];
}

/** TRL's names: best fit with cut or split overflow, or cut anywhere ('wrapped'). */
export type PackingStrategy = 'bfd' | 'bfd_split' | 'wrapped';

/**
 * Rows of at most `length` tokens. 'bfd' cuts longer rows and drops the rest, 'bfd_split' keeps the
 * rest as further rows, 'wrapped' joins all tokens and cuts every `length`. Empty rows are dropped.
 * Throws unless `length` is a positive integer.
 */
export function packRows(
  rows: readonly TokenRow[],
  length: number,
  strategy: PackingStrategy = 'bfd',
): TokenRow[] {
  if (!Number.isInteger(length) || length < 1) {
    throw new RangeError(`The length of packed rows must be a positive integer, got ${length}`);
  }
  const full = rows.filter((row) => row.inputIds.length > 0);
  if (strategy === 'wrapped') return pieces(joined(full), length);
  if (strategy === 'bfd')
    return bestFit(
      full.map((row) => piece(row, 0, length)),
      length,
    );
  if (strategy === 'bfd_split')
    return bestFit(
      full.flatMap((row) => pieces(row, length)),
      length,
    );
  throw new RangeError(`Packing must be one of bfd, bfd_split, wrapped, got '${strategy}'`);
}

/** Longest first, each into the bin that it leaves least space in; equal bins in order of making. */
function bestFit(rows: TokenRow[], length: number): TokenRow[] {
  const bins: TokenRow[][] = [];
  const bySpace = new Map<number, TokenRow[][]>();
  for (const row of rows.toSorted((a, b) => b.inputIds.length - a.inputIds.length)) {
    let space = row.inputIds.length;
    while (space < length && !bySpace.get(space)?.length) space++;
    const bin = space < length ? bySpace.get(space)!.shift()! : [];
    if (bin.length === 0) bins.push(bin);
    bin.push(row);
    const left = space - row.inputIds.length;
    bySpace.set(left, [...(bySpace.get(left) ?? []), bin]);
  }
  return bins.map((bin) => ({
    ...joined(bin),
    seqLengths: bin.map(({ inputIds }) => inputIds.length),
  }));
}

function joined(rows: readonly TokenRow[]): TokenRow {
  return {
    inputIds: rows.flatMap(({ inputIds }) => inputIds),
    labels: rows.flatMap(({ labels }) => labels),
  };
}

function piece({ inputIds, labels }: TokenRow, start: number, length: number): TokenRow {
  const end = start + length;
  return { inputIds: inputIds.slice(start, end), labels: labels.slice(start, end) };
}

function pieces(row: TokenRow, length: number): TokenRow[] {
  const count = Math.ceil(row.inputIds.length / length);
  return Array.from({ length: count }, (_, i) => piece(row, i * length, length));
}
