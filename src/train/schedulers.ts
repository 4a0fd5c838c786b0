// Learning-rate schedules under transformers' names: functions from the optimizer's step (0, 1, ...) to
// a learning rate. With a warm-up of w steps most give 0 at step 0 and the full rate at step w.
// Left out: reduce_lr_on_plateau and greedy, which follow a metric.

/** What a schedule is made from; each uses the fields that its own comment names. */
export interface SchedulerOptions {
  /** The rate after warm-up, that of the optimizer. */
  learningRate: number;
  /** Steps of warm-up. Default 0. */
  numWarmupSteps?: number;
  /** Steps of the whole training, warm-up included. */
  numTrainingSteps?: number;
  /** Waves of the cosine: default 0.5 (one descent), for cosine_with_restarts 1 a descent. */
  numCycles?: number;
  /** polynomial: rate at the end (default 1e-7) and exponent (default 1). */
  lrEnd?: number;
  power?: number;
  /** inverse_sqrt: default the warm-up's steps, or 10000. */
  timescale?: number;
  /** Cosines with a floor: the lowest rate, or its share of `learningRate`; one of the two. */
  minLr?: number;
  minLrRate?: number;
  /** cosine_warmup_with_min_lr: the share that warm-up starts from. */
  warmupLrRate?: number;
  /** warmup_stable_decay: steps of decay, steps at the full rate, lowest share, shapes. */
  numDecaySteps?: number;
  numStableSteps?: number;
  minLrRatio?: number;
  warmupType?: 'linear' | 'cosine' | '1-sqrt';
  decayType?: 'linear' | 'cosine' | '1-sqrt';
}

/** Step to learning rate. */
export type Scheduler = (step: number) => number;

type Factor = (step: number) => number;

/** Names of the schedules, values of transformers' `lr_scheduler_type`. */
export type SchedulerType = keyof typeof SCHEDULES;

const SCHEDULES = {
  constant: (): Factor => () => 1,
  constant_with_warmup: (o: SchedulerOptions) => warmup(o, () => 1),
  linear: (o: SchedulerOptions) =>
    warmup(o, (step) => Math.max(0, (total(o) - step) / Math.max(1, total(o) - warm(o)))),
  cosine: (o: SchedulerOptions) => warmup(o, (step) => wave(o, progress(o, step), 0)),
  cosine_with_restarts: cosineWithRestarts,
  polynomial,
  inverse_sqrt: inverseSqrt,
  cosine_with_min_lr: (o: SchedulerOptions) => {
    const floor = lowest(o);
    return warmup(o, (step) => wave(o, progress(o, step), floor));
  },
  cosine_warmup_with_min_lr: cosineWarmupWithMinLr,
  warmup_stable_decay: warmupStableDecay,
};

/** All names that `getScheduler` knows. */
export const SCHEDULER_TYPES = Object.keys(SCHEDULES) as SchedulerType[];

/** The schedule that transformers calls `name`: learningRate * factor(step). */
export function getScheduler(name: SchedulerType, options: SchedulerOptions): Scheduler {
  if (!SCHEDULER_TYPES.includes(name)) {
    throw new RangeError(`Scheduler must be one of ${SCHEDULER_TYPES.join(', ')}, got '${name}'`);
  }
  const factor = SCHEDULES[name](options);
  return (step) => options.learningRate * factor(step);
}

/** max(0, cos(pi * (cycles * progress mod 1)) / 2 + 1/2), 0 at the end. */
function cosineWithRestarts(o: SchedulerOptions): Factor {
  const { numCycles = 1 } = o;
  return warmup(o, (step) => {
    const at = progress(o, step);
    return at >= 1 ? 0 : Math.max(0, 0.5 * (1 + Math.cos(Math.PI * ((numCycles * at) % 1))));
  });
}

