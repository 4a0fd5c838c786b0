// PeftModel: a frozen base model with adapters by name, of which one or several are active. Its
// methods are those of PEFT's peft_model.py. Left out: Seq2Seq and token tasks, the hub.
import * as tf from '@tensorflow/tfjs';
import { Module } from '../nn/module.ts';
import { RandomState } from '../tensor/random.ts';
import {
  checkAdapterRows,
  checkMerge,
  checkNewAdapter,
  dropoutRate,
  partsNamed,
} from './adapter-rules.ts';
import { type AdapterOptions, draftAdapter, injectAdapter, replaceModules } from './inject.ts';
import type { PeftConfig } from './mapping.ts';
import type { ModulesToSave } from './modules-to-save.ts';
import type { BaseModel, BaseOptions, PromptEncoder } from './prompt-learning.ts';
import { PromptEmbedding } from './prompt-tuning.ts';
import {
  type AdapterParts,
  adapterTensors,
  fillAdapter,
  readAdapter,
  saveAdapter,
  trainedBiases,
} from './save-load.ts';
import { countTrainable, trainableParametersLine } from './trainable-parameters.ts';
import { type AdapterState, type Mixture, TunerLayer } from './tuner-layer.ts';
import { addWeightedAdapter, type WeightedAdapterOptions } from './weighted-adapter.ts';

/** Options of a forward pass that only a PeftModel takes. */
export interface PeftForwardOptions {
  /** Of each row of the batch its adapter; '__base__' for none. */
  adapterNames?: readonly string[];
  /** Experts that count together in the place of the active adapters; see routed-model.ts. */
  mixture?: Mixture;
}

/** A base model and its adapters. */
export class PeftModel<M extends BaseModel = BaseModel> extends Module {
  private readonly base: M;
  private readonly parts = new Map<string, AdapterParts>();
  /** Layers that have adapters, by their paths in the base model. */
  readonly layers = new Map<string, TunerLayer>();
  /** Modules that adapters have copies of, by their paths. */
  readonly wrappers = new Map<string, ModulesToSave>();
  readonly state: AdapterState;
  private readonly random: RandomState;

  /** Freezes `base`, whose layers adapters will wrap; `seed` is that of first values and dropout. */
  constructor(base: M, { seed = 0 } = {}) {
    super();
    const isAdapted = [...base.namedModules()].some(
      ([, module]) => module instanceof TunerLayer || module instanceof PeftModel,
    );
    if (isAdapted) {
      throw new TypeError('The model has adapters already; add others by its addAdapter');
    }
    this.base = base.requiresGrad(false);
    this.random = new RandomState(seed);
    const start = tf.variable(tf.scalar(this.random.randint(2 ** 20), 'int32'), false);
    this.state = {
      active: [],
      disabled: false,
      rows: undefined,
      mixture: undefined,
      rounding: undefined,
      seed: start,
    };
  }

  /** A model with the adapter of a folder that PEFT or `savePretrained` wrote. */
  static fromPretrained<M extends BaseModel>(
    base: M,
    folder: string,
    { adapterName = 'default', isTrainable = false, seed = 0 } = {},
  ): PeftModel<M> {
    const files = readAdapter(folder, adapterName);
    const model = new PeftModel(base, { seed });
    model.load(adapterName, files, isTrainable);
    model.setAdapter(adapterName, { inferenceMode: !isTrainable });
    return model;
  }

  get config(): M['config'] {
    return this.base.config;
  }

  /** Whether `forward` takes a cache of fixed size; virtual tokens need one that grows. */
  get supportsStaticCache(): boolean {
    return this.base.supportsStaticCache === true && !this.encoder;
  }

  /** Which adapters count, and how: what was compiled for others is not used again. */
  get forwardKey(): string {
    const { active, disabled } = this.state;
    return JSON.stringify([active, disabled, this.mergedAdapters]);
  }

  /** Logits that come before those of the text: prompt tuning has one for each virtual token. */
  get promptLength(): number {
    const { encoder } = this;
    return encoder instanceof PromptEmbedding ? encoder.numVirtualTokens : 0;
  }

  /** Configs by adapter. */
  get peftConfig(): Record<string, PeftConfig> {
    return Object.fromEntries([...this.parts].map(([name, { config }]) => [name, config]));
  }

  get activeAdapters(): readonly string[] {
    return this.state.active;
  }

  /** The first active adapter. */
  get activeAdapter(): string | undefined {
    return this.state.active[0];
  }

  /** Adapters that are in the weights now. */
  get mergedAdapters(): string[] {
    return [...new Set([...this.layers.values()].flatMap(({ merged }) => merged))];
  }

  /** Seed of dropout, a scalar that changes at each pass in training; a checkpoint keeps it. */
  get dropoutSeed(): tf.Variable {
    return this.state.seed;
  }

  /** The model that was adapted, its layers still wrapped. */
  getBaseModel(): M {
    return this.base;
  }

