// JupyterLab's page from npm's packages: bundled once by esbuild, kept under the hash of all that goes in.
// Gives static/lab.js and lab.css, schemas.json, and themes/<package>/index.css.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { BuildOptions } from 'esbuild';
import { jupyterlabPlugin } from './esbuild-plugin.ts';
import { type LabExtension, labExtensions, labSchemas, PACKAGE_ROOT } from './extensions.ts';

/** Options of `buildLab`. */
export interface LabBuildOptions {
  /** Called now and then with the number of files read so far; not at all if nothing is to be built. */
  onProgress?: (files: number) => void;
  /** Folder of the cache; default `~/.cache/peftlab/lab`. */
  cache?: string;
}

const HERE = join(PACKAGE_ROOT, 'src', 'lab');
const BROWSER = join(HERE, 'browser');
const ASSETS = ['.woff', '.woff2', '.ttf', '.eot', '.otf', '.png', '.jpg', '.gif'];
const KEPT_BUILDS = 3;
const PROGRESS_FILES = 250;

/** Folder of the bundled page; builds it (10 s) unless one of the same inputs is there. */
export async function buildLab(options: LabBuildOptions = {}): Promise<string> {
  const { onProgress, cache = join(homedir(), '.cache', 'peftlab', 'lab') } = options;
  const extensions = labExtensions();
  const folder = join(cache, inputsHash(extensions));
  if (existsSync(join(folder, 'schemas.json'))) {
    utimesSync(folder, new Date(), new Date());
    return folder;
  }
  const partial = `${folder}.${process.pid}`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  try {
    await bundle(extensions, partial, onProgress ?? (() => {}));
    if (!existsSync(folder)) renameSync(partial, folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  removeOldBuilds(cache);
  return folder;
}

/** Hash of the packages' versions and of the sources here. */
function inputsHash(extensions: readonly LabExtension[]): string {
  const hash = createHash('sha256');
  const lock = join(PACKAGE_ROOT, 'package-lock.json');
  if (existsSync(lock)) hash.update(readFileSync(lock));
  for (const { name, version } of extensions) hash.update(`${name}@${version}\n`);
  const sources = readdirSync(HERE, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  for (const path of sources) hash.update(path.slice(HERE.length)).update(readFileSync(path));
  return hash.digest('hex').slice(0, 16);
}

async function bundle(
  extensions: readonly LabExtension[],
  folder: string,
  onProgress: (files: number) => void,
): Promise<void> {
  const { build } = await import('esbuild');
  let files = 0;
  const onFile = () => {
    if (++files % PROGRESS_FILES === 0) onProgress(files);
  };
  const common: BuildOptions = {
    bundle: true,
    minify: true,
    target: 'es2022',
    logLevel: 'error',
    legalComments: 'none',
    absWorkingDir: PACKAGE_ROOT,
    loader: {
      ...Object.fromEntries(ASSETS.map((extension) => [extension, 'file' as const])),
      ...{ '.html': 'text', '.md': 'text' },
    },
    assetNames: 'assets/[name]-[hash]',
    define: {
      'process.env.NODE_ENV': '"production"',
      global: 'globalThis',
      ...{ __dirname: '"/"', __filename: '"/index.js"' },
    },
    plugins: [jupyterlabPlugin(BROWSER, onFile)],
  };
  await build({
    ...common,
    stdin: { contents: entrySource(extensions), resolveDir: BROWSER, loader: 'ts' },
    outdir: join(folder, 'static'),
    entryNames: 'lab',
    chunkNames: 'chunks/[name]-[hash]',
    format: 'esm',
    splitting: true,
    external: ['ws'],
    inject: [join(BROWSER, 'node-globals.ts')],
    tsconfig: join(BROWSER, 'tsconfig.json'),
  });
  for (const { name, theme } of extensions) {
    if (!theme) continue;
    const outdir = join(folder, 'themes', name);
    await build({ ...common, entryPoints: [{ in: theme, out: 'index' }], outdir });
  }
  writeFileSync(join(folder, 'schemas.json'), JSON.stringify(labSchemas(extensions)));
}

/** The page's script: all extensions, then our own, handed to `start`. */
function entrySource(extensions: readonly LabExtension[]): string {
  const list = (kind: LabExtension['kind']) =>
    extensions
      .map(({ name, kind: own }, i) => (own === kind ? `[${JSON.stringify(name)}, e${i}],` : ''))
      .join('');
  return [
    ...extensions.flatMap(({ style }) => (style ? [`import '${style}';`] : [])),
    ...extensions.map(({ module }, i) => `import * as e${i} from '${module}';`),
    `import { mimePlugins, plugins } from './plugins.ts';`,
    `import { start } from './main.ts';`,
    `start([${list('plugin')} ['peftlab', { default: plugins }]],`,
    `  [${list('mime')} ['peftlab', { default: mimePlugins }]]);`,
  ].join('\n');
}

function removeOldBuilds(cache: string): void {
  const builds = readdirSync(cache, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && /^[0-9a-f]{16}$/.test(entry.name))
    .map((entry) => join(cache, entry.name))
    .sort((a, b) => changed(b) - changed(a));
  for (const old of builds.slice(KEPT_BUILDS)) rmSync(old, { recursive: true, force: true });
}

function changed(folder: string): number {
  return statSync(folder).mtimeMs;
}
