// A progress bar in tqdm's terms: `for (const x of progress(items, { desc }))`, or
// `progress({ total })` with update, setPostfix and close. One output, replaced in place; its plain
// text is a line that reads well in a terminal.
import type { DisplayHandle } from './display.ts';
import type { MimeBundle } from './protocol.ts';
import { escapeHtml } from './table.ts';

/** Options of `progress`, named as in tqdm. */
export interface ProgressOptions {
  /** Steps in all; unknown if left out. */
  total?: number;
  /** Words before the bar. */
  desc?: string;
  /** Name of one step. Default `it`. */
  unit?: string;
}

const REDRAW_MS = 100;

/** One progress bar. */
export class Progress {
  private readonly handle: DisplayHandle;
  private readonly options: ProgressOptions;
  private readonly started = performance.now();
  private drawn = performance.now();
  private n = 0;
  private postfix = '';
  private isClosed = false;

  constructor(options: ProgressOptions, show: (bundle: MimeBundle) => DisplayHandle) {
    this.options = options;
    this.handle = show(this.bundle());
  }

  /** Moves on by `steps`. */
  update(steps = 1): void {
    this.n += steps;
    this.draw(this.n === this.options.total);
  }

  /** Values shown after the bar: `setPostfix({ loss: 0.5 })`. */
  setPostfix(values: Record<string, unknown>): void {
    const text = (value: unknown) =>
      typeof value === 'number' ? String(Number(value.toPrecision(4))) : String(value);
    this.postfix = Object.entries(values)
      .map(([key, value]) => `${key}=${text(value)}`)
      .join(', ');
    this.draw(false);
  }

  /** Draws the bar a last time. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.draw(true);
  }

  private draw(always: boolean): void {
    const now = performance.now();
    if (!always && now - this.drawn < REDRAW_MS) return;
    this.drawn = now;
    this.handle.update(this.bundle(), { raw: true });
  }

  private bundle(): MimeBundle {
    const { total, desc, unit = 'it' } = this.options;
    const seconds = (performance.now() - this.started) / 1000;
    const rate = this.n / Math.max(seconds, 1e-9);
    const share = total ? Math.min(1, this.n / total) : 0;
    const left = total && this.n > 0 && !this.isClosed ? (total - this.n) / rate : 0;
    const times = `${seconds.toFixed(1)} s${left >= 0.5 ? `, ${left.toFixed(0)} s left` : ''}`;
    const speed = this.n > 0 ? `, ${Number(rate.toPrecision(3))} ${unit}/s` : '';
    const counts = total ? `${this.n}/${total}` : `${this.n} ${unit}`;
    const tail = `${counts} [${times}${speed}]${this.postfix ? ` ${this.postfix}` : ''}`;
    const lead = desc ? `${desc}: ` : '';
    const filled = Math.round(share * 20);
    const bar = total ? `${'█'.repeat(filled)}${'░'.repeat(20 - filled)} ` : '';
    const percent = total ? `${String(Math.floor(share * 100)).padStart(3)} % ` : '';
    const label = escapeHtml(lead + tail);
    const value = total ? ` value="${this.n}" max="${total}"` : this.isClosed ? ' value="1"' : '';
    return {
      'text/html': `<label>${escapeHtml(lead)}<progress${value} aria-label="${label}" style="width:16em;vertical-align:middle"></progress> <span>${escapeHtml(tail)}</span></label>`,
      'text/plain': `${lead}${percent}${bar}${tail}`,
    };
  }
}

/** Yields what `items` yields and moves the bar on. */
export function* progressOver<T>(items: Iterable<T>, bar: Progress): Generator<T, void, undefined> {
  try {
    for (const item of items) {
      yield item;
      bar.update();
    }
  } finally {
    bar.close();
  }
}

/** The number of `items` where it can be had without walking them. */
export function sizeOf(items: Iterable<unknown>): number | undefined {
  const { length, size } = items as { length?: unknown; size?: unknown };
  if (typeof length === 'number') return length;
  return typeof size === 'number' ? size : undefined;
}
