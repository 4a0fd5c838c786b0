// Models from and to folders as transformers has them: config.json, safetensors, generation_config.json.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { type Initializer, zerosInit } from '../nn/init.ts';
import { Linear } from '../nn/linear.ts';
import {
  isQuantizedLinear,
  layerFromTensors,
  layerTensors,
  quantizationFromJson,
  quantizationJson,
} from '../quant/bnb-checkpoint.ts';
import { type BitsAndBytesConfig, isQuantizedBy, quantizeWeight } from '../quant/bnb-config.ts';
import { disposeUnused } from '../quant/calibration.ts';
import type { RawTensor } from '../tensor/safetensors.ts';
import type { CausalLM } from './causal-lm.ts';
import { type Checkpoint, openCheckpoint, type SaveDtype, saveCheckpoint } from './checkpoint.ts';
import { configFromJson, configText, type ModelConfig } from './config.ts';
import { GPT2LMHeadModel } from './gpt2.ts';
import { LlamaForCausalLM } from './llama.ts';

/** Tensors that old checkpoints carry and that no model needs. */
const BUFFERS = /(^|\.)(attn\.(masked_)?bias|rotary_emb\.inv_freq)$/;

/** The model that `config` describes, with random weights or those that `init` makes. */
export function fromConfig(
  config: ModelConfig,
  options: ConstructorParameters<typeof LlamaForCausalLM>[1] = {},
): CausalLM {
  return config.modelType === 'gpt2'
    ? new GPT2LMHeadModel(config, options)
    : new LlamaForCausalLM(config, options);
}

/**
 * Fills a model of `config` with the weights of a checkpoint. A tensor that is missing, has another
 * shape, or belongs to no parameter is an error that names it. Weights that are stored packed stay so;
 * with `quantization` others are packed one after the other, so that none but one is held in float32.
 */
export function loadModel(
  config: ModelConfig,
  checkpoint: Checkpoint,
  quantization?: BitsAndBytesConfig,
): CausalLM {
  const model = fromConfig(config, { init: boundedInit(checkpoint) });
  try {
    const done = loadQuantized(model, checkpoint, quantization);
    loadWeights(model, checkpoint, done);
  } catch (error) {
    model.dispose();
    throw error;
  }
  return model.eval();
}

/** Reads config.json and the safetensors weights of a folder, quantized as they are or as asked for. */
export function loadFolder(folder: string, quantization?: BitsAndBytesConfig): CausalLM {
  const path = join(folder, 'config.json');
  if (!existsSync(path)) throw new Error(`No config.json in ${folder}`);
  const json = JSON.parse(readFileSync(path, 'utf8'));
  const config = configFromJson(json);
  const stored = quantizationFromJson(json.quantization_config);
  const checkpoint = openCheckpoint(folder);
  try {
    return loadModel(config, checkpoint, stored ?? quantization);
  } finally {
    checkpoint.close();
  }
}

/**
 * Writes what transformers loads: config.json, generation_config.json and the weights as `dtype`
 * (default 'float32'), packed ones as bitsandbytes has them, in shards of at most `maxShardSize` bytes (default 5 GB).
 */
export function savePretrained(
  model: CausalLM,
  folder: string,
  { dtype = 'float32' as SaveDtype, maxShardSize = 5e9 } = {},
): void {
  mkdirSync(folder, { recursive: true });
  const { bosTokenId, eosTokenId, padTokenId } = model.config;
  const ids = { bos_token_id: bosTokenId, eos_token_id: eosTokenId, pad_token_id: padTokenId };
  const generation = Object.entries(ids).filter(([, id]) => id !== null);
  const quantization = quantizationJson(model);
  const more = quantization ? { quantization_config: quantization } : {};
  writeFileSync(join(folder, 'config.json'), configText(model.config, dtype, more));
  writeJson(join(folder, 'generation_config.json'), Object.fromEntries(generation));
  const packed = [...model.namedModules()].flatMap(([path, layer]) =>
    isQuantizedLinear(layer)
      ? [...layerTensors(layer)].map(([key, raw]) => [`${path}.${key}`, raw] as const)
      : [],
  );
  const tensors = new Map<string, tf.Tensor | RawTensor>([...model.namedParameters(), ...packed]);
  saveCheckpoint(folder, tensors, { dtype, maxShardSize });
}

