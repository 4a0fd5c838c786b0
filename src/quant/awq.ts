// AWQ (Lin et al. 2023), as autoawq does it: input channels that carry large activations are scaled up
// before rounding, W -> Q(W s) / s, with the s = x^r / w^(1-r) of least output error among 20 ratios r.
// Left out: moving 1/s into the layer before, and 16-bit arithmetic (this is float32 throughout).
import * as tf from '@tensorflow/tfjs';
import { checkSpan, roundEven } from './gptq-grid.ts';

const { fround } = Math;

/** autoawq's settings, with its defaults. */
export interface AwqOptions {
  /** Bits of a code. Default 4. */
  wBit?: number;
  /** Inputs that share a scale. Default 128; -1 for all. */
  groupSize?: number;
  /** Whether groups have a zero point of their own. Default true. */
  zeroPoint?: boolean;
  /** Whether scales look at the weights too. Default true. */
  duoScaling?: boolean;
  /** Ratios tried, r = i / nGrid. Default 20. */
  nGrid?: number;
  /**
   * Repeats what autoawq does where weights lie on the CPU: the copy that it restores after each ratio
   * is the weight itself, so that from the second ratio on W s_0 is rounded in the place of W. Default
   * false, which is what it does on a GPU.
   */
  asOnCpu?: boolean;
}

/** A rounded matrix [out, in]: values = scales (codes - zeros), groups along the inputs. */
export interface AwqWeight {
  wBit: number;
  groupSize: number;
  shape: [number, number];
  values: Float32Array;
  /** [out, in]; signed where there are no zeros. */
  codes: Int16Array;
  /** [out, groups] */
  scales: Float32Array;
  /** [out, groups]; without zero points undefined. */
  zeros: Float32Array | undefined;
}

/** What the search found. */
export interface AwqScales {
  /** [in], what weights are multiplied with. */
  scales: Float32Array;
  ratio: number;
  /** Mean squared error of the outputs at each ratio. */
  losses: number[];
  /** Mean sizes of activations and of normalized weights, [in]. */
  xMean: Float32Array;
  wMean: Float32Array;
}

/** Rounds a matrix [out, in] by groups; throws if a number is not finite, or groups do not fit. */
export function pseudoQuantize(
  weight: Float32Array,
  shape: readonly [number, number],
  options: AwqOptions = {},
): AwqWeight {
  const { wBit, groupSize: size, zeroPoint } = checked(options, shape[1]);
  if (weight.length === 0 || weight.length !== shape[0] * shape[1]) {
    throw new RangeError(
      `A weight for AWQ must be [${shape}] and not empty, got ${weight.length} numbers`,
    );
  }
  const count = weight.length / size;
  const [values, codes] = [new Float32Array(weight.length), new Int16Array(weight.length)];
  const scales = new Float32Array(count);
  const zeros = new Float32Array(count);
  const [low, high] = zeroPoint ? [0, 2 ** wBit - 1] : [-(2 ** (wBit - 1)), 2 ** (wBit - 1) - 1];
  for (let g = 0; g < count; g++) {
    const [scale, zero] = gridOf(weight.subarray(g * size, (g + 1) * size), zeroPoint, high);
    scales[g] = scale;
    zeros[g] = zero;
    for (let i = g * size; i < (g + 1) * size; i++) {
      const code = roundEven(fround(weight[i]! / scale)) + zero;
      codes[i] = code < low ? low : code > high ? high : code;
      values[i] = (codes[i]! - zero) * scale;
    }
  }
  const common = { wBit, groupSize: size, shape: [shape[0], shape[1]] as [number, number] };
  return { ...common, values, codes, scales, zeros: zeroPoint ? zeros : undefined };
}

/**
 * The scales of least output error for matrices [out, in] that read the same `inputs` [..., in]. The
 * outputs of all matrices are compared, unless `forward` maps their weights to other outputs.
 */
export function searchAwqScales(
  weights: readonly tf.Tensor2D[],
  inputs: tf.Tensor,
  options: AwqOptions = {},
  forward: (weights: tf.Tensor2D[]) => tf.Tensor = (own) => outputs(inputs, own),
): AwqScales {
  const columns = inputs.shape.at(-1)!;
  for (const { shape } of weights) {
    if (shape[1] !== columns) {
      throw new RangeError(
        `Weights must have ${columns} inputs as the activations have, got [${shape}]`,
      );
    }
  }
  const settings = checked(options, columns);
  const dense = weights.map((weight) => Float32Array.from(weight.dataSync()));
  const xMean = activationMeans(inputs, columns);
  const wMean = weightMeans(dense, columns, settings.groupSize);
  const target = tf.tidy(() => forward([...weights]));
  const start = scalesAt(0, xMean, wMean, settings.duoScaling);
  const later = settings.asOnCpu ? dense.map((values) => scaleColumns(values, start)) : dense;
  const losses: number[] = [];
  let best: { scales: Float32Array; ratio: number; loss: number } | undefined;
  for (let i = 0; i < settings.nGrid; i++) {
    const ratio = i / settings.nGrid;
    const scales = scalesAt(ratio, xMean, wMean, settings.duoScaling);
    const loss = tf.tidy(() => {
      const rounded = (i === 0 ? dense : later).map((values, k) => {
        const scaled = quantizeScaled(values, weights[k]!.shape, scales, options);
        return tf.tensor2d(scaled, weights[k]!.shape);
      });
      return tf.mean(tf.square(tf.sub(target, forward(rounded)))).dataSync()[0]!;
    });
    losses.push(loss);
    if (loss < (best?.loss ?? Number.POSITIVE_INFINITY)) best = { scales, ratio, loss };
  }
  target.dispose();
  if (!best) throw new RangeError(`AWQ's losses must be finite for some ratio, got ${losses}`);
  return { scales: best.scales, ratio: best.ratio, losses, xMean, wMean };
}

