// Writing in a notebook, by keyboard alone: cells, saving, undo, completion, documentation, contents, search.
import type { NotebookPanel } from '@jupyterlab/notebook';
import { expect } from 'chai';
import { Lab } from './lab.ts';
import { eventually, type LabPage } from './page.ts';

describe('Editing in the lab', () => {
  const lab = new Lab();
  let page: LabPage;
  before(async () => {
    await lab.start();
    lab.write('edit.ipynb', [
      { markdown: '# Title\n\nwords' },
      { markdown: '## Second part\n\nmore words' },
      'const first = 1;\nfirst + 1',
    ]);
    page = await lab.open('edit.ipynb');
    await page.runAll();
  });
  after(async () => {
    await lab.stop();
    expect(page?.problems).to.deep.equal([]);
  });
  const press = (keys: string) => page.page.keyboard.press(keys);

  /** Waits until the texts of all cells are as they should be. */
  const place = async (isGood: (sources: string[]) => boolean): Promise<void> => {
    const read = async () => (await page.cells()).map(({ source }) => source);
    const sources = await eventually(read, isGood);
    expect(isGood(sources), sources.join('\n---\n')).to.equal(true);
  };

  it('adds, runs, moves, removes and brings back cells by keys', async () => {
    await page.select(2);
    await press('b');
    await place((sources) => sources.length === 4);
    await press('Enter');
    await page.page.waitForSelector('.jp-mod-active .cm-editor.cm-focused');
    await page.page.keyboard.type('const answer = 41 + first; console.log(answer)');
    await press('Shift+Enter');
    await page.waitForText(3, '42');
    await page.select(3);
    await press('Control+Shift+ArrowUp');
    await place((sources) => sources.findIndex((source) => source.includes('answer')) === 2);
    await press('d');
    await press('d');
    await place((sources) => !sources.some((source) => source.includes('answer')));
    await press('z');
    await place((sources) => sources.some((source) => source.includes('answer')));
  });

  it('saves with Ctrl+S, and undoes typing with Ctrl+Z', async () => {
    const index = await page.type('let kept = 1;');
    await page.page.keyboard.type(' // gone soon');
    await page.save();
    expect(lab.read('edit.ipynb')).to.contain('// gone soon');
    await page.select(index);
    await press('Enter');
    for (let i = 0; i < 20 && (await page.cells())[index]!.source.includes('gone'); i++) {
      await press('Control+z');
    }
    expect((await page.cells())[index]!.source).to.not.contain('gone');
    await press('Control+Shift+z');
  });

  it('completes members with their types; a key puts one in', async () => {
    const { items, ms } = await page.complete('Math.s');
    console.log(`      popup after ${ms.toFixed(0)} ms`);
    expect(items.join()).to.contain('sqrt');
    await page.screenshot('completion');
    await page.page.keyboard.type('qr');
    await page.page.locator('.jp-Completer-item.jp-mod-active', { hasText: 'sqrt' }).waitFor();
    await press('Enter');
    await place((sources) => sources.at(-1) === 'Math.sqrt');
  });

  it('completes while a cell waits, and while one computes', async () => {
    for (const code of [
      'await new Promise((resolve) => setTimeout(resolve, 4000))',
      'const until = Date.now() + 4000; while (Date.now() < until);',
    ]) {
      await page.startCell(code);
      await page.waitForStatus('busy');
      const { items, ms } = await page.complete('JSON.');
      console.log(`      popup after ${ms.toFixed(0)} ms`);
      expect(items.join()).to.contain('stringify');
      await press('Escape');
      await page.waitForStatus('idle');
    }
  });

  it('explains a name with Shift+Tab', async () => {
    await page.run('/** Twice the number. */\nfunction twice(x: number): number { return 2 * x }');
    await page.type('twice');
    await press('Shift+Tab');
    const tooltip = page.page.locator('.jp-Tooltip');
    await tooltip.waitFor();
    const text = await tooltip.textContent();
    expect(text).to.contain('twice(x: number): number');
    expect(text).to.contain('Twice the number.');
    await page.screenshot('inspection');
    await press('Escape');
  });

  it('lists the headings, and goes to the one that is clicked', async () => {
    await page.command('toc:show-panel');
    const heading = page.page.locator('.jp-TableOfContents-tree .jp-tocItem-content', {
      hasText: 'Second part',
    });
    await heading.click();
    await page.page.waitForFunction(
      () => (jupyterapp.shell.currentWidget as NotebookPanel).content.activeCellIndex === 1,
    );
    await page.screenshot('contents');
    await page.command('filebrowser:activate');
  });

  it('finds text with Ctrl+F', async () => {
    await page.select(0);
    await press('Control+f');
    await page.page.locator('.jp-DocumentSearch-input').first().waitFor();
    await page.page.keyboard.type('words');
    await page.page.waitForFunction(() =>
      /1\/2/.test(document.querySelector('.jp-DocumentSearch-index-counter')?.textContent ?? ''),
    );
    await page.screenshot('search');
    await press('Escape');
  });

  it('switches the theme', async () => {
    await page.command('apputils:change-theme', { theme: 'JupyterLab Dark' });
    await page.page.waitForFunction(() => document.body.dataset.jpThemeLight === 'false');
    await page.page.waitForTimeout(500);
    await page.screenshot('dark');
    await page.command('apputils:change-theme', { theme: 'JupyterLab Light' });
    await page.page.waitForFunction(() => document.body.dataset.jpThemeLight === 'true');
  });
});
