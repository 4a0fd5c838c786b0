// The training step that the workers of `bench engine`, `bench peft` and `bench quant` time.
import * as tf from '@tensorflow/tfjs';
import { AdamW, type AdamWNumbers, type CausalLM, crossEntropy, jit } from 'peftlab';
import type { BenchModel } from './engine-models.ts';

/** A step of AdamW (learning rate 1e-3, decay 0.01) on one batch. */
export function makeStep(
  model: Pick<CausalLM, 'parameters' | 'forward'>,
  sizes: BenchModel,
): () => Promise<number> {
  const params = model.parameters().filter(({ trainable }) => trainable);
  const optimizer = new AdamW(params);
  const step = jit((ids: tf.Tensor2D, labels: tf.Tensor1D, numbers: AdamWNumbers[]) => {
    const loss = () => {
      const { logits } = model.forward(ids);
      return crossEntropy(tf.reshape(logits, [-1, sizes.vocab]), labels) as tf.Scalar;
    };
    const { value, grads } = tf.variableGrads(loss, params);
    optimizer.apply(
      params.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  return async () => {
    const size = sizes.batch * sizes.length;
    const ids = Int32Array.from({ length: size }, () => Math.floor(Math.random() * sizes.vocab));
    const labels = ids.map((id) => (id * 7 + 3) % sizes.vocab);
    const start = performance.now();
    const inputs = [
      tf.tensor2d(ids, [sizes.batch, sizes.length], 'int32'),
      tf.tensor1d(labels, 'int32'),
      optimizer.numbers(),
    ] as const;
    const value = step(...inputs);
    const [loss] = await value.data();
    if (Number.isNaN(loss)) throw new Error('The loss is not a number');
    if (step.fallback) throw new Error(step.fallback);
    tf.dispose([...inputs, value]);
    return performance.now() - start;
  };
}