/** Q(W s) / s: what a layer computes whose scaled weights were rounded. */
export function quantizeScaled(
  weight: Float32Array,
  shape: readonly [number, number],
  scales: Float32Array,
  options: AwqOptions = {},
): Float32Array {
  const scaled = scaleColumns(weight, scales);
  const { values } = pseudoQuantize(scaled, shape, options);
  return values.map((value, i) => value / scales[i % scales.length]!);
}

/** W s: each input's column times its scale. */
export function scaleColumns(weight: Float32Array, scales: Float32Array): Float32Array {
  return weight.map((value, i) => value * scales[i % scales.length]!);
}

/** Settings with their defaults; throws if they make no sense for so many inputs. */
export function checked(options: AwqOptions, columns: number): Required<AwqOptions> {
  const { wBit = 4, groupSize = 128, zeroPoint = true, duoScaling = true, nGrid = 20 } = options;
  const { asOnCpu = false } = options;
  if (!(Number.isInteger(wBit) && wBit >= 2 && wBit <= 8)) {
    throw new RangeError(`AWQ's wBit must be a whole number from 2 to 8, got ${wBit}`);
  }
  const size = groupSize === -1 ? columns : groupSize;
  if (!(Number.isInteger(size) && size > 0 && columns % size === 0)) {
    throw new RangeError(`AWQ's groupSize must divide the ${columns} inputs, got ${groupSize}`);
  }
  return { wBit, groupSize: size, zeroPoint, duoScaling, nGrid, asOnCpu };
}

/** Scale and zero of one group. */
function gridOf(group: Float32Array, zeroPoint: boolean, high: number): [number, number] {
  let [min, max, largest] = [Infinity, -Infinity, 0];
  for (const value of group) {
    if (!Number.isFinite(value))
      throw new RangeError(`A weight for AWQ must be finite, got ${value}`);
    if (value < min) min = value;
    if (value > max) max = value;
    if (Math.abs(value) > largest) largest = Math.abs(value);
  }
  checkSpan(Math.min(min, 0), Math.max(max, 0));
  const least = fround(1e-5);
  if (!zeroPoint) return [fround(Math.max(largest, least) / high), 0];
  const scale = fround(Math.max(fround(max - min), least) / high);
  const zero = -roundEven(fround(min / scale));
  return [scale, zero < 0 ? 0 : zero > high ? high : zero];
}

function outputs(inputs: tf.Tensor, weights: readonly tf.Tensor2D[]): tf.Tensor {
  const flat = tf.reshape(inputs, [-1, inputs.shape.at(-1)!]) as tf.Tensor2D;
  return tf.concat(
    weights.map((weight) => tf.matMul(flat, tf.transpose(weight) as tf.Tensor2D)),
    1,
  );
}

function activationMeans(inputs: tf.Tensor, columns: number): Float32Array {
  const rows = inputs.size / columns;
  if (rows === 0) throw new RangeError('AWQ must have calibration rows, got none');
  const means = tf.tidy(() => tf.mean(tf.abs(tf.reshape(inputs, [-1, columns])), 0).dataSync());
  const odd = means.findIndex((x) => !Number.isFinite(x));
  if (odd >= 0)
    throw new RangeError(`Calibration inputs must be finite, got ${means[odd]} in column ${odd}`);
  return means as Float32Array;
}

/** Mean over all rows of |w| / (the largest |w| of its group + 1e-6). */
function weightMeans(weights: Float32Array[], columns: number, size: number): Float32Array {
  const sums = new Float64Array(columns);
  let rows = 0;
  for (const weight of weights) {
    rows += weight.length / columns;
    for (let begin = 0; begin < weight.length; begin += size) {
      let largest = 0;
      for (let i = begin; i < begin + size; i++) largest = Math.max(largest, Math.abs(weight[i]!));
      const unit = fround(largest + fround(1e-6));
      for (let i = begin; i < begin + size; i++) {
        sums[i % columns]! += fround(Math.abs(weight[i]!) / unit);
      }
    }
  }
  return Float32Array.from(sums, (sum) => sum / rows);
}

/** x^r / (w^(1-r) + 1e-4), at least 1e-4, over the geometric mean of its ends. */
function scalesAt(
  ratio: number,
  xMean: Float32Array,
  wMean: Float32Array,
  duoScaling: boolean,
): Float32Array {
  const raw = xMean.map((x, i) => {
    const top = fround(x ** ratio);
    const scale = duoScaling
      ? fround(top / fround(fround(wMean[i]! ** (1 - ratio)) + fround(1e-4)))
      : top;
    return Math.max(scale, fround(1e-4));
  });
  let [min, max] = [Infinity, 0];
  for (const scale of raw) {
    if (scale < min) min = scale;
    if (scale > max) max = scale;
  }
  const unit = fround(Math.sqrt(fround(max * min)));
  return raw.map((scale) => {
    const own = fround(scale / unit);
    return Number.isFinite(own) ? own : 1;
  });
}
