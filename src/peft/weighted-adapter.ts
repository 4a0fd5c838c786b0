// A new adapter from several of one model, sum_i w_i s_i B_i A_i in each layer, by the methods of
// merge-lora.ts. Follows PEFT's add_weighted_adapter; factors of a smaller rank than the adapter's are
// filled up with zeros, as there. Left out: DoRA, whose magnitudes no method of PEFT's merges.
import * as tf from '@tensorflow/tfjs';
import type { AdapterOptions } from './inject.ts';
import { LoraLinear } from './lora.ts';
import { LoraConfig } from './lora-config.ts';
import { LoraEmbedding } from './lora-embedding.ts';
import type { PeftConfig } from './mapping.ts';
import {
  type CombinationType,
  checkCombinationType,
  checkMergedRanks,
  type LoraFactors,
  type MergeLoraOptions,
  mergeLora,
} from './merge-lora.ts';
import type { ModulesToSave } from './modules-to-save.ts';
import { seededMasks } from './prune.ts';
import type { LayerAdapter, TunerLayer } from './tuner-layer.ts';

/** How adapters are merged; `density` and so on are those of MergeLoraOptions. */
export interface WeightedAdapterOptions extends MergeLoraOptions {
  /** Default 'svd'. */
  combinationType?: CombinationType;
  /** Seed of the masks of `dare_*`, where `masks` is not given. Default 0. */
  seed?: number;
}

/** What of a PeftModel is needed. */
export interface AdaptedModel {
  readonly peftConfig: Record<string, PeftConfig>;
  readonly layers: ReadonlyMap<string, TunerLayer>;
  readonly wrappers: ReadonlyMap<string, ModulesToSave>;
  addAdapter(name: string, config: PeftConfig, options?: AdapterOptions): void;
}

/**
 * Adds adapter `name`, the weighted merge of `adapters`; it is neither active nor trained. Throws, with
 * the model as it was, when they are not LoRA, or can not be merged by this method.
 */
export function addWeightedAdapter(
  model: AdaptedModel,
  adapters: readonly string[],
  weights: readonly number[],
  name: string,
  { combinationType = 'svd', seed = 0, ...options }: WeightedAdapterOptions = {},
): void {
  const configs = adapters.map((adapter) => loraConfig(model, adapter));
  const type = checkedType(combinationType, configs, weights);
  checkSaved(model, adapters);
  const r = mergedRank(type, configs, options.svdRank);
  const config = mergedConfig(model, adapters, configs, r);
  const masks = options.masks ?? seededMasks(seed);
  const merged = tf.tidy(() =>
    mergeLayers(model, adapters, weights, (loras, shares) => {
      const limit = Math.min(r, loras[0]!.a.shape[1], loras[0]!.b.shape[0]);
      const svdRank = type.endsWith('svd') ? limit : r;
      return filledUp(mergeLora(type, loras, shares, { ...options, masks, svdRank }), r);
    }),
  );
  try {
    model.addAdapter(name, config);
    for (const [path, { a, b }] of Object.entries(merged)) {
      const [ownA, ownB] = variables(model.layers.get(path)!.adapters.get(name)!);
      ownA.assign(a);
      ownB.assign(b);
    }
  } finally {
    tf.dispose(merged);
  }
}

/** Factors by the paths of their layers. */
type Merged = Record<string, { a: tf.Tensor2D; b: tf.Tensor2D }>;

/** The merge of each layer that has one of the adapters. */
function mergeLayers(
  { layers }: AdaptedModel,
  adapters: readonly string[],
  weights: readonly number[],
  merge: (loras: LoraFactors[], shares: number[]) => LoraFactors,
): Merged {
  const merged: Merged = {};
  for (const [path, layer] of layers) {
    const used = adapters.flatMap((adapter, i) => {
      const own = layer.adapters.get(adapter);
      return own ? [{ lora: factorsOf(own), weight: weights[i]! }] : [];
    });
    if (used.length === 0) continue;
    const loras = used.map(({ lora }) => lora);
    const shares = used.map(({ weight }) => weight);
    const { a, b } = merge(loras, shares);
    merged[path] = { a, b };
  }
  return merged;
}

function variables(adapter: LayerAdapter): [a: tf.Variable, b: tf.Variable] {
  const { loraA, loraB } = adapter as LoraLinear;
  const { loraEmbeddingA, loraEmbeddingB } = adapter as unknown as LoraEmbedding;
  return [loraA ?? loraEmbeddingA, loraB ?? loraEmbeddingB] as [tf.Variable, tf.Variable];
}

