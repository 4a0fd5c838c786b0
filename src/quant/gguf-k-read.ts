// Dequantizes GGUF's K types: 256 numbers in 16 or 8 groups whose scales are themselves quantized.
// Q2_K, Q4_K, Q5_K: x = d s q - dmin m; Q3_K, Q6_K: x = d s q (ggml-quants.c). Every product is exact
// in float32, so only the last subtraction rounds. Left out: Q8_K, which files do not hold.
import { getHalves } from './gguf-simple.ts';

/** Q2_K: 16 scales and minima of 4 bits, 2-bit numbers, d, dmin; 84 bytes. */
export function dequantizeQ2K(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 84, 80);
  const minima = getHalves(blocks, 84, 82);
  for (let b = 0, at = 0; b < scales.length; b++, at += 84) {
    for (let i = 0; i < 256; i++) {
      const scale = blocks[at + (i >> 4)]!;
      const q = (blocks[at + 16 + (i >> 7) * 32 + (i & 31)]! >> (((i >> 5) & 3) * 2)) & 3;
      values[b * 256 + i] = scales[b]! * (scale & 15) * q - minima[b]! * (scale >> 4);
    }
  }
}

/** Q3_K: 32 bytes of third bits, 2-bit numbers, 16 scales of 6 bits, d; 110 bytes. */
export function dequantizeQ3K(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 110, 108);
  for (let b = 0, at = 0; b < scales.length; b++, at += 110) {
    for (let i = 0; i < 256; i++) {
      const scale = scaleQ3K(blocks, at + 96, i >> 4);
      const low = (blocks[at + 32 + (i >> 7) * 32 + (i & 31)]! >> (((i >> 5) & 3) * 2)) & 3;
      const high = (blocks[at + (i & 31)]! >> (i >> 5)) & 1;
      values[b * 256 + i] = scales[b]! * scale * (low + high * 4 - 4);
    }
  }
}

/** Q4_K: d, dmin, 8 scales and minima of 6 bits, 4-bit numbers; 144 bytes. */
export function dequantizeQ4K(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 144, 0);
  const minima = getHalves(blocks, 144, 2);
  for (let b = 0, at = 0; b < scales.length; b++, at += 144) {
    for (let group = 0; group < 8; group++) {
      const [scale, minimum] = scaleAndMin(blocks, at + 4, group);
      const d = scales[b]! * scale;
      const m = minima[b]! * minimum;
      const lows = at + 16 + (group >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        const q = (blocks[lows + i]! >> ((group & 1) * 4)) & 15;
        values[b * 256 + group * 32 + i] = d * q - m;
      }
    }
  }
}

/** Q5_K: as Q4_K, with 32 bytes of fifth bits before the low four; 176 bytes. */
export function dequantizeQ5K(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 176, 0);
  const minima = getHalves(blocks, 176, 2);
  for (let b = 0, at = 0; b < scales.length; b++, at += 176) {
    for (let group = 0; group < 8; group++) {
      const [scale, minimum] = scaleAndMin(blocks, at + 4, group);
      const d = scales[b]! * scale;
      const m = minima[b]! * minimum;
      const lows = at + 48 + (group >> 1) * 32;
      for (let i = 0; i < 32; i++) {
        const low = (blocks[lows + i]! >> ((group & 1) * 4)) & 15;
        const high = (blocks[at + 16 + i]! >> group) & 1;
        values[b * 256 + group * 32 + i] = d * (low + high * 16) - m;
      }
    }
  }
}

/** Q6_K: low four bits, high two bits, 16 signed scales of 8 bits, d; 210 bytes. */
export function dequantizeQ6K(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 210, 208);
  const signed = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let b = 0, at = 0; b < scales.length; b++, at += 210) {
    for (let i = 0; i < 256; i++) {
      const part = i >> 7;
      const row = (i >> 5) & 3;
      const low = (blocks[at + part * 64 + (i & 63)]! >> ((row >> 1) * 4)) & 15;
      const high = (blocks[at + 128 + part * 32 + (i & 31)]! >> (row * 2)) & 3;
      const scale = scales[b]! * signed[at + 192 + (i >> 4)]!;
      values[b * 256 + i] = scale * (low + high * 16 - 32);
    }
  }
}

/** Scale and minimum of a group of Q4_K or Q5_K, 6 bits each, from 12 bytes at `at`. */
export function scaleAndMin(blocks: Uint8Array, at: number, group: number): [number, number] {
  if (group < 4) return [blocks[at + group]! & 63, blocks[at + group + 4]! & 63];
  const low = blocks[at + group + 4]!;
  return [
    (low & 15) | ((blocks[at + group - 4]! >> 6) << 4),
    (low >> 4) | ((blocks[at + group]! >> 6) << 4),
  ];
}

/** Scale of a group of Q3_K, -32 to 31, from 12 bytes at `at`. */
export function scaleQ3K(blocks: Uint8Array, at: number, group: number): number {
  const low = (blocks[at + (group & 7)]! >> ((group >> 3) * 4)) & 15;
  const high = (blocks[at + 8 + (group & 3)]! >> ((group >> 2) * 2)) & 3;
  return (low | (high << 4)) - 32;
}
