// Module hooks (they run on Node's loader thread): a local file that changed on disk, or that imports
// one that did, gets a new URL (`?v=2`), so that running an import again loads it anew. Packages in
// node_modules are never reloaded.
import { statSync } from 'node:fs';
import type { ResolveHook } from 'node:module';
import { fileURLToPath } from 'node:url';

interface LocalFile {
  stamp: string;
  version: number;
  /** Files that this one imports, with the version that it got. */
  imports: Map<string, number>;
}

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

/** Adds the version to local files' URLs; JSON needs no import attribute. */
export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  const resolved = await nextResolve(specifier, context);
  const url = bare(resolved.url);
  if (url.endsWith('.json') && !context.importAttributes.type) {
    resolved.importAttributes = { ...context.importAttributes, type: 'json' };
  }
  if (!isLocal(url)) return resolved;
  const parent = context.parentURL ? bare(context.parentURL) : '';
  if (!files.has(url)) files.set(url, { stamp: stampOf(url), version: 0, imports: new Map() });
  // A cell's import checks the whole tree below it; nested imports follow what that found.
  const importer = files.get(parent);
  if (!importer) refresh(url, new Set());
  const { version } = files.get(url)!;
  importer?.imports.set(url, version);
  // Without "type": "module" beside it, a .ts file would be taken for CommonJS.
  if (/\.m?tsx?$/.test(url)) resolved.format = 'module';
  if (version === 0) return resolved;
  const mark = resolved.url.includes('?') ? '&' : '?';
  return { ...resolved, url: `${resolved.url}${mark}v=${version}` };
};
