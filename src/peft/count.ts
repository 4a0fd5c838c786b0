// Counting parameters on shapes alone: those of a model from its config, and what each method trains
// in it, by the rules by which a PeftModel would find its layers. No tensor is made, so a model of 70
// billion is counted at once. Left out: quantized storage, and what SEQ_CLS asks of other heads.
import type { BottleneckConfig } from './bottleneck.ts';
import { defaultFeedforward, type IA3Config, isFeedforwardPath } from './ia3.ts';
import {
  biasSize,
  HEAD,
  type LayerShape,
  layerShapes,
  type ModelShape,
  weightSize,
} from './layer-shapes.ts';
import type { LoraConfig } from './lora-config.ts';
import { isPromptLearning, type PeftConfig } from './mapping.ts';
import type { PrefixTuningConfig } from './prefix-tuning.ts';
import { modelShape } from './prompt-learning.ts';
import { findPattern, isTarget, type TargetFields } from './target-modules.ts';
import type { VeraConfig } from './vera.ts';

/** Parameters of a model by what they are; the parts add up to `total`. */
export interface ParameterCount {
  total: number;
  /** Tables of tokens and positions. */
  embedding: number;
  /** The output head's weight; 0 when it is the token table. */
  head: number;
  /** Weights of all other linear layers: what quantization packs. */
  linear: number;
  /** Norms and biases. */
  other: number;
}

/** What an adapter trains, and all parameters with it: the numbers of PEFT's line. */
export interface AdapterCount {
  trainable: number;
  all: number;
}

/** Parameters of a base model, tied weights counted once. */
export function countParameters(config: ModelShape): ParameterCount {
  const layers = layerShapes(config);
  const sum = (some: LayerShape[]) => some.reduce((total, layer) => total + weightSize(layer), 0);
  const isHead = ({ path }: LayerShape) => path === HEAD;
  const of = (kind: LayerShape['kind']) => layers.filter((layer) => layer.kind === kind);
  const parts = {
    embedding: sum(of('embedding')),
    head: sum(layers.filter(isHead)),
    linear: sum(of('linear').filter((layer) => !isHead(layer))),
    other: sum(of('norm')) + layers.reduce((total, layer) => total + biasSize(layer), 0),
  };
  const total = parts.embedding + parts.head + parts.linear + parts.other;
  return { total, ...parts };
}

/**
 * What a PeftModel of this base and config would train. Throws when the config's targets match
 * nothing, or when it is for sequence classification, whose head the base's config does not tell.
 */
export function countAdapter(base: ModelShape, config: PeftConfig): AdapterCount {
  if (config.taskType === 'SEQ_CLS') {
    throw new RangeError("countAdapter knows taskType 'CAUSAL_LM' only, got 'SEQ_CLS'");
  }
  const { total } = countParameters(base);
  const added = addedParameters(base, config);
  return { trainable: added + trainedBiases(base, config), all: total + added };
}

function addedParameters(base: ModelShape, config: PeftConfig): number {
  const { hiddenSize, numLayers, numKeyValueHeads, headDim } = modelShape(base);
  switch (config.peftType) {
    case 'PROMPT_TUNING':
      return config.numVirtualTokens * hiddenSize;
    case 'PREFIX_TUNING':
      return countPrefix(config, numLayers, numKeyValueHeads * headDim);
    case 'BOTTLENECK':
      return numLayers * countBottlenecks(config, hiddenSize);
    default: {
      const names = targetNames(base, config);
      const targets = adaptedLayers(base, config);
      const each = targets.reduce((sum, layer) => sum + countLayer(config, layer, names), 0);
      return each + countSaved(base, config.modulesToSave);
    }
  }
}

/** nv 2 L D, or with projection nv D + (D h + h) + (h 2 L D + 2 L D). */
function countPrefix(config: PrefixTuningConfig, layers: number, tokenDim: number): number {
  const width = 2 * layers * tokenDim;
  const { numVirtualTokens: count, encoderHiddenSize, prefixProjection } = config;
  if (!prefixProjection) return count * width;
  const inner = encoderHiddenSize ?? tokenDim;
  return count * tokenDim + (tokenDim + 1) * inner + (inner + 1) * width;
}

