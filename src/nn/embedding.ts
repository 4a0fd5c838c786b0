// Embedding: row `id` of a table, torch.nn.Embedding. Left out: padding_idx, max_norm.
import * as tf from '@tensorflow/tfjs';
import { type Initializer, normalInit } from './init.ts';
import { Module, parameter } from './module.ts';

/** Looks ids up in `weight` [numEmbeddings, embeddingDim]. */
export class Embedding extends Module {
  readonly numEmbeddings: number;
  readonly embeddingDim: number;
  weight: tf.Tensor;

  constructor(
    numEmbeddings: number,
    embeddingDim: number,
    { init = normalInit() }: { init?: Initializer } = {},
  ) {
    super();
    this.numEmbeddings = numEmbeddings;
    this.embeddingDim = embeddingDim;
    this.weight = parameter(init([numEmbeddings, embeddingDim]));
  }

  /** ids [...] int32 to vectors [..., embeddingDim]; an id must be below `numEmbeddings`. */
  forward(ids: tf.Tensor): tf.Tensor {
    const rows = tf.gather(this.weight, tf.reshape(ids, [-1]) as tf.Tensor1D); // [N, C]
    return tf.reshape(rows, [...ids.shape, this.embeddingDim]);
  }
}
