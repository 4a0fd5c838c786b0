// The safetensors file format: 8 bytes header length, a JSON header, then the tensors' raw bytes.
// Checks follow the format's own reader: sizes must match shapes, offsets must cover the file with
// neither gaps nor overlaps, names must be unique. Left out: 8-bit and 4-bit floats.
import { closeSync, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import { bfloat16ToFloat32, float16ToFloat32 } from './float16.ts';
import { rejectDuplicateKeys } from './json.ts';

/** In the order in which files hold them. */
const ARRAYS = {
  U64: BigUint64Array,
  I64: BigInt64Array,
  F64: Float64Array,
  F32: Float32Array,
  U32: Uint32Array,
  I32: Int32Array,
  BF16: Uint16Array,
  F16: Uint16Array,
  U16: Uint16Array,
  I16: Int16Array,
  I8: Int8Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

/** Longest header that is read: 100 MB, the format's own limit. */
const MAX_HEADER = 100_000_000;

/** The format's names of its number types. */
export type SafetensorsDtype = keyof typeof ARRAYS;

/** Raw numbers of a tensor; `F16` and `BF16` are kept as their 16 bits, `BOOL` as 0 and 1. */
export type RawArray =
  | Float64Array
  | Float32Array
  | BigInt64Array
  | BigUint64Array
  | Int32Array
  | Uint32Array
  | Int16Array
  | Uint16Array
  | Int8Array
  | Uint8Array;

/** Where a tensor is in a file: `begin` and `end` count bytes from the end of the header. */
export interface TensorEntry {
  dtype: SafetensorsDtype;
  shape: number[];
  begin: number;
  end: number;
}

/** One tensor as it is in a file. */
export interface RawTensor {
  dtype: SafetensorsDtype;
  shape: number[];
  data: RawArray;
}

/** An open file: its header is read, tensors are read when asked for. */
export interface SafetensorsReader {
  /** Free text of the header's `__metadata__`, such as `format: 'pt'`. */
  metadata: Record<string, string>;
  tensors: Map<string, TensorEntry>;
  /** Reads one tensor; throws if there is none of that name. */
  read(name: string): RawTensor;
  close(): void;
}

/** Opens a file and checks its whole header; throws one sentence on any damage. */
export function safeOpen(path: string): SafetensorsReader {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const readRange = (begin: number, end: number) => readBytes(file, begin, end, path);
    return reader(readRange, size, path, () => closeSync(file));
  } catch (error) {
    closeSync(file);
    throw error;
  }
}

/** All tensors of a file by name, in the header's order. */
export function loadFile(path: string): Map<string, RawTensor> {
  const file = safeOpen(path);
  try {
    return new Map([...file.tensors.keys()].map((name) => [name, file.read(name)]));
  } finally {
    file.close();
  }
}

/** All tensors of a file's bytes; `name` is what errors call it. */
export function parseSafetensors(bytes: Uint8Array, name = 'safetensors'): Map<string, RawTensor> {
  const file = reader(
    (begin, end) => bytes.subarray(begin, end),
    bytes.length,
    name,
    () => {},
  );
  return new Map([...file.tensors.keys()].map((key) => [key, file.read(key)]));
}

/** Writes tensors to a file; `metadata` is `{ format: 'pt' }` unless given, as transformers asks. */
export function saveFile(
  tensors: Map<string, RawTensor>,
  path: string,
  metadata: Record<string, string> = { format: 'pt' },
): void {
  const file = openSync(path, 'w');
  try {
    for (const part of parts(tensors, metadata)) writeBytes(file, part);
  } finally {
    closeSync(file);
  }
}

/** The bytes of a file that holds `tensors`. */
export function serializeSafetensors(
  tensors: Map<string, RawTensor>,
  metadata: Record<string, string> = {},
): Uint8Array {
  return Buffer.concat([...parts(tensors, metadata)]);
}

/** Header, padded to whole 8 bytes, then each tensor's bytes: wider types first, then by name. */
function* parts(
  tensors: Map<string, RawTensor>,
  metadata: Record<string, string>,
): Generator<Uint8Array> {
  const rank = ([, t]: [string, RawTensor]) => Object.keys(ARRAYS).indexOf(t.dtype);
  const order = [...tensors].sort((a, b) => rank(a) - rank(b) || (a[0] < b[0] ? -1 : 1));
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push(['__metadata__', metadata]);
  let offset = 0;
  for (const [name, { dtype, shape, data }] of order) {
    if (name === '__metadata__') throw new RangeError("No tensor can be named '__metadata__'");
    checkData(name, dtype, shape, data);
    header.push([name, { dtype, shape, data_offsets: [offset, offset + data.byteLength] }]);
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const length = Math.ceil(json.length / 8) * 8;
  const head = new Uint8Array(8 + length).fill(32);
  new DataView(head.buffer).setBigUint64(0, BigInt(length), true);
  head.set(json, 8);
  yield head;
  for (const [, { data }] of order) {
    yield new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  }
}

/** The numbers of a tensor as float32; integers beyond 2^24 and float64 lose digits. */
export function toFloat32({ dtype, data }: RawTensor): Float32Array {
  if (data instanceof Float32Array) return data;
  if (dtype === 'F16') return float16ToFloat32(data as Uint16Array);
  if (dtype === 'BF16') return bfloat16ToFloat32(data as Uint16Array);
  return Float32Array.from(data as ArrayLike<number | bigint>, Number);
}

/** A tfjs tensor: floats become float32, integers int32, `BOOL` bool. */
export function toTensor(raw: RawTensor): tf.Tensor {
  const { dtype, shape, data } = raw;
  if (dtype === 'BOOL') return tf.tensor(data as Uint8Array, shape, 'bool');
  if (/^(F|BF)/.test(dtype)) return tf.tensor(toFloat32(raw), shape, 'float32');
  return tf.tensor(Int32Array.from(data as ArrayLike<number | bigint>, Number), shape, 'int32');
}

/** A tfjs tensor's numbers for a file: float32 as `F32`, int32 as `I32`, bool as `BOOL`. */
export function fromTensor(tensor: tf.Tensor): RawTensor {
  const data = tensor.dataSync() as Float32Array | Int32Array | Uint8Array;
  const dtype = tensor.dtype === 'int32' ? 'I32' : tensor.dtype === 'bool' ? 'BOOL' : 'F32';
  return { dtype, shape: [...tensor.shape], data };
}

function reader(
  readRange: (begin: number, end: number) => Uint8Array,
  size: number,
  path: string,
  close: () => void,
): SafetensorsReader {
  const fail = (why: string): never => {
    throw new Error(`${path} is not a whole safetensors file: ${why}`);
  };
  if (size < 8) fail(`it has ${size} bytes, 8 are needed for the header's length`);
  const head = readRange(0, 8);
  const length = Number(new DataView(head.buffer, head.byteOffset, 8).getBigUint64(0, true));
  if (length > MAX_HEADER)
    fail(`its header claims ${length} bytes, at most ${MAX_HEADER} are read`);
  if (length > size - 8) fail(`its header claims ${length} bytes, ${size - 8} are left`);
  const header = parseHeader(readRange(8, 8 + length), fail);
  const tensors = new Map<string, TensorEntry>();
  let metadata: Record<string, string> = {};
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = checkMetadata(value, fail);
    else tensors.set(name, checkEntry(name, value, fail));
  }
  checkOffsets(tensors, size - 8 - length, fail);
  const read = (name: string): RawTensor => {
    const entry = tensors.get(name);
    if (!entry) throw new Error(`No tensor named '${name}' in ${path}`);
    const { dtype, shape, begin, end } = entry;
    const bytes = readRange(8 + length + begin, 8 + length + end);
    const count = bytes.length / ARRAYS[dtype].BYTES_PER_ELEMENT;
    return { dtype, shape: [...shape], data: new ARRAYS[dtype](aligned(bytes), 0, count) };
  };
  return { metadata, tensors, read, close };
}

function parseHeader(bytes: Uint8Array, fail: (why: string) => never): Record<string, unknown> {
  let text = '';
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    fail('its header is not UTF-8');
  }
  let header: unknown;
  try {
    header = JSON.parse(text);
  } catch {
    fail('its header is not JSON');
  }
  if (!text.startsWith('{')) fail('its header is not a JSON object');
  rejectDuplicateKeys(text, (key) => fail(`'${key}' occurs twice in its header`));
  return header as Record<string, unknown>;
}

