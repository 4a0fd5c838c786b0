// LoraConfig: PEFT's options of LoRA, rsLoRA and DoRA, and the layers that they make.
import { Embedding } from '../nn/embedding.ts';
import type { RandomState } from '../tensor/random.ts';
import { type BaseLayer, describeLayer, isLinear } from './base-layer.ts';
import { DoraLinear } from './dora.ts';
import { LoraLinear, type LoraNumbers } from './lora.ts';
import { LoraEmbedding } from './lora-embedding.ts';
import { type InitLoraWeights, initEmbedding, initLinear, type LoftqConfig } from './lora-init.ts';
import { type CommonOptions, commonFields, require, type TunerConfig } from './peft-config.ts';
import { findPattern, type TargetFields } from './target-modules.ts';
import type { LayerAdapter } from './tuner-layer.ts';

/** Options of LoraConfig; what is left out has PEFT's default. */
export interface LoraOptions extends CommonOptions, Partial<TargetFields> {
  /** Rank of the update. Default 8. */
  r?: number;
  /** The update counts alpha / r times. Default 8. */
  loraAlpha?: number;
  /** Share of a layer's input that the update does not see in training. Default 0. */
  loraDropout?: number;
  bias?: 'none' | 'all' | 'lora_only';
  /** Scale by alpha / sqrt(r). Default false. */
  useRslora?: boolean;
  /** Learn magnitudes too. Default false. */
  useDora?: boolean;
  initLoraWeights?: InitLoraWeights;
  loftqConfig?: LoftqConfig;
  /** Ranks of modules whose path ends in these patterns, in the place of `r`. */
  rankPattern?: Record<string, number>;
  alphaPattern?: Record<string, number>;
}

/** What LoRA is set to. Throws a RangeError for a value out of range. */
export class LoraConfig implements TunerConfig {
  readonly peftType = 'LORA';
  readonly taskType: Required<CommonOptions>['taskType'];
  baseModelNameOrPath: string | null;
  inferenceMode: boolean;
  readonly r: number;
  readonly loraAlpha: number;
  readonly loraDropout: number;
  targetModules: string[] | string | null;
  readonly excludeModules: string[] | string | null;
  modulesToSave: string[] | null;
  readonly layersToTransform: number[] | number | null;
  readonly layersPattern: string[] | string | null;
  readonly bias: 'none' | 'all' | 'lora_only';
  readonly useRslora: boolean;
  readonly useDora: boolean;
  readonly initLoraWeights: InitLoraWeights;
  readonly loftqConfig: LoftqConfig;
  readonly rankPattern: Record<string, number>;
  readonly alphaPattern: Record<string, number>;

  constructor(options: LoraOptions = {}) {
    const { taskType, baseModelNameOrPath, inferenceMode } = commonFields(options);
    this.taskType = taskType;
    this.baseModelNameOrPath = baseModelNameOrPath;
    this.inferenceMode = inferenceMode;
    this.r = options.r ?? 8;
    this.loraAlpha = options.loraAlpha ?? 8;
    this.loraDropout = options.loraDropout ?? 0;
    this.targetModules = options.targetModules ?? null;
    this.excludeModules = options.excludeModules ?? null;
    this.modulesToSave = options.modulesToSave ?? null;
    this.layersToTransform = options.layersToTransform ?? null;
    this.layersPattern = options.layersPattern ?? null;
    this.bias = options.bias ?? 'none';
    this.useRslora = options.useRslora ?? false;
    this.useDora = options.useDora ?? false;
    this.initLoraWeights = options.initLoraWeights ?? true;
    this.loftqConfig = options.loftqConfig ?? {};
    this.rankPattern = options.rankPattern ?? {};
    this.alphaPattern = options.alphaPattern ?? {};
    checkRank('LoraConfig.r', this.r);
    for (const [pattern, r] of Object.entries(this.rankPattern)) {
      checkRank(`LoraConfig.rankPattern['${pattern}']`, r);
    }
    const { loraDropout: drop, loraAlpha: alpha } = this;
    require(drop >= 0 && drop < 1, 'LoraConfig.loraDropout', 'at least 0 and below 1', drop);
    require(Number.isFinite(alpha), 'LoraConfig.loraAlpha', 'a number', alpha);
    checkLayers(this);
    const biases = ['none', 'all', 'lora_only'];
    require(biases.includes(this.bias), 'LoraConfig.bias', `one of ${biases.join(', ')}`, this
      .bias);
  }

  get defaultTargets(): Record<string, string[]> {
    return { gpt2: ['c_attn'], llama: ['q_proj', 'v_proj'] };
  }

  createAdapters(
    layers: readonly [string, BaseLayer][],
    random: RandomState | undefined,
  ): LayerAdapter[] {
    return layers.map(([path, layer]) => this.createAdapter(path, layer, random));
  }

  private createAdapter(path: string, layer: BaseLayer, random?: RandomState): LayerAdapter {
    const numbers = this.numbersOf(path);
    const draw = { random, init: this.initLoraWeights, loftq: this.loftqConfig };
    if (layer instanceof Embedding) {
      if (this.useDora) throw new TypeError(`DoRA does not adapt embeddings, and '${path}' is one`);
      return new LoraEmbedding(initEmbedding(layer, numbers, draw), numbers);
    }
    if (!isLinear(layer)) {
      throw new TypeError(
        `LoRA adapts linear layers and embeddings, and '${path}' is ${describeLayer(layer)}`,
      );
    }
    const factors = initLinear(layer, numbers, draw);
    return this.useDora
      ? new DoraLinear(factors, numbers, layer)
      : new LoraLinear(factors, numbers);
  }

  private numbersOf(path: string): LoraNumbers {
    const r = findPattern(this.rankPattern, path, this.r);
    const alpha = findPattern(this.alphaPattern, path, this.loraAlpha);
    const scaling = alpha / (this.useRslora ? Math.sqrt(r) : r);
    return { r, scaling, dropout: this.loraDropout, salt: hash(path) };
  }
}

/** Fields that PEFT writes and that are always off here. */
export const LORA_UNUSED: Record<string, unknown> = {
  alora_invocation_tokens: null,
  arrow_config: null,
  corda_config: null,
  ensure_weight_tying: false,
  eva_config: null,
  layer_replication: null,
  lora_bias: false,
  megatron_config: null,
  megatron_core: 'megatron.core',
  qalora_group_size: 16,
  target_parameters: null,
  trainable_token_indices: null,
  use_qalora: false,
};

/** A number of 30 bits from a text. */
function hash(text: string): number {
  return [...text].reduce((h, c) => (Math.imul(h, 31) + c.charCodeAt(0)) & 0x3fffffff, 7);
}

function checkRank(subject: string, r: number): void {
  require(Number.isInteger(r) && r > 0, subject, 'a positive integer', r);
}

/** Throws if layers are chosen by number where a text chooses modules, or by lists without numbers. */
function checkLayers({ targetModules, layersToTransform, layersPattern }: LoraConfig): void {
  const isText = typeof targetModules === 'string';
  const isChosen = layersToTransform !== null || layersPattern !== null;
  require(!(
    isText && isChosen
  ), 'LoraConfig.targetModules', 'a list of names with layersToTransform', targetModules);
  const hasNumbers = layersToTransform !== null || !layersPattern?.length;
  require(hasNumbers, 'LoraConfig.layersToTransform', 'numbers of layers with layersPattern', null);
}
