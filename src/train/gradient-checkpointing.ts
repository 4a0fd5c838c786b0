// Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): of each layer only its input is kept,
// and the layer runs a second time when its gradient is due: memory for a third more computing.
// Layers are those of this library's models: they return their output first. Left out: their caches.
import * as tf from '@tensorflow/tfjs';
import { type Module, type ParameterSlot, parameterSlots, withParameters } from '../nn/module.ts';

type Forward = (x: tf.Tensor, ...rest: unknown[]) => unknown;

/**
 * Lets every layer below a list of layers (`layers.0`, `h.0`) compute itself anew for its gradient,
 * until the returned function is called. Throws if the model has no such list.
 */
export function checkpointLayers(model: Module): () => void {
  const layers = [...model.namedModules()]
    .filter(([path]) => /(^|\.)(layers|h)\.\d+$/.test(path))
    .map(([, layer]) => layer as Module & { forward: Forward });
  if (layers.length === 0) {
    throw new Error('Gradient checkpointing needs layers named layers.N or h.N, got none');
  }
  for (const layer of layers) {
    const forward = layer.forward.bind(layer) as Forward;
    const isTrained = ({ owner, property }: ParameterSlot) =>
      (owner[property] as tf.Variable).trainable;
    const slots = parameterSlots(layer);
    const trained = slots.filter(isTrained);
    const frozen = slots.filter((slot) => !isTrained(slot));
    layer.forward = (x, ...rest) => {
      // Keys and values before the layer have gradients of their own (prefix tuning).
      const isPlain = !layer.training || rest[1] !== undefined;
      return isPlain ? forward(x, ...rest) : recomputed(forward, { trained, frozen }, x, rest);
    };
  }
  return () => {
    for (const layer of layers) Reflect.deleteProperty(layer, 'forward');
  };
}

/** The layer's output, whose gradient runs the layer again. */
function recomputed(
  forward: Forward,
  { trained, frozen }: { trained: ParameterSlot[]; frozen: ParameterSlot[] },
  x: tf.Tensor,
  rest: unknown[],
): unknown {
  const current = ({ owner, property }: ParameterSlot) => owner[property] as tf.Tensor;
  const context = tensorsIn(rest[0]);
  const run = (input: tf.Tensor, own: tf.Tensor[], others: tf.Tensor[], seen: tf.Tensor[]) => {
    const around = withTensors(rest[0], [...seen]);
    const call = () => forward(input, around) as [tf.Tensor];
    return withParameters([...trained, ...frozen], [...own, ...others], call)[0];
  };
  const others = frozen.map(current);
  const checkpoint = tf.customGrad((...args) => {
    const save = args.at(-1) as unknown as tf.GradSaveFunc;
    const inputs = args.slice(0, -1) as tf.Tensor[];
    save([...inputs, ...others, ...context]);
    const gradFunc = (dy: tf.Tensor, saved: tf.Tensor[]) => {
      const seen = saved.slice(inputs.length + others.length);
      const fixed = saved.slice(inputs.length, inputs.length + others.length);
      const again = tf.grads((input, ...own) => run(input!, own, fixed, seen));
      return withinGradient(() => again(saved.slice(0, inputs.length), dy));
    };
    return { value: run(inputs[0]!, inputs.slice(1), others, context), gradFunc };
  });
  return [checkpoint(x, ...trained.map(current)), undefined];
}

/** Keeps the tape of the gradient in progress, which TensorFlow.js drops when an inner one ends. */
function withinGradient<T>(run: () => T): T {
  const { state } = tf.engine();
  const { activeTape } = state;
  const result = run();
  Object.assign(state, { activeTape });
  return result;
}

/** All tensors in arrays and records, in order. */
function tensorsIn(value: unknown): tf.Tensor[] {
  if (value instanceof tf.Tensor) return [value];
  if (typeof value !== 'object' || value === null) return [];
  return Object.values(value).flatMap(tensorsIn);
}

/** The same arrays and records with other tensors, which are taken from the front of `tensors`. */
function withTensors(value: unknown, tensors: tf.Tensor[]): unknown {
  if (value instanceof tf.Tensor) return tensors.shift();
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => withTensors(item, tensors));
  const entries = Object.entries(value).map(([key, item]) => [key, withTensors(item, tensors)]);
  return Object.fromEntries(entries);
}
