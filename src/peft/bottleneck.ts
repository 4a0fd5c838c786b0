// Bottleneck adapters: ad(z) = s (U act(D z + c) + d), added to a part's output f before its residual h
// is. Houlsby et al. 2019: f + ad(f) after attention and MLP; Pfeiffer et al. 2021: f + ad(f + h) after
// the MLP; parallel (He et al. 2022): f + ad(h). Files, options and numbers are those of the
// `adapters` library. Left out: its own norms, gates, PHM layers, invertible adapters.
import * as tf from '@tensorflow/tfjs';
import { getActivation } from '../nn/activations.ts';
import { linear } from '../nn/linear.ts';
import { parameter } from '../nn/module.ts';
import { type RandomState, randomNormal, randomUniform } from '../tensor/random.ts';
import type { BaseLayer } from './base-layer.ts';
import { type CommonOptions, commonFields, require, type TunerConfig } from './peft-config.ts';
import { modelShape } from './prompt-learning.ts';
import { LayerAdapter, type LayerCall } from './tuner-layer.ts';

/** Options of BottleneckConfig, in the library's names; defaults are those of its BnConfig. */
export interface BottleneckOptions extends CommonOptions {
  /** Adapt what attention gives. Default false. */
  mhAdapter?: boolean;
  /** Adapt what the MLP gives. Default true. */
  outputAdapter?: boolean;
  /** Hidden size over bottleneck. Default 16. */
  reductionFactor?: number;
  /** 'relu', 'swish' (silu), 'gelu' and others. Default 'relu'. */
  nonLinearity?: string;
  /** Add the residual to what the adapter sees. Default false. */
  originalLnBefore?: boolean;
  /** See the residual alone. Default false. */
  isParallel?: boolean;
  scaling?: number;
  /** Gaussian (0.02), or U zero and D uniform. Default 'bert'. */
  initWeights?: 'bert' | 'mam_adapter';
}

/** Where bottleneck adapters sit and how wide they are. Throws a RangeError for a value out of range. */
export class BottleneckConfig implements TunerConfig {
  readonly peftType = 'BOTTLENECK';
  readonly taskType: Required<CommonOptions>['taskType'];
  baseModelNameOrPath: string | null;
  inferenceMode: boolean;
  targetModules: string[] | string | null = null;
  modulesToSave: string[] | null = null;
  readonly options: Required<Omit<BottleneckOptions, keyof CommonOptions>>;

  constructor(options: BottleneckOptions = {}) {
    const { taskType, baseModelNameOrPath, inferenceMode } = commonFields(options);
    this.taskType = taskType;
    this.baseModelNameOrPath = baseModelNameOrPath;
    this.inferenceMode = inferenceMode;
    this.options = {
      mhAdapter: options.mhAdapter ?? false,
      outputAdapter: options.outputAdapter ?? true,
      reductionFactor: options.reductionFactor ?? 16,
      nonLinearity: options.nonLinearity ?? 'relu',
      originalLnBefore: options.originalLnBefore ?? false,
      isParallel: options.isParallel ?? false,
      scaling: options.scaling ?? 1,
      initWeights: options.initWeights ?? 'bert',
    };
    const { reductionFactor: factor, mhAdapter, outputAdapter } = this.options;
    require(factor > 0, 'BottleneckConfig.reductionFactor', 'above 0', factor);
    require(mhAdapter || outputAdapter, 'mhAdapter or outputAdapter', 'true', false);
    getActivation(activationName(this.options.nonLinearity));
  }

  /** After attention and after the MLP, on their outputs: the library's DoubleSeqBnConfig. */
  static houlsby(options: BottleneckOptions = {}): BottleneckConfig {
    return new BottleneckConfig({ mhAdapter: true, nonLinearity: 'swish', ...options });
  }

  /** After the MLP, on its output with the residual: the library's SeqBnConfig. */
  static pfeiffer(options: BottleneckOptions = {}): BottleneckConfig {
    return new BottleneckConfig({ originalLnBefore: true, ...options });
  }

  /** Beside the MLP, on its residual: the library's ParBnConfig. */
  static parallel(options: BottleneckOptions = {}): BottleneckConfig {
    const defaults = { reductionFactor: 2, scaling: 4, initWeights: 'mam_adapter' as const };
    return new BottleneckConfig({ isParallel: true, ...defaults, ...options });
  }

