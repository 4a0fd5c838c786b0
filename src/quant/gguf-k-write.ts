// Quantizes to GGUF's K types: 256 numbers in 16 or 8 groups, whose scales are quantized as well.
// Scales come from gguf-k-search.ts and gguf-k-simd.ts; numbers are rounded again with the quantized scales, as
// ggml-quants.c does. Left out: importance matrices.
import { float16ToFloat32, float32ToFloat16 } from '../tensor/float16.ts';
import { clamp, fitSigned, fitSignedByMoves, nearest } from './gguf-k-search.ts';
import { type AffineSearch, fitAffine } from './gguf-k-simd.ts';
import { putHalves } from './gguf-simple.ts';

const { fround } = Math;

const Q2K = { top: 3, from: -0.5, steps: 15, isAbsolute: true };
const Q4K = { top: 15, from: -1, steps: 20, isAbsolute: false };
const Q5K = { top: 31, from: -0.5, steps: 15, isAbsolute: false };

/** A super block with scales and minima: codes of 256 numbers, quantized scales and minima, d, dmin. */
interface AffineBlock {
  codes: Uint8Array;
  scales: Uint8Array;
  minima: Uint8Array;
  d: number;
  dmin: number;
}

/** Q2_K blocks of 84 bytes. */
export function quantizeQ2K(values: Float32Array): Uint8Array {
  const { out, d, dmin } = blocks(values, 84);
  for (let b = 0, at = 0; b < d.length; b++, at += 84) {
    const block = affineBlock(superBlock(values, b), 16, 15, Q2K);
    for (let g = 0; g < 16; g++) out[at + g] = block.scales[g]! | (block.minima[g]! << 4);
    packTwoBits(block.codes, out, at + 16);
    d[b] = block.d;
    dmin[b] = block.dmin;
  }
  putHalves(out, d, 84, 80);
  putHalves(out, dmin, 84, 82);
  return out;
}

/** Q3_K blocks of 110 bytes. */
export function quantizeQ3K(values: Float32Array): Uint8Array {
  const { out, d } = blocks(values, 110);
  for (let b = 0, at = 0; b < d.length; b++, at += 110) {
    const x = superBlock(values, b);
    const codes = new Uint8Array(256);
    const scales = groups(x, 16).map((part, g) =>
      fitSignedByMoves(part, codes.subarray(g * 16, g * 16 + 16), 4),
    );
    const inverse = inverseOf(scales, 32);
    d[b] = inverse === 0 ? 0 : fround(1 / inverse);
    const unit = half(d[b]!);
    for (let g = 0; g < 16; g++) {
      const scale = inverse === 0 ? -32 : clamp(nearest(fround(inverse * scales[g]!)), 32);
      putScaleQ3K(out, at + 96, g, inverse === 0 ? 0 : scale + 32);
      roundSigned(x, codes, g, fround(unit * scale), 4);
    }
    for (let i = 0; i < 256; i++) {
      if (codes[i]! > 3) out[at + (i & 31)]! |= 1 << (i >> 5);
    }
    packTwoBits(codes, out, at + 32);
  }
  putHalves(out, d, 110, 108);
  return out;
}

/** Q4_K blocks of 144 bytes. */
export function quantizeQ4K(values: Float32Array): Uint8Array {
  const { out, d, dmin } = blocks(values, 144);
  for (let b = 0, at = 0; b < d.length; b++, at += 144) {
    const block = affineBlock(superBlock(values, b), 8, 63, Q4K);
    putScalesAndMinima(out, at + 4, block);
    packFourBits(block.codes, out, at + 16);
    d[b] = block.d;
    dmin[b] = block.dmin;
  }
  putHalves(out, d, 144, 0);
  putHalves(out, dmin, 144, 2);
  return out;
}

/** Q5_K blocks of 176 bytes. */
export function quantizeQ5K(values: Float32Array): Uint8Array {
  const { out, d, dmin } = blocks(values, 176);
  for (let b = 0, at = 0; b < d.length; b++, at += 176) {
    const block = affineBlock(superBlock(values, b), 8, 63, Q5K);
    putScalesAndMinima(out, at + 4, block);
    packFourBits(block.codes, out, at + 48);
    for (let i = 0; i < 256; i++) out[at + 16 + (i & 31)]! |= (block.codes[i]! >> 4) << (i >> 5);
    d[b] = block.d;
    dmin[b] = block.dmin;
  }
  putHalves(out, d, 176, 0);
  putHalves(out, dmin, 176, 2);
  return out;
}

/** Q6_K blocks of 210 bytes. */
export function quantizeQ6K(values: Float32Array): Uint8Array {
  const { out, d } = blocks(values, 210);
  const codes = new Uint8Array(256);
  for (let b = 0, at = 0; b < d.length; b++, at += 210) {
    const x = superBlock(values, b);
    const scales = groups(x, 16).map((part, g) =>
      fitSigned(part, codes.subarray(g * 16, g * 16 + 16), 32),
    );
    const inverse = inverseOf(scales, 128);
    if (inverse === 0) continue;
    d[b] = fround(1 / inverse);
    const unit = half(d[b]!);
    for (let g = 0; g < 16; g++) {
      const scale = Math.min(127, nearest(fround(inverse * scales[g]!)));
      out[at + 192 + g] = scale;
      roundSigned(x, codes, g, fround(unit * scale), 32);
    }
    for (let i = 0; i < 256; i++) {
      const [part, row] = [i >> 7, (i >> 5) & 3];
      out[at + part * 64 + (i & 63)]! |= (codes[i]! & 15) << ((row >> 1) * 4);
      out[at + 128 + part * 32 + (i & 31)]! |= (codes[i]! >> 4) << (row * 2);
    }
  }
  putHalves(out, d, 210, 208);
  return out;
}

