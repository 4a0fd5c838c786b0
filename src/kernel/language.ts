// What the kernel knows of TypeScript: compiles and checks a cell, completes, inspects, and says whether
// a text is a complete cell. Lives in a thread of its own (language-thread.ts), so that running
// code never blocks it.
import ts from 'typescript';
import { type Kind, topLevelDeclarations } from './bindings.ts';
import { compileCell, parseCell } from './compiler.ts';
import { type Completions, completeAt } from './complete.ts';
import { blocksCell, formatDiagnostics, isNoise, type TypesMode } from './diagnostics.ts';
import { ExportsIndex } from './exports-index.ts';
import { type Inspection, inspectAt } from './inspect.ts';
import { type Known, LanguageHost } from './language-host.ts';
import { type Magics, parseMagics } from './magics.ts';
import type { CellError, MimeBundle } from './protocol.ts';

/** A cell to compile. */
export interface CompileRequest {
  code: string;
  /** `In[3]` */
  label: string;
  /** Name of its script. */
  path: string;
  /** A test cell: unknown names are left to fail where they are used. */
  isTest: boolean;
}

/** What became of it. */
export type CompileReply =
  | {
      status: 'ready';
      js: string;
      map: string;
      boxes: string[];
      declares: string[];
      /** Type errors that do not stop the cell, ready to print. */
      warnings: string;
    }
  | { status: 'blocked'; error: CellError }
  | { status: 'page'; data: MimeBundle };

/** What a check found. */
interface Checked {
  diagnostics: ts.Diagnostic[];
  /** Imported names that are only types. */
  typeOnly: Set<string>;
}

/** The status of an `is_complete_reply`. */
export interface CompleteStatus {
  status: 'complete' | 'incomplete' | 'invalid' | 'unknown';
  indent?: string;
}

const GLOBALS = new Set(Object.getOwnPropertyNames(globalThis));
for (const name of ['display', 'progress', 'clearOutput', 'input', 'prompt', 'confirm', 'Comm']) {
  GLOBALS.add(name);
}
for (const name of ['require', '__dirname', '__$import', '__$meta', 'eval']) GLOBALS.add(name);

/** All language services of one notebook. */
export class Language {
  private readonly host: LanguageHost;
  private readonly index: ExportsIndex;
  private known = new Map<string, Known>();
  private cells = 0;
  private mode: TypesMode = 'warn';
  /** Cells that declare nothing, run again before a name changed: compiled as before. */
  private readonly compiled = new Map<string, CompileReply>();
  private readonly checked = new Map<string, Checked>();

  constructor(cwd: string, env: string, typeRoots: readonly string[]) {
    this.host = new LanguageHost(cwd, env, typeRoots);
    this.index = new ExportsIndex(this.host.cellPath, this.host.options, ['peftlab']);
  }

  /** Makes the first check fast: loads the libraries' types. */
  warmUp(): void {
    this.check('1', parseCell(this.host.cellPath, '1', this.isJsx));
  }

  /** Reads the names that one more installed package exports; false when all are read. */
  indexNext(): boolean {
    return this.index.step();
  }

  /** Forgets all names: their values are gone. */
  reset(): void {
    this.known = new Map();
    this.checked.clear();
    this.compiled.clear();
  }

  /** Compiles `request.code`, unless a magic, a syntax error or an unknown name stops it. */
  compile(request: CompileRequest): CompileReply {
    const key = `${request.isTest} ${request.code}`;
    const again = this.compiled.get(key);
    if (again) return { ...again };
    const magics = parseMagics(request.code);
    if (magics.error) return { status: 'blocked', error: magics.error };
    if (magics.inspect !== null) return this.page(magics.inspect);
    if (magics.types) {
      this.mode = magics.types;
      this.compiled.clear();
    }
    const reply = this.compileCode(request, magics);
    const isPlain =
      reply.status === 'ready' && reply.warnings === '' && reply.declares.length === 0;
    if (isPlain && !magics.types && this.host.localStamp() === '') {
      if (this.compiled.size > MOST_CACHED) this.compiled.clear();
      this.compiled.set(key, reply);
    }
    return reply;
  }

