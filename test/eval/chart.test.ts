import { expect } from 'chai';
import { barChart, type Chart, lineChart } from 'peftlab';

type Bundle = Record<string, unknown> & {
  'application/vnd.plotly.v1+json': { data: Trace[]; layout: Layout };
  'text/plain': string;
};
interface Trace {
  name: string;
  type: string;
  x: unknown[];
  y: number[];
  line: { color: string; dash: string };
  error_y?: { array: number[]; arrayminus: number[] };
}
interface Layout {
  title: { text: string };
  xaxis: { title: { text: string }; type?: string };
  yaxis: { title: { text: string }; type?: string; range?: number[] };
}

const show = (chart: Chart) =>
  (Reflect.get(chart, Symbol.for('Jupyter.display')) as () => Bundle)();
const axes = { title: 'Loss', x: 'step', y: 'loss (nats)' };

describe('lineChart', () => {
  it('shows itself as a Plotly figure and as text, and as nothing else', () => {
    const bundle = show(lineChart({ ...axes, series: [{ name: 'LoRA', y: [3, 1, 2] }] }));
    expect(Object.keys(bundle)).to.deep.equal(['application/vnd.plotly.v1+json', 'text/plain']);
    expect(() => JSON.stringify(bundle)).to.not.throw();
  });

  it('carries title, axis titles and points', () => {
    const series = [{ name: 'LoRA', x: [10, 20], y: [3, 1] }];
    const { data, layout } = show(lineChart({ ...axes, series }))['application/vnd.plotly.v1+json'];
    expect(layout.title.text).to.equal('Loss');
    expect([layout.xaxis.title.text, layout.yaxis.title.text]).to.deep.equal([
      'step',
      'loss (nats)',
    ]);
    expect(data[0]).to.deep.include({ name: 'LoRA', type: 'scatter', x: [10, 20], y: [3, 1] });
  });

  it('breaks a vertical title that is longer than its axis', () => {
    const y = 'log-probability of chosen answers (nats), mean of three seeds';
    const { layout, text } = lineChart({ ...axes, y, series: [{ name: 'a', y: [1] }] });
    const shown = (layout.yaxis as Layout['yaxis']).title.text;
    expect(shown.split('<br>').join(' ')).to.equal(y);
    for (const line of shown.split('<br>')) expect(line.length).to.be.at.most(34);
    expect(text).to.contain(`up: ${y}`);
  });

  it('counts steps from 0 where x is left out', () => {
    const { data } = lineChart({ ...axes, series: [{ name: 'a', y: [5, 6, 7] }] });
    expect((data[0] as Trace).x).to.deep.equal([0, 1, 2]);
  });

  it('tells first, last, lowest and highest of each series in words', () => {
    const series = [{ name: 'LoRA', x: [0, 1, 2, 3], y: [3, 0.25, 4, 2.00049] }];
    const { text } = lineChart({ ...axes, yScale: 'log', series });
    expect(text).to.contain('Figure: Loss. Across: step; up: loss (nats) (log scale).');
    expect(text).to.contain(
      'LoRA: 4 points, first 3 at 0, last 2 at 3, lowest 0.25 at 1, highest 4 at 2',
    );
  });

  it('tells series apart by colour and by dash', () => {
    const series = ['a', 'b', 'c', 'd'].map((name) => ({ name, y: [1] }));
    const traces = lineChart({ ...axes, series }).data as Trace[];
    expect(new Set(traces.map((trace) => trace.line.color)).size).to.equal(4);
    expect(new Set(traces.map((trace) => trace.line.dash)).size).to.equal(4);
  });

  it('gives Plotly the exponents of a range on a log scale', () => {
    const { layout } = lineChart({ ...axes, yScale: 'log', yRange: [0.01, 100], series: [] });
    expect((layout as unknown as Layout).yaxis).to.deep.include({ type: 'log', range: [-2, 2] });
  });

  it('describes an empty series and refuses one of uneven length', () => {
    expect(lineChart({ ...axes, series: [{ name: 'a', y: [] }] }).text).to.contain('a: no points');
    const uneven = () => lineChart({ ...axes, series: [{ name: 'a', x: [1], y: [1, 2] }] });
    expect(uneven).to.throw(RangeError, "Series 'a' must have 2 values on x, got 1");
  });
});

describe('barChart', () => {
  const categories = ['new task', 'old facts'];
  const options = { ...axes, categories };

  it('breaks long names of categories rather than turning them', () => {
    const categories = ['medicine, read: statements', 'world: questions', 'sums', 'code'];
    const series = [{ name: 'a', y: [1, 2, 3, 4] }];
    const { data, layout } = barChart({ ...axes, categories, series });
    const { tickvals, ticktext } = layout.xaxis as { tickvals: string[]; ticktext: string[] };
    expect(tickvals).to.deep.equal((data[0] as Trace).x);
    expect(ticktext[0]).to.equal('medicine, read:<br>statements');
    expect(ticktext.slice(1)).to.deep.equal(categories.slice(1));
  });

  it('draws a bar for each category, with the range over runs', () => {
    const series = [{ name: 'LoRA', y: [0.9, 0.8], low: [0.85, 0.5], high: [1, 0.8] }];
    const { data, text } = barChart({ ...options, series });
    const [bars] = data as Trace[];
    expect(bars).to.deep.include({ type: 'bar', x: categories, y: [0.9, 0.8] });
    expect(bars!.error_y!.array[0]).to.be.closeTo(0.1, 1e-12);
    expect(bars!.error_y!.arrayminus[1]).to.be.closeTo(0.3, 1e-12);
    expect(text).to.contain('LoRA: new task 0.9 (0.85 to 1), old facts 0.8 (0.5 to 0.8)');
  });

  it('refuses a series without a value for each category', () => {
    const short = () => barChart({ ...options, series: [{ name: 'LoRA', y: [1] }] });
    expect(short).to.throw(RangeError, "Series 'LoRA' must have 2 values on y, got 1");
  });
});
