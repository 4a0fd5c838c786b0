// What is given back at once may still be computed in the native thread; a clock has to wait for it.
import * as tf from '@tensorflow/tfjs';
import { jit } from 'peftlab';

const last = jit((x: tf.Tensor) => tf.add(x, 1));

/** Waits for all that was handed to the native thread before. */
export async function settle(): Promise<void> {
  const before = tf.scalar(0);
  const after = last(before);
  await after.data();
  tf.dispose([before, after]);
}
