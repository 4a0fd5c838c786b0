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
import type { PagedAdamW } from './paged-adamw.ts';
import type { TrainerState } from './training-state.ts';
import type { TrainedSlot } from './training-step.ts';

const STATE = 'trainer_state.json';
const TENSORS = 'training.safetensors';
const OPTIMIZER = 'optimizer.';

/** What a checkpoint keeps: variables by name, and averages that are no variables. */
export interface KeptInCheckpoint {
  variables(): Iterable<[string, tf.Variable]>;
  readonly optimizer: PagedAdamW | undefined;
}

/** Writes checkpoint-<step> and removes the oldest beyond `limit`; returns its folder. */
export function saveTrainingCheckpoint(
  outputDir: string,
  kept: KeptInCheckpoint,
  state: TrainerState,
  limit = Infinity,
): string {
  const folder = join(outputDir, `checkpoint-${state.globalStep}`);
  const partial = join(outputDir, `.partial-${state.globalStep}`);
  try {
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    const tensors = new Map<string, RawTensor>();
    for (const [name, own] of kept.variables()) tensors.set(name, fromTensor(own));
    for (const [name, raw] of kept.optimizer?.stateTensors() ?? []) {
      tensors.set(`${OPTIMIZER}${name}`, raw);
    }
    saveFile(tensors, join(partial, TENSORS));
    writeFileSync(join(partial, STATE), JSON.stringify(state));
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
    const path = join(outputDir, old);
    if (path !== state.bestModelCheckpoint) rmSync(path, { recursive: true });
  }
  return folder;
}

/** The folder of the last whole checkpoint below `outputDir`, or undefined. */
export function lastCheckpoint(outputDir: string): string | undefined {
  const name = listCheckpoints(outputDir).at(-1);
  return name && join(outputDir, name);
}

/** Assigns the variables of a checkpoint; throws if it is of another model or run. */
export function loadTrainingCheckpoint(
  folder: string,
  kept: KeptInCheckpoint,
  run: string,
): TrainerState {
  const path = join(folder, STATE);
  if (!existsSync(path)) throw new Error(`No checkpoint in ${folder}`);
  const state = JSON.parse(readFileSync(path, 'utf8')) as TrainerState;
  if (state.run !== run) {
    throw new Error(`The checkpoint ${folder} is of another run: ${state.run} instead of ${run}`);
  }
  const tensors = loadFile(join(folder, TENSORS));
  const wanted = [...kept.variables()];
  for (const [name, variable] of wanted) {
    const raw = tensors.get(name);
    if (raw && raw.shape.join() === variable.shape.join()) continue;
    const found = raw ? `shape [${raw.shape}]` : 'nothing';
    throw new Error(
      `The checkpoint ${folder} must have ${name} of shape [${variable.shape}], got ${found}`,
    );
  }
  for (const [name, variable] of wanted) {
    tf.tidy(() => variable.assign(toTensor(tensors.get(name)!)));
  }
  const own = [...tensors].filter(([name]) => name.startsWith(OPTIMIZER));
  const parts = own.map(([name, raw]) => [name.slice(OPTIMIZER.length), raw] as const);
  kept.optimizer?.loadState(new Map(parts), state.optimizerSteps);
  return state;
}

/** What has to be kept of a trained parameter: itself and its averages. */
export function* variablesOf(slots: readonly TrainedSlot[]): Generator<[string, tf.Variable]> {
  for (const { name, parameter, averages } of slots) {
    yield [name, parameter];
    if (!averages) continue;
    yield [`exp_avg.${name}`, averages.expAvg];
    yield [`exp_avg_sq.${name}`, averages.expAvgSq];
  }
}

/** Names of whole checkpoints, oldest first. */
function listCheckpoints(outputDir: string): string[] {
  if (!existsSync(outputDir)) return [];
  const step = (name: string) => Number(name.slice('checkpoint-'.length));
  return readdirSync(outputDir)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => step(a) - step(b));
}
