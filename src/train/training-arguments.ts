// What a training run is set to, in the names of transformers' TrainingArguments.
// Left out: settings of several devices, hubs and loggers.
import type { MixedPrecision } from './half-precision.ts';
import type { PageOptions } from './page-store.ts';
import { SCHEDULER_TYPES, type SchedulerOptions, type SchedulerType } from './schedulers.ts';

/** Settings of a run; defaults are those of transformers but for outputDir, which may be left out. */
export interface TrainingArguments {
  /** Folder of checkpoints. Without it none are written. */
  outputDir?: string;
  /** Rate of the optimizer after warm-up. Default 5e-5. */
  learningRate?: number;
  /** Default 3. */
  numTrainEpochs?: number;
  /** Optimizer steps in the place of epochs. */
  maxSteps?: number;
  /** Rows of a micro-batch. Default 8. */
  perDeviceTrainBatchSize?: number;
  /** Rows of a batch of evaluation. Default 8. */
  perDeviceEvalBatchSize?: number;
  /** Micro-batches of one optimizer step. Default 1. */
  gradientAccumulationSteps?: number;
  /** Computes each layer a second time for its gradient instead of keeping what it held. Default false. */
  gradientCheckpointing?: boolean;
  /** Gradients longer than this are shortened to it; 0 leaves them. Default 1. */
  maxGradNorm?: number;
  /** Which optimizer; paged ones keep their averages in pages. Default 'adamw_torch'. */
  optim?: OptimizerName;
  /** Size of pages, and bytes of them in memory; for paged optimizers. Default: nothing is paged. */
  optimArgs?: PageOptions;
  weightDecay?: number;
  adamBeta1?: number;
  adamBeta2?: number;
  adamEpsilon?: number;
  /** Which parameters decay. Default: all but biases and those of norms, as transformers. */
  decayParameter?: (name: string) => boolean;
  /** LoRA+: `lora_B` learns this many times faster. Default 1. */
  loraplusLrRatio?: number;
  lrSchedulerType?: SchedulerType;
  lrSchedulerKwargs?: Partial<SchedulerOptions>;
  /** Steps of warm-up; below 1 a share of all steps. Default 0. */
  warmupSteps?: number;
  /** Pretends to compute in half precision (see half-precision.ts). Default false. */
  fp16?: boolean;
  bf16?: boolean;
  /** Order of rows: a new random one each epoch, or as they are. Default 'random'. */
  trainSamplingStrategy?: 'random' | 'sequential';
  /** Lengths are rounded up to a multiple of this, so that few shapes are compiled. Default 8. */
  padToMultipleOf?: number;
  /** Order of rows and dropout follow it. Default 42. */
  seed?: number;
  /** When to evaluate. Default 'no'. */
  evalStrategy?: 'no' | 'steps' | 'epoch';
  /** Steps between evaluations with 'steps'. Default 500. */
  evalSteps?: number;
  /** Steps between checkpoints; 0 writes none. Default 0. */
  saveSteps?: number;
  /** Checkpoints that are kept, the best one besides. Default: all. */
  saveTotalLimit?: number;
  /** Saves a checkpoint at each new best evaluation, and ends with the best. Default false. */
  loadBestModelAtEnd?: boolean;
  /** Which metric is best. Default 'loss'. */
  metricForBestModel?: string;
  /** Default: true unless the metric's name ends in 'loss'. */
  greaterIsBetter?: boolean;
  /** Evaluations without a better metric after which the run stops. Default: never. */
  earlyStoppingPatience?: number;
  /** By how much a metric must be better to count. Default 0. */
  earlyStoppingThreshold?: number;
  /** Shows no bar. Default: a bar in notebooks and terminals only. */
  disableTqdm?: boolean;
}

/** transformers' names of optimizers: torch's, and bitsandbytes' with averages in 8 or 32 bits. */
export type OptimizerName =
  | 'adamw_torch'
  | 'sgd'
  | 'adamw_8bit'
  | 'paged_adamw_8bit'
  | 'paged_adamw_32bit';

/** Arguments with every default filled in. */
export type ResolvedArguments = Required<Omit<TrainingArguments, Optional>> &
  Pick<TrainingArguments, Optional>;

type Optional =
  | 'outputDir'
  | 'maxSteps'
  | 'saveTotalLimit'
  | 'greaterIsBetter'
  | 'earlyStoppingPatience'
  | 'disableTqdm';

const NO_DECAY = /(^|\.)bias$|norm|(^|\.)ln_?\w*\./i;

