// Activation functions under transformers' names (ACT2FN): silu, the GELU family, relu, tanh, sigmoid.
import * as tf from '@tensorflow/tfjs';
import { fusedSilu } from '../jit/fused.ts';
import { isTracing } from '../jit/trace.ts';

/** A function applied to each element. */
export type Activation = (x: tf.Tensor) => tf.Tensor;

/** x * sigmoid(x). */
export const silu: Activation = (x) => (isTracing() ? fusedSilu(x) : tf.mul(x, tf.sigmoid(x)));

/** x/2 * (1 + erf(x / sqrt(2))). */
export const gelu: Activation = (x) =>
  tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1));

/** x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))): GPT-2's approximation of `gelu`. */
export const geluNew: Activation = (x) => {
  const cubic = tf.add(x, tf.mul(tf.mul(tf.square(x), x), 0.044715));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(cubic, Math.sqrt(2 / Math.PI))), 1));
};

/** x * sigmoid(1.702 x). */
export const quickGelu: Activation = (x) => tf.mul(x, tf.sigmoid(tf.mul(x, 1.702)));

const ACT2FN: Record<string, Activation> = {
  silu,
  swish: silu,
  gelu,
  gelu_python: gelu,
  gelu_new: geluNew,
  gelu_fast: geluNew,
  gelu_pytorch_tanh: geluNew,
  gelu_python_tanh: geluNew,
  gelu_accurate: geluNew,
  quick_gelu: quickGelu,
  relu: (x) => tf.relu(x),
  relu2: (x) => tf.square(tf.relu(x)),
  relu6: (x) => tf.relu6(x),
  leaky_relu: (x) => tf.leakyRelu(x, 0.01),
  tanh: (x) => tf.tanh(x),
  sigmoid: (x) => tf.sigmoid(x),
  mish: (x) => tf.mul(x, tf.tanh(tf.softplus(x))),
  linear: (x) => x,
};

/** The activation that transformers calls `name`; throws if it is none of those here. */
export function getActivation(name: string): Activation {
  const activation = Object.hasOwn(ACT2FN, name) ? ACT2FN[name] : undefined;
  if (activation) return activation;
  const known = Object.keys(ACT2FN).join(', ');
  throw new RangeError(`Activation must be one of ${known}, got '${name}'`);
}
