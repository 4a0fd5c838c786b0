// TypeScript's language service over the cells of a notebook. The cell at hand is one module with a
// fixed name; every earlier cell stays a module of its own that exports its names. The cell imports
// just the names that it uses, at its end, so that positions are those of the user's text and the cost of
// a check does not grow with the number of cells.
import { join } from 'node:path';
import ts from 'typescript';
import type { Declarations, Kind } from './bindings.ts';

/** A name of an earlier cell. */
export interface Known {
  kind: Kind;
  module: string;
}

const DEFAULTS: ts.CompilerOptions = {
  strict: true,
  lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts', 'lib.decorators.d.ts'],
  skipLibCheck: true,
};

/** Options that cells need, whatever the user's tsconfig says. */
const REQUIRED: ts.CompilerOptions = {
  target: ts.ScriptTarget.ESNext,
  module: ts.ModuleKind.ESNext,
  moduleResolution: ts.ModuleResolutionKind.Bundler,
  moduleDetection: ts.ModuleDetectionKind.Force,
  allowImportingTsExtensions: true,
  resolveJsonModule: true,
  esModuleInterop: true,
  noEmit: true,
  allowJs: true,
  checkJs: false,
  noUnusedLocals: false,
  noUnusedParameters: false,
  verbatimModuleSyntax: false,
  isolatedModules: false,
  erasableSyntaxOnly: false,
  composite: false,
  incremental: false,
  declaration: false,
};

const CELL_IMPORT = /"\.\/(__cell_\d+__\.tsx?)"/g;

/** Files and options of the language service of one notebook folder. */
export class LanguageHost {
  readonly service: ts.LanguageService;
  readonly options: ts.CompilerOptions;
  /** Path of the cell at hand. */
  readonly cellPath: string;
  private readonly cwd: string;
  private readonly env: string;
  private readonly virtual = new Map<string, { text: string; version: number }>();
  private readonly stamps = new Map<string, { version: string; checked: number }>();
  private readonly snapshots = new Map<string, { version: string; snapshot: ts.IScriptSnapshot }>();
  private version = 0;
  private generation = 0;

  /** `env` is the declaration file of the names that the kernel gives; `typeRoots` of its own types. */
  constructor(cwd: string, env: string, typeRoots: readonly string[]) {
    this.cwd = cwd;
    this.env = env;
    this.options = compilerOptions(cwd, typeRoots);
    this.options.paths = { ...ownPackage(env), ...this.options.paths };
    const jsx = this.options.jsx !== undefined && this.options.jsx !== ts.JsxEmit.None;
    this.cellPath = join(cwd, jsx ? '__cell__.tsx' : '__cell__.ts');
    this.setCell('');
    this.service = ts.createLanguageService(this.host(), lastingRegistry());
  }

  /** Puts `text` in the place of the cell at hand. */
  setCell(text: string): void {
    if (this.virtual.get(this.cellPath)?.text !== text) this.put(this.cellPath, text);
    this.generation++;
  }

  /** Keeps a cell as a module which later cells import from; returns its path. */
  addModule(number: number, text: string, declares: Declarations): string {
    const path = join(this.cwd, `__cell_${number}__.${this.cellPath.endsWith('x') ? 'tsx' : 'ts'}`);
    const exported = [...declares.keys()].filter((name) => !isExported(text, name));
    this.put(path, `${text}\nexport { ${exported.join(', ')} };\n`);
    return path;
  }

  /** Forgets modules that neither `used` ones nor what those import need. */
  keepModules(used: Iterable<string>): void {
    const keep = new Set<string>();
    const queue = [...used];
    for (let path = queue.pop(); path; path = queue.pop()) {
      if (keep.has(path)) continue;
      keep.add(path);
      for (const [, file] of this.virtual.get(path)?.text.matchAll(CELL_IMPORT) ?? []) {
        queue.push(join(this.cwd, file!));
      }
    }
    for (const path of this.virtual.keys()) {
      if (path !== this.cellPath && !keep.has(path)) this.virtual.delete(path);
    }
  }

  /** Lines to put after a cell so that it sees `names` of earlier cells. */
  importLines(names: readonly (readonly [string, Known])[]): string {
    const imports = new Map<string, string[]>();
    const lines: string[] = [];
    for (const [name, { kind, module }] of names) {
      const specifier = JSON.stringify(`./${module.slice(this.cwd.length + 1)}`);
      // Imports can't be assigned to; a variable of the same type can.
      if (kind === 'let' || kind === 'var') {
        lines.push(`declare var ${name}: typeof import(${specifier}).${name};`);
      } else imports.set(specifier, [...(imports.get(specifier) ?? []), name]);
    }
    for (const [specifier, list] of imports)
      lines.push(`import { ${list.join(', ')} } from ${specifier};`);
    return lines.length > 0 ? `\n;${lines.join('\n')}\n` : '';
  }

  private put(path: string, text: string): void {
    this.virtual.set(path, { text, version: ++this.version });
  }

