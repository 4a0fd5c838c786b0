// Bytes in a tensor that graphs can unpack; they are never trained.
import * as tf from '@tensorflow/tfjs';
import { placeBytes } from '../jit/place.ts';
import { parameter } from '../nn/module.ts';

/** Bytes that a graph can unpack. */
export class PackedBytes {
  /** [size], a tensor of bytes. */
  readonly tensor: tf.Variable;
  readonly size: number;

  constructor(bytes: Uint8Array) {
    this.size = bytes.length;
    this.tensor = constant(placeBytes(bytes.slice()));
  }

  /** The bytes as they were. */
  bytes(): Uint8Array {
    return Uint8Array.from(this.tensor.dataSync());
  }

  /**
   * The bytes as int32 [size], for a function that is traced. `after` is a tensor that must be there
   * first, so that bytes are unpacked when they are needed and not held from an earlier unpacking on.
   */
  unpack(after?: tf.Tensor): tf.Tensor {
    if (!after) return tf.cast(this.tensor, 'int32');
    const first = firstOf(after);
    return tf.cast(tf.where(tf.equal(first, first), this.tensor, this.tensor), 'int32');
  }
}

/** One number of a tensor, as a scalar: what depends on it is computed after the tensor. */
export function firstOf(tensor: tf.Tensor): tf.Tensor {
  const flat = tf.reshape(tensor, [-1]);
  return tf.reshape(tf.slice(flat, [0], [1]), []);
}

/** A variable that is never trained and that takes over `value`; a graph reads it as an input. */
export function constant(value: tf.Tensor): tf.Variable {
  const variable = parameter(value);
  variable.trainable = false;
  return variable;
}
