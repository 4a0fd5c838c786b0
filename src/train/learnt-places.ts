// Where a language model's head is needed: at the positions before tokens that are learnt. A head over
// a large vocabulary is a good part of a step; what prompts and padding would say is not computed.
import * as tf from '@tensorflow/tfjs';

/**
 * Of each row the positions t whose next token is learnt, all of one length K (a multiple of a quarter
 * of T, so that few shapes occur), filled up with -1; undefined where K would be T. `learnt` is [B, T].
 */
export function learntPlaces(learnt: readonly (readonly boolean[])[]): number[][] | undefined {
  const length = learnt[0]?.length ?? 0;
  const places = learnt.map((row) =>
    row.flatMap((isLearnt, t) => (isLearnt && t > 0 ? [t - 1] : [])),
  );
  const most = Math.max(1, ...places.map((row) => row.length));
  const step = Math.ceil(length / 4);
  const count = Math.ceil(most / step) * step;
  if (count >= length) return undefined;
  return places.map((row) => [...row, ...Array<number>(count - row.length).fill(-1)]);
}

/** What stands in x [B, T] one after each place [B, K]; anything at places below 0. */
export function following(x: tf.Tensor, places: tf.Tensor): tf.Tensor2D {
  const [batch, length] = x.shape as [number, number];
  const starts = tf.mul(tf.range(0, batch, 1, 'int32'), tf.scalar(length, 'int32')); // [B]
  const at = tf.add(tf.add(tf.reshape(starts, [-1, 1]), places), tf.scalar(1, 'int32')); // [B, K]
  const flat = tf.gather(tf.reshape(x, [-1]), tf.reshape(at, [-1]) as tf.Tensor1D);
  return tf.reshape(flat, places.shape as [number, number]);
}

/** 1 at places, 0 where they are below 0: [B, K]. */
export function isPlace(places: tf.Tensor): tf.Tensor2D {
  return tf.cast(tf.greaterEqual(places, tf.scalar(0, 'int32')), 'float32') as tf.Tensor2D;
}
