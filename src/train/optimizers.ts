// AdamW (Loshchilov & Hutter 2019) and SGD in torch.optim's rule and order, as pure updates that jit
// can trace, over groups of parameters.
// Left out: amsgrad, maximize, Nesterov momentum, other norms than torch's defaults.
import * as tf from '@tensorflow/tfjs';
import { placeZeros } from '../jit/place.ts';

/** AdamW's settings, torch's names and defaults; a group may have its own. */
export interface AdamWOptions {
  /** Learning rate, default 1e-3. */
  lr?: number;
  /** How much of the averages of g and g^2 a step keeps, default [0.9, 0.999]. */
  betas?: [number, number];
  /** Added to sqrt(v), default 1e-8. */
  eps?: number;
  /** Share of a parameter that decays at learning rate 1, default 0.01. */
  weightDecay?: number;
}

/** Parameters with settings of their own; what a group leaves out is the optimizer's. */
export type ParamGroup<Options> = { params: tf.Variable[] } & Options;

/** A parameter and AdamW's averages of its gradient and squared gradient, all of one shape. */
export interface AdamWSlot {
  param: tf.Tensor;
  expAvg: tf.Tensor;
  expAvgSq: tf.Tensor;
}

/** Numbers of one AdamW step as scalar tensors, so that a compiled step need not be made anew. */
export type AdamWNumbers = {
  lr: tf.Tensor;
  /** 1 - beta1^t and 1 - beta2^t at step t, counted from 1. */
  correction1: tf.Tensor;
  correction2: tf.Tensor;
};

/**
 * p <- (1 - lr decay) p - lr / c1 * m / (sqrt(v) / sqrt(c2) + eps), with m <- b1 m + (1 - b1) g and
 * v <- b2 v + (1 - b2) g^2. Pure: returns the new tensors.
 */
export function adamWUpdate(
  { param, expAvg, expAvgSq }: AdamWSlot,
  grad: tf.Tensor,
  { lr, correction1, correction2 }: AdamWNumbers,
  { betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 }: AdamWOptions = {},
): AdamWSlot {
  const [beta1, beta2] = betas;
  const m = tf.add(tf.mul(expAvg, beta1), tf.mul(grad, 1 - beta1));
  const v = tf.add(tf.mul(expAvgSq, beta2), tf.mul(tf.square(grad), 1 - beta2));
  // lr / c1 * m / (sqrt(v / c2) + eps), with both corrections in the scalars.
  const root = tf.sqrt(correction2);
  const change = tf.div(m, tf.add(tf.sqrt(v), tf.mul(root, eps)));
  const rate = tf.div(tf.mul(lr, root), correction1);
  const kept = weightDecay === 0 ? param : tf.mul(param, tf.sub(1, tf.mul(lr, weightDecay)));
  const next = tf.sub(kept, tf.mul(change, rate));
  return { param: next, expAvg: m, expAvgSq: v };
}

/** Parameters of one group that are updated as one vector, which its averages are kept as. */
interface Pack {
  params: tf.Variable[];
  group: number;
  /** Where in `AdamW.params` each of them is. */
  at: number[];
  expAvg: tf.Variable;
  expAvgSq: tf.Variable;
}

/** Parameters below this size are updated together: an operator costs more than their numbers do. */
const SMALL = 65536;

/** The small parameters of a group in one pack, each large one in its own. */
function packsOf(params: readonly tf.Variable[], group: number, first: number): Pack[] {
  const all = params.map((_, i) => i);
  const small = all.filter((i) => params[i]!.size < SMALL);
  const large = all.filter((i) => params[i]!.size >= SMALL).map((i) => [i]);
  return (small.length > 0 ? [small, ...large] : large).map((members) => {
    const own = members.map((i) => params[i]!);
    const shape = own.length === 1 ? own[0]!.shape : [own.reduce((n, { size }) => n + size, 0)];
    const averages = { expAvg: zeros(shape), expAvgSq: zeros(shape) };
    return { params: own, group, at: members.map((i) => first + i), ...averages };
  });
}