  /** The config of the library's adapter_config.json; throws for what is left out here. */
  static fromJson(json: Record<string, unknown>): BottleneckConfig {
    const given = json.config as Record<string, unknown>;
    for (const [key, value] of Object.entries(REQUIRED)) {
      if (key in given && JSON.stringify(given[key]) !== JSON.stringify(value)) {
        throw new RangeError(
          `Bottleneck adapters know ${key} ${JSON.stringify(value)} only, got ${JSON.stringify(given[key])}`,
        );
      }
    }
    const known = Object.entries(KEYS).filter(([, key]) => key in given);
    const options = Object.fromEntries(known.map(([name, key]) => [name, given[key]]));
    const baseModelNameOrPath = (json.model_name ?? null) as string | null;
    return new BottleneckConfig({ ...options, baseModelNameOrPath });
  }

  get bias(): string {
    return 'none';
  }

  /** The norm before each adapted part, which shows the residual, and the part's last module. */
  get defaultTargets(): Record<string, string[]> {
    const { mhAdapter, outputAdapter } = this.options;
    const named = (attention: string[], mlp: string[]) => [
      ...(mhAdapter ? attention : []),
      ...(outputAdapter ? mlp : []),
    ];
    return {
      gpt2: named(['ln_1', 'attn.c_proj'], ['ln_2', 'mlp']),
      llama: named(['input_layernorm', 'self_attn.o_proj'], ['post_attention_layernorm', 'mlp']),
    };
  }

  createAdapters(
    layers: readonly [string, BaseLayer][],
    random: RandomState | undefined,
  ): LayerAdapter[] {
    const placeOf = (path: string) => `${blockOf(path)} ${ATTENTION.test(path)}`;
    const norms = layers.filter(([path]) => NORM.test(path));
    const taps = new Map(norms.map(([path, norm]) => [placeOf(path), new ResidualTap(norm)]));
    return layers.map(([path]) => {
      const tap = taps.get(placeOf(path))!;
      if (NORM.test(path)) return tap;
      return new Bottleneck(tap, ATTENTION.test(path), this.options, random);
    });
  }

  stateKey(path: string, name: string, adapterName: string): string {
    const place = ATTENTION.test(path) ? 'attention_adapters' : 'output_adapters';
    return `${blockOf(path)}.${place}.adapters.${adapterName}.${name}`;
  }

  /** The library's adapter_config.json. */
  toJson(name: string, base: object): Record<string, unknown> {
    const { options } = this;
    const own = Object.entries(KEYS).map(([key, stored]) => [
      stored,
      options[key as keyof typeof options],
    ]);
    const { modelType } = base as { modelType?: string };
    return {
      config: { ...UNUSED, ...REQUIRED, ...Object.fromEntries(own) },
      hidden_size: modelShape(base).hiddenSize,
      model_class: modelType === 'gpt2' ? 'GPT2LMHeadModel' : 'LlamaForCausalLM',
      model_name: this.baseModelNameOrPath,
      model_type: modelType,
      name,
      version: 'adapters.1.3.0',
    };
  }
}

const NORM = /(^|\.)(ln_[12]|input_layernorm|post_attention_layernorm)$/;
const ATTENTION = /(^|\.)(ln_1|input_layernorm|attn\.c_proj|self_attn\.o_proj)$/;

/** 'transformer.h.0' of 'transformer.h.0.attn.c_proj'. */
const blockOf = (path: string) => /^(.*?\.\d+)\./.exec(path)![1]!;

const activationName = (name: string) => (name === 'swish' ? 'silu' : name);

/** The library's names of the options. */
const KEYS = {
  mhAdapter: 'mh_adapter',
  outputAdapter: 'output_adapter',
  reductionFactor: 'reduction_factor',
  nonLinearity: 'non_linearity',
  originalLnBefore: 'original_ln_before',
  isParallel: 'is_parallel',
  scaling: 'scaling',
  initWeights: 'init_weights',
};

/** Its options that have one value here. */
const REQUIRED = {
  adapter_residual_before_ln: false,
  cross_adapter: false,
  dropout: 0,
  inv_adapter: null,
  inv_adapter_reduction_factor: null,
  leave_out: [],
  ln_after: false,
  ln_before: false,
  original_ln_after: true,
  phm_layer: false,
  residual_before_ln: true,
  stochastic_depth: 0,
  use_gating: false,
};

