// The loop that all trainers share: rows in batches, one compiled step after another, evaluation and
// checkpoints between them. A trainer says how rows become tensors and tensors a loss.
// Left out: several devices, resuming in the middle of a step.
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { type Jitted, jit } from '../jit/jit.ts';
import type { GraphMemory } from '../jit/memory-analysis.ts';
import type { Module } from '../nn/module.ts';
import { BatchSampler, type Rows } from './batch-sampler.ts';
import { checkpointLayers } from './gradient-checkpointing.ts';
import { GRAD_SCALER, nextLossScale } from './half-precision.ts';
import type { PagedAdamW } from './paged-adamw.ts';
import { getScheduler, type Scheduler } from './schedulers.ts';
import {
  type ResolvedArguments,
  resolveArguments,
  type TrainingArguments,
} from './training-arguments.ts';
import {
  lastCheckpoint,
  loadTrainingCheckpoint,
  saveTrainingCheckpoint,
  variablesOf,
} from './training-checkpoint.ts';
import { onInterrupt, TrainingProgress } from './training-progress.ts';
import {
  type EvalEntry,
  isBetter,
  type LogEntry,
  type TrainerCallback,
  type TrainerState,
} from './training-state.ts';
import {
  type BatchLoss,
  outsideOptimizer,
  type StepNumbers,
  type TensorBatch,
  type TrainedSlot,
  trainedSlots,
  trainingStep,
} from './training-step.ts';

/** What makes a trainer out of the loop. */
export interface TrainingTask<Row> {
  model: Module;
  /** Tensors of a micro-batch. */
  collate(rows: readonly Row[]): TensorBatch | Promise<TensorBatch>;
  /** The sum of losses over the items of a batch; it is traced. */
  loss(batch: TensorBatch): BatchLoss;
  /** Items of a batch that its loss sums over, such as labels. */
  count(rows: readonly Row[], batch: TensorBatch, isTraining: boolean): number;
  /** Whether a step's loss is the mean over all its items, or over the means of micro-batches. */
  mean: 'items' | 'batches';
  /** Tokens of a row, for the log. */
  tokens(row: Row): number;
  /** Whether dropout is on in training. Default true. */
  dropout?: boolean;
  /** Further variables that checkpoints keep, such as a seed of dropout. */
  variables?(): Iterable<[string, tf.Variable]>;
}

/** What every trainer takes besides its model. */
export interface LoopOptions<Row> {
  args?: TrainingArguments;
  trainDataset: Rows<Row>;
  evalDataset?: Rows<Row>;
  /** Called after each step; true stops the run, which can be resumed. */
  onStep?: TrainerCallback['onStep'];
  callbacks?: readonly TrainerCallback[];
  /** Stops after the step in progress when it is aborted. */
  signal?: AbortSignal;
}

/** Trains what a task describes. */
export class TrainingLoop<Row> {
  readonly args: ResolvedArguments;
  readonly state: TrainerState;
  /** What the last compiled step reads, writes and holds in between, in bytes; undefined when eager. */
  stepMemory: GraphMemory | undefined;
  protected readonly task: TrainingTask<Row>;
  private readonly options: LoopOptions<Row>;
  private readonly sampler: BatchSampler<Row>;
  private readonly slots: TrainedSlot[];
  /** The optimizer of `optim` if its averages are not in the graph; its counters tell what it moved. */
  readonly optimizer: PagedAdamW | undefined;
  private readonly callbacks: readonly TrainerCallback[];

  constructor(task: TrainingTask<Row>, options: LoopOptions<Row>) {
    this.task = task;
    this.options = options;
    this.args = resolveArguments(options.args ?? {});
    if (options.trainDataset.length === 0) throw new RangeError('trainDataset has no rows');
    if (this.args.evalStrategy !== 'no' && !options.evalDataset?.length) {
      throw new RangeError(`evalStrategy '${this.args.evalStrategy}' needs rows in evalDataset`);
    }
    this.sampler = new BatchSampler(options.trainDataset, this.args);
    this.slots = trainedSlots(task.model, this.args);
    this.optimizer = outsideOptimizer(this.slots, this.args);
    const { onStep, callbacks = [] } = options;
    this.callbacks = onStep ? [{ onStep }, ...callbacks] : callbacks;
    this.state = {
      globalStep: 0,
      optimizerSteps: 0,
      numTokens: 0,
      logHistory: [],
      evalHistory: [],
      evalsSinceBest: 0,
      lossScale: { scale: GRAD_SCALER.initScale, goodSteps: 0 },
      run: this.describeRun(),
    };
  }

