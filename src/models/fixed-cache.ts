// Keys and values in buffers of fixed size, and the compiled steps that fill them: their graphs serve
// all steps of a generation, and many generations.
import * as tf from '@tensorflow/tfjs';
import { type Jitted, jit } from '../jit/jit.ts';
import type { KeyValue } from '../nn/attention.ts';
import type { CausalLM } from './causal-lm.ts';

/** What a step over a cache of fixed size gives: logits [B, V] or [T, V], and the best ids. */
export type StepOutput = { logits: tf.Tensor2D; best: tf.Tensor2D; layers: KeyValue[] };
type Step = (
  ids: tf.Tensor2D,
  lengths: tf.Tensor1D,
  at: tf.Tensor1D | null,
  layers: KeyValue[],
) => StepOutput;

/** What greedy steps hand on. */
type Greedy = { ids: tf.Tensor2D; lengths: tf.Tensor1D; layers: KeyValue[] };
/** A token of each row further: what is handed on, and the best next ids [B, 1]. */
type GreedyStep = (carry: Greedy) => [Greedy, tf.Tensor2D];

/** Steps of any ids, and of greedy tokens; each holds a graph for each shape. */
interface Steps {
  step: Jitted<Step>;
  greedy: Jitted<GreedyStep>;
}

/** A model's steps as it stands. */
interface ModelSteps extends Steps {
  key: string;
  /** How many steps of one token each shape of cache has run on the weights of now. */
  ran: Map<string, number>;
  parameters: tf.Variable[];
  /** Which values the parameters had then. */
  weights: object[];
  /** Steps on packed weights, for one shape of cache. */
  packed?: Steps & { shape: string };
}

/** Steps of one token in the time that packing takes: who has run that many packs, and holds weights twice. */
const PACKING_STEPS = 64;

const compiled = new WeakMap<CausalLM, ModelSteps>();

function stepsOf(model: CausalLM): ModelSteps {
  const parameters = model.parameters();
  const key = `${model.training} ${model.forwardKey ?? ''} ${parameters.map(({ id }) => id)}`;
  const known = compiled.get(model);
  if (known?.key === key) return known;
  disposeSteps(model);
  const counts = { ran: new Map(), parameters, weights: [] };
  const steps = { key, ...compileSteps(model, false), ...counts };
  compiled.set(model, steps);
  return steps;
}

const compileSteps = (model: CausalLM, freeze: boolean): Steps => ({
  step: compileStep(model, freeze),
  greedy: compileGreedy(model, freeze),
});

/** The steps to run `count` tokens with on a cache of this shape. */
function stepsOfOne(model: CausalLM, steps: ModelSteps, shape: string, count: number): Steps {
  const weights = steps.parameters.map(({ dataId }) => dataId);
  if (weights.some((id, i) => id !== steps.weights[i])) {
    dropPacked(steps);
    steps.weights = weights;
  }
  const ran = steps.ran.get(shape) ?? 0;
  steps.ran.set(shape, ran + count);
  if (steps.packed?.shape === shape) return steps.packed;
  if (ran < PACKING_STEPS) return steps;
  dropPacked(steps);
  steps.packed = { shape, ...compileSteps(model, true) };
  return steps.packed;
}

/** Frees packed weights; all shapes count anew. */
function dropPacked(steps: ModelSteps): void {
  steps.packed?.step.dispose();
  steps.packed?.greedy.dispose();
  delete steps.packed;
  steps.ran.clear();
}

function compileStep(model: CausalLM, freeze: boolean): Jitted<Step> {
  const step: Step = (ids, lengths, logitsAt, layers) => {
    const cache = { lengths, layers };
    const options = { cache, useCache: true, ...(logitsAt ? { logitsAt } : {}) };
    const { logits, pastKeyValues } = model.forward(ids, options);
    const [batch, count, size] = logits.shape;
    const best = tf.reshape(tf.argMax(logits, -1), [batch, count]) as tf.Tensor2D;
    return {
      logits: tf.reshape(logits, [batch * count, size]),
      best,
      layers: pastKeyValues!,
    };
  };
  return jit(step, { donate: [3], freeze });
}

