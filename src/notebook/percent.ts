// Notebooks as TypeScript text, in jupytext's percent format: `// %%` begins a code cell,
// `// %% [markdown]` a text cell whose lines are comments; a title and metadata may follow on the marker.
import { parse, stringify } from 'yaml';
import {
  type Cell,
  type Json,
  KERNELSPEC,
  type Notebook,
  NotebookError,
  newCell,
} from './nbformat.ts';

const MARKER = /^\/\/ %%(?:\s+(?!\[)([^[{]*?))?(?:\s*\[(markdown|md|raw)\])?\s*(\{.*\})?\s*$/;
const MAGIC = /^\s*(%|\?)/;
const ESCAPED_MAGIC = /^\s*\/\/ (%(?!%)|\?)/;

/** Reads percent text; `path` names it in errors. */
export function parsePercent(text: string, path: string): Notebook {
  const { metadata, body } = splitHeader(text, path);
  const cells: Cell[] = [];
  let marker: RegExpExecArray | null = null;
  let lines: string[] = [];
  const flush = (): void => {
    const isEmptyHead = marker === null && lines.every((line) => line.trim() === '');
    if (!isEmptyHead) cells.push(toCell(marker, lines, cells.length, path));
    lines = [];
  };
  for (const line of body.split('\n')) {
    const next = MARKER.exec(line);
    if (!next) {
      lines.push(line);
      continue;
    }
    flush();
    marker = next;
  }
  flush();
  return {
    cells,
    metadata: { kernelspec: { ...KERNELSPEC }, ...metadata },
    nbformat: 4,
    nbformat_minor: 5,
  };
}

/** The `// ---` header: YAML whose `jupyter` key is the notebook's metadata. */
function splitHeader(text: string, path: string): { metadata: Json; body: string } {
  const header = /^\/\/ ---\n((?:\/\/.*\n)*?)\/\/ ---\n/.exec(text);
  if (!header) return { metadata: {}, body: text };
  const yaml = header[1]!.replace(/^\/\/ ?/gm, '');
  let value: { jupyter?: Json } | null;
  try {
    value = parse(yaml) as { jupyter?: Json } | null;
  } catch (error) {
    throw new NotebookError(`The header of ${path} must be YAML: ${(error as Error).message}`);
  }
  const { jupytext: _ours, ...metadata } = value?.jupyter ?? {};
  return { metadata, body: text.slice(header[0].length) };
}

function toCell(
  marker: RegExpExecArray | null,
  lines: string[],
  index: number,
  path: string,
): Cell {
  const [, title, type, json] = marker ?? [];
  let metadata: Json = {};
  try {
    if (json) metadata = JSON.parse(json) as Json;
  } catch {
    throw new NotebookError(`A cell marker of ${path} must end in JSON, got ${json}`);
  }
  if (title) metadata = { title, ...metadata };
  const trimmed = trimBlank(lines);
  if (type === undefined)
    return newCell('code', trimmed.map(unescapeMagic).join('\n'), index, metadata);
  const source = trimmed.map((line) => line.replace(/^\/\/ ?/, '')).join('\n');
  return newCell(type === 'raw' ? 'raw' : 'markdown', source, index, metadata);
}

function trimBlank(lines: readonly string[]): string[] {
  const first = lines.findIndex((line) => line.trim() !== '');
  const last = lines.findLastIndex((line) => line.trim() !== '');
  return first < 0 ? [] : lines.slice(first, last + 1);
}

function unescapeMagic(line: string): string {
  return ESCAPED_MAGIC.test(line) ? line.replace('// ', '') : line;
}

/** The percent text of a notebook; outputs are left out. */
export function formatPercent(notebook: Notebook): string {
  const jupytext = {
    text_representation: { extension: '.ts', format_name: 'percent', format_version: '1.3' },
  };
  const { kernelspec = KERNELSPEC } = notebook.metadata;
  const yaml = stringify({ jupyter: { jupytext, kernelspec } });
  const header = ['---', ...yaml.trimEnd().split('\n'), '---'].map(comment).join('\n');
  return `${[header, ...notebook.cells.map(formatCell)].join('\n\n')}\n`;
}

function formatCell(cell: Cell): string {
  const { title, ...metadata } = cell.metadata;
  const type = cell.cell_type === 'code' ? '' : ` [${cell.cell_type}]`;
  const json = Object.keys(metadata).length > 0 ? ` ${JSON.stringify(metadata)}` : '';
  const marker = `// %%${typeof title === 'string' ? ` ${title}` : ''}${type}${json}`;
  const lines = cell.source.split('\n');
  const body =
    cell.cell_type === 'code'
      ? lines.map((line) => (MAGIC.test(line) ? comment(line) : line))
      : lines.map(comment);
  return cell.source === '' ? marker : [marker, ...body].join('\n');
}

function comment(line: string): string {
  return line === '' ? '//' : `// ${line}`;
}
