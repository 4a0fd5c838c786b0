// Stack traces that point at the cell's TypeScript: frames of compiled cells are mapped to
// `In[3]:4:7`, frames of the kernel are left out, and the failing source line is shown, coloured.
import { findSourceMap } from 'node:module';
import { fileURLToPath } from 'node:url';
import { originalPositionFor, TraceMap } from '@jridgewell/trace-mapping';
import type { CellError } from './protocol.ts';

interface Cell {
  label: string;
  source: string;
  map: string;
  trace?: TraceMap;
}

interface Place {
  file: string;
  line: number;
  column: number;
}

const RED = '\x1b[31m';
const BOLD = '\x1b[1m';
const DIM = '\x1b[2m';
const CYAN = '\x1b[36m';
const RESET = '\x1b[0m';

/** Maps stack frames of the cells that it was told of. */
export class StackTraces {
  private readonly cells = new Map<string, Cell>();
  private readonly isKernelFile: (file: string) => boolean;

  constructor(isKernelFile: (file: string) => boolean) {
    this.isKernelFile = isKernelFile;
  }

  /** Remembers the compiled cell whose script is called `path`. */
  add(path: string, cell: { label: string; source: string; map: string }): void {
    this.cells.set(path, cell);
  }

  /** Makes `error.stack` of every error use the mapped frames. */
  install(): void {
    Error.prepareStackTrace = (error, frames) => {
      const lines = frames.flatMap((frame) => this.frame(frame));
      return [header(error), ...lines.map((line) => `    at ${line}`)].join('\n');
    };
  }

  private frame(frame: NodeJS.CallSite): string[] {
    const file = frame.getFileName() ?? frame.getScriptNameOrSourceURL();
    const text = String(frame);
    if (!file) return [text];
    if (file.startsWith('node:internal/') || this.isKernelFile(file)) return [];
    if (file === 'node:vm') return [];
    const at = this.place(file, frame.getLineNumber() ?? 0, frame.getColumnNumber() ?? 0);
    if (!at) return this.cells.has(file) ? [] : [text];
    const isTop = this.cells.has(file) && frame.getFunctionName() === null;
    const mapped = `${at.file}:${at.line}:${at.column}`;
    if (isTop) return [mapped];
    const name = /^(.*) \(/.exec(text)?.[1];
    return [name ? `${name} (${mapped})` : mapped];
  }

  /** Where a generated position comes from; null if no source map knows. */
  private place(file: string, line: number, column: number): Place | null {
    const cell = this.cells.get(file);
    if (cell) {
      cell.trace ??= new TraceMap(cell.map);
      const at = originalPositionFor(cell.trace, { line, column: Math.max(0, column - 1) });
      return at.line === null ? null : { file: cell.label, line: at.line, column: at.column + 1 };
    }
    const entry = findSourceMap(file)?.findEntry(line - 1, column - 1);
    if (!entry || !('originalLine' in entry)) return null;
    const source = entry.originalSource;
    return {
      file: source.startsWith('file:') ? fileURLToPath(source) : source,
      line: entry.originalLine + 1,
      column: entry.originalColumn + 1,
    };
  }

  /** The `error` message of anything that a cell threw. */
  describe(thrown: unknown): CellError {
    if (!(thrown instanceof Error) && !isErrorLike(thrown)) {
      const evalue = typeof thrown === 'string' ? thrown : safeString(thrown);
      return { ename: 'Uncaught', evalue, traceback: [`${RED}Uncaught${RESET}: ${evalue}`] };
    }
    const ename = thrown.name || 'Error';
    const evalue = String(thrown.message);
    const stack = String(thrown.stack ?? '');
    const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
    const traceback = [`${BOLD}${RED}${ename}${RESET}: ${evalue}`];
    const syntax = this.syntaxPlace(stack);
    const place = syntax ?? firstCellPlace(frames);
    if (place) traceback.push(...this.codeFrame(place));
    if (syntax) frames.length = 0;
    for (const frame of frames) traceback.push(colourFrame(frame));
    if (thrown.cause !== undefined) {
      const cause = this.describe(thrown.cause);
      traceback.push(`${BOLD}Caused by${RESET} ${cause.traceback.join('\n')}`);
    }
    if (thrown instanceof AggregateError) {
      for (const inner of thrown.errors) traceback.push(...this.describe(inner).traceback);
    }
    return { ename, evalue, traceback: traceback.join('\n').split('\n') };
  }

  /** V8 puts `path:line` before a syntax error found while it compiles a script. */
  private syntaxPlace(stack: string): Place | null {
    const at = /^(.+):(\d+)\n/.exec(stack);
    if (!at || !this.cells.has(at[1]!)) return null;
    const caret = /\n( *)\^/.exec(stack)?.[1]?.length ?? 0;
    return this.place(at[1]!, Number(at[2]), caret + 1);
  }

  /** Three lines of source around `place`, the failing one marked. */
  private codeFrame(place: Place): string[] {
    const cell = [...this.cells.values()].findLast((c) => c.label === place.file);
    if (!cell) return [];
    return codeFrame(cell.source, place);
  }
}

/** Source lines around `line`, with a caret under `column`. */
export function codeFrame(
  source: string,
  place: { file: string; line: number; column: number },
): string[] {
  const lines = source.split('\n');
  const first = Math.max(1, place.line - 2);
  const last = Math.min(lines.length, place.line + 1);
  const width = String(last).length;
  const out = [`${DIM}${place.file}:${place.line}:${place.column}${RESET}`];
  for (let n = first; n <= last; n++) {
    const gutter = String(n).padStart(width);
    const text = lines[n - 1]!;
    if (n !== place.line) {
      out.push(`${DIM}  ${gutter} |${RESET} ${text}`);
      continue;
    }
    out.push(`${RED}>${RESET} ${gutter} ${DIM}|${RESET} ${text}`);
    const pad = text.slice(0, place.column - 1).replace(/[^\t]/g, ' ');
    out.push(`  ${' '.repeat(width)} ${DIM}|${RESET} ${pad}${RED}^${RESET}`);
  }
  return out;
}

function firstCellPlace(frames: readonly string[]): Place | null {
  for (const frame of frames) {
    const at = /(In\[[^\]]*\]):(\d+):(\d+)/.exec(frame);
    if (at) return { file: at[1]!, line: Number(at[2]), column: Number(at[3]) };
  }
  return null;
}

function colourFrame(frame: string): string {
  return frame.replace(/(In\[[^\]]*\]:\d+:\d+)/, `${CYAN}$1${RESET}`);
}

function header(error: unknown): string {
  try {
    return Error.prototype.toString.call(error);
  } catch {
    return 'Error';
  }
}

function isErrorLike(value: unknown): value is Error {
  return typeof value === 'object' && value !== null && 'message' in value && 'stack' in value;
}

function safeString(value: unknown): string {
  try {
    return String(value);
  } catch {
    return Object.prototype.toString.call(value);
  }
}
