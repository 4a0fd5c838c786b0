import { expect } from 'chai';
import fc from 'fast-check';
import { type Cell, type Notebook, NotebookError, newCell } from '../../src/notebook/nbformat.ts';
import { formatPercent, parsePercent } from '../../src/notebook/percent.ts';

const TEXT = `// ---
// jupyter:
//   jupytext:
//     text_representation:
//       extension: .ts
//       format_name: percent
//       format_version: "1.3"
//   kernelspec:
//     display_name: TypeScript (peftlab)
//     language: typescript
//     name: typescript-peftlab
// ---

// %% [markdown]
// # Title
//
// Text.

// %%
// %types strict
const x: number = 1;

// a comment
x

// %% A title {"tags":["test"]}
x + 1
`;

const notebook = (cells: Cell[]): Notebook => ({
  cells,
  metadata: {},
  nbformat: 4,
  nbformat_minor: 5,
});

describe('The percent format', () => {
  it('gives the cells of a text, with titles, metadata and magics', () => {
    const { cells, metadata } = parsePercent(TEXT, 'x.ts');
    expect(cells.map((c) => [c.cell_type, c.source])).to.deep.equal([
      ['markdown', '# Title\n\nText.'],
      ['code', '%types strict\nconst x: number = 1;\n\n// a comment\nx'],
      ['code', 'x + 1'],
    ]);
    expect(cells[2]!.metadata).to.deep.equal({ title: 'A title', tags: ['test'] });
    expect(metadata.kernelspec).to.deep.equal({
      display_name: 'TypeScript (peftlab)',
      language: 'typescript',
      name: 'typescript-peftlab',
    });
  });

  it('comes back as it was from text to notebook to text', () => {
    expect(formatPercent(parsePercent(TEXT, 'x.ts'))).to.equal(TEXT);
  });

  it('brings back the cells of any notebook', () => {
    const line = fc.oneof(
      fc.constantFrom(
        '',
        'const a = 1;',
        '  f();',
        '%types off',
        '# head',
        '- item',
        '// note',
        'é 🙂',
      ),
      fc.stringMatching(/^[a-z ]{0,12}$/),
    );
    const source = fc
      .array(line, { minLength: 1, maxLength: 6 })
      .map((lines) => lines.join('\n'))
      .filter((text) => text.trim() !== '' && !/^\s*\n|\n\s*$|^\s*\/\/ \?/.test(text));
    const type = fc.constantFrom('code' as const, 'markdown' as const, 'raw' as const);
    fc.assert(
      fc.property(fc.array(fc.tuple(type, source), { maxLength: 6 }), (parts) => {
        const cells = parts.map(([kind, text], i) => newCell(kind, text, i));
        const again = parsePercent(formatPercent(notebook(cells)), 'x.ts');
        expect(again.cells).to.deep.equal(cells);
      }),
    );
  });

  it('refuses a header that is not YAML and metadata that is not JSON', () => {
    expect(() => parsePercent('// ---\n// a: [\n// ---\n', 'x.ts')).to.throw(
      NotebookError,
      /header of x.ts must be YAML/,
    );
    expect(() => parsePercent('// %% {"a":}\n1', 'x.ts')).to.throw(
      NotebookError,
      /must end in JSON/,
    );
  });
});
