// Rotary positions (Su et al. 2021): pairs (x_i, x_{i+D/2}) turn by the angle position * theta^(-2i/D).
// Scaling variants with the formulas of transformers' modeling_rope_utils: linear, dynamic (NTK), yarn,
// llama3, longrope. Numbers are rounded to float32 step by step, as they are there.
// Left out: partial rotation, and dynamic's memory of the longest sequence seen before.
import * as tf from '@tensorflow/tfjs';
import { fusedRotary } from '../jit/fused.ts';
import { isTracing } from '../jit/trace.ts';

/** How positions are encoded; the fields of `rope_parameters` in config.json. */
export interface RopeParameters {
  ropeType: string;
  ropeTheta: number;
  factor?: number;
  originalMaxPositionEmbeddings?: number;
  attentionFactor?: number;
  betaFast?: number;
  betaSlow?: number;
  mscale?: number;
  mscaleAllDim?: number;
  truncate?: boolean;
  lowFreqFactor?: number;
  highFreqFactor?: number;
  shortFactor?: number[];
  longFactor?: number[];
}

/** Cosines and sines of each position's angles, both [B or 1, 1, T, D/2]. */
export interface RotaryTables {
  cos: tf.Tensor;
  sin: tf.Tensor;
}

const f32 = Math.fround;

/** The angles of one model's positions. */
export class RotaryEmbedding {
  /** Angle per position of each pair, [D/2]; for dynamic and longrope that of short sequences. */
  readonly invFreq: Float32Array;
  /** What cosines and sines are multiplied with: 1 but for yarn and longrope. */
  readonly attentionScaling: number;
  private readonly rope: RopeParameters;
  private readonly size: number;
  private readonly maxPositions: number;

  /** `size` is the width of a head, `maxPositions` the config's max_position_embeddings. */
  constructor(size: number, maxPositions: number, rope: RopeParameters) {
    if (size % 2 !== 0)
      throw new RangeError(`head_dim must be even for rotary positions, got ${size}`);
    this.size = size;
    this.maxPositions = maxPositions;
    this.rope = rope;
    [this.invFreq, this.attentionScaling] = this.frequencies();
  }

  /** Tables for positions [B or 1, T] int32. */
  tables(positionIds: tf.Tensor): RotaryTables {
    const positions = tf.expandDims(tf.cast(positionIds, 'float32'), 2); // [B, T, 1]
    const angles = tf.expandDims(tf.mul(positions, this.currentInvFreq(positions)), 1);
    const scale = (table: tf.Tensor) =>
      this.attentionScaling === 1 ? table : tf.mul(table, this.attentionScaling);
    return { cos: scale(tf.cos(angles)), sin: scale(tf.sin(angles)) }; // [B, 1, T, D/2]
  }

  /** The frequencies at the length of this sequence, which is read from its positions. */
  private currentInvFreq(positions: tf.Tensor): tf.Tensor {
    const { ropeType, factor = 1, ropeTheta, longFactor } = this.rope;
    if (ropeType === 'dynamic') {
      const length = tf.maximum(tf.add(tf.max(positions), 1), this.maxPositions);
      const stretch = tf.sub(tf.div(tf.mul(length, factor), this.maxPositions), factor - 1);
      const base = tf.mul(tf.pow(stretch, this.size / (this.size - 2)), ropeTheta); // []
      return tf.reciprocal(tf.pow(base, tf.tensor1d(this.exponents()))); // [D/2]
    }
    if (ropeType === 'longrope') {
      const isLong = tf.greater(tf.add(tf.max(positions), 1), this.originalPositions());
      const long = tf.tensor1d(this.stretched(longFactor, 'long_factor'));
      return tf.where(isLong, long, tf.tensor1d(this.invFreq));
    }
    return tf.tensor1d(this.invFreq);
  }

  /** Frequencies and scale at the start, by `ropeType`. */
  private frequencies(): [Float32Array, number] {
    const { ropeType, factor, shortFactor } = this.rope;
    const plain = this.exponents().map((e) => f32(1 / f32(this.rope.ropeTheta ** e)));
    switch (ropeType) {
      case 'default':
      case 'dynamic':
        if (ropeType === 'dynamic') this.need(factor, 'factor');
        return [plain, 1];
      case 'linear':
        return [plain.map((w) => w / this.need(factor, 'factor')), 1];
      case 'llama3':
        return [plain.map((w) => this.llama3(w)), 1];
      case 'yarn':
        return [this.yarn(plain), this.yarnScaling()];
      case 'longrope':
        return [this.stretched(shortFactor, 'short_factor'), this.longropeScaling()];
      default:
        throw new RangeError(
          `rope_type must be 'default', 'linear', 'dynamic', 'yarn', 'longrope' or 'llama3', got '${ropeType}'`,
        );
    }
  }

