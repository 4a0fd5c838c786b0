// Integer grids: x = scale (q - zero) with whole numbers q of so many bits. Absmax: zero = 0, scale =
// max|x| / (2^(bits-1) - 1). Zero point: scale = (max - min) / (2^bits - 1), zero = -round(min / scale), with
// 0 among the numbers, as torch.ao's observers have it (arXiv 1712.05877). Left out: torch's least scale.
import { checkSpan, roundEven } from './gptq-grid.ts';

const { fround } = Math;

/** Scales below float32's normal numbers have no inverse; such groups count as zeros. */
const LEAST_SCALE = 1.2e-38;

/** 'absmax' (symmetric) or 'zeropoint' (asymmetric). */
export type IntegerScheme = 'absmax' | 'zeropoint';

/** What shares a scale: the tensor, each row of its last dimension, or so many numbers of a row. */
export type Granularity = 'tensor' | 'channel' | number;

/** How numbers become integers. */
export interface IntegerOptions {
  /** 2 to 8. Default 8. */
  bits?: number;
  /** Default 'absmax'. */
  scheme?: IntegerScheme;
  /** Default 'channel'. */
  granularity?: Granularity;
}

/** A grid: x = scale (q - zero), q from `low` to `high`. */
export interface IntegerGrid {
  scale: number;
  zero: number;
  low: number;
  high: number;
}

/** A quantized tensor; `size` numbers after one another share a scale. */
export interface IntegerTensor {
  bits: number;
  scheme: IntegerScheme;
  shape: number[];
  size: number;
  /** One a number: signed with absmax, from 0 with zero points. */
  codes: Int8Array | Uint8Array;
  /** [numbers / size] */
  scales: Float32Array;
  /** [numbers / size]; undefined with absmax. */
  zeros: Uint8Array | undefined;
}

/** Quantizes finite numbers in `shape`; throws on an empty tensor, or one that groups do not fit. */
export function quantizeInteger(
  values: Float32Array,
  shape: readonly number[],
  options: IntegerOptions = {},
): IntegerTensor {
  const { bits, scheme } = checkInteger(options);
  const size = groupSize(shape, options.granularity ?? 'channel', values.length);
  const groups = values.length / size;
  const codes = new (scheme === 'absmax' ? Int8Array : Uint8Array)(values.length);
  const [scales, zeros] = [new Float32Array(groups), new Uint8Array(groups)];
  for (let g = 0; g < groups; g++) {
    const [min, max] = rangeOf(values, g * size, (g + 1) * size);
    const grid = integerGrid(min, max, { bits, scheme });
    scales[g] = grid.scale;
    zeros[g] = grid.zero;
    const inverse = fround(1 / grid.scale);
    for (let i = g * size; i < (g + 1) * size; i++) {
      const code = roundEven(fround(values[i]! * inverse)) + grid.zero;
      codes[i] = code < grid.low ? grid.low : code > grid.high ? grid.high : code;
    }
  }
  const common = { bits, scheme, shape: [...shape], size, codes, scales };
  return { ...common, zeros: scheme === 'absmax' ? undefined : zeros };
}

/** x = scale (q - zero), in float32. */
export function dequantizeInteger({ codes, size, scales, zeros }: IntegerTensor): Float32Array {
  const values = new Float32Array(codes.length);
  for (let g = 0, i = 0; g < scales.length; g++) {
    const [scale, zero] = [scales[g]!, zeros ? zeros[g]! : 0];
    for (const end = i + size; i < end; i++) values[i] = scale * (codes[i]! - zero);
  }
  return values;
}

/** Bytes of a packed tensor: codes of `bits`, scales of 32, zero points of `bits`. */
export function integerBytes({ codes, bits, scales, zeros }: IntegerTensor): number {
  return Math.ceil((codes.length * bits) / 8) + 4 * scales.length + zeroBytes(zeros, bits);
}

const zeroBytes = (zeros: Uint8Array | undefined, bits: number) =>
  zeros ? Math.ceil((zeros.length * bits) / 8) : 0;

/** The grid of numbers from `min` to `max`; 0 is on it, and if all are 0 its scale is 1. */
export function integerGrid(
  min: number,
  max: number,
  options: Pick<IntegerOptions, 'bits' | 'scheme'> = {},
): IntegerGrid {
  const { bits, scheme } = checkInteger(options);
  checkSpan(min, max);
  const [low, high] = integerLimits(bits, scheme);
  if (scheme === 'absmax') {
    const scale = fround(Math.max(-min, max, 0) / high);
    return { scale: scale < LEAST_SCALE ? 1 : scale, zero: 0, low, high };
  }
  const lowest = Math.min(min, 0);
  const scale = fround(fround(Math.max(max, 0) - lowest) / high);
  if (scale < LEAST_SCALE) return { scale: 1, zero: 0, low, high };
  const zero = -roundEven(fround(lowest / scale));
  return { scale, zero: Math.min(high, zero + 0), low, high };
}

/** The lowest and the highest code. */
export function integerLimits(bits: number, scheme: IntegerScheme): [number, number] {
  const half = 2 ** (bits - 1) - 1;
  return scheme === 'absmax' ? [-half, half] : [0, 2 ** bits - 1];
}

/** How many numbers of a tensor share a scale; throws if that does not divide its rows. */
export function groupSize(
  shape: readonly number[],
  granularity: Granularity,
  count: number = shape.reduce((product, size) => product * size, 1),
): number {
  if (count === 0) throw new RangeError('A tensor to quantize must not be empty');
  if (shape.reduce((product, size) => product * size, 1) !== count) {
    throw new RangeError(`A tensor of shape [${shape}] can't have ${count} numbers`);
  }
  const columns = shape.at(-1) ?? 1;
  if (granularity === 'tensor') return count;
  if (granularity === 'channel') return columns;
  if (Number.isInteger(granularity) && granularity > 0 && columns % granularity === 0) {
    return granularity;
  }
  throw new RangeError(
    `granularity must be 'tensor', 'channel' or a size that divides rows of ${columns}, got ${granularity}`,
  );
}

/** Options with their defaults; throws if there is no such grid. */
export function checkInteger(options: Pick<IntegerOptions, 'bits' | 'scheme'>): {
  bits: number;
  scheme: IntegerScheme;
} {
  const { bits = 8, scheme = 'absmax' } = options;
  if (!(Number.isInteger(bits) && bits >= 2 && bits <= 8)) {
    throw new RangeError(`bits must be a whole number from 2 to 8, got ${bits}`);
  }
  if (scheme !== 'absmax' && scheme !== 'zeropoint') {
    throw new RangeError(`scheme must be 'absmax' or 'zeropoint', got '${scheme}'`);
  }
  return { bits, scheme };
}

/** The lowest and the highest of numbers begin..end-1; throws if one is not finite. */
export function rangeOf(
  values: Float32Array,
  begin = 0,
  end: number = values.length,
): [number, number] {
  let [min, max] = [Infinity, -Infinity];
  for (let i = begin; i < end; i++) {
    const value = values[i]!;
    if (value - value !== 0) {
      throw new RangeError(`Numbers to quantize must be finite, got ${value} at ${i}`);
    }
    if (value < min) min = value;
    if (value > max) max = value;
  }
  return [min, max];
}
