// Trainer: rows in batches, one compiled step after another, checkpoints between them.
// The loss is a sum over tokens divided by the labels of the whole accumulation window, as
// transformers' num_items_in_batch. Left out: dropout's seeds, evaluation between steps.
import * as tf from '@tensorflow/tfjs';
import { collate } from '../data/collator.ts';
import type { TokenRow } from '../data/packing.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { crossEntropy } from '../nn/functional.ts';
import { RandomState } from '../tensor/random.ts';
import { getScheduler } from './schedulers.ts';
import {
  type ResolvedArguments,
  resolveArguments,
  type TrainingArguments,
} from './training-arguments.ts';
import {
  type LogEntry,
  lastCheckpoint,
  loadTrainingCheckpoint,
  saveTrainingCheckpoint,
  type TrainerState,
} from './training-checkpoint.ts';
import { type AdamState, adamState, type TensorBatch, trainingStep } from './training-step.ts';

/** What a trainer trains, on what, and who is told of each step. */
export interface TrainerOptions {
  model: CausalLM;
  args?: TrainingArguments;
  trainDataset: readonly TokenRow[];
  /** What stands on padding; any id will do, since it has no label. Default 0. */
  padTokenId?: number;
  /** Called after each step; true stops the run, which can be resumed. */
  onStep?: (entry: LogEntry) => boolean | undefined;
  /** Stops after the step in progress when it is aborted. */
  signal?: AbortSignal;
}

/** Trains a causal language model on rows of ids and labels. */
export class Trainer {
  readonly model: CausalLM;
  readonly args: ResolvedArguments;
  readonly state: TrainerState;
  private readonly options: TrainerOptions;
  private readonly slots: AdamState[];

  constructor(options: TrainerOptions) {
    this.options = options;
    this.model = options.model;
    this.args = resolveArguments(options.args ?? {});
    if (options.trainDataset.length === 0) throw new RangeError('trainDataset has no rows');
    checkRows(options.trainDataset, this.model.config);
    this.slots = adamState(this.model, this.args);
    this.state = { globalStep: 0, logHistory: [], run: this.describeRun() };
  }

  /** Optimizer steps of an epoch, the last with fewer rows. */
  get stepsPerEpoch(): number {
    const { perDeviceTrainBatchSize: batch, gradientAccumulationSteps: micro } = this.args;
    return Math.ceil(Math.ceil(this.options.trainDataset.length / batch) / micro);
  }

  /** Optimizer steps of the whole run. */
  get maxSteps(): number {
    return this.args.maxSteps ?? Math.ceil(this.args.numTrainEpochs * this.stepsPerEpoch);
  }

  /**
   * Trains to the end, or until `onStep` or `signal` stops it, and returns the state. Resumes from
   * a checkpoint's folder, or from the last one of outputDir with `true`; losses then are the same
   * as those of a run that was never stopped. Throws at a loss that is not finite, with the
   * parameters as they were before that step.
   */
  async train({ resumeFromCheckpoint = false as boolean | string } = {}): Promise<TrainerState> {
    this.resume(resumeFromCheckpoint);
    const { args, state, slots } = this;
    const schedule = getScheduler(args.lrSchedulerType, {
      learningRate: args.learningRate,
      numWarmupSteps: args.warmupSteps,
      numTrainingSteps: this.maxSteps,
      ...args.lrSchedulerKwargs,
    });
    const step = trainingStep((batch) => this.lossSum(batch), slots, args);
    this.model.train();
    try {
      while (state.globalStep < this.maxSteps) {
        const { batches, count } = this.batchesOf(state.globalStep);
        const learningRate = schedule(state.globalStep);
        const t = state.globalStep + 1;
        const numbers = {
          learningRate: tf.scalar(learningRate),
          count: tf.scalar(count),
          correction1: tf.scalar(1 - args.adamBeta1 ** t),
          correction2: tf.scalar(1 - args.adamBeta2 ** t),
        };
        const result = step(batches, numbers);
        const [loss] = await result.loss.data();
        const [gradNorm] = await result.gradNorm.data();
        tf.dispose([batches, numbers, result] as unknown as tf.TensorContainer);
        this.checkFinite(loss!, gradNorm!, t);
        state.globalStep = t;
        const entry = {
          step: t,
          epoch: t / this.stepsPerEpoch,
          loss: loss!,
          gradNorm: gradNorm!,
          learningRate,
        };
        state.logHistory.push(entry);
        const stops = this.options.onStep?.(entry) === true || this.options.signal?.aborted;
        const due = args.saveSteps > 0 && t % args.saveSteps === 0;
        if (args.outputDir && (due || stops)) this.save(args.outputDir);
        if (stops) break;
      }
    } finally {
      this.model.eval();
      step.dispose();
    }
    return state;
  }

