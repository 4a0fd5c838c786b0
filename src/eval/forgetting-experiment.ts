// One runner for all ways against forgetting: a setting changes the rows, the arguments or what is
// trained, and each is run from the same model with the same seeds, beside two controls.
import * as tf from '@tensorflow/tfjs';
import { withReplay } from '../data/mix-rows.ts';
import type { SftRow } from '../data/tokenize-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { LoraConfig } from '../peft/lora-config.ts';
import type { PeftConfig } from '../peft/mapping.ts';
import { RandomState } from '../tensor/random.ts';
import { type SFTConfig, SFTTrainer } from '../train/sft-trainer.ts';
import { measureForgetting, type Scores } from './forgetting.ts';
import type { LearningForgetting } from './pareto.ts';
import type { Suite } from './suites.ts';

/** What a setting changes of plain full fine-tuning. */
export interface Setting {
  name: string;
  /** Share of general rows among all: 0.2 mixes 80 % task and 20 % general. */
  general?: number;
  /** Share of rows of pretraining among all. */
  replay?: number;
  /** Arguments that differ, given those of the plain run. */
  args?: (plain: SFTConfig) => SFTConfig;
  /** A new adapter config for each run; without it all is trained. */
  peftConfig?: () => PeftConfig;
  /** A control: answers of other rows, or a random change of the same size after training. */
  control?: 'random_labels' | 'random_update';
}

const RATE = 2e-5;
const timesRate = (factor: number) => (plain: SFTConfig) => ({
  ...plain,
  learningRate: (plain.learningRate ?? RATE) * factor,
});
const lora = () => new LoraConfig({ r: 8, loraAlpha: 16, targetModules: 'all-linear' });

/** The plain run, five ways against forgetting, PEFT at two learning rates, and two controls. */
export const FORGETTING_SETTINGS: readonly Setting[] = [
  { name: 'plain' },
  { name: '20 % general data', general: 0.2 },
  { name: 'learning rate / 10', args: timesRate(0.1) },
  {
    name: 'a quarter of the steps',
    args: (plain) => ({ ...plain, maxSteps: Math.max(1, Math.round((plain.maxSteps ?? 4) / 4)) }),
  },
  { name: 'weight decay 0.01', args: (plain) => ({ ...plain, weightDecay: 0.01 }) },
  { name: 'replay, 10 %', replay: 0.1 },
  { name: 'LoRA', peftConfig: lora },
  { name: 'LoRA, learning rate x 10', peftConfig: lora, args: timesRate(10) },
  { name: 'control: random labels', control: 'random_labels' },
  { name: 'control: random update', control: 'random_update' },
];

/** What an experiment needs. */
export interface ForgettingExperiment {
  /** The same pretrained model at each call; it is disposed after the run. */
  makeModel: () => CausalLM | Promise<CausalLM>;
  tokenizer: Tokenizer;
  /** Rows with prompt and completion. */
  taskRows: readonly SftRow[];
  /** Rows of what the model can do already; for settings with `general`. */
  generalRows?: readonly SftRow[];
  /** Rows as the model read them in pretraining; for settings with `replay`. */
  pretrainingRows?: readonly SftRow[];
  /** What is to be learnt; its score is the learning. */
  task: Suite;
  /** What may be forgotten; the mean fall of their shares is the forgetting. */
  old: readonly Suite[];
  /** Measured too, but no part of learning or forgetting, such as a perplexity. Default: none. */
  watched?: readonly Suite[];
  args: SFTConfig;
  /** Default: FORGETTING_SETTINGS. */
  settings?: readonly Setting[];
  /** Default: 0, 1, 2. */
  seeds?: readonly number[];
  /** Told after each run, while its model still is there. */
  onRun?: (run: ForgettingRun, model: CausalLM) => void;
}

/** One setting with one seed. */
export interface ForgettingRun extends LearningForgetting {
  seed: number;
  before: Scores;
  after: Scores;
}

/**
 * Runs all settings with all seeds, each from the same model. Throws a RangeError if the task or an
 * old suite is no share.
 */
export async function runForgettingExperiment(
  experiment: ForgettingExperiment,
): Promise<ForgettingRun[]> {
  const { settings = FORGETTING_SETTINGS, seeds = [0, 1, 2], old, task, watched = [] } = experiment;
  const wrong = [task, ...old].find(({ isBetterHigher }) => !isBetterHigher);
  if (wrong) throw new RangeError(`Suite '${wrong.name}' must be a share, got one that falls`);
  const suites = [task, ...old, ...watched];
  const model = await experiment.makeModel();
  const before = await measureForgetting(model, suites);
  model.dispose();
  const runs: ForgettingRun[] = [];
  for (const setting of settings) {
    for (const seed of seeds) {
      const trainer = await trainSetting(experiment, setting, seed);
      const after = await measureForgetting(trainer.model, suites);
      const falls = old.map(({ name }) => before[name]! - after[name]!);
      const forgetting = falls.reduce((sum, fall) => sum + fall, 0) / falls.length;
      const run = { name: setting.name, seed, before, after };
      runs.push({ ...run, learning: after[task.name]!, forgetting });
      experiment.onRun?.(runs.at(-1)!, trainer.model);
      trainer.dispose();
      trainer.model.dispose();
    }
  }
  return runs;
}

/** A trainer that has trained, with a setting's change. */
async function trainSetting(
  { makeModel, tokenizer, args, ...data }: ForgettingExperiment,
  setting: Setting,
  seed: number,
): Promise<SFTTrainer> {
  const model = await makeModel();
  const start = setting.control === 'random_update' ? copyOf(model) : undefined;
  const own = setting.control === 'random_labels' ? shuffled(data.taskRows, seed) : data.taskRows;
  const { general = 0, replay = 0 } = setting;
  const mixed = withReplay(own, data.generalRows ?? [], { share: general, seed });
  const trainer = new SFTTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: withReplay(mixed, data.pretrainingRows ?? [], { share: replay, seed }),
    args: { ...(setting.args?.(args) ?? args), seed },
    ...(setting.peftConfig && { peftConfig: setting.peftConfig() }),
  });
  await trainer.train();
  if (start) randomize(model, start, seed);
  return trainer;
}

/** Each prompt with the completion of another row. */
function shuffled(rows: readonly SftRow[], seed: number): SftRow[] {
  const order = new RandomState(seed).permutation(rows.map((_, i) => i));
  return rows.map((row, i) => {
    const { completion } = rows[order[i]!]!;
    return completion === undefined ? row : { ...row, completion };
  });
}

function copyOf(model: CausalLM): Map<string, tf.Tensor> {
  return new Map([...model.namedParameters()].map(([name, own]) => [name, tf.clone(own)]));
}

/** Puts a Gaussian change of the same norm in the place of each parameter's change. */
function randomize(model: CausalLM, start: Map<string, tf.Tensor>, seed: number): void {
  const random = new RandomState(seed);
  for (const [name, own] of model.namedParameters()) {
    const from = start.get(name);
    if (!from) continue;
    tf.tidy(() => {
      const values = Float32Array.from({ length: own.size }, () => random.normal());
      const noise = tf.tensor(values, own.shape);
      const size = tf.div(tf.norm(tf.sub(own, from)), tf.norm(noise));
      own.assign(tf.add(from, tf.mul(noise, size)));
    });
    from.dispose();
  }
}
