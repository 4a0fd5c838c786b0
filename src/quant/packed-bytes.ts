// Bytes in a tensor: TensorFlow.js has no type of 8 bits, so four of them share an int32. Word k of n
// holds bytes k, n + k, 2n + k and 3n + k, lowest first, the last one less 128 so that it can be signed.
import * as tf from '@tensorflow/tfjs';
import { parameter } from '../nn/module.ts';

/** Bytes that a graph can unpack. */
export class PackedBytes {
  /** [ceil(size / 4)] int32. */
  readonly words: tf.Variable;
  readonly size: number;

  constructor(bytes: Uint8Array) {
    this.size = bytes.length;
    const count = Math.ceil(bytes.length / 4);
    const words = new Int32Array(count);
    const at = (i: number) => bytes[i] ?? 0;
    for (let k = 0; k < count; k++) {
      const high = at(3 * count + k) - 128;
      words[k] = at(k) | (at(count + k) << 8) | (at(2 * count + k) << 16) | (high << 24);
    }
    this.words = constant(tf.tensor1d(words, 'int32'));
  }

  /** The bytes as they were. */
  bytes(): Uint8Array {
    const words = this.words.dataSync() as Int32Array;
    const out = new Uint8Array(words.length * 4);
    for (let k = 0; k < words.length; k++) {
      const word = words[k]!;
      out[k] = word & 255;
      out[words.length + k] = (word >>> 8) & 255;
      out[2 * words.length + k] = (word >>> 16) & 255;
      out[3 * words.length + k] = (word >> 24) + 128;
    }
    return out.slice(0, this.size);
  }

  /** The bytes as int32 [4 ceil(size / 4)], by plain ops; `after` must be computed before them. */
  unpack(after?: tf.Tensor): tf.Tensor {
    const nothing = after && tf.cast(tf.mul(tf.max(tf.abs(after)), 0), 'int32');
    let rest: tf.Tensor = nothing ? tf.add(this.words, nothing) : this.words;
    const parts: tf.Tensor[] = [];
    for (const unit of [2 ** 24, 2 ** 16, 2 ** 8]) {
      const part = tf.floorDiv(rest, tf.scalar(unit, 'int32'));
      rest = tf.sub(rest, tf.mul(part, tf.scalar(unit, 'int32')));
      parts.unshift(part);
    }
    const [second, third, last] = parts as [tf.Tensor, tf.Tensor, tf.Tensor];
    return tf.concat([rest, second, third, tf.add(last, tf.scalar(128, 'int32'))]);
  }
}

/** A variable that is never trained and that takes over `value`; a graph reads it as an input. */
export function constant(value: tf.Tensor): tf.Variable {
  const variable = parameter(value);
  variable.trainable = false;
  return variable;
}
