// What all configs share, and adapter_config.json: camelCase here, snake_case on disk.
import type * as tf from '@tensorflow/tfjs';
import type { RandomState } from '../tensor/random.ts';
import type { BaseLayer } from './base-layer.ts';
import type { TargetFields } from './target-modules.ts';
import type { LayerAdapter } from './tuner-layer.ts';

/** What a model is for, as PEFT spells it. */
export type TaskType = 'CAUSAL_LM' | 'SEQ_CLS';

/** Fields of every config. */
export interface CommonOptions {
  /** Default 'CAUSAL_LM'. */
  taskType?: TaskType;
  /** Where the base model came from, for the reader of the file. Default null. */
  baseModelNameOrPath?: string | null;
  /** Whether the adapter is only to be used, not trained. Default false. */
  inferenceMode?: boolean;
}

/** The fields of CommonOptions with their defaults. */
export function commonFields(options: CommonOptions): Required<CommonOptions> {
  const { taskType = 'CAUSAL_LM', baseModelNameOrPath = null, inferenceMode = false } = options;
  return { taskType, baseModelNameOrPath, inferenceMode };
}

/** A config whose adapters sit on layers. */
export interface TunerConfig extends Required<CommonOptions>, TargetFields {
  readonly peftType: 'LORA' | 'IA3' | 'VERA' | 'BOTTLENECK';
  /** Which biases of the base model are trained: none, all, or those of adapted layers. */
  readonly bias: string;
  /** Targets by model type, where `targetModules` is null. */
  readonly defaultTargets: Record<string, string[]>;
  /** What the layers at these paths get; throws a TypeError for a layer that can have none. */
  createAdapters(
    layers: readonly [string, BaseLayer][],
    random: RandomState | undefined,
  ): LayerAdapter[];
  /** The key in the file of a layer's tensor, where it is not PEFT's. */
  stateKey?(path: string, name: string, adapterName: string): string;
  /** Tensors that the layers share and that are saved with them. */
  sharedState?(adapters: readonly LayerAdapter[]): Record<string, tf.Tensor>;
}

type Json = Record<string, unknown>;

/** Fields of a file that change nothing here, whatever they are. */
const IGNORED = new Set([
  'peft_type',
  'peft_version',
  'auto_mapping',
  'revision',
  'init_weights',
  'runtime_config',
  'fan_in_fan_out',
  'megatron_core',
  'qalora_group_size',
  'tokenizer_kwargs',
  'num_transformer_submodules',
]);

/** A saved adapter_config.json; `more` are fields of PEFT's that are always the same here. */
export function configToJson(config: object, more: Json = {}): Json {
  const own = Object.entries(config).map(([key, value]) => [
    snake(key),
    key === 'loftqConfig' ? renamed(value as Json, snake) : (value ?? null),
  ]);
  const common = { auto_mapping: null, revision: null, peft_version: '0.21.2' };
  const all: Json = { ...common, ...more, ...Object.fromEntries(own), inference_mode: true };
  return Object.fromEntries(Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/**
 * The options in an adapter_config.json; throws when it asks for what this method does not know, of
 * which `known` lists the options in camelCase.
 */
export function optionsFromJson(json: Json, known: readonly string[]): Json {
  const options: Json = {};
  for (const [key, value] of Object.entries(json)) {
    const name = camel(key);
    if (known.includes(name)) {
      if (value !== null)
        options[name] = key === 'loftq_config' ? renamed(value as Json, camel) : value;
    } else if (!IGNORED.has(key) && !isOff(value)) {
      throw new RangeError(
        `adapter_config.json has ${key} ${JSON.stringify(value)}, which ${json.peft_type} does not know here`,
      );
    }
  }
  return options;
}

/** Throws `subject must be rule, got value` as a RangeError unless `holds`. */
export function require(holds: boolean, subject: string, rule: string, value: unknown): void {
  if (!holds) throw new RangeError(`${subject} must be ${rule}, got ${JSON.stringify(value)}`);
}

const isOff = (value: unknown) =>
  value === null ||
  value === false ||
  value === '' ||
  value === 'none' ||
  (typeof value === 'object' && Object.keys(value).length === 0);

const renamed = (value: Json, rename: (key: string) => string) =>
  Object.fromEntries(Object.entries(value ?? {}).map(([key, item]) => [rename(key), item]));

const camel = (key: string) => key.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
const snake = (key: string) => key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
