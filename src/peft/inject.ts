// From a config to an adapter in a model: the layers and modules that it means are found, parts are made
// for them (a draft, which changes nothing yet), and wrappers put in their places.
import { Module } from '../nn/module.ts';
import type { RandomState } from '../tensor/random.ts';
import type { BaseLayer } from './base-layer.ts';
import { isPromptLearning, type PeftConfig } from './mapping.ts';
import { cloneModule, ModulesToSave } from './modules-to-save.ts';
import type { TunerConfig } from './peft-config.ts';
import type { BaseModel } from './prompt-learning.ts';
import type { AdapterParts } from './save-load.ts';
import { findSaved, findTargets, originalModules, unwrapped } from './target-modules.ts';
import { type AdapterState, TunerLayer } from './tuner-layer.ts';

/** What some adapters need to begin. */
export interface AdapterOptions {
  /** Tokenizer of a prompt's first text. */
  tokenizer?: { encode(text: string): readonly number[] };
}

/**
 * An adapter that fits the model and is not in it yet; without `random` its numbers are for a file to
 * tell. Throws when the config means nothing in this model, or a layer that can have no such adapter.
 */
export function draftAdapter(
  base: BaseModel,
  name: string,
  config: PeftConfig,
  random?: RandomState,
  { tokenizer }: AdapterOptions = {},
): AdapterParts {
  if (isPromptLearning(config)) {
    const encode = tokenizer && ((text: string) => tokenizer.encode(text));
    const encoder = config.createEncoder(base, random, encode);
    return { name, config, layers: new Map(), saved: new Map(), encoder };
  }
  const head = fillTargets(base, config);
  const targets = findTargets(base, config, { name: config.constructor.name, head });
  const copied = findCopied(base, config);
  const layers = targets.map(([path, module]) => [path, unwrapped(module)] as [string, BaseLayer]);
  const adapters = config.createAdapters(layers, random);
  if (String(config.targetModules).toLowerCase() === 'all-linear') {
    config.targetModules = targets.map(([path]) => path);
  }
  return {
    name,
    config,
    layers: new Map(adapters.map((adapter, i) => [layers[i]![0], adapter])),
    saved: new Map(copied.map(([path, module]) => [path, cloneModule(module)])),
    encoder: undefined,
  };
}

/** Puts a draft into the model, wrapping what no adapter has wrapped before. */
export function injectAdapter(
  base: BaseModel,
  { name, layers, saved }: AdapterParts,
  into: {
    layers: Map<string, TunerLayer>;
    wrappers: Map<string, ModulesToSave>;
    state: AdapterState;
  },
): void {
  const wrapped = new Map<Module, Module>();
  for (const [path, module] of originalModules(base)) {
    if (layers.has(path) && !into.layers.has(path)) {
      const layer = new TunerLayer(module as BaseLayer, into.state);
      into.layers.set(path, layer);
      wrapped.set(module, layer);
    }
    if (saved.has(path) && !into.wrappers.has(path)) {
      const wrapper = new ModulesToSave(module as BaseLayer, into.state);
      into.wrappers.set(path, wrapper);
      wrapped.set(module, wrapper);
    }
  }
  replaceModules(base, wrapped);
  for (const [path, adapter] of layers) into.layers.get(path)!.add(name, adapter);
  for (const [path, copy] of saved) into.wrappers.get(path)!.copies.set(name, copy);
}

/** Puts other modules in the places of these, all in one walk. */
export function replaceModules(root: Module, others: ReadonlyMap<Module, Module>): void {
  for (const [, parent] of [...root.namedModules()]) {
    const slots = parent as unknown as Record<string, unknown>;
    for (const [property, value] of Object.entries(slots)) {
      if (value instanceof Module && others.has(value)) slots[property] = others.get(value);
      if (!Array.isArray(value)) continue;
      for (const [i, item] of value.entries()) if (others.has(item)) value[i] = others.get(item);
    }
  }
}

/** Fills in what the task and the type of model tell; returns the name of the output head. */
function fillTargets(base: BaseModel, config: TunerConfig): string {
  const { modelType = '' } = base.config as { modelType?: string };
  config.targetModules ??= config.defaultTargets[modelType] ?? null;
  if (config.taskType !== 'SEQ_CLS') return 'lm_head';
  config.modulesToSave = [...new Set([...(config.modulesToSave ?? []), 'classifier', 'score'])];
  return 'score';
}

/** The modules of `modulesToSave` without their wrappers. */
function findCopied(base: BaseModel, config: TunerConfig): [string, BaseLayer][] {
  const found = findSaved(base, config.modulesToSave);
  if (config.modulesToSave?.length && found.length === 0) {
    const wanted = JSON.stringify(config.modulesToSave);
    throw new RangeError(`${config.constructor.name}.modulesToSave ${wanted} matches no module`);
  }
  return found.map(([path, module]) => [
    path,
    module instanceof ModulesToSave ? module.originalModule : (module as BaseLayer),
  ]);
}
