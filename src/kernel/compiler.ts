// A cell of TypeScript -> JavaScript: rewrite top-level names into boxes (rewrite.ts), strip types and
// lower what Node lacks (enum, decorators, using, JSX) with TypeScript's own emitter, join both source maps.
import remapping, { type SourceMapInput } from '@jridgewell/remapping';
import ts from 'typescript';
import type { Declarations } from './bindings.ts';
import { boxName, type RewriteOptions, rewriteCell } from './rewrite.ts';

/** A compiled cell: `js` is the body of a function that returns the cell's async function. */
export interface CompiledCell {
  js: string;
  /** Source map (JSON) from `js` to the cell's text. */
  map: string;
  /** Names whose boxes are the parameters of the async function, in order. */
  boxes: string[];
  declares: Declarations;
}

const NAMES = ['__$import', '__$bind', '__$meta'] as const;

/** Parameters of the function whose body is `CompiledCell.js`. */
export const CELL_PARAMETERS: readonly string[] = NAMES;

/** Parses the text of a cell as a module with parents set. */
export function parseCell(path: string, text: string, jsx: boolean): ts.SourceFile {
  const kind = jsx ? ts.ScriptKind.TSX : ts.ScriptKind.TS;
  return ts.createSourceFile(path, text, ts.ScriptTarget.ESNext, true, kind);
}

/** `React.createElement`, or the user's factory, reached through the box of its first name. */
function jsxOptions(options: ts.CompilerOptions, boxes: string[]): ts.CompilerOptions {
  const boxed = (factory: string): string => {
    const [root = '', ...rest] = factory.split('.');
    if (!boxes.includes(root)) boxes.push(root);
    return [`${boxName(root)}.v`, ...rest].join('.');
  };
  return {
    jsxFactory: boxed(options.jsxFactory ?? 'React.createElement'),
    jsxFragmentFactory: boxed(options.jsxFragmentFactory ?? 'React.Fragment'),
  };
}

/** Compiles one parsed cell; `path` names it in stack traces and in the debugger. */
export function compileCell(
  file: ts.SourceFile,
  options: RewriteOptions & { path: string; compilerOptions?: ts.CompilerOptions },
): CompiledCell {
  const { path, compilerOptions = {} } = options;
  const { text, boxes, declares, hasJsx } = rewriteCell(file, options);
  const jsx = hasJsx ? jsxOptions(compilerOptions, boxes) : {};
  text.prepend(`"use strict";return async (${boxes.map(boxName).join(', ')}) => {`);
  text.append('\n}');
  const rewritten = text.generateMap({ source: path, hires: 'boundary', includeContent: false });
  const emitted = ts.transpileModule(text.toString(), {
    fileName: file.languageVariant === ts.LanguageVariant.JSX ? 'cell.tsx' : 'cell.ts',
    compilerOptions: {
      ...jsx,
      jsx: ts.JsxEmit.React,
      ...pick(compilerOptions, ['experimentalDecorators', 'emitDecoratorMetadata']),
      ...pick(compilerOptions, ['useDefineForClassFields']),
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      sourceMap: true,
      removeComments: false,
    },
  });
  const js = emitted.outputText.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, '\n');
  const first = rewritten.toString() as SourceMapInput;
  let isOuter = true;
  const map = remapping(emitted.sourceMapText as SourceMapInput, () => {
    if (!isOuter) return null;
    isOuter = false;
    return first;
  });
  return { js, map: map.toString(), boxes, declares };
}

function pick<K extends keyof ts.CompilerOptions>(
  options: ts.CompilerOptions,
  keys: readonly K[],
): Pick<ts.CompilerOptions, K> {
  return Object.fromEntries(
    keys.filter((key) => options[key] !== undefined).map((key) => [key, options[key]]),
  ) as Pick<ts.CompilerOptions, K>;
}
