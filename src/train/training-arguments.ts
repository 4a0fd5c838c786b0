// What a training run is set to, in the names of transformers' TrainingArguments.
// Left out: settings of several devices, hubs and loggers.
import { SCHEDULER_TYPES, type SchedulerOptions, type SchedulerType } from './schedulers.ts';

/** Settings of a run; defaults are those of transformers but for outputDir, which may be left out. */
export interface TrainingArguments {
  /** Folder of checkpoints. Without it none are written. */
  outputDir?: string;
  /** Rate of AdamW after warm-up. Default 5e-5. */
  learningRate?: number;
  numTrainEpochs?: number;
  /** Optimizer steps in the place of epochs. */
  maxSteps?: number;
  /** Rows of a micro-batch. Default 8. */
  perDeviceTrainBatchSize?: number;
  /** Micro-batches of one optimizer step. Default 1. */
  gradientAccumulationSteps?: number;
  /** Gradients longer than this are shortened to it; 0 leaves them. Default 1. */
  maxGradNorm?: number;
  weightDecay?: number;
  adamBeta1?: number;
  adamBeta2?: number;
  adamEpsilon?: number;
  lrSchedulerType?: SchedulerType;
  lrSchedulerKwargs?: Partial<SchedulerOptions>;
  warmupSteps?: number;
  /** Order of rows: a new random one each epoch, or as they are. Default 'random'. */
  trainSamplingStrategy?: 'random' | 'sequential';
  seed?: number;
  /** Steps between checkpoints; 0 writes none. Default 0. */
  saveSteps?: number;
  /** Checkpoints that are kept. Default: all. */
  saveTotalLimit?: number;
  /** Which parameters decay. Default: all but biases and those of norms, as transformers. */
  decayParameter?: (name: string) => boolean;
}

/** Arguments with every default filled in. */
export type ResolvedArguments = Required<Omit<TrainingArguments, Optional>> &
  Pick<TrainingArguments, Optional>;

type Optional = 'outputDir' | 'maxSteps' | 'saveTotalLimit';

const NO_DECAY = /(^|\.)bias$|norm|(^|\.)ln_?\w*\./i;

/** Fills in defaults; throws a RangeError that names the setting, its rule and its value. */
export function resolveArguments(given: TrainingArguments): ResolvedArguments {
  const args: ResolvedArguments = {
    learningRate: 5e-5,
    numTrainEpochs: 3,
    perDeviceTrainBatchSize: 8,
    gradientAccumulationSteps: 1,
    maxGradNorm: 1,
    weightDecay: 0,
    adamBeta1: 0.9,
    adamBeta2: 0.999,
    adamEpsilon: 1e-8,
    lrSchedulerType: 'linear',
    lrSchedulerKwargs: {},
    warmupSteps: 0,
    trainSamplingStrategy: 'random',
    seed: 42,
    saveSteps: 0,
    decayParameter: (name) => !NO_DECAY.test(name),
    ...given,
  };
  for (const name of ['perDeviceTrainBatchSize', 'gradientAccumulationSteps'] as const) {
    check(name, args[name], 'a positive integer', isCount(args[name]) && args[name] > 0);
  }
  for (const name of ['warmupSteps', 'saveSteps', 'seed'] as const) {
    check(name, args[name], 'a whole number of at least 0', isCount(args[name]));
  }
  for (const name of ['learningRate', 'weightDecay', 'maxGradNorm'] as const) {
    check(name, args[name], 'a number of at least 0', args[name] >= 0 && args[name] < Infinity);
  }
  const { maxSteps, numTrainEpochs, lrSchedulerType } = args;
  if (maxSteps !== undefined) {
    check('maxSteps', maxSteps, 'a positive integer', isCount(maxSteps) && maxSteps > 0);
  }
  check('numTrainEpochs', numTrainEpochs, 'above 0', numTrainEpochs > 0);
  const types = SCHEDULER_TYPES.join(', ');
  check('lrSchedulerType', lrSchedulerType, `one of ${types}`, types.includes(lrSchedulerType));
  return args;
}

const isCount = (value: number) => Number.isInteger(value) && value >= 0;

function check(name: string, value: unknown, rule: string, holds: boolean): void {
  if (!holds) throw new RangeError(`TrainingArguments.${name} must be ${rule}, got ${value}`);
}
