// Kinds 06_dpo_loss and 06_dpo_run: TRL's losses, logged rewards and gradients, and its training.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { tokenizePreferences } from '../../src/data/preference-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { PeftModel } from '../../src/peft/peft-model.ts';
import { loadFile, toFloat32 } from '../../src/tensor/safetensors.ts';
import { type DPOLossOptions, dpoLoss, type PreferenceLogps } from '../../src/train/dpo-loss.ts';
import { collatePairs, DPOTrainer } from '../../src/train/dpo-trainer.ts';
import type { SchedulerType } from '../../src/train/schedulers.ts';
import { type Check, close, type Measure, same } from './measure.ts';
import { compareAdapter, compareLogs } from './sft.ts';

interface LossCase {
  loss_type: NonNullable<DPOLossOptions['lossType']>;
  beta: number;
  label_smoothing: number;
  f_divergence_type: NonNullable<DPOLossOptions['fDivergenceType']>;
  loss: number;
  metrics: Record<string, number>;
  grad_wrt_sequence_logps: number[];
}

/** Compares each loss of the case and its gradient by the policy's log-probabilities. */
export const checkDpoLoss: Check = async (_, manifest) => {
  const inputs = manifest.inputs as Record<string, number[]>;
  const { loss_rtol, grad_rtol } = manifest.tolerance as Record<string, number>;
  const fixed = {
    refChosen: tf.tensor1d(inputs.ref_chosen_logps!),
    refRejected: tf.tensor1d(inputs.ref_rejected_logps!),
    chosenLengths: tf.tensor1d(inputs.chosen_lengths!),
    rejectedLengths: tf.tensor1d(inputs.rejected_lengths!),
  };
  const policy = [inputs.policy_chosen_logps!, inputs.policy_rejected_logps!] as const;
  const [chosen, rejected] = [tf.tensor1d(policy[0]), tf.tensor1d(policy[1])];
  return (manifest.cases as LossCase[]).flatMap((expected) => {
    const { metrics } = expected;
    const options: DPOLossOptions = {
      lossType: expected.loss_type,
      beta: expected.beta,
      labelSmoothing: expected.label_smoothing,
      fDivergenceType: expected.f_divergence_type,
    };
    const name = `${expected.loss_type} ${expected.beta} ${expected.f_divergence_type}`;
    const logps: PreferenceLogps = { ...fixed, chosen, rejected };
    const got = dpoLoss(logps, options);
    const grads = tf.grads(
      (a, b) => dpoLoss({ ...fixed, chosen: a!, rejected: b! } as PreferenceLogps, options).loss,
    )([chosen, rejected]);
    const gradient = grads.flatMap((grad) => [...grad.dataSync()]);
    const rtol = loss_rtol as number;
    const logged = [got.chosenRewards, got.rejectedRewards, got.accuracy, got.margin];
    const names = ['rewards/chosen', 'rewards/rejected', 'rewards/accuracies', 'rewards/margins'];
    return [
      close(name, got.loss.dataSync(), [expected.loss], { rtol, atol: 1e-7 }),
      close(`gradient of ${name}`, gradient, expected.grad_wrt_sequence_logps, {
        rtol: grad_rtol as number,
        atol: 1e-7,
      }),
      ...logged.map((value, i) =>
        close(`${names[i]} of ${name}`, value.dataSync(), [metrics[names[i]!]!], {
          rtol,
          atol: 1e-6,
        }),
      ),
    ];
  });
};

interface DpoRunCase {
  loss_type: NonNullable<DPOLossOptions['lossType']>;
  base_model: string;
  tokenizer: string;
  adapter_init: string;
  data: { prompt: string; chosen: string; rejected: string }[];
  tokenized: { prompt_ids: number[]; chosen_ids: number[]; rejected_ids: number[] }[];
  config: {
    beta: number;
    label_smoothing?: number;
    lr: number;
    schedule: SchedulerType;
    warmup_steps: number;
    max_steps: number;
    weight_decay: number;
    betas: [number, number];
    eps: number;
    max_grad_norm: number;
    batch_size: number;
    gradient_accumulation_steps?: number;
    reference: string;
  };
  log_history: ({
    loss: number;
    grad_norm: number;
    learning_rate: number;
    num_tokens: number;
  } & Record<string, number>)[];
  tolerance: Record<string, number>;
}

/** Compares ids, losses, gradients' norms, rewards, log-probabilities and the trained adapter of a run. */
export const checkDpoRun: Check = async (folder, manifest) => {
  const own = manifest as unknown as DpoRunCase;
  const { config } = own;
  const tokenizer = Tokenizer.fromFolder(join(folder, own.tokenizer));
  const base = loadFolder(join(folder, own.base_model));
  const model = PeftModel.fromPretrained(base, join(folder, own.adapter_init), {
    isTrainable: true,
  });
  const isBase = /explicit ref_model/.test(config.reference);
  const trainer = new DPOTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: own.data,
    args: {
      lossType: own.loss_type,
      beta: config.beta,
      labelSmoothing: config.label_smoothing ?? 0,
      reference: isBase ? 'adapter_off' : 'frozen_copy',
      learningRate: config.lr,
      lrSchedulerType: config.schedule,
      warmupSteps: config.warmup_steps,
      maxSteps: config.max_steps,
      weightDecay: config.weight_decay,
      adamBeta1: config.betas[0],
      adamBeta2: config.betas[1],
      adamEpsilon: config.eps,
      maxGradNorm: config.max_grad_norm,
      perDeviceTrainBatchSize: config.batch_size,
      gradientAccumulationSteps: config.gradient_accumulation_steps ?? 1,
      trainSamplingStrategy: 'sequential',
    },
  });
  const { logHistory } = await trainer.train();
  const ids = tokenizePreferences(own.data, tokenizer).map((row) => Object.values(row));
  const atol = own.tolerance.loss_atol ?? 3e-4;
  const measures = [
    same(
      'ids',
      ids,
      own.tokenized.map((row) => [row.prompt_ids, row.chosen_ids, row.rejected_ids]),
    ),
    ...compareLogs(logHistory, own.log_history, atol),
    ...['rewards/chosen', 'rewards/rejected', 'rewards/accuracies', 'logps/chosen'].map((name) =>
      close(
        name,
        logHistory.map(({ metrics }) => metrics[name]!),
        own.log_history.map((entry) => entry[name]!),
        { atol: 1e-3, rtol: 1e-4 },
      ),
    ),
    ...compareAdapter(folder, model),
    ...compareBatch(folder, own, tokenizer),
  ];
  trainer.dispose();
  model.dispose();
  return measures;
};

/** The first batch's ids and masks, exactly. */
function compareBatch(folder: string, own: DpoRunCase, tokenizer: Tokenizer): Measure[] {
  const tensors = loadFile(join(folder, 'expected.safetensors'));
  const rows = tokenizePreferences(own.data.slice(0, own.config.batch_size), tokenizer);
  const padTokenId = tokenizer.padTokenId!;
  const batch = collatePairs(rows, { padTokenId, padToMultipleOf: 1, maxLength: 1024 });
  const names = {
    inputIds: 'input_ids',
    attentionMask: 'attention_mask',
    completionMask: 'completion_mask',
  };
  return Object.entries(names).flatMap(([key, name]) => {
    const raw = tensors.get(`batch0:${name}`);
    const got = batch[key]!.dataSync();
    return raw ? [same(`first ${name}`, [...got], [...toFloat32(raw)])] : [];
  });
}
