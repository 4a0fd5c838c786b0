// A table of numbers as colours: a Plotly heat map, and the same in words for those who can't see it.
// The scale (cividis) is read alike by colour-blind eyes. Left out: clustering of rows.

const DISPLAY: unique symbol = Symbol.for('Jupyter.display') as never;

/** What a heat map shows; rows go down, columns across. */
export interface HeatMapOptions {
  title: string;
  /** Title of the horizontal axis. */
  x: string;
  /** Title of the vertical axis. */
  y: string;
  /** What the colours mean, with the unit. */
  z: string;
  columns: readonly string[];
  rows: readonly string[];
  /** One list a row. */
  values: readonly (readonly number[])[];
  /** Lowest and highest value of the scale. Default: those of the values. */
  range?: readonly [number, number];
}

/** A figure and its description; shown as the value of a cell. */
export interface HeatMap {
  data: object[];
  layout: Record<string, unknown>;
  /** The figure in words. */
  text: string;
  [DISPLAY](): Record<string, unknown>;
}

/** Throws a RangeError unless there is a value for each row and column. */
export function heatMap(options: HeatMapOptions): HeatMap {
  const { title, x, y, z, columns, rows, values, range } = options;
  const wrong = values.find((row) => row.length !== columns.length);
  if (values.length !== rows.length || wrong) {
    throw new RangeError(
      `A heat map of ${rows.length} rows and ${columns.length} columns needs as many values, ` +
        `got ${values.length} rows${wrong ? `, one of ${wrong.length}` : ''}`,
    );
  }
  const isSmall = values.length * columns.length <= 100;
  const shown = values.map((row) => row.map((value) => (isSmall ? round(value) : '')));
  const [zmin, zmax] = range ?? [];
  const data = [
    {
      ...{
        type: 'heatmap',
        x: columns,
        y: rows,
        z: values,
        colorscale: 'Cividis',
        xgap: 1,
        ygap: 1,
      },
      ...{ text: shown, texttemplate: '%{text}', colorbar: { title: { text: z, side: 'right' } } },
      ...(range && { zmin, zmax }),
    },
  ];
  const layout = {
    title: { text: title },
    xaxis: { title: { text: x }, automargin: true, type: 'category' },
    yaxis: { title: { text: y }, automargin: true, type: 'category', autorange: 'reversed' },
    ...{ height: Math.max(320, 160 + 24 * rows.length), font: { size: 14 } },
    ...{ margin: { t: 60, r: 20 }, paper_bgcolor: '#ffffff', plot_bgcolor: '#ffffff' },
  };
  const words = rows.map((row, i) => `${row}: ${describe(columns, values[i]!)}`);
  const text = [`Figure: ${title}. Across: ${x}; down: ${y}; colour: ${z}.`, ...words].join('\n');
  const bundle = {
    'application/vnd.plotly.v1+json': { data, layout, config: { responsive: true } },
    'text/plain': text,
  };
  return { data, layout, text, [DISPLAY]: () => bundle };
}

/** The three largest values of a row, by the names of their columns. */
function describe(columns: readonly string[], values: readonly number[]): string {
  const order = [...values.keys()].sort((a, b) => values[b]! - values[a]!).slice(0, 3);
  return order.map((i) => `${columns[i]} ${round(values[i]!)}`).join(', ');
}

const round = (value: number) => String(Number(value.toPrecision(2)));
