// Kind 08_schedules: the learning rate of each step, by transformers' schedules.
import {
  getScheduler,
  SCHEDULER_TYPES,
  type SchedulerOptions,
} from '../../src/train/schedulers.ts';
import { type Check, close } from './measure.ts';

interface Schedule {
  name: string;
  base_lr: number;
  num_warmup_steps: number;
  num_training_steps: number;
  kwargs: Record<string, unknown>;
  lrs: number[];
}

/** Compares each schedule of the case; a name may go on after that of its type. */
export const checkSchedules: Check = async (_, manifest) => {
  const tolerance = manifest.tolerance as { rtol: number };
  return (manifest.schedules as Schedule[]).map((schedule) => {
    const kwargs = Object.entries(schedule.kwargs).map(([key, value]) => [camel(key), value]);
    const lr = getScheduler(typeOf(schedule.name), {
      learningRate: schedule.base_lr,
      numWarmupSteps: schedule.num_warmup_steps,
      numTrainingSteps: schedule.num_training_steps,
      ...(Object.fromEntries(kwargs) as Partial<SchedulerOptions>),
    });
    const lrs = schedule.lrs.map((_, step) => lr(step));
    return close(schedule.name, lrs, schedule.lrs, tolerance);
  });
};

function typeOf(name: string) {
  const types = SCHEDULER_TYPES.filter((type) => name === type || name.startsWith(`${type}_`));
  const longest = types.sort((a, b) => b.length - a.length)[0];
  if (!longest) throw new Error(`Unknown schedule '${name}'`);
  return longest;
}

const camel = (key: string) => key.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase());