function checkMetadata(value: unknown, fail: (why: string) => never): Record<string, string> {
  const entries = typeof value === 'object' && value !== null ? Object.entries(value) : undefined;
  if (!entries?.every(([, text]) => typeof text === 'string')) {
    return fail('its __metadata__ is not an object of strings');
  }
  return Object.fromEntries(entries);
}

function checkEntry(name: string, value: unknown, fail: (why: string) => never): TensorEntry {
  const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(ARRAYS, dtype)) {
    const known = Object.keys(ARRAYS).join(', ');
    return fail(`tensor '${name}' has dtype ${JSON.stringify(dtype)}, known are ${known}`);
  }
  if (!isCounts(shape)) return fail(`tensor '${name}' has shape ${JSON.stringify(shape)}`);
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
    return fail(`tensor '${name}' has data_offsets ${JSON.stringify(offsets)}`);
  }
  const [begin, end] = offsets as [number, number];
  const width = ARRAYS[dtype as SafetensorsDtype].BYTES_PER_ELEMENT;
  const wanted = shape.reduce((product, n) => product * n, width);
  if (wanted !== end - begin) {
    fail(
      `tensor '${name}' of shape [${shape}] needs ${wanted} bytes, its offsets hold ${end - begin}`,
    );
  }
  return { dtype: dtype as SafetensorsDtype, shape, begin, end };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((n) => Number.isSafeInteger(n) && n >= 0);
}

