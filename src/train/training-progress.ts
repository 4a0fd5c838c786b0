// The live bar of a run: steps, loss, tokens a second, time left and memory; in a notebook an output
// that is replaced, with the curve of the loss, in a terminal one line.
import type { LogEntry } from './training-state.ts';

const DISPLAY: unique symbol = Symbol.for('Jupyter.display') as never;
/** How the kernel lets code listen for interrupts. */
const LISTEN: unique symbol = Symbol.for('peftlab.interrupt') as never;
const REDRAW_MS = 250;
const [WIDTH, HEIGHT] = [320, 80];

interface ProgressOptions {
  /** Steps of the whole run. */
  total: number;
  /** Tokens of the steps before. */
  earlierTokens: number;
}

interface Handle {
  update(value: unknown): void;
}

/** One bar; it shows itself. */
export class TrainingProgress {
  private readonly total: number;
  private readonly show: (self: TrainingProgress) => void;
  private readonly started = performance.now();
  private readonly losses: number[] = [];
  private drawn = 0;
  private last: LogEntry | undefined;
  private isStopping = false;
  /** Tokens of steps before this bar, in a run that was resumed. */
  private readonly earlierTokens: number;

  private constructor(
    { total, earlierTokens }: ProgressOptions,
    show: (self: TrainingProgress) => void,
  ) {
    this.total = total;
    this.earlierTokens = earlierTokens;
    this.show = show;
  }

  /** A bar in a notebook or a terminal; undefined elsewhere, and where it is disabled. */
  static start(
    options: ProgressOptions,
    disabled: boolean | undefined,
  ): TrainingProgress | undefined {
    if (disabled === true) return undefined;
    const { display } = globalThis as { display?: (value: unknown) => Handle };
    if (typeof display === 'function') {
      let handle: Handle | undefined;
      return new TrainingProgress(options, (bar) => {
        if (handle) handle.update(bar);
        else handle = display(bar);
      });
    }
    if (!process.stdout.isTTY) return undefined;
    return new TrainingProgress(options, (bar) => void process.stdout.write(`\r\x1b[K${bar.text}`));
  }

  /** Says that the run stops after the step in progress. */
  stopping(): void {
    this.isStopping = true;
    this.show(this);
  }

  /** Takes a step in, and draws now and then. */
  update(entry: LogEntry): void {
    this.last = entry;
    this.losses.push(entry.loss);
    const now = performance.now();
    if (now - this.drawn < REDRAW_MS) return;
    this.drawn = now;
    this.show(this);
  }

  /** Draws a last time. */
  close(): void {
    if (!this.last) return;
    this.show(this);
    if (process.stdout.isTTY) process.stdout.write('\n');
  }

  /** The bar in one line. */
  get text(): string {
    const { last, total, losses } = this;
    const stopping = this.isStopping ? ['stops after this step'] : [];
    if (!last) return [`0/${total}`, ...stopping].join(' · ');
    const seconds = (performance.now() - this.started) / 1000;
    const speed = (last.numTokens - this.earlierTokens) / Math.max(seconds, 1e-9);
    const left = ((total - last.step) * seconds) / losses.length;
    const filled = Math.round((20 * last.step) / total);
    const parts = [
      `${'█'.repeat(filled)}${'░'.repeat(20 - filled)} ${last.step}/${total}`,
      `loss ${last.loss.toPrecision(4)}`,
      `${speed.toFixed(0)} tokens/s`,
      `${left.toFixed(0)} s left`,
      `${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MiB`,
      ...stopping,
    ];
    return parts.join(' · ');
  }

  [DISPLAY](): Record<string, string> {
    return {
      'text/html': `<div>${this.curve()}<div>${this.text}</div></div>`,
      'text/plain': this.text,
    };
  }

  /** The losses so far as a small picture. */
  private curve(): string {
    const { losses } = this;
    if (losses.length < 2) return '';
    const [low, high] = [Math.min(...losses), Math.max(...losses)];
    const x = (i: number) => ((i / (losses.length - 1)) * WIDTH).toFixed(1);
    const y = (loss: number) => (HEIGHT - ((loss - low) / (high - low || 1)) * HEIGHT).toFixed(1);
    const points = losses.map((loss, i) => `${x(i)},${y(loss)}`).join(' ');
    const title = `Loss from ${losses[0]!.toPrecision(4)} to ${losses.at(-1)!.toPrecision(4)}`;
    return `<svg role="img" aria-label="${title}" viewBox="-2 -2 ${WIDTH + 4} ${HEIGHT + 4}" width="${WIDTH}" height="${HEIGHT}"><title>${title}</title><polyline fill="none" stroke="#0072B2" stroke-width="1.5" points="${points}"/></svg>`;
  }
}

/**
 * Notes an interrupt (Ctrl+C, or a notebook's stop button) instead of ending what runs, until `ignore`
 * is called; `onNote` is told at once.
 */
export function onInterrupt(onNote: () => void): { readonly happened: boolean; ignore(): void } {
  let happened = false;
  const note = () => {
    happened = true;
    onNote();
  };
  const listen = (globalThis as { [LISTEN]?: (listener: () => void) => () => void })[LISTEN];
  const unlisten = listen?.(note);
  process.once('SIGINT', note);
  return {
    get happened() {
      return happened;
    },
    ignore() {
      unlisten?.();
      process.off('SIGINT', note);
    },
  };
}
