// One optimizer step as a pure function of batches, compiled by jit: losses and gradients of all
// micro-batches, clipping as torch's clip_grad_norm_, AdamW (Loshchilov & Hutter 2019) or SGD. A paged
// optimizer's part comes after the graph, which then gives gradients.
import * as tf from '@tensorflow/tfjs';
import { type Jitted, jit } from '../jit/jit.ts';
import { functionalCall, type Module } from '../nn/module.ts';
import { roundHalf } from './half-precision.ts';
import { adamWUpdate } from './optimizers.ts';
import { PagedAdamW } from './paged-adamw.ts';
import { precisionOf, type ResolvedArguments } from './training-arguments.ts';

/** Tensors of one micro-batch by name. */
export type TensorBatch = Record<string, tf.Tensor>;

/** The sum of losses over the items of a micro-batch, and means that are only logged. */
export type BatchLoss = { loss: tf.Scalar; metrics?: Record<string, tf.Scalar> };

/** A trained parameter, and AdamW's averages of its gradient and squared gradient. */
export interface TrainedSlot {
  name: string;
  parameter: tf.Variable;
  averages: { expAvg: tf.Variable; expAvgSq: tf.Variable } | undefined;
  /** Share of the parameter that decays at learning rate 1. */
  decay: number;
  /** Times the learning rate of the run (LoRA+). */
  lrRatio: number;
}

/** A slot with zero averages for each trainable parameter of `model`. Throws if there is none. */
export function trainedSlots(model: Module, args: ResolvedArguments): TrainedSlot[] {
  const trained = [...model.namedParameters()].filter(([, { trainable }]) => trainable);
  if (trained.length === 0) throw new Error('The model has no trainable parameter');
  const zeros = ({ shape }: tf.Variable) => tf.tidy(() => tf.variable(tf.zeros(shape), false));
  return trained.map(([name, parameter]) => ({
    name,
    parameter,
    averages:
      args.optim === 'adamw_torch'
        ? { expAvg: zeros(parameter), expAvgSq: zeros(parameter) }
        : undefined,
    decay: args.decayParameter(name) ? args.weightDecay : 0,
    lrRatio: /(^|\.)lora_(embedding_)?b(\.|$)/i.test(name) ? args.loraplusLrRatio : 1,
  }));
}

/** The optimizer whose averages are outside of the graph, if the arguments ask for one. */
export function outsideOptimizer(
  slots: readonly TrainedSlot[],
  args: ResolvedArguments,
): PagedAdamW | undefined {
  const { optim, optimArgs, adamBeta1, adamBeta2, adamEpsilon: eps } = args;
  if (optim === 'adamw_torch' || optim === 'sgd') return undefined;
  const groups = slots.map(({ parameter, decay, lrRatio }) => ({
    params: [parameter],
    weightDecay: decay,
    lrRatio,
  }));
  const optimBits = optim.endsWith('32bit') ? 32 : 8;
  return new PagedAdamW(groups, { betas: [adamBeta1, adamBeta2], eps, optimBits, ...optimArgs });
}

/** Numbers that change from step to step, as scalars. */
export type StepNumbers = {
  learningRate: tf.Scalar;
  /** What the loss of each micro-batch is divided by. */
  divisors: tf.Scalar[];
  /** 1 - beta^t of the first average and of the second. */
  correction1: tf.Scalar;
  correction2: tf.Scalar;
  /** What the loss is multiplied by before gradients are rounded to fp16. */
  lossScale: tf.Scalar;
};

/** What a step tells; where `isFinite` is 0 it has changed nothing. */
export type StepResult = {
  loss: tf.Scalar;
  gradNorm: tf.Scalar;
  metrics: Record<string, tf.Scalar>;
  /** Clipped gradients in the order of the slots, for an optimizer outside of the graph. */
  grads: tf.Tensor[];
};

/** The compiled step; it assigns parameters and averages unless loss or gradients are not finite. */
export type TrainingStep = Jitted<(batches: TensorBatch[], numbers: StepNumbers) => StepResult>;

/** Makes the step for these parameters. */
export function trainingStep(
  model: Module,
  lossOf: (batch: TensorBatch) => BatchLoss,
  slots: readonly TrainedSlot[],
  args: ResolvedArguments,
): TrainingStep {
  return jit(function trainingStep(batches: TensorBatch[], numbers: StepNumbers): StepResult {
    const { loss, grads, metrics } = accumulate(model, lossOf, slots, { batches, numbers, args });
    const squares = grads.map((grad) => tf.sum(tf.square(grad)));
    const gradNorm = tf.sqrt(tf.addN(squares)) as tf.Scalar;
    const shrink = args.maxGradNorm
      ? tf.minimum(tf.div(args.maxGradNorm, tf.add(gradNorm, 1e-6)), 1)
      : tf.scalar(1);
    if (args.optim !== 'adamw_torch' && args.optim !== 'sgd') {
      return { loss, gradNorm, metrics, grads: grads.map((grad) => tf.mul(grad, shrink)) };
    }
    const finite = tf.isFinite(tf.add(loss, gradNorm));
    const members = slots.map((slot, i) => ({ slot, grad: grads[i]! }));
    for (const group of together(members)) update(group, shrink, { numbers, args, finite });
    return { loss, gradNorm, metrics, grads: [] };
  });
}

interface Accumulated {
  loss: tf.Scalar;
  /** In the order of the slots. */
  grads: tf.Tensor[];
  metrics: Record<string, tf.Scalar>;
}