  override *namedChildren(): Generator<[string, Module]> {
    yield ['base_model.model', this.base];
    for (const [name, { encoder }] of this.parts) {
      if (encoder) yield [`prompt_encoder.${name}`, encoder];
    }
  }

  /** The base model's forward pass with the active adapters, or with an adapter a row. */
  forward(
    inputIds: Parameters<M['forward']>[0],
    options: NonNullable<Parameters<M['forward']>[1]> & PeftForwardOptions = {},
  ): ReturnType<M['forward']> {
    const { adapterNames, mixture, ...rest } = options;
    if (adapterNames) {
      const rows = { names: adapterNames, ids: inputIds, merged: this.mergedAdapters };
      checkAdapterRows(this.parts, rows);
    }
    this.renewSeed();
    const encoder = mixture ? undefined : this.encoder;
    this.state.rows = adapterNames;
    this.state.mixture = mixture;
    try {
      if (!encoder) return this.base.forward(inputIds, rest) as ReturnType<M['forward']>;
      const run = () => encoder.forward(this.base, inputIds, rest as BaseOptions);
      return tf.tidy(run as unknown as () => tf.TensorContainer) as ReturnType<M['forward']>;
    } finally {
      this.state.rows = undefined;
      this.state.mixture = undefined;
    }
  }

  /** Adds an adapter beside the others; it becomes active by `setAdapter`. */
  addAdapter(name: string, config: PeftConfig, options: AdapterOptions = {}): void {
    checkNewAdapter(this.parts, { name, config, merged: this.mergedAdapters });
    this.attach(draftAdapter(this.base, name, config, this.random, options));
  }

  /** Adds the weighted merge of LoRA adapters as another; see weighted-adapter.ts. */
  addWeightedAdapter(
    adapters: readonly string[],
    weights: readonly number[],
    name: string,
    options: WeightedAdapterOptions = {},
  ): void {
    addWeightedAdapter(this, adapters, weights, name, options);
  }

  /** Reads an adapter from a folder; throws with the model as it was when it does not fit. */
  loadAdapter(folder: string, name: string, { isTrainable = false } = {}): void {
    this.load(name, readAdapter(folder, name), isTrainable);
  }

  /** Makes one or several adapters the active ones, and trains them unless `inferenceMode`. */
  setAdapter(names: string | readonly string[], { inferenceMode = false } = {}): void {
    const wanted = [names].flat() as string[];
    for (const name of wanted) this.partsOf(name);
    const prompts = wanted.filter((name) => this.partsOf(name).encoder);
    if (prompts.length > 0 && wanted.length > 1) {
      throw new RangeError(`Virtual tokens can not be combined, got '${wanted.join("', '")}'`);
    }
    if (this.mergedAdapters.length > 0) this.unmergeAdapter();
    for (const name of this.state.active) this.trainOnly(name, false);
    this.state.active = wanted;
    for (const name of wanted) this.trainOnly(name, !inferenceMode);
  }

  /** Runs with the base model alone, also when `run` returns a promise, and then as before. */
  disableAdapter<T>(run: () => T): T {
    const { state } = this;
    const merged = this.mergedAdapters;
    const before = state.disabled;
    if (merged.length > 0) this.unmergeAdapter();
    state.disabled = true;
    const restore = () => {
      state.disabled = before;
      if (merged.length > 0) this.mergeAdapter({ adapterNames: merged });
    };
    let result: T;
    try {
      result = run();
    } catch (error) {
      restore();
      throw error;
    }
    if (result instanceof Promise) return result.finally(restore) as T;
    restore();
    return result;
  }

  /** Removes an adapter and frees it; the first of those left becomes active if it was. */
  deleteAdapter(name: string): void {
    const { layers, saved, encoder } = this.partsOf(name);
    if (this.mergedAdapters.includes(name)) {
      throw new Error(`Adapter '${name}' is merged; call unmergeAdapter before it is deleted`);
    }
    for (const path of layers.keys()) this.layers.get(path)!.adapters.delete(name);
    for (const path of saved.keys()) this.wrappers.get(path)!.copies.delete(name);
    for (const part of [...layers.values(), ...saved.values(), encoder]) part?.dispose();
    this.trainBiases(name, false);
    this.parts.delete(name);
    if (!this.state.active.includes(name)) return;
    this.state.active = this.state.active.filter((other) => other !== name);
    const [first] = this.parts.keys();
    if (this.state.active.length === 0 && first !== undefined) this.setAdapter(first);
  }

  /** Puts adapters (default: the active ones) into the weights; `safeMerge` checks them first. */
  mergeAdapter({ adapterNames = this.activeAdapters, safeMerge = false } = {}): void {
    checkMerge(this.parts, adapterNames, this.mergedAdapters);
    for (const [path, layer] of this.layers) {
      layer.checkMergeable(adapterNames, path);
      if (safeMerge && !layer.wouldBeFinite(adapterNames)) {
        throw new RangeError(
          `Merging '${adapterNames.join("', '")}' would put numbers that are not finite into '${path}'`,
        );
      }
    }
    for (const layer of this.layers.values()) {
      for (const name of adapterNames) layer.merge(name);
    }
  }

