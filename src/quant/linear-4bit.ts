// Linear4bit: y = x dequantize(W)^T + b with W packed in 4 bits, as bitsandbytes' layer (QLoRA).
// Forward and backward unpack W anew, so that its float32 numbers live for one product only.
// Left out: in graphs, the rounding of unpacked numbers to the 16 bits that W once had.
import * as tf from '@tensorflow/tfjs';
import { fusedMatMul4bit, type Matrix4bit } from '../jit/fused.ts';
import { isTracing } from '../jit/trace.ts';
import { Module } from '../nn/module.ts';
import { getFourBitType } from './codebook.ts';
import { type FourBit, type FourBitOptions, quantize4bit, unpack4bit } from './four-bit.ts';
import { constant, firstOf, PackedBytes } from './packed-bytes.ts';
import { QuantState, type QuantStateFields } from './quant-state.ts';

/** A linear layer whose weight [out, in] is packed; only its bias is a parameter of torch's kind. */
export class Linear4bit extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  bias: tf.Tensor | undefined;
  private readonly packed: PackedBytes;
  /** Absmax of each block; in an object, since none of this is a parameter. */
  private readonly scales: { codes: PackedBytes; nested: tf.Variable } | { values: tf.Variable };
  private readonly fields: Omit<QuantStateFields, 'absmax'>;

  /** Takes over `bias`; throws unless the packed tensor has two dimensions. */
  constructor({ packed, quantState }: FourBit, bias?: tf.Tensor) {
    super();
    const { shape, absmax, offset, state2, quantType, blocksize, dtype } = quantState;
    if (shape.length !== 2) {
      throw new RangeError(`Linear4bit needs a weight of 2 dimensions, got shape [${shape}]`);
    }
    [this.outFeatures, this.inFeatures] = shape as [number, number];
    unpack4bit(packed, quantState);
    const nested = state2 && offset !== undefined ? { state2, offset } : {};
    this.fields = { quantType, blocksize, dtype, shape, ...nested };
    this.packed = new PackedBytes(packed);
    this.scales =
      absmax instanceof Uint8Array
        ? { codes: new PackedBytes(absmax), nested: constant(tf.tensor1d(state2!.absmax)) }
        : { values: constant(tf.tensor1d(absmax)) };
    this.bias = bias;
  }

  /** Quantizes a weight [out, in]; neither is disposed. */
  static fromWeight(weight: tf.Tensor, bias?: tf.Tensor, options: FourBitOptions = {}): Linear4bit {
    return new Linear4bit(quantize4bit(weight, options), bias);
  }

  /** x [..., in] to [..., out]; the gradient goes to x and b, never to W. */
  forward(x: tf.Tensor): tf.Tensor {
    const rows = tf.reshape(x, [-1, this.inFeatures]); // [N, in]
    const product = tf.customGrad((...args) => {
      const [input] = args as tf.Tensor[];
      const value = tf.tidy(() => this.multiply(input!)); // [N, out]
      const gradFunc = (dy: tf.Tensor) => tf.tidy(() => tf.matMul(dy, this.dequantize(dy)));
      return { value, gradFunc };
    });
    const y = product(rows);
    return tf.reshape(this.bias ? tf.add(y, this.bias) : y, [
      ...x.shape.slice(0, -1),
      this.outFeatures,
    ]);
  }

  /**
   * W [out, in] in float32. Within a jit function it is unpacked by the graph; `after` is a tensor
   * that must be there first, so that two unpackings of a graph are not shared.
   */
  dequantize(after?: tf.Tensor): tf.Tensor {
    if (!isTracing()) {
      const { packed, quantState } = this.state();
      return tf.tensor(unpack4bit(packed, quantState), quantState.shape, 'float32');
    }
    return tf.tidy(() => this.dequantizeInGraph(after));
  }

  /** x W^T, [N, in] to [N, out]. */
  private multiply(x: tf.Tensor): tf.Tensor {
    const matrix = isTracing() && this.inGraph();
    return matrix
      ? fusedMatMul4bit(x, { ...matrix, rows: this.outFeatures })
      : tf.matMul(x, this.dequantize(), false, true);
  }

  /** What `quantize4bit` gave. */
  state(): FourBit {
    const { state2, ...rest } = this.fields;
    const absmax =
      'codes' in this.scales
        ? this.scales.codes.bytes()
        : Float32Array.from(this.scales.values.dataSync());
    return {
      packed: this.packed.bytes(),
      quantState: new QuantState({ ...rest, absmax, ...(state2 ? { state2 } : {}) }),
    };
  }

  /** Bytes that the packed weight and its scales take in memory. */
  get bytes(): number {
    const { scales } = this;
    const scaleBytes =
      'codes' in scales ? scales.codes.size + 4 * scales.nested.size : 4 * scales.values.size;
    return this.packed.size + scaleBytes;
  }

  override dispose(): void {
    const { scales } = this;
    const own = 'codes' in scales ? [scales.codes.tensor, scales.nested] : [scales.values];
    for (const tensor of [this.packed.tensor, ...own, this.bias]) tensor?.dispose();
  }

  /** The matrix for the operator of a graph, if that has blocks of this size. */
  private inGraph(): Omit<Matrix4bit, 'rows'> | undefined {
    const { quantType, blocksize } = this.fields;
    const blocks = Math.ceil((this.outFeatures * this.inFeatures) / blocksize);
    if (blocksize > 256) return undefined;
    const scales = this.scalesInGraph(blocks);
    return { packed: this.packed.tensor, scales, blocksize, quantType };
  }

  /**
   * Blocks come as the columns of a product with the unit matrix, which costs less than looking up
   * each pair of codes.
   */
  private dequantizeInGraph(after: tf.Tensor | undefined): tf.Tensor {
    const { blocksize, shape } = this.fields;
    const size = this.outFeatures * this.inFeatures;
    const matrix = this.inGraph();
    if (!matrix || size % blocksize !== 0) return this.lookUpInGraph(after);
    const unit = tf.eye(blocksize);
    const late = after ? tf.add(unit, tf.mul(firstOf(after), 0)) : unit;
    const columns = fusedMatMul4bit(late, { ...matrix, rows: size / blocksize });
    return tf.reshape(tf.transpose(columns), shape);
  }

  private lookUpInGraph(after: tf.Tensor | undefined): tf.Tensor {
    const { quantType, blocksize, shape } = this.fields;
    const size = this.outFeatures * this.inFeatures;
    const blocks = Math.ceil(size / blocksize);
    const { values } = getFourBitType(quantType);
    const pairs = Array.from({ length: 256 }, (_, i) => [values[i >> 4]!, values[i & 15]!]);
    const bytes = this.packed.unpack(after); // [ceil(n / 2)]
    const levels = tf.reshape(tf.gather(tf.tensor2d(pairs), bytes), [-1]); // [n]
    const missing = blocks * blocksize - levels.size;
    const whole = missing > 0 ? tf.pad(levels, [[0, missing]]) : levels;
    const inBlocks = tf.reshape(tf.slice(whole, [0], [blocks * blocksize]), [blocks, blocksize]);
    const scaled = tf.mul(inBlocks, tf.reshape(this.scalesInGraph(blocks), [blocks, 1]));
    return tf.reshape(tf.slice(tf.reshape(scaled, [-1]), [0], [size]), shape);
  }

  private scalesInGraph(blocks: number): tf.Tensor {
    if (!('codes' in this.scales)) return this.scales.values;
    const { codes: packedCodes, nested } = this.scales;
    const { state2, offset } = this.fields;
    const codes = packedCodes.unpack();
    const centred = tf.gather(tf.tensor1d(state2!.code), codes); // [blocks]
    const groups = Math.ceil(blocks / state2!.blocksize);
    const padded = tf.pad(centred, [[0, groups * state2!.blocksize - blocks]]);
    const scaled = tf.mul(
      tf.reshape(padded, [groups, state2!.blocksize]),
      tf.reshape(nested, [groups, 1]),
    );
    return tf.add(tf.slice(tf.reshape(scaled, [-1]), [0], [blocks]), offset!);
  }
}
