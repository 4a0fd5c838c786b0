// Merging whole models, parameter by parameter: task vectors tau = theta_tuned - theta_base (Ilharco et
// al. 2023), which add, scale and negate, and mergekit's methods over all parameters of a model.
// Left out: parts of a model with settings of their own, models of different shapes.
import * as tf from '@tensorflow/tfjs';
import type { Module } from '../nn/module.ts';
import {
  linearMerge,
  type MergeParameters,
  slerp,
  type TaskMergeMethod,
  taskMerge,
} from './mergekit.ts';
import { seededMasks } from './prune.ts';

/** How models become one; `base` is none of `models`. */
export interface MergeRecipe extends Partial<MergeParameters> {
  mergeMethod: 'linear' | 'slerp' | TaskMergeMethod;
  /** What changes are counted from; slerp's first model. Not for 'linear'. */
  base?: Module;
  /** Share of the way from `base` to the only model, for 'slerp'. */
  t?: number;
  /** Seed of the masks of `dare_*`, where `masks` is not given. Default 0. */
  seed?: number;
}

/** A change of weights by the names of parameters. It owns its tensors; each operation makes new ones. */
export class TaskVector {
  readonly deltas: ReadonlyMap<string, tf.Tensor>;

  /** Takes over the tensors. */
  constructor(deltas: ReadonlyMap<string, tf.Tensor>) {
    this.deltas = deltas;
  }

  /** tuned - base; throws unless both have the same parameters. */
  static between(base: Module, tuned: Module): TaskVector {
    const parameters = aligned([base, tuned]);
    return new TaskVector(
      mapped(parameters, (_, [before, after]) => tf.sub(after as tf.Tensor, before as tf.Tensor)),
    );
  }

  /** factor * tau. */
  scale(factor: number): TaskVector {
    checkFactor(factor);
    return new TaskVector(mapped(this.deltas, (_, delta) => tf.mul(delta, factor)));
  }

  /** -tau: to forget what it does. */
  negate(): TaskVector {
    return this.scale(-1);
  }

  /** tau + other. */
  add(other: TaskVector): TaskVector {
    checkSame(this.deltas, other.deltas);
    return new TaskVector(mapped(this.deltas, (key, own) => tf.add(own, other.deltas.get(key)!)));
  }

  /** Adds factor * tau to a model's parameters. */
  applyTo(model: Module, factor = 1): void {
    checkFactor(factor);
    const parameters = new Map(model.namedParameters());
    checkSame(this.deltas, parameters);
    for (const [name, delta] of this.deltas) {
      const parameter = parameters.get(name)!;
      tf.tidy(() => parameter.assign(tf.add(parameter, tf.mul(delta, factor))));
    }
  }

  /** |tau| over all parameters. */
  norm(): number {
    return Math.sqrt(this.dot(this));
  }

  /** Cosine of the angle to another; near 0 when tasks change different things. */
  cosine(other: TaskVector): number {
    checkSame(this.deltas, other.deltas);
    return this.dot(other) / (this.norm() * other.norm());
  }

  dispose(): void {
    tf.dispose([...this.deltas.values()]);
  }

  private dot(other: TaskVector): number {
    const products = [...this.deltas].map(([name, delta]) =>
      tf.tidy(() => tf.sum(tf.mul(delta, other.deltas.get(name)!)).dataSync()[0]!),
    );
    return products.reduce((sum, product) => sum + product, 0);
  }
}

/** Merges `models` into `into`, which may be the base or one of them; weights are 1 by default. */
export function mergeModels(into: Module, models: readonly Module[], recipe: MergeRecipe): void {
  const { mergeMethod, base, seed = 0 } = recipe;
  checkRecipe(models, recipe);
  const parameters = aligned([into, ...(base ? [base] : []), ...models]);
  const options: MergeParameters = {
    ...recipe,
    weights: recipe.weights ?? models.map(() => 1),
    masks: recipe.masks ?? seededMasks(seed),
  };
  const merged = mapped(parameters, (_, [, ...rest]) => {
    const tensors = rest as tf.Tensor[];
    if (mergeMethod === 'linear') return linearMerge(tensors, options);
    const [from, ...others] = tensors as [tf.Tensor, ...tf.Tensor[]];
    if (mergeMethod === 'slerp') return slerp(recipe.t!, from, others[0]!);
    return taskMerge(mergeMethod, from, others, options);
  });
  for (const [name, tensor] of merged) {
    parameters.get(name)![0]!.assign(tensor);
    tensor.dispose();
  }
}

function checkRecipe(models: readonly Module[], { mergeMethod, base, t }: MergeRecipe): void {
  const methods = ['linear', 'slerp', 'task_arithmetic', 'ties', 'dare_linear', 'dare_ties'];
  if (!methods.includes(mergeMethod)) {
    throw new RangeError(
      `mergeMethod must be one of ${methods.join(', ')}, got ${JSON.stringify(mergeMethod)}`,
    );
  }
  if (models.length === 0) throw new RangeError('A merge needs at least one model, got none');
  if (mergeMethod === 'linear' && base) throw new TypeError("mergeMethod 'linear' takes no base");
  if (mergeMethod !== 'linear' && !base) {
    throw new TypeError(`mergeMethod '${mergeMethod}' needs a base`);
  }
  if (mergeMethod !== 'slerp') return;
  if (models.length !== 1) {
    throw new RangeError(`mergeMethod 'slerp' takes a base and one model, got ${models.length}`);
  }
  if (t === undefined || !Number.isFinite(t)) {
    throw new RangeError(`mergeMethod 'slerp' needs t, a number, got ${t}`);
  }
}

/** The parameters of several models by name. */
function aligned(models: readonly Module[]): Map<string, tf.Variable[]> {
  const all = models.map((model) => new Map(model.namedParameters()));
  const [first, ...others] = all as [Map<string, tf.Variable>, ...Map<string, tf.Variable>[]];
  for (const other of others) checkSame(first, other);
  return new Map([...first.keys()].map((name) => [name, all.map((own) => own.get(name)!)]));
}

/** New tensors by the same names; none are left behind when one fails. */
function mapped<V>(
  values: ReadonlyMap<string, V>,
  make: (name: string, value: V) => tf.Tensor,
): Map<string, tf.Tensor> {
  const made = tf.tidy(() =>
    Object.fromEntries(
      [...values].map(([name, value]) => [name, tf.tidy(() => make(name, value))]),
    ),
  );
  return new Map(Object.entries(made));
}

function checkSame(
  one: ReadonlyMap<string, tf.Tensor>,
  other: ReadonlyMap<string, tf.Tensor>,
): void {
  for (const name of new Set([...one.keys(), ...other.keys()])) {
    const [a, b] = [one.get(name), other.get(name)].map((tensor) =>
      tensor ? `[${tensor.shape}]` : 'no such parameter',
    );
    if (a !== b) {
      throw new RangeError(`Models to merge must have one shape, got ${a} and ${b} for '${name}'`);
    }
  }
}

function checkFactor(factor: number): void {
  if (Number.isFinite(factor)) return;
  throw new RangeError(`A task vector's factor must be a finite number, got ${factor}`);
}
