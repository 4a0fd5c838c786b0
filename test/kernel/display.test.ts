import { expect } from 'chai';
import { TestKernel } from './support.ts';

describe('Display', () => {
  const kernel = new TestKernel();
  before(() => kernel.start());
  after(() => kernel.stop());
  const shown = async (code: string) => (await kernel.run(code)).bundles;

  it('shows each type by its MIME type, with words beside it', async () => {
    const bundles =
      await shown(`display.html('<b>x</b> &amp; y'); display.markdown('*m*'); display.svg('<svg/>');
display.latex('$x$'); display.json({ a: 1 }); display.png('iVBORw0KGgo='); display.png(new Uint8Array([137, 80])); display.text('plain'); display({ a: 1 })`);
    expect(bundles.map((b) => Object.keys(b).join(' '))).to.deep.equal([
      'text/html text/plain',
      'text/markdown text/plain',
      'image/svg+xml text/plain',
      'text/latex text/plain',
      'application/json text/plain',
      'image/png text/plain',
      'image/png text/plain',
      'text/plain',
      'text/plain',
    ]);
    expect(bundles[0]!['text/plain']).to.equal('x &amp; y');
    expect(bundles[6]!['image/png']).to.equal('iVA=');
  });

  it('shows objects by Symbol.for("Jupyter.display"), also when it is asynchronous', async () => {
    const [sync] = await shown(
      "({ [Symbol.for('Jupyter.display')]: () => ({ 'text/html': '<i>s</i>', 'text/plain': 's' }) })",
    );
    expect(sync).to.deep.equal({ 'text/html': '<i>s</i>', 'text/plain': 's' });
    const [late] = await shown(
      "display({ async [Symbol.for('Jupyter.display')]() { await null; return { 'text/plain': 'late' } } })",
    );
    expect(late).to.deep.equal({ 'text/plain': 'late' });
    expect(await shown("display({ 'image/png': 'AA==' }, { raw: true })")).to.deep.equal([
      { 'image/png': 'AA==' },
    ]);
  });

  it('changes an output from another cell and clears outputs', async () => {
    await kernel.run("const handle = display.text('one', { displayId: 'mine' })");
    const { messages } = await kernel.run('handle.update(2)');
    expect(messages[0]!.header.msg_type).to.equal('update_display_data');
    expect(messages[0]!.content).to.deep.include({
      data: { 'text/plain': '2' },
      transient: { display_id: 'mine' },
    });
    const cleared = await kernel.run('clearOutput(true)');
    expect(cleared.messages[0]!.content).to.deep.equal({ wait: true });
  });

  it('shows a Plotly figure with title, axes and traces in words', async () => {
    const [figure] = await shown(
      "display.plotly([{ x: [1, 2], y: [3, 4], name: 'loss' }], { title: { text: 'T' }, xaxis: { title: { text: 'step' } }, yaxis: { title: 'nats' } })",
    );
    expect(figure!['text/plain']).to.equal(
      'Figure: T; step against nats; loss (scatter, 2 points)',
    );
    expect(figure!['application/vnd.plotly.v1+json']).to.have.keys('data', 'layout', 'config');
  });

  it('shows tables of rows, numbers to the right, cut in the middle when long', async () => {
    const [table] = await shown(
      "display.table([{ name: 'a<b', n: 1.23456789 }, { name: 'c', extra: true }])",
    );
    expect(table!['text/html'])
      .to.contain('a&lt;b')
      .and.to.contain('1.23457')
      .and.to.contain('2 rows x 3 columns');
    expect(table!['text/plain']).to.equal(
      'name        n  extra\na<b   1.23457\nc              true',
    );
    const [long] = await shown('display.table(Array.from({ length: 500 }, (_, i) => ({ i })))');
    expect(String(long!['text/plain']).split('\n')).to.have.length(62);
  });

  it('shows tensors with shape, dtype and a heat map or histogram', async () => {
    const [small] = await shown(
      "import * as tf from '@tensorflow/tfjs'; await tf.setBackend('cpu'); tf.tensor2d([[1, -2], [0, 4]])",
    );
    expect(small!['text/plain']).to.match(
      /^Tensor float32\[2, 2\]\nmin -2, max 4, mean 0.75, std 2.165\n/,
    );
    expect(small!['text/html']).to.match(/aria-label="Heat map of Tensor float32\[2, 2\]/);
    expect(String(small!['text/html']).match(/<rect /g)).to.have.length(4);
    const [large] = await shown('tf.linspace(0, 1, 5000)');
    expect(large!['text/html']).to.contain('Histogram of Tensor float32[5000]');
    const [scalar] = await shown("tf.scalar(3, 'int32')");
    expect(scalar).to.have.keys('text/plain');
    const [gone] = await shown('const dead = tf.scalar(1); dead.dispose(); dead');
    expect(gone!['text/plain']).to.equal('Tensor float32[] (disposed)');
    const [odd] = await shown('tf.tensor1d([NaN, 1, Infinity])');
    expect(odd!['text/plain']).to.contain('2 not finite');
  });

  it('shows danfo data frames and series', async () => {
    const [frame] = await shown(
      "import * as dfd from 'danfojs-node'; const df = new dfd.DataFrame([{ a: 1, b: 'x' }, { a: 2.5, b: 'y' }]); df",
    );
    expect(frame!['text/plain']).to.equal('     a  b\n0    1  x\n1  2.5  y');
    expect(frame!['text/html'])
      .to.contain('<table class="dataframe">')
      .and.to.contain('2 rows x 2 columns');
    const [series] = await shown("df['a']");
    expect(series!['text/plain']).to.equal('     a\n0    1\n1  2.5');
  });

  it('moves a progress bar that reads well in plain text', async () => {
    const { messages } = await kernel.run(
      "for (const x of progress([1, 2, 3], { desc: 'work' })) void x",
    );
    expect(messages[0]!.header.msg_type).to.equal('display_data');
    const last = messages.at(-1)!.content.data as Record<string, string>;
    expect(last['text/plain']).to.match(/^work: 100 % █{20} 3\/3 \[[\d.]+ s, [\d.e+]+ it\/s\]$/);
    expect(last['text/html']).to.contain('<progress value="3" max="3"');
    const bar = await kernel.run(
      "const bar = progress({ total: 10, desc: 'train' }); bar.update(4); bar.setPostfix({ loss: 0.123456 }); bar.close()",
    );
    expect((bar.messages.at(-1)!.content.data as Record<string, string>)['text/plain']).to.match(
      /train: +40 % .* 4\/10 .* loss=0.1235$/,
    );
  });

  it("speaks tslab's API", async () => {
    const { messages } = await kernel.run(`import * as tslab from 'tslab';
tslab.display.html('<b>h</b>'); tslab.display.png(new Uint8Array([137, 80])); tslab.display.raw('application/x', 'y');
const d = tslab.newDisplay(); d.text('one'); d.text('two'); typeof tslab.versions.typescript`);
    expect(messages.map((m) => m.header.msg_type)).to.deep.equal([
      'display_data',
      'display_data',
      'display_data',
      'display_data',
      'update_display_data',
      'execute_result',
    ]);
    expect(messages[0]!.content.data).to.deep.equal({ 'text/html': '<b>h</b>' });
    const ids = messages
      .slice(3, 5)
      .map((m) => (m.content.transient as { display_id: string }).display_id);
    expect(ids[0]).to.equal(ids[1]);
  });
});
