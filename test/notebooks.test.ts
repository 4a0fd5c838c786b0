import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import { readNotebook } from '../src/notebook/nbformat.ts';
import { parsePercent } from '../src/notebook/percent.ts';

const FOLDER = fileURLToPath(new URL('../notebooks/', import.meta.url));

describe('The lessons', () => {
  for (const name of readdirSync(FOLDER).filter((file) => file.endsWith('.ts'))) {
    const source = parsePercent(readFileSync(FOLDER + name, 'utf8'), name);
    const built = () => readNotebook(FOLDER + name.replace(/\.ts$/, '.ipynb'));

    it(`${name} and its notebook have the same cells`, () => {
      const cells = (notebook: ReturnType<typeof built>) =>
        notebook.cells.map(({ cell_type, source: text, metadata }) => ({
          cell_type,
          text,
          metadata,
        }));
      expect(cells(built())).to.deep.equal(cells(source));
    });

    it(`${name} was run from top to bottom without an error and without a word on stderr`, () => {
      const code = built().cells.filter((cell) => cell.cell_type === 'code');
      expect(code.map((cell) => cell.execution_count)).to.deep.equal(code.map((_, i) => i + 1));
      for (const output of code.flatMap((cell) => cell.outputs ?? [])) {
        expect(output.output_type).to.not.equal('error');
        if (output.output_type === 'stream') expect(output.name).to.equal('stdout');
      }
    });

    it(`${name} is at least half prose, in cells of code that fit a screen, imports aside`, () => {
      const code = source.cells.filter((cell) => cell.cell_type === 'code');
      expect(code.length).to.be.at.most(source.cells.length * 0.55);
      const isImports = (text: string) => text.startsWith('import ') && text.split(';').length < 12;
      for (const { source: text } of code) {
        if (!isImports(text)) expect(text.split('\n').length, text).to.be.at.most(30);
      }
    });
  }
});