  private compileCode(request: CompileRequest, { text }: Magics): CompileReply {
    const file = parseCell(this.host.cellPath, text, this.isJsx);
    const syntax = syntaxErrors(file);
    if (syntax.length > 0) return this.blocked('SyntaxError', syntax, file, request.label);
    const { diagnostics, typeOnly } = this.mode === 'off' ? NOT_CHECKED : this.check(text, file);
    const isTest = request.isTest || isTestText(text);
    const stops = diagnostics.filter((d) => blocksCell(d, this.mode, isTest));
    if (stops.length > 0) {
      const name = stops.some((d) => !blocksCell(d, 'warn', isTest))
        ? 'TypeScriptError'
        : 'ReferenceError';
      return this.blocked(name, stops, file, request.label);
    }
    const compiled = compileCell(file, {
      path: request.path,
      known: (name) => this.known.has(name),
      isGlobal: (name) => GLOBALS.has(name),
      typeOnly,
      compilerOptions: this.host.options,
    });
    this.register(text, compiled.declares);
    const values = [...compiled.declares].filter(
      ([, kind]) => kind !== 'type' && kind !== 'ambient',
    );
    const warnings = diagnostics.filter((d) => !blocksCell(d, 'warn', false));
    return {
      status: 'ready',
      js: compiled.js,
      map: compiled.map,
      boxes: compiled.boxes,
      declares: values.map(([name]) => name),
      warnings: formatDiagnostics(
        warnings,
        file,
        request.label,
        ts.DiagnosticCategory.Warning,
      ).join('\n'),
    };
  }

  /** Compiles an expression of `user_expressions`; nothing is checked but its syntax. */
  expression(code: string): { js: string; boxes: string[] } | CellError {
    const file = parseCell(this.host.cellPath, `(${code}\n)`, this.isJsx);
    const syntax = syntaxErrors(file);
    if (syntax.length > 0) {
      const frames = formatDiagnostics(syntax, file, 'expression', ts.DiagnosticCategory.Error);
      return { ename: 'SyntaxError', evalue: messageOf(syntax[0]!), traceback: frames };
    }
    return compileCell(file, {
      path: 'expression',
      known: (name) => this.known.has(name),
      isGlobal: (name) => GLOBALS.has(name),
    });
  }

  /** Completions at `offset` (UTF-16 units). */
  complete(code: string, offset: number): Completions {
    const { text } = parseMagics(code);
    this.show(text);
    return completeAt(this.host, text, offset, this.known, this.index);
  }

  /** Documentation of what stands at `offset` (UTF-16 units). */
  inspect(code: string, offset: number): Inspection {
    const { text, inspect } = parseMagics(code);
    if (inspect !== null) return this.inspect(inspect, inspect.length);
    this.show(text);
    return inspectAt(this.host, offset);
  }