/** Sums of losses and gradients of all micro-batches, and means of their metrics. */
function accumulate(
  model: Module,
  lossOf: (batch: TensorBatch) => BatchLoss,
  slots: readonly TrainedSlot[],
  {
    batches,
    numbers,
    args,
  }: { batches: TensorBatch[]; numbers: StepNumbers; args: ResolvedArguments },
): Accumulated {
  const variables = slots.map(({ parameter }) => parameter);
  const precision = precisionOf(args);
  const total: Partial<Accumulated> = {};
  const logged: Record<string, tf.Scalar>[] = [];
  for (const [i, batch] of batches.entries()) {
    const scaledMean = () => {
      const run = () => lossOf(batch);
      const rounded = () => {
        const parameters = [...model.namedParameters()];
        const halves = parameters.map(([name, own]) => [name, roundHalf(own, precision)] as const);
        return functionalCall(model, new Map(halves), run);
      };
      const { loss, metrics = {} } = precision === 'no' ? run() : rounded();
      logged.push(metrics);
      for (const metric of Object.values(metrics)) tf.keep(metric);
      const mean = tf.div(loss, numbers.divisors[i]!);
      return (precision === 'fp16' ? tf.mul(mean, numbers.lossScale) : mean) as tf.Scalar;
    };
    const { value, grads: byName } = tf.variableGrads(scaledMean, variables);
    const unscale = (x: tf.Tensor) => (precision === 'fp16' ? tf.div(x, numbers.lossScale) : x);
    const found = variables.map((variable) => unscale(byName[variable.name]!));
    const loss = unscale(value) as tf.Scalar;
    total.loss = total.loss ? tf.add(total.loss, loss) : loss;
    total.grads = total.grads ? total.grads.map((grad, j) => tf.add(grad, found[j]!)) : found;
  }
  return { ...(total as Accumulated), metrics: meansOf(logged) };
}

/** The mean of each metric over micro-batches, which are freed. */
function meansOf(logged: Record<string, tf.Scalar>[]): Record<string, tf.Scalar> {
  const names = Object.keys(logged[0] ?? {});
  const mean = (name: string) => {
    const values = logged.map((metrics) => metrics[name]!);
    const result = tf.div(tf.addN(values), values.length) as tf.Scalar;
    tf.dispose(values);
    return result;
  };
  return Object.fromEntries(names.map((name) => [name, mean(name)]));
}

interface Member {
  slot: TrainedSlot;
  grad: tf.Tensor;
}

/** Parameters below this size are updated together: an operator costs more than their numbers do. */
const SMALL = 65536;

/** Members that one update takes: small ones of the same settings, or a large one alone. */
function together(members: Member[]): Member[][] {
  const groups = new Map<string, Member[]>();
  for (const [i, member] of members.entries()) {
    const { decay, lrRatio } = member.slot;
    const key = member.grad.size < SMALL ? `${decay} ${lrRatio}` : `large ${i}`;
    groups.set(key, [...(groups.get(key) ?? []), member]);
  }
  return [...groups.values()];
}

/** The optimizer's step on parameters as one vector, where `finite`; else all stays as it is. */
function update(
  members: Member[],
  shrink: tf.Tensor,
  { numbers, args, finite }: { numbers: StepNumbers; args: ResolvedArguments; finite: tf.Tensor },
): void {
  const { decay, lrRatio } = members[0]!.slot;
  const lr = lrRatio === 1 ? numbers.learningRate : tf.mul(numbers.learningRate, lrRatio);
  const grad = tf.mul(packed(members.map((member) => member.grad)), shrink);
  const parameters = members.map(({ slot }) => slot.parameter);
  const averages = members.flatMap(({ slot }) => slot.averages ?? []);
  const param = packed(parameters);
  if (averages.length === 0) {
    const slope = decay === 0 ? grad : tf.add(grad, tf.mul(param, decay));
    assign(parameters, tf.where(finite, tf.sub(param, tf.mul(slope, lr)), param));
    return;
  }
  const [firsts, seconds] = [
    averages.map(({ expAvg }) => expAvg),
    averages.map(({ expAvgSq }) => expAvgSq),
  ];
  const before = { param, expAvg: packed(firsts), expAvgSq: packed(seconds) };
  const { correction1, correction2 } = numbers;
  const next = adamWUpdate(
    before,
    grad,
    { lr, correction1, correction2 },
    { betas: [args.adamBeta1, args.adamBeta2], eps: args.adamEpsilon, weightDecay: decay },
  );
  assign(parameters, tf.where(finite, next.param, before.param));
  assign(firsts, tf.where(finite, next.expAvg, before.expAvg));
  assign(seconds, tf.where(finite, next.expAvgSq, before.expAvgSq));
}

/** Tensors one after the other as a vector; one alone as it is. */
function packed(tensors: readonly tf.Tensor[]): tf.Tensor {
  if (tensors.length === 1) return tensors[0]!;
  return tf.concat1d(tensors.map((tensor) => tf.reshape(tensor, [-1]) as tf.Tensor1D));
}

function assign(variables: readonly tf.Variable[], values: tf.Tensor): void {
  const sizes = variables.map(({ size }) => size);
  const parts = variables.length === 1 ? [values] : tf.split(values, sizes);
  for (const [i, variable] of variables.entries()) {
    variable.assign(tf.reshape(parts[i]!, variable.shape));
  }
}
