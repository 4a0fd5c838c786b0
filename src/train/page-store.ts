// Pages of bytes of which only so many are in memory; the others lie in a temporary file. What was used
// longest ago goes out first, as an operating system's pages do. CUDA moves a paged optimizer's state
// between GPU and CPU in the same way (QLoRA, arXiv 2305.14314, section 3); here it is memory and disk.
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** What a store has moved since it was made, and what it holds. */
export interface PageStatistics {
  /** Pages that exist, and those in memory now. */
  pages: number;
  residentPages: number;
  /** Uses of a page that was not in memory; the first use of a page is one. */
  faults: number;
  /** Pages read from disk and written to it, and their bytes. */
  pagesIn: number;
  pagesOut: number;
  bytesIn: number;
  bytesOut: number;
}

/** How large a page is, and how many bytes of pages may be in memory. */
export interface PageOptions {
  /** Bytes of a page, a multiple of 8; default 65536. */
  pageBytes?: number;
  /** Bytes of memory for pages, at least one page; default Infinity, which pages nothing. */
  budget?: number;
}

/** Records one after the other in one page. */
export interface Extent {
  page: number;
  /** Bytes from the page's start. */
  offset: number;
  /** Records in it. */
  count: number;
}

/** Pages that begin as zeros. */
export class PageStore {
  readonly pageBytes: number;
  readonly budget: number;
  private readonly resident = new Map<number, Uint8Array>();
  /** Pages that have a copy in the file. */
  private readonly stored = new Set<number>();
  private readonly limit: number;
  private count = 0;
  /** Bytes of the last page that are given away. */
  private used = 0;
  private file: { descriptor: number; folder: string } | undefined;
  private readonly moved = { faults: 0, pagesIn: 0, pagesOut: 0 };

  /** Throws if a page has no size of whole 8 bytes, or the budget is below one page. */
  constructor({ pageBytes = 65536, budget = Infinity }: PageOptions = {}) {
    if (!(Number.isSafeInteger(pageBytes) && pageBytes > 0 && pageBytes % 8 === 0)) {
      throw new RangeError(`pageBytes must be a positive multiple of 8, got ${pageBytes}`);
    }
    if (!(budget >= pageBytes)) {
      throw new RangeError(
        `The budget must hold at least one page of ${pageBytes} bytes, got ${budget}`,
      );
    }
    this.pageBytes = pageBytes;
    this.budget = budget;
    this.limit = Math.floor(budget / pageBytes);
  }

  /** Room for `count` records of `bytes` each, a multiple of 8; none of them lies across two pages. */
  allocate(count: number, bytes: number): Extent[] {
    if (bytes > this.pageBytes) {
      throw new RangeError(`A record of ${bytes} bytes does not fit a page of ${this.pageBytes}`);
    }
    const extents: Extent[] = [];
    let left = count;
    while (left > 0) {
      if (this.count === 0 || this.used + bytes > this.pageBytes) {
        this.count++;
        this.used = 0;
      }
      const taken = Math.min(left, Math.floor((this.pageBytes - this.used) / bytes));
      extents.push({ page: this.count - 1, offset: this.used, count: taken });
      this.used += taken * bytes;
      left -= taken;
    }
    return extents;
  }

  /** The bytes of a page, to be read and changed until another page is asked for. */
  page(number: number): Uint8Array {
    const known = this.resident.get(number);
    if (known) {
      this.resident.delete(number); // and back, as the one used last
      this.resident.set(number, known);
      return known;
    }
    if (!(number >= 0 && number < this.count)) {
      throw new RangeError(`There is no page ${number}; have ${this.count}`);
    }
    this.moved.faults++;
    const freed = this.resident.size >= this.limit ? this.evict() : undefined;
    const bytes = freed ?? new Uint8Array(this.pageBytes);
    if (this.stored.has(number)) {
      readSync(this.descriptor(), bytes, 0, this.pageBytes, number * this.pageBytes);
      this.moved.pagesIn++;
    } else bytes.fill(0);
    this.resident.set(number, bytes);
    return bytes;
  }

  /** Counts since the store was made. */
  get statistics(): PageStatistics {
    const { pageBytes, moved } = this;
    return {
      pages: this.count,
      residentPages: this.resident.size,
      ...moved,
      bytesIn: moved.pagesIn * pageBytes,
      bytesOut: moved.pagesOut * pageBytes,
    };
  }

  /** Frees the pages and removes the file. */
  dispose(): void {
    this.resident.clear();
    this.stored.clear();
    if (this.file) {
      closeSync(this.file.descriptor);
      rmSync(this.file.folder, { recursive: true, force: true });
    }
    this.file = undefined;
  }

  /** Writes out the page that was used longest ago; its memory is free. */
  private evict(): Uint8Array {
    const [number, bytes] = this.resident.entries().next().value!;
    writeSync(this.descriptor(), bytes, 0, this.pageBytes, number * this.pageBytes);
    this.stored.add(number);
    this.resident.delete(number);
    this.moved.pagesOut++;
    return bytes;
  }

  private descriptor(): number {
    if (!this.file) {
      const folder = mkdtempSync(join(tmpdir(), 'peftlab-pages-'));
      const { platform } = process;
      this.file = { folder, descriptor: openSync(join(folder, 'pages'), 'w+') };
      // An open file needs no name: without one it can't outlive the process. Windows wants it kept.
      if (platform !== 'win32') rmSync(folder, { recursive: true });
    }
    return this.file.descriptor;
  }
}