  /** Optimizer steps of an epoch, the last with fewer rows. */
  get stepsPerEpoch(): number {
    return this.sampler.stepsPerEpoch;
  }

  /** Optimizer steps of the whole run. */
  get maxSteps(): number {
    return this.args.maxSteps ?? Math.ceil(this.args.numTrainEpochs * this.stepsPerEpoch);
  }

  /**
   * Trains to the end, or until a callback, the signal or an interrupt stops it after a step, and
   * returns the state; another call goes on from there. Resumes from a checkpoint's folder, or from
   * the last one of outputDir with `true`; losses then are those of a run that was never stopped.
   * Throws at a loss that is not finite, with the parameters as they were before that step.
   */
  async train({ resumeFromCheckpoint = false as boolean | string } = {}): Promise<TrainerState> {
    this.resume(resumeFromCheckpoint);
    const { args, state, slots, task } = this;
    const schedule = this.schedule();
    const restore = args.gradientCheckpointing ? checkpointLayers(task.model) : () => {};
    const step = trainingStep(task.model, (batch) => task.loss(batch), slots, args);
    const shown = { total: this.maxSteps, earlierTokens: state.numTokens };
    const progress = TrainingProgress.start(shown, args.disableTqdm);
    const interrupt = onInterrupt(() => progress?.stopping());
    let isPaused = false;
    this.tell('onTrainBegin', state);
    try {
      while (state.globalStep < this.maxSteps) {
        task.model.train(task.dropout ?? true);
        const entry = await this.runStep(step, schedule);
        progress?.update(entry);
        const isToldTo = this.tell('onStep', entry, state);
        const stopsEarly = await this.evaluateIfDue();
        isPaused = isToldTo || interrupt.happened || this.options.signal?.aborted === true;
        const stops = isPaused || stopsEarly;
        const isDue = args.saveSteps > 0 && state.globalStep % args.saveSteps === 0;
        if (args.outputDir && (isDue || stops)) this.save();
        if (stops) break;
      }
      if (!isPaused) this.loadBest();
      this.tell('onTrainEnd', state);
    } finally {
      interrupt.ignore();
      progress?.close();
      task.model.eval();
      step.dispose();
      this.evaluation?.dispose();
      this.evaluation = undefined;
      restore();
    }
    return state;
  }

  /** The mean loss and metrics over `rows` (default: evalDataset), without dropout. */
  async evaluate(rows = this.options.evalDataset): Promise<EvalEntry> {
    if (!rows?.length) throw new RangeError('evaluate needs rows, got none');
    const { task, args } = this;
    const wasTraining = task.model.training;
    task.model.eval();
    this.evaluation ??= jit((batch: TensorBatch) => task.loss(batch));
    const sums = new Map<string, number>();
    const add = (name: string, value: number) => sums.set(name, (sums.get(name) ?? 0) + value);
    let items = 0;
    let seen = 0;
    for (let i = 0; i < rows.length; i += args.perDeviceEvalBatchSize) {
      const end = Math.min(i + args.perDeviceEvalBatchSize, rows.length);
      const part = Array.from({ length: end - i }, (_, j) => rows.at(i + j)!);
      const batch = await task.collate(part);
      const { loss, metrics = {} } = this.evaluation(batch);
      items += task.count(part, batch, false);
      seen += part.length;
      add('loss', (await loss.data())[0]!);
      for (const [name, value] of Object.entries(metrics)) {
        add(`metrics/${name}`, (await value.data())[0]! * part.length);
      }
      tf.dispose([batch, loss, metrics] as tf.TensorContainer);
    }
    task.model.train(wasTraining);
    const metrics = [...sums].filter(([name]) => name !== 'loss');
    return {
      step: this.state.globalStep,
      loss: sums.get('loss')! / items,
      metrics: Object.fromEntries(
        metrics.map(([name, sum]) => [name.slice('metrics/'.length), sum / seen]),
      ),
    };
  }

