// HQQ (Badri & Shaji 2023), as the package hqq does it: no calibration, x = (q - z) / s with s = (2^bits - 1) /
// (max - min) kept and the zero point z found by half-quadratic splitting: e = shrink(x - (q - z) / s), then
// z = mean(q - s (x - e)), which lowers sum |x - (q - z) / s|^p, p < 1. Left out: groups along outputs,
// quantized scales, the autograd solvers.
import { checkSpan, roundEven } from './gptq-grid.ts';
import { groupSize, rangeOf } from './integer.ts';

const { fround } = Math;

/** hqq's settings, with its defaults. */
export interface HqqOptions {
  /** 1 to 8. Default 4. */
  nbits?: number;
  /** Inputs that share a scale. Default 64; -1 for all of a row. */
  groupSize?: number;
  /** Whether the zero point is searched; without it, it is -min s. Default true. */
  optimize?: boolean;
  /** p of the norm. Default 0.7. */
  lpNorm?: number;
  /** Weight of the quadratic part. Default 10. */
  beta?: number;
  /** What beta is multiplied by at each step. Default 1; the paper's is 1.01. */
  kappa?: number;
  /** Most steps; they end as soon as the mean error does not fall. Default 20. */
  iters?: number;
}

/** A quantized matrix: x = scales (codes - zeros), groups along the inputs. */
export interface HqqWeight {
  nbits: number;
  groupSize: number;
  shape: [number, number];
  codes: Uint8Array;
  /** [groups] 1 / s */
  scales: Float32Array;
  /** [groups], no whole numbers. */
  zeros: Float32Array;
  /** Mean |x - x'| before each step of the search. */
  errors: number[];
}

/** Groups of a matrix under the search. */
interface Groups {
  values: Float32Array;
  size: number;
  top: number;
  /** s of each group. */
  scales: Float32Array;
  zeros: Float32Array;
}

/** Quantizes a matrix [out, in]; throws if a number is not finite, or groups do not fit. */
export function quantizeHqq(
  weight: Float32Array,
  shape: readonly [number, number],
  options: HqqOptions = {},
): HqqWeight {
  const { nbits, lpNorm, kappa, iters, optimize, ...settings } = checked(options);
  const granularity = settings.groupSize === -1 ? 'channel' : settings.groupSize;
  const size = groupSize(shape, granularity, weight.length);
  const groups = firstGroups(weight, size, 2 ** nbits - 1);
  const errors: number[] = [];
  let { beta } = settings;
  for (let i = 0; optimize && i < iters; i++, beta *= kappa) {
    const error = improveZeros(groups, beta, lpNorm);
    const isBetter = error < (errors.at(-1) ?? Infinity);
    errors.push(error);
    if (!isBetter) break;
  }
  const { scales, zeros } = groups;
  const codes = new Uint8Array(weight.length);
  for (let i = 0; i < codes.length; i++)
    codes[i] = codeOf(weight[i]!, groups, Math.floor(i / size));
  const common = { nbits, groupSize: size, shape: [...shape] as [number, number], codes };
  return { ...common, scales: scales.map((s) => 1 / s), zeros, errors };
}

/** x = scales (codes - zeros), [out, in]. */
export function dequantizeHqq({ codes, scales, zeros, groupSize: size }: HqqWeight): Float32Array {
  const values = new Float32Array(codes.length);
  for (let g = 0, i = 0; g < scales.length; g++) {
    for (const end = i + size; i < end; i++) values[i] = fround(codes[i]! - zeros[g]!) * scales[g]!;
  }
  return values;
}

/** Scales from the lowest to the highest number of each group, and zeros = -min s. */
function firstGroups(values: Float32Array, size: number, top: number): Groups {
  const count = values.length / size;
  const [scales, zeros] = [new Float32Array(count), new Float32Array(count)];
  for (let g = 0; g < count; g++) {
    const [min, max] = rangeOf(values, g * size, (g + 1) * size);
    checkSpan(min, max);
    const span = fround(max - min);
    scales[g] = span <= 1e-4 ? 1 : Math.min(2e4, top / span);
    zeros[g] = -min * scales[g]!;
  }
  return { values, size, top, scales, zeros };
}

const codeOf = (x: number, { scales, zeros, top }: Groups, g: number): number => {
  const code = roundEven(fround(fround(x * scales[g]!) + zeros[g]!));
  return code < 0 ? 0 : code > top ? top : code;
};

/** One step of the search in all groups; returns the mean error before it. */
function improveZeros(groups: Groups, beta: number, p: number): number {
  const { values, size, scales, zeros } = groups;
  const zeroed = 0.999 * (1 / beta) ** (1 / (2 - p)); // shrink(x) is 0 for smaller x
  let total = 0;
  for (let g = 0; g < scales.length; g++) {
    const [scale, zero] = [scales[g]!, zeros[g]!];
    let sum = 0;
    for (let i = g * size; i < (g + 1) * size; i++) {
      const code = codeOf(values[i]!, groups, g);
      const rest = fround(values[i]! - fround(fround(code - zero) / scale));
      const outlier = Math.abs(rest) < zeroed ? 0 : shrink(rest, beta, p);
      const kept = fround(values[i]! - outlier);
      sum += fround(code - fround(kept * scale));
      total += Math.abs(rest);
    }
    zeros[g] = sum / size;
  }
  return total / values.length;
}

/** sign(x) max(|x| - |x|^(p-1) / beta, 0): the x of least |x|^p + beta/2 (x - given)^2, nearly. */
function shrink(x: number, beta: number, p: number): number {
  const size = Math.abs(x);
  const left = fround(size - fround((1 / beta) * fround(size ** (p - 1))));
  return left > 0 ? Math.sign(x) * left : 0;
}

function checked(options: HqqOptions): Required<HqqOptions> {
  const { nbits = 4, groupSize: size = 64, optimize = true, lpNorm = 0.7 } = options;
  const { beta = 10, kappa = 1, iters = 20 } = options;
  if (!(Number.isInteger(nbits) && nbits >= 1 && nbits <= 8)) {
    throw new RangeError(`HQQ's nbits must be a whole number from 1 to 8, got ${nbits}`);
  }
  if (!(lpNorm > 0 && lpNorm <= 1 && beta > 0 && kappa > 0)) {
    throw new RangeError(
      `HQQ's lpNorm must be above 0 and at most 1, beta and kappa positive, got ${lpNorm}, ${beta} and ${kappa}`,
    );
  }
  return { nbits, groupSize: size, optimize, lpNorm, beta, kappa, iters };
}
