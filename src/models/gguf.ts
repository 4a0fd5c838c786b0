// The GGUF file format, versions 2 and 3: metadata, a list of tensors, their blocks (ggml's docs/gguf.md).
// All counts and offsets are held against the file's size before anything is allocated by them.
// Left out: big-endian files, version 1, split files.
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { GGML_TYPES, type GgmlType, READABLE_TYPES } from '../quant/gguf-types.ts';

/** A value of the metadata; numbers of 64 bits are rounded to a double. */
export type GgufValue = string | number | boolean | GgufValue[];

/** A tensor of the file: `shape` as torch has it, [rows, columns], and where its blocks begin. */
export interface GgufTensor {
  name: string;
  shape: number[];
  type: GgmlType;
  begin: number;
  end: number;
}

/** An open file: its metadata is read, tensors are read when asked for. */
export interface GgufReader {
  metadata: Map<string, GgufValue>;
  tensors: Map<string, GgufTensor>;
  /** A tensor's values as float32, dequantized; throws if its type is none of those read here. */
  read(name: string): Float32Array;
  /** A tensor's blocks as they are stored. */
  readBlocks(name: string): Uint8Array;
  close(): void;
}

/** Bytes [begin, end) of the file. */
type ReadRange = (begin: number, end: number) => Uint8Array;

/** Opens a file and checks its metadata and tensor list; throws one sentence on any damage. */
export function openGguf(path: string): GgufReader {
  const file = openSync(path, 'r');
  try {
    const readRange = (begin: number, end: number) => {
      const bytes = new Uint8Array(end - begin);
      for (let at = 0; at < bytes.length; ) {
        const count = readSync(file, bytes, at, Math.min(bytes.length - at, 2 ** 30), begin + at);
        if (count === 0) throw new Error(`${path} ended at byte ${begin + at} while it was read`);
        at += count;
      }
      return bytes;
    };
    return parse(readRange, fstatSync(file).size, path, () => closeSync(file));
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

/** The same from a file's bytes; `name` is what errors call it. */
export function parseGguf(bytes: Uint8Array, name = 'gguf'): GgufReader {
  return parse(
    (begin, end) => bytes.subarray(begin, end),
    bytes.length,
    name,
    () => {},
  );
}

function parse(readRange: ReadRange, size: number, path: string, close: () => void): GgufReader {
  const cursor = new Cursor(readRange, size, path);
  if (size < 4 || cursor.text(4) !== 'GGUF') cursor.fail('it does not begin with GGUF');
  const version = cursor.u32();
  if (version !== 2 && version !== 3) cursor.fail(`its version is ${version}, read are 2 and 3`);
  const tensorCount = cursor.count('tensors', 24);
  const entryCount = cursor.count('metadata entries', 13);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < entryCount; i++) {
    const key = cursor.string();
    if (metadata.has(key)) cursor.fail(`its metadata has '${key}' twice`);
    metadata.set(key, cursor.value(cursor.u32(), 0));
  }
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < tensorCount; i++) {
    const tensor = readTensorInfo(cursor);
    if (tensors.has(tensor.name)) cursor.fail(`it has tensor '${tensor.name}' twice`);
    tensors.set(tensor.name, tensor);
  }
  place(tensors, cursor, metadata.get('general.alignment') ?? 32);
  const find = (name: string) => {
    const tensor = tensors.get(name);
    if (!tensor) throw new Error(`No tensor named '${name}' in ${path}`);
    return tensor;
  };
  const readBlocks = (name: string) => {
    const { begin, end } = find(name);
    return readRange(begin, end);
  };
  const read = (name: string) => {
    const tensor = find(name);
    if (!tensor.type.read) {
      const known = READABLE_TYPES.join(', ');
      throw new Error(`Tensor '${name}' in ${path} is ${tensor.type.name}, read are ${known}`);
    }
    const values = new Float32Array(tensor.shape.reduce((product, n) => product * n, 1));
    tensor.type.read(readBlocks(name), values);
    return values;
  };
  return { metadata, tensors, read, readBlocks, close };
}

/** Name, sizes (fastest first), type and offset of one tensor. */
function readTensorInfo(cursor: Cursor): GgufTensor {
  const name = cursor.string();
  const rank = cursor.u32();
  if (rank > 4) cursor.fail(`tensor '${name}' has ${rank} dimensions, at most 4 are allowed`);
  const shape = Array.from({ length: rank }, () => cursor.u64()).reverse();
  const code = cursor.u32();
  const type = GGML_TYPES.get(code);
  if (!type) return cursor.fail(`tensor '${name}' has the unknown type ${code}`);
  const count = shape.reduce((product, n) => product * n, 1);
  if (!Number.isSafeInteger(count) || (shape.at(-1) ?? 1) % type.size !== 0) {
    cursor.fail(`tensor '${name}' of shape [${shape}] does not fit blocks of ${type.name}`);
  }
  const begin = cursor.u64();
  return { name, shape, type, begin, end: begin + (count / type.size) * type.bytes };
}

