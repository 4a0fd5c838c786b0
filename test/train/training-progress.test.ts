import { expect } from 'chai';
import { onInterrupt, TrainingProgress } from '../../src/train/training-progress.ts';
import type { LogEntry } from '../../src/train/training-state.ts';

const DISPLAY = Symbol.for('Jupyter.display');
type Shown = { [DISPLAY](): Record<string, string> };
const entry = (step: number, more: Partial<LogEntry> = {}): LogEntry => ({
  ...{ step, epoch: step / 10, loss: 3 - step / 10, gradNorm: 1, learningRate: 1e-3 },
  ...{ numTokens: 100 * step, metrics: {}, ...more },
});

describe('The bar of a run', () => {
  const globals = globalThis as { display?: unknown };
  const { isTTY, write } = process.stdout;
  afterEach(() => {
    delete globals.display;
    Object.assign(process.stdout, { isTTY, write });
  });

  it('is one figure in a notebook, redrawn with loss, speed, time left and memory', () => {
    const shown: Shown[] = [];
    const updated: Shown[] = [];
    globals.display = (value: Shown) => {
      shown.push(value);
      return { update: (next: Shown) => updated.push(next) };
    };
    const bar = TrainingProgress.start({ total: 10, earlierTokens: 0 }, undefined)!;
    bar.update(entry(1));
    bar.update(entry(2));
    bar.close();
    expect(shown).to.have.length(1);
    expect(updated.length).to.be.greaterThan(0);
    const { 'text/html': html, 'text/plain': text } = updated.at(-1)![DISPLAY]();
    expect(text).to.match(/^█{4}░{16} 2\/10 · loss 2\.800 · \d+ tokens\/s · \d+ s left · \d+ MiB$/);
    expect(html)
      .to.contain('2/10 · loss 2.800')
      .and.to.contain('<title>Loss from 2.900 to 2.800</title>');
  });

  it('counts only its own tokens in a run that was resumed', async () => {
    globals.display = () => ({ update: () => {} });
    const bar = TrainingProgress.start({ total: 10, earlierTokens: 1_000_000 }, undefined)!;
    await new Promise((resolve) => setTimeout(resolve, 50));
    bar.update(entry(5, { numTokens: 1_000_010 }));
    expect(Number(/(\d+) tokens\/s/.exec(bar.text)![1])).to.be.below(300);
  });

  it('is one line in a terminal, and nothing elsewhere or when it is disabled', () => {
    let text = '';
    const capture = (chunk: string) => {
      text += chunk;
      return true;
    };
    Object.assign(process.stdout, { isTTY: false });
    expect(TrainingProgress.start({ total: 2, earlierTokens: 0 }, undefined)).to.equal(undefined);
    Object.assign(process.stdout, { isTTY: true, write: capture });
    expect(TrainingProgress.start({ total: 2, earlierTokens: 0 }, true)).to.equal(undefined);
    const bar = TrainingProgress.start({ total: 2, earlierTokens: 0 }, undefined)!;
    bar.update(entry(1));
    bar.close();
    Object.assign(process.stdout, { isTTY, write });
    expect(text).to.match(/^(\r\x1b\[K█{10}░{10} 1\/2 · loss [^\n]*)+\n$/);
  });

  it('says that it stops once it is told to', () => {
    globals.display = () => ({ update: () => {} });
    const bar = TrainingProgress.start({ total: 10, earlierTokens: 0 }, undefined)!;
    const interrupt = onInterrupt(() => bar.stopping());
    expect(interrupt.happened).to.equal(false);
    process.emit('SIGINT');
    interrupt.ignore();
    expect(interrupt.happened).to.equal(true);
    expect(bar.text).to.equal('0/10 · stops after this step');
  });

  it("hears of a notebook's stop button until it is told to ignore it", () => {
    const LISTEN = Symbol.for('peftlab.interrupt');
    const listeners = new Set<() => void>();
    Object.defineProperty(globalThis, LISTEN, {
      configurable: true,
      value: (listener: () => void) => {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
    });
    const interrupt = onInterrupt(() => {});
    for (const listener of listeners) listener();
    expect(interrupt.happened).to.equal(true);
    interrupt.ignore();
    Reflect.deleteProperty(globalThis, LISTEN);
    expect(listeners.size).to.equal(0);
  });
});
