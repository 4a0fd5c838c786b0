// RMSNorm: y = x / sqrt(mean(x^2) + eps) * g (Zhang & Sennrich 2019).
// LayerNorm: y = (x - mean) / sqrt(var + eps) * g + b (Ba et al. 2016).
import * as tf from '@tensorflow/tfjs';
import { fusedRmsNorm } from '../jit/fused.ts';
import { isTracing } from '../jit/trace.ts';
import { onesInit, zerosInit } from './init.ts';
import { Module, parameter } from './module.ts';

/** x / sqrt(mean(x^2) + eps) * weight over the last axis; `weight` [size]. */
export class RMSNorm extends Module {
  readonly eps: number;
  weight: tf.Tensor;

  constructor(size: number, eps = 1e-6) {
    super();
    this.eps = eps;
    this.weight = parameter(onesInit([size]));
  }

  /** x [..., size], same shape out. */
  forward(x: tf.Tensor): tf.Tensor {
    if (isTracing()) return fusedRmsNorm(x, this.weight, this.eps);
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), this.eps)); // [..., 1]
    return tf.mul(tf.mul(x, scale), this.weight);
  }
}

/** (x - mean) / sqrt(variance + eps) * weight + bias over the last axis; both [size]. */
export class LayerNorm extends Module {
  readonly eps: number;
  weight: tf.Tensor;
  bias: tf.Tensor;

  constructor(size: number, eps = 1e-5) {
    super();
    this.eps = eps;
    this.weight = parameter(onesInit([size]));
    this.bias = parameter(zerosInit([size]));
  }

  /** x [..., size], same shape out. */
  forward(x: tf.Tensor): tf.Tensor {
    const centered = tf.sub(x, tf.mean(x, -1, true)); // [..., size]
    const scale = tf.rsqrt(tf.add(tf.mean(tf.square(centered), -1, true), this.eps)); // [..., 1]
    return tf.add(tf.mul(tf.mul(centered, scale), this.weight), this.bias);
  }
}
