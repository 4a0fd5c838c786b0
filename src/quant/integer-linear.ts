// IntegerLinear: y = Q(x) W^T + b with W in integers of 2 to 8 bits, and x rounded to a grid of its own if it
// has one: what post-training quantization and quantization-aware training end with. In memory up to 4
// bits take half a byte, more a byte; scales and zero points are float32.
import * as tf from '@tensorflow/tfjs';
import { isTracing } from '../jit/trace.ts';
import { Module } from '../nn/module.ts';
import { fakeQuantize } from './fake-quantize.ts';
import {
  dequantizeInteger,
  type IntegerGrid,
  type IntegerOptions,
  type IntegerTensor,
  quantizeInteger,
} from './integer.ts';
import { constant, PackedBytes } from './packed-bytes.ts';

/** How activations are rounded: a fixed grid, or one for each tensor or row as it comes. */
export type ActivationFormat = IntegerGrid | IntegerOptions;

/** A linear layer whose weight [out, in] is integers; only its bias is a parameter. */
export class IntegerLinear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly activation: ActivationFormat | undefined;
  bias: tf.Tensor | undefined;
  private readonly packed: PackedBytes;
  /** In an object, since they are no parameters. */
  private readonly grids: { scales: tf.Variable; zeros: tf.Variable | undefined };
  private readonly fields: Pick<IntegerTensor, 'bits' | 'scheme' | 'shape' | 'size'>;

  /** Takes over `bias`; throws unless the weight has two dimensions. */
  constructor(weight: IntegerTensor, bias?: tf.Tensor, activation?: ActivationFormat) {
    super();
    const { bits, scheme, shape, size, codes, scales, zeros } = weight;
    if (shape.length !== 2) {
      throw new RangeError(`IntegerLinear needs a weight of 2 dimensions, got shape [${shape}]`);
    }
    [this.outFeatures, this.inFeatures] = shape as [number, number];
    this.fields = { bits, scheme, shape, size };
    this.packed = new PackedBytes(toBytes(codes, bits, offsetOf(weight)));
    const own = (values: Float32Array) => constant(tf.tensor1d(values));
    this.grids = { scales: own(scales), zeros: zeros && own(Float32Array.from(zeros)) };
    this.bias = bias;
    this.activation = activation;
  }

  /** x [..., in] to [..., out]; the gradient goes to x and b, never to W. */
  forward(x: tf.Tensor): tf.Tensor {
    const rounded = this.activation ? fakeQuantize(x, this.activation) : x;
    const rows = tf.reshape(rounded, [-1, this.inFeatures]); // [N, in]
    const product = tf.customGrad((...args) => {
      const [input] = args as tf.Tensor[];
      const value = tf.tidy(() => tf.matMul(input!, this.dequantize(), false, true)); // [N, out]
      const gradFunc = (dy: tf.Tensor) => tf.tidy(() => tf.matMul(dy, this.dequantize(dy)));
      return { value, gradFunc };
    });
    const y = product(rows);
    const shape = [...x.shape.slice(0, -1), this.outFeatures];
    return tf.reshape(this.bias ? tf.add(y, this.bias) : y, shape);
  }

  /** W [out, in] in float32; `after` as in Linear4bit. */
  dequantize(after?: tf.Tensor): tf.Tensor {
    if (!isTracing()) return tf.tensor(dequantizeInteger(this.state()), this.fields.shape);
    return tf.tidy(() => {
      const { scales, zeros } = this.grids;
      const codes = tf.sub(this.codes(after), offsetOf(this.fields)); // [n]
      const groups = tf.reshape(codes, [-1, this.fields.size]); // [groups, size]
      const centred = zeros ? tf.sub(groups, tf.reshape(zeros, [-1, 1])) : groups;
      return tf.reshape(tf.mul(centred, tf.reshape(scales, [-1, 1])), this.fields.shape);
    });
  }

  /** What `quantizeInteger` gave. */
  state(): IntegerTensor {
    const { scales, zeros } = this.grids;
    const count = this.inFeatures * this.outFeatures;
    const codes = fromBytes(this.packed.bytes(), count, this.fields.bits, offsetOf(this.fields));
    return {
      ...this.fields,
      codes: this.fields.scheme === 'absmax' ? Int8Array.from(codes) : Uint8Array.from(codes),
      scales: Float32Array.from(scales.dataSync()),
      zeros: zeros && Uint8Array.from(zeros.dataSync()),
    };
  }

  /** A layer with another weight [out, in] in the same format, and this one's bias. */
  requantize(weight: tf.Tensor): IntegerLinear {
    const { bits, scheme, shape, size } = this.fields;
    const values = weight.dataSync() as Float32Array;
    const granularity = size === values.length ? 'tensor' : size;
    const next = quantizeInteger(values, shape, { bits, scheme, granularity });
    return new IntegerLinear(next, this.bias, this.activation);
  }

  /** Bytes that the weight and its grids take in memory. */
  get bytes(): number {
    const { scales, zeros } = this.grids;
    return this.packed.size + 4 * (scales.size + (zeros?.size ?? 0));
  }

  override dispose(): void {
    tf.dispose([this.packed.tensor, this.grids.scales]);
    this.grids.zeros?.dispose();
    this.bias?.dispose();
  }

  /** The bytes' codes as float32 [n], from 0. */
  private codes(after: tf.Tensor | undefined): tf.Tensor {
    const bytes = tf.slice(this.packed.unpack(after), [0], [this.packed.size]);
    const count = this.inFeatures * this.outFeatures;
    if (this.fields.bits > 4) return tf.cast(bytes, 'float32');
    const high = tf.floorDiv(bytes, tf.scalar(16, 'int32'));
    const low = tf.sub(bytes, tf.mul(high, tf.scalar(16, 'int32')));
    const pairs = tf.reshape(tf.stack([high, low], 1), [-1]); // [2 bytes]
    return tf.cast(tf.slice(pairs, [0], [count]), 'float32');
  }
}

/** What makes signed codes positive. */
const offsetOf = ({ scheme, bits }: Pick<IntegerTensor, 'bits' | 'scheme'>) =>
  scheme === 'absmax' ? 2 ** (bits - 1) : 0;

/** Codes plus `offset`, two a byte where they have at most 4 bits, the first in the high half. */
function toBytes(codes: ArrayLike<number>, bits: number, offset: number): Uint8Array {
  if (bits > 4) return Uint8Array.from(codes, (code) => code + offset);
  const at = (i: number) => (i < codes.length ? codes[i]! + offset : 0);
  const count = Math.ceil(codes.length / 2);
  return Uint8Array.from({ length: count }, (_, i) => (at(2 * i) << 4) | at(2 * i + 1));
}

function fromBytes(bytes: Uint8Array, count: number, bits: number, offset: number): number[] {
  if (bits > 4) return Array.from(bytes, (byte) => byte - offset);
  return Array.from({ length: count }, (_, i) => {
    const byte = bytes[i >> 1]!;
    return (i % 2 === 0 ? byte >> 4 : byte & 15) - offset;
  });
}