function checkOffsets(
  tensors: Map<string, TensorEntry>,
  size: number,
  fail: (why: string) => never,
): void {
  const order = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, { begin, end }] of order) {
    if (end > size) fail(`tensor '${name}' ends at byte ${end}, the file has ${size}`);
    if (begin !== at) fail(`tensor '${name}' begins at byte ${begin}, expected ${at}`);
    at = end;
  }
  if (at !== size) fail(`its tensors end at byte ${at}, the file has ${size}`);
}

function checkData(name: string, dtype: SafetensorsDtype, shape: number[], data: RawArray): void {
  const count = shape.reduce((product, n) => product * n, 1);
  if (!(data instanceof ARRAYS[dtype]) || data.length !== count) {
    throw new RangeError(
      `Tensor '${name}' of dtype ${dtype} and shape [${shape}] needs ${count} values in a ` +
        `${ARRAYS[dtype].name}, got ${data.length} in a ${data.constructor.name}`,
    );
  }
}

function readBytes(file: number, begin: number, end: number, path: string): Uint8Array {
  const bytes = allocate(end - begin, path);
  for (let at = 0; at < bytes.length; ) {
    const count = readSync(file, bytes, at, Math.min(bytes.length - at, 2 ** 30), begin + at);
    if (count === 0) throw new Error(`${path} ended at byte ${begin + at} while it was read`);
    at += count;
  }
  return bytes;
}

function writeBytes(file: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    at += writeSync(file, bytes, at, Math.min(bytes.length - at, 2 ** 30));
  }
}

function allocate(size: number, path: string): Uint8Array {
  try {
    return new Uint8Array(size);
  } catch {
    throw new Error(`Out of memory: ${(size / 2 ** 20).toFixed(0)} MB were wanted to read ${path}`);
  }
}

/** The bytes at the start of a buffer of their own, as typed arrays of wider numbers need them. */
function aligned(bytes: Uint8Array): ArrayBuffer {
  const whole = bytes.byteOffset === 0 && bytes.byteLength === bytes.buffer.byteLength;
  return (whole ? bytes : Uint8Array.from(bytes)).buffer as ArrayBuffer;
}
