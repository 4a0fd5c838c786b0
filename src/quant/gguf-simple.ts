// GGUF's types with one scale per 32 numbers: Q8_0 x = d q; Q4_0, Q5_0 x = d (q - 2^(bits-1));
// Q4_1, Q5_1 x = d q + m, with d and m in float16 and the first half of a block in the low nibbles.
// Packing and rounding are those of gguf-py's quants.py. Left out: importance matrices.

import { float16ToFloat32, float32ToFloat16 } from '../tensor/float16.ts';
import { encodeBlocks } from './gguf-simd.ts';

const { fround } = Math;

/** Numbers in a block. */
const SIZE = 32;

/** The form of Q4_0, Q4_1, Q5_0 and Q5_1: bits of a number, and whether blocks have a lowest value. */
export interface Form {
  bits: 4 | 5;
  hasMin: boolean;
}

/** Q8_0 blocks of 34 bytes from whole blocks of numbers: d = max |x| / 127, q = round(x / d). */
export function quantizeQ80(values: Float32Array): Uint8Array {
  const out = new Uint8Array((values.length / SIZE) * 34);
  putHalves(out, encodeBlocks('q80', values, out), 34, 0);
  return out;
}

/** Q4_0 blocks of 18 bytes: d = the number of largest size / -8, q = trunc(x / d + 8.5). */
export function quantizeQ40(values: Float32Array): Uint8Array {
  const out = new Uint8Array((values.length / SIZE) * 18);
  putHalves(out, encodeBlocks('q40', values, out), 18, 0);
  return out;
}

/** Numbers of Q8_0 blocks. */
export function dequantizeQ80(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 34, 0);
  const quants = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let b = 0; b < scales.length; b++) {
    const d = scales[b]!;
    for (let i = 0; i < SIZE; i++) values[b * SIZE + i] = d * quants[b * 34 + 2 + i]!;
  }
}

/** Q4_0, Q4_1, Q5_0 or Q5_1 blocks from whole blocks of numbers. */
export function quantizeSimple(values: Float32Array, { bits, hasMin }: Form): Uint8Array {
  const count = values.length / SIZE;
  const { width, highs, lows } = layout({ bits, hasMin });
  const out = new Uint8Array(count * width);
  const scales = new Float32Array(count);
  const lowest = new Float32Array(count);
  const codes = new Uint8Array(SIZE);
  const top = 2 ** bits - 1;
  for (let b = 0; b < count; b++) {
    const i = b * SIZE;
    if (hasMin) encodeFromMin(values, i, top, codes, scales, lowest, b);
    else encodeSigned(values, i, top, codes, scales, b);
    const at = b * width;
    for (let j = 0; j < 16; j++) {
      out[at + lows + j] = (codes[j]! & 15) | ((codes[j + 16]! & 15) << 4);
    }
    if (bits === 5) {
      for (let j = 0; j < SIZE; j++) out[at + highs + (j >> 3)]! |= (codes[j]! >> 4) << (j & 7);
    }
  }
  putHalves(out, scales, width, 0);
  if (hasMin) putHalves(out, lowest, width, 2);
  return out;
}

/** Numbers of Q4_0, Q4_1, Q5_0 or Q5_1 blocks. */
export function dequantizeSimple(blocks: Uint8Array, values: Float32Array, form: Form): void {
  const { bits, hasMin } = form;
  const { width, highs, lows } = layout(form);
  const scales = getHalves(blocks, width, 0);
  const lowest = hasMin ? getHalves(blocks, width, 2) : undefined;
  const middle = hasMin ? 0 : 2 ** (bits - 1);
  for (let b = 0, at = 0; b < scales.length; b++, at += width) {
    const d = scales[b]!;
    const m = lowest?.[b] ?? -0; // which changes no number, not even -0
    for (let i = 0; i < 16; i++) {
      const pair = blocks[at + lows + i]!;
      let low = pair & 15;
      let high = pair >> 4;
      if (bits === 5) {
        low |= ((blocks[at + highs + (i >> 3)]! >> (i & 7)) & 1) << 4;
        high |= ((blocks[at + highs + 2 + (i >> 3)]! >> (i & 7)) & 1) << 4;
      }
      values[b * SIZE + i] = d * (low - middle) + m;
      values[b * SIZE + 16 + i] = d * (high - middle) + m;
    }
  }
}

/** The float16 number at `at` in each block of `width` bytes. */
export function getHalves(blocks: Uint8Array, width: number, at: number): Float32Array {
  const bits = new Uint16Array(blocks.length / width);
  for (let b = 0; b < bits.length; b++) {
    bits[b] = blocks[b * width + at]! | (blocks[b * width + at + 1]! << 8);
  }
  return float16ToFloat32(bits);
}

/** Writes one number per block as float16 at `at`; throws if it is beyond float16's 65504. */
export function putHalves(out: Uint8Array, scales: Float32Array, width: number, at: number): void {
  const halves = float32ToFloat16(scales);
  for (let b = 0; b < halves.length; b++) {
    const half = halves[b]!;
    if ((half & 0x7fff) >= 0x7c00) {
      throw new RangeError(`A block's scale must be at most 65504 (float16), got ${scales[b]}`);
    }
    out[b * width + at] = half & 255;
    out[b * width + at + 1] = half >> 8;
  }
}

/** Bytes of a block, and where in it the fifth bits and the low four begin. */
function layout({ bits, hasMin }: Form): { width: number; highs: number; lows: number } {
  const highs = hasMin ? 4 : 2;
  const lows = highs + (bits === 5 ? 4 : 0);
  return { width: lows + 16, highs, lows };
}

/** d = the number of largest size / -2^(bits-1); codes = trunc(x / d + middle + 1/2). */
function encodeSigned(
  values: Float32Array,
  i: number,
  top: number,
  codes: Uint8Array,
  scales: Float32Array,
  b: number,
): void {
  let largest = 0;
  let signed = 0;
  for (let j = i; j < i + SIZE; j++) {
    const size = Math.abs(values[j]!);
    if (size > largest) {
      largest = size;
      signed = values[j]!;
    }
  }
  const middle = (top + 1) / 2;
  const d = fround(signed / -middle);
  const inverse = d === 0 ? 0 : fround(1 / d);
  scales[b] = d;
  for (let j = 0; j < SIZE; j++) {
    const code = fround(fround(values[i + j]! * inverse) + (middle + 0.5)) | 0;
    codes[j] = code > top ? top : code;
  }
}

/** d = (max - min) / (2^bits - 1), m = min; codes = trunc((x - m) / d + 1/2), each step in float32. */
function encodeFromMin(
  values: Float32Array,
  i: number,
  top: number,
  codes: Uint8Array,
  scales: Float32Array,
  lowest: Float32Array,
  b: number,
): void {
  let min = values[i]!;
  let max = min;
  for (let j = i + 1; j < i + SIZE; j++) {
    if (values[j]! < min) min = values[j]!;
    if (values[j]! > max) max = values[j]!;
  }
  const d = fround(fround(max - min) / top);
  const inverse = d === 0 ? 0 : fround(1 / d);
  scales[b] = d;
  lowest[b] = min;
  for (let j = 0; j < SIZE; j++) {
    const code = fround(fround(fround(values[i + j]! - min) * inverse) + 0.5) | 0;
    codes[j] = code > top ? top : code;
  }
}
