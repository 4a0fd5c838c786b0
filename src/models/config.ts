// config.json of transformers 4 and 5, to and from the models' camelCase configs.
// Version 5 keeps rotary settings in `rope_parameters` and the number type in `dtype`; 4 had
// `rope_theta` + `rope_scaling` and `torch_dtype`. Both are read, and both are written.
import type { RopeParameters } from '../nn/rotary.ts';
import type { GPT2Config } from './gpt2.ts';
import type { LlamaConfig } from './llama.ts';

/** Fields that all models share. */
export interface BaseConfig {
  modelType: string;
  vocabSize: number;
  tieWordEmbeddings: boolean;
  initializerRange: number;
  bosTokenId: number | null;
  eosTokenId: number | number[] | null;
  padTokenId: number | null;
}

/** The config of any model here. */
export type ModelConfig = LlamaConfig | GPT2Config;

/** transformers' defaults for fields that config.json may leave out. */
const LLAMA = {
  vocabSize: 32000,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
  hiddenAct: 'silu',
  maxPositionEmbeddings: 2048,
  rmsNormEps: 1e-6,
  attentionBias: false,
  mlpBias: false,
  tieWordEmbeddings: false,
  initializerRange: 0.02,
  bosTokenId: 1,
  eosTokenId: 2,
  padTokenId: null,
};

const GPT2 = {
  vocabSize: 50257,
  nEmbd: 768,
  nLayer: 12,
  nHead: 12,
  nPositions: 1024,
  nInner: null,
  activationFunction: 'gelu_new',
  layerNormEpsilon: 1e-5,
  scaleAttnWeights: true,
  scaleAttnByInverseLayerIdx: false,
  tieWordEmbeddings: true,
  initializerRange: 0.02,
  bosTokenId: 50256,
  eosTokenId: 50256,
  padTokenId: null,
};

/** GPT-2's other names for its fields, which transformers also accepts. */
const GPT2_ALIASES: Record<string, string> = {
  hiddenSize: 'nEmbd',
  numHiddenLayers: 'nLayer',
  numAttentionHeads: 'nHead',
  maxPositionEmbeddings: 'nPositions',
};

type Json = Record<string, unknown>;

/** A Llama config: transformers' defaults where `fields` say nothing. */
export function llamaConfig(fields: Partial<LlamaConfig> = {}): LlamaConfig {
  const filled = { ...LLAMA, ...fields };
  const { hiddenSize, numAttentionHeads, numKeyValueHeads: groups } = filled;
  const config: LlamaConfig = {
    ...filled,
    modelType: 'llama',
    numKeyValueHeads: groups ?? numAttentionHeads,
    headDim: filled.headDim ?? Math.floor(hiddenSize / numAttentionHeads),
    ropeParameters: { ropeType: 'default', ropeTheta: 10000, ...filled.ropeParameters },
  };
  if (numAttentionHeads % config.numKeyValueHeads !== 0) {
    throw new RangeError(
      `num_attention_heads must be a multiple of num_key_value_heads, ` +
        `got ${numAttentionHeads} and ${config.numKeyValueHeads}`,
    );
  }
  return checked(config);
}

/** A GPT-2 config: transformers' defaults where `fields` say nothing. */
export function gpt2Config(fields: Partial<GPT2Config> = {}): GPT2Config {
  const config: GPT2Config = { ...GPT2, ...fields, modelType: 'gpt2' };
  if (config.nEmbd % config.nHead !== 0) {
    throw new RangeError(
      `n_embd must be a multiple of n_head, got ${config.nEmbd} and ${config.nHead}`,
    );
  }
  return checked(config);
}

