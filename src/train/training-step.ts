// One optimizer step as a pure function of batches, compiled by jit: losses and gradients of all
// micro-batches, clipping as torch's clip_grad_norm_, AdamW (Loshchilov & Hutter 2019) as torch.optim's.
import * as tf from '@tensorflow/tfjs';
import { type Jitted, jit } from '../jit/jit.ts';
import type { Module } from '../nn/module.ts';
import type { ResolvedArguments } from './training-arguments.ts';

/** Tensors of one micro-batch by name. */
export type TensorBatch = Record<string, tf.Tensor>;

/** The sum of losses of a micro-batch, a scalar. */
export type LossSum = (batch: TensorBatch) => tf.Scalar;

/** Averages of gradients and of their squares for each trained parameter. */
export interface AdamState {
  name: string;
  parameter: tf.Variable;
  expAvg: tf.Variable;
  expAvgSq: tf.Variable;
  /** Share of the parameter that decays at learning rate 1. */
  decay: number;
}

/** Zero averages for each trainable parameter of `model`. Throws if there is none. */
export function adamState(model: Module, args: ResolvedArguments): AdamState[] {
  const trained = [...model.namedParameters()].filter(([, { trainable }]) => trainable);
  if (trained.length === 0) throw new Error('The model has no trainable parameter');
  const zeros = ({ shape }: tf.Variable) => tf.tidy(() => tf.variable(tf.zeros(shape), false));
  return trained.map(([name, parameter]) => ({
    name,
    parameter,
    expAvg: zeros(parameter),
    expAvgSq: zeros(parameter),
    decay: args.decayParameter(name) ? args.weightDecay : 0,
  }));
}

/** Numbers that change from step to step, as scalars. */
type StepNumbers = {
  learningRate: tf.Scalar;
  /** Labels in all micro-batches together; each loss is divided by it. */
  count: tf.Scalar;
  /** 1 - beta^t of the first average and of the second. */
  correction1: tf.Scalar;
  correction2: tf.Scalar;
};

type StepResult = { loss: tf.Scalar; gradNorm: tf.Scalar };

/** The compiled step; it assigns parameters and averages unless loss or gradients are not finite. */
export type TrainingStep = Jitted<(batches: TensorBatch[], numbers: StepNumbers) => StepResult>;

/** Makes the step for these parameters. */
export function trainingStep(
  lossSum: LossSum,
  state: AdamState[],
  args: ResolvedArguments,
): TrainingStep {
  const variables = state.map(({ parameter }) => parameter);
  return jit(function trainingStep(batches: TensorBatch[], numbers: StepNumbers): StepResult {
    let loss: tf.Tensor | undefined;
    let grads: tf.Tensor[] | undefined;
    for (const batch of batches) {
      const mean = () => tf.div(lossSum(batch), numbers.count) as tf.Scalar;
      const { value, grads: byName } = tf.variableGrads(mean, variables);
      const found = variables.map((variable) => byName[variable.name]!);
      loss = loss ? tf.add(loss, value) : value;
      grads = grads ? grads.map((grad, i) => tf.add(grad, found[i]!)) : found;
    }
    const squares = grads!.map((grad) => tf.sum(tf.square(grad)));
    const gradNorm = tf.sqrt(tf.addN(squares)) as tf.Scalar;
    const shrink = args.maxGradNorm
      ? tf.minimum(tf.div(args.maxGradNorm, tf.add(gradNorm, 1e-6)), 1)
      : tf.scalar(1);
    const finite = tf.isFinite(tf.add(loss!, gradNorm));
    for (const [i, slot] of state.entries()) {
      adamW(slot, tf.mul(grads![i]!, shrink), numbers, args, finite);
    }
    return { loss: loss as tf.Scalar, gradNorm };
  });
}

/** p = (1 - lr * decay) p - lr * m / c1 / (sqrt(v / c2) + eps), where `finite`; else all stays. */
function adamW(
  { parameter, expAvg, expAvgSq, decay }: AdamState,
  grad: tf.Tensor,
  { learningRate, correction1, correction2 }: StepNumbers,
  { adamBeta1, adamBeta2, adamEpsilon }: ResolvedArguments,
  finite: tf.Tensor,
): void {
  const m = tf.add(tf.mul(expAvg, adamBeta1), tf.mul(grad, 1 - adamBeta1));
  const v = tf.add(tf.mul(expAvgSq, adamBeta2), tf.mul(tf.square(grad), 1 - adamBeta2));
  const root = tf.add(tf.div(tf.sqrt(v), tf.sqrt(correction2)), adamEpsilon);
  const change = tf.div(tf.mul(tf.div(learningRate, correction1), m), root);
  const kept = tf.mul(parameter, tf.sub(1, tf.mul(learningRate, decay)));
  parameter.assign(tf.where(finite, tf.sub(kept, change), parameter));
  expAvg.assign(tf.where(finite, m, expAvg));
  expAvgSq.assign(tf.where(finite, v, expAvgSq));
}
