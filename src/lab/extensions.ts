// Which JupyterLab packages go into the page: the dependencies of package.json that call themselves
// JupyterLab extensions, with their settings schemas, style sheets and themes.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder of the package `peftlab`. */
export const PACKAGE_ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** One package that adds plugins to JupyterLab. */
export interface LabExtension {
  name: string;
  version: string;
  /** Where it is installed. */
  folder: string;
  /** Module with its plugins: the package itself, or a path in it. */
  module: string;
  /** `mime` extensions only render outputs. */
  kind: 'plugin' | 'mime';
  /** Module that imports its style sheets. */
  style?: string;
  /** Style sheet of a theme. */
  theme?: string;
  schemaFolder?: string;
}

/** A settings schema, as the server's `/lab/api/settings` gives it. */
export interface LabSchema {
  version: string;
  schema: Record<string, unknown>;
}

interface Manifest {
  name: string;
  version: string;
  styleModule?: string;
  dependencies?: Record<string, string>;
  jupyterlab?: {
    extension?: boolean | string;
    mimeExtension?: boolean | string;
    schemaDir?: string;
    themePath?: string;
  };
}

/** Defaults that differ from JupyterLab's: schema id -> property -> default. */
const DEFAULTS: Record<string, Record<string, unknown>> = {
  '@jupyterlab/apputils-extension:notification': { fetchNews: 'false', checkForUpdates: false },
  // An answer that is late (the first on a slow machine) is shown all the same.
  '@jupyterlab/completer-extension:manager': { autoCompletion: true, providerTimeout: 5000 },
};

/** Folder of an installed package, wherever npm has put it. */
export function packageFolder(name: string): string {
  const places = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const folder = places.map((place) => join(place, name)).find((place) => existsSync(place));
  if (!folder) throw new Error(`Package ${name} is not installed; run npm ci`);
  return folder;
}

function readManifest(folder: string): Manifest {
  return JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Manifest;
}

/** All extensions, in the order of package.json. */
export function labExtensions(): LabExtension[] {
  const names = Object.keys(readManifest(PACKAGE_ROOT).dependencies ?? {});
  const candidates = names.filter((name) => /^@jupyter(lab|-widgets)\//.test(name));
  return candidates.flatMap((name): LabExtension[] => {
    const folder = packageFolder(name);
    const { version, styleModule, jupyterlab } = readManifest(folder);
    const entry = jupyterlab?.extension ?? jupyterlab?.mimeExtension;
    if (!jupyterlab || !entry) return [];
    const { themePath, schemaDir } = jupyterlab;
    return [
      {
        ...{ name, version, folder },
        module: typeof entry === 'string' ? `${name}/${entry}` : name,
        kind: jupyterlab.extension ? 'plugin' : 'mime',
        ...(themePath ? { theme: join(folder, themePath) } : {}),
        ...(styleModule && !themePath ? { style: `${name}/${styleModule}` } : {}),
        ...(schemaDir ? { schemaFolder: join(folder, schemaDir) } : {}),
      },
    ];
  });
}

/** Settings schemas of `extensions` by id (`<package>:<plugin>`), with our defaults. */
export function labSchemas(extensions: readonly LabExtension[]): Record<string, LabSchema> {
  const schemas: Record<string, LabSchema> = {};
  for (const { name, version, schemaFolder } of extensions) {
    if (!schemaFolder) continue;
    for (const file of readdirSync(schemaFolder).filter((f) => f.endsWith('.json'))) {
      const schema = JSON.parse(readFileSync(join(schemaFolder, file), 'utf8')) as object;
      schemas[`${name}:${file.slice(0, -'.json'.length)}`] = { version, schema: { ...schema } };
    }
  }
  for (const [id, defaults] of Object.entries(DEFAULTS)) {
    const properties = schemas[id]?.schema.properties as Record<string, object> | undefined;
    for (const [key, value] of Object.entries(defaults)) {
      if (!properties?.[key]) throw new Error(`JupyterLab has no setting ${key} of ${id}`);
      properties[key] = { ...properties[key], default: value };
    }
  }
  return schemas;
}
