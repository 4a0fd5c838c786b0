// What was run, kept on disk across restarts: one JSON line per cell in `history.jsonl`.
import { appendFileSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Json } from './message.ts';

interface Entry {
  session: number;
  line: number;
  input: string;
  output?: string;
}

/** `[session, line, input]`, or `[session, line, [input, output]]` when output was asked for. */
export type HistoryItem = [number, number, string | [string, string | null]];

/** Where history is kept unless told otherwise. */
export function historyFile(): string {
  const base =
    process.env.PEFTLAB_DATA_DIR ??
    (process.platform === 'win32' && process.env.APPDATA
      ? join(process.env.APPDATA, 'peftlab')
      : join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'peftlab'));
  return join(base, 'history.jsonl');
}

/** The history of this and all earlier sessions. */
export class History {
  private readonly path: string;
  private entries: Entry[] | null = null;
  private sessionNumber = 0;

  constructor(path: string = historyFile()) {
    this.path = path;
  }

  /** Number of the current session, one more than the last one on disk. */
  get session(): number {
    this.load();
    return this.sessionNumber;
  }

  /** Adds one executed cell. */
  add(line: number, input: string, output?: string): void {
    const entry: Entry = { session: this.session, line, input, ...(output ? { output } : {}) };
    this.load().push(entry);
    try {
      mkdirSync(dirname(this.path), { recursive: true });
      appendFileSync(this.path, `${JSON.stringify(entry)}\n`);
    } catch {
      // A home that can't be written to keeps history in memory only.
    }
  }

  /** Answers a `history_request`: `tail`, `range` or `search`. */
  query(request: Json): HistoryItem[] {
    const withOutput = request.output === true;
    return this.select(request).map((entry) => [
      entry.session,
      entry.line,
      withOutput ? [entry.input, entry.output ?? null] : entry.input,
    ]);
  }

  private select(request: Json): Entry[] {
    const entries = this.load();
    const n = typeof request.n === 'number' ? request.n : undefined;
    if (request.hist_access_type === 'range') {
      const asked = typeof request.session === 'number' ? request.session : 0;
      const session = asked > 0 ? asked : this.sessionNumber + asked;
      const start = typeof request.start === 'number' ? request.start : 0;
      const stop = typeof request.stop === 'number' ? request.stop : Number.POSITIVE_INFINITY;
      return entries.filter((e) => e.session === session && e.line >= start && e.line < stop);
    }
    if (request.hist_access_type === 'search') {
      const matches = globMatcher(String(request.pattern ?? '*'));
      let found = entries.filter((e) => matches(e.input));
      if (request.unique === true) {
        found = found.filter((e, i) => found.findLastIndex((f) => f.input === e.input) === i);
      }
      return n === undefined ? found : found.slice(-n);
    }
    return n === undefined ? entries : n > 0 ? entries.slice(-n) : [];
  }

  private load(): Entry[] {
    if (this.entries) return this.entries;
    let text = '';
    try {
      text = readFileSync(this.path, 'utf8');
    } catch {
      // No history yet.
    }
    this.entries = text.split('\n').flatMap(parseEntry);
    this.sessionNumber = 1 + this.entries.reduce((last, e) => Math.max(last, e.session), 0);
    return this.entries;
  }
}

function parseEntry(line: string): Entry[] {
  try {
    const entry = JSON.parse(line) as Entry;
    return typeof entry.session === 'number' && typeof entry.input === 'string' ? [entry] : [];
  } catch {
    return [];
  }
}

/** A shell-style pattern (`*`, `?`) over the whole text, spaces as they are or ignored on both sides. */
function globMatcher(glob: string): (text: string) => boolean {
  const exact = globPattern(glob);
  const tight = globPattern(glob.replace(/\s+/g, ''));
  return (text) => exact.test(text) || tight.test(text.replace(/\s+/g, ''));
}

function globPattern(glob: string): RegExp {
  const source = glob
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '[\\s\\S]*')
    .replaceAll('?', '[\\s\\S]');
  return new RegExp(`^${source}$`);
}
