// What cells show: figures, tables, formulas, diagrams, progress; with words for each, and in both themes.
import { expect } from 'chai';
import { Lab } from './lab.ts';
import type { LabPage } from './page.ts';

describe('Figures in the lab', () => {
  const lab = new Lab();
  let page: LabPage;
  before(async () => {
    await lab.start();
    lab.write('figures.ipynb', [
      {
        markdown:
          '# Figures\n\nInline $y = mx + b$, and\n\n$$\\frac{1}{n}\\sum_i x_i$$\n\n```mermaid\nflowchart TD\n  A[Fits in memory?] -->|yes| B{Enough data?}\n  A -->|no| C[QLoRA]\n  B -->|yes| D[Full fine-tuning]\n  B -->|no| E[LoRA]\n```',
      },
      "const figure = display.plotly([{ y: [1, 2, 3], name: 'loss' }], { title: { text: 'Loss' }, xaxis: { title: { text: 'step' } }, yaxis: { title: { text: 'nats' } }, height: 300 });",
      'display.table([{ name: "b", loss: 10 }, { name: "a", loss: 9 }, { name: "c", loss: 100 }])',
      "for (const i of progress([1, 2, 3], { desc: 'training' })) await new Promise((r) => setTimeout(r, 20))",
      "display({ 'text/vnd.mermaid': 'flowchart LR\\n A[Base] --> B[LoRA]', 'text/plain': 'Base to LoRA' }, { raw: true }); display.latex('$$E = mc^2$$')",
    ]);
    page = await lab.open('figures.ipynb');
    await page.runAll();
    await page.page.waitForSelector('.js-plotly-plot .main-svg', { state: 'attached' });
  });
  after(async () => {
    await lab.stop();
    expect(page?.problems).to.deep.equal([]);
  });

  it('a Plotly figure is drawn, answers the mouse, and has its words', async () => {
    await page.show(1);
    const figure = page.page.locator('.js-plotly-plot').first();
    expect(await figure.getAttribute('aria-label')).to.equal(
      'Figure: Loss; step against nats; loss (scatter, 3 points)',
    );
    await figure.locator('.nsewdrag').first().hover();
    await figure.locator('.hovertext').first().waitFor();
    await page.screenshot('figure');
  });

  it('a figure is drawn anew while its cell runs, and keeps what was zoomed', async () => {
    const code =
      "const live = display.plotly([{ y: [0] }], { title: { text: 'step 0' }, height: 250 });\nfor (let i = 1; i <= 20; i++) { await new Promise((r) => setTimeout(r, 60)); live.update({ 'application/vnd.plotly.v1+json': { data: [{ y: [0, i] }], layout: { title: { text: 'step ' + i }, height: 250 } } }, { raw: true }) }";
    const index = await page.startCell(code);
    const seen = new Set<string>();
    const title = page.page.locator('.js-plotly-plot .gtitle').last();
    for (let i = 0; i < 400 && !seen.has('step 20'); i++) {
      seen.add((await title.textContent().catch(() => '')) ?? '');
      await page.page.waitForTimeout(10);
    }
    expect([...seen]).to.include('step 20');
    expect(seen.size).to.be.greaterThan(4);
    expect((await page.cells())[index]!.outputs).to.have.length(1);
  });

  it('a table is sorted by its buttons, by mouse and by keys', async () => {
    await page.show(2);
    const table = page.page.locator('table.dataframe').first();
    const column = (n: number) => table.locator(`tbody td:nth-child(${n})`).allTextContents();
    const sortBy = (name: string) => table.getByRole('button', { name });
    await sortBy('loss').click();
    expect(await column(2)).to.deep.equal(['9', '10', '100']);
    await sortBy('loss').press('Enter');
    expect(await column(2)).to.deep.equal(['100', '10', '9']);
    expect(await table.locator('th[aria-sort="descending"]').count()).to.equal(1);
    await sortBy('name').press('Space');
    expect(await column(1)).to.deep.equal(['a', 'b', 'c']);
    await page.screenshot('table');
  });

  it('formulas are drawn, with MathML beside them', async () => {
    const markdown = page.page.locator('.jp-MarkdownCell').first();
    expect(await markdown.locator('.katex').count()).to.equal(2);
    expect(await markdown.locator('math').first().textContent()).to.contain('y');
    await page.page.waitForSelector('.jp-RenderedLatex .katex', { state: 'attached' });
  });

  it('diagrams are drawn in Markdown and in outputs, with each arrow in words', async () => {
    const words = await page.page.locator('.jp-MarkdownCell .plab-Diagram img').getAttribute('alt');
    expect(words).to.contain('Fits in memory? to Enough data? (yes)');
    await page.page.waitForSelector('.jp-OutputArea .plab-Diagram img', { state: 'attached' });
  });

  it('a progress bar is one output, with its label', async () => {
    const bar = page.page.locator('progress').first();
    expect(await bar.getAttribute('aria-label')).to.match(/^training: 3\/3/);
    expect((await page.cells())[3]!.outputs).to.have.length(1);
  });

  it('follows a dark theme', async () => {
    const background = () =>
      page.page.evaluate(() => {
        const paper = document.querySelector('.js-plotly-plot .main-svg')!;
        return getComputedStyle(paper).backgroundColor;
      });
    const light = await background();
    await page.command('apputils:change-theme', { theme: 'JupyterLab Dark' });
    await page.page.waitForFunction(
      (before) =>
        getComputedStyle(document.querySelector('.js-plotly-plot .main-svg')!).backgroundColor !==
        before,
      light,
    );
    await page.show(0);
    await page.screenshot('figures-dark-1');
    await page.show(2);
    await page.screenshot('figures-dark-2');
    await page.command('apputils:change-theme', { theme: 'JupyterLab Light' });
  });

  it('is printed with its figures, diagrams and formulas', async () => {
    await page.page.context().addInitScript(() => {
      window.print = () => {
        const figure = document.querySelector('figure.plotly')!.getBoundingClientRect();
        const drawn = document.querySelectorAll('.main-svg .scatterlayer path').length;
        const images = document.querySelectorAll('.plab-Diagram img').length;
        const words = {
          width: figure.width,
          drawn,
          images,
          math: document.querySelectorAll('math').length,
        };
        console.info(`printed ${JSON.stringify(words)}`);
      };
    });
    const printed = page.page.waitForEvent('console', (message) => /^printed/.test(message.text()));
    await page.command('apputils:print');
    const seen = JSON.parse((await printed).text().slice('printed '.length)) as Record<
      string,
      number
    >;
    expect(seen.drawn).to.be.greaterThan(0);
    expect(seen.width).to.be.within(500, 794);
    expect(seen).to.include({ images: 2, math: 3 });
    await page.page.waitForFunction(() => !document.querySelector('iframe'));
  });

  it('is exported as HTML', async () => {
    await page.save();
    const response = await page.page.request.get(lab.url('/nbconvert/html/figures.ipynb'));
    expect(response.status()).to.equal(200);
    const html = await response.text();
    expect(html).to.contain('Figure: Loss; step against nats');
    expect(html).to.contain('<math');
  });
});
