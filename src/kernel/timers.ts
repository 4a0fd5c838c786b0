// Timers that a cell starts are remembered while it runs, so that interrupting it also ends a loop
// that sleeps: without its timer, `while (true) await sleep(10)` is never resumed.
import { createRequire, syncBuiltinESMExports } from 'node:module';
import { promisify } from 'node:util';

type Handle = NodeJS.Timeout | NodeJS.Immediate;

const require = createRequire(import.meta.url);

/** Timers of running cells. */
export class CellTimers {
  private readonly byRun = new Map<number, Set<Handle>>();
  private readonly currentRun: () => number | null;

  constructor(currentRun: () => number | null) {
    this.currentRun = currentRun;
  }

  /** Forgets the timers of a finished run: they go on as they would in any program. */
  forget(run: number): void {
    this.byRun.delete(run);
  }

  /** Stops all timers of an interrupted run. */
  stop(run: number): void {
    for (const handle of this.byRun.get(run) ?? []) {
      clearTimeout(handle as NodeJS.Timeout);
      clearImmediate(handle as NodeJS.Immediate);
    }
    this.byRun.delete(run);
  }

  /** Replaces the timer functions, the global ones and those of `node:timers/promises`. */
  install(): void {
    const real = { setTimeout, setInterval, setImmediate };
    const wrap = (set: (...args: never[]) => Handle, repeats: boolean) => {
      const wrapped = (callback: (...args: unknown[]) => void, ...rest: unknown[]): Handle => {
        const timers = this.timersOfRun();
        if (!timers || typeof callback !== 'function') {
          return (set as (...args: unknown[]) => Handle)(callback, ...rest);
        }
        const handle = (set as (...args: unknown[]) => Handle)(
          (...args: unknown[]) => {
            if (!repeats) timers.delete(handle);
            callback(...args);
          },
          ...rest,
        );
        timers.add(handle);
        return handle;
      };
      return wrapped;
    };
    const wrapped = {
      setTimeout: wrap(real.setTimeout as never, false),
      setInterval: wrap(real.setInterval as never, true),
      setImmediate: wrap(real.setImmediate as never, false),
    };
    const promises = require('node:timers/promises') as Record<string, unknown>;
    const sleep = sleeper(wrapped.setTimeout, promises.setTimeout as Sleep);
    const pause = sleeper((f, _ms) => wrapped.setImmediate(f), null);
    for (const [name, value, custom] of [
      ['setTimeout', wrapped.setTimeout, sleep],
      ['setInterval', wrapped.setInterval, null],
      ['setImmediate', wrapped.setImmediate, (x?: unknown) => pause(0, x)],
    ] as const) {
      Object.defineProperty(value, 'name', { value: name });
      if (custom) Object.assign(value, { [promisify.custom]: custom });
      Reflect.set(globalThis, name, value);
      Reflect.set(require('node:timers') as object, name, value);
    }
    promises.setTimeout = sleep;
    syncBuiltinESMExports();
  }

  private timersOfRun(): Set<Handle> | null {
    const run = this.currentRun();
    if (run === null) return null;
    let timers = this.byRun.get(run);
    if (!timers) {
      timers = new Set();
      this.byRun.set(run, timers);
    }
    return timers;
  }
}

type Sleep = (ms?: number, value?: unknown, options?: object) => Promise<unknown>;

/** A promise for `value` after `ms`; with options (a signal, unref) the original is used. */
function sleeper(set: (f: () => void, ms?: number) => unknown, original: Sleep | null): Sleep {
  return (ms, value, options) =>
    options && original
      ? original(ms, value, options)
      : new Promise((resolve) => set(() => resolve(value), ms));
}