  /** Frees AdamW's averages; the model stays. */
  dispose(): void {
    for (const { expAvg, expAvgSq } of this.slots) tf.dispose([expAvg, expAvgSq]);
  }

  /** Sum of cross entropies of each label given the tokens before it. */
  private lossSum({ inputIds, labels, attentionMask }: TensorBatch): tf.Scalar {
    const options = { attentionMask: attentionMask as tf.Tensor2D };
    const { logits } = this.model.forward(inputIds as tf.Tensor2D, options); // [B, T, V]
    const [batch, length, size] = logits.shape;
    const guesses = tf.slice(logits, [0, 0, 0], [batch, length - 1, size]); // [B, T-1, V]
    const targets = tf.slice(labels!, [0, 1], [batch, length - 1]); // [B, T-1]
    const flat = tf.reshape(guesses, [-1, size]);
    return crossEntropy(flat, tf.reshape(targets, [-1]), { reduction: 'sum' }) as tf.Scalar;
  }

  /** The micro-batches of step `step` (from 0) as tensors, and how many labels they have. */
  private batchesOf(step: number): { batches: TensorBatch[]; count: number } {
    const { perDeviceTrainBatchSize: size, gradientAccumulationSteps: micro } = this.args;
    const epoch = Math.floor(step / this.stepsPerEpoch);
    const from = (step % this.stepsPerEpoch) * size * micro;
    const rows = this.order(epoch).slice(from, from + size * micro);
    const learnt = rows.flatMap(({ labels }) => labels.slice(1).filter((label) => label !== -100));
    if (learnt.length === 0) {
      throw new RangeError(`Step ${step + 1} has no label to learn: all its rows are masked`);
    }
    const batches: TensorBatch[] = [];
    for (let i = 0; i < rows.length; i += size) {
      const padTokenId = this.options.padTokenId ?? 0;
      const batch = collate(rows.slice(i, i + size), { padTokenId });
      batches.push({
        inputIds: tf.tensor2d(batch.inputIds, undefined, 'int32'),
        labels: tf.tensor2d(batch.labels, undefined, 'int32'),
        attentionMask: tf.tensor2d(batch.attentionMask, undefined, 'int32'),
      });
    }
    return { batches, count: learnt.length };
  }

  private order(epoch: number): readonly TokenRow[] {
    const { trainDataset } = this.options;
    if (this.args.trainSamplingStrategy === 'sequential') return trainDataset;
    return new RandomState(this.args.seed + epoch).permutation(trainDataset);
  }

  private checkFinite(loss: number, gradNorm: number, step: number): void {
    if (Number.isFinite(loss) && Number.isFinite(gradNorm)) return;
    const { outputDir } = this.args;
    const saved = outputDir && lastCheckpoint(outputDir);
    const kept = saved ? `; the last good checkpoint is ${saved}` : '';
    throw new Error(
      `Training stopped at step ${step}: loss is ${loss}, the gradient's norm ${gradNorm}${kept}`,
    );
  }

  private resume(from: boolean | string): void {
    if (from === false) return;
    const { outputDir } = this.args;
    const folder = from === true ? outputDir && lastCheckpoint(outputDir) : from;
    if (!folder) throw new Error(`No checkpoint to resume from in ${outputDir ?? 'no outputDir'}`);
    Object.assign(this.state, loadTrainingCheckpoint(folder, this.slots, this.state.run));
  }

  private save(outputDir: string): void {
    saveTrainingCheckpoint(outputDir, this.slots, this.state, this.args.saveTotalLimit);
  }

  private describeRun(): string {
    const { perDeviceTrainBatchSize, gradientAccumulationSteps, learningRate, seed } = this.args;
    const { length } = this.options.trainDataset;
    return `${length} rows, ${this.maxSteps} steps of ${gradientAccumulationSteps} x ${perDeviceTrainBatchSize}, rate ${learningRate}, seed ${seed}`;
  }
}

/** Throws if a row is longer than the model, or has as many labels as ids no more. */
function checkRows(rows: readonly TokenRow[], config: CausalLM['config']): void {
  const limit = 'nPositions' in config ? config.nPositions : config.maxPositionEmbeddings;
  for (const [i, { inputIds, labels }] of rows.entries()) {
    if (inputIds.length > limit) {
      throw new RangeError(`Row ${i} has ${inputIds.length} tokens, the model takes ${limit}`);
    }
    if (inputIds.length !== labels.length) {
      throw new RangeError(
        `Row ${i} must have a label for each id, got ${labels.length} for ${inputIds.length}`,
      );
    }
  }
}