  /** Takes all merged adapters out of the weights. */
  unmergeAdapter(): void {
    for (const layer of this.layers.values()) while (layer.merged.length > 0) layer.unmerge();
  }

  /** The base model with adapters in its weights and no wrappers; this model is of no use after. */
  mergeAndUnload({ adapterNames = this.activeAdapters, safeMerge = false } = {}): M {
    const left = adapterNames.filter((name) => !this.mergedAdapters.includes(name));
    this.mergeAdapter({ adapterNames: left, safeMerge });
    return this.unwrap(adapterNames);
  }

  /** The base model as it is, without adapters and wrappers; this model is of no use after. */
  unload(): M {
    this.unmergeAdapter();
    return this.unwrap([]);
  }

  /** Writes adapters, 'default' into the folder itself and others into folders of their names. */
  savePretrained(
    folder: string,
    { selectedAdapters = [...this.parts.keys()] }: { selectedAdapters?: readonly string[] } = {},
  ): void {
    for (const name of selectedAdapters) {
      const target = name === 'default' ? folder : `${folder}/${name}`;
      saveAdapter(target, this.partsOf(name), this.base);
    }
  }

  /** An adapter's tensors by the keys that they have in its file. */
  getAdapterState(name = 'default'): Map<string, tf.Tensor> {
    const { own, optional } = adapterTensors(this.partsOf(name), this.base);
    return new Map([...own, ...optional]);
  }

  /** Numbers of parameters: trained, and all with those of adapters. */
  getNbTrainableParameters(): [trainable: number, all: number] {
    return countTrainable(this);
  }

  /** Prints PEFT's line of `trainableParametersLine`. */
  printTrainableParameters(): void {
    console.log(trainableParametersLine(...this.getNbTrainableParameters()));
  }

  override dispose(): void {
    super.dispose();
    this.state.seed.dispose();
  }

  private get encoder(): PromptEncoder | undefined {
    const { active, disabled } = this.state;
    return disabled || active.length === 0 ? undefined : this.parts.get(active[0]!)?.encoder;
  }

  private partsOf(name: string): AdapterParts {
    return partsNamed(this.parts, name);
  }

  private load(
    name: string,
    { config, tensors }: ReturnType<typeof readAdapter>,
    isTrainable: boolean,
  ): void {
    config.inferenceMode = !isTrainable;
    checkNewAdapter(this.parts, { name, config, merged: this.mergedAdapters });
    const parts = draftAdapter(this.base, name, config);
    try {
      fillAdapter(parts, tensors, this.base);
    } catch (error) {
      for (const part of [...parts.layers.values(), ...parts.saved.values(), parts.encoder]) {
        part?.dispose();
      }
      throw error;
    }
    this.attach(parts);
  }

  private attach(parts: AdapterParts): void {
    injectAdapter(this.base, parts, this);
    this.parts.set(parts.name, parts);
    this.trainOnly(parts.name, false);
    this.train(this.training);
  }

  private unwrap(adapterNames: readonly string[]): M {
    const inner = new Map<Module, Module>();
    for (const layer of this.layers.values()) {
      inner.set(layer, layer.baseLayer);
      for (const adapter of layer.adapters.values()) adapter.dispose();
    }
    for (const wrapper of this.wrappers.values()) {
      const kept = adapterNames.map((name) => wrapper.copies.get(name)).find((copy) => copy);
      for (const copy of wrapper.copies.values()) if (copy !== kept) copy.dispose();
      inner.set(wrapper, kept ?? wrapper.originalModule);
    }
    replaceModules(this.base, inner);
    this.state.seed.dispose();
    return this.base;
  }

  private trainOnly(name: string, trainable: boolean): void {
    const { layers, saved, encoder } = this.partsOf(name);
    for (const part of [...layers.values(), ...saved.values(), encoder]) {
      part?.requiresGrad(trainable);
    }
    this.trainBiases(name, trainable);
  }

  private trainBiases(name: string, trainable: boolean): void {
    const biases = trainedBiases(this.partsOf(name), this.base);
    for (const bias of biases.values()) bias.trainable = trainable;
  }

  /** Another seed for the dropout of this pass. */
  private renewSeed(): void {
    if (!this.training) return;
    const drops = this.state.active.some((name) => dropoutRate(this.partsOf(name).config) > 0);
    if (drops)
      tf.tidy(() => this.state.seed.assign(tf.add(this.state.seed, tf.scalar(1, 'int32'))));
  }
}

/** A model with one adapter, 'default' unless named, which is active and trained. */
export function getPeftModel<M extends BaseModel>(
  base: M,
  config: PeftConfig,
  {
    adapterName = 'default',
    seed = 0,
    ...options
  }: AdapterOptions & { adapterName?: string; seed?: number } = {},
): PeftModel<M> {
  const model = new PeftModel(base, { seed });
  model.addAdapter(adapterName, config, options);
  model.setAdapter(adapterName, { inferenceMode: config.inferenceMode });
  return model;
}
