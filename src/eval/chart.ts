// Line and bar charts as objects that show themselves: a Plotly figure, and the same in words for
// those who can't see it. Colours are Okabe and Ito's, told apart by colour-blind eyes; series also
// differ in dash, marker or hatching. Left out: chart kinds that no lesson draws.

const DISPLAY: unique symbol = Symbol.for('Jupyter.display') as never;
const COLOURS = ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#000000'];
const DASHES = ['solid', 'dash', 'dot', 'dashdot', 'longdash', 'longdashdot'];
const MARKERS = ['circle', 'square', 'diamond', 'cross', 'triangle-up', 'x'];
const HATCHES = ['', '/', '.', 'x', '\\', '-'];

/** Letters that a vertical axis has room for, and those of all categories beside each other. */
const Y_TITLE_WIDTH = 34;
const CATEGORIES_WIDTH = 88;

/** What every chart says of itself; axis titles name their units. */
export interface ChartOptions {
  title: string;
  /** Title of the horizontal axis, with its unit. */
  x: string;
  /** Title of the vertical axis, with its unit. */
  y: string;
  /** Default `'linear'`. */
  xScale?: 'linear' | 'log';
  /** Default `'linear'`. */
  yScale?: 'linear' | 'log';
  /** Lowest and highest value of the vertical axis. Default: what the values need. */
  yRange?: readonly [number, number];
}

/** How points are drawn. */
export type LineMode = 'lines' | 'markers' | 'lines+markers';

/** A row of points; `x` defaults to 0, 1, 2, ... */
export interface LineSeries {
  name: string;
  /** Default: that of the chart. */
  mode?: LineMode;
  x?: readonly number[];
  y: readonly number[];
}

/** One bar for each category; `low` and `high` draw the range over several runs. */
export interface BarSeries {
  name: string;
  y: readonly number[];
  low?: readonly number[];
  high?: readonly number[];
}

/** A figure and its description; shown as the value of a cell. */
export interface Chart {
  data: object[];
  layout: Record<string, unknown>;
  /** The figure in words. */
  text: string;
  [DISPLAY](): Record<string, unknown>;
}

/** Lines (default), points, or both. A RangeError if a series' x and y differ in length. */
export function lineChart(
  options: ChartOptions & {
    series: readonly LineSeries[];
    mode?: LineMode;
  },
): Chart {
  const { series, mode = 'lines' } = options;
  const lines = series.map((line) => ({ mode, ...line, x: line.x ?? [...line.y.keys()] }));
  for (const { name, x, y } of lines) checkLength(name, 'x', x, y.length);
  const data = lines.map(({ name, x, y, mode: own }, i) => ({
    ...{ type: 'scatter', mode: own, name, x, y },
    line: { color: at(COLOURS, i), dash: at(DASHES, i), width: 2 },
    // From the seventh on a colour comes again, with the marker of its neighbour.
    marker: {
      color: at(COLOURS, i),
      symbol: at(MARKERS, i + Math.floor(i / COLOURS.length)),
      size: 8,
    },
  }));
  const words = lines.map(({ name, x, y }) => `${name}: ${describeLine(x, y)}`);
  return chart(options, data, {}, words);
}

/** Bars in groups, one group for each category. A RangeError if a series has another length. */
export function barChart(
  options: ChartOptions & { categories: readonly string[]; series: readonly BarSeries[] },
): Chart {
  const { categories, series } = options;
  for (const { name, y } of series) checkLength(name, 'y', y, categories.length);
  const data = series.map(({ name, y, low, high }, i) => ({
    ...{ type: 'bar', name, x: categories, y },
    marker: {
      color: at(COLOURS, i),
      // Without a background of its own a hatched bar is drawn in white lines on nothing.
      pattern: { shape: at(HATCHES, i), fgcolor: '#ffffff', bgcolor: at(COLOURS, i) },
    },
    ...(low && high && { error_y: errorBars(y, low, high) }),
  }));
  const words = series.map((bars) => `${bars.name}: ${describeBars(categories, bars)}`);
  const width = Math.floor(CATEGORIES_WIDTH / categories.length);
  const ticks = { tickvals: categories, ticktext: categories.map((name) => wrapped(name, width)) };
  return chart(options, data, { barmode: 'group', bargap: 0.3 }, words, ticks);
}

