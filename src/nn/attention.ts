// Attention: softmax(q k^T / sqrt(D) + mask) v, several query heads to one key head (GQA).
// Masks add the most negative float32, as transformers' eager attention does, so that a row with
// nothing to see stays finite. Left out: flash kernels, sliding windows.
import * as tf from '@tensorflow/tfjs';
import { fusedAttention, fusedCachedAttention } from '../jit/fused.ts';
import { isTracing } from '../jit/trace.ts';

const LOWEST = -3.4028234663852886e38;

/** Keys and values of one layer for the positions seen so far, both [B, KV, S, D]. */
export type KeyValue = {
  key: tf.Tensor4D;
  value: tf.Tensor4D;
};

/** [B, T, H * D] to heads [B, H, T, D]. */
export function splitHeads(x: tf.Tensor, heads: number): tf.Tensor4D {
  const [batch, length, width] = x.shape as [number, number, number];
  const apart = tf.reshape(x, [batch, length, heads, width / heads]); // [B, T, H, D]
  return tf.transpose(apart, [0, 2, 1, 3]) as tf.Tensor4D; // [B, H, T, D]
}

/**
 * softmax(q k^T * scale + bias) v: q [B, H, T, D], k and v [B, KV, S, D] with H a multiple of KV,
 * `bias` [B or 1, 1, 1, T, S] or undefined to see all; returns [B, T, H * D].
 */
export function attend(
  q: tf.Tensor4D,
  { key, value }: KeyValue,
  { scale = q.shape[3] ** -0.5, bias }: { scale?: number; bias?: tf.Tensor | undefined } = {},
): tf.Tensor3D {
  const [batch, heads, length, size] = q.shape;
  const [, groups, total] = key.shape;
  const rows = (heads / groups) * length;
  const grouped: tf.Tensor4D = tf.reshape(q, [batch, groups, rows, size]); // [B, KV, H/KV * T, D]
  const mix = () => {
    const scores = tf.mul(tf.matMul(grouped, key, false, true), scale); // [B, KV, H/KV * T, S]
    const apart = tf.reshape(scores, [batch, groups, heads / groups, length, total]);
    const weights = tf.softmax(bias ? tf.add(apart, bias) : apart); // [B, KV, H/KV, T, S]
    return tf.matMul(tf.reshape(weights, [batch, groups, rows, total]), value);
  };
  const mixed = isTracing() ? fusedAttention([grouped, key, value], scale, bias) : mix();
  const byPosition = tf.transpose(tf.reshape(mixed, [batch, heads, length, size]), [0, 2, 1, 3]);
  return tf.reshape(byPosition, [batch, length, heads * size]); // [B, T, H * D]
}

/**
 * What to add to scores: 0 where position t of the last T may see position s of S, the lowest number
 * elsewhere; [B or 1, 1, 1, T, S]. It may see itself and what is before it, and no padding:
 * `attentionMask` [B, S] is 0 there. One of [B, T, S] tells it for each position apart, as packed rows
 * need it. Undefined when there is nothing to hide.
 */
export function attentionBias(
  length: number,
  total: number,
  attentionMask?: tf.Tensor2D | tf.Tensor3D,
): tf.Tensor | undefined {
  if (attentionMask && attentionMask.shape.at(-1) !== total) {
    throw new RangeError(
      `attentionMask must cover all ${total} positions, past ones included, got [${attentionMask.shape}]`,
    );
  }
  const causal = length === 1 ? undefined : causalMask(length, total); // [T, S]
  if (!attentionMask) return causal && hide(tf.reshape(causal, [1, 1, 1, length, total]));
  const positions = attentionMask.rank === 3 ? length : 1;
  const real = tf.reshape(tf.cast(attentionMask, 'float32'), [-1, 1, 1, positions, total]); // [B, 1, 1, 1 or T, S]
  return hide(causal ? tf.mul(real, causal) : real);
}

/** 1 where one of the last `length` of `total` positions may see another, else 0; [T, S]. */
function causalMask(length: number, total: number): tf.Tensor2D {
  const mask = new Float32Array(length * total);
  for (let t = 0; t < length; t++) mask.fill(1, t * total, t * total + total - length + t + 1);
  return tf.tensor2d(mask, [length, total]);
}

const hide = (visible: tf.Tensor) => tf.mul(tf.sub(1, visible), LOWEST);

/** The cache with the keys and values of new positions after it. */
export function appendKeyValue(past: KeyValue | undefined, now: KeyValue): KeyValue {
  if (!past) return now;
  return {
    key: tf.concat([past.key, now.key], 2),
    value: tf.concat([past.value, now.value], 2),
  };
}

/** A cache of fixed size S: of row b, positions before `lengths[b]` are filled. */
export type StaticCache = {
  /** [B] int32 */
  lengths: tf.Tensor1D;
  /** One a layer, both [B, KV, S, D]. */
  layers: KeyValue[];
};

/**
 * Writes keys and values [B, KV, T, D] into `past` [B, KV, S, D] at positions lengths .. lengths + T - 1
 * and lets queries [B, H, T, D] attend to their own and earlier positions; returns [B, T, H * D] and
 * the cache, whose buffers a `jit` writes in place.
 */
export function attendCached(
  q: tf.Tensor4D,
  now: KeyValue,
  past: KeyValue,
  lengths: tf.Tensor1D,
  scale = q.shape[3] ** -0.5,
): [tf.Tensor3D, KeyValue] {
  const [batch, , length, size] = q.shape;
  const total = past.key.shape[2];
  if (isTracing() && size % 16 === 0) return fusedCachedAttention(q, now, past, lengths, scale);
  const at = cachePositions(lengths, length); // [B, T]
  const slots = tf.oneHot(at, total) as tf.Tensor3D; // [B, T, S]
  const kept = tf.reshape(tf.sub(1, tf.sum(slots, 1)), [batch, 1, total, 1]);
  const from = tf.reshape(slots, [batch, 1, length, total]);
  const write = (old: tf.Tensor, x: tf.Tensor) =>
    tf.add(tf.mul(old, kept), tf.matMul(from, x, true)) as tf.Tensor4D; // [B, KV, S, D]
  const keyValue = { key: write(past.key, now.key), value: write(past.value, now.value) };
  const seen = tf.lessEqual(tf.range(0, total, 1, 'int32'), tf.reshape(at, [batch, length, 1]));
  const bias = hide(tf.reshape(tf.cast(seen, 'float32'), [batch, 1, 1, length, total]));
  return [attend(q, keyValue, { scale, bias }), keyValue];
}

/** The positions [B, T] of T new tokens: each row counts on from its own length. */
export function cachePositions(lengths: tf.Tensor1D, length: number): tf.Tensor2D {
  return tf.add(tf.expandDims(lengths, 1), tf.range(0, length, 1, 'int32')) as tf.Tensor2D;
}