function compileGreedy(model: CausalLM, freeze: boolean): Jitted<GreedyStep> {
  const greedy: GreedyStep = ({ ids, lengths, layers }) => {
    const cache = { lengths, layers };
    const { logits, pastKeyValues } = model.forward(ids, { cache, useCache: true });
    const best = tf.argMax(logits, -1) as tf.Tensor2D; // [B, 1]
    const next = tf.add(lengths, tf.scalar(1, 'int32')) as tf.Tensor1D;
    return [{ ids: best, lengths: next, layers: pastKeyValues! }, best];
  };
  return jit(greedy, { freeze });
}

/** Frees the compiled steps of a model. */
export function disposeSteps(model: CausalLM): void {
  const known = compiled.get(model);
  if (known) dropPacked(known);
  known?.step.dispose();
  known?.greedy.dispose();
  compiled.delete(model);
}

/** Keys and values in buffers of fixed size, and how far each row fills them. */
export class FixedCache {
  private readonly model: CausalLM;
  private readonly steps: ModelSteps;
  private readonly shape: string;
  private layers: KeyValue[];

  constructor(model: CausalLM, batch: number, capacity: number) {
    this.model = model;
    this.steps = stepsOf(model);
    this.shape = `${batch} ${capacity}`;
    const { layers, heads, size } = cacheShape(model);
    const zeros = () => tf.zeros([batch, heads, capacity, size]) as tf.Tensor4D;
    this.layers = Array.from({ length: layers }, () => ({ key: zeros(), value: zeros() }));
  }

  /** Runs ids [B, T] at `lengths`; with `at`, the logits are those of that one position. */
  run(ids: tf.Tensor2D, lengths: readonly number[], at: readonly number[] | null): StepOutput {
    const integers = (x: readonly number[]) => tf.tensor1d([...x], 'int32');
    const inputs = [integers(lengths), at && integers(at)] as const;
    const { step } = ids.shape[1] === 1 ? this.stepsOfOne(1) : this.steps;
    const output = step(ids, ...inputs, this.layers);
    tf.dispose(inputs as unknown as tf.TensorContainer);
    this.layers = output.layers;
    return output;
  }

  /** The best ids [B, 1] after ids at `lengths`, and those that follow them: [count, B, 1]. */
  runGreedy(
    ids: tf.Tensor2D,
    lengths: readonly number[],
    count: number,
  ): { ids: tf.Tensor2D; outputs: tf.Tensor } {
    const carry = { ids, lengths: tf.tensor1d([...lengths], 'int32'), layers: this.layers };
    const [next, outputs] = this.stepsOfOne(count).greedy.scan(carry, count);
    next.lengths.dispose();
    this.layers = next.layers;
    return { ids: next.ids, outputs };
  }

  private stepsOfOne(count: number): Steps {
    return stepsOfOne(this.model, this.steps, this.shape, count);
  }

  dispose(): void {
    tf.dispose(this.layers as unknown as tf.TensorContainer);
  }
}

/** Layers, heads and head size of a model's keys. */
function cacheShape({ config }: CausalLM): { layers: number; heads: number; size: number } {
  if (config.modelType === 'gpt2') {
    const { nLayer, nHead, nEmbd } = config;
    return { layers: nLayer, heads: nHead, size: nEmbd / nHead };
  }
  const { numHiddenLayers, numKeyValueHeads, headDim } = config;
  return { layers: numHiddenLayers, heads: numKeyValueHeads, size: headDim };
}

/** Up to 64 a power of two, above a multiple of 64, so that few graphs serve all lengths. */
export function rounded(length: number): number {
  if (length > 64) return Math.ceil(length / 64) * 64;
  return 2 ** Math.max(4, Math.ceil(Math.log2(length)));
}
