// LoRA (Hu et al. 2021): y = W x + b + s B A x, with A [r, in], B [out, r], s = alpha / r, or
// alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023). The product B A is made only to merge.
// Follows PEFT's lora/layer.py. Left out: convolutions, lora_bias, aLoRA, Megatron.
import * as tf from '@tensorflow/tfjs';
import { dropout } from '../nn/functional.ts';
import { parameter } from '../nn/module.ts';
import type { Factors } from './lora-init.ts';
import { LayerAdapter, type LayerCall } from './tuner-layer.ts';
import { weightJit } from './weight-jit.ts';

/** Numbers of a LoRA layer that its config gives. */
export interface LoraNumbers {
  r: number;
  /** s, the weight of the update. */
  scaling: number;
  /** Share of x that dropout takes from the update, in training. */
  dropout: number;
  /** Makes the layer's dropout differ from that of others. */
  salt: number;
}

/** The update of a linear layer: `loraA` [r, in], `loraB` [out, r]. */
export class LoraLinear extends LayerAdapter {
  loraA: tf.Tensor;
  loraB: tf.Tensor;
  scaling: number;
  readonly numbers: LoraNumbers;

  /** Takes over A and B. */
  constructor({ a, b, weight }: Factors, numbers: LoraNumbers) {
    super();
    this.baseWeight = weight && { value: weight };
    this.loraA = parameter(a);
    this.loraB = parameter(b);
    this.scaling = numbers.scaling;
    this.numbers = numbers;
  }

  override output(call: LayerCall): tf.Tensor {
    return tf.add(call.y, this.update(call));
  }

  override update({ x, seed }: LayerCall): tf.Tensor {
    return lowRank(dropped(x, this.numbers, seed), this.loraA, this.loraB, this.scaling);
  }

  override mergeWeight(weight: tf.Tensor): tf.Tensor {
    return addProduct(weight, this.loraB, this.loraA, tf.scalar(this.scaling));
  }

  override unmergeWeight(weight: tf.Tensor): tf.Tensor {
    return addProduct(weight, this.loraB, this.loraA, tf.scalar(-this.scaling));
  }

  override state(): Record<string, tf.Tensor> {
    return { 'lora_A.weight': this.loraA, 'lora_B.weight': this.loraB };
  }
}

/** s (x A^T) B^T: x [..., in] to [..., out], through r numbers a row. */
export function lowRank(x: tf.Tensor, a: tf.Tensor, b: tf.Tensor, scaling: number): tf.Tensor {
  const rows = tf.reshape(x, [-1, a.shape[1]!]); // [N, in]
  const inner = tf.matMul(rows, a, false, true); // [N, r]
  const scaled = scaling === 1 ? b : tf.mul(b, scaling); // [out, r]
  const update = tf.matMul(inner, scaled, false, true); // [N, out]
  return tf.reshape(update, [...x.shape.slice(0, -1), b.shape[0]!]);
}

/** weight + s B A, [out, in], where the weight lives: one graph for each shape. */
export const addProduct = weightJit(function addProduct(
  weight: tf.Tensor,
  b: tf.Tensor,
  a: tf.Tensor,
  scaling: tf.Scalar,
): tf.Tensor {
  return tf.add(weight, tf.matMul(tf.mul(b, scaling), a));
});

/** x with the layer's dropout, where there is a seed for it. */
export function dropped(
  x: tf.Tensor,
  numbers: LoraNumbers,
  seed: tf.Tensor | undefined,
): tf.Tensor {
  if (!seed || numbers.dropout === 0) return x;
  return dropout(x, numbers.dropout, tf.add(seed, tf.scalar(numbers.salt, 'int32')));
}
