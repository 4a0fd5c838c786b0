// Native forms of what a model computes most, with gradients: one operator in place of several.
// Layers call them while they are traced (`isTracing`); their plain form says what they compute.
import * as tf from '@tensorflow/tfjs';

const run = (kernel: string, inputs: Record<string, tf.Tensor>, attributes: object = {}) =>
  tf.engine().runKernel(kernel, inputs, attributes as tf.NamedAttrMap);

/**
 * x r * weight with r = 1 / sqrt(mean(x^2) + eps) over the last axis: x [..., C], weight [C].
 * Its gradients: dx = dy weight r - x r^3 (dy x . weight) / C, dweight = sum of dy x r.
 */
export function fusedRmsNorm(x: tf.Tensor, weight: tf.Tensor, eps: number): tf.Tensor {
  const norm = tf.customGrad((...args) => {
    const [input, scale, save] = args as unknown as [tf.Tensor, tf.Tensor, tf.GradSaveFunc];
    const inputs = { x: input, weight: scale };
    const [value, inverse] = run('NativeRMSNorm', inputs, { eps }) as unknown as tf.Tensor[];
    save([input, scale, inverse!]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const size = scale.size;
      const flat = tf.reshape(saved[0]!, [-1, size]); // [N, C]
      const g = tf.reshape(saved[1]!, [size, 1]);
      const r = tf.reshape(saved[2]!, [-1, 1]); // [N, 1]
      const slope = tf.reshape(dy, [-1, size]); // [N, C]
      const both = tf.mul(slope, flat); // [N, C]
      const along = tf.mul(tf.matMul(both, g), tf.mul(tf.mul(r, tf.square(r)), 1 / size)); // [N, 1]
      const straight = tf.mul(tf.mul(slope, tf.reshape(g, [size])), r); // [N, C]
      const dx = tf.sub(straight, tf.mul(flat, along)); // [N, C]
      return [tf.reshape(dx, dy.shape), tf.reshape(tf.matMul(r, both, true), [size])];
    };
    return { value: value!, gradFunc };
  });
  return norm(x, weight);
}

/** y = x s with s = sigmoid(x); its slope is y + s (1 - y). */
export function fusedSilu(x: tf.Tensor): tf.Tensor {
  const silu = tf.customGrad((input, save) => {
    const value = run('NativeSilu', { x: input as tf.Tensor }) as tf.Tensor;
    (save as tf.GradSaveFunc)([input as tf.Tensor, value]);
    const gradFunc = (dy: tf.Tensor, [saved, y]: tf.Tensor[]) => {
      const s = tf.sigmoid(saved!);
      return tf.mul(dy, tf.add(y!, tf.mul(s, tf.sub(1, y!)))); // y + s (1 - y)
    };
    return { value, gradFunc };
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

/**
 * O = P v with P = softmax(q k^T scale + bias): q [B, KV, R, D] of R = G T rows, k and v [B, KV, S, D],
 * bias [B or 1, 1, 1, T, S]. Gradients as FlashAttention has them (Dao et al. 2022): with dP = dO v^T,
 * dS = P (dP - rowsum(dO O)) scale, dq = dS k, dk = dS^T q, dv = P^T dO. `bias` has none.
 */
export function fusedAttention(
  [q, k, v]: [tf.Tensor4D, tf.Tensor4D, tf.Tensor4D],
  scale: number,
  bias?: tf.Tensor,
): tf.Tensor4D {
  const attention = tf.customGrad((...args) => {
    const [query, key, value, save] = args as unknown as [
      tf.Tensor4D,
      tf.Tensor4D,
      tf.Tensor4D,
      tf.GradSaveFunc,
    ];
    const scores = tf.mul(tf.matMul(query, key, false, true), scale); // [B, KV, R, S]
    const weights = tf.softmax(bias ? addBias(scores, bias) : scores); // [B, KV, R, S]
    const mixed = tf.matMul(weights, value); // [B, KV, R, D]
    save([query, key, value, weights, mixed]);
    const gradFunc = (dO: tf.Tensor, saved: tf.Tensor[]) => {
      const [q4, k4, v4, P, O] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
      const dP = tf.matMul(dO, v4, false, true); // [B, KV, R, S]
      const along = tf.sum(tf.mul(dO, O), -1, true); // [B, KV, R, 1]
      const dS = tf.mul(P, tf.sub(dP, along)); // [B, KV, R, S], without scale
      return [
        tf.mul(tf.matMul(dS, k4), scale),
        tf.mul(tf.matMul(dS, q4, true), scale),
        tf.matMul(P, dO, true),
      ];
    };
    return { value: mixed, gradFunc };
  });
  return attention(q, k, v) as tf.Tensor4D;
}

/** scores [B, KV, G T, S] + bias [B or 1, 1, 1, T, S]. */
function addBias(scores: tf.Tensor, bias: tf.Tensor): tf.Tensor {
  const [batch, groups, rows, total] = scores.shape as [number, number, number, number];
  const length = bias.shape[3]!;
  const apart = tf.reshape(scores, [batch, groups, rows / length, length, total]);
  return tf.reshape(tf.add(apart, bias), scores.shape);
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

/** A matrix in 4 bits, as bitsandbytes packs it: two codes a byte, blocks along its rows. */
export interface Matrix4bit {
  packed: tf.Tensor;
  /** Absmax of each block, [ceil(rows columns / blocksize)]. */
  scales: tf.Tensor;
  rows: number;
  blocksize: number;
  quantType: 'nf4' | 'fp4';
}

/** x W^T with W [rows, columns] unpacked by the operator: x [N, columns] to [N, rows]. It has no gradient. */
export function fusedMatMul4bit(
  x: tf.Tensor,
  { packed, scales, ...attributes }: Matrix4bit,
): tf.Tensor {
  return run('NativeMatMulBnb4', { x, packed, scales }, attributes) as tf.Tensor;
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
