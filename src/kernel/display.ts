// Any value -> a MIME bundle. An object shows itself through `[Symbol.for('Jupyter.display')]()`
// (Deno's convention); tensors and data frames are known by shape; all else is `util.inspect`ed.
import { inspect } from 'node:util';
import type { MimeBundle } from './protocol.ts';
import { type DataFrameLike, dataFrameBundle, isDataFrame, rowsBundle } from './table.ts';
import { isTensor, tensorBundle } from './tensor-view.ts';

/** The method by which an object gives its own MIME bundle. */
export const DISPLAY: unique symbol = Symbol.for('Jupyter.display') as never;

/** Where displays go: the kernel, or a test. */
export interface DisplaySink {
  show(data: MimeBundle, options: { id?: string; update?: boolean; metadata: object }): void;
  clear(wait: boolean): void;
  /** Keeps the cell busy until `task` is done. */
  defer(task: Promise<unknown>): void;
}

/** Options of `display`. */
export interface DisplayOptions {
  /** The value is a MIME bundle already. */
  raw?: boolean;
  /** Name under which `update` finds this output again. */
  displayId?: string;
  metadata?: Record<string, unknown>;
}

/** An output that can be replaced later, from any cell. As the value of a cell it shows nothing. */
export interface DisplayHandle {
  readonly id: string;
  update(value: unknown, options?: DisplayOptions): void;
  [DISPLAY](): MimeBundle;
}

/** The MIME bundle of `value`; a promise only if the object's own method is asynchronous. */
export function mimeBundle(value: unknown): MimeBundle | Promise<MimeBundle> {
  if ((typeof value === 'object' && value !== null) || typeof value === 'function') {
    const own = Reflect.get(value, DISPLAY) as unknown;
    if (typeof own === 'function') return own.call(value) as MimeBundle | Promise<MimeBundle>;
    if (isTensor(value)) return tensorBundle(value);
    if (isDataFrame(value)) return dataFrameBundle(value);
  }
  return { 'text/plain': inspect(value, { depth: 4, maxArrayLength: 100, breakLength: 100 }) };
}

let nextId = 0;

/** The `display` function of cells, with its shorthands, on one sink. */
export function createDisplay(sink: DisplaySink, session: string) {
  const show = (
    value: unknown,
    options: DisplayOptions = {},
    update = false,
    fixedId?: string,
  ): DisplayHandle => {
    const { raw = false, metadata = {} } = options;
    const id = fixedId ?? options.displayId ?? `${session}-${++nextId}`;
    const bundle = raw ? (value as MimeBundle) : mimeBundle(value);
    const send = (data: MimeBundle) => sink.show(data, { id, update, metadata });
    if (bundle instanceof Promise) sink.defer(bundle.then(send));
    else send(bundle);
    return {
      id,
      update: (next, nextOptions) => void show(next, nextOptions, true, id),
      [DISPLAY]: () => ({}),
    };
  };
  const mime = (type: string) => (data: string, options?: DisplayOptions) =>
    show({ [type]: data, 'text/plain': textOf(type, data) }, { ...options, raw: true });
  return Object.assign((value: unknown, options?: DisplayOptions) => show(value, options), {
    html: mime('text/html'),
    markdown: mime('text/markdown'),
    svg: mime('image/svg+xml'),
    latex: mime('text/latex'),
    text: (text: string, options?: DisplayOptions) =>
      show({ 'text/plain': text }, { ...options, raw: true }),
    png: (data: Uint8Array | string, options?: DisplayOptions) =>
      show({ 'image/png': base64(data), 'text/plain': '[PNG image]' }, { ...options, raw: true }),
    jpeg: (data: Uint8Array | string, options?: DisplayOptions) =>
      show({ 'image/jpeg': base64(data), 'text/plain': '[JPEG image]' }, { ...options, raw: true }),
    json: (data: unknown, options?: DisplayOptions) =>
      show(
        { 'application/json': data, 'text/plain': inspect(data, { depth: 4 }) },
        { ...options, raw: true },
      ),
    plotly: (
      data: readonly object[],
      layout: Record<string, unknown> = {},
      config: Record<string, unknown> = {},
      options?: DisplayOptions,
    ) => show(plotlyBundle(data, layout, config), { ...options, raw: true }),
    table: (rows: readonly object[] | DataFrameLike, options?: DisplayOptions) =>
      show(isDataFrame(rows) ? dataFrameBundle(rows) : rowsBundle(rows as readonly object[]), {
        ...options,
        raw: true,
      }),
  });
}

/** A Plotly figure with words beside it for those who can't see it. */
export function plotlyBundle(
  data: readonly object[],
  layout: Record<string, unknown>,
  config: Record<string, unknown> = {},
): MimeBundle {
  const titleOf = (at: unknown): string => {
    const title = (at as { title?: unknown } | undefined)?.title;
    if (typeof title === 'string') return title;
    return String((title as { text?: unknown } | undefined)?.text ?? '');
  };
  const traces = data.map((trace, i) => {
    const {
      name,
      type = 'scatter',
      x,
      y,
    } = trace as Record<'name' | 'type', string | undefined> & Record<'x' | 'y', unknown>;
    const values = [x, y].find((one) => Array.isArray(one) || ArrayBuffer.isView(one));
    const points = values === undefined ? null : (values as unknown[]).length;
    return `${name ?? `series ${i + 1}`} (${type}${points === null ? '' : `, ${points} points`})`;
  });
  const axes = [titleOf(layout.xaxis), titleOf(layout.yaxis)].filter(Boolean).join(' against ');
  const text = [`Figure: ${titleOf(layout) || 'untitled'}`, axes, traces.join(', ')];
  return {
    'application/vnd.plotly.v1+json': { data, layout, config },
    'text/plain': text.filter(Boolean).join('; '),
  };
}

function base64(data: Uint8Array | string): string {
  return typeof data === 'string' ? data : Buffer.from(data).toString('base64');
}

function textOf(type: string, data: string): string {
  if (type === 'image/svg+xml') return '[SVG image]';
  if (type !== 'text/html') return data;
  return (
    data
      .replace(/<(style|script)[\s\S]*?<\/\1>/g, '')
      .replace(/<[^>]*>/g, '')
      .trim() || '[HTML]'
  );
}
