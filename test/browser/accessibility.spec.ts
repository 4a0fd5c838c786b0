// axe-core on a notebook with all that we draw: no serious or critical violation but those that JupyterLab has
// with a notebook of text alone; and the way through a notebook by keyboard.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { expect } from 'chai';
import { Lab } from './lab.ts';
import type { LabPage } from './page.ts';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** One node that breaks a rule. */
interface Barrier {
  id: string;
  /** It is part of an output, or of Markdown that was drawn. */
  isDrawn: boolean;
  html: string;
}

/** Serious and critical violations of the page as it is. */
async function barriers({ page }: LabPage): Promise<Barrier[]> {
  // Evaluated, not added as a script: the page's policy allows no scripts but its own.
  return (await page.evaluate(`(async () => {
    ${AXE};
    const { violations, passes } = await axe.run(document);
    if (passes.length === 0) throw new Error('axe checked nothing');
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) => nodes.map(({ target, html }) => ({
        id,
        isDrawn: document.querySelector(target.at(-1))?.closest('.jp-OutputArea-output, .jp-RenderedMarkdown') != null,
        html: html.slice(0, 200),
      })));
  })()`)) as Barrier[];
}

describe('The lab for everybody', () => {
  const lab = new Lab();
  before(async () => {
    await lab.start();
    lab.write('text.ipynb', [{ markdown: '# Text\n\nwords' }, 'console.log(1)', '1 + 1']);
    lab.write('all.ipynb', [
      {
        markdown:
          '# All\n\n$y = x$\n\n```mermaid\nflowchart TD\n  A[Start] -->|yes| B[End]\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |',
      },
      "display.plotly([{ y: [1, 3, 2], name: 'loss' }], { title: { text: 'Loss' }, height: 300 });",
      'display.table(Array.from({ length: 40 }, (_, i) => ({ step: i, loss: i / 7 })))',
      "for (const i of progress([1, 2, 3], { desc: 'training' })) await null",
      "import * as w from 'peftlab/widgets';\nw.interact(({ rank }) => `rank ${rank}`, { rank: 8 });",
      "throw new Error('an error')",
    ]);
  });
  after(() => lab.stop());

  for (const theme of ['JupyterLab Light', 'JupyterLab Dark']) {
    it(`has no barrier that JupyterLab does not have: ${theme}`, async () => {
      const plain = await lab.open('text.ipynb');
      await plain.runAll();
      await plain.command('apputils:change-theme', { theme });
      await plain.page.waitForTimeout(500);
      const known = new Set((await barriers(plain)).map(({ id }) => id));
      await plain.close();
      const page = await lab.open('all.ipynb');
      await page.runAll();
      await page.page.waitForSelector('.js-plotly-plot .main-svg', { state: 'attached' });
      await page.command('apputils:change-theme', { theme });
      await page.page.waitForTimeout(800);
      await page.page.locator('.noUi-handle').first().waitFor();
      const ours = (await barriers(page)).filter(({ id, isDrawn }) => isDrawn || !known.has(id));
      expect(ours).to.deep.equal([]);
      await page.close();
    });
  }
});