  /** Writes a checkpoint of where the run stands; returns its folder. */
  save(): string {
    const { outputDir, saveTotalLimit } = this.args;
    if (!outputDir) throw new Error('A checkpoint needs TrainingArguments.outputDir, got none');
    const folder = saveTrainingCheckpoint(outputDir, this, this.state, saveTotalLimit);
    this.tell('onSave', folder, this.state);
    return folder;
  }

  /** Frees the optimizer's averages; the model stays. */
  dispose(): void {
    for (const { averages } of this.slots) tf.dispose(averages ?? []);
    this.optimizer?.dispose();
  }

  private evaluation: Jitted<(batch: TensorBatch) => BatchLoss> | undefined;

  /** One optimizer step, logged. */
  private async runStep(
    step: ReturnType<typeof trainingStep>,
    schedule: Scheduler,
  ): Promise<LogEntry> {
    const { args, state } = this;
    const { batches, divisors, tokens } = await this.batchesOf(state.globalStep);
    const learningRate = schedule(state.optimizerSteps);
    const t = state.optimizerSteps + 1;
    const numbers: StepNumbers = {
      learningRate: tf.scalar(learningRate),
      divisors: divisors.map((divisor) => tf.scalar(divisor)),
      correction1: tf.scalar(1 - args.adamBeta1 ** t),
      correction2: tf.scalar(1 - args.adamBeta2 ** t),
      lossScale: tf.scalar(state.lossScale.scale),
    };
    const result = step(batches, numbers);
    this.stepMemory = step.memory;
    const loss = (await result.loss.data())[0]!;
    const gradNorm = (await result.gradNorm.data())[0]!;
    const metrics: Record<string, number> = {};
    for (const [name, value] of Object.entries(result.metrics)) {
      metrics[name] = (await value.data())[0]!;
    }
    const fits = Number.isFinite(loss) && Number.isFinite(gradNorm);
    if (fits) this.optimizer?.stepAt(learningRate, result.grads);
    tf.dispose([batches, numbers, result] as unknown as tf.TensorContainer);
    this.checkFinite(fits, { loss, gradNorm });
    if (args.fp16) state.lossScale = nextLossScale(state.lossScale, fits);
    state.globalStep++;
    if (fits) state.optimizerSteps++;
    state.numTokens += tokens;
    const entry: LogEntry = {
      step: state.globalStep,
      epoch: state.globalStep / this.stepsPerEpoch,
      loss,
      gradNorm,
      learningRate,
      numTokens: state.numTokens,
      ...(fits ? {} : { skipped: true }),
      metrics,
    };
    state.logHistory.push(entry);
    return entry;
  }

  /** The micro-batches of step `step` (from 0) as tensors, what divides their losses, their tokens. */
  private async batchesOf(step: number) {
    const parts = this.sampler.microBatches(step);
    const batches: TensorBatch[] = [];
    const counts: number[] = [];
    for (const part of parts) {
      const batch = await this.task.collate(part);
      batches.push(batch);
      counts.push(this.task.count(part, batch, true));
    }
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (total === 0 || (this.task.mean === 'batches' && counts.includes(0))) {
      tf.dispose(batches);
      throw new RangeError(`Step ${step + 1} has no label to learn: all its rows are masked`);
    }
    const divisors = counts.map((count) =>
      this.task.mean === 'items' ? total : count * counts.length,
    );
    const tokens = parts.flat().reduce((sum, row) => sum + this.task.tokens(row), 0);
    return { batches, divisors, tokens };
  }

  private schedule(): Scheduler {
    const { args, maxSteps } = this;
    const { warmupSteps } = args;
    return getScheduler(args.lrSchedulerType, {
      learningRate: args.learningRate,
      numWarmupSteps: warmupSteps < 1 ? Math.ceil(warmupSteps * maxSteps) : warmupSteps,
      numTrainingSteps: maxSteps,
      ...args.lrSchedulerKwargs,
    });
  }

