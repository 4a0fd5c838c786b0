// DoRA (Liu et al. 2024): y = m / |W + s B A| (W + s B A) x + b, with a norm a row of the weight and
// no gradient through it. |W + s B A|^2 is made from W A^T and A A^T, so B A is never there.
// Follows PEFT's lora/dora.py; dropout reaches both products, as there. Left out: embeddings.
import * as tf from '@tensorflow/tfjs';
import { parameter } from '../nn/module.ts';
import { type BaseLayer, type LinearLayer, readWeight } from './base-layer.ts';
import { addProduct, dropped, type LoraNumbers, lowRank } from './lora.ts';
import type { Factors } from './lora-init.ts';
import { LayerAdapter, type LayerCall } from './tuner-layer.ts';
import { weightJit } from './weight-jit.ts';

/** Magnitude and direction of a linear layer: `loraMagnitudeVector` [out], A [r, in], B [out, r]. */
export class DoraLinear extends LayerAdapter {
  loraA: tf.Tensor;
  loraB: tf.Tensor;
  loraMagnitudeVector: tf.Tensor;
  scaling: number;
  readonly numbers: LoraNumbers;
  /** m / |W + s B A| while it is in the weight. */
  private factor: { value: tf.Tensor } | undefined;

  /** Takes over A and B; magnitudes begin at the norms of the layer's rows. */
  constructor({ a, b, weight }: Factors, numbers: LoraNumbers, base: BaseLayer) {
    super();
    this.baseWeight = weight && { value: weight };
    this.scaling = numbers.scaling;
    this.numbers = numbers;
    this.loraMagnitudeVector = parameter(
      tf.tidy(() => rowNorms(weight ?? readWeight(base), a, b, numbers.scaling)),
    );
    this.loraA = parameter(a);
    this.loraB = parameter(b);
  }

  override output({ x, y, base, seed }: LayerCall): tf.Tensor {
    const { loraA: a, loraB: b, scaling, numbers } = this;
    const share = this.share(base); // [out]
    const { bias } = base as LinearLayer;
    const drops = seed !== undefined && numbers.dropout > 0;
    const input = dropped(x, numbers, seed);
    const update = lowRank(input, a, b, scaling); // [..., out]
    const plain = drops ? base.forward(input) : y;
    const product = bias ? tf.sub(plain, bias) : plain; // [..., out]
    const turned = tf.mul(tf.add(product, update), share);
    if (drops) return tf.add(y, tf.sub(turned, product));
    return bias ? tf.add(turned, bias) : turned;
  }

  /**
   * The same with f = m / norm inside of both weights: x (f W)^T + (x A^T) (f s B)^T + b, with the
   * gradients written out, so that fewer numbers are read for each token.
   */
  override alone(x: tf.Tensor, base: LinearLayer, seed?: tf.Tensor): tf.Tensor | undefined {
    if (seed && this.numbers.dropout > 0) return undefined;
    const { bias } = base;
    const { loraA, loraB, loraMagnitudeVector, scaling } = this;
    const [out, into] = [loraB.shape[0]!, loraA.shape[1]!];
    const rows = tf.reshape(x, [-1, into]); // [N, in]
    const product = tf.customGrad((...inputs) => {
      const [z, a, b, m, save] = inputs as [...tf.Tensor[], tf.GradSaveFunc] as [
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
        tf.Tensor,
        tf.GradSaveFunc,
      ];
      const weight = readWeight(base); // [out, in]
      const factor = tf.expandDims(tf.div(m, rowNorms(weight, a, b, scaling)), 1); // [out, 1]
      const w = tf.mul(weight, factor); // [out, in]
      const v = tf.mul(b, tf.mul(factor, scaling)); // [out, r]
      const inner = tf.matMul(z, a, false, true); // [N, r]
      const value = tf.add(tf.matMul(z, w, false, true), tf.matMul(inner, v, false, true)); // [N, out]
      save([z, a, m, factor, w, v, inner, value]);
      return {
        value,
        gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => gradients(dy, saved, scaling),
      };
    });
    const y = product(rows, loraA, loraB, loraMagnitudeVector);
    return tf.reshape(bias ? tf.add(y, bias) : y, [...x.shape.slice(0, -1), out]);
  }