/** Tensors one after the other as a vector; one alone as it is. */
function joined(tensors: readonly tf.Tensor[]): tf.Tensor {
  if (tensors.length === 1) return tensors[0]!;
  return tf.concat1d(tensors.map((tensor) => tf.reshape(tensor, [-1]) as tf.Tensor1D));
}

/** `adamWUpdate` of a pack, assigned to its parameters and averages. */
function updatePack(
  { params, expAvg, expAvgSq }: Pack,
  grads: readonly tf.Tensor[],
  numbers: AdamWNumbers,
  options: AdamWOptions,
): void {
  const slot = { param: joined(params), expAvg, expAvgSq };
  const next = adamWUpdate(slot, joined(grads), numbers, options);
  const sizes = params.map(({ size }) => size);
  const values = params.length === 1 ? [next.param] : tf.split(next.param, sizes);
  for (const [i, param] of params.entries()) param.assign(tf.reshape(values[i]!, param.shape));
  expAvg.assign(next.expAvg);
  expAvgSq.assign(next.expAvgSq);
}

/** AdamW over variables. `step` is the whole of it; a jit calls `numbers` outside, `apply` inside. */
export class AdamW {
  /** Settings of each group; changing `lr` (a schedule does) counts from the next step. */
  readonly paramGroups: ParamGroup<Required<AdamWOptions>>[];
  /** Steps done so far. */
  stepCount = 0;
  /** All parameters, group after group. */
  readonly params: tf.Variable[];
  private readonly packs: Pack[];

  /** Throws a RangeError for a setting out of range, or a parameter that is in two groups. */
  constructor(
    params: tf.Variable[] | ParamGroup<AdamWOptions>[],
    { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 }: AdamWOptions = {},
  ) {
    const defaults = { lr, betas, eps, weightDecay };
    this.paramGroups = asGroups(params).map((group) => ({ ...defaults, ...group }));
    this.paramGroups.forEach(checkAdamW);
    this.params = this.paramGroups.flatMap(({ params: own }) => own);
    let first = 0;
    this.packs = this.paramGroups.flatMap(({ params: own }, group) => {
      first += own.length;
      return packsOf(own, group, first - own.length);
    });
  }

  /** Numbers of the next step for `apply`, one entry a group; counts the step. */
  numbers(): AdamWNumbers[] {
    const t = ++this.stepCount;
    return this.paramGroups.map(({ lr, betas }) => ({
      lr: tf.scalar(lr),
      correction1: tf.scalar(1 - betas[0] ** t),
      correction2: tf.scalar(1 - betas[1] ** t),
    }));
  }

  /** Assigns parameters and averages their next values, from gradients in the order of `params`. */
  apply(grads: readonly tf.Tensor[], numbers: AdamWNumbers[]): void {
    checkCount(grads, this.params);
    tf.tidy(() => {
      for (const pack of this.packs) {
        const own = pack.at.map((i) => grads[i]!);
        updatePack(pack, own, numbers[pack.group]!, this.paramGroups[pack.group]!);
      }
    });
  }

  /** One step from gradients in the order of `params`, which stay the caller's. */
  step(grads: readonly tf.Tensor[]): void {
    checkCount(grads, this.params);
    const numbers = this.numbers();
    this.apply(grads, numbers);
    tf.dispose(numbers);
  }

  /** Forgets averages and steps, as a new optimizer; what was compiled with it stays of use. */
  reset(): void {
    this.stepCount = 0;
    for (const { expAvg, expAvgSq } of this.packs) {
      for (const average of [expAvg, expAvgSq]) {
        tf.tidy(() => average.assign(placeZeros(average.shape)));
      }
    }
  }

  /** Frees the averages; parameters stay. */
  dispose(): void {
    for (const { expAvg, expAvgSq } of this.packs) tf.dispose([expAvg, expAvgSq]);
  }
}

