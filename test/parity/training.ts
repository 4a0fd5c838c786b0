// Kind 02_train: five steps of AdamW by torch, on all weights or on an adapter that PEFT made.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { causalLMLoss } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { PeftModel } from '../../src/peft/peft-model.ts';
import { loadFile, type RawTensor, toFloat32 } from '../../src/tensor/safetensors.ts';
import type { SchedulerType } from '../../src/train/schedulers.ts';
import { Trainer } from '../../src/train/trainer.ts';
import { type Check, close, type Measure } from './measure.ts';
import { padLabels } from './peft.ts';

interface TrainConfig {
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
  schedule: SchedulerType;
  num_warmup_steps: number;
  num_training_steps: number;
  max_grad_norm: number;
  gradient_accumulation: number;
  steps: number;
}

interface TrainExpected {
  losses: number[];
  lrs: number[];
  grad_norms_before_clip: number[];
  loss_batch0_after: number;
}

/** Compares losses, rates and norms of each step, and the weights after the last. */
export const checkTraining: Check = async (folder, manifest) => {
  const config = manifest.config as unknown as TrainConfig;
  const expected = manifest.expected as unknown as TrainExpected;
  const tolerance = manifest.tolerance as Record<string, number>;
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const base = loadFolder(join(folder, manifest.base_model as string));
  const adapter = manifest.adapter_init as string | undefined;
  const model = adapter
    ? PeftModel.fromPretrained(base, join(folder, adapter), { isTrainable: true })
    : base;
  const batches = stored.get('batches')!;
  const trainer = new Trainer({
    model,
    trainDataset: rowsOf(batches),
    args: { ...argumentsOf(config), perDeviceTrainBatchSize: batches.shape[1]! },
    onStep: ({ step }) => step === config.steps,
  });
  try {
    const { logHistory } = await trainer.train();
    const column = (name: 'loss' | 'learningRate' | 'gradNorm') =>
      logHistory.map((entry) => entry[name]);
    const after = firstLoss(model, batches);
    return [
      close('losses', column('loss'), expected.losses, { atol: tolerance.loss_atol! }),
      close('lrs', column('learningRate'), expected.lrs, { atol: 1e-15, rtol: tolerance.lr_rtol! }),
      close('grad norms', column('gradNorm'), expected.grad_norms_before_clip, { rtol: 1e-3 }),
      close('loss after', [after], [expected.loss_batch0_after], { atol: tolerance.loss_atol! }),
      finalWeights(model, stored, tolerance.final_atol!),
    ];
  } finally {
    trainer.dispose();
    model.dispose();
  }
};

const argumentsOf = (config: TrainConfig) => ({
  learningRate: config.lr,
  adamBeta1: config.betas[0],
  adamBeta2: config.betas[1],
  adamEpsilon: config.eps,
  weightDecay: config.weight_decay,
  decayParameter: () => true,
  lrSchedulerType: config.schedule,
  warmupSteps: config.num_warmup_steps,
  maxSteps: config.num_training_steps,
  maxGradNorm: config.max_grad_norm,
  gradientAccumulationSteps: config.gradient_accumulation,
  trainSamplingStrategy: 'sequential' as const,
});

/** Batches [steps, B, T] as rows whose labels are their ids. */
function rowsOf({ data, shape }: RawTensor): { inputIds: number[]; labels: number[] }[] {
  const width = shape.at(-1)!;
  const ids = Array.from(data as Int32Array);
  return Array.from({ length: ids.length / width }, (_, i) => {
    const inputIds = ids.slice(i * width, (i + 1) * width);
    return { inputIds, labels: inputIds };
  });
}

function firstLoss(model: Trainer['model'], { data, shape }: RawTensor): number {
  const [, rows, width] = shape as [number, number, number];
  return tf.tidy(() => {
    const ids = tf.tensor2d((data as Int32Array).slice(0, rows * width), [rows, width], 'int32');
    const { logits } = model.forward(ids);
    return causalLMLoss(logits, padLabels(ids, logits)).dataSync()[0]!;
  });
}

/** 99.9 % of all numbers must agree: where a gradient is nearly 0, AdamW's step may turn round. */
function finalWeights(
  model: Trainer['model'],
  stored: Map<string, RawTensor>,
  atol: number,
): Measure {
  const state =
    model instanceof PeftModel ? model.getAdapterState() : new Map(model.namedParameters());
  const finals = [...stored].filter(([key]) => key.startsWith('final:'));
  const gaps = finals.flatMap(([key, raw]) => {
    const actual = state.get(key.slice(6))?.dataSync() ?? [];
    return Array.from(toFloat32(raw), (value, i) => Math.abs(value - actual[i]!));
  });
  const sorted = gaps.map((gap) => (Number.isNaN(gap) ? Infinity : gap)).sort((a, b) => a - b);
  const error = sorted[Math.ceil(0.999 * (sorted.length - 1))] ?? Infinity;
  return { what: 'weights after', error, tolerance: atol };
}
