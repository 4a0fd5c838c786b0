// A compiled step of AdamW on a model, whose loss is the mean square of its logits.
import * as tf from '@tensorflow/tfjs';
import { AdamW, type AdamWNumbers, type CausalLM, jit } from 'peftlab';

/** The step of what is trainable in `model`, and its optimizer. */
export function adamwStep(model: Pick<CausalLM, 'parameters' | 'forward'>) {
  const own = model.parameters().filter(({ trainable }) => trainable);
  const optimizer = new AdamW(own);
  const step = jit((ids: tf.Tensor2D, numbers: AdamWNumbers[]) => {
    const loss = () => tf.mean(tf.square(model.forward(ids).logits)) as tf.Scalar;
    const { value, grads } = tf.variableGrads(loss, own);
    optimizer.apply(
      own.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  return { own, optimizer, step };
}
