// GGUF's IQ4_NL: x = d level[q] with 16 levels that lie closer together near zero; blocks of 32 numbers.
// d = sum(w level x) / sum(w level level), w = x x, is the best of 16 candidates (ggml-quants.c); float32.
// Left out: importance matrices.
import { getHalves, putHalves } from './gguf-simple.ts';

const { fround } = Math;

/** Levels, in units of the block's scale. */
const LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/** How many candidates lie on each side of the one that puts the largest number on level -127. */
const STEPS = 7;

/** Blocks whose numbers are all smaller are zero. */
const TINY = 1e-15;

/** IQ4_NL blocks of 18 bytes from whole blocks of numbers. */
export function quantizeIQ4NL(values: Float32Array): Uint8Array {
  const count = values.length / 32;
  const out = new Uint8Array(count * 18);
  const scales = new Float32Array(count);
  for (let b = 0; b < count; b++) {
    const x = values.subarray(b * 32, (b + 1) * 32);
    const d = bestScale(x);
    scales[b] = d;
    const inverse = d === 0 ? 0 : fround(1 / d);
    for (let j = 0; j < 16; j++) {
      const low = nearestLevel(fround(inverse * x[j]!));
      const high = nearestLevel(fround(inverse * x[j + 16]!));
      out[b * 18 + 2 + j] = low | (high << 4);
    }
  }
  putHalves(out, scales, 18, 0);
  return out;
}

/** Numbers of IQ4_NL blocks. */
export function dequantizeIQ4NL(blocks: Uint8Array, values: Float32Array): void {
  const scales = getHalves(blocks, 18, 0);
  for (let b = 0; b < scales.length; b++) {
    for (let i = 0; i < 16; i++) {
      const pair = blocks[b * 18 + 2 + i]!;
      values[b * 32 + i] = scales[b]! * LEVELS[pair & 15]!;
      values[b * 32 + 16 + i] = scales[b]! * LEVELS[pair >> 4]!;
    }
  }
}

/** The scale with the largest sum(w level x)^2 / sum(w level level), the first of equals. */
function bestScale(x: Float32Array): number {
  let signed = 0;
  for (const value of x) if (Math.abs(value) > Math.abs(signed)) signed = value;
  if (Math.abs(signed) < TINY) return 0;
  let scale = 0;
  let best = 0;
  const attempt = (inverse: number) => {
    let qx = 0;
    let qq = 0;
    for (let j = 0; j < 32; j++) {
      const value = x[j]!;
      const q = LEVELS[nearestLevel(fround(inverse * value))]!;
      const weighted = fround(fround(value * value) * q);
      qx = fround(qx + fround(weighted * value));
      qq = fround(qq + fround(weighted * q));
    }
    if (qq > 0 && fround(qx * qx) > fround(best * qq)) {
      scale = fround(qx / qq);
      best = fround(scale * qx);
    }
  };
  attempt(fround(1 / fround(-signed / LEVELS[0]!)));
  for (let step = -STEPS; step <= STEPS; step++) attempt(fround((step + LEVELS[0]!) / signed));
  return scale;
}

/** The index of the level nearest to x, found by halving; the upper one at a midpoint. */
function nearestLevel(x: number): number {
  let [low, high] = [0, 15];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (x < LEVELS[middle]!) high = middle;
    else low = middle;
  }
  return fround(x - LEVELS[low]!) < fround(LEVELS[high]! - x) ? low : high;
}
