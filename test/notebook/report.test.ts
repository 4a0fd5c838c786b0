import { expect } from 'chai';
import { type Notebook, newCell, type Output } from '../../src/notebook/nbformat.ts';
import { notebookToHtml } from '../../src/notebook/report.ts';

const report = (markdown: string, outputs: Output[] = []): Promise<string> => {
  const code = { ...newCell('code', 'const a: number = 1 < 2;', 1), outputs, execution_count: 3 };
  const notebook: Notebook = {
    cells: [newCell('markdown', markdown, 0), code],
    metadata: {},
    nbformat: 4,
    nbformat_minor: 5,
  };
  return notebookToHtml(notebook, 'name');
};
const display = (data: Record<string, unknown>): Output => ({
  output_type: 'display_data',
  data,
  metadata: {},
});

describe('An HTML report', () => {
  it('has title, contents, mathematics as MathML and coloured code', async () => {
    const html = await report(
      '# Head & tail\n\n$x^2$ costs $5 or $6\n\n$$\\frac{1}{r}$$\n\n## Next',
    );
    expect(html).to.contain('<title>Head &amp; tail</title>');
    expect(html).to.contain('<a href="#next">Next</a>');
    expect(html.match(/<math/g)).to.have.length(2);
    expect(html).to.contain('costs $5 or $6');
    expect(html).to.contain('<span class="hljs-keyword">const</span>');
    expect(html).to.match(/1<\/span> &lt; /);
  });

  it('draws Plotly figures without any reference to the network, with words for each', async () => {
    const figure = {
      data: [{ x: [1], y: [2], name: '</script>' }],
      layout: { title: { text: 'T' } },
    };
    const html = await report('', [
      display({ 'application/vnd.plotly.v1+json': figure, 'text/plain': 'Figure: T "q"' }),
    ]);
    expect(html).to.contain('aria-label="Figure: T &quot;q&quot;"');
    expect(html).to.contain('Plotly.react');
    expect(html).to.not.match(/<(script|link|img)[^>]*(src|href)="https?:/);
    expect(html.match(/<\/script>/g)).to.have.length(2);
    expect((await report('')).length).to.be.lessThan(30_000);
  });

  it('draws Mermaid diagrams of Markdown and of outputs, with each arrow in words', async () => {
    const html = await report('```mermaid\nflowchart TD\n  A[Fits?] -->|no| B[QLoRA]\n```', [
      display({ 'text/vnd.mermaid': 'flowchart LR\n A[Base] --> B["a < b"]', 'text/plain': 'no' }),
    ]);
    const images = [
      ...html.matchAll(/<img src="data:image\/svg\+xml;base64,([^"]+)" alt="([^"]+)"/g),
    ];
    expect(images.map(([, , words]) => words)).to.deep.equal([
      'Diagram: Fits? to QLoRA (no)',
      'Diagram: Base to a &lt; b',
    ]);
    const [first] = images.map(([, code]) => Buffer.from(code!, 'base64').toString());
    expect(first).to.match(/^<svg/).and.contain('QLoRA');
    const broken = await report('```mermaid\nflowchart\n```');
    expect(broken).to.contain("This diagram can't be drawn");
  });

  it('shows the richest form of an output: html, svg, image, markdown, latex, text', async () => {
    const html = await report('', [
      display({ 'text/html': '<b>bold</b>', 'text/plain': 'no' }),
      display({ 'image/svg+xml': '<svg id="s"></svg>', 'text/plain': 'a drawing' }),
      display({ 'image/png': 'AAAA\n', 'text/plain': 'a picture' }),
      display({ 'text/markdown': '*stress*' }),
      display({ 'text/latex': '$x$' }),
      display({ 'text/plain': '1 < 2' }),
    ]);
    for (const part of [
      '<b>bold</b>',
      'aria-label="a drawing"><svg id="s">',
      'src="data:image/png;base64,AAAA" alt="a picture"',
      '<em>stress</em>',
      '<math',
      '1 &lt; 2',
    ]) {
      expect(html).to.contain(part);
    }
  });

  it('shows streams and errors with their colours as classes', async () => {
    const html = await report('', [
      { output_type: 'stream', name: 'stdout', text: '\x1b[33mwarning\x1b[0m <x>' },
      { output_type: 'error', ename: 'E', evalue: 'v', traceback: ['\x1b[31mE\x1b[0m: v'] },
    ]);
    expect(html).to.contain('<span class="ansi-yellow-fg">warning</span> &lt;x&gt;');
    expect(html).to.contain(
      '<pre class="error" role="alert" tabindex="0"><span class="ansi-red-fg">E</span>: v',
    );
  });
});
