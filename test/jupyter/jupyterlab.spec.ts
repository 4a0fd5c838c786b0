// Python's own JupyterLab with our kernel and our Plotly renderer: figures are drawn, widgets move them.
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';
import type { Browser } from 'playwright-core';
import { freePort, launchBrowser, notebookText, openPage } from '../browser/lab.ts';
import { eventually, type LabPage } from '../browser/page.ts';
import { DRAW } from '../browser/wave.ts';
import { pythonEnvironment } from './python.ts';

const TOKEN = 'a-token-for-tests';
const FORM = `const bar = new w.IntProgress({ max: 3 });
const out = new w.Output();
const go = new w.Button({ description: 'Train' });
go.onClick(() => { bar.value = 3; out.capture(() => console.log('trained')) });
new w.Tab([new w.VBox([go, bar, out]), new w.HTML({ value: '<b>second</b>' })], { titles: ['Form', 'Text'], selectedIndex: 0 })`;

describe("Python's JupyterLab", () => {
  const folder = mkdtempSync(join(tmpdir(), 'peftlab stock '));
  let server: ChildProcess;
  let browser: Browser;
  let page: LabPage;
  before(async () => {
    const requirements = fileURLToPath(new URL('./requirements.txt', import.meta.url));
    const python = join(pythonEnvironment(requirements), 'bin', 'python');
    writeFileSync(join(folder, 'stock.ipynb'), notebookText([DRAW, FORM]));
    const port = await freePort();
    const at = `http://127.0.0.1:${port}`;
    const options = ['--no-browser', '--allow-root', '--expose-app-in-browser', `--port=${port}`];
    server = spawn(python, ['-m', 'jupyterlab', ...options, `--IdentityProvider.token=${TOKEN}`], {
      cwd: folder,
      stdio: 'ignore',
    });
    const answers = () =>
      fetch(`${at}/api`).then(
        ({ ok }) => ok,
        () => false,
      );
    expect(await eventually(answers, (ok) => ok), 'the server answers').to.equal(true);
    browser = await launchBrowser();
    page = await openPage(browser, `${at}/lab/tree/stock.ipynb?token=${TOKEN}`);
    await page.runAll();
  });
  after(async () => {
    await browser?.close();
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGTERM');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  });

  it('draws a Plotly figure with the prebuilt renderer, and a slider redraws it', async () => {
    await page.page.waitForSelector('.js-plotly-plot .gtitle', { state: 'attached' });
    const times: number[] = [];
    for (let i = 0; i < 8; i++) times.push(await page.moveSlider());
    console.log(`      redrawn after ${times.map((t) => t.toFixed(0)).join(', ')} ms`);
    const title = () => page.page.locator('.js-plotly-plot .gtitle').first().textContent();
    expect(await eventually(title, (text) => text === 'sine 1.8')).to.equal('sine 1.8');
    await page.screenshot('stock-jupyterlab');
  });

  it('runs a form of widgets', async () => {
    await page.show(1);
    await page.page.locator('.jupyter-button', { hasText: 'Train' }).click();
    await page.page
      .locator('.jupyter-widget-output, .widget-output', { hasText: 'trained' })
      .waitFor();
    await page.page.locator('.lm-TabBar-tabLabel', { hasText: 'Text' }).last().click();
    await page.page.locator('.widget-html b', { hasText: 'second' }).waitFor();
  });
});
