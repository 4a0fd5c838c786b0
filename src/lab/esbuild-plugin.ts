// What JupyterLab's packages expect of webpack, for esbuild: icons as text, `~package` style sheets, Node's
// modules, `require.ensure`; and a schema validator that needs no `eval`, for a strict content policy.
import { readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { OnLoadResult, Plugin, PluginBuild } from 'esbuild';

const NODE_MODULES: Record<string, string> = {
  path: 'path-browserify',
  process: 'process/browser.js',
  buffer: 'buffer/index.js',
};
const LARGE_ICON = 20_000;
const SLIDER_NAMES = `handleAttributes: [this.model.get('value') ?? this.model.get('index')].flat()
  .map(() => ({ 'aria-label': this.model.get('description') || this.model.get('tooltip') || 'Slider' })),`;

/** The plugin; `onFile` is called for each file read. */
export function jupyterlabPlugin(browserFolder: string, onFile: () => void): Plugin {
  return {
    name: 'jupyterlab',
    setup(build) {
      resolveModules(build, browserFolder);
      loadIcons(build);
      patchSources(build);
      build.onLoad({ filter: /./, namespace: 'file' }, () => {
        onFile();
        return null;
      });
    },
  };
}

function resolveModules(build: PluginBuild, browserFolder: string): void {
  const { resolve } = createRequire(import.meta.url);
  build.onResolve({ filter: /^~/ }, ({ path, kind, resolveDir, importer }) =>
    build.resolve(path.slice(1), { kind, resolveDir, importer }),
  );
  build.onResolve({ filter: /^(path|process|buffer)\/?$/ }, ({ path }) => ({
    path: resolve(NODE_MODULES[path.replace('/', '')]!),
  }));
  build.onResolve({ filter: /^ajv$/ }, ({ importer }) =>
    /settingregistry|validator-ajv8/.test(importer)
      ? { path: join(browserFolder, 'schema-validator.ts') }
      : null,
  );
  build.onResolve({ filter: /^ajv-formats$/ }, () => ({
    path: join(browserFolder, 'schema-formats.ts'),
  }));
}

/** An .svg is text when JavaScript imports it, and an image when a style sheet names it. */
function loadIcons(build: PluginBuild): void {
  const again = Symbol('again');
  build.onResolve({ filter: /\.svg([?#].*)?$/ }, async (args) => {
    const { path, kind, resolveDir, importer, pluginData } = args;
    if (kind !== 'url-token' || pluginData === again || path.startsWith('data:')) return null;
    const options = { kind, resolveDir, importer, pluginData: again };
    const found = await build.resolve(path.replace(/[?#].*$/, ''), options);
    return { path: found.path, namespace: 'icon-url' };
  });
  build.onLoad({ filter: /./, namespace: 'icon-url' }, ({ path }) => ({
    contents: readFileSync(path),
    loader: statSync(path).size > LARGE_ICON ? 'file' : 'dataurl',
  }));
  build.onLoad({ filter: /\.svg$/, namespace: 'file' }, ({ path }) => ({
    contents: readFileSync(path),
    loader: 'text',
  }));
}

/** Files that use webpack's own ways to load a module late, or leave out what everybody needs. */
function patchSources(build: PluginBuild): void {
  const patched = (path: string, pattern: RegExp, by: string): OnLoadResult => {
    const source = readFileSync(path, 'utf8');
    const contents = source.replace(pattern, by);
    if (contents === source) throw new Error(`${path} has changed: nothing matches ${pattern}`);
    return { contents, loader: 'js' };
  };
  build.onLoad({ filter: /jupyterlab-manager.lib.plugin\.js$/ }, ({ path }) =>
    patched(
      path,
      /require\.ensure\([\s\S]*?'@jupyter-widgets\/controls'\);/,
      "import('@jupyter-widgets/controls').then(m => resolve(m.HTMLModel ? m : m.default), reject);",
    ),
  );
  // The handles of ipywidgets' sliders have no name for screen readers: they get the slider's own.
  build.onLoad({ filter: /controls.lib.widget_(int|float|selection)\.js$/ }, ({ path }) =>
    patched(path, /noUiSlider\.create\(this\.\$slider, \{/g, `$&\n${SLIDER_NAMES}`),
  );
  // A CommonJS module that is imported late has its exports on `default`.
  build.onLoad({ filter: /fileeditor.lib.toc.python\.js$/ }, ({ path }) =>
    patched(
      path,
      /import\((["']regexp-match-indices["'])\)/g,
      'import($1).then(m => m.default ?? m)',
    ),
  );
}
