// Checkpoints: trained parameters, AdamW's averages and the trainer's state, in checkpoint-<step>.
// A folder is written beside and renamed when it is whole, so that a crash leaves the one before.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { fromTensor, loadFile, type RawTensor, saveFile, toTensor } from '../tensor/safetensors.ts';
import type { AdamState } from './training-step.ts';

/** What one step was: transformers' log_history. */
export interface LogEntry {
  step: number;
  epoch: number;
  loss: number;
  gradNorm: number;
  learningRate: number;
}

/** Where a run stands, as in trainer_state.json. */
export interface TrainerState {
  globalStep: number;
  logHistory: LogEntry[];
  /** Settings that the order of rows depends on; another run has others. */
  run: string;
}

/** Writes checkpoint-<step> and removes the oldest beyond `limit`; returns its folder. */
export function saveTrainingCheckpoint(
  outputDir: string,
  slots: readonly AdamState[],
  state: TrainerState,
  limit = Infinity,
): string {
  const folder = join(outputDir, `checkpoint-${state.globalStep}`);
  const partial = join(outputDir, `.partial-${state.globalStep}`);
  try {
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    saveFile(tensorsOf(slots), join(partial, 'training.safetensors'));
    writeFileSync(join(partial, 'trainer_state.json'), JSON.stringify(state));
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw new Error(
      `Checkpoint ${state.globalStep} could not be saved in ${outputDir} (${(error as Error).message}); earlier ones are intact`,
      { cause: error },
    );
  }
  for (const old of listCheckpoints(outputDir).slice(0, -limit)) {
    rmSync(join(outputDir, old), { recursive: true });
  }
  return folder;
}

/** The folder of the last whole checkpoint below `outputDir`, or undefined. */
export function lastCheckpoint(outputDir: string): string | undefined {
  const name = listCheckpoints(outputDir).at(-1);
  return name && join(outputDir, name);
}

/** Assigns parameters and averages of a checkpoint; throws if it is of another model or run. */
export function loadTrainingCheckpoint(
  folder: string,
  slots: readonly AdamState[],
  run: string,
): TrainerState {
  const path = join(folder, 'trainer_state.json');
  if (!existsSync(path)) throw new Error(`No checkpoint in ${folder}`);
  const state = JSON.parse(readFileSync(path, 'utf8')) as TrainerState;
  if (state.run !== run) {
    throw new Error(`The checkpoint ${folder} is of another run: ${state.run} instead of ${run}`);
  }
  const tensors = loadFile(join(folder, 'training.safetensors'));
  for (const [name, variable] of variablesOf(slots)) {
    const raw = tensors.get(name);
    if (!raw || raw.shape.join() !== variable.shape.join()) {
      const found = raw ? `shape [${raw.shape}]` : 'nothing';
      throw new Error(
        `The checkpoint ${folder} must have ${name} of shape [${variable.shape}], got ${found}`,
      );
    }
    tf.tidy(() => variable.assign(toTensor(raw)));
  }
  return state;
}

function* variablesOf(slots: readonly AdamState[]): Generator<[string, tf.Variable]> {
  for (const { name, parameter, expAvg, expAvgSq } of slots) {
    yield [name, parameter];
    yield [`exp_avg.${name}`, expAvg];
    yield [`exp_avg_sq.${name}`, expAvgSq];
  }
}

function tensorsOf(slots: readonly AdamState[]): Map<string, RawTensor> {
  return new Map([...variablesOf(slots)].map(([name, variable]) => [name, fromTensor(variable)]));
}

/** Names of whole checkpoints, oldest first. */
function listCheckpoints(outputDir: string): string[] {
  if (!existsSync(outputDir)) return [];
  const step = (name: string) => Number(name.slice('checkpoint-'.length));
  return readdirSync(outputDir)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => step(a) - step(b));
}
