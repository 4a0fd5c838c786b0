// A cell with a slider and a menu that redraw a figure.

/** Its code. */
export const DRAW = `import * as w from 'peftlab/widgets';
const xs = Array.from({ length: 200 }, (_, i) => i / 20);
const draw = ({ frequency, kind }: { frequency: number; kind: string }) => ({
  [Symbol.for('Jupyter.display')]: () => ({
    'application/vnd.plotly.v1+json': { data: [{ x: xs, y: xs.map((x) => Math.sin(x * frequency)) }], layout: { title: { text: kind + ' ' + frequency }, height: 260 } },
    'text/plain': kind + ' ' + frequency,
  }),
});
w.interact(draw, { frequency: { min: 0.5, max: 5, step: 0.1, value: 1 }, kind: ['sine', 'wave'] });`;