  override mergeWeight(weight: tf.Tensor): tf.Tensor {
    const turned = addProduct(weight, this.loraB, this.loraA, tf.scalar(this.scaling)); // [out, in]
    const { factor, scaled } = scaledTo(turned, this.loraMagnitudeVector);
    this.factor?.value.dispose();
    this.factor = { value: tf.keep(factor) };
    return scaled;
  }

  override unmergeWeight(weight: tf.Tensor): tf.Tensor {
    const turned = dividedBy(weight, this.factor!.value);
    return addProduct(turned, this.loraB, this.loraA, tf.scalar(-this.scaling));
  }

  override state(): Record<string, tf.Tensor> {
    return {
      'lora_A.weight': this.loraA,
      'lora_B.weight': this.loraB,
      lora_magnitude_vector: this.loraMagnitudeVector,
    };
  }

  override dispose(): void {
    this.factor?.value.dispose();
    super.dispose();
  }

  /** m / |W + s B A|, [out]; the gradient goes to m alone. */
  private share(base: BaseLayer): tf.Tensor {
    const divided = tf.customGrad((magnitude, save) => {
      const norms = rowNorms(readWeight(base), this.loraA, this.loraB, this.scaling);
      (save as tf.GradSaveFunc)([norms]);
      return {
        value: tf.div(magnitude as tf.Tensor, norms),
        gradFunc: (dy: tf.Tensor, [kept]: tf.Tensor[]) => tf.div(dy, kept!),
      };
    });
    return divided(this.loraMagnitudeVector);
  }
}

/** V [out, in] with rows of length m [out], and m / |V|. */
const scaledTo = weightJit(function scaledTo(v: tf.Tensor, m: tf.Tensor) {
  const factor = tf.div(m, tf.sqrt(tf.sum(tf.square(v), 1))); // [out]
  return { factor, scaled: tf.mul(v, tf.expandDims(factor, 1)) };
});

const dividedBy = weightJit(function dividedBy(v: tf.Tensor, factor: tf.Tensor): tf.Tensor {
  return tf.div(v, tf.expandDims(factor, 1));
});

/** Gradients for x, A, B and m of y = x w^T + (x A^T) v^T with w = f W and v = f s B, f = m / norm. */
function gradients(dy: tf.Tensor, saved: tf.Tensor[], scaling: number): tf.Tensor[] {
  const [x, a, m, factor, w, v, inner, y] = saved as [
    ...[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
    ...[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
  ];
  const dInner = tf.matMul(dy, v); // [N, r]
  const dx = tf.add(tf.matMul(dy, w), tf.matMul(dInner, a)); // [N, in]
  const db = tf.mul(tf.matMul(dy, inner, true), tf.mul(factor, scaling)); // [out, r]
  const dm = tf.divNoNan(tf.sum(tf.mul(dy, y), 0), m); // [out]: y is m times what m scales
  return [dx, tf.matMul(dInner, x, true), db, dm];
}

/** |W + s B A| of each row, [out]: sqrt(|W|^2 + 2 s W A^T . B + s^2 B (A A^T) . B). */
export function rowNorms(w: tf.Tensor, a: tf.Tensor, b: tf.Tensor, scaling: number): tf.Tensor {
  const own = tf.sum(tf.square(w), 1); // [out]
  const across = tf.mul(tf.matMul(w, a, false, true), 2 * scaling); // [out, r]
  const inner = tf.matMul(b, tf.matMul(tf.mul(a, scaling ** 2), a, false, true)); // [out, r]
  return tf.sqrt(tf.relu(tf.add(own, tf.sum(tf.mul(tf.add(across, inner), b), 1))));
}
