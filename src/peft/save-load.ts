// Adapters on disk as PEFT writes them: adapter_config.json and adapter_model.safetensors, whose keys
// are base_model.model.<path>.<name>. What modulesToSave, biases and embeddings add is saved too.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { Conv1D } from '../nn/linear.ts';
import { ownPath } from '../tensor/own-path.ts';
import { fromTensor, loadFile, type RawTensor, saveFile, toTensor } from '../tensor/safetensors.ts';
import type { BaseLayer } from './base-layer.ts';
import { configFromJson, configJson, isPromptLearning, type PeftConfig } from './mapping.ts';
import type { BaseModel, PromptEncoder } from './prompt-learning.ts';
import { isTarget, originalModules, unwrapped } from './target-modules.ts';
import { type LayerAdapter, TunerLayer } from './tuner-layer.ts';

/** All that one adapter has in a model. */
export interface AdapterParts {
  name: string;
  config: PeftConfig;
  /** By the paths of the layers that they sit on. */
  layers: Map<string, LayerAdapter>;
  /** Copies of the modules of `modulesToSave`, by path. */
  saved: Map<string, BaseLayer>;
  encoder: PromptEncoder | undefined;
}

const CONFIG = 'adapter_config.json';
const WEIGHTS = 'adapter_model.safetensors';
/** What the `adapters` library calls the weights of bottleneck adapters. */
const BOTTLENECK_WEIGHTS = 'adapter.safetensors';
const PREFIX = 'base_model.model.';

/** With bias 'all', PEFT saves biases of modulesToSave a second time, and those of the originals. */
const DOUBLE = /\.(modules_to_save|original_module)\./;

const layerKey = (path: string, name: string) => `${PREFIX}${path}.${name}`;

/** Embeddings whose weight PEFT saves beside their adapter, when they are targets by these names. */
const EMBEDDINGS = ['embed_tokens', 'lm_head'];

/** Tensors of an adapter by their keys in the file; optional ones are values of the base model. */
export function adapterTensors(
  parts: AdapterParts,
  base: BaseModel,
): { own: Map<string, tf.Tensor>; optional: Map<string, tf.Tensor> } {
  const { name: adapterName, config, layers, saved, encoder } = parts;
  const own = new Map<string, tf.Tensor>();
  const optional = new Map<string, tf.Tensor>();
  if (encoder) return { own: own.set('prompt_embeddings', encoder.loadable), optional };
  const keyOf = 'stateKey' in config ? config.stateKey : layerKey;
  for (const [path, adapter] of layers) {
    for (const [name, tensor] of Object.entries(adapter.state())) {
      own.set(keyOf(path, name, adapterName), tensor);
    }
  }
  const shared = 'sharedState' in config ? config.sharedState([...layers.values()]) : {};
  for (const [key, tensor] of Object.entries(shared)) own.set(key, tensor);
  for (const [path, copy] of saved) {
    for (const [name, tensor] of copy.namedParameters())
      own.set(`${PREFIX}${path}.${name}`, tensor);
  }
  for (const [path, bias] of trainedBiases(parts, base)) own.set(`${PREFIX}${path}`, bias);
  for (const [path, weight] of savedEmbeddings(config, layers, base)) {
    optional.set(`${PREFIX}${path}.base_layer.weight`, weight);
  }
  return { own, optional };
}

/** Biases of the base model that an adapter trains, by path: none of modules that it has copies of. */
export function trainedBiases(
  { config, layers, saved }: AdapterParts,
  base: BaseModel,
): Map<string, tf.Variable> {
  const isCopied = (path: string) =>
    [...saved.keys()].some((copied) => path === copied || path.startsWith(`${copied}.`));
  const found = new Map<string, tf.Variable>();
  if (isPromptLearning(config) || config.bias === 'none') return found;
  for (const [path, module] of originalModules(base)) {
    if (isCopied(path)) continue;
    const { bias } = unwrapped(module) as { bias?: unknown };
    const isAdapted = layers.has(path);
    if (!(bias instanceof tf.Variable) || !(isAdapted || config.bias === 'all')) continue;
    const isWrapped = isAdapted || module instanceof TunerLayer;
    found.set(`${path}.${isWrapped ? 'base_layer.' : ''}bias`, bias);
  }
  return found;
}

