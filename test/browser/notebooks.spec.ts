// Every lesson in the lab: opened, run from top to bottom, saved. PEFTLAB_LESSONS='03 08' runs only these.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { Lab, PACKAGE } from './lab.ts';
import type { PageCell } from './page.ts';

const PLOTLY = 'application/vnd.plotly.v1+json';
const wanted = process.env.PEFTLAB_LESSONS?.split(/[ ,]+/);
const lessons = readdirSync(join(PACKAGE, 'notebooks'))
  .filter((name) => name.endsWith('.ipynb'))
  .filter((name) => !wanted || wanted.some((number) => name.startsWith(`${number}-`)));

describe('Lessons in the lab', function () {
  this.timeout(900_000);
  const lab = new Lab();
  before(() => {
    lab.copy('notebooks');
    lab.copy('datasets');
    return lab.start();
  });
  after(() => lab.stop());

  for (const name of lessons) {
    it(`${name} opens, runs without an error, draws its figures, and is saved`, async () => {
      const page = await lab.open(`notebooks/${name}`);
      const cells = await page.runAll();
      const errors = cells.flatMap((cell) =>
        (cell.outputs ?? []).filter((output) => output.output_type === 'error'),
      );
      expect(errors).to.deep.equal([]);
      const code = cells.filter((cell) => cell.cell_type === 'code' && cell.source.trim() !== '');
      expect(code.filter((cell) => cell.execution_count === null)).to.deep.equal([]);
      const figures = cells.flatMap((cell) =>
        (cell.outputs ?? []).filter((output) => output.data?.[PLOTLY]),
      );
      await page.page.waitForFunction(
        (count) => document.querySelectorAll('.js-plotly-plot .main-svg').length >= count,
        figures.length,
      );
      await page.save();
      const saved = (JSON.parse(lab.read(`notebooks/${name}`)) as { cells: PageCell[] }).cells;
      expect(saved.map((cell) => cell.outputs?.length)).to.deep.equal(
        cells.map((cell) => cell.outputs?.length),
      );
      await page.show(0);
      await page.screenshot(`lesson-${name.replace('.ipynb', '')}`);
      expect(page.problems).to.deep.equal([]);
      await page.close();
      await lab.endKernels();
    });
  }
});
