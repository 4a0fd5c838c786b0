// Controls of peftlab/widgets in the lab, moved by mouse and keys.
import { expect } from 'chai';
import { Lab } from './lab.ts';
import { eventually, type LabPage } from './page.ts';
import { DRAW } from './wave.ts';

const FORM = `const out = new w.Output();
const bar = new w.IntProgress({ description: 'training' });
const go = new w.Button({ description: 'Train', buttonStyle: 'primary' });
const tick = new w.Checkbox({ description: 'verbose' });
const name = new w.Text({ description: 'name' });
go.onClick(async () => {
  for (let i = 0; i <= 100; i += 25) { bar.value = i; await new Promise((r) => setTimeout(r, 30)); }
  out.capture(() => console.log('trained', name.value, tick.value));
});
new w.Tab([new w.VBox([tick, name, go, bar, out]), new w.HTML({ value: '<b>second page</b>' })], { titles: ['Form', 'Text'], selectedIndex: 0 })`;

describe('Widgets in the lab', () => {
  const lab = new Lab();
  let page: LabPage;
  before(async () => {
    await lab.start();
    lab.write('widgets.ipynb', [DRAW, FORM]);
    page = await lab.open('widgets.ipynb');
    await page.runAll();
    await page.page.waitForSelector('.js-plotly-plot .gtitle', { state: 'attached' });
    await page.show(0);
  });
  after(async () => {
    await lab.stop();
    expect(page?.problems).to.deep.equal([]);
  });
  const title = () => page.page.locator('.js-plotly-plot .gtitle').first().textContent();

  it('a slider moved by keys redraws the figure', async () => {
    const times: number[] = [];
    for (let i = 0; i < 8; i++) times.push(await page.moveSlider());
    console.log(`      redrawn after ${times.map((t) => t.toFixed(0)).join(', ')} ms`);
    expect(await title()).to.equal('sine 1.8');
  });

  it('a slider dragged by mouse ends where it was left, and the figure with it', async () => {
    const handle = page.page.locator('.noUi-handle').first();
    const box = (await handle.boundingBox())!;
    const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
    await page.page.mouse.move(x, y);
    await page.page.mouse.down();
    for (let i = 1; i <= 30; i++) await page.page.mouse.move(x + 2 * i, y);
    await page.page.mouse.up();
    const readout = Number(await page.page.locator('.widget-readout').first().textContent());
    expect(readout).to.be.greaterThan(2);
    expect(await eventually(title, (text) => text === `sine ${readout}`)).to.equal(
      `sine ${readout}`,
    );
    await page.screenshot('widgets');
  });

  it('a dropdown chooses', async () => {
    await page.page.locator('.widget-dropdown select').first().selectOption('wave');
    await page.page.waitForFunction(() =>
      document.querySelector('.js-plotly-plot .gtitle')?.textContent?.startsWith('wave'),
    );
  });

  it('checkbox, text, button, progress, output and tabs work together', async () => {
    await page.show(1);
    await page.page.locator('.widget-checkbox input').check();
    await page.page.locator('.widget-text input').first().fill('lora');
    await page.page.locator('.jupyter-button', { hasText: 'Train' }).click();
    await page.page.locator('.widget-output', { hasText: 'trained lora true' }).waitFor();
    const width = await page.page
      .locator('.widget-hprogress .progress-bar')
      .evaluate((node) => (node as HTMLElement).style.width);
    expect(width).to.equal('100%');
    await page.screenshot('widgets-form');
    await page.page.locator('.lm-TabBar-tabLabel', { hasText: 'Text' }).last().click();
    await page.page.locator('.widget-html b', { hasText: 'second page' }).waitFor();
  });

  it('are there again when the page is loaded anew', async () => {
    await page.save();
    await page.page.reload();
    await page.ready();
    await page.page.locator('.noUi-handle').first().waitFor();
    await page.page.locator('.noUi-handle').first().press('ArrowRight');
    await page.page.waitForFunction(
      () => Number(document.querySelector('.widget-readout')?.textContent) > 2,
    );
  });
});
