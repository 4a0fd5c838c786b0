// Module hooks (they run on Node's loader thread) for what a notebook imports besides packages: TypeScript
// files, always as ES modules, with `paths` of tsconfig.json; and reloading: a local file that changed, or
// that imports one that did, gets a new URL (`?v=2`). Packages in node_modules are never reloaded.

import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { LoadHook, ResolveFnOutput, ResolveHook } from 'node:module';
import { dirname } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { type Loader, transform } from 'esbuild';
import { createPathsMatcher, getTsconfig } from 'get-tsconfig';

interface LocalFile {
  stamp: string;
  version: number;
  /** Files that this one imports, with the version that it got. */
  imports: Map<string, number>;
}

const TYPESCRIPT = /\.[cm]?tsx?$/;
/** What an import may leave out, or say as JavaScript for a file of TypeScript. */
const ENDINGS: readonly (readonly [RegExp, readonly string[]])[] = [
  [/\.js$/, ['.ts', '.tsx']],
  [/\.mjs$/, ['.mts']],
  [/\.cjs$/, ['.cts']],
  [/$/, ['.ts', '.tsx', '.mts', '.js', '.mjs', '/index.ts', '/index.js']],
];

const files = new Map<string, LocalFile>();

function stampOf(url: string): string {
  const stat = statSync(fileURLToPath(url), { throwIfNoEntry: false });
  return stat ? `${stat.mtimeMs} ${stat.size}` : 'missing';
}

/** Raises the version of `url` if it, or anything that it imports, changed. */
function refresh(url: string, seen: Set<string>): void {
  const file = files.get(url);
  if (!file || seen.has(url)) return;
  seen.add(url);
  const stamp = stampOf(url);
  let changed = stamp !== file.stamp;
  for (const [child, version] of file.imports) {
    refresh(child, seen);
    const current = files.get(child)?.version ?? version;
    changed ||= current !== version;
    file.imports.set(child, current);
  }
  if (!changed) return;
  file.stamp = stamp;
  file.version++;
}

function isLocal(url: string): boolean {
  return url.startsWith('file:') && !url.includes('/node_modules/');
}

function bare(url: string): string {
  return url.replace(/[?#].*$/, '');
}

/** URLs that `specifier` may stand for, where Node itself finds nothing. */
function candidates(specifier: string, parent: string): string[] {
  const base = /^(\.{1,2}\/|\/|file:)/.test(specifier) ? [new URL(specifier, parent).href] : [];
  const aliased = parent.startsWith('file:') ? aliases(specifier, fileURLToPath(parent)) : [];
  return [...base, ...aliased].flatMap((url) =>
    ENDINGS.flatMap(([end, replacements]) =>
      end.test(url) ? replacements.map((by) => url.replace(end, by)) : [],
    ),
  );
}

function aliases(specifier: string, from: string): string[] {
  const tsconfig = getTsconfig(dirname(from));
  const match = tsconfig && createPathsMatcher(tsconfig);
  return match ? match(specifier).map((path) => pathToFileURL(path).href) : [];
}

/** Node's own resolution, then TypeScript's. */
async function find(
  specifier: string,
  parent: string,
  next: (specifier: string) => ResolveFnOutput | Promise<ResolveFnOutput>,
): Promise<ResolveFnOutput> {
  try {
    const resolved = await next(specifier);
    if (!isLocal(resolved.url) || stampOf(bare(resolved.url)) !== 'missing') return resolved;
  } catch (error) {
    const found = candidates(specifier, parent).find((url) => stampOf(url) !== 'missing');
    if (found) return { url: found };
    throw error;
  }
  return next(specifier);
}

/** Finds TypeScript files and adds the version to local files' URLs; JSON needs no import attribute. */
export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  const parent = context.parentURL ? bare(context.parentURL) : '';
  const resolved = await find(specifier, parent, (wanted) => nextResolve(wanted, context));
  const url = bare(resolved.url);
  if (url.endsWith('.json') && !context.importAttributes.type) {
    resolved.importAttributes = { ...context.importAttributes, type: 'json' };
  }
  if (TYPESCRIPT.test(url)) resolved.format = 'module';
  if (!isLocal(url)) return resolved;
  if (!files.has(url)) files.set(url, { stamp: stampOf(url), version: 0, imports: new Map() });
  // A cell's import checks the whole tree below it; nested imports follow what that found.
  const importer = files.get(parent);
  if (!importer) refresh(url, new Set());
  const { version } = files.get(url)!;
  importer?.imports.set(url, version);
  if (version === 0) return { ...resolved, url };
  return { ...resolved, url: `${url}?v=${version}` };
};

/** Strips the types of TypeScript files. */
export const load: LoadHook = async (url, context, nextLoad) => {
  const path = bare(url);
  if (!path.startsWith('file:') || !TYPESCRIPT.test(path)) return nextLoad(url, context);
  const file = fileURLToPath(path);
  const compilerOptions = getTsconfig(dirname(file))?.config.compilerOptions ?? {};
  const { code } = await transform(await readFile(file, 'utf8'), {
    loader: (file.endsWith('x') ? 'tsx' : 'ts') satisfies Loader,
    format: 'esm',
    target: 'node20',
    sourcemap: 'inline',
    sourcefile: file,
    tsconfigRaw: { compilerOptions } as object,
  });
  return { format: 'module', source: code, shortCircuit: true };
};
