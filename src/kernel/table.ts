// Tables as HTML and as plain text: rows of objects, and danfo's DataFrame and Series by their shape.
import { inspect } from 'node:util';
import type { MimeBundle } from './protocol.ts';

const SHOWN = 60;

/** What is used of a danfo DataFrame or Series. */
export interface DataFrameLike {
  columns: string[];
  index: (string | number)[];
  shape: number[];
  values: unknown[];
}

/** True for danfo's NDframe family, whichever copy of the library made it. */
export function isDataFrame(value: unknown): value is DataFrameLike {
  if (typeof value !== 'object' || value === null) return false;
  return '$dataIncolumnFormat' in value && '$columns' in value && '$index' in value;
}

/** A data frame as a table with its index; long ones are cut in the middle. */
export function dataFrameBundle(frame: DataFrameLike): MimeBundle {
  const isSeries = frame.shape.length < 2 || !Array.isArray(frame.values[0]);
  const values = frame.values;
  const rows = values.map((row, i) => [frame.index[i], ...(isSeries ? [row] : (row as unknown[]))]);
  const caption = `${frame.shape[0]} rows x ${isSeries ? 1 : frame.shape[1]} columns`;
  return tableBundle(['', ...frame.columns], rows, caption);
}

/** Rows of objects as a table; columns are the keys in their first order of appearance. */
export function rowsBundle(rows: readonly object[]): MimeBundle {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  const cells = rows.map((row) => columns.map((column) => Reflect.get(row, column) as unknown));
  return tableBundle(columns, cells, `${rows.length} rows x ${columns.length} columns`);
}

function tableBundle(columns: string[], rows: unknown[][], caption: string): MimeBundle {
  const cut = rows.length > SHOWN;
  const half = SHOWN / 2;
  const shown = cut
    ? [...rows.slice(0, half), columns.map(() => ELLIPSIS), ...rows.slice(-half)]
    : rows;
  const texts = shown.map((row) => row.map(cellText));
  const numeric = columns.map((_, c) => isNumericColumn(shown.map((row) => row[c])));
  return {
    'text/html': html(columns, texts, numeric, caption),
    'text/plain': plain(columns, texts, numeric),
  };
}

const ELLIPSIS = Symbol('…');

/** Numbers, apart from gaps. */
function isNumericColumn(values: readonly unknown[]): boolean {
  const present = values.filter((v) => v !== undefined && v !== null && v !== ELLIPSIS);
  return present.length > 0 && present.every((v) => typeof v === 'number' || typeof v === 'bigint');
}

function cellText(value: unknown): string {
  if (value === ELLIPSIS) return '…';
  if (typeof value === 'string') return value;
  if (typeof value === 'number' && !Number.isInteger(value))
    return String(Number(value.toPrecision(6)));
  if (value === undefined || value === null) return value === null ? 'null' : '';
  return inspect(value, { breakLength: Number.POSITIVE_INFINITY, depth: 1 });
}

function html(columns: string[], rows: string[][], numeric: boolean[], caption: string): string {
  const align = (c: number) => ` style="text-align:${numeric[c] ? 'right' : 'left'}"`;
  const head = columns.map((name, c) => `<th scope="col"${align(c)}>${escapeHtml(name)}</th>`);
  const body = rows.map(
    (row) => `<tr>${row.map((text, c) => `<td${align(c)}>${escapeHtml(text)}</td>`).join('')}</tr>`,
  );
  return [
    '<div style="overflow:auto;max-height:30em">',
    '<table class="dataframe">',
    `<caption style="caption-side:bottom;text-align:left">${escapeHtml(caption)}</caption>`,
    `<thead><tr>${head.join('')}</tr></thead>`,
    `<tbody>${body.join('\n')}</tbody></table></div>`,
  ].join('\n');
}

function plain(columns: string[], rows: string[][], numeric: boolean[]): string {
  const widths = columns.map((name, c) =>
    Math.max(name.length, ...rows.map((row) => row[c]?.length ?? 0)),
  );
  const line = (cells: string[]) =>
    cells
      .map((text, c) => (numeric[c] ? text.padStart(widths[c]!) : text.padEnd(widths[c]!)))
      .join('  ')
      .trimEnd();
  return [line(columns), ...rows.map(line)].join('\n');
}

/** Text made safe inside HTML. */
export function escapeHtml(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}
