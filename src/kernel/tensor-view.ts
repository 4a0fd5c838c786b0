// A TensorFlow.js tensor as one looks at it: shape, dtype, range, and a heat map (two dimensions,
// up to 64 x 128) or a histogram, drawn as SVG. Tensors are known by their shape, not by import.
import type { MimeBundle } from './protocol.ts';
import { escapeHtml } from './table.ts';

interface TensorLike {
  shape: number[];
  dtype: string;
  size: number;
  isDisposed: boolean;
  dataSync(): ArrayLike<number>;
  toString(verbose?: boolean): string;
}

/** True for tensors (and variables) of any copy of TensorFlow.js. */
export function isTensor(value: unknown): value is TensorLike {
  if (typeof value !== 'object' || value === null) return false;
  const { shape, dtype, dataId, dataSync } = value as Record<string, unknown>;
  return (
    Array.isArray(shape) && typeof dtype === 'string' && !!dataId && typeof dataSync === 'function'
  );
}

/** The picture and the text of a tensor. */
export function tensorBundle(tensor: TensorLike): MimeBundle {
  const title = `Tensor ${tensor.dtype}[${tensor.shape.join(', ')}]`;
  if (tensor.isDisposed) return { 'text/plain': `${title} (disposed)` };
  if (tensor.dtype === 'string' || tensor.dtype === 'complex64') {
    return { 'text/plain': `${title}\n${tensor.toString()}` };
  }
  const values = Array.from(tensor.dataSync(), Number);
  const stats = statistics(values);
  const text = `${title}${stats ? `\n${stats}` : ''}\n${plainValues(tensor)}`;
  if (values.length < 2) return { 'text/plain': text };
  const [rows = 1, columns = 1] = tensor.shape.length === 2 ? tensor.shape : [1, tensor.size];
  const isSmall = tensor.shape.length <= 2 && rows <= 64 && columns <= 128;
  const svg = isSmall ? heatMap(values, rows, columns, title) : histogram(values, title);
  const head = `<div><strong>${escapeHtml(title)}</strong><br><small>${escapeHtml(stats)}</small></div>`;
  return { 'text/html': `<div>${head}${svg}</div>`, 'text/plain': text };
}

function plainValues(tensor: TensorLike): string {
  return tensor.toString().replace(/^Tensor\n/, '');
}

function statistics(values: readonly number[]): string {
  if (values.length === 0) return 'empty';
  const finite = values.filter(Number.isFinite);
  const odd = values.length - finite.length;
  const [low, high] = range(finite);
  const mean = finite.reduce((a, b) => a + b, 0) / finite.length;
  const deviation = Math.sqrt(finite.reduce((a, b) => a + (b - mean) ** 2, 0) / finite.length);
  const f = (x: number) => String(Number(x.toPrecision(4)));
  return `min ${f(low)}, max ${f(high)}, mean ${f(mean)}, std ${f(deviation)}${odd ? `, ${odd} not finite` : ''}`;
}

function range(values: readonly number[]): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return [low, high];
}

/** Blue for negative, orange for positive, white for zero: readable for colour-blind eyes. */
function colour(value: number, scale: number): string {
  if (!Number.isFinite(value)) return '#000';
  const t = scale > 0 ? Math.max(-1, Math.min(1, value / scale)) : 0;
  const [r, g, b] = t < 0 ? [5, 84, 173] : [201, 88, 0];
  const mix = (c: number) => Math.round(255 + (c - 255) * Math.abs(t));
  return `rgb(${mix(r)},${mix(g)},${mix(b)})`;
}

function heatMap(values: number[], rows: number, columns: number, title: string): string {
  const [low, high] = range(values.filter(Number.isFinite));
  const scale = Math.max(Math.abs(low), Math.abs(high));
  const side = Math.max(4, Math.min(20, Math.floor(480 / Math.max(rows, columns))));
  const cells = values.map((value, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    const where = `x="${column * side}" y="${row * side}" width="${side}" height="${side}"`;
    return `<rect ${where} fill="${colour(value, scale)}"><title>[${row}, ${column}] ${value}</title></rect>`;
  });
  const label = `Heat map of ${title}: blue is negative, white zero, orange positive, up to ${scale}`;
  return svg(columns * side, rows * side, label, cells.join(''));
}

function histogram(values: number[], title: string): string {
  const finite = values.filter(Number.isFinite);
  const [low, high] = range(finite);
  const bins = new Array<number>(40).fill(0);
  const width = (high - low) / bins.length || 1;
  for (const value of finite) {
    const bin = Math.min(bins.length - 1, Math.floor((value - low) / width));
    bins[bin] = (bins[bin] ?? 0) + 1;
  }
  const top = Math.max(...bins);
  const bars = bins.map((count, i) => {
    const height = (count / top) * 100;
    return `<rect x="${i * 12}" y="${100 - height}" width="11" height="${height}" fill="#0554ad"><title>${count}</title></rect>`;
  });
  const f = (x: number) => String(Number(x.toPrecision(4)));
  const axis = [
    `<text x="0" y="114" font-size="11" fill="currentColor">${f(low)}</text>`,
    `<text x="480" y="114" font-size="11" fill="currentColor" text-anchor="end">${f(high)}</text>`,
  ];
  return svg(
    480,
    118,
    `Histogram of ${title}, from ${f(low)} to ${f(high)}`,
    bars.join('') + axis.join(''),
  );
}

function svg(width: number, height: number, label: string, body: string): string {
  const box = `width="${width}" height="${height}" viewBox="0 0 ${width} ${height}"`;
  return `<svg xmlns="http://www.w3.org/2000/svg" ${box} role="img" aria-label="${escapeHtml(label)}">${body}</svg>`;
}
