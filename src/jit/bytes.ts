// Tensors of bytes. TensorFlow.js has no such type: to it they are bool, whose numbers it holds as bytes;
// a graph takes them as uint8.
import type * as tf from '@tensorflow/tfjs';

const BYTES = new WeakSet<object>();

/** Marks a bool tensor as one of bytes, wherever its numbers are moved; returns it. */
export function markBytes<T extends tf.Tensor>(tensor: T): T {
  BYTES.add(tensor.dataId);
  return tensor;
}

/** The type that a graph gives a tensor. */
export const graphType = ({ dataId, dtype }: tf.Tensor): tf.DataType | 'uint8' =>
  BYTES.has(dataId) ? 'uint8' : dtype;
