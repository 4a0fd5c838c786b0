// Native forms of what a model computes most, with gradients: one operator in place of several.
// Layers call them while they are traced (`isTracing`); their plain form says what they compute.
import * as tf from '@tensorflow/tfjs';

const run = (kernel: string, inputs: Record<string, tf.Tensor>, attributes: object = {}) =>
  tf.engine().runKernel(kernel, inputs, attributes as tf.NamedAttrMap);

/** x / sqrt(mean(x^2) + eps) * weight over the last axis: x [..., C], weight [C]. */
export function fusedRmsNorm(x: tf.Tensor, weight: tf.Tensor, eps: number): tf.Tensor {
  const norm = tf.customGrad((...args) => {
    const [input, scale, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const inputs = { x: input, weight: scale };
    const [value, inverse] = run('NativeRMSNorm', inputs, { eps }) as unknown as tf.Tensor[];
    save([input, scale, inverse!]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const [, g, r] = saved as [tf.Tensor, tf.Tensor, tf.Tensor];
      const normed = tf.mul(saved[0]!, r); // [..., C]
      const h = tf.mul(dy, g); // [..., C]
      const along = tf.mean(tf.mul(h, normed), -1, true); // [..., 1]
      const rows = [...dy.shape.keys()].slice(0, -1);
      return [
        tf.mul(tf.sub(h, tf.mul(normed, along)), r),
        tf.sum(tf.mul(dy, normed), rows), // [C]
      ];
    };
    return { value: value!, gradFunc };
  });
  return norm(x, weight);
}

/** x * sigmoid(x). */
export function fusedSilu(x: tf.Tensor): tf.Tensor {
  const silu = tf.customGrad((input, save) => {
    (save as tf.GradSaveFunc)([input as tf.Tensor]);
    const gradFunc = (dy: tf.Tensor, [saved]: tf.Tensor[]) => {
      const s = tf.sigmoid(saved!);
      const y = tf.mul(saved!, s);
      return tf.mul(dy, tf.add(s, tf.mul(y, tf.sub(1, s))));
    };
    return { value: run('NativeSilu', { x: input as tf.Tensor }) as tf.Tensor, gradFunc };
  });
  return silu(x);
}

/** Turns x [B, H, T, D] by angles whose cosines and sines are [B or 1, 1, T, D/2]. */
export function fusedRotary(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor): tf.Tensor {
  const turn = (input: tf.Tensor, sines: tf.Tensor) =>
    run('NativeRotary', { x: input, cos, sin: sines }) as tf.Tensor;
  const rotary = tf.customGrad((input) => ({
    value: turn(input as tf.Tensor, sin),
    gradFunc: (dy: tf.Tensor) => turn(dy, tf.neg(sin)),
  }));
  return rotary(x);
}

/** logsumexp(logits) - logits[label] for each row, [N]; labels outside 0..V-1 pick label 0. */
export function fusedTokenLosses(logits: tf.Tensor, labels: tf.Tensor): tf.Tensor {
  const [rows, size] = logits.shape as [number, number];
  const inside = tf.logicalAnd(tf.greaterEqual(labels, 0), tf.less(labels, size));
  const at = tf.reshape(tf.where(inside, labels, tf.zerosLike(labels)), [rows, 1]); // [N, 1]
  const loss = tf.customGrad((x, save) => {
    const scores = x as tf.Tensor;
    const probabilities = tf.softmax(scores); // [N, V]
    const picked = run('NativeGatherElements', { x: scores, indices: at }, { axis: 1 });
    // The largest probability is e^(max - logsumexp), at least 1/V: exact at any scale.
    const logSumExp = tf.sub(tf.max(scores, 1), tf.log(tf.max(probabilities, 1))); // [N]
    (save as tf.GradSaveFunc)([probabilities]);
    const value = tf.sub(logSumExp, tf.reshape(picked as tf.Tensor, [rows])); // [N]
    const gradFunc = (dy: tf.Tensor, [saved]: tf.Tensor[]) => {
      const scale = tf.reshape(dy, [rows, 1]); // [N, 1]
      return run(
        'NativeScatterAdd',
        { x: tf.mul(saved!, scale), indices: at, updates: tf.neg(scale) },
        { axis: 1 },
      ) as tf.Tensor;
    };
    return { value, gradFunc };
  });
  return loss(logits);
}

/**
 * Grouped-query attention that writes keys and values into a cache: what `attendCached` computes, for
 * heads whose size is a multiple of 16. It has no gradient.
 */
export function fusedCachedAttention(
  q: tf.Tensor4D,
  now: { key: tf.Tensor4D; value: tf.Tensor4D },
  past: { key: tf.Tensor4D; value: tf.Tensor4D },
  lengths: tf.Tensor1D,
  scale: number,
): [tf.Tensor3D, { key: tf.Tensor4D; value: tf.Tensor4D }] {
  const [batch, heads, length, size] = q.shape;
  const groups = now.key.shape[1];
  const merge = (x: tf.Tensor4D) =>
    tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, length, x.shape[1] * size]);
  const inputs = {
    query: merge(q), // [B, T, H * D]
    key: merge(now.key), // [B, T, KV * D]
    value: merge(now.value),
    pastKey: past.key,
    pastValue: past.value,
    last: tf.add(lengths, tf.scalar(length - 1, 'int32')), // [B]
    total: tf.add(tf.max(lengths), tf.scalar(length, 'int32')), // []
  };
  const [mixed, key, value] = run('NativeCachedAttention', inputs, {
    heads,
    groups,
    scale,
  }) as unknown as [tf.Tensor3D, tf.Tensor4D, tf.Tensor4D];
  return [mixed, { key, value }];
}
