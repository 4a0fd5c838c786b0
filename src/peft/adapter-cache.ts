// Hundreds of adapters on one base: those in use are in memory, within a budget of bytes, and the one
// that was not used for longest leaves first (LRU). A switch to one in memory is an assignment; any
// other is read from its folder. A compiled function keeps the adapter that it was traced with, so
// that a jit over a cache takes the adapter's name as an argument.
import type * as tf from '@tensorflow/tfjs';

/** What of a PeftModel is needed. */
export interface CachedModel {
  loadAdapter(folder: string, name: string): void;
  deleteAdapter(name: string): void;
  setAdapter(names: string | readonly string[], options?: { inferenceMode?: boolean }): void;
  getAdapterState(name: string): Map<string, tf.Tensor>;
}

/** What happened so far; times are in milliseconds. */
export interface CacheStatistics {
  hits: number;
  misses: number;
  evictions: number;
  loadMs: number;
}

/** Adapters by name on one model, read when they are wanted. */
export class AdapterCache {
  /** Bytes of tensors in memory, the least recently used adapter first. */
  private readonly sizes = new Map<string, number>();
  private readonly model: CachedModel;
  private readonly folders: ReadonlyMap<string, string>;
  private readonly maxBytes: number;
  private readonly counts: CacheStatistics = { hits: 0, misses: 0, evictions: 0, loadMs: 0 };

  /** `folders` of all adapters by name; the model has none of them yet. Default: no limit. */
  constructor(
    model: CachedModel,
    folders: ReadonlyMap<string, string>,
    { maxBytes = Number.POSITIVE_INFINITY } = {},
  ) {
    if (!(maxBytes > 0)) {
      throw new RangeError(`AdapterCache.maxBytes must be above 0, got ${maxBytes}`);
    }
    this.model = model;
    this.folders = folders;
    this.maxBytes = maxBytes;
  }

  /** Names in memory, the least recently used first. */
  get residents(): string[] {
    return [...this.sizes.keys()];
  }

  /** Bytes of the adapters in memory. */
  get bytes(): number {
    return [...this.sizes.values()].reduce((sum, size) => sum + size, 0);
  }

  get statistics(): Readonly<CacheStatistics> {
    return { ...this.counts };
  }

  /** Makes one adapter, or several together, the active ones. */
  use(names: string | readonly string[]): void {
    const wanted = [...new Set([names].flat() as string[])];
    this.ensure(wanted);
    this.model.setAdapter(wanted, { inferenceMode: true });
  }

  /**
   * Brings adapters into memory together, as rows of one batch need. Throws, with what was there before
   * still there, when a name is unknown, a file is bad, or they do not fit into the budget.
   */
  ensure(names: readonly string[]): void {
    const unknown = names.find((name) => !this.folders.has(name));
    if (unknown !== undefined) {
      throw new RangeError(`No folder of adapter '${unknown}'; have ${this.folders.size} others`);
    }
    const added: string[] = [];
    try {
      for (const name of new Set(names)) {
        if (this.touch(name)) continue;
        this.load(name);
        added.push(name);
      }
      this.checkFit(names);
    } catch (error) {
      for (const name of added) this.drop(name);
      throw error;
    }
    this.makeRoom(new Set(names));
  }

  /** Takes an adapter out of memory. */
  evict(name: string): void {
    if (!this.sizes.has(name)) return;
    this.drop(name);
    this.counts.evictions++;
  }

  /** Whether it is in memory; then it is now the most recently used. */
  private touch(name: string): boolean {
    const size = this.sizes.get(name);
    if (size === undefined) return false;
    this.sizes.delete(name);
    this.sizes.set(name, size);
    this.counts.hits++;
    return true;
  }

  private load(name: string): void {
    const start = performance.now();
    this.model.loadAdapter(this.folders.get(name)!, name);
    this.counts.loadMs += performance.now() - start;
    this.counts.misses++;
    const tensors = [...this.model.getAdapterState(name).values()];
    this.sizes.set(
      name,
      tensors.reduce((sum, { size }) => sum + 4 * size, 0),
    );
  }

  private checkFit(names: readonly string[]): void {
    const needed = [...new Set(names)].reduce((sum, name) => sum + this.sizes.get(name)!, 0);
    if (needed <= this.maxBytes) return;
    throw new RangeError(
      `'${names.join("', '")}' need ${needed} bytes together, the cache has ${this.maxBytes}`,
    );
  }

  private makeRoom(kept: ReadonlySet<string>): void {
    for (const name of this.residents) {
      if (this.bytes <= this.maxBytes) return;
      if (!kept.has(name)) this.evict(name);
    }
  }

  private drop(name: string): void {
    this.model.deleteAdapter(name);
    this.sizes.delete(name);
  }
}
