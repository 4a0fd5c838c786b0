// Catastrophic forgetting, measured: suites before, during and after training, and how far each fell.
import type { CausalLM } from '../models/causal-lm.ts';
import type { LogEntry } from '../train/training-state.ts';
import type { Suite } from './suites.ts';

/** Scores by suite at one time. */
export type Scores = Record<string, number>;

/** The scores of all suites. Throws a RangeError for two suites of one name. */
export async function measureForgetting(
  model: CausalLM,
  suites: readonly Suite[],
): Promise<Scores> {
  const names = suites.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) throw new RangeError(`Suites must have different names, got '${twice}'`);
  const scores: Scores = {};
  for (const { name, measure } of suites) scores[name] = await measure(model);
  return scores;
}

/**
 * How much worse `after` is than `before`, by suite: the fall of a share, or the rise of a perplexity's
 * logarithm (its loss in nats). Negative where it became better.
 */
export function forgotten(suites: readonly Suite[], before: Scores, after: Scores): Scores {
  return Object.fromEntries(
    suites.map(({ name, isBetterHigher }) => {
      const [old, now] = [before[name]!, after[name]!];
      return [name, isBetterHigher ? old - now : Math.log(now) - Math.log(old)];
    }),
  );
}

/** Scores over the steps of a run. */
export interface ForgettingCurve {
  steps: number[];
  scores: Scores[];
}

/**
 * Measures before training, after every `every` steps and at the end; `train` goes on until the step
 * that it is given and returns the last log entry.
 */
export async function measureWhileTraining(
  model: CausalLM,
  suites: readonly Suite[],
  {
    steps,
    every,
    train,
  }: { steps: number; every: number; train: (until: number) => Promise<LogEntry> },
): Promise<ForgettingCurve> {
  const curve: ForgettingCurve = { steps: [0], scores: [await measureForgetting(model, suites)] };
  for (let until = every; until - every < steps; until += every) {
    const { step } = await train(Math.min(until, steps));
    curve.steps.push(step);
    curve.scores.push(await measureForgetting(model, suites));
  }
  return curve;
}
