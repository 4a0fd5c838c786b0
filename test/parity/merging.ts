// Kinds 07_mergekit and 07_peft_merge: merged weights, with the peers' recorded random masks.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { parse } from 'yaml';
import { loadFolder } from '../../src/models/pretrained.ts';
import {
  type CombinationType,
  type LoraFactors,
  type MergeLoraOptions,
  mergeLora,
} from '../../src/peft/merge-lora.ts';
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
  parameters?: {
    t?: number;
    lambda?: number;
    normalize?: boolean;
    rescale?: boolean;
    /** Of all models that have none of their own. */
    weight?: number;
    density?: number;
  };
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
  const { t, weight = 1, density = 1, ...shared } = parameters;
  const weights = entries.map((entry) => entry.parameters?.weight ?? weight);
  const densities = entries.map((entry) => entry.parameters?.density ?? density);
  const options: MergeParameters = { weights, densities, masks, ...shared };
  if (method === 'linear') return linearMerge(tensors, options);
  if (method === 'slerp') return slerp(t!, read(base!), tensors[0]!);
  return taskMerge(method as TaskMergeMethod, read(base!), tensors, options);
}

/** './m1' is stored as 'model1', './base' as 'base'. */
const storedName = (model: string) => model.replace(/^\.\//, '').replace(/^m(\d+)$/, 'model$1');

interface PeftMergeCase {
  name: string;
  combination_type: CombinationType;
  adapters: string[];
  weights: number[];
  kwargs: {
    svd_rank?: number;
    svd_clamp?: number;
    density?: number;
    majority_sign_method?: 'total' | 'frequency';
  };
  module_order: string[];
}

/** An adapter's factors by module; `isTransposed` for layers that store weights [in, out]. */
interface Adapter {
  factors: Map<string, LoraFactors>;
  isTransposed: boolean;
}

/** Compares merged factors or products, and the logits of the base model with the merge added. */
export const checkPeftMerge: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const names = Object.entries(manifest.adapters as Record<string, string>);
  const adapters = new Map(names.map(([name, path]) => [name, readAdapter(join(folder, path))]));
  const tolerance = manifest.tolerance as Record<string, number>;
  const base = join(folder, manifest.base_model as string);
  const isTransposed = [...adapters.values()].some((adapter) => adapter.isTransposed);
  return (manifest.cases as PeftMergeCase[]).flatMap((mergeCase) => {
    const merged = mergeAll(mergeCase, adapters, stored);
    return [
      ...compareFactors(mergeCase.name, merged, stored, tolerance),
      ...compareMergedLogits(mergeCase.name, merged, stored, { base, isTransposed }, tolerance),
    ];
  });
};

function readAdapter(folder: string): Adapter {
  const config = JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as {
    lora_alpha: number;
    alpha_pattern?: Record<string, number>;
    use_rslora?: boolean;
    fan_in_fan_out?: boolean;
  };
  const tensors = loadFile(join(folder, 'adapter_model.safetensors'));
  const factors = new Map<string, LoraFactors>();
  for (const [key, raw] of tensors) {
    const [, module] = key.match(/^base_model\.model\.(.*)\.lora_A\.weight$/) ?? [];
    if (!module) continue;
    const b = toTensor(tensors.get(key.replace('lora_A', 'lora_B'))!) as tf.Tensor2D;
    const patterns = Object.entries(config.alpha_pattern ?? {});
    const own = patterns.find(([pattern]) => new RegExp(`^(.*\\.)?(${pattern})$`).test(module));
    const alpha = own?.[1] ?? config.lora_alpha;
    const rank = raw.shape[0]!;
    const scaling = alpha / (config.use_rslora ? Math.sqrt(rank) : rank);
    factors.set(module, { a: toTensor(raw) as tf.Tensor2D, b, scaling });
  }
  return { factors, isTransposed: config.fan_in_fan_out ?? false };
}

function mergeAll(mergeCase: PeftMergeCase, adapters: Map<string, Adapter>, stored: Stored) {
  const { name, combination_type: type, weights, kwargs, module_order: order } = mergeCase;
  const used = mergeCase.adapters.map((adapter) => adapters.get(adapter)!);
  let at = 0;
  const masks: MaskSource = () => {
    const mask = toTensor(stored.get(`${name}:mask${String(at++).padStart(3, '0')}`)!);
    return type.endsWith('svd') && used[0]!.isTransposed ? tf.transpose(mask) : mask;
  };
  const options: MergeLoraOptions = { masks };
  if (kwargs.density !== undefined) options.density = kwargs.density;
  if (kwargs.svd_rank !== undefined) options.svdRank = kwargs.svd_rank;
  if (kwargs.svd_clamp !== undefined) options.svdClamp = kwargs.svd_clamp;
  if (kwargs.majority_sign_method) options.majoritySignMethod = kwargs.majority_sign_method;
  return new Map(
    order.map((module) => {
      const having = used.flatMap(({ factors }, i) => {
        const lora = factors.get(module);
        return lora ? [{ lora, weight: weights[i]! }] : [];
      });
      const loras = having.map(({ lora }) => lora);
      const shares = having.map(({ weight }) => weight);
      return [module, mergeLora(type, loras, shares, options)];
    }),
  );
}

function compareFactors(
  name: string,
  merged: Map<string, LoraFactors>,
  stored: Stored,
  tolerance: Record<string, number>,
): Measure[] {
  return [...merged].flatMap(([module, { a, b }]) => {
    const parts = { A: a, B: b, delta: tf.matMul(b, a) };
    return Object.entries(parts).flatMap(([part, tensor]) => {
      const expected = stored.get(`${name}:${part}:${module}`);
      const atol = tolerance[part === 'delta' ? 'svd_delta_atol' : 'A_B_atol'] ?? 0;
      const what = `${name} ${part} ${module}`;
      return expected ? [close(what, tensor.dataSync(), toFloat32(expected), { atol })] : [];
    });
  });
}

function compareMergedLogits(
  name: string,
  merged: Map<string, LoraFactors>,
  stored: Stored,
  { base, isTransposed }: { base: string; isTransposed: boolean },
  tolerance: Record<string, number>,
): Measure[] {
  const expected = stored.get(`${name}:logits`);
  const input = stored.get('input_ids');
  if (!expected || !input) return [];
  const model = loadFolder(base);
  const weights = new Map(model.namedParameters());
  return tf.tidy(() => {
    for (const [module, { a, b }] of merged) {
      const weight = weights.get(`${module}.weight`)!;
      const delta = tf.matMul(b, a); // [out, in]
      weight.assign(tf.add(weight, isTransposed ? tf.transpose(delta) : delta));
    }
    const { logits } = model.forward(toTensor(input) as tf.Tensor2D);
    const measure = close(`${name} logits`, logits.dataSync(), toFloat32(expected), {
      atol: tolerance.logits_atol ?? 0,
    });
    model.dispose();
    return [measure];
  });
}
