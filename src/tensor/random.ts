// The seeded generator that every draw goes through: MT19937 with the streams of numpy's RandomState,
// so that a seed gives the same numbers there (Matsumoto & Nishimura 1998; normal by Marsaglia's
// polar method). Left out: other distributions and numpy's newer Generator.
import * as tf from '@tensorflow/tfjs';

const N = 624;
const M = 397;

/** Seeded random numbers; `new RandomState(42)` draws what `numpy.random.RandomState(42)` draws. */
export class RandomState {
  private readonly state = new Uint32Array(N);
  private at = N;
  private spare: number | undefined;

  /** `seed` is an integer from 0 to 2^32 - 1; a RangeError otherwise. */
  constructor(seed: number) {
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
      throw new RangeError(`RandomState seed must be an integer from 0 to 2^32 - 1, got ${seed}`);
    }
    this.state[0] = seed;
    for (let i = 1; i < N; i++) {
      const before = this.state[i - 1]!;
      this.state[i] = Math.imul(1812433253, before ^ (before >>> 30)) + i;
    }
  }

  /** Uniform in [0, 1), with 53 random bits. */
  random(): number {
    const high = this.bits() >>> 5;
    const low = this.bits() >>> 6;
    return (high * 2 ** 26 + low) / 2 ** 53;
  }

  /** Uniform in [low, high). Default [0, 1). */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * this.random();
  }

  /** Gaussian with mean `loc` and standard deviation `scale`. Default 0 and 1. */
  normal(loc = 0, scale = 1): number {
    if (this.spare !== undefined) {
      const value = loc + scale * this.spare;
      this.spare = undefined;
      return value;
    }
    for (;;) {
      const x = 2 * this.random() - 1;
      const y = 2 * this.random() - 1;
      const square = x * x + y * y;
      if (square >= 1 || square === 0) continue;
      const factor = Math.sqrt((-2 * Math.log(square)) / square);
      this.spare = factor * x;
      return loc + scale * factor * y;
    }
  }

  /** Whole number in [low, high); with one argument in [0, low). The range holds at most 2^32. */
  randint(low: number, high?: number): number {
    const [from, to] = high === undefined ? [0, low] : [low, high];
    if (!Number.isInteger(from) || !Number.isInteger(to) || to <= from || to - from > 2 ** 32) {
      throw new RangeError(`randint needs whole numbers low < high, got ${from} and ${to}`);
    }
    return from + this.atMost(to - from - 1);
  }

  /** The items in a new random order; the given list stays as it is. */
  permutation<T>(items: Iterable<T>): T[] {
    const list = [...items];
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.atMost(i);
      [list[i], list[j]] = [list[j]!, list[i]!];
    }
    return list;
  }

  /** One item; a RangeError if there is none. */
  choice<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('choice needs at least one item, got none');
    return items[this.randint(items.length)]!;
  }

  /** Whole number in [0, max], by drawing as many bits as `max` has until one fits. */
  private atMost(max: number): number {
    if (max === 0) return 0;
    const mask = 0xffffffff >>> Math.clz32(max);
    for (;;) {
      const value = (this.bits() & mask) >>> 0;
      if (value <= max) return value;
    }
  }

  /** The next 32 bits of MT19937. */
  private bits(): number {
    if (this.at === N) this.twist();
    let y = this.state[this.at++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  private twist(): void {
    const { state } = this;
    const turn = (i: number, next: number, far: number) => {
      const y = (state[i]! & 0x80000000) | (state[next]! & 0x7fffffff);
      state[i] = state[far]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    };
    for (let i = 0; i < N - M; i++) turn(i, i + 1, i + M);
    for (let i = N - M; i < N - 1; i++) turn(i, i + 1, i + M - N);
    turn(N - 1, 0, M - 1);
    this.at = 0;
  }
}

/** Tensor of `shape` with entries drawn uniformly from [low, high). Default [0, 1). */
export function randomUniform<R extends tf.Rank>(
  shape: tf.ShapeMap[R],
  random: RandomState,
  { low = 0, high = 1 } = {},
): tf.Tensor<R> {
  return filled(shape, () => random.uniform(low, high));
}

/** Tensor of `shape` with Gaussian entries of mean `mean` and deviation `std`. Default 0 and 1. */
export function randomNormal<R extends tf.Rank>(
  shape: tf.ShapeMap[R],
  random: RandomState,
  { mean = 0, std = 1 } = {},
): tf.Tensor<R> {
  return filled(shape, () => random.normal(mean, std));
}

function filled<R extends tf.Rank>(shape: tf.ShapeMap[R], draw: () => number): tf.Tensor<R> {
  return tf.tensor(drawn(tf.util.sizeFromShape(shape), draw), shape);
}

/** `count` draws one after another; `Float32Array.from` takes several times as long. */
export function drawn(count: number, draw: () => number): Float32Array {
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = draw();
  return values;
}
