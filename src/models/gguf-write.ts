// Writes GGUF version 3: header, metadata, list of tensors, then their blocks, each padded to the
// alignment (general.alignment, default 32). Tensors are made one at a time, and the file appears
// under its name only when it is whole. Left out: split files, big-endian files.
import { closeSync, mkdirSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { GGML_TYPES, ggmlType } from '../quant/gguf-types.ts';

/** A value of the metadata with the type it is stored as. */
export type GgufEntry =
  | { type: 'uint32' | 'int32' | 'float32' | 'uint64'; value: number }
  | { type: 'bool'; value: boolean }
  | { type: 'string'; value: string }
  | { type: 'string[]'; value: readonly string[] }
  | { type: 'uint8[]' | 'int32[]' | 'float32[]'; value: readonly number[] };

/** A tensor to be written: `shape` as torch has it, `type` by name, and its blocks when asked for. */
export interface GgufSource {
  name: string;
  shape: readonly number[];
  type: string;
  blocks(): Uint8Array;
}

/** Numbers of value types in the file. */
const CODES = { uint8: 0, uint32: 4, int32: 5, float32: 6, bool: 7, string: 8, uint64: 10 };

const LIST = 9;

/** Writes the file; throws if a tensor's rows are no whole blocks, or its blocks have another size. */
export function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufEntry>,
  tensors: readonly GgufSource[],
): void {
  const alignment = Number(metadata.get('general.alignment')?.value ?? 32);
  if (!(alignment > 0 && Number.isInteger(Math.log2(alignment)))) {
    throw new RangeError(`general.alignment must be a power of two, got ${alignment}`);
  }
  const sizes = tensors.map(sizeOf);
  const head = header(metadata, tensors, sizes, alignment);
  mkdirSync(dirname(path), { recursive: true });
  const unfinished = `${path}.part`;
  const file = openSync(unfinished, 'w');
  try {
    writeWhole(file, head);
    for (const [i, tensor] of tensors.entries()) {
      const blocks = tensor.blocks();
      if (blocks.length !== sizes[i]) {
        throw new RangeError(
          `Tensor '${tensor.name}' must have ${sizes[i]} bytes of ${tensor.type}, got ${blocks.length}`,
        );
      }
      writeWhole(file, blocks);
      writeWhole(file, new Uint8Array(padding(blocks.length, alignment)));
    }
    closeSync(file);
    renameSync(unfinished, path);
  } catch (error) {
    closeSync(file);
    rmSync(unfinished, { force: true });
    throw error;
  }
}

/** Bytes of a tensor in its type. */
function sizeOf({ name, shape, type }: GgufSource): number {
  const { size, bytes } = ggmlType(type);
  const columns = shape.at(-1) ?? 1;
  if (shape.length > 4 || columns % size !== 0) {
    throw new RangeError(`Tensor '${name}' of shape [${shape}] does not fit blocks of ${type}`);
  }
  return (shape.reduce((product, n) => product * n, 1) / size) * bytes;
}

function header(
  metadata: ReadonlyMap<string, GgufEntry>,
  tensors: readonly GgufSource[],
  sizes: number[],
  alignment: number,
): Uint8Array {
  const parts: Uint8Array[] = [
    Buffer.from('GGUF'),
    u32(3),
    u64(tensors.length),
    u64(metadata.size),
  ];
  for (const [key, entry] of metadata) parts.push(text(key), ...encodeEntry(entry));
  let offset = 0;
  for (const [i, { name, shape, type }] of tensors.entries()) {
    const code = [...GGML_TYPES].find(([, { name: own }]) => own === ggmlType(type).name)![0];
    const sizesFastestFirst = [...shape].reverse().map(u64);
    parts.push(text(name), u32(shape.length), ...sizesFastestFirst, u32(code), u64(offset));
    offset += sizes[i]! + padding(sizes[i]!, alignment);
  }
  const head = Buffer.concat(parts);
  return Buffer.concat([head, new Uint8Array(padding(head.length, alignment))]);
}

function encodeEntry(entry: GgufEntry): Uint8Array[] {
  switch (entry.type) {
    case 'string[]':
      return [u32(LIST), u32(CODES.string), u64(entry.value.length), ...entry.value.map(text)];
    case 'string':
      return [u32(CODES.string), text(entry.value)];
    case 'bool':
      return [u32(CODES.bool), Uint8Array.of(Number(entry.value))];
    case 'uint8[]':
      return [u32(LIST), u32(CODES.uint8), u64(entry.value.length), Uint8Array.from(entry.value)];
    case 'int32[]':
      return list(CODES.int32, new Int32Array(entry.value));
    case 'float32[]':
      return list(CODES.float32, new Float32Array(entry.value));
    default:
      return [u32(CODES[entry.type]), encodeNumber(entry.type, entry.value)];
  }
}

function list(code: number, values: Int32Array | Float32Array): Uint8Array[] {
  return [u32(LIST), u32(code), u64(values.length), new Uint8Array(values.buffer)];
}

function encodeNumber(type: 'uint32' | 'int32' | 'float32' | 'uint64', value: number): Uint8Array {
  const out = Buffer.alloc(type === 'uint64' ? 8 : 4);
  if (type === 'uint64') out.writeBigUInt64LE(BigInt(value));
  else if (type === 'uint32') out.writeUInt32LE(value);
  else if (type === 'int32') out.writeInt32LE(value);
  else out.writeFloatLE(value);
  return out;
}

function text(value: string): Uint8Array {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Uint8Array {
  return encodeNumber('uint32', value);
}

function u64(value: number): Uint8Array {
  return encodeNumber('uint64', value);
}

const padding = (length: number, alignment: number) => -length & (alignment - 1);

function writeWhole(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    at += writeSync(file, bytes, at, Math.min(bytes.length - at, 2 ** 30));
  }
}