/** 2 C k + k + C for each adapter of a block, k the bottleneck. */
function countBottlenecks({ options }: BottleneckConfig, hiddenSize: number): number {
  const width = Math.max(1, Math.floor(hiddenSize / options.reductionFactor));
  return (
    (Number(options.mhAdapter) + Number(options.outputAdapter)) *
    (2 * hiddenSize * width + width + hiddenSize)
  );
}

/** LoRA r (in + out), and out more with DoRA; VeRA r + out; IA3 out, or in of a feed-forward layer. */
function countLayer(
  config: LoraConfig | IA3Config | VeraConfig,
  layer: LayerShape,
  targets: TargetFields['targetModules'],
): number {
  if (config.peftType === 'VERA') return config.r + layer.out;
  if (config.peftType === 'IA3') {
    const inner = config.feedforwardModules ?? defaultFeedforward(targets);
    return isFeedforwardPath(inner, layer.path) ? layer.in : layer.out;
  }
  const r = findPattern(config.rankPattern, layer.path, config.r);
  return r * (layer.in + layer.out) + (config.useDora ? layer.out : 0);
}

/** The layers that a config means; 'all-linear' is every linear layer but the head. Throws for none. */
export function adaptedLayers(base: ModelShape, config: TargetFields & Tuner): LayerShape[] {
  const layers = layerShapes(base).filter(({ kind }) => kind !== 'norm');
  const targetModules = targetNames(base, config);
  const isAll = String(targetModules).toLowerCase() === 'all-linear';
  const linear = layers.filter(({ kind, path }) => kind === 'linear' && path !== HEAD);
  const names = isAll ? linear.map(({ path }) => path) : targetModules;
  const fields = withTargets(config, names);
  const found = layers.filter(({ path }) => isTarget(fields, path));
  if (found.length > 0) return found;
  const known = [...new Set(layers.map(({ path }) => path.split('.').at(-1)))].join(', ');
  throw new RangeError(
    `targetModules ${JSON.stringify(targetModules)} matches no module; have ${known}`,
  );
}

const targetNames = (base: ModelShape, config: TargetFields & Tuner) =>
  config.targetModules ?? config.defaultTargets[base.modelType] ?? null;

type Tuner = { defaultTargets: Record<string, string[]> };

/** Whole copies of the modules whose paths end in these names. */
function countSaved(base: ModelShape, names: readonly string[] | null): number {
  const size = (layer: LayerShape) => weightSize({ ...layer, isTied: false }) + biasSize(layer);
  const copies = layerShapes(base).map((layer) => size(layer) * copiesOf(layer, names));
  return copies.reduce((sum, count) => sum + count, 0);
}

/** In how many of the modules whose paths end in these names a layer is. */
function copiesOf({ path }: LayerShape, names: readonly string[] | null): number {
  const parts = path.split('.');
  const holders = parts.map((_, i) => parts.slice(0, i + 1).join('.'));
  return holders.filter((holder) => names?.some((name) => holder.endsWith(name))).length;
}

/** Biases of the base that a config trains: those of modules with a copy rest. */
function trainedBiases(base: ModelShape, config: PeftConfig): number {
  if (isPromptLearning(config) || config.bias === 'none') return 0;
  const layers = config.bias === 'all' ? layerShapes(base) : adaptedLayers(base, config);
  const trained = layers.filter((layer) => copiesOf(layer, config.modulesToSave) === 0);
  return trained.reduce((sum, layer) => sum + biasSize(layer), 0);
}

const withTargets = (config: TargetFields, targetModules: TargetFields['targetModules']) => ({
  targetModules,
  excludeModules: config.excludeModules ?? null,
  layersToTransform: config.layersToTransform ?? null,
  layersPattern: config.layersPattern ?? null,
  modulesToSave: config.modulesToSave,
});
