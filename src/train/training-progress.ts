// The live bar of a run: steps, loss, tokens a second, time left and memory; in a notebook an output
// that is replaced, with the curve of the loss, in a terminal one line.
import type { LogEntry } from './training-state.ts';

const DISPLAY: unique symbol = Symbol.for('Jupyter.display') as never;
const REDRAW_MS = 250;
const [WIDTH, HEIGHT] = [320, 80];

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
  private firstTokens: number | undefined;
  private last: LogEntry | undefined;

  private constructor(total: number, show: (self: TrainingProgress) => void) {
    this.total = total;
    this.show = show;
  }

  /** A bar in a notebook or a terminal; undefined elsewhere, and where it is disabled. */
  static start(total: number, disabled: boolean | undefined): TrainingProgress | undefined {
    if (disabled === true) return undefined;
    const { display } = globalThis as { display?: (value: unknown) => Handle };
    if (typeof display === 'function') {
      let handle: Handle | undefined;
      return new TrainingProgress(total, (bar) => {
        if (handle) handle.update(bar);
        else handle = display(bar);
      });
    }
    if (!process.stdout.isTTY) return undefined;
    return new TrainingProgress(total, (bar) => void process.stdout.write(`\r\x1b[K${bar.text}`));
  }

  /** Takes a step in, and draws now and then. */
  update(entry: LogEntry): void {
    this.firstTokens ??= entry.numTokens;
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
    if (!last) return `0/${total}`;
    const seconds = (performance.now() - this.started) / 1000;
    const speed = last.numTokens / Math.max(seconds, 1e-9);
    const left = ((total - last.step) * seconds) / losses.length;
    const filled = Math.round((20 * last.step) / total);
    const parts = [
      `${'█'.repeat(filled)}${'░'.repeat(20 - filled)} ${last.step}/${total}`,
      `loss ${last.loss.toPrecision(4)}`,
      `${speed.toFixed(0)} tokens/s`,
      `${left.toFixed(0)} s left`,
      `${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MiB`,
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

/** Notes an interrupt (Ctrl+C) instead of ending the process, until `ignore` is called. */
export function onInterrupt(): { readonly happened: boolean; ignore(): void } {
  const seen = { happened: false };
  const note = () => {
    seen.happened = true;
  };
  process.once('SIGINT', note);
  return {
    get happened() {
      return seen.happened;
    },
    ignore: () => void process.off('SIGINT', note),
  };
}