/** What WASM can address, less some room for the work itself. */
const WASM_BYTES = 3.75 * 2 ** 30;

/** Zeros to be filled, as long as they stay in proportion to the weights that there are. */
function boundedInit({ shapes }: Checkpoint): Initializer {
  const stored = [...shapes.values()].reduce((sum, shape) => sum + tf.util.sizeFromShape(shape), 0);
  const megabytes = (count: number) => `${((count * 4) / 2 ** 20).toFixed(0)} MB`;
  if (tf.getBackend() === 'wasm' && stored * 4 > WASM_BYTES) {
    throw new Error(`Out of memory: the weights want ${megabytes(stored)}, WASM holds 4096 MB`);
  }
  let used = 0;
  return (shape) => {
    used += tf.util.sizeFromShape(shape);
    if (used > 2 * stored + 2 ** 20) {
      throw new Error(
        `config.json asks for a tensor of shape [${shape}], but all weights have ${megabytes(stored)}`,
      );
    }
    return zerosInit(shape);
  };
}

/** Puts packed layers in the place of linear ones; returns the stored names of their weights. */
function loadQuantized(
  model: CausalLM,
  checkpoint: Checkpoint,
  quantization: BitsAndBytesConfig | undefined,
): Set<string> {
  const done = new Set<string>();
  const replaced: tf.Tensor[] = [];
  for (const [path, layer] of [...model.namedModules()]) {
    if (!(layer instanceof Linear)) continue;
    const name = storedName(`${path}.weight`, checkpoint.shapes);
    const parts = checkpoint.packed?.(name);
    if (!parts && !(quantization && isQuantizedBy(quantization, path))) continue;
    checkShape(name, checkpoint.shapes, layer.weight.shape);
    const packed = parts
      ? layerFromTensors(parts, layer.bias, quantization)!
      : quantizeRead(checkpoint.read(name), layer.bias, quantization!);
    model.setSubmodule(path, packed);
    replaced.push(layer.weight);
    done.add(name);
  }
  disposeUnused(model, replaced);
  return done;
}

function quantizeRead(weight: tf.Tensor, bias: tf.Tensor | undefined, config: BitsAndBytesConfig) {
  const packed = quantizeWeight(weight, bias, config);
  weight.dispose();
  return packed;
}

function loadWeights(model: CausalLM, { shapes, read }: Checkpoint, done: Set<string>): void {
  const left = new Set([...shapes.keys()].filter((name) => !done.has(name)));
  for (const [name, parameter] of model.namedParameters()) {
    const stored = storedName(name, shapes);
    checkShape(stored, shapes, parameter.shape);
    assign(parameter, read(stored));
    left.delete(stored);
  }
  if (model.config.tieWordEmbeddings) left.delete('lm_head.weight');
  for (const name of left) {
    if (!BUFFERS.test(name)) {
      throw new Error(
        `Tensor '${name}' of shape [${shapes.get(name)}] has no place in config.json's model`,
      );
    }
  }
}

/** Throws unless the weights have a tensor of this name and shape. */
function checkShape(name: string, shapes: Map<string, number[]>, wanted: number[]): void {
  const shape = shapes.get(name);
  if (!shape) throw new Error(`Tensor '${name}' of shape [${wanted}] is not in the weights`);
  if (String(shape) !== String(wanted)) {
    throw new Error(`Tensor '${name}' has shape [${shape}], but config.json makes it [${wanted}]`);
  }
}

/** The name in the file: checkpoints of a bare model lack the `transformer.` or `model.` before it. */
function storedName(name: string, shapes: Map<string, number[]>): string {
  const bare = name.replace(/^(transformer|model)\./, '');
  return shapes.has(name) || !shapes.has(bare) ? name : bare;
}

function assign(parameter: tf.Variable, value: tf.Tensor): void {
  parameter.assign(value.dtype === 'float32' ? value : value.toFloat());
  value.dispose();
}

function writeJson(path: string, value: unknown): void {
  writeFileSync(path, `${JSON.stringify(value, null, 2)}\n`);
}
