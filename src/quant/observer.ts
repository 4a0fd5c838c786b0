// Observers choose an activation's grid from what they saw (calibration): its whole range, the range of
// most numbers, or the one of least squared error. Numbers are counted by the upper 16 bits of their
// float32 (sign, exponent, 7 bits of fraction), so that order and batches change nothing.
import type * as tf from '@tensorflow/tfjs';
import { checkInteger, type IntegerGrid, type IntegerScheme, integerGrid } from './integer.ts';

/** How an observer chooses: 'min-max', 'percentile' or 'mse'. */
export type CalibrationMethod = 'min-max' | 'percentile' | 'mse';

/** How an activation is watched and quantized. */
export interface ObserverOptions {
  /** Default 'min-max'. */
  method?: CalibrationMethod;
  /** Percentage of the sizes |x| that are within the range, with 'percentile'. Default 99.9. */
  percentile?: number;
  /** Default 8. */
  bits?: number;
  /** Default 'zeropoint', since activations are seldom even about 0. */
  scheme?: IntegerScheme;
}

/** Ranges that 'mse' tries: k/100 of the whole, k = 1..100. */
const TRIES = 100;

/** Sees numbers and tells a grid for them. */
export class Observer {
  readonly method: CalibrationMethod;
  private readonly percentile: number;
  private readonly format: { bits: number; scheme: IntegerScheme };
  private readonly counts = new Float64Array(65536);
  private min = Infinity;
  private max = -Infinity;
  /** Numbers seen. */
  count = 0;

  constructor(options: ObserverOptions = {}) {
    const { method = 'min-max', percentile = 99.9, bits = 8, scheme = 'zeropoint' } = options;
    if (!['min-max', 'percentile', 'mse'].includes(method)) {
      throw new RangeError(`method must be 'min-max', 'percentile' or 'mse', got '${method}'`);
    }
    if (!(percentile > 0 && percentile <= 100)) {
      throw new RangeError(`percentile must be above 0 and at most 100, got ${percentile}`);
    }
    this.method = method;
    this.percentile = percentile;
    this.format = checkInteger({ bits, scheme });
  }

  /** Counts the numbers of a tensor; throws if one is NaN or infinite. */
  observe(x: tf.Tensor): void {
    const values = Float32Array.from(x.dataSync());
    const bits = new Uint32Array(values.buffer);
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (value - value !== 0) {
        throw new RangeError(`Activations to calibrate with must be finite, got ${value} at ${i}`);
      }
      this.counts[bits[i]! >>> 16]!++;
      if (value < this.min) this.min = value;
      if (value > this.max) this.max = value;
    }
    this.count += values.length;
  }

  /** The range that the grid is to cover; numbers beyond it are cut off. */
  range(): [number, number] {
    if (this.count === 0) throw new RangeError('An observer must have seen numbers, got none');
    if (this.method === 'percentile') return this.within(this.limit());
    return this.method === 'mse' ? this.ofLeastError() : [this.min, this.max];
  }

  /** The grid of that range. */
  grid(): IntegerGrid {
    return integerGrid(...this.range(), this.format);
  }

  /** The range, cut to sizes up to `limit`. */
  private within(limit: number): [number, number] {
    return [Math.max(this.min, -limit), Math.min(this.max, limit)];
  }

  /** The size that so many percent of all numbers do not exceed. */
  private limit(): number {
    const wanted = (this.percentile / 100) * this.count;
    let seen = 0;
    for (let size = 0; size < 0x8000; size++) {
      seen += this.counts[size]! + this.counts[size | 0x8000]!;
      if (seen >= wanted) return upperEnd(size);
    }
    return Infinity;
  }

  private ofLeastError(): [number, number] {
    const seen: [number, number][] = [];
    for (const [bin, count] of this.counts.entries()) {
      if (count > 0) seen.push([middle(bin), count]);
    }
    let best: [number, number] = [this.min, this.max];
    let least = Infinity;
    for (let k = TRIES; k > 0; k--) {
      const range: [number, number] = [(this.min * k) / TRIES, (this.max * k) / TRIES];
      const grid = integerGrid(...range, this.format);
      let error = 0;
      for (const [x, count] of seen) error += count * (x - nearest(x, grid)) ** 2;
      if (error < least) [least, best] = [error, range];
    }
    return best;
  }
}

/** x on its grid. */
function nearest(x: number, { scale, zero, low, high }: IntegerGrid): number {
  return scale * (Math.min(high, Math.max(low, Math.round(x / scale) + zero)) - zero);
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The middle of the numbers with these upper bits. */
function middle(bin: number): number {
  word[0] = ((bin << 16) | 0x8000) >>> 0;
  return float[0]!;
}

/** The largest size with these upper bits. */
function upperEnd(bin: number): number {
  word[0] = ((bin << 16) | 0xffff) >>> 0;
  return float[0]!;
}
