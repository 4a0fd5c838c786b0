// Linear: y = x W^T + b with W [out, in], torch.nn.Linear.
// Conv1D: y = x W + b with W [in, out], the layer that GPT-2 has in its place.
import * as tf from '@tensorflow/tfjs';
import { type Initializer, normalInit, zerosInit } from './init.ts';
import { Module, parameter } from './module.ts';

/** How a linear layer is made: with a bias or not, and how its weight is filled. */
export interface LinearOptions {
  bias?: boolean;
  init?: Initializer;
}

/** y = x W^T + b; `weight` [outFeatures, inFeatures], `bias` [outFeatures] or undefined. */
export class Linear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight: tf.Tensor;
  bias: tf.Tensor | undefined;

  constructor(
    inFeatures: number,
    outFeatures: number,
    { bias = true, init = normalInit() }: LinearOptions = {},
  ) {
    super();
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.weight = parameter(init([outFeatures, inFeatures]));
    this.bias = bias ? parameter(zerosInit([outFeatures])) : undefined;
  }

  /** x [..., in] to [..., out]. */
  forward(x: tf.Tensor): tf.Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/** y = x W + b; `weight` [inFeatures, outFeatures], `bias` [outFeatures]. */
export class Conv1D extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight: tf.Tensor;
  bias: tf.Tensor;

  constructor(
    inFeatures: number,
    outFeatures: number,
    { init = normalInit() }: Pick<LinearOptions, 'init'> = {},
  ) {
    super();
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.weight = parameter(init([inFeatures, outFeatures]));
    this.bias = parameter(zerosInit([outFeatures]));
  }

  /** x [..., in] to [..., out]. */
  forward(x: tf.Tensor): tf.Tensor {
    const rows = tf.reshape(x, [-1, this.inFeatures]); // [N, in]
    const y = tf.add(tf.matMul(rows, this.weight), this.bias); // [N, out]
    return tf.reshape(y, [...x.shape.slice(0, -1), this.outFeatures]);
  }
}

/** x W^T + b over the last axis: x [..., in], weight [out, in], bias [out] or undefined. */
export function linear(x: tf.Tensor, weight: tf.Tensor, bias?: tf.Tensor): tf.Tensor {
  const [outFeatures, inFeatures] = weight.shape as [number, number];
  const rows = tf.reshape(x, [-1, inFeatures]); // [N, in]
  const y = tf.matMul(rows, weight, false, true); // [N, out]
  return tf.reshape(bias ? tf.add(y, bias) : y, [...x.shape.slice(0, -1), outFeatures]);
}
