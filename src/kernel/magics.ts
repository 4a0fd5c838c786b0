// Lines of a cell that speak to the kernel: `%types strict|warn|off`, `?name` and `name?`.
// They are blanked, so that the lines after them keep their numbers.
import type { TypesMode } from './diagnostics.ts';
import type { CellError } from './protocol.ts';

/** What the magics of a cell asked for, and the TypeScript that is left. */
export interface Magics {
  text: string;
  types: TypesMode | null;
  /** The name to show documentation of, where the cell asks for nothing else. */
  inspect: string | null;
  error: CellError | null;
}

/** Reads the magics at the head of `code`. */
export function parseMagics(code: string): Magics {
  const magics: Magics = { text: code, types: null, inspect: null, error: null };
  const help = /^\s*(?:\?+\s*([\w$.]+)|([\w$.]+)\s*\?+)\s*$/.exec(code);
  if (help) return { ...magics, text: '', inspect: help[1] ?? help[2] ?? '' };
  const lines = code.split('\n');
  for (const [i, line] of lines.entries()) {
    if (line.trim() === '' || /^\s*\/\//.test(line)) continue;
    // nbgrader marks cells that it restores with a comment in Python's way.
    const isPythonComment = /^# This cell \(id:/.test(line);
    const magic = /^%(\S*)\s*(.*)$/.exec(line);
    if (!magic && !isPythonComment) break;
    lines[i] = '';
    if (magic) applyMagic(magics, magic[1]!, magic[2]!.trim());
  }
  magics.text = lines.join('\n');
  return magics;
}

function applyMagic(magics: Magics, name: string, argument: string): void {
  if (name !== 'types') {
    magics.error = magicError(`There is no magic %${name}; have %types strict|warn|off`);
  } else if (argument === 'strict' || argument === 'warn' || argument === 'off') {
    magics.types = argument;
  } else {
    magics.error = magicError(`%types must be strict, warn or off, got '${argument}'`);
  }
}

function magicError(evalue: string): CellError {
  return {
    ename: 'MagicError',
    evalue,
    traceback: [`\x1b[1m\x1b[31mMagicError\x1b[0m: ${evalue}`],
  };
}