  /** Whether Enter should run `code` or open a new line. */
  isComplete(code: string): CompleteStatus {
    const { text } = parseMagics(code);
    const file = parseCell(this.host.cellPath, text, this.isJsx);
    const errors = syntaxErrors(file);
    if (errors.length === 0) return { status: 'complete' };
    const end = text.trimEnd().length;
    const open = (d: ts.Diagnostic) =>
      d.code !== UNTERMINATED_STRING &&
      ((d.start ?? 0) >= end ||
        d.code === UNTERMINATED_TEMPLATE ||
        d.code === UNTERMINATED_COMMENT);
    if (!errors.every(open)) return { status: 'invalid' };
    const line = text.slice(text.lastIndexOf('\n') + 1);
    const indent = /^\s*/.exec(line)?.[0] ?? '';
    return { status: 'incomplete', indent: /[{[(]\s*$/.test(line) ? `${indent}  ` : indent };
  }

  private get isJsx(): boolean {
    return this.host.cellPath.endsWith('x');
  }

  /** Diagnostics of a cell, and which of its imports are only types. A repeated cell costs nothing. */
  private check(text: string, file: ts.SourceFile) {
    const full = this.show(text, file);
    const cached = this.checked.get(full);
    if (cached) return cached;
    const result = this.semantics(text);
    if (this.host.localStamp() === '') this.remember(full, result);
    return result;
  }

  private semantics(text: string): Checked {
    const { service, cellPath } = this.host;
    try {
      const diagnostics = service
        .getSemanticDiagnostics(cellPath)
        .filter((d) => (d.start ?? 0) <= text.length && !isNoise(d, this.mode));
      return { diagnostics, typeOnly: this.typeOnlyImports() };
    } catch {
      // TypeScript itself has failed on this cell: it runs unchecked.
      return NOT_CHECKED;
    }
  }

  private remember(key: string, value: Checked): void {
    if (this.checked.size > MOST_CACHED) this.checked.clear();
    this.checked.set(key, value);
  }

  /** Makes `text` the cell at hand, with the names of earlier cells that it mentions. */
  private show(text: string, file = parseCell(this.host.cellPath, text, this.isJsx)): string {
    const own = topLevelDeclarations(file);
    const names = [...mentionedNames(file)]
      .filter((name) => !own.has(name))
      .flatMap((name) => {
        const known = this.known.get(name);
        return known ? [[name, known] as const] : [];
      });
    const full = text + this.host.importLines(names);
    this.host.setCell(full);
    return full;
  }

  private typeOnlyImports(): Set<string> {
    const program = this.host.service.getProgram()!;
    const file = program.getSourceFile(this.host.cellPath)!;
    const checker = program.getTypeChecker();
    const names = new Set<string>();
    const look = (id: ts.Identifier | undefined): void => {
      const symbol = id && checker.getSymbolAtLocation(id);
      if (!symbol || !(symbol.flags & ts.SymbolFlags.Alias)) return;
      const target = checker.getAliasedSymbol(symbol);
      const isKnown = target.flags !== 0 && target.escapedName !== 'unknown';
      if (isKnown && !(target.flags & ts.SymbolFlags.Value)) names.add(id.text);
    };
    for (const statement of file.statements) {
      if (!ts.isImportDeclaration(statement)) continue;
      look(statement.importClause?.name);
      const bindings = statement.importClause?.namedBindings;
      if (bindings && ts.isNamedImports(bindings)) for (const e of bindings.elements) look(e.name);
    }
    return names;
  }

  private register(text: string, declares: ReadonlyMap<string, Kind>): void {
    if (declares.size === 0) return;
    this.compiled.clear();
    const used = [...mentionedNames(parseCell(this.host.cellPath, text, this.isJsx))]
      .filter((name) => !declares.has(name))
      .flatMap((name) => {
        const known = this.known.get(name);
        return known ? [[name, known] as const] : [];
      });
    const full = text + this.host.importLines(used);
    const module = this.host.addModule(++this.cells, full, new Map(declares));
    for (const [name, kind] of declares) this.known.set(name, { kind, module });
    this.host.keepModules(new Set([...this.known.values()].map((known) => known.module)));
  }

  private blocked(
    ename: string,
    diagnostics: readonly ts.Diagnostic[],
    file: ts.SourceFile,
    label: string,
  ): CompileReply {
    const frames = formatDiagnostics(diagnostics, file, label, ts.DiagnosticCategory.Error);
    const first = diagnostics[0]!;
    const at = file.getLineAndCharacterOfPosition(first.start ?? 0);
    const place = `(${label}:${at.line + 1}:${at.character + 1})`;
    const evalue = `${messageOf(first)} ${place}${this.importHint(first)}`;
    const head = `\x1b[1m\x1b[31m${ename}\x1b[0m: ${evalue}`;
    return {
      status: 'blocked',
      error: { ename, evalue, traceback: [head, ...frames].join('\n').split('\n') },
    };
  }

  /** `; import { LoraConfig } from 'peftlab' would bring it`, for a name that a package exports. */
  private importHint(diagnostic: ts.Diagnostic): string {
    const name = /^Cannot find name '([\w$]+)'/.exec(messageOf(diagnostic))?.[1];
    if (!name) return '';
    while (this.index.step());
    const sources = this.index.find(name).get(name);
    return sources ? `; import { ${name} } from '${sources[0]}' would bring it` : '';
  }

  private page(text: string): CompileReply {
    const { found, data } = this.inspect(text, text.length);
    return {
      status: 'page',
      data: found ? data : { 'text/plain': `Nothing is known of '${text}'` },
    };
  }
}

const MOST_CACHED = 200;
const UNTERMINATED_STRING = 1002;
const UNTERMINATED_TEMPLATE = 1160;
const UNTERMINATED_COMMENT = 1010;
const NOT_CHECKED: Checked = { diagnostics: [], typeOnly: new Set() };

function syntaxErrors(file: ts.SourceFile): readonly ts.Diagnostic[] {
  // The parser keeps its findings on the file; the public type does not show them.
  return (file as unknown as { parseDiagnostics: ts.DiagnosticWithLocation[] }).parseDiagnostics;
}

function messageOf(diagnostic: ts.Diagnostic): string {
  return ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n');
}

/** Every identifier that a text mentions, in any role. */
function mentionedNames(file: ts.SourceFile): Set<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (ts.isIdentifier(node)) names.add(node.text);
    ts.forEachChild(node, visit);
  };
  visit(file);
  return names;
}

/** Tests are recognised by nbgrader's markers and by assertions at their top level. */
function isTestText(text: string): boolean {
  return (
    /^\s*\/\/\/?\s*(#+\s*)?(BEGIN HIDDEN TESTS|@test\b)/m.test(text) ||
    /^(await\s+)?(assert|expect)\b[.(]/m.test(text)
  );
}
