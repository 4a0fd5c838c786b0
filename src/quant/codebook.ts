// Codebooks: the numbers in [-1, 1] that codes stand for. NF4 has its levels at the quantiles of a
// normal distribution (QLoRA, arXiv 2305.14314), FP4 is a float of 1 sign, 2 exponent and 1 fraction
// bit, the dynamic map (arXiv 1511.04561) spends leading zeros of 8 bits on the exponent.

/** Levels by their codes, and what it takes to find the code of a number. */
export interface Codebook {
  /** The number of each code. */
  readonly values: Float32Array;
  /** Codes in the order of their values. */
  readonly order: Uint8Array;
  /** Between neighbours in that order; a number at a midpoint takes the lower one. */
  readonly midpoints: Float32Array;
  /** By the upper 16 bits of a float32: how many midpoints are below all numbers with these. */
  readonly below: Uint8Array;
}

/** Names of the 4-bit codebooks. */
export type FourBitType = 'nf4' | 'fp4';

const NF4 = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
  -0.18477343022823334, -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725,
  0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1,
];

/** Twelfths: bitsandbytes' FP4 levels 0.0625 to 12, over the largest. */
const FP4 = [0, 0.0625, 8, 12, 4, 6, 2, 3].map((x) => x / 12);

/** The codebook of a sorted or unsorted list of levels; among equal ones the lower code comes first. */
export function codebook(levels: ArrayLike<number>): Codebook {
  const values = Float32Array.from(levels);
  const order = Uint8Array.from(
    [...values.keys()].sort((a, b) => values[a]! - values[b]! || a - b),
  );
  const midpoints = new Float32Array(values.length - 1);
  for (let i = 0; i < midpoints.length; i++) {
    midpoints[i] = Math.fround(values[order[i]!]! + values[order[i + 1]!]!) / 2;
  }
  let below: Uint8Array | undefined;
  return {
    values,
    order,
    midpoints,
    get below() {
      below ??= countBelow(midpoints);
      return below;
    },
  };
}

function countBelow(midpoints: Float32Array): Uint8Array {
  const below = new Uint8Array(65536);
  const number = new Float32Array(1);
  const bits = new Uint32Array(number.buffer);
  for (let upper = 0; upper < below.length; upper++) {
    // The lowest number with these bits: the one nearest to 0, or farthest from it if negative.
    bits[0] = ((upper << 16) | (upper & 0x8000 ? 0xffff : 0)) >>> 0;
    const count = midpoints.findIndex((midpoint) => !(midpoint < number[0]!));
    below[upper] = count < 0 ? midpoints.length : count;
  }
  return below;
}

const FOUR_BIT = {
  nf4: codebook(NF4),
  fp4: codebook([...FP4, ...FP4.map((x) => 0 - x)]),
};

/** The 16 levels of a 4-bit type; throws if there is none of that name. */
export function getFourBitType(quantType: FourBitType): Codebook {
  if (!Object.hasOwn(FOUR_BIT, quantType)) {
    throw new RangeError(`quantType must be 'nf4' or 'fp4', got '${quantType}'`);
  }
  return FOUR_BIT[quantType];
}

/** 256 levels: for e = 0..6, 10^(e-6) times the means of 2^e (unsigned 2^(e+1)) steps of [0.1, 1]. */
export function createDynamicMap(signed = true): Float32Array {
  const levels = [0, 1];
  for (let e = 0; e < 7; e++) {
    const steps = 2 ** (signed ? e : e + 1);
    const bounds = linspace(0.1, 1, steps + 1);
    const power = Math.fround(10 ** (e - 6));
    for (let i = 0; i < steps; i++) {
      const mean = Math.fround(Math.fround(bounds[i]! + bounds[i + 1]!) / 2);
      levels.push(Math.fround(power * mean));
      if (signed) levels.push(-Math.fround(power * mean));
    }
  }
  return Float32Array.from(levels).sort();
}

/** torch.linspace in float32: from the start up to the middle, from the end after it. */
function linspace(start: number, end: number, count: number): Float32Array {
  const first = Math.fround(start);
  const step = Math.fround(Math.fround(end - first) / (count - 1));
  return Float32Array.from({ length: count }, (_, i) =>
    i < count / 2 ? first + step * i : end - step * (count - 1 - i),
  );
}

/** bitsandbytes' default 8-bit codebook: the signed dynamic map, 0 at code 127. */
export const DYNAMIC_MAP: Codebook = codebook(createDynamicMap());
