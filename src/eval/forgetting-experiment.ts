// One runner for all ways against forgetting: a setting changes the rows, the arguments or what is
// trained, and each is run from the same model with the same seeds, beside two controls.
import * as tf from '@tensorflow/tfjs';
import { withReplay } from '../data/mix-rows.ts';
import type { SftRow } from '../data/tokenize-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import type { PeftConfig } from '../peft/mapping.ts';
import { RandomState } from '../tensor/random.ts';
import { type SFTConfig, SFTTrainer } from '../train/sft-trainer.ts';
import { measureForgetting, type Scores } from './forgetting.ts';
import type { LearningForgetting } from './pareto.ts';
import type { Suite } from './suites.ts';

/** What a setting changes of plain full fine-tuning. */
export interface Setting {
  name: string;
  /** Share of general rows among all. */
  general?: number;
  /** Arguments that differ, given those of the plain run. */
  args?: (plain: SFTConfig) => SFTConfig;
  /** A new adapter config for each run; without it all is trained. */
  peftConfig?: () => PeftConfig;
  /** A control: answers of other rows, or a random change of the same size after training. */
  control?: 'random_labels' | 'random_update';
}

/** The plain run, the source text's five ways, PEFT, and two controls. */
export const FORGETTING_SETTINGS: readonly Setting[] = [
  { name: 'plain' },
  { name: 'mix 20 % general data', general: 0.2 },
  {
    name: 'learning rate / 10',
    args: (plain) => ({ ...plain, learningRate: (plain.learningRate ?? 2e-5) / 10 }),
  },
  {
    name: 'a quarter of the steps',
    args: (plain) => ({ ...plain, maxSteps: Math.max(1, Math.round((plain.maxSteps ?? 4) / 4)) }),
  },
  { name: 'weight decay 0.1', args: (plain) => ({ ...plain, weightDecay: 0.1 }) },
  { name: 'replay 5 % of old rows', general: 0.05 },
  { name: 'control: random labels', control: 'random_labels' },
  { name: 'control: random update of the same norm', control: 'random_update' },
];

/** What an experiment needs. */
export interface ForgettingExperiment {
  /** The same pretrained model at each call; it is disposed after the run. */
  makeModel: () => CausalLM;
  tokenizer: Tokenizer;
  /** Rows with prompt and completion. */
  taskRows: readonly SftRow[];
  /** Rows of what the model knows already. */
  generalRows: readonly SftRow[];
  /** What is to be learnt; its score is the learning. */
  task: Suite;
  /** What may be forgotten; the mean fall of their shares is the forgetting. */
  old: readonly Suite[];
  args: SFTConfig;
  settings?: readonly Setting[];
  seeds?: readonly number[];
  /** Told after each run. */
  onRun?: (run: ForgettingRun) => void;
}

/** One setting with one seed. */
export interface ForgettingRun extends LearningForgetting {
  seed: number;
  before: Scores;
  after: Scores;
}

/** Runs all settings with all seeds. Throws a RangeError if an old suite is no share. */
export async function runForgettingExperiment(
  experiment: ForgettingExperiment,
): Promise<ForgettingRun[]> {
  const { settings = FORGETTING_SETTINGS, seeds = [0, 1, 2], old, task } = experiment;
  const wrong = [task, ...old].find(({ isBetterHigher }) => !isBetterHigher);
  if (wrong) throw new RangeError(`Suite '${wrong.name}' must be a share, got one that falls`);
  const runs: ForgettingRun[] = [];
  for (const setting of settings) {
    for (const seed of seeds) {
      const run = await runSetting(experiment, setting, seed);
      runs.push(run);
      experiment.onRun?.(run);
    }
  }
  return runs;
}

async function runSetting(
  { makeModel, tokenizer, taskRows, generalRows, task, old, args }: ForgettingExperiment,
  setting: Setting,
  seed: number,
): Promise<ForgettingRun> {
  const model = makeModel();
  const suites = [task, ...old];
  const before = await measureForgetting(model, suites);
  const start = setting.control === 'random_update' ? copyOf(model) : undefined;
  const rows = setting.control === 'random_labels' ? shuffled(taskRows, seed) : taskRows;
  const { general: share = 0 } = setting;
  const trainer = new SFTTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: share > 0 ? withReplay(rows, generalRows, { share, seed }) : rows,
    args: { ...(setting.args?.(args) ?? args), seed },
    ...(setting.peftConfig && { peftConfig: setting.peftConfig() }),
  });
  await trainer.train();
  if (start) randomize(model, start, seed);
  const after = await measureForgetting(trainer.model, suites);
  trainer.dispose();
  trainer.model.dispose();
  const falls = old.map(({ name }) => before[name]! - after[name]!);
  return {
    name: setting.name,
    seed,
    before,
    after,
    learning: after[task.name]!,
    forgetting: falls.reduce((sum, fall) => sum + fall, 0) / falls.length,
  };
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
