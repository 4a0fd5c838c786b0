// `import` in a cell: specifiers resolve from the notebook's folder, then (for the kernel's own
// packages) from the kernel's. Local files and TypeScript go through module-hooks.ts.
import { createRequire, isBuiltin, register } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Scope } from './scope.ts';

/** Packages that every notebook can import, wherever it lies. */
const OWN_PACKAGES = [
  'peftlab',
  '@tensorflow/tfjs',
  '@tensorflow/tfjs-backend-wasm',
  'danfojs-node',
];
const TYPESCRIPT = /\.[cm]?tsx?$/;

/** Loads modules for cells whose notebook lies in `cwd`. */
export class Imports {
  private readonly base: string;
  private readonly own: string;
  private readonly hooksUrl: string;
  private readonly builtins: ReadonlyMap<string, object>;
  private hasHooks = false;

  /** `builtins` are modules that the kernel itself provides, such as `tslab`. */
  constructor(cwd: string, hooksUrl: string, builtins: ReadonlyMap<string, object>) {
    this.base = pathToFileURL(join(cwd, 'notebook.ts')).href;
    // The compiled kernel lies in the package's node_modules/.cache, from where it can't name itself.
    this.own = import.meta.url.replace(/node_modules\/\.cache\/peftlab\/.*$/, 'package.json');
    this.hooksUrl = hooksUrl;
    this.builtins = builtins;
  }

  /** `await import(specifier)` as seen from the notebook's folder. */
  load = async (specifier: string, attributes?: Record<string, string>): Promise<object> => {
    const provided = this.builtins.get(specifier);
    if (provided) return provided;
    if (isBuiltin(specifier)) return import(specifier);
    const url = this.resolve(String(specifier));
    const isPackage = url.includes('/node_modules/');
    if (url.startsWith('file:') && (!isPackage || TYPESCRIPT.test(url))) this.useHooks();
    const withAttributes = attributes ?? (url.endsWith('.json') ? { type: 'json' } : undefined);
    return import(url, withAttributes ? ({ with: withAttributes } as object) : undefined);
  };

  /** `require`, `require.resolve` ... of the notebook's folder. */
  readonly require = (): NodeJS.Require => createRequire(this.base);

  /** The URL that `specifier` stands for in a cell. */
  resolve = (specifier: string): string => {
    try {
      return import.meta.resolve(specifier, this.base);
    } catch (error) {
      const isOwn = OWN_PACKAGES.some(
        (name) => specifier === name || specifier.startsWith(`${name}/`),
      );
      if (!isOwn) throw cleanResolveError(error, specifier);
      return import.meta.resolve(specifier, this.own);
    }
  };

  private useHooks(): void {
    if (this.hasHooks) return;
    this.hasHooks = true;
    process.setSourceMapsEnabled(true);
    register(this.hooksUrl);
  }
}

/** `import { a as b } from 'm'`: puts the exports of `module` into boxes. */
export function bindImports(
  scope: Scope,
  specifier: string,
  module: object,
  pairs: readonly (readonly [imported: string, box: { name: string; v: unknown }])[],
): void {
  for (const [imported, box] of pairs) {
    const holder = holderOf(module, imported);
    if (imported === '*') box.v = module;
    else if (holder) box.v = Reflect.get(holder, imported);
    else {
      const message = `The module '${specifier}' does not provide an export named '${imported}'`;
      scope.poison(box.name, () => new SyntaxError(message));
    }
  }
}

/** CommonJS modules may show their names on `default` only. */
function holderOf(module: object, name: string): object | null {
  if (name in module) return module;
  const fallback: unknown = Reflect.get(module, 'default');
  const isObject =
    (typeof fallback === 'object' && fallback !== null) || typeof fallback === 'function';
  return isObject && name in (fallback as object) ? (fallback as object) : null;
}

function cleanResolveError(error: unknown, specifier: string): Error {
  const { code } = error as NodeJS.ErrnoException;
  if (code !== 'ERR_MODULE_NOT_FOUND') return error as Error;
  const clean = new Error(
    `Cannot find package '${specifier}' from the notebook's folder; install it there with npm`,
  );
  return Object.assign(clean, { code });
}