/** Scales and minima of each group, quantized to 0..limit, and codes rounded with them. */
function affineBlock(
  x: Float32Array,
  count: number,
  limit: number,
  search: AffineSearch,
): AffineBlock {
  const size = 256 / count;
  const codes = new Uint8Array(256);
  const weights = new Float32Array(256);
  for (const [g, part] of groups(x, count).entries()) weights.set(weightsOf(part, count), g * size);
  const fit = fitAffine(x, weights, codes, count, search);
  const { codes: scales, unit: d } = quantizeScales(fit.scales, limit);
  const { codes: minima, unit: dmin } = quantizeScales(fit.lowest, limit);
  const [unit, unitOfMin] = [half(d), half(dmin)];
  for (let g = 0; g < count; g++) {
    const step = fround(unit * scales[g]!);
    if (step === 0) continue;
    const lowest = fround(unitOfMin * minima[g]!);
    for (let i = g * size; i < (g + 1) * size; i++) {
      const l = nearest(fround(fround(x[i]! + lowest) / step));
      codes[i] = l < 0 ? 0 : l > search.top ? search.top : l;
    }
  }
  return { codes, scales, minima, d, dmin };
}

/** |x| in groups of 16, |x| plus the root mean square in groups of 32. */
function weightsOf(x: Float32Array, count: number): Float32Array {
  if (count === 16) return x.map(Math.abs);
  let sum = 0;
  for (const value of x) sum = fround(sum + fround(value * value));
  const mean = fround(Math.sqrt(fround(sum / x.length)));
  return x.map((value) => fround(mean + Math.abs(value)));
}

/** Positive numbers as unit * code, where the largest has the code `limit`. */
function quantizeScales(scales: Float32Array, limit: number): { codes: Uint8Array; unit: number } {
  const largest = scales.reduce((a, b) => Math.max(a, b), 0);
  const inverse = largest > 0 ? fround(limit / largest) : 0;
  const codes = Uint8Array.from(scales, (scale) =>
    Math.max(0, Math.min(limit, nearest(fround(inverse * scale)))),
  );
  return { codes, unit: fround(largest / limit) };
}

/** -limit / the scale of largest size; 0 if all scales are zero. */
function inverseOf(scales: number[], limit: number): number {
  let largest = 0;
  for (const scale of scales) if (Math.abs(scale) > Math.abs(largest)) largest = scale;
  return Math.abs(largest) < 1e-15 ? 0 : fround(-limit / largest);
}

/** Codes l + half of group g (16 numbers) for this step; they stay as they are where it is 0. */
function roundSigned(
  x: Float32Array,
  codes: Uint8Array,
  g: number,
  step: number,
  middle: number,
): void {
  if (step === 0) return;
  for (let i = g * 16; i < g * 16 + 16; i++) {
    codes[i] = clamp(nearest(fround(x[i]! / step)), middle) + middle;
  }
}

/** Low two bits of 256 codes: bytes of a half hold numbers i, i + 32, i + 64, i + 96. */
function packTwoBits(codes: Uint8Array, out: Uint8Array, at: number): void {
  for (let i = 0; i < 256; i++) {
    out[at + (i >> 7) * 32 + (i & 31)]! |= (codes[i]! & 3) << (((i >> 5) & 3) * 2);
  }
}

/** Low four bits of 256 codes: bytes of a quarter hold numbers i and i + 32. */
function packFourBits(codes: Uint8Array, out: Uint8Array, at: number): void {
  for (let i = 0; i < 256; i++) {
    out[at + (i >> 6) * 32 + (i & 31)]! |= (codes[i]! & 15) << (((i >> 5) & 1) * 4);
  }
}

/** Eight scales and minima of 6 bits in 12 bytes: what gguf-k-read.ts takes apart. */
function putScalesAndMinima(out: Uint8Array, at: number, { scales, minima }: AffineBlock): void {
  for (let g = 0; g < 4; g++) {
    out[at + g] = scales[g]! | ((scales[g + 4]! >> 4) << 6);
    out[at + g + 4] = minima[g]! | ((minima[g + 4]! >> 4) << 6);
    out[at + g + 8] = (scales[g + 4]! & 15) | ((minima[g + 4]! & 15) << 4);
  }
}

/** One of 16 scales of 6 bits in 12 bytes. */
function putScaleQ3K(out: Uint8Array, at: number, g: number, scale: number): void {
  out[at + (g & 7)]! |= (scale & 15) << ((g >> 3) * 4);
  out[at + 8 + (g & 3)]! |= (scale >> 4) << ((g >> 2) * 2);
}

function blocks(values: Float32Array, bytes: number) {
  const count = values.length / 256;
  const out = new Uint8Array(count * bytes);
  return { out, d: new Float32Array(count), dmin: new Float32Array(count) };
}

const superBlock = (values: Float32Array, b: number) => values.subarray(b * 256, (b + 1) * 256);

const groups = (x: Float32Array, count: number) =>
  Array.from({ length: count }, (_, g) => x.subarray((g * 256) / count, ((g + 1) * 256) / count));

/** What is left of x in float16. */
const half = (x: number) => float16ToFloat32(float32ToFloat16(Float32Array.of(x)))[0]!;
