// What a run remembers between steps, and what it tells others of.
import type { LossScale } from './half-precision.ts';

/** What one step was: transformers' log_history. */
export interface LogEntry {
  step: number;
  epoch: number;
  loss: number;
  gradNorm: number;
  learningRate: number;
  /** Tokens of rows that were trained on since the run began. */
  numTokens: number;
  /** Whether an overflow kept the step from changing anything (fp16). */
  skipped?: true;
  /** What else the trainer logs, such as 'rewards/margins'. */
  metrics: Record<string, number>;
}

/** One evaluation: the mean loss and other means over the evaluation's rows. */
export interface EvalEntry {
  step: number;
  loss: number;
  metrics: Record<string, number>;
}

/** Where a run stands, as in trainer_state.json. */
export interface TrainerState {
  globalStep: number;
  /** Steps that changed parameters; fewer than globalStep after overflows. */
  optimizerSteps: number;
  numTokens: number;
  logHistory: LogEntry[];
  evalHistory: EvalEntry[];
  /** The best metric so far and its checkpoint. */
  bestMetric?: number;
  bestModelCheckpoint?: string;
  /** Evaluations since the best one. */
  evalsSinceBest: number;
  lossScale: LossScale;
  /** Settings that the order of rows depends on; another run has others. */
  run: string;
}

/** Who is told of what; `onStep` stops the run, which can be resumed, by returning true. */
export interface TrainerCallback {
  onTrainBegin?(state: TrainerState): void;
  onStep?(entry: LogEntry, state: TrainerState): boolean | undefined;
  onEvaluate?(entry: EvalEntry, state: TrainerState): boolean | undefined;
  onSave?(folder: string, state: TrainerState): void;
  onTrainEnd?(state: TrainerState): void;
}

/** Whether `metric` beats `best` by more than `threshold`. */
export function isBetter(
  metric: number,
  best: number | undefined,
  { greater, threshold }: { greater: boolean; threshold: number },
): boolean {
  if (best === undefined) return !Number.isNaN(metric);
  return greater ? metric > best + threshold : metric < best - threshold;
}
