// AWQ's clipping: of ten limits m (1 - k/20), k = 0..9, for the largest weight m of each group, the one
// whose rounded group gives the least squared error of its part of the outputs (autoawq).
// Left out: the list of layers that autoawq does not clip, which is q and k.
import { type AwqOptions, checked, pseudoQuantize } from './awq.ts';

/** How limits are searched. */
export interface ClipOptions extends AwqOptions {
  /** Steps of a whole shrink. Default 20. */
  nGrid?: number;
  /** The largest part that is cut off. Default 0.5. */
  maxShrink?: number;
  /** Rows looked at, at most about so many. Default 512. */
  nSampleToken?: number;
}

/**
 * Limits [out, groups] for weights [out, in] (already scaled) and their inputs [rows, in].
 */
export function searchAwqClip(
  weight: Float32Array,
  shape: readonly [number, number],
  inputs: Float32Array,
  { nGrid = 20, maxShrink = 0.5, nSampleToken = 512, ...options }: ClipOptions = {},
): Float32Array {
  const [rows, columns] = shape;
  const { groupSize: size } = checked(options, columns);
  if (inputs.length === 0 || inputs.length % columns !== 0) {
    throw new RangeError(
      `AWQ's inputs must be rows of ${columns} numbers, got ${inputs.length} in all`,
    );
  }
  const odd = inputs.find((value) => value - value !== 0);
  if (odd !== undefined) throw new RangeError(`AWQ's inputs must be finite, got ${odd}`);
  const samples = sampled(inputs, columns, nSampleToken);
  const groups = columns / size;
  const limits = new Float32Array(rows * groups);
  for (let at = 0; at < rows * groups; at++) {
    const group = weight.subarray(at * size, (at + 1) * size);
    const begin = (at % groups) * size;
    limits[at] = bestLimit(group, samples, begin, Math.floor(maxShrink * nGrid), nGrid, options);
  }
  return limits;
}

/** Weights held within their groups' limits. */
export function applyAwqClip(weight: Float32Array, limits: Float32Array): Float32Array {
  const size = weight.length / limits.length;
  if (!Number.isInteger(size) || size === 0) {
    throw new RangeError(`${limits.length} limits do not divide ${weight.length} weights`);
  }
  return weight.map((value, i) => {
    const limit = limits[Math.floor(i / size)]!;
    return value < -limit ? -limit : value > limit ? limit : value;
  });
}

/** Every k-th row, so that at most about `count` are left. */
function sampled(inputs: Float32Array, columns: number, count: number): Float32Array[] {
  const rows = inputs.length / columns;
  const step = Math.max(1, Math.floor(rows / count));
  return Array.from({ length: Math.ceil(rows / step) }, (_, i) =>
    inputs.subarray(i * step * columns, (i * step + 1) * columns),
  );
}

function bestLimit(
  group: Float32Array,
  samples: Float32Array[],
  begin: number,
  steps: number,
  nGrid: number,
  options: AwqOptions,
): number {
  const size = group.length;
  const largest = group.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  let best = largest;
  let least = 1e9;
  for (let step = 0; step < steps; step++) {
    const limit = Math.fround(largest * Math.fround(1 - step / nGrid));
    const clipped = group.map((value) => Math.max(-limit, Math.min(limit, value)));
    const { values } = pseudoQuantize(clipped, [1, size], { ...options, groupSize: size });
    const lost = values.map((value, i) => value - group[i]!);
    let sum = 0;
    for (const row of samples) {
      let output = 0;
      for (let i = 0; i < size; i++) output += row[begin + i]! * lost[i]!;
      sum += output * output;
    }
    const error = sum / samples.length;
    if (error < least) [least, best] = [error, limit];
  }
  return best;
}
