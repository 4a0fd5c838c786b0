// Kinds 07_mergekit and 07_peft_merge: merged weights, with the peers' recorded random masks.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { parse } from 'yaml';
import {
  linearMerge,
  type MergeParameters,
  slerp,
  type TaskMergeMethod,
  taskMerge,
} from '../../src/peft/mergekit.ts';
import type { MaskSource } from '../../src/peft/prune.ts';
import { loadFile, type RawTensor, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure } from './measure.ts';

type Stored = Map<string, RawTensor>;

/** The fields of a mergekit recipe that the cases have. */
interface Recipe {
  merge_method: string;
  base_model?: string;
  models: { model: string; parameters?: { weight?: number; density?: number } }[];
  parameters?: { t?: number; lambda?: number; normalize?: boolean; rescale?: boolean };
}

interface MergekitCase {
  name: string;
  yaml: string;
}

/** Compares the kept tensors of each recipe's result. */
export const checkMergekit: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const cases = manifest.cases as MergekitCase[];
  const tolerance = manifest.tolerance as { atol: number };
  return cases.flatMap(({ name, yaml }) => {
    const recipe = parse(yaml) as Recipe;
    const masksOf = masksFinder(stored, name, cases);
    return (manifest.kept as string[]).map((key): Measure => {
      const merged = tf.tidy(() => merge(recipe, stored, key, masksOf(key)).dataSync());
      return close(`${name} ${key}`, merged, toFloat32(stored.get(`${name}:${key}`)!), tolerance);
    });
  });
};

/** Masks of one tensor in the order of the models; dare_ties may share those of a case before. */
function masksFinder(stored: Stored, name: string, cases: MergekitCase[]) {
  const holder = [name, ...cases.map((other) => other.name)].find((candidate) =>
    [...stored.keys()].some((key) => key.startsWith(`${candidate}:mask:`)),
  );
  return (key: string): MaskSource => {
    let at = 0;
    return () => toTensor(stored.get(`${holder}:mask:${key}:${at++}`)!);
  };
}

function merge(recipe: Recipe, stored: Stored, key: string, masks: MaskSource): tf.Tensor {
  const { merge_method: method, base_model: base, models, parameters = {} } = recipe;
  const read = (model: string) => toTensor(stored.get(`${storedName(model)}:${key}`)!);
  const entries = models.filter(({ model }) => model !== base);
  const tensors = entries.map(({ model }) => read(model));
  const weights = entries.map((entry) => entry.parameters?.weight ?? 1);
  const densities = entries.map((entry) => entry.parameters?.density ?? 1);
  const { t, ...shared } = parameters;
  const options: MergeParameters = { weights, densities, masks, ...shared };
  if (method === 'linear') return linearMerge(tensors, options);
  if (method === 'slerp') return slerp(t!, read(base!), tensors[0]!);
  return taskMerge(method as TaskMergeMethod, read(base!), tensors, options);
}

/** './m1' is stored as 'model1', './base' as 'base'. */
const storedName = (model: string) => model.replace(/^\.\//, '').replace(/^m(\d+)$/, 'model$1');
