// axe-core on a notebook with all that we draw: no serious or critical violation but those that JupyterLab has
// with a notebook of text alone; and the way through a notebook by keyboard.
import { createRequire } from 'node:module';
import { expect } from 'chai';
import { Lab } from './lab.ts';
import type { LabPage } from './page.ts';

const AXE = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

interface Violation {
  id: string;
  impact: string | null;
  nodes: { target: unknown[]; html: string }[];
}

async function violations(page: LabPage, within?: string): Promise<Violation[]> {
  await page.page.evaluate(() => 0);
  if (!(await page.page.evaluate(() => 'axe' in globalThis))) {
    await page.page.context().addInitScript({ path: AXE });
    await page.page.addScriptTag({ path: AXE }).catch(() => page.page.reload());
  }
  const found = (await page.page.evaluate(
    (selector) =>
      (globalThis as unknown as { axe: { run: (at: unknown) => Promise<unknown> } }).axe.run(
        selector ? { include: [selector] } : document,
      ),
    within,
  )) as { violations: Violation[] };
  return found.violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
}

/** Violations in a few words each. */
function described(found: readonly Violation[]): string[] {
  return found.flatMap(({ id, nodes }) =>
    nodes.map(({ target, html }) => `${id}: ${target.join(' ')} ${html.slice(0, 160)}`),
  );
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
      const known = new Set((await violations(plain)).map(({ id }) => id));
      await plain.close();
      const page = await lab.open('all.ipynb');
      await page.runAll();
      await page.page.waitForSelector('.js-plotly-plot .main-svg', { state: 'attached' });
      await page.command('apputils:change-theme', { theme });
      await page.page.waitForTimeout(800);
      const ours = (await violations(page)).filter(
        ({ id, nodes }) => !known.has(id) || nodes.some(({ html }) => /plab-/.test(html)),
      );
      expect(described(ours)).to.deep.equal([]);
      await page.close();
    });
  }
});
