// Which installed package exports which name, for completion and for hints at unknown names. Read from
// the packages' declaration files by syntax alone, one package at a time, following `export ... from`;
// Node's own modules are asked. TypeScript's own list takes ten times as long, at each completion.
import { readFileSync } from 'node:fs';
import { builtinModules, createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import ts from 'typescript';

const MOST_FILES = 600;

/** Names exported by the dependencies of the notebook's package, and by the library itself. */
export class ExportsIndex {
  private readonly from: string;
  private readonly options: ts.CompilerOptions;
  private readonly waiting: string[];
  private readonly packages = new Map<string, Set<string>>();
  private builtins: [name: string, exports: Set<string>][] | undefined;

  /** `from` is a file in the notebook's folder; `own` are packages that every notebook can import. */
  constructor(from: string, options: ts.CompilerOptions, own: readonly string[]) {
    this.from = from;
    this.options = options;
    this.waiting = [...new Set([...own, ...dependencies(dirname(from))])];
  }

  /** Reads Node's modules, then the next package at each call; false when all have been read. */
  step(): boolean {
    if (!this.builtins) {
      this.builtins = exportsOfBuiltins();
      return true;
    }
    const name = this.waiting.shift();
    if (name === undefined) return false;
    const entry = this.resolve(name, this.from);
    if (entry) this.packages.set(name, this.exportsOf(entry));
    return this.waiting.length > 0;
  }

  /** Names that begin with `prefix`, each with the packages that export it. */
  find(prefix: string): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const [name, exports] of [...this.packages, ...(this.builtins ?? [])]) {
      for (const exported of exports) {
        if (exported.startsWith(prefix))
          found.set(exported, [...(found.get(exported) ?? []), name]);
      }
    }
    return found;
  }

  private resolve(specifier: string, from: string): string | null {
    const { resolvedModule } = ts.resolveModuleName(specifier, from, this.options, ts.sys);
    return resolvedModule?.resolvedFileName ?? null;
  }

  private exportsOf(entry: string): Set<string> {
    const names = new Set<string>();
    const seen = new Set([entry]);
    const queue = [entry];
    for (let path = queue.pop(); path && seen.size < MOST_FILES; path = queue.pop()) {
      const text = ts.sys.readFile(path);
      if (text === undefined) continue;
      const file = ts.createSourceFile(path, text, ts.ScriptTarget.Latest, false);
      for (const statement of file.statements) {
        for (const name of exportedNames(statement)) names.add(name);
        const source = starSource(statement);
        const next = source === null ? null : this.resolve(source, path);
        if (next && !seen.has(next)) queue.push(next);
        if (next) seen.add(next);
      }
    }
    names.delete('default');
    return names;
  }
}

/** Modules that warn when they are loaded, and those that nobody imports single names from. */
const LEFT_OUT = new Set('punycode sys wasi sqlite constants domain console process'.split(' '));

function exportsOfBuiltins(): [string, Set<string>][] {
  const require = createRequire(import.meta.url);
  return builtinModules
    .filter((name) => !/^_|\//.test(name) && !LEFT_OUT.has(name))
    .flatMap((name) => {
      try {
        return [[`node:${name}`, new Set(Object.keys(require(name) as object))]];
      } catch {
        // Some do not exist in threads, as trace_events.
        return [];
      }
    });
}

/** Dependencies of the nearest package.json at or above `folder`. */
function dependencies(folder: string): string[] {
  const path = ts.findConfigFile(folder, ts.sys.fileExists, 'package.json');
  if (!path) return [];
  try {
    const { dependencies = {} } = JSON.parse(readFileSync(join(path), 'utf8')) as {
      dependencies?: Record<string, string>;
    };
    return Object.keys(dependencies);
  } catch {
    return [];
  }
}

/** The module of `export * from 'm'`, without a name of its own. */
function starSource(statement: ts.Statement): string | null {
  if (!ts.isExportDeclaration(statement) || statement.exportClause) return null;
  const from = statement.moduleSpecifier;
  return from && ts.isStringLiteral(from) ? from.text : null;
}

function exportedNames(statement: ts.Statement): string[] {
  if (ts.isExportDeclaration(statement)) {
    const clause = statement.exportClause;
    if (!clause) return [];
    if (ts.isNamespaceExport(clause)) return [clause.name.text];
    return clause.elements.map((element) => element.name.text);
  }
  const isExported =
    ts.canHaveModifiers(statement) &&
    ts.getModifiers(statement)?.some((m) => m.kind === ts.SyntaxKind.ExportKeyword);
  if (!isExported) return [];
  if (ts.isVariableStatement(statement)) {
    return statement.declarationList.declarations.flatMap((d) =>
      ts.isIdentifier(d.name) ? [d.name.text] : [],
    );
  }
  const { name } = statement as { name?: ts.Node };
  return name && ts.isIdentifier(name) ? [name.text] : [];
}