const DEFAULTS = {
  learningRate: 5e-5,
  numTrainEpochs: 3,
  perDeviceTrainBatchSize: 8,
  perDeviceEvalBatchSize: 8,
  gradientAccumulationSteps: 1,
  gradientCheckpointing: false,
  maxGradNorm: 1,
  optim: 'adamw_torch',
  optimArgs: {},
  weightDecay: 0,
  adamBeta1: 0.9,
  adamBeta2: 0.999,
  adamEpsilon: 1e-8,
  decayParameter: (name: string) => !NO_DECAY.test(name),
  loraplusLrRatio: 1,
  lrSchedulerType: 'linear',
  lrSchedulerKwargs: {},
  warmupSteps: 0,
  fp16: false,
  bf16: false,
  trainSamplingStrategy: 'random',
  padToMultipleOf: 8,
  seed: 42,
  evalStrategy: 'no',
  evalSteps: 500,
  saveSteps: 0,
  loadBestModelAtEnd: false,
  metricForBestModel: 'loss',
  earlyStoppingThreshold: 0,
} as const;

const isWhole = (value: number) => Number.isInteger(value) && value >= 0;
const isCount = (value: number) => Number.isInteger(value) && value > 0;
const isShare = (value: number) => value >= 0 && value < 1;
const isAmount = (value: number) => value >= 0 && value < Infinity;

/** What numbers must be, by setting; one that may be left out is checked where it is given. */
const RULES: [
  rule: string,
  holds: (value: number) => boolean,
  names: (keyof TrainingArguments)[],
][] = [
  [
    'a positive integer',
    isCount,
    [
      'perDeviceTrainBatchSize',
      'perDeviceEvalBatchSize',
      'gradientAccumulationSteps',
      'padToMultipleOf',
      'evalSteps',
      'maxSteps',
      'saveTotalLimit',
      'earlyStoppingPatience',
    ],
  ],
  ['a whole number of at least 0', isWhole, ['saveSteps', 'seed']],
  [
    'a whole number of at least 0, or a share below 1',
    (value) => isWhole(value) || isShare(value),
    ['warmupSteps'],
  ],
  [
    'a number of at least 0',
    isAmount,
    ['learningRate', 'weightDecay', 'maxGradNorm', 'adamEpsilon', 'earlyStoppingThreshold'],
  ],
  ['at least 0 and below 1', isShare, ['adamBeta1', 'adamBeta2']],
  ['above 0', (value) => value > 0 && value < Infinity, ['numTrainEpochs', 'loraplusLrRatio']],
];

/** Fills in defaults; throws a RangeError that names the setting, its rule and its value. */
export function resolveArguments(given: TrainingArguments): ResolvedArguments {
  const args: ResolvedArguments = { ...DEFAULTS, ...given };
  for (const [rule, holds, names] of RULES) {
    for (const name of names) {
      const value = args[name];
      check(name, value, rule, value === undefined || holds(value as number));
    }
  }
  const choices = {
    lrSchedulerType: SCHEDULER_TYPES,
    evalStrategy: ['no', 'steps', 'epoch'],
    trainSamplingStrategy: ['random', 'sequential'],
    optim: ['adamw_torch', 'sgd', 'adamw_8bit', 'paged_adamw_8bit', 'paged_adamw_32bit'],
  } as const;
  for (const [name, values] of Object.entries(choices)) {
    const value = args[name as keyof typeof choices];
    const names: readonly string[] = values;
    check(name, value, `one of ${values.join(', ')}`, names.includes(value));
  }
  const isPaged = args.optim.startsWith('paged_');
  const pageOptions = Object.keys(args.optimArgs).length;
  check('optimArgs', pageOptions, 'empty without a paged optimizer', isPaged || pageOptions === 0);
  check('fp16', true, 'false where bf16 is true', !(args.fp16 && args.bf16));
  if (args.loadBestModelAtEnd) {
    check('outputDir', args.outputDir, 'given with loadBestModelAtEnd', Boolean(args.outputDir));
  }
  if (args.loadBestModelAtEnd || args.earlyStoppingPatience !== undefined) {
    const rule = 'steps or epoch with loadBestModelAtEnd or earlyStoppingPatience';
    check('evalStrategy', args.evalStrategy, rule, args.evalStrategy !== 'no');
  }
  return args;
}

/** The half precision that the arguments ask for. */
export function precisionOf({ fp16, bf16 }: ResolvedArguments): MixedPrecision {
  return fp16 ? 'fp16' : bf16 ? 'bf16' : 'no';
}

function check(name: string, value: unknown, rule: string, holds: boolean): void {
  if (!holds) throw new RangeError(`TrainingArguments.${name} must be ${rule}, got ${value}`);
}