/** Writes an adapter into a folder. */
export function saveAdapter(folder: string, parts: AdapterParts, base: BaseModel): void {
  const { config, encoder, layers } = parts;
  mkdirSync(folder, { recursive: true });
  const raw = new Map<string, RawTensor>();
  if (encoder) {
    tf.tidy(() => void raw.set('prompt_embeddings', fromTensor(encoder.promptEmbeddings())));
  } else {
    const { own, optional } = adapterTensors(parts, base);
    for (const [key, tensor] of [...own, ...optional]) raw.set(key, fromTensor(tensor));
  }
  const isConv = [...originalModules(base)].some(
    ([path, module]) => layers.has(path) && unwrapped(module) instanceof Conv1D,
  );
  const json = configJson(config, { fanInFanOut: isConv, name: parts.name, base: base.config });
  writeFileSync(join(folder, CONFIG), `${JSON.stringify(json, null, 2)}\n`);
  saveFile(raw, join(folder, config.peftType === 'BOTTLENECK' ? BOTTLENECK_WEIGHTS : WEIGHTS));
}

/** A folder's config and tensors, by the keys of an adapter of this name. */
export function readAdapter(
  folder: string,
  name: string,
): { config: PeftConfig; tensors: Map<string, RawTensor> } {
  const own = ownPath(folder);
  const read = (file: string) => {
    if (!existsSync(join(own, file))) throw new Error(`No ${file} in ${folder}`);
    return join(own, file);
  };
  const json = parseConfig(readFileSync(read(CONFIG), 'utf8'), folder);
  const config = configFromJson(json);
  if (config.peftType !== 'BOTTLENECK') {
    const stored = [...loadFile(read(WEIGHTS))].filter(([key]) => !DOUBLE.test(key));
    return { config, tensors: new Map(stored) };
  }
  const stored = [...loadFile(read(BOTTLENECK_WEIGHTS))];
  const renamed = (key: string) => key.replace(`.adapters.${json.name}.`, `.adapters.${name}.`);
  return { config, tensors: new Map(stored.map(([key, raw]) => [renamed(key), raw])) };
}

function parseConfig(text: string, folder: string): Record<string, unknown> {
  try {
    return JSON.parse(text) as Record<string, unknown>;
  } catch (error) {
    throw new Error(`${CONFIG} in ${folder} is not JSON: ${(error as Error).message}`);
  }
}

/**
 * Puts stored tensors into an adapter that is not in the model yet. Throws, with nothing changed in
 * the model, when a tensor is missing, has another shape, or belongs to nothing.
 */
export function fillAdapter(
  parts: AdapterParts,
  tensors: ReadonlyMap<string, RawTensor>,
  base: BaseModel,
): void {
  const { own, optional } = adapterTensors(parts, base);
  const all = new Map([...own, ...optional]);
  for (const [key, tensor] of own) {
    const raw = tensors.get(key);
    if (raw) checkShape(key, raw, tensor);
    else {
      throw new Error(`The adapter's file lacks '${key}' of shape [${tensor.shape}]`);
    }
  }
  for (const [key, raw] of tensors) {
    const tensor = all.get(key);
    if (!tensor) {
      throw new Error(`'${key}' of the adapter's file has no place in this model and config`);
    }
    checkShape(key, raw, tensor);
  }
  for (const [key, raw] of tensors) {
    tf.tidy(() => void (all.get(key) as tf.Variable).assign(toTensor(raw).toFloat()));
  }
}

function checkShape(key: string, { shape }: RawTensor, tensor: tf.Tensor): void {
  if (String(shape) === String(tensor.shape)) return;
  throw new Error(
    `'${key}' has shape [${shape}] in the adapter's file, and [${tensor.shape}] fits this model`,
  );
}

function savedEmbeddings(
  config: PeftConfig,
  layers: ReadonlyMap<string, unknown>,
  base: BaseModel,
): Map<string, tf.Tensor> {
  const found = new Map<string, tf.Tensor>();
  if (isPromptLearning(config)) return found;
  const { targetModules: targets } = config;
  const last = (path: string) => path.split('.').at(-1)!;
  const isTargeted = Array.isArray(targets)
    ? EMBEDDINGS.some((name) => targets.includes(name))
    : [...originalModules(base)].some(
        ([path]) => EMBEDDINGS.includes(last(path)) && isTarget(config, path),
      );
  if (!isTargeted) return found;
  for (const [path, module] of originalModules(base)) {
    const { weight } = unwrapped(module) as { weight?: tf.Tensor };
    const isEmbedding = [...EMBEDDINGS, 'wte'].includes(last(path));
    if (isEmbedding && layers.has(path) && weight) found.set(path, weight);
  }
  return found;
}