  /** 2i/D for each pair. */
  private exponents(): Float32Array {
    return Float32Array.from({ length: this.size / 2 }, (_, i) => (2 * i) / this.size);
  }

  /** Long waves are slowed by `factor`, short ones kept, those between blended. */
  private llama3(frequency: number): number {
    const factor = this.need(this.rope.factor, 'factor');
    const low = this.need(this.rope.lowFreqFactor, 'low_freq_factor');
    const high = this.need(this.rope.highFreqFactor, 'high_freq_factor');
    const length = this.originalPositions();
    const wave = f32(f32(2 * Math.PI) / frequency);
    if (wave > length / low) return frequency / factor;
    if (wave < length / high) return frequency;
    const smooth = f32(f32(f32(length / wave) - low) / (high - low));
    return f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency);
  }

  /** Pairs that turn often are kept, those that turn seldom slowed by `factor`, a ramp between. */
  private yarn(plain: Float32Array): Float32Array {
    const { betaFast, betaSlow, truncate = true, ropeTheta } = this.rope;
    const factor = this.stretch();
    const turning = (turns: number) =>
      (this.size * Math.log(this.originalPositions() / (turns * 2 * Math.PI))) /
      (2 * Math.log(ropeTheta));
    const ends = [turning(betaFast || 32), turning(betaSlow || 1)] as const;
    const low = Math.max(truncate ? Math.floor(ends[0]) : ends[0], 0);
    const high = Math.min(truncate ? Math.ceil(ends[1]) : ends[1], this.size - 1);
    const width = low === high ? 0.001 : high - low;
    return plain.map((frequency, i) => {
      const kept = f32(1 - Math.min(Math.max(f32((i - low) / width), 0), 1));
      return f32(f32(frequency / factor) * f32(1 - kept)) + f32(frequency * kept);
    });
  }

  private yarnScaling(): number {
    const { attentionFactor, mscale, mscaleAllDim } = this.rope;
    const factor = this.stretch();
    const scaled = (m: number) => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
    if (attentionFactor !== undefined) return attentionFactor;
    return mscale && mscaleAllDim ? scaled(mscale) / scaled(mscaleAllDim) : scaled(1);
  }

  /** 1 / (factor_i * theta^(2i/D)). */
  private stretched(factors: number[] | undefined, name: string): Float32Array {
    const list = this.need(factors, name);
    if (list.length !== this.size / 2) {
      throw new RangeError(`${name} must hold ${this.size / 2} numbers, got ${list.length}`);
    }
    const { ropeTheta } = this.rope;
    return this.exponents().map((e, i) => f32(1 / f32(f32(list[i]!) * f32(ropeTheta ** e))));
  }

  private longropeScaling(): number {
    if (this.rope.attentionFactor !== undefined) return this.rope.attentionFactor;
    const factor = this.stretch();
    return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(this.originalPositions()));
  }

  private stretch(): number {
    return this.rope.factor ?? this.maxPositions / this.originalPositions();
  }

  private originalPositions(): number {
    return this.rope.originalMaxPositionEmbeddings ?? this.maxPositions;
  }

  private need<T>(value: T | undefined, name: string): T {
    if (value === undefined)
      throw new RangeError(`rope_type '${this.rope.ropeType}' needs ${name}`);
    return value;
  }
}

/** Turns x [B, H, T, D] by the angles of its positions: first half x1, second x2. */
export function applyRotary(x: tf.Tensor4D, { cos, sin }: RotaryTables): tf.Tensor4D {
  if (isTracing()) return fusedRotary(x, cos, sin) as tf.Tensor4D;
  const [x1, x2] = tf.split(x, 2, 3) as [tf.Tensor4D, tf.Tensor4D]; // [B, H, T, D/2]
  const first = tf.sub(tf.mul(x1, cos), tf.mul(x2, sin));
  const second = tf.add(tf.mul(x2, cos), tf.mul(x1, sin));
  return tf.concat([first, second], 3) as tf.Tensor4D; // [B, H, T, D]
}
