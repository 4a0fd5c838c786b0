// LoRA on an embedding: row id of W + s (B A)^T, with A [r, num] and B [dim, r]; one column of A
// is looked up for each id. Follows PEFT's lora/layer.py, class Embedding.
import * as tf from '@tensorflow/tfjs';
import { parameter } from '../nn/module.ts';
import type { LoraNumbers } from './lora.ts';
import type { Factors } from './lora-init.ts';
import { LayerAdapter, type LayerCall } from './tuner-layer.ts';
import { weightJit } from './weight-jit.ts';

/** The update of an embedding: `loraEmbeddingA` [r, num], `loraEmbeddingB` [dim, r]. */
export class LoraEmbedding extends LayerAdapter {
  loraEmbeddingA: tf.Tensor;
  loraEmbeddingB: tf.Tensor;
  scaling: number;

  /** Takes over A and B. */
  constructor({ a, b }: Factors, { scaling }: LoraNumbers) {
    super();
    this.loraEmbeddingA = parameter(a);
    this.loraEmbeddingB = parameter(b);
    this.scaling = scaling;
  }

  override output({ x, y }: LayerCall): tf.Tensor {
    return tf.add(y, tf.mul(this.looked(x), this.scaling));
  }

  override mergeWeight(weight: tf.Tensor): tf.Tensor {
    return this.added(weight, this.scaling);
  }

  override unmergeWeight(weight: tf.Tensor): tf.Tensor {
    return this.added(weight, -this.scaling);
  }

  override state(): Record<string, tf.Tensor> {
    return { lora_embedding_A: this.loraEmbeddingA, lora_embedding_B: this.loraEmbeddingB };
  }

  /** ids [...] to (B A)^T [id], [..., dim]. */
  private looked(ids: tf.Tensor): tf.Tensor {
    const flat = tf.reshape(ids, [-1]) as tf.Tensor1D;
    const inner = tf.gather(tf.transpose(this.loraEmbeddingA), flat); // [N, r]
    const update = tf.matMul(inner, this.loraEmbeddingB, false, true); // [N, dim]
    return tf.reshape(update, [...ids.shape, this.loraEmbeddingB.shape[0]!]);
  }

  private added(weight: tf.Tensor, scaling: number): tf.Tensor {
    return addProduct(weight, this.loraEmbeddingA, this.loraEmbeddingB, tf.scalar(scaling));
  }
}

/** weight + s (B A)^T, [num, dim]. */
const addProduct = weightJit(function addProduct(
  weight: tf.Tensor,
  a: tf.Tensor,
  b: tf.Tensor,
  scaling: tf.Scalar,
): tf.Tensor {
  return tf.add(weight, tf.matMul(a, tf.mul(b, scaling), true, true));
});
