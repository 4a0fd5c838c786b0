// Blockwise quantization, as bitsandbytes' generic backend computes it: in each block of `blocksize`
// numbers, code = nearest level to x / absmax with absmax = max |x|, and back x = level * absmax.
// Full blocks multiply by the float32 1 / absmax, a ragged last block divides by absmax.
import { type Codebook, codebook, createDynamicMap, DYNAMIC_MAP } from './codebook.ts';

/** What stands in for an absmax of 0 in a division. */
const TINY = Math.fround(1e-38);

/** Codes of 8 bits, one a number, and the scale of each block. */
export interface Blocks {
  codes: Uint8Array;
  absmax: Float32Array;
}

/** How `quantizeBlockwise` is done: any 256 levels, and numbers in a block (default 4096). */
export interface BlockwiseOptions {
  code?: Float32Array;
  blocksize?: number;
}

/** 8-bit codes and absmax [ceil(n / blocksize)] of n finite numbers; throws on an empty list. */
export function quantizeBlockwise(
  values: Float32Array,
  { code, blocksize = 4096 }: BlockwiseOptions = {},
): Blocks {
  checkBlocks(blocksize, code);
  const levels = code ? codebook(code) : DYNAMIC_MAP;
  const codes = new Uint8Array(values.length);
  const absmax = encodeBlocks(values, blocksize, levels, (block, start) => codes.set(block, start));
  return { codes, absmax };
}

/** x = code[codes] * absmax of its block, in float32. */
export function dequantizeBlockwise(
  { codes, absmax }: Blocks,
  { code = createDynamicMap(), blocksize = 4096 }: BlockwiseOptions = {},
): Float32Array {
  checkBlocks(blocksize, code);
  if (absmax.length !== Math.ceil(codes.length / blocksize)) {
    throw new RangeError(
      `absmax of ${codes.length} codes in blocks of ${blocksize} must have ` +
        `${Math.ceil(codes.length / blocksize)} values, got ${absmax.length}`,
    );
  }
  const out = new Float32Array(codes.length);
  for (let b = 0, start = 0; start < codes.length; b++, start += blocksize) {
    const scale = absmax[b]!;
    const end = Math.min(start + blocksize, codes.length);
    for (let i = start; i < end; i++) out[i] = code[codes[i]!]! * scale;
  }
  return out;
}

function checkBlocks(blocksize: number, code: Float32Array | undefined): void {
  if (!(Number.isInteger(blocksize) && blocksize > 0)) {
    throw new RangeError(`blocksize must be a positive integer, got ${blocksize}`);
  }
  if (code && code.length !== 256) {
    throw new RangeError(`code must have 256 levels, got ${code.length}`);
  }
}

/** Gives `write` the codes of one block after the other, in one array; returns the scales. */
export function encodeBlocks(
  values: Float32Array,
  blocksize: number,
  levels: Codebook,
  write: (codes: Uint8Array, start: number) => void,
): Float32Array {
  if (values.length === 0) throw new RangeError('A tensor to quantize must not be empty');
  const absmax = new Float32Array(Math.ceil(values.length / blocksize));
  const scaled = new Float32Array(Math.min(blocksize, values.length));
  const codes = new Uint8Array(scaled.length);
  for (let b = 0, start = 0; b < absmax.length; b++, start += blocksize) {
    const count = Math.min(blocksize, values.length - start);
    const largest = findAbsmax(values, start, count);
    if (count === blocksize) {
      const inverse = Math.fround(1 / Math.max(largest, TINY));
      for (let i = 0; i < count; i++) scaled[i] = values[start + i]! * inverse;
      absmax[b] = largest;
    } else {
      absmax[b] = Math.max(largest, TINY);
      for (let i = 0; i < count; i++) scaled[i] = values[start + i]! / absmax[b]!;
    }
    encode(scaled, count, levels, codes);
    write(count === codes.length ? codes : codes.subarray(0, count), start);
  }
  return absmax;
}

/** max |x| of a block; throws if a number in it is not finite. */
export function findAbsmax(values: Float32Array, start: number, count: number): number {
  let largest = 0;
  for (let i = start; i < start + count; i++) {
    const size = Math.abs(values[i]!);
    if (size <= largest) continue;
    if (!Number.isFinite(size)) {
      throw new RangeError(`Numbers to quantize must be finite, got ${values[i]} at ${i}`);
    }
    largest = size;
  }
  return largest;
}

/** codes[i] = the level nearest to scaled[i], the lower one at a midpoint. */
function encode(scaled: Float32Array, count: number, levels: Codebook, codes: Uint8Array): void {
  const { below, midpoints, order } = levels;
  const bits = new Uint32Array(scaled.buffer, scaled.byteOffset, scaled.length);
  for (let i = 0; i < count; i++) {
    let rank = below[bits[i]! >>> 16]!;
    while (scaled[i]! > midpoints[rank]!) rank++;
    codes[i] = order[rank]!;
  }
}
