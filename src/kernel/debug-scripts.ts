// What the debugger knows of scripts: the cells by path with their source maps, modules by URL, and
// where a line of TypeScript lies in the JavaScript that runs.
import { readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { eachMapping, originalPositionFor, TraceMap } from '@jridgewell/trace-mapping';

/** Zero-based position in a generated script, as the inspector counts. */
export interface GeneratedPosition {
  lineNumber: number;
  columnNumber: number;
}

/** A place in a source that the user knows, counted from 1. */
export interface SourcePlace {
  name: string;
  path: string;
  line: number;
  column: number;
}

interface Script {
  name: string;
  path: string;
  source: string | null;
  map: string | null;
  trace?: TraceMap;
}

/** Seed of the hash in cell paths; front ends are told it. */
export const HASH_SEED = 0xc70f6907;

/** The name of a cell's script is the prefix, the hash of its text, the suffix. */
export const PATH_PREFIX: string = join(tmpdir(), `peftlab_${process.pid}`, '/');
export const PATH_SUFFIX = '.ts';

/** Path of the script of a cell, as front ends compute it too. */
export function cellPath(code: string): string {
  return `${PATH_PREFIX}${murmur2(new TextEncoder().encode(code), HASH_SEED)}${PATH_SUFFIX}`;
}

/** MurmurHash2 (32 bit, A. Appleby, public domain) of `data`. */
export function murmur2(data: Uint8Array, seed: number): number {
  const m = 0x5bd1e995;
  let hash = seed ^ data.length;
  let i = 0;
  for (; i + 4 <= data.length; i += 4) {
    let k = data[i]! | (data[i + 1]! << 8) | (data[i + 2]! << 16) | (data[i + 3]! << 24);
    k = Math.imul(k, m);
    k = Math.imul(k ^ (k >>> 24), m);
    hash = Math.imul(hash, m) ^ k;
  }
  const left = data.length - i;
  if (left >= 3) hash ^= data[i + 2]! << 16;
  if (left >= 2) hash ^= data[i + 1]! << 8;
  if (left >= 1) hash = Math.imul(hash ^ data[i]!, m);
  hash = Math.imul(hash ^ (hash >>> 13), m);
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** Scripts of the process, by the URL that the inspector gives them. */
export class DebugScripts {
  private readonly scripts = new Map<string, Script>();
  /** URLs by the inspector's script ids: its frames name scripts by id alone. */
  private readonly urls = new Map<string, string>();

  /** A compiled cell, about to run. */
  addCell(path: string, cell: { label: string; source: string; map: string }): void {
    const { label: name, source, map } = cell;
    this.scripts.set(pathToFileURL(path).href, { name, path, source, map });
  }

  /** A cell's text, not run yet: its source can be shown. */
  dumpCell(code: string): string {
    const path = cellPath(code);
    const url = pathToFileURL(path).href;
    if (!this.scripts.has(url))
      this.scripts.set(url, { name: 'cell', path, source: code, map: null });
    return path;
  }

  /** A script that the inspector has seen; a module's source map is inside it. */
  addScript(scriptId: string, url: string, sourceMapUrl: string): void {
    if (!url.startsWith('file:') || isForeign(url)) return;
    this.urls.set(scriptId, url);
    if (this.scripts.has(url)) return;
    const data = /^data:application\/json[^,]*;base64,(.*)$/.exec(sourceMapUrl)?.[1];
    const path = fileURLToPath(url.replace(/[?#].*$/, ''));
    const map = data ? Buffer.from(data, 'base64').toString('utf8') : null;
    this.scripts.set(url, { name: path.split('/').at(-1) ?? path, path, source: null, map });
  }

  /** Where a generated position comes from; null for scripts that are not the user's. */
  place(scriptId: string, { lineNumber, columnNumber }: GeneratedPosition): SourcePlace | null {
    const script = this.scripts.get(this.urls.get(scriptId) ?? '');
    if (!script) return null;
    const { name, path } = script;
    const trace = this.trace(script);
    if (!trace) return { name, path, line: lineNumber + 1, column: columnNumber + 1 };
    const at = originalPositionFor(trace, { line: lineNumber + 1, column: columnNumber });
    return at.line === null ? null : { name, path, line: at.line, column: at.column + 1 };
  }

  /** The first code on `line` of a cell or file, or on the next line that has any. */
  generated(
    path: string,
    line: number,
  ): (GeneratedPosition & { url: string; line: number }) | null {
    const found = [...this.scripts].find(([, script]) => script.path === path);
    const trace = found && this.trace(found[1]);
    if (!found || !trace) return null;
    let best: (GeneratedPosition & { url: string; line: number }) | null = null;
    eachMapping(trace, ({ originalLine, generatedLine, generatedColumn }) => {
      if (originalLine === null || originalLine < line || (best && originalLine >= best.line))
        return;
      const at = { lineNumber: generatedLine - 1, columnNumber: generatedColumn };
      best = { ...at, url: found[0], line: originalLine };
    });
    return best;
  }

  /** The text of a source, for front ends. */
  text(path: string): string | null {
    const script = [...this.scripts.values()].find((s) => s.path === path);
    if (script?.source !== null && script?.source !== undefined) return script.source;
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return null;
    }
  }

  /** True if a frame of this script is the user's. */
  isUser(scriptId: string): boolean {
    return this.scripts.has(this.urls.get(scriptId) ?? '');
  }

  private trace(script: Script): TraceMap | null {
    if (script.map !== null) script.trace ??= new TraceMap(script.map);
    return script.trace ?? null;
  }
}

/** Patterns of scripts that stepping passes over: Node's, the kernel's, packages'. */
export const FOREIGN = ['^node:', '/\\.cache/peftlab/', '/node_modules/'];

function isForeign(url: string): boolean {
  return FOREIGN.some((pattern) => new RegExp(pattern).test(url));
}
