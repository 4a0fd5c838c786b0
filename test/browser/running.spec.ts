// A kernel at work: interrupt, restart, crash, two tabs, and a page that is loaded anew in the middle.
import { expect } from 'chai';
import { Lab } from './lab.ts';
import type { LabPage } from './page.ts';

describe('Running in the lab', () => {
  const lab = new Lab();
  let page: LabPage;
  before(async () => {
    await lab.start();
    lab.write('run.ipynb', ['let kept = 7;']);
    page = await lab.open('run.ipynb');
    await page.runAll();
  });
  after(() => lab.stop());
  const errorOf = async (index: number) =>
    (await page.cells())[index]!.outputs!.find((output) => output.output_type === 'error');

  for (const [what, code] of [
    ['a loop', 'while (true) {}'],
    ['an await', 'await new Promise(() => {})'],
  ] as const) {
    it(`the stop button ends ${what}; the names stay`, async () => {
      const index = await page.startCell(code);
      await page.waitForStatus('busy');
      await page.page.waitForTimeout(500);
      await page.page.locator('[data-jp-item-name="interrupt"]:visible').first().click();
      await page.waitForText(index, 'KeyboardInterrupt');
      await page.waitForStatus('idle');
      expect((await errorOf(index))!.ename).to.equal('KeyboardInterrupt');
      expect((await page.run('kept'))[0]!.data!['text/plain']).to.equal('7');
    });
  }

  it('a crash is told, and the kernel goes on', async () => {
    const outputs = await page.run('process.kill(process.pid, "SIGSEGV")');
    expect(outputs.find((output) => output.evalue)?.evalue).to.contain('all variables are lost');
    expect((await page.run('1 + 1'))[0]!.data!['text/plain']).to.equal('2');
    await page.screenshot('crash');
  });

  it('a restart forgets the names, also of a kernel that is stuck', async () => {
    await page.run('let forgotten = 1');
    await page.startCell('while (true) {}');
    await page.waitForStatus('busy');
    await page.page.evaluate(() => void jupyterapp.commands.execute('kernelmenu:restart'));
    await page.page.locator('.jp-Dialog .jp-mod-accept').click();
    const outputs = await page.run('forgotten');
    expect(outputs.find((output) => output.evalue)?.evalue).to.contain('forgotten');
  });

  it('output goes on where it was when the page is loaded anew in the middle', async () => {
    const index = await page.startCell(
      'console.log("begin");\nfor (let i = 0; i < 40; i++) { await new Promise((r) => setTimeout(r, 200)); console.log("line " + i) }',
    );
    await page.waitForText(index, 'line 3');
    await page.page.evaluate(() => jupyterapp.commands.execute('docmanager:save'));
    await page.page.reload();
    await page.page.waitForSelector('.jp-Notebook .jp-Cell', { state: 'attached' });
    await page.waitForText(index, 'line 39');
    const text = (await page.cells())[index]!.outputs!.map((output) => output.text).join('');
    const expected = ['begin', ...Array.from({ length: 40 }, (_, i) => `line ${i}`)];
    expect(text.trim().split('\n')).to.deep.equal(expected);
    await page.screenshot('reload');
  });

  it('two tabs share one kernel', async () => {
    const other = await lab.open('run.ipynb');
    await page.run('let shared = 5');
    const index = await other.add('shared + 1');
    await other.command('notebook:run-cell');
    expect((await other.cells())[index]!.outputs![0]!.data!['text/plain']).to.equal('6');
    await other.close();
  });
});
