// The grid of GPTQ: per row of a group x = scale (q - zero), q = 0..2^bits - 1 (auto_gptq's Quantizer).
// Symmetric: scale = 2 max|x| / (2^bits - 1), zero = 2^(bits-1); else from the lowest (at most 0) to the
// highest (at least 0) number. Left out: the search for a scale of least squared error.

const { fround } = Math;

/** The widest span from the lowest to the highest number. */
const WIDEST = 3e38;

/** Scale and zero of one row of a group. */
export interface Grid {
  scale: number;
  zero: number;
}

/** Codes of 2, 3, 4 or 8 bits, symmetric or not. */
export interface GridOptions {
  bits: number;
  sym: boolean;
}

/** The grid of numbers begin..end-1 of `values`; all zeros lie on a grid from -1 to 1. */
export function findGrid(
  values: Float32Array,
  begin: number,
  end: number,
  { bits, sym }: GridOptions,
): Grid {
  const top = 2 ** bits - 1;
  let min = 0;
  let max = 0;
  for (let i = begin; i < end; i++) {
    if (values[i]! < min) min = values[i]!;
    if (values[i]! > max) max = values[i]!;
  }
  if (sym) {
    max = Math.max(-min, max);
    if (min < 0) min = -max;
  }
  checkSpan(min, max);
  if (min === 0 && max === 0) [min, max] = [-1, 1];
  const scale = fround(fround(max - min) / top);
  return { scale, zero: sym ? (top + 1) / 2 : roundEven(fround(-min / scale)) };
}

/** Throws unless the numbers from `min` to `max` have a scale in float32. */
export function checkSpan(min: number, max: number): void {
  if (max - min <= WIDEST) return;
  throw new RangeError(`Numbers to quantize must span at most 3e38, got ${min} to ${max}`);
}

/** x rounded to a whole number, halves to even; |x| below 2^51. */
export function roundEven(x: number): number {
  const shift = x < 0 ? -6755399441055744 : 6755399441055744;
  return x + shift - shift;
}
