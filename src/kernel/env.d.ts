// Names that the kernel gives to every cell, for the type checker.

/** An output that can be replaced later, from any cell. */
interface DisplayHandle {
  readonly id: string;
  /** Shows `value` in the place of this output. */
  update(value: unknown, options?: DisplayOptions): void;
}

interface DisplayOptions {
  /** The value is a MIME bundle already. */
  raw?: boolean;
  /** Name under which `update` finds this output again. */
  displayId?: string;
  metadata?: Record<string, unknown>;
}

interface DisplayFunction {
  /** Shows any value: tensors, data frames, objects with `[Symbol.for('Jupyter.display')]()`. */
  (value: unknown, options?: DisplayOptions): DisplayHandle;
  html(html: string, options?: DisplayOptions): DisplayHandle;
  markdown(markdown: string, options?: DisplayOptions): DisplayHandle;
  svg(svg: string, options?: DisplayOptions): DisplayHandle;
  latex(latex: string, options?: DisplayOptions): DisplayHandle;
  text(text: string, options?: DisplayOptions): DisplayHandle;
  /** PNG bytes, or base64. */
  png(data: Uint8Array | string, options?: DisplayOptions): DisplayHandle;
  /** JPEG bytes, or base64. */
  jpeg(data: Uint8Array | string, options?: DisplayOptions): DisplayHandle;
  /** JSON as a foldable tree. */
  json(data: unknown, options?: DisplayOptions): DisplayHandle;
  /** A Plotly figure: traces, layout, config. */
  plotly(
    data: readonly object[],
    layout?: Record<string, unknown>,
    config?: Record<string, unknown>,
    options?: DisplayOptions,
  ): DisplayHandle;
  /** Rows of objects, or a danfo DataFrame, as a table. */
  table(rows: object, options?: DisplayOptions): DisplayHandle;
}

/** Shows values below the cell. */
declare const display: DisplayFunction;

/** A progress bar, with tqdm's names. */
interface ProgressBar {
  /** Moves on by `steps` (default 1). */
  update(steps?: number): void;
  /** Values shown after the bar. */
  setPostfix(values: Record<string, unknown>): void;
  /** Draws the bar a last time. */
  close(): void;
}

interface ProgressBarOptions {
  /** Steps in all; unknown if left out. */
  total?: number;
  /** Words before the bar. */
  desc?: string;
  /** Name of one step. Default `it`. */
  unit?: string;
}

/** `for (const x of progress(items, { desc: 'training' })) ...` */
declare function progress<T>(
  items: Iterable<T>,
  options?: ProgressBarOptions,
): Generator<T, void, undefined>;
/** `const bar = progress({ total: 10 })`; then `bar.update()`, `bar.close()`. */
declare function progress(options: ProgressBarOptions): ProgressBar;

/** Removes the outputs of this cell; with `wait`, when the next one comes. */
declare function clearOutput(wait?: boolean): void;

/** Asks for a line of text; null if none was given. */
declare function input(prompt?: string, options?: { password?: boolean }): Promise<string | null>;

/** Asks for a line of text and waits for it. */
declare function prompt(message?: string, byDefault?: string | null): string | null;

/** Asks a yes or no question and waits for the answer. */
declare function confirm(message?: string): boolean;

/** One open channel to the front end. */
interface KernelComm {
  readonly id: string;
  readonly targetName: string;
  /** A promise that it gives keeps the kernel busy, and the front end from sending more. */
  onMessage: ((event: KernelCommEvent) => unknown) | null;
  onClose: ((event: KernelCommEvent) => void) | null;
  send(
    data: Record<string, unknown>,
    options?: { metadata?: Record<string, unknown>; buffers?: Uint8Array[] },
  ): void;
  close(data?: Record<string, unknown>): void;
}

interface KernelCommEvent {
  data: Record<string, unknown>;
  metadata: Record<string, unknown>;
  buffers: Uint8Array[];
}

/** Channels between cells and the front end. */
declare const Comm: {
  /** Opens a channel towards the front end. */
  open(
    targetName: string,
    data?: Record<string, unknown>,
    options?: { id?: string; metadata?: Record<string, unknown>; buffers?: Uint8Array[] },
  ): KernelComm;
  /** Lets the front end open channels named `targetName`. */
  registerTarget(
    targetName: string,
    target: (comm: KernelComm, event: KernelCommEvent) => void,
  ): void;
  /** Id of the request (a cell's, or a comm's message) that the running code answers. */
  parentId(): string;
};
