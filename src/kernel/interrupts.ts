// Code that stops by itself: while it listens, an interrupt tells it, and ends it only if it goes on for
// too long. A training run stops between two steps like this, and not in the middle of one.

/** How long code that listens may take to stop, in ms. */
export const GRACE_MS = 30_000;

/** Who wants to be told. */
export class InterruptListeners {
  /** How many listen, for the helper thread. */
  readonly count = new Int32Array(new SharedArrayBuffer(4));
  private readonly listeners = new Set<() => void>();

  /** Lets the user's code listen: the function that it calls returns one that ends the listening. */
  install(): void {
    const listen = (listener: () => void) => {
      this.listeners.add(listener);
      Atomics.store(this.count, 0, this.listeners.size);
      return () => {
        this.listeners.delete(listener);
        Atomics.store(this.count, 0, this.listeners.size);
      };
    };
    Object.defineProperty(globalThis, Symbol.for('peftlab.interrupt'), { value: listen });
  }

  /** Tells all that listen; whether there are any. */
  tell(): boolean {
    const told = [...this.listeners];
    for (const listener of told) listener();
    return told.length > 0;
  }

  /** Forgets listeners whose code was ended. */
  clear(): void {
    this.listeners.clear();
    Atomics.store(this.count, 0, 0);
  }
}
