// The Plotly renderer as a prebuilt extension of Python's JupyterLab 4: a folder that it finds below
// `share/jupyter/labextensions`. JupyterLab loads a webpack container from there; this one is written by
// hand, since one module and one shared package need no webpack.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'esbuild';
import { PACKAGE_ROOT } from './extensions.ts';

/** Name of the extension. */
export const LABEXTENSION = 'peftlab-plotly';

const BROWSER = join(PACKAGE_ROOT, 'src', 'lab', 'browser');

/** Packages that the extension takes from JupyterLab, and what it uses of each. */
const SHARED: Record<string, readonly string[]> = { '@lumino/widgets': ['Widget'] };

/** What JupyterLab calls: `init` with its shared packages, `get` with the name of a module. */
const CONTAINER = `(() => {
  const base = document.currentScript.src;
  let shared = {};
  const packageOf = async (name) => {
    const versions = Object.values(shared[name] ?? {});
    if (versions.length === 0) throw new Error('JupyterLab shares no ' + name);
    return (await versions.at(-1).get())();
  };
  globalThis._JUPYTERLAB ??= {};
  globalThis._JUPYTERLAB[${JSON.stringify(LABEXTENSION)}] = {
    init(scope) { shared = scope; },
    async get(name) {
      if (name !== './mimeExtension') throw new Error('No module ' + name);
      globalThis[Symbol.for('peftlab.packageOf')] = packageOf;
      const { plotlyMimePlugin } = await import(new URL('./renderer.js', base).href);
      return () => ({ __esModule: true, default: plotlyMimePlugin });
    },
  };
})();
`;

/** Shared packages as modules that ask the container. */
function sharedPackages(): Plugin {
  return {
    name: 'shared',
    setup(build) {
      const filter = new RegExp(`^(${Object.keys(SHARED).join('|')})$`);
      build.onResolve({ filter }, ({ path }) => ({ path, namespace: 'shared' }));
      build.onLoad({ filter: /./, namespace: 'shared' }, ({ path }) => ({
        contents: `export const { ${SHARED[path]!.join(', ')} } =
          await globalThis[Symbol.for('peftlab.packageOf')](${JSON.stringify(path)});`,
      }));
    },
  };
}

/** Writes the extension below `dataFolder` (Jupyter's `share/jupyter`); returns its folder. */
export async function installLabextension(dataFolder: string): Promise<string> {
  const { build } = await import('esbuild');
  const folder = join(dataFolder, 'labextensions', LABEXTENSION);
  const partial = `${folder}.${process.pid}`;
  mkdirSync(join(partial, 'static'), { recursive: true });
  await build({
    entryPoints: { renderer: join(BROWSER, 'plotly.ts') },
    outdir: join(partial, 'static'),
    chunkNames: '[name]-[hash]',
    ...{ bundle: true, splitting: true, format: 'esm', minify: true, target: 'es2022' },
    logLevel: 'error',
    tsconfig: join(BROWSER, 'tsconfig.json'),
    plugins: [sharedPackages()],
  });
  const renderer = readFileSync(join(partial, 'static', 'renderer.js'));
  const stamp = createHash('sha256').update(CONTAINER).update(renderer).digest('hex').slice(0, 20);
  writeFileSync(join(partial, 'static', `remoteEntry.${stamp}.js`), CONTAINER);
  writeFileSync(join(partial, 'package.json'), `${JSON.stringify(manifest(stamp), null, 2)}\n`);
  rmSync(folder, { recursive: true, force: true });
  renameSync(partial, folder);
  return folder;
}

/** Removes the extension; false if it was not there. */
export function uninstallLabextension(dataFolder: string): boolean {
  const folder = join(dataFolder, 'labextensions', LABEXTENSION);
  if (!existsSync(folder)) return false;
  rmSync(folder, { recursive: true, force: true });
  return true;
}

function manifest(stamp: string): object {
  const { version } = JSON.parse(readFileSync(join(PACKAGE_ROOT, 'package.json'), 'utf8')) as {
    version: string;
  };
  return {
    name: LABEXTENSION,
    version,
    description: 'Draws Plotly figures in JupyterLab',
    license: 'Apache-2.0',
    jupyterlab: {
      mimeExtension: true,
      outputDir: '.',
      _build: { load: `static/remoteEntry.${stamp}.js`, mimeExtension: './mimeExtension' },
    },
  };
}
