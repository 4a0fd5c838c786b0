// Where new numbers live: in the native thread where graphs run there, so that weights are held once
// and WASM's memory, which never shrinks, stays small; else on the eager backend.
import * as tf from '@tensorflow/tfjs';
import { markBytes } from './bytes.ts';
import { nativeTensor } from './native.ts';
import { nativeOptions } from './native-check.ts';

/** A tensor that takes over `values`, which must not be used afterwards. */
export function placeTensor(
  values: Float32Array | Int32Array | Uint8Array,
  shape: readonly number[],
  dtype: 'float32' | 'int32' | 'bool' = 'float32',
): tf.Tensor {
  const own = [...shape];
  return nativeOptions() ? nativeTensor(values, own, dtype) : tf.tensor(values, own, dtype);
}

/** A tensor of bytes, bool to TensorFlow.js (see bytes.ts), that takes over `bytes`. */
export function placeBytes(bytes: Uint8Array): tf.Tensor {
  const shape = [bytes.length];
  return nativeOptions()
    ? nativeTensor(bytes, shape, 'uint8')
    : markBytes(tf.tensor(bytes, shape, 'bool'));
}

/** Zeros of `shape`, float32. */
export function placeZeros(shape: readonly number[]): tf.Tensor {
  return placeTensor(new Float32Array(tf.util.sizeFromShape([...shape])), shape);
}