/** (lr - end) * (1 - progress)^power + end. */
function polynomial(o: SchedulerOptions): Factor {
  const { learningRate, lrEnd = 1e-7, power = 1 } = o;
  if (learningRate <= lrEnd) {
    throw new RangeError(`lrEnd must be below learningRate ${learningRate}, got ${lrEnd}`);
  }
  return warmup(o, (step) => {
    if (step > total(o)) return lrEnd / learningRate;
    const left = 1 - (step - warm(o)) / (total(o) - warm(o));
    return ((learningRate - lrEnd) * left ** power + lrEnd) / learningRate;
  });
}

/** 1 / sqrt((step + timescale - warm-up) / timescale). */
function inverseSqrt(o: SchedulerOptions): Factor {
  const timescale = o.timescale ?? (warm(o) || 10000);
  return warmup(o, (step) => 1 / Math.sqrt((step + timescale - warm(o)) / timescale));
}

/** A cosine one step ahead, after a warm-up that starts above 0. */
function cosineWarmupWithMinLr(o: SchedulerOptions): Factor {
  const { warmupLrRate: start } = o;
  const floor = lowest(o);
  const steps = warm(o);
  return (step) => {
    if (step >= steps) {
      return wave(o, (step - steps + 1) / Math.max(1, total(o) - steps), floor);
    }
    if (start === undefined) return (step + 1) / Math.max(1, steps);
    return start + ((1 - start) * step) / Math.max(1, steps - 1);
  };
}

/** Warm-up from the floor, a stable part, decay to the floor. */
function warmupStableDecay(o: SchedulerOptions): Factor {
  const { minLrRatio: floor = 0, warmupType = 'linear', decayType = 'cosine', numCycles = 0.5 } = o;
  const decay = needed(o.numDecaySteps, 'numDecaySteps');
  const decayFrom = warm(o) + (o.numStableSteps ?? total(o) - warm(o) - decay);
  const rise = {
    linear: (p: number) => p,
    cosine: (p: number) => 0.5 * (1 - Math.cos(Math.PI * p)),
    '1-sqrt': (p: number) => 1 - Math.sqrt(1 - p),
  }[warmupType];
  const fall = {
    linear: (p: number) => 1 - p,
    cosine: (p: number) => 0.5 * (1 + Math.cos(Math.PI * numCycles * 2 * p)),
    '1-sqrt': (p: number) => 1 - Math.sqrt(p),
  }[decayType];
  const above = (factor: number) => Math.max(0, factor * (1 - floor) + floor);
  return (step) => {
    if (step < warm(o)) return above(rise(step / Math.max(1, warm(o))));
    if (step < decayFrom) return 1;
    if (step >= decayFrom + decay) return floor;
    return above(fall((step - decayFrom) / Math.max(1, decay)));
  };
}

/** step / warm-up at first, then `after`. */
function warmup(o: SchedulerOptions, after: Factor): Factor {
  return (step) => (step < warm(o) ? step / Math.max(1, warm(o)) : after(step));
}

/** (1 + cos(2 pi cycles p)) / 2, moved to the range [floor, 1]. */
function wave({ numCycles = 0.5 }: SchedulerOptions, p: number, floor: number): number {
  const factor = 0.5 * (1 + Math.cos(Math.PI * numCycles * 2 * p));
  return Math.max(0, factor * (1 - floor) + floor);
}

function progress(o: SchedulerOptions, step: number): number {
  return (step - warm(o)) / Math.max(1, total(o) - warm(o));
}

function lowest({ minLr, minLrRate, learningRate }: SchedulerOptions): number {
  if ((minLr === undefined) === (minLrRate === undefined)) {
    throw new RangeError(`One of minLr and minLrRate must be given, got ${minLr} and ${minLrRate}`);
  }
  return minLrRate ?? minLr! / learningRate;
}

const warm = (o: SchedulerOptions) => o.numWarmupSteps ?? 0;
const total = (o: SchedulerOptions) => needed(o.numTrainingSteps, 'numTrainingSteps');

function needed(value: number | undefined, name: string): number {
  if (value === undefined) throw new RangeError(`The schedule needs ${name}, got undefined`);
  return value;
}