  /** Evaluates where it is due; true when the run is to stop for lack of progress. */
  private async evaluateIfDue(): Promise<boolean> {
    const { args, state, stepsPerEpoch } = this;
    const every = { no: 0, steps: args.evalSteps, epoch: stepsPerEpoch }[args.evalStrategy];
    const isDue = every > 0 && state.globalStep % every === 0;
    if (!isDue && !(every > 0 && state.globalStep === this.maxSteps)) return false;
    const entry = await this.evaluate();
    state.evalHistory.push(entry);
    const name = args.metricForBestModel;
    const metric = name === 'loss' ? entry.loss : entry.metrics[name];
    if (metric === undefined) {
      const have = ['loss', ...Object.keys(entry.metrics)].join(', ');
      throw new RangeError(`metricForBestModel must be one of ${have}, got '${name}'`);
    }
    const rule = {
      greater: args.greaterIsBetter ?? !name.endsWith('loss'),
      threshold: args.earlyStoppingThreshold,
    };
    if (isBetter(metric, state.bestMetric, rule)) {
      state.bestMetric = metric;
      state.evalsSinceBest = 0;
      if (args.loadBestModelAtEnd) {
        state.bestModelCheckpoint = join(args.outputDir!, `checkpoint-${state.globalStep}`);
        this.save();
      }
    } else {
      state.evalsSinceBest++;
    }
    const stops = this.tell('onEvaluate', entry, state);
    return stops || state.evalsSinceBest >= (args.earlyStoppingPatience ?? Infinity);
  }

  /** Puts the best parameters back at the end of a run. */
  private loadBest(): void {
    const { bestModelCheckpoint } = this.state;
    if (!this.args.loadBestModelAtEnd || bestModelCheckpoint === undefined) return;
    loadTrainingCheckpoint(bestModelCheckpoint, this, this.state.run);
  }

  /** Variables that a checkpoint keeps. */
  *variables(): Generator<[string, tf.Variable]> {
    yield* variablesOf(this.slots);
    yield* this.task.variables?.() ?? [];
  }

  private tell<Name extends keyof TrainerCallback>(
    name: Name,
    ...args: Parameters<NonNullable<TrainerCallback[Name]>>
  ): boolean {
    const call = (callback: TrainerCallback) =>
      (callback[name] as ((...all: unknown[]) => unknown) | undefined)?.(...args) === true;
    return this.callbacks.map(call).includes(true);
  }

  private checkFinite(fits: boolean, { loss, gradNorm }: { loss: number; gradNorm: number }) {
    const { outputDir, fp16 } = this.args;
    if (fits || (fp16 && this.state.lossScale.scale > 1)) return;
    const saved = outputDir && lastCheckpoint(outputDir);
    const kept = saved ? `; the last good checkpoint is ${saved}` : '';
    throw new Error(
      `Training stopped at step ${this.state.globalStep + 1}: loss is ${loss}, the gradient's norm ${gradNorm}${kept}`,
    );
  }

  private resume(from: boolean | string): void {
    if (from === false) return;
    const { outputDir } = this.args;
    const folder = from === true ? outputDir && lastCheckpoint(outputDir) : from;
    if (!folder) throw new Error(`No checkpoint to resume from in ${outputDir ?? 'no outputDir'}`);
    Object.assign(this.state, loadTrainingCheckpoint(folder, this, this.state.run));
  }

  private describeRun(): string {
    const { perDeviceTrainBatchSize, gradientAccumulationSteps, learningRate, seed } = this.args;
    const { trainDataset: rows } = this.options;
    const some = [0, rows.length >> 1, rows.length - 1].map((i) => rows.at(i));
    const mark = createHash('sha256').update(JSON.stringify(some)).digest('hex').slice(0, 8);
    return `${rows.length} rows (${mark}), ${this.maxSteps} steps of ${gradientAccumulationSteps} x ${perDeviceTrainBatchSize}, rate ${learningRate}, seed ${seed}`;
  }
}
