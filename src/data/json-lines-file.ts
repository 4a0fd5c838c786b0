// JSON Lines on disk, a row at a time: only where each line starts is held in memory, so that a file
// may be larger than it. Lines are found once; rows are read when they are asked for.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { basename } from 'node:path';

const CHUNK = 1 << 20;
const NEWLINE = 0x0a;

/** Rows of a file by number, as trainers take them. */
export class JsonLinesFile<Row extends object> {
  readonly path: string;
  private readonly file: number;
  /** Where each row starts, and where the last one ends. */
  private readonly starts: number[];
  private readonly lines: number[];

  /** Opens the file and finds its lines. Throws a RangeError if it has none. */
  constructor(path: string) {
    this.path = path;
    this.file = openSync(path, 'r');
    const { starts, lines } = findLines(this.file);
    this.starts = starts;
    this.lines = lines;
    if (this.length > 0) return;
    this.close();
    throw new RangeError(`${basename(path)} must hold at least one row, got none`);
  }

  get length(): number {
    return this.lines.length;
  }

  /** Row `index`, read from disk; undefined if there is none. A SyntaxError names file and line. */
  at(index: number): Row | undefined {
    const i = index < 0 ? this.length + index : index;
    const [start, end] = [this.starts[2 * i], this.starts[2 * i + 1]];
    if (start === undefined || end === undefined) return undefined;
    const bytes = Buffer.alloc(end - start);
    readSync(this.file, bytes, 0, bytes.length, start);
    const place = `${basename(this.path)} line ${this.lines[i]}`;
    let row: unknown;
    try {
      row = JSON.parse(bytes.toString('utf8'));
    } catch (error) {
      throw new SyntaxError(`${place} is not JSON: ${(error as Error).message}`);
    }
    if (typeof row === 'object' && row !== null && !Array.isArray(row)) return row as Row;
    throw new SyntaxError(`${place} must be an object, got ${bytes.toString('utf8', 0, 60)}`);
  }

  /** Row after row. */
  *[Symbol.iterator](): Generator<Row, void, undefined> {
    for (let i = 0; i < this.length; i++) yield this.at(i)!;
  }

  /** Rows that are changed when they are asked for, such as by a tokenizer. */
  map<Next>(change: (row: Row, index: number) => Next): LazyRows<Next> {
    return {
      length: this.length,
      at: (index) => {
        const row = this.at(index);
        return row && change(row, index < 0 ? this.length + index : index);
      },
    };
  }

  /** Closes the file; rows can not be read after. */
  close(): void {
    closeSync(this.file);
  }
}

/** Rows by number. */
export interface LazyRows<Row> {
  readonly length: number;
  at(index: number): Row | undefined;
}

/** Start and end of each line that is not blank, and its number. */
function findLines(file: number): { starts: number[]; lines: number[] } {
  const { size } = fstatSync(file);
  const chunk = Buffer.alloc(CHUNK);
  const starts: number[] = [];
  const lines: number[] = [];
  let [start, line, isBlank] = [0, 1, true];
  const end = (at: number) => {
    if (!isBlank) {
      starts.push(start, at);
      lines.push(line);
    }
    [start, line, isBlank] = [at + 1, line + 1, true];
  };
  for (let offset = 0; offset < size; ) {
    const count = readSync(file, chunk, 0, CHUNK, offset);
    for (let i = 0; i < count; i++) {
      const byte = chunk[i]!;
      if (byte === NEWLINE) end(offset + i);
      else if (byte > 0x20) isBlank = false;
    }
    offset += count;
  }
  end(size);
  return { starts, lines };
}
