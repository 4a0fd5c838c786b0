// Notebook files (.ipynb, nbformat 4): types, reading with clear refusals, and writing in the form that
// Python's nbformat writes: one space of indent, sorted keys, texts as arrays of lines, atomically.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { writeFileWhole } from './atomic-file.ts';

/** A JSON object. */
export type Json = Record<string, unknown>;

/** An output of a code cell. */
export type Output =
  | { output_type: 'stream'; name: 'stdout' | 'stderr'; text: string }
  | { output_type: 'display_data'; data: Json; metadata: Json }
  | { output_type: 'execute_result'; data: Json; metadata: Json; execution_count: number | null }
  | { output_type: 'error'; ename: string; evalue: string; traceback: string[] };

/** A cell; code cells have outputs and a count. */
export interface Cell {
  cell_type: 'code' | 'markdown' | 'raw';
  id: string;
  metadata: Json;
  source: string;
  outputs?: Output[];
  execution_count?: number | null;
  attachments?: Json;
}

/** A notebook of nbformat 4. */
export interface Notebook {
  cells: Cell[];
  metadata: Json;
  nbformat: 4;
  nbformat_minor: number;
}

/** A notebook that can't be read, written or run; its message is one sentence for the user. */
export class NotebookError extends Error {
  override name = 'NotebookError';
}

/** The kernel that notebooks of this project name. */
export const KERNELSPEC = {
  display_name: 'TypeScript (peftlab)',
  language: 'typescript',
  name: 'typescript-peftlab',
} as const;

/** Reads a notebook; refuses what is not nbformat 4 with one sentence. */
export function readNotebook(path: string): Notebook {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    throw new NotebookError(`Can't read ${path}: ${reason(error)}`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new NotebookError(`${path} must be JSON: ${(error as Error).message}`);
  }
  return parseNotebook(value, path);
}

/** Checks the shape of a parsed notebook; `path` names it in errors. */
export function parseNotebook(value: unknown, path: string): Notebook {
  if (!isObject(value)) throw new NotebookError(`${path} must hold a JSON object`);
  const { nbformat, nbformat_minor: minor = 0, metadata = {}, cells } = value;
  if (nbformat !== 4) {
    throw new NotebookError(
      `${path} must have nbformat 4, got ${JSON.stringify(nbformat) ?? 'none'}`,
    );
  }
  if (typeof minor !== 'number' || !isObject(metadata)) {
    throw new NotebookError(
      `${path} must have nbformat_minor as a number and metadata as an object`,
    );
  }
  if (!Array.isArray(cells)) throw new NotebookError(`${path} must have cells as an array`);
  return {
    cells: cells.map((cell, i) => parseCell(cell, i, path)),
    metadata,
    nbformat: 4,
    nbformat_minor: Math.max(minor, 5),
  };
}

function parseCell(value: unknown, index: number, path: string): Cell {
  const where = `Cell ${index + 1} of ${path}`;
  if (!isObject(value)) throw new NotebookError(`${where} must be an object`);
  const { cell_type: type, metadata = {}, id } = value;
  if (type !== 'code' && type !== 'markdown' && type !== 'raw') {
    throw new NotebookError(
      `${where} must have cell_type code, markdown or raw, got ${JSON.stringify(type)}`,
    );
  }
  if (!isObject(metadata)) throw new NotebookError(`${where} must have metadata as an object`);
  const source = joinLines(value.source);
  if (source === null) throw new NotebookError(`${where} must have its source as text or lines`);
  const cell: Cell = {
    cell_type: type,
    id: typeof id === 'string' && id !== '' ? id : cellId(index, source),
    metadata,
    source,
  };
  if (isObject(value.attachments)) cell.attachments = value.attachments;
  if (type === 'code') {
    const { outputs = [], execution_count: count } = value;
    if (!Array.isArray(outputs)) throw new NotebookError(`${where} must have outputs as an array`);
    cell.outputs = outputs.map((output) => parseOutput(output, where));
    cell.execution_count = typeof count === 'number' ? count : null;
  }
  return cell;
}

function parseOutput(value: unknown, where: string): Output {
  const types = ['stream', 'display_data', 'execute_result', 'error'];
  if (!isObject(value) || !types.includes(String(value.output_type))) {
    throw new NotebookError(`${where} must have outputs of the types ${types.join(', ')}`);
  }
  if (value.output_type === 'stream')
    return { ...value, text: joinLines(value.text) ?? '' } as Output;
  if (!isObject(value.data)) return value as unknown as Output;
  const data = Object.entries(value.data).map(([type, item]) => [
    type,
    isTextType(type) ? (joinLines(item) ?? item) : item,
  ]);
  return { ...value, data: Object.fromEntries(data) as Json } as Output;
}

/** An id of eight hexadecimal digits that stays the same while place and text do. */
export function cellId(index: number, source: string): string {
  return createHash('sha256').update(`${index}\n${source}`).digest('hex').slice(0, 8);
}

/** A new code or markdown cell. */
export function newCell(
  type: Cell['cell_type'],
  source: string,
  index: number,
  metadata: Json = {},
): Cell {
  const cell: Cell = { cell_type: type, id: cellId(index, source), metadata, source };
  return type === 'code' ? { ...cell, outputs: [], execution_count: null } : cell;
}

/** The text of a notebook file. */
export function formatNotebook(notebook: Notebook): string {
  const cells = notebook.cells.map((cell) => {
    const { outputs, execution_count: count = null, source, ...rest } = cell;
    const common = { ...rest, source: splitLines(source) };
    if (cell.cell_type !== 'code') return common;
    return { ...common, execution_count: count, outputs: (outputs ?? []).map(formatOutput) };
  });
  return `${JSON.stringify(sortKeys({ ...notebook, cells }), null, 1)}\n`;
}

function formatOutput(output: Output): Json {
  if (output.output_type === 'stream') return { ...output, text: splitLines(output.text) };
  if (output.output_type === 'error') return { ...output };
  const data = Object.entries(output.data).map(([type, item]) => [
    type,
    isTextType(type) && typeof item === 'string' ? splitLines(item) : item,
  ]);
  return { ...output, data: Object.fromEntries(data) as Json };
}

/** Writes a notebook: the file changes whole or not at all. */
export function writeNotebook(path: string, notebook: Notebook): void {
  writeText(path, formatNotebook(notebook));
}

/** Writes a text file whole or not at all. */
export function writeText(path: string, text: string): void {
  try {
    writeFileWhole(path, text);
  } catch (error) {
    throw new NotebookError(`Can't write ${path}: ${reason(error)}`);
  }
}

/** MIME types whose text is kept as lines. */
function isTextType(type: string): boolean {
  return type.startsWith('text/') || type === 'image/svg+xml' || type === 'application/javascript';
}

function splitLines(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function joinLines(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value) || !value.every((line) => typeof line === 'string')) return null;
  return value.join('');
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function sortKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sortKeys);
  if (!isObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sortKeys(value[key])]));
}

function reason(error: unknown): string {
  const words: Record<string, string> = {
    ENOENT: 'there is no such file or folder',
    EACCES: 'no permission',
    EPERM: 'no permission',
    EROFS: 'the file system is read-only',
    EISDIR: 'it is a folder',
    ENOSPC: 'the disk is full',
  };
  const { code = '', message } = error as NodeJS.ErrnoException;
  return words[code] ?? message;
}
