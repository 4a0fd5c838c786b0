// What adapters ask of the layers they sit on: a forward pass, sizes, and a weight to read and write.
// Weights are [out, in] whatever way a layer keeps them: Conv1D transposed, quantized layers packed.
import * as tf from '@tensorflow/tfjs';
import { Embedding } from '../nn/embedding.ts';
import { Conv1D, Linear } from '../nn/linear.ts';
import type { Module } from '../nn/module.ts';
import type { FourBit, FourBitOptions } from '../quant/four-bit.ts';
import { weightJit } from './weight-jit.ts';

/** A module from one tensor to another, such as a linear layer, an embedding or a whole MLP. */
export type BaseLayer = Module & { forward(x: tf.Tensor): tf.Tensor };

/** A layer y = x W^T + b: Linear, Conv1D, or a quantized one that can unpack its weight. */
export type LinearLayer = BaseLayer & {
  readonly inFeatures: number;
  readonly outFeatures: number;
  bias?: tf.Tensor | undefined;
};

/** A linear layer whose weight [out, in] is unpacked by `dequantize`; known by its shape alone. */
export type QuantizedLayer = LinearLayer & { dequantize(): tf.Tensor };

/** What Linear4bit and Linear8bitLt tell of how they pack, and what makes another of them. */
interface Packing {
  state(): Partial<FourBit>;
  threshold?: number;
  /** IntegerLinear's own way. */
  requantize?(weight: tf.Tensor): QuantizedLayer;
  constructor: {
    fromWeight?(w: tf.Tensor, bias?: tf.Tensor, options?: FourBitOptions): QuantizedLayer;
    new (w: tf.Tensor, bias?: tf.Tensor, options?: { threshold: number }): QuantizedLayer;
  };
}

/** Whether a module is a quantized linear layer. */
export function isQuantized(module: Module): module is QuantizedLayer {
  return typeof (module as Partial<QuantizedLayer>).dequantize === 'function';
}

/** Whether a module is a linear layer, quantized or not. */
export function isLinear(module: Module): module is LinearLayer {
  return module instanceof Linear || module instanceof Conv1D || isQuantized(module);
}

/** W [out, in] of a linear layer, [num, dim] of an embedding; call it in a tidy. */
export function readWeight(layer: BaseLayer): tf.Tensor {
  if (isQuantized(layer)) return layer.dequantize();
  if (layer instanceof Conv1D) return tf.transpose(layer.weight);
  if (layer instanceof Linear || layer instanceof Embedding) return layer.weight;
  throw new TypeError(`${layer.constructor.name} has no weight that an adapter could merge into`);
}

/** Whether a layer can be given another weight. */
export function takesWeight(layer: BaseLayer): boolean {
  if (isQuantized(layer)) {
    const { constructor: make, threshold, requantize } = layer as unknown as Packing;
    if (requantize) return true;
    return make.fromWeight !== undefined || threshold !== undefined;
  }
  return (layer as Partial<Linear>).weight instanceof tf.Variable;
}

/** Gives a layer another weight, in the shape of `readWeight`, and returns the layer that has it. */
export function writeWeight(layer: BaseLayer, weight: tf.Tensor): BaseLayer {
  if (isQuantized(layer)) return requantized(layer, weight);
  const { weight: old } = layer as Linear;
  tf.tidy(() => assign(old, layer instanceof Conv1D ? tf.transpose(weight) : weight));
  return layer;
}

/** Gives a layer what `change` makes of its weight, of the same shape, and returns the layer that has it. */
export function changeWeight(layer: BaseLayer, change: (w: tf.Tensor) => tf.Tensor): BaseLayer {
  if (!(layer instanceof Conv1D)) return writeWeight(layer, change(readWeight(layer)));
  tf.tidy(() => assign(layer.weight, turned(change(turned(layer.weight)))));
  return layer;
}

/** A transposed matrix, made where the matrix lives. */
const turned = weightJit(function turned(matrix: tf.Tensor): tf.Tensor {
  return tf.transpose(matrix);
});

/** Gives a layer's bias another value. */
export function writeBias(layer: LinearLayer, bias: tf.Tensor): void {
  assign(layer.bias!, bias);
}

/** Sizes that an adapter must fit, for messages: '[out, in]' of a linear layer. */
export function describeLayer(module: Module): string {
  return isLinear(module)
    ? `${module.constructor.name} [${module.outFeatures}, ${module.inFeatures}]`
    : module.constructor.name;
}

/** A layer with this weight, quantized as the old one was, which is freed but for its bias. */
function requantized(layer: QuantizedLayer, weight: tf.Tensor): BaseLayer {
  const { bias } = layer;
  const packing = layer as unknown as Packing;
  const { constructor: make, threshold } = packing;
  const { quantState } = packing.state();
  let next: QuantizedLayer;
  if (packing.requantize) next = packing.requantize(weight);
  else if (make.fromWeight && quantState) {
    const { quantType, blocksize, dtype, state2 } = quantState;
    const compressStatistics = state2 !== undefined;
    next = make.fromWeight(weight, bias, { quantType, blocksize, dtype, compressStatistics });
  } else next = new make(weight, bias, { threshold: threshold! });
  layer.bias = undefined;
  layer.dispose();
  return next;
}

function assign(parameter: tf.Tensor, value: tf.Tensor): void {
  if (!(parameter instanceof tf.Variable)) {
    throw new TypeError('A weight that is no variable can not be changed');
  }
  parameter.assign(value);
}