function chart(
  options: ChartOptions,
  data: object[],
  more: Record<string, unknown>,
  words: string[],
  ticks: Record<string, unknown> = {},
): Chart {
  const { title, x, y, xScale = 'linear', yScale = 'linear', yRange } = options;
  const layout = {
    title: { text: title },
    xaxis: { ...axis(x), ...ticks, ...(xScale === 'log' && { type: 'log' }) },
    yaxis: {
      ...axis(wrapped(y, Y_TITLE_WIDTH)),
      ...(yScale === 'log' && { type: 'log', exponentformat: 'power' }),
      ...(yRange && { range: yScale === 'log' ? yRange.map(Math.log10) : yRange }),
    },
    ...{ height: 400 + 24 * legendRows(data.length), font: { size: 14 }, margin: { t: 60, r: 20 } },
    ...{ paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff', showlegend: data.length > 1 },
    legend: { orientation: 'h', yref: 'container', y: 0, yanchor: 'bottom' },
    ...more,
  };
  const scales = [`${x}${xScale === 'log' ? ' (log scale)' : ''}`];
  scales.push(`${y}${yScale === 'log' ? ' (log scale)' : ''}`);
  const text = [`Figure: ${title}. Across: ${scales[0]}; up: ${scales[1]}.`, ...words].join('\n');
  const bundle = {
    'application/vnd.plotly.v1+json': { data, layout, config: { responsive: true } },
    'text/plain': text,
  };
  return { data, layout, text, [DISPLAY]: () => bundle };
}

/** Text in lines of about `width` letters, broken at spaces. */
function wrapped(text: string, width: number): string {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length >= width) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines.join('<br>');
}

/** Rows of the legend beyond the first, about four names in each; the picture grows by them. */
function legendRows(names: number): number {
  return Math.max(0, Math.ceil(names / 4) - 1);
}

function axis(title: string): Record<string, unknown> {
  const line = { showline: true, linecolor: '#444444', gridcolor: '#dddddd', zeroline: false };
  return { title: { text: title }, automargin: true, ...line };
}

function errorBars(y: readonly number[], low: readonly number[], high: readonly number[]) {
  const up = y.map((value, i) => high[i]! - value);
  const down = y.map((value, i) => value - low[i]!);
  return { type: 'data', symmetric: false, array: up, arrayminus: down, color: '#000000' };
}

function describeLine(x: readonly number[], y: readonly number[]): string {
  if (y.length === 0) return 'no points';
  const point = (i: number) => `${round(y[i]!)} at ${round(x[i]!)}`;
  const least = y.reduce((best, value, i) => (value < y[best]! ? i : best), 0);
  const most = y.reduce((best, value, i) => (value > y[best]! ? i : best), 0);
  const ends = `first ${point(0)}, last ${point(y.length - 1)}`;
  return `${y.length} points, ${ends}, lowest ${point(least)}, highest ${point(most)}`;
}

function describeBars(categories: readonly string[], { y, low, high }: BarSeries): string {
  const range = (i: number) => (low && high ? ` (${round(low[i]!)} to ${round(high[i]!)})` : '');
  return categories.map((name, i) => `${name} ${round(y[i]!)}${range(i)}`).join(', ');
}

function checkLength(name: string, axisName: string, values: readonly unknown[], length: number) {
  if (values.length === length) return;
  throw new RangeError(
    `Series '${name}' must have ${length} values on ${axisName}, got ${values.length}`,
  );
}

function at(list: readonly string[], i: number): string {
  return list[i % list.length]!;
}

function round(value: number): string {
  return String(Number(value.toPrecision(3)));
}
