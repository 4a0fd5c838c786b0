// Completions at a position of a cell: TypeScript's own, with types, and the names of earlier cells.
import ts from 'typescript';
import type { ExportsIndex } from './exports-index.ts';
import type { Known, LanguageHost } from './language-host.ts';

/** One entry of `_jupyter_types_experimental`. */
export interface CompletionItem {
  text: string;
  type: string;
  signature: string;
  start: number;
  end: number;
}

/** Content of a `complete_reply`, positions in UTF-16 units. */
export interface Completions {
  matches: string[];
  start: number;
  end: number;
  items: CompletionItem[];
}

const DETAILED = 40;
const MOST = 500;
const MEMBER = ts.SymbolFlags.Method | ts.SymbolFlags.Property | ts.SymbolFlags.Accessor;

/** Completes at `offset` of `text`, which is the host's cell at hand. */
export function completeAt(
  host: LanguageHost,
  text: string,
  offset: number,
  known: ReadonlyMap<string, Known>,
  index: ExportsIndex,
): Completions {
  const { service, cellPath } = host;
  const found = service.getCompletionsAtPosition(cellPath, offset, {
    includeCompletionsWithInsertText: true,
    allowIncompleteCompletions: true,
    includeSymbol: true,
  });
  const word = /[\w$]*$/.exec(text.slice(0, offset))![0];
  const span = found?.optionalReplacementSpan;
  const specifier = moduleSpecifierStart(text, offset);
  const start = specifier ?? (span ? span.start : offset - word.length);
  const prefix = text.slice(start, offset);
  let entries = (found?.entries ?? []).filter((e) => fits(e.name, prefix));
  if (found?.isGlobalCompletion ?? /^[\w$]+$/.test(prefix)) {
    const own = [...known].filter(
      ([name]) => fits(name, prefix) && !entries.some((e) => e.name === name),
    );
    entries = [...own.map(([name, { kind }]) => knownEntry(name, kind)), ...entries];
    if (prefix.length > 1) entries.push(...importable(index, prefix, entries));
  }
  entries = rank(entries, prefix).slice(0, MOST);
  const items = entries.map((entry, i) => ({
    text: entry.name,
    type: kindWord(entry.kind),
    signature: i < DETAILED ? signatureOf(host, entry) : '',
    start,
    end: offset,
  }));
  return { matches: entries.map((e) => e.name), start, end: offset, items };
}

/** True if `prefix` begins `name`, capitals aside. */
function fits(name: string, prefix: string): boolean {
  return name.toLowerCase().startsWith(prefix.toLowerCase());
}

/** Entries with the letters as typed come alone where there are any. */
function rank(entries: readonly ts.CompletionEntry[], prefix: string): ts.CompletionEntry[] {
  const seen = new Set<string>();
  const unique = entries.filter((e) => !seen.has(e.name) && seen.add(e.name));
  const exact = unique.filter((e) => e.name.startsWith(prefix));
  return (exact.length > 0 ? exact : unique).sort(
    (a, b) => a.sortText.localeCompare(b.sortText) || a.name.localeCompare(b.name),
  );
}

function knownEntry(name: string, kind: string): ts.CompletionEntry {
  const words: Record<string, ts.ScriptElementKind> = {
    function: ts.ScriptElementKind.functionElement,
    class: ts.ScriptElementKind.classElement,
    enum: ts.ScriptElementKind.enumElement,
    type: ts.ScriptElementKind.typeElement,
    import: ts.ScriptElementKind.alias,
  };
  const elementKind = words[kind] ?? ts.ScriptElementKind.variableElement;
  return { name, kind: elementKind, sortText: '00', kindModifiers: '' };
}

/** Names that an import would bring. */
function importable(
  index: ExportsIndex,
  prefix: string,
  entries: readonly ts.CompletionEntry[],
): ts.CompletionEntry[] {
  const have = new Set(entries.map((e) => e.name));
  return [...index.find(prefix)]
    .filter(([name]) => !have.has(name))
    .map(([name, [source]]) => ({
      ...{ name, kind: ts.ScriptElementKind.alias, kindModifiers: '', sortText: '99' },
      ...(source ? { source } : {}),
    }));
}

/** JupyterLab's words for the kinds of completions. */
function kindWord(kind: ts.ScriptElementKind): string {
  const words: Partial<Record<string, string>> = {
    [ts.ScriptElementKind.memberFunctionElement]: 'method',
    [ts.ScriptElementKind.functionElement]: 'function',
    [ts.ScriptElementKind.classElement]: 'class',
    [ts.ScriptElementKind.interfaceElement]: 'interface',
    [ts.ScriptElementKind.keyword]: 'keyword',
    [ts.ScriptElementKind.moduleElement]: 'module',
    [ts.ScriptElementKind.scriptElement]: 'module',
    [ts.ScriptElementKind.externalModuleName]: 'module',
    [ts.ScriptElementKind.directory]: 'path',
    [ts.ScriptElementKind.memberVariableElement]: 'property',
    [ts.ScriptElementKind.memberGetAccessorElement]: 'property',
    [ts.ScriptElementKind.constElement]: 'constant',
    [ts.ScriptElementKind.enumElement]: 'enum',
    [ts.ScriptElementKind.typeElement]: 'type',
    [ts.ScriptElementKind.string]: 'string',
  };
  return words[kind] ?? 'variable';
}

/**
 * `Math.abs(x: number): number`, `const n: 3`, `class Model`, from an entry's symbol: TypeScript's own
 * details, which work out all completions anew for each, take most of a popup's time. Empty for keywords
 * and for names of earlier cells.
 */
function signatureOf(
  { service, cellPath }: LanguageHost,
  { name, kind, source, symbol }: ts.CompletionEntry,
): string {
  if (source) return `from '${source}'`;
  const program = service.getProgram();
  const cell = program?.getSourceFile(cellPath);
  if (!program || !cell || !symbol) return '';
  const checker = program.getTypeChecker();
  const own = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  const isMember = own.flags & MEMBER;
  const shown = isMember
    ? checker.getFullyQualifiedName(own).replace(/^__(object|type)\./, '')
    : `${own.flags & ts.SymbolFlags.Function ? 'function' : kind} ${name}`;
  if (!isMember && !(own.flags & (ts.SymbolFlags.Variable | ts.SymbolFlags.Function))) return shown;
  const type = checker.getTypeOfSymbolAtLocation(own, cell);
  const [call, ...others] = type.getCallSignatures();
  if (!call) return `${shown}: ${checker.typeToString(type)}`;
  const overloads =
    { 0: '', 1: ' (+1 overload)' }[others.length] ?? ` (+${others.length} overloads)`;
  return `${shown}${checker.signatureToString(call)}${overloads}`;
}

/** In `from 'lod`: where the specifier starts. */
function moduleSpecifierStart(text: string, offset: number): number | null {
  const line = text.slice(text.lastIndexOf('\n', offset - 1) + 1, offset);
  const match = /(?:from|import|import\(|require\()\s*(['"])([^'"]*)$/.exec(line);
  if (!match) return null;
  const specifier = match[2]!;
  return offset - specifier.length + specifier.lastIndexOf('/') + 1;
}