/** Its options of what is off here: they mean nothing. */
const UNUSED = {
  factorized_phm_W: true,
  factorized_phm_rule: false,
  hypercomplex_nonlinearity: 'glorot-uniform',
  init_weights_seed: null,
  learn_phm: true,
  phm_bias: true,
  phm_c_init: 'normal',
  phm_dim: 4,
  phm_init_range: 0.0001,
  phm_rank: 1,
  shared_W_phm: false,
  shared_phm_rule: true,
};

/** Sits on the norm before a part and remembers its input, the residual h. */
class ResidualTap extends LayerAdapter {
  readonly hiddenSize: number;
  private readonly seen: { residual?: tf.Tensor } = {};

  constructor(norm: BaseLayer) {
    super();
    this.hiddenSize = (norm as unknown as { weight: tf.Tensor }).weight.size;
  }

  /** h of the pass that is under way, [B, T, C]. */
  get residual(): tf.Tensor {
    return this.seen.residual!;
  }

  override get isMergeable(): boolean {
    return false;
  }

  override input(x: tf.Tensor): tf.Tensor {
    this.seen.residual = x;
    return x;
  }

  override output({ y }: LayerCall): tf.Tensor {
    return y;
  }

  override mergeWeight(): tf.Tensor {
    throw new TypeError('A bottleneck adapter can not be merged into a weight');
  }

  override unmergeWeight(): tf.Tensor {
    throw new TypeError('A bottleneck adapter is in no weight');
  }

  override state(): Record<string, tf.Tensor> {
    return {};
  }
}

/** ad(z) of one part: `adapterDown` D [k, C], `adapterUp` U [C, k] and their biases. */
export class Bottleneck extends LayerAdapter {
  downWeight: tf.Tensor;
  downBias: tf.Tensor;
  upWeight: tf.Tensor;
  upBias: tf.Tensor;
  private readonly source: { tap: ResidualTap };
  private readonly options: BottleneckConfig['options'];

  constructor(
    tap: ResidualTap,
    isAttention: boolean,
    options: BottleneckConfig['options'],
    random: RandomState | undefined,
  ) {
    super();
    if (isAttention && options.isParallel) {
      throw new RangeError('Parallel adapters sit beside the MLP; set mhAdapter to false');
    }
    const { hiddenSize } = tap;
    const width = Math.max(1, Math.floor(hiddenSize / options.reductionFactor));
    this.source = { tap };
    this.options = options;
    const isBert = options.initWeights === 'bert';
    const gaussian = (shape: [number, number]) =>
      random ? randomNormal<tf.Rank.R2>(shape, random, { std: 0.02 }) : tf.zeros(shape);
    const high = hiddenSize ** -0.5;
    const uniform = (shape: [number, number]) =>
      random ? randomUniform<tf.Rank.R2>(shape, random, { low: -high, high }) : tf.zeros(shape);
    this.downWeight = parameter((isBert ? gaussian : uniform)([width, hiddenSize]));
    this.downBias = parameter(tf.zeros([width]));
    this.upWeight = parameter(
      isBert ? gaussian([hiddenSize, width]) : tf.zeros([hiddenSize, width]),
    );
    this.upBias = parameter(tf.zeros([hiddenSize]));
  }

  override get isMergeable(): boolean {
    return false;
  }

  override output({ y }: LayerCall): tf.Tensor {
    const { isParallel, originalLnBefore, nonLinearity, scaling } = this.options;
    const { residual } = this.source.tap;
    const z = isParallel ? residual : originalLnBefore ? tf.add(y, residual) : y; // [B, T, C]
    const act = getActivation(activationName(nonLinearity));
    const inner = act(linear(z, this.downWeight, this.downBias)); // [B, T, k]
    const change = linear(inner, this.upWeight, this.upBias); // [B, T, C]
    return tf.add(y, scaling === 1 ? change : tf.mul(change, scaling));
  }

  override mergeWeight(): tf.Tensor {
    throw new TypeError('A bottleneck adapter can not be merged into a weight');
  }

  override unmergeWeight(): tf.Tensor {
    throw new TypeError('A bottleneck adapter is in no weight');
  }

  override state(): Record<string, tf.Tensor> {
    return {
      'adapter_down.0.weight': this.downWeight,
      'adapter_down.0.bias': this.downBias,
      'adapter_up.weight': this.upWeight,
      'adapter_up.bias': this.upBias,
    };
  }
}
