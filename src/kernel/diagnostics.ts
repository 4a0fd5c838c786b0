// Which of TypeScript's findings stop a cell, which are shown as warnings and which are noise; and
// how they look: `In[3]:2:7 - warning TS2322: ...` with the source line.
import ts from 'typescript';
import { codeFrame } from './stack.ts';

/** `%types`: strict stops a cell at any finding, warn at unknown names, off checks nothing. */
export type TypesMode = 'strict' | 'warn' | 'off';

/** "Cannot find name 'x'" and its relatives. */
const UNKNOWN_NAMES = new Set([
  2304, 2503, 2552, 2562, 2580, 2581, 2582, 2583, 2584, 2591, 2592, 2593, 2662, 2663, 2693, 2749,
  18004,
]);

/** Findings that are wrong about cells, or that running the cell says better. */
const NOISE = new Set([
  2307, // cannot find module: the import itself says so
  2792,
  7016, // no types for a JavaScript package
  2448, // used before its declaration, across cells
  2454,
  1375, // top-level await
  1378,
  2451, // redeclared in the names put after the cell
]);

/** True for findings that are never shown. */
export function isNoise(diagnostic: ts.Diagnostic, mode: TypesMode): boolean {
  return NOISE.has(diagnostic.code) && !(mode === 'strict' && diagnostic.code === 2307);
}

/** True if the cell must not run. In a test cell an unknown name fails where it is used instead. */
export function blocksCell(diagnostic: ts.Diagnostic, mode: TypesMode, isTest: boolean): boolean {
  if (UNKNOWN_NAMES.has(diagnostic.code)) return !isTest;
  return mode === 'strict';
}

const COLOURS = { warning: '\x1b[33m', error: '\x1b[31m' };

/** One block of lines per finding. */
export function formatDiagnostics(
  diagnostics: readonly ts.Diagnostic[],
  file: ts.SourceFile,
  label: string,
  category: ts.DiagnosticCategory.Warning | ts.DiagnosticCategory.Error,
): string[] {
  const word = category === ts.DiagnosticCategory.Warning ? 'warning' : 'error';
  return diagnostics.map((diagnostic) => {
    const at = file.getLineAndCharacterOfPosition(diagnostic.start ?? 0);
    const message = ts.flattenDiagnosticMessageText(diagnostic.messageText, '\n');
    const place = { file: label, line: at.line + 1, column: at.character + 1 };
    const head = `${COLOURS[word]}${word}\x1b[0m TS${diagnostic.code}: ${message}`;
    return [head, ...codeFrame(file.text, place)].join('\n');
  });
}