function factorsOf(adapter: LayerAdapter): LoraFactors {
  if (!(adapter instanceof LoraLinear || adapter instanceof LoraEmbedding)) {
    throw new TypeError(`${adapter.constructor.name} has no factors that could be merged`);
  }
  const [a, b] = variables(adapter);
  return {
    a: a as unknown as tf.Tensor2D,
    b: b as unknown as tf.Tensor2D,
    scaling: adapter.scaling,
  };
}

/** A [r, in] and B [out, r] with rows and columns of zeros after those of a smaller rank. */
function filledUp({ a, b, scaling }: LoraFactors, r: number): LoraFactors {
  const missing = r - a.shape[0];
  if (missing <= 0) return { a, b, scaling };
  const rows = tf.concat2d([a, tf.zeros([missing, a.shape[1]])], 0);
  return { a: rows, b: tf.concat2d([b, tf.zeros([b.shape[0], missing])], 1), scaling };
}

function loraConfig({ peftConfig }: AdaptedModel, name: string): LoraConfig {
  const config = peftConfig[name];
  if (!config) {
    const have =
      Object.keys(peftConfig)
        .map((other) => `'${other}'`)
        .join(', ') || 'none';
    throw new RangeError(`No adapter named '${name}'; have ${have}`);
  }
  if (config.peftType !== 'LORA' || config.useDora) {
    const type = config.peftType === 'LORA' ? 'DoRA' : config.peftType;
    throw new TypeError(`addWeightedAdapter merges LoRA adapters, and '${name}' is ${type}`);
  }
  return config;
}

function checkedType(
  combinationType: CombinationType,
  configs: LoraConfig[],
  weights: readonly number[],
): CombinationType {
  checkCombinationType(combinationType);
  if (configs.length === 0 || configs.length !== weights.length) {
    throw new RangeError(
      'addWeightedAdapter needs adapters and a weight for each, ' +
        `got ${configs.length} adapters and ${weights.length} weights`,
    );
  }
  const bad = weights.find((weight) => !Number.isFinite(weight));
  if (bad !== undefined) throw new RangeError(`A weight must be a finite number, got ${bad}`);
  const type = configs.length === 1 ? 'linear' : combinationType;
  checkMergedRanks(type, configs.map(largestRank));
  return type;
}

function checkSaved({ wrappers }: AdaptedModel, adapters: readonly string[]): void {
  for (const [path, { copies }] of wrappers) {
    const owners = adapters.filter((adapter) => copies.has(adapter));
    if (owners.length === 0) continue;
    throw new TypeError(
      `Copies of modulesToSave can not be merged, and '${owners[0]}' has one of '${path}'`,
    );
  }
}

const largestRank = ({ r, rankPattern }: LoraConfig) => Math.max(r, ...Object.values(rankPattern));

function mergedRank(type: CombinationType, configs: LoraConfig[], svdRank?: number): number {
  const ranks = configs.map(largestRank);
  if (type === 'cat') return ranks.reduce((sum, rank) => sum + rank, 0);
  if (!type.endsWith('svd') || svdRank === undefined) return Math.max(...ranks);
  if (!Number.isInteger(svdRank) || svdRank < 1) {
    throw new RangeError(`svdRank must be a positive integer, got ${svdRank}`);
  }
  return svdRank;
}

/** The first adapter's config with scaling 1 and the targets of all. */
function mergedConfig(
  model: AdaptedModel,
  adapters: readonly string[],
  configs: LoraConfig[],
  r: number,
): LoraConfig {
  const [first] = configs as [LoraConfig];
  return new LoraConfig({
    taskType: first.taskType,
    baseModelNameOrPath: first.baseModelNameOrPath,
    inferenceMode: true,
    r,
    loraAlpha: r,
    loraDropout: first.loraDropout,
    ...mergedTargets(model, adapters, configs),
  });
}

/** The names, or regular expressions, of all configs; exact paths where configs narrow them. */
function mergedTargets(
  { layers }: AdaptedModel,
  adapters: readonly string[],
  configs: LoraConfig[],
): Pick<LoraConfig, 'targetModules'> {
  const isNarrowed = configs.some(
    ({ layersToTransform, excludeModules }) =>
      layersToTransform !== null || excludeModules !== null,
  );
  const targets = configs.map(({ targetModules }) => targetModules);
  const isText = targets.every((target) => typeof target === 'string');
  if (isText && !isNarrowed) return { targetModules: targets.map((each) => `(${each})`).join('|') };
  const isNames = targets.every((target) => Array.isArray(target));
  if (isNames && !isNarrowed) return { targetModules: [...new Set(targets.flat())] as string[] };
  const has = ([, layer]: [string, TunerLayer]) =>
    adapters.some((adapter) => layer.adapters.has(adapter));
  return { targetModules: [...layers].filter(has).map(([path]) => path) };
}
