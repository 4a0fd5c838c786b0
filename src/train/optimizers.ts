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

interface Slot {
  param: tf.Variable;
  expAvg: tf.Variable;
  expAvgSq: tf.Variable;
  group: number;
}

/** A variable with its averages, and its gradient. */
interface Member {
  slot: Record<keyof AdamWSlot, tf.Variable>;
  grad: tf.Tensor;
}

/** Parameters below this size are updated together: an operator costs more than their numbers do. */
const SMALL = 65536;

/** Small members in one list, each large one in its own. */
function together(members: Member[]): Member[][] {
  const isSmall = ({ grad }: Member) => grad.size < SMALL;
  const small = members.filter(isSmall);
  const large = members.filter((member) => !isSmall(member)).map((member) => [member]);
  return small.length > 0 ? [small, ...large] : large;
}

/** `adamWUpdate` of members as one long vector, assigned to each. */
function adamWTogether(members: Member[], numbers: AdamWNumbers, options: AdamWOptions): void {
  const pack = (pick: (member: Member) => tf.Tensor) =>
    members.length === 1
      ? pick(members[0]!)
      : tf.concat1d(members.map((member) => tf.reshape(pick(member), [-1]) as tf.Tensor1D));
  const packed = {
    param: pack(({ slot }) => slot.param),
    expAvg: pack(({ slot }) => slot.expAvg),
    expAvgSq: pack(({ slot }) => slot.expAvgSq),
  };
  const next = adamWUpdate(
    packed,
    pack(({ grad }) => grad),
    numbers,
    options,
  );
  const lengths = members.map(({ grad }) => grad.size);
  for (const key of ['param', 'expAvg', 'expAvgSq'] as const) {
    const parts = members.length === 1 ? [next[key]] : tf.split(next[key], lengths);
    for (const [i, { slot }] of members.entries()) {
      slot[key].assign(tf.reshape(parts[i]!, slot[key].shape));
    }
  }
}

/** AdamW over variables. `step` is the whole of it; a jit calls `numbers` outside, `apply` inside. */
export class AdamW {
  /** Settings of each group; changing `lr` (a schedule does) counts from the next step. */
  readonly paramGroups: ParamGroup<Required<AdamWOptions>>[];
  /** Steps done so far. */
  stepCount = 0;
  private readonly slots: Slot[];

  /** Throws a RangeError for a setting out of range, or a parameter that is in two groups. */
  constructor(
    params: tf.Variable[] | ParamGroup<AdamWOptions>[],
    { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 }: AdamWOptions = {},
  ) {
    const defaults = { lr, betas, eps, weightDecay };
    this.paramGroups = asGroups(params).map((group) => ({ ...defaults, ...group }));
    this.paramGroups.forEach(checkAdamW);
    this.slots = this.paramGroups.flatMap(({ params: own }, group) =>
      own.map((param) => ({ param, group, expAvg: zerosLike(param), expAvgSq: zerosLike(param) })),
    );
  }

  /** All parameters, group after group. */
  get params(): tf.Variable[] {
    return this.slots.map(({ param }) => param);
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
    checkCount(grads, this.slots);
    tf.tidy(() => {
      for (const [g, group] of this.paramGroups.entries()) {
        const own = this.slots.flatMap((slot, i) =>
          slot.group === g ? [{ slot, grad: grads[i]! }] : [],
        );
        for (const members of together(own)) adamWTogether(members, numbers[g]!, group);
      }
    });
  }

  /** One step from gradients in the order of `params`, which stay the caller's. */
  step(grads: readonly tf.Tensor[]): void {
    checkCount(grads, this.slots);
    const numbers = this.numbers();
    this.apply(grads, numbers);
    tf.dispose(numbers);
  }

  /** Frees the averages; parameters stay. */
  dispose(): void {
    for (const { expAvg, expAvgSq } of this.slots) tf.dispose([expAvg, expAvgSq]);
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
      own.map((param) => ({ param, direction: zerosLike(param), group })),
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
const zerosLike = ({ shape }: tf.Variable) => tf.tidy(() => tf.variable(placeZeros(shape), false));

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
