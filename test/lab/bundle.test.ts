// The page's bundle, built from the installed packages.
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { buildLab } from '../../src/lab/bundle.ts';
import { labExtensions, labSchemas } from '../../src/lab/extensions.ts';
import { installLabextension, uninstallLabextension } from '../../src/lab/prebuilt.ts';

describe('The bundle of JupyterLab', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peftlab bundle '));
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('takes the extensions of package.json, all of one release of JupyterLab', () => {
    const extensions = labExtensions();
    const names = extensions.map(({ name }) => name);
    expect(names).to.include.members([
      '@jupyterlab/notebook-extension',
      '@jupyterlab/debugger-extension',
      '@jupyter-widgets/jupyterlab-manager',
    ]);
    const releases = extensions
      .filter(({ name }) => name.startsWith('@jupyterlab/'))
      .map(({ version }) => version.split('.').slice(1).join('.'));
    expect([...new Set(releases)].sort()).to.deep.equal(['4.4', '6.4']);
    const schemas = labSchemas(extensions);
    const { properties } = schemas['@jupyterlab/completer-extension:manager']!.schema as {
      properties: Record<string, { default: unknown }>;
    };
    expect(properties.autoCompletion!.default).to.equal(true);
  });

  it('is built once, with what the server hands out', async () => {
    let files = 0;
    const onProgress = (n: number) => {
      files = n;
    };
    const first = await buildLab({ cache: folder, onProgress });
    expect(files).to.be.greaterThan(1000);
    for (const path of ['static/lab.js', 'static/lab.css', 'schemas.json']) {
      expect(existsSync(join(first, path)), path).to.equal(true);
    }
    const dark = join(first, 'themes', '@jupyterlab', 'theme-dark-extension', 'index.css');
    expect(readFileSync(dark, 'utf8')).to.contain('--jp-layout-color0');
    files = 0;
    expect(await buildLab({ cache: folder, onProgress })).to.equal(first);
    expect(files).to.equal(0);
  });

  it('has a prebuilt extension of the Plotly renderer for other JupyterLabs', async () => {
    const made = await installLabextension(folder);
    const manifest = JSON.parse(readFileSync(join(made, 'package.json'), 'utf8')) as {
      jupyterlab: { _build: { load: string; mimeExtension: string } };
    };
    const { load, mimeExtension } = manifest.jupyterlab._build;
    expect(mimeExtension).to.equal('./mimeExtension');
    expect(readFileSync(join(made, load), 'utf8')).to.contain('_JUPYTERLAB["peftlab-plotly"]');
    expect(uninstallLabextension(folder)).to.equal(true);
    expect(uninstallLabextension(folder)).to.equal(false);
  });
});
