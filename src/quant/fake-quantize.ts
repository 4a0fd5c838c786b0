// Fake quantization: x rounded to a format and back, in float32, within a graph. The gradient goes straight
// through (arXiv 1308.3432): dx = dy, and 0 where a fixed grid cuts x off, as torch.fake_quantize has it.
// The numbers are those of quantizeInteger and quantize4bit. Left out: learnt scales (LSQ).
import * as tf from '@tensorflow/tfjs';
import { type FourBitType, getFourBitType } from './codebook.ts';
import {
  checkInteger,
  groupSize,
  type IntegerGrid,
  type IntegerOptions,
  integerLimits,
} from './integer.ts';

/** Blocks of 4-bit levels, as bitsandbytes has them: `blocksize` (default 64) numbers a scale. */
export interface FourBitFormat {
  quantType: FourBitType;
  blocksize?: number;
}

/** What numbers are rounded to: integers with scales of their own, a fixed grid, or 4-bit levels. */
export type QuantFormat = IntegerOptions | IntegerGrid | FourBitFormat;

/** x rounded to the format, in its shape; the gradient passes straight through. */
export function fakeQuantize(x: tf.Tensor, format: QuantFormat): tf.Tensor {
  const round = rounding(format, x.shape);
  return tf.customGrad((...args) => {
    const [input, save] = args as [tf.Tensor, tf.GradSaveFunc];
    const value = tf.tidy(() => round(input));
    if (!('low' in format)) return { value, gradFunc: (dy: tf.Tensor) => tf.clone(dy) };
    save([input]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => straightThrough(dy, saved[0]!, format);
    return { value, gradFunc };
  })(x);
}

function rounding(format: QuantFormat, shape: number[]): (x: tf.Tensor) => tf.Tensor {
  if ('low' in format) return (x) => onGrid(x, format);
  if ('quantType' in format) {
    const { blocksize = 64 } = format;
    getFourBitType(format.quantType);
    return (x) => toLevels(x, format.quantType, blocksize);
  }
  const { bits, scheme } = checkInteger(format);
  const size = groupSize(shape, format.granularity ?? 'channel');
  return (x) => toIntegers(tf.reshape(x, [-1, size]), bits, scheme).reshape(shape);
}

/** Rows of a matrix to integers and back, each with a scale of its own. */
function toIntegers(rows: tf.Tensor, bits: number, scheme: 'absmax' | 'zeropoint'): tf.Tensor {
  const [low, high] = integerLimits(bits, scheme);
  const one = (scale: tf.Tensor) => tf.where(tf.greater(scale, 0), scale, tf.onesLike(scale));
  if (scheme === 'absmax') {
    const scale = one(tf.div(tf.max(tf.abs(rows), 1, true), high)); // [G, 1]
    const codes = tf.round(tf.mul(rows, tf.div(1, scale)));
    return tf.mul(tf.clipByValue(codes, low, high), scale);
  }
  const lowest = tf.minimum(tf.min(rows, 1, true), 0); // [G, 1]
  const highest = tf.maximum(tf.max(rows, 1, true), 0);
  const scale = one(tf.div(tf.sub(highest, lowest), high));
  const zero = tf.neg(tf.round(tf.div(lowest, scale)));
  const codes = tf.add(tf.round(tf.mul(rows, tf.div(1, scale))), zero);
  return tf.mul(tf.sub(tf.clipByValue(codes, low, high), zero), scale);
}

/** x on one fixed grid. */
function onGrid(x: tf.Tensor, { scale, zero, low, high }: IntegerGrid): tf.Tensor {
  const codes = tf.round(tf.mul(x, Math.fround(1 / scale)));
  return tf.mul(tf.clipByValue(codes, low - zero, high - zero), scale);
}

function straightThrough(dy: tf.Tensor, x: tf.Tensor, grid: IntegerGrid): tf.Tensor {
  return tf.tidy(() => {
    const codes = tf.round(tf.mul(x, Math.fround(1 / grid.scale)));
    const isLow = tf.greaterEqual(codes, grid.low - grid.zero);
    const isHigh = tf.lessEqual(codes, grid.high - grid.zero);
    return tf.mul(dy, tf.cast(tf.logicalAnd(isLow, isHigh), 'float32'));
  });
}

/** The nearest of 16 levels times the absmax of each block, blocks running over all of x. */
function toLevels(x: tf.Tensor, quantType: FourBitType, blocksize: number): tf.Tensor {
  const { values, order, midpoints } = getFourBitType(quantType);
  const blocks = Math.ceil(x.size / blocksize);
  const flat = tf.reshape(x, [-1]);
  const padded = tf.pad(flat, [[0, blocks * blocksize - x.size]]).reshape([blocks, blocksize]);
  const absmax = tf.max(tf.abs(padded), 1, true); // [blocks, 1]
  const scaled = tf.mul(padded, tf.div(1, tf.maximum(absmax, 1e-38)));
  let rank: tf.Tensor = tf.zerosLike(scaled);
  for (const midpoint of midpoints) {
    rank = tf.add(rank, tf.cast(tf.greater(scaled, midpoint), 'float32'));
  }
  const levels = tf.tensor1d(Array.from(order, (code) => values[code]!));
  const chosen = tf.gather(levels, tf.reshape(tf.cast(rank, 'int32'), [-1])); // [blocks * blocksize]
  const scaledBack = tf.mul(tf.reshape(chosen, [blocks, blocksize]), absmax);
  return tf.reshape(tf.slice(tf.reshape(scaledBack, [-1]), [0], [x.size]), x.shape);
}