/** SGD's settings, torch's names and defaults. */
export interface SGDOptions {
  /** Learning rate, default 1e-3. */
  lr?: number;
  /** How much of the earlier direction a step keeps, default 0. */
  momentum?: number;
  /** Weight of p in the gradient (an L2 penalty), default 0. */
  weightDecay?: number;
}

/** p <- p - lr d, with d <- momentum d + (g + decay p), and d = g + decay p at the first step. */
export class SGD {
  readonly paramGroups: ParamGroup<Required<SGDOptions>>[];
  private readonly slots: { param: tf.Variable; direction: tf.Variable; group: number }[];

  constructor(
    params: tf.Variable[] | ParamGroup<SGDOptions>[],
    { lr = 1e-3, momentum = 0, weightDecay = 0 }: SGDOptions = {},
  ) {
    const defaults = { lr, momentum, weightDecay };
    this.paramGroups = asGroups(params).map((group) => ({ ...defaults, ...group }));
    for (const group of this.paramGroups) {
      check('lr', group.lr, group.lr >= 0, 'at least 0');
      check('momentum', group.momentum, group.momentum >= 0, 'at least 0');
      check('weightDecay', group.weightDecay, group.weightDecay >= 0, 'at least 0');
    }
    this.slots = this.paramGroups.flatMap(({ params: own }, group) =>
      own.map((param) => ({ param, direction: zeros(param.shape), group })),
    );
  }

  /** All parameters, group after group. */
  get params(): tf.Variable[] {
    return this.slots.map(({ param }) => param);
  }

  /** One step from gradients in the order of `params`, which stay the caller's. */
  step(grads: readonly tf.Tensor[]): void {
    checkCount(grads, this.slots);
    tf.tidy(() => {
      for (const [i, { param, direction, group }] of this.slots.entries()) {
        const { lr, momentum, weightDecay } = this.paramGroups[group]!;
        const d = tf.add(grads[i]!, tf.mul(param, weightDecay));
        direction.assign(tf.add(tf.mul(direction, momentum), d));
        param.assign(tf.sub(param, tf.mul(direction, lr)));
      }
    });
  }

  /** Frees the directions; parameters stay. */
  dispose(): void {
    for (const { direction } of this.slots) direction.dispose();
  }
}

/** A variable of zeros that is not trained. */
const zeros = (shape: readonly number[]) => tf.tidy(() => tf.variable(placeZeros(shape), false));

/** Parameters in groups; throws if there is none, or one is in two groups. */
export function asGroups<O>(params: tf.Variable[] | ParamGroup<O>[]): ParamGroup<O>[] {
  const isGroup = (entry: tf.Variable | ParamGroup<O>): entry is ParamGroup<O> => 'params' in entry;
  const groups = params.every((entry) => isGroup(entry))
    ? (params as ParamGroup<O>[])
    : [{ params } as ParamGroup<O>];
  const all = groups.flatMap((group) => group.params);
  if (all.length === 0) throw new RangeError('An optimizer needs at least one parameter, got none');
  if (new Set(all).size < all.length) {
    throw new RangeError('A parameter must be in one group of an optimizer once, got one twice');
  }
  return groups;
}

/** Throws a RangeError for a setting out of range. */
export function checkAdamW({ lr, betas, eps, weightDecay }: Required<AdamWOptions>): void {
  check('lr', lr, lr >= 0, 'at least 0');
  for (const beta of betas) check('betas', beta, beta >= 0 && beta < 1, 'at least 0 and below 1');
  check('eps', eps, eps >= 0, 'at least 0');
  check('weightDecay', weightDecay, weightDecay >= 0, 'at least 0');
}

function check(name: string, value: number, holds: boolean, rule: string): void {
  if (!holds) throw new RangeError(`The ${name} must be ${rule}, got ${value}`);
}

function checkCount(grads: readonly tf.Tensor[], slots: readonly unknown[]): void {
  if (grads.length === slots.length) return;
  throw new RangeError(`A step needs ${slots.length} gradients, got ${grads.length}`);
}