/** Moves offsets to where the data section begins; refuses those outside the file or overlapping. */
function place(tensors: Map<string, GgufTensor>, cursor: Cursor, alignment: GgufValue): void {
  const isPower =
    typeof alignment === 'number' && alignment > 0 && Number.isInteger(Math.log2(alignment));
  if (!isPower)
    return cursor.fail(`its general.alignment must be a power of two, got ${alignment}`);
  const start = Math.ceil(cursor.at / alignment) * alignment;
  let end = start;
  for (const tensor of [...tensors.values()].sort((a, b) => a.begin - b.begin)) {
    tensor.begin += start;
    tensor.end += start;
    if (tensor.end > cursor.size) {
      cursor.fail(
        `tensor '${tensor.name}' ends at byte ${tensor.end}, the file has ${cursor.size}`,
      );
    }
    if (tensor.begin < end) cursor.fail(`tensor '${tensor.name}' overlaps the one before it`);
    end = tensor.end;
  }
}

/** Reads numbers and texts one after another, never beyond the file. */
class Cursor {
  at = 0;
  readonly size: number;
  private readonly readRange: ReadRange;
  private readonly path: string;
  private window = new Uint8Array(0);
  private windowStart = 0;

  constructor(readRange: ReadRange, size: number, path: string) {
    this.readRange = readRange;
    this.size = size;
    this.path = path;
  }

  fail(why: string): never {
    throw new Error(`${this.path} is not a whole GGUF file: ${why}`);
  }

  u32(): number {
    return this.view(4).getUint32(0, true);
  }

  u64(): number {
    const value = this.view(8).getBigUint64(0, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.fail(`it holds a size of ${value}`);
    return Number(value);
  }

  /** A count of things that take at least `bytes` bytes each. */
  count(what: string, bytes: number): number {
    const count = this.u64();
    const left = this.size - this.at;
    if (count * bytes > left) this.fail(`it claims ${count} ${what}, ${left} bytes are left`);
    return count;
  }

  string(): string {
    return this.text(this.count('bytes of text', 1));
  }

  text(length: number): string {
    const bytes = this.bytes(length);
    try {
      return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    } catch {
      return this.fail(`the text at byte ${this.at - length} is not UTF-8`);
    }
  }

  /** A value of one of the 13 types; lists may nest. */
  value(type: number, depth: number): GgufValue {
    if (type === 8) return this.string();
    if (type === 7) return this.bytes(1)[0] !== 0;
    if (type !== 9) return this.number(type);
    if (depth > 8) this.fail('its metadata nests lists more than 8 deep');
    const inner = this.u32();
    const count = this.count('list items', WIDTHS[inner] ?? 8);
    return Array.from({ length: count }, () => this.value(inner, depth + 1));
  }

  private number(type: number): number {
    const width = WIDTHS[type];
    if (!width) return this.fail(`its metadata has the unknown type ${type}`);
    const view = this.view(width);
    switch (type) {
      case 0:
        return view.getUint8(0);
      case 1:
        return view.getInt8(0);
      case 2:
        return view.getUint16(0, true);
      case 3:
        return view.getInt16(0, true);
      case 4:
        return view.getUint32(0, true);
      case 5:
        return view.getInt32(0, true);
      case 6:
        return view.getFloat32(0, true);
      case 10:
        return Number(view.getBigUint64(0, true));
      case 11:
        return Number(view.getBigInt64(0, true));
      default:
        return view.getFloat64(0, true);
    }
  }

  private view(length: number): DataView {
    const bytes = this.bytes(length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }

  private bytes(length: number): Uint8Array {
    if (length > this.size - this.at)
      this.fail(`it ends at byte ${this.size}, within its metadata`);
    const inside = this.at - this.windowStart;
    if (inside + length > this.window.length) {
      const end = Math.min(this.at + Math.max(length, 2 ** 20), this.size);
      this.window = Uint8Array.from(this.readRange(this.at, end));
      this.windowStart = this.at;
    }
    const begin = this.at - this.windowStart;
    this.at += length;
    return this.window.subarray(begin, begin + length);
  }
}

/** Bytes of each number type of the metadata; 7 is bool, 8 text and 9 a list. */
const WIDTHS: Record<number, number> = {
  0: 1,
  1: 1,
  2: 2,
  3: 2,
  4: 4,
  5: 4,
  6: 4,
  7: 1,
  10: 8,
  11: 8,
  12: 8,
};