/** The config that a config.json describes; throws if its model_type is none of those here. */
export function configFromJson(json: Json): ModelConfig {
  const type = json.model_type;
  if (type === 'gpt2') {
    const named = Object.entries(pick(json, { ...GPT2, ...GPT2_ALIASES })).map(
      ([key, value]) => [GPT2_ALIASES[key] ?? key, value] as const,
    );
    return gpt2Config(Object.fromEntries(named));
  }
  if (type === 'llama') {
    const known = { ...LLAMA, numKeyValueHeads: 0, headDim: 0 };
    const fields = pick(json, known) as Partial<LlamaConfig>;
    if (fields.numKeyValueHeads === null) delete fields.numKeyValueHeads;
    if (fields.headDim === null) delete fields.headDim;
    return llamaConfig({ ...fields, ropeParameters: ropeFromJson(json) });
  }
  throw new RangeError(`model_type must be 'llama' or 'gpt2', got ${JSON.stringify(type)}`);
}

/** The config.json of a config, for transformers 4 and 5; `dtype` names the stored number type. */
export function configToJson(config: ModelConfig, dtype = 'float32'): Json {
  const json: Json = {
    architectures: [config.modelType === 'llama' ? 'LlamaForCausalLM' : 'GPT2LMHeadModel'],
    dtype,
    torch_dtype: dtype,
  };
  for (const [key, value] of Object.entries(config)) {
    if (key !== 'ropeParameters') json[snake(key)] = value;
  }
  if (config.modelType === 'llama') {
    const { ropeParameters, maxPositionEmbeddings: length } = config;
    const rope = Object.entries(ropeParameters).map(([key, value]) => [snake(key), value]);
    const { rope_theta: theta, ...scaling } = Object.fromEntries(rope) as Json;
    if (ropeParameters.ropeType === 'longrope') {
      scaling.factor ??= length / (ropeParameters.originalMaxPositionEmbeddings ?? length);
    }
    json.rope_parameters = { rope_theta: theta, ...scaling };
    json.rope_theta = theta;
    json.rope_scaling = scaling.rope_type === 'default' ? null : scaling;
  }
  return json;
}

/** The text of a config.json with `more` fields; numbers that Python takes for floats get their `.0`. */
export function configText(config: ModelConfig, dtype?: string, more: Json = {}): string {
  const floats =
    /("(?:\w*factor|rope_theta|beta_\w+|mscale\w*|llm_int8_threshold)": -?\d+)(?=[,\n])/g;
  return `${JSON.stringify({ ...configToJson(config, dtype), ...more }, null, 2).replace(floats, '$1.0')}\n`;
}

/** Rotary settings in either spelling; `type` is the oldest name of `rope_type`. */
function ropeFromJson(json: Json): RopeParameters {
  const given = (json.rope_scaling ?? json.rope_parameters ?? {}) as Json;
  const nulls = Object.entries(given).filter(([, value]) => value !== null);
  const { type, ...rope } = Object.fromEntries(nulls.map(([key, value]) => [camel(key), value]));
  const ropeType = (rope.ropeType ?? type ?? 'default') as string;
  const inner = (json.rope_parameters ?? {}) as Json;
  const ropeTheta = (rope.ropeTheta ?? inner.rope_theta ?? json.rope_theta ?? 10000) as number;
  const original = json.original_max_position_embeddings;
  return {
    ...rope,
    ...(typeof original === 'number' ? { originalMaxPositionEmbeddings: original } : {}),
    ropeType,
    ropeTheta,
  };
}

/** The fields of `json` that `known` has, under camelCase names. */
function pick(json: Json, known: object): Json {
  const fields = Object.entries(json).map(([key, value]) => [camel(key), value] as const);
  return Object.fromEntries(fields.filter(([key]) => Object.hasOwn(known, key)));
}

/** Refuses sizes that no model can have, before anything is allocated by them. */
function checked<T extends ModelConfig>(config: T): T {
  for (const [key, value] of Object.entries(config)) {
    const isSize = /Size$|^num|^n[A-Z]|^head|^max/.test(key) && value !== null;
    if (isSize && !(Number.isSafeInteger(value) && Number(value) > 0)) {
      throw new RangeError(
        `${snake(key)} must be a positive integer, got ${JSON.stringify(value)}`,
      );
    }
  }
  return config;
}

const camel = (key: string) => key.replace(/_([a-z0-9])/g, (_, c: string) => c.toUpperCase());
const snake = (key: string) => key.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