  private host(): ts.LanguageServiceHost {
    const read = (path: string) => this.virtual.get(path)?.text ?? ts.sys.readFile(path);
    return {
      getCompilationSettings: () => this.options,
      getScriptFileNames: () => [this.env, this.cellPath],
      getScriptVersion: (path) => this.scriptVersion(path),
      getScriptSnapshot: (path) => this.snapshot(path, read),
      getCurrentDirectory: () => this.cwd,
      getDefaultLibFileName: (options) => ts.getDefaultLibFilePath(options),
      fileExists: (path) => this.virtual.has(path) || ts.sys.fileExists(path),
      readFile: read,
      readDirectory: ts.sys.readDirectory,
      directoryExists: ts.sys.directoryExists,
      getDirectories: ts.sys.getDirectories,
      realpath: ts.sys.realpath!,
      useCaseSensitiveFileNames: () => ts.sys.useCaseSensitiveFileNames,
    };
  }

  /** The service asks for every file at every check: a text is read once per version. */
  private snapshot(
    path: string,
    read: (path: string) => string | undefined,
  ): ts.IScriptSnapshot | undefined {
    const version = this.scriptVersion(path);
    const known = this.snapshots.get(path);
    if (known?.version === version) return known.snapshot;
    const text = read(path);
    if (text === undefined) return undefined;
    const snapshot = ts.ScriptSnapshot.fromString(text);
    if (!this.virtual.has(path)) this.snapshots.set(path, { version, snapshot });
    return snapshot;
  }

  /** Local files are looked at again for each new cell; packages and libraries once. */
  private scriptVersion(path: string): string {
    const own = this.virtual.get(path);
    if (own) return String(own.version);
    const known = this.stamps.get(path);
    if (known && (known.checked === this.generation || path.includes('/node_modules/'))) {
      return known.version;
    }
    const version = String(ts.sys.getModifiedTime?.(path)?.getTime() ?? 0);
    this.stamps.set(path, { version, checked: this.generation });
    return version;
  }

  /** Versions of the local files that the cell at hand depends on, for caching. */
  localStamp(): string {
    const program = this.service.getProgram();
    const local = program?.getSourceFiles().filter((f) => this.isLocalFile(f.fileName)) ?? [];
    return local
      .map((f) => `${f.fileName} ${ts.sys.getModifiedTime?.(f.fileName)?.getTime() ?? 0}`)
      .join('\n');
  }

  private isLocalFile(path: string): boolean {
    return !path.includes('/node_modules/') && !this.virtual.has(path) && path !== this.env;
  }
}

function isExported(text: string, name: string): boolean {
  const escaped = name.replaceAll('$', '\\$');
  return new RegExp(`\\bexport\\b[^;\\n]*[\\s{,*]${escaped}(?![\\w$])`).test(text);
}

/** Parsed files of packages stay, also while no cell mentions them: parsing TensorFlow.js takes a second. */
function lastingRegistry(): ts.DocumentRegistry {
  const registry = ts.createDocumentRegistry();
  const release = registry.releaseDocumentWithKey.bind(registry);
  registry.releaseDocumentWithKey = (
    path: ts.Path,
    ...rest: [ts.DocumentRegistryBucketKey, ts.ScriptKind?]
  ) => {
    if (!path.includes('/node_modules/'))
      release(path, ...(rest as [ts.DocumentRegistryBucketKey, ts.ScriptKind]));
  };
  return registry;
}

/** Where `peftlab` is for notebooks outside of its folder; `env` lies in its src/kernel. */
function ownPackage(env: string): Record<string, string[]> {
  const source = join(env, '..', '..');
  return { peftlab: [join(source, 'index.ts')], 'peftlab/*': [join(source, '*', 'index.ts')] };
}

/** The user's tsconfig.json, if there is one at or above `cwd`, with what cells need. */
function compilerOptions(cwd: string, ownTypeRoots: readonly string[]): ts.CompilerOptions {
  const path = ts.findConfigFile(cwd, ts.sys.fileExists);
  let user: ts.CompilerOptions = {};
  if (path) {
    const { config } = ts.readConfigFile(path, ts.sys.readFile) as { config?: object };
    const parsed = ts.parseJsonConfigFileContent(
      { ...config, files: [], include: [] },
      ts.sys,
      join(path, '..'),
      undefined,
      path,
    );
    user = parsed.options;
  }
  const userRoots =
    user.typeRoots ?? ts.getEffectiveTypeRoots({}, { getCurrentDirectory: () => cwd }) ?? [];
  const typeRoots = [...userRoots.filter((root) => ts.sys.directoryExists(root)), ...ownTypeRoots];
  const merged: ts.CompilerOptions = { ...DEFAULTS, ...user, ...REQUIRED, typeRoots };
  merged.types = ['node'];
  delete merged.outDir;
  delete merged.rootDir;
  delete merged.tsBuildInfoFile;
  delete merged.customConditions;
  return merged;
}
