// BitsAndBytesConfig and what it asks for: quantizeModel puts Linear4bit or Linear8bitLt in the place
// of linear layers, prepareModelForKbitTraining freezes what is left, as transformers and PEFT do.
// Left out: compute types other than float32, CPU offload, and Conv1D layers (GPT-2).
import type * as tf from '@tensorflow/tfjs';
import { Linear } from '../nn/linear.ts';
import type { Module } from '../nn/module.ts';
import { disposeUnused } from './calibration.ts';
import { type FourBitType, getFourBitType } from './codebook.ts';
import { IntegerLinear } from './integer-linear.ts';
import { Linear4bit } from './linear-4bit.ts';
import { Linear8bitLt } from './linear-8bit.ts';

/** Fields of transformers' class, in camelCase, with its defaults. */
export interface BitsAndBytesOptions {
  loadIn4bit?: boolean;
  loadIn8bit?: boolean;
  /** Default 'fp4'. */
  bnb4bitQuantType?: FourBitType;
  /** Double quantization; default false. */
  bnb4bitUseDoubleQuant?: boolean;
  /** Size from which LLM.int8 leaves a column of x unquantized; default 6. */
  llmInt8Threshold?: number;
  /** Names of modules that stay as they are; default the output head, `['lm_head']`. */
  llmInt8SkipModules?: string[];
}

/** How a model is quantized; exactly one of `loadIn4bit` and `loadIn8bit` is true. */
export class BitsAndBytesConfig {
  readonly loadIn4bit: boolean;
  readonly loadIn8bit: boolean;
  readonly bnb4bitQuantType: FourBitType;
  readonly bnb4bitUseDoubleQuant: boolean;
  readonly llmInt8Threshold: number;
  readonly llmInt8SkipModules: string[] | null;

  constructor(options: BitsAndBytesOptions) {
    this.loadIn4bit = options.loadIn4bit ?? false;
    this.loadIn8bit = options.loadIn8bit ?? false;
    this.bnb4bitQuantType = options.bnb4bitQuantType ?? 'fp4';
    this.bnb4bitUseDoubleQuant = options.bnb4bitUseDoubleQuant ?? false;
    this.llmInt8Threshold = options.llmInt8Threshold ?? 6;
    this.llmInt8SkipModules = options.llmInt8SkipModules ?? null;
    if (this.loadIn4bit === this.loadIn8bit) {
      throw new RangeError(
        `BitsAndBytesConfig needs one of loadIn4bit and loadIn8bit, got ${this.loadIn4bit} for both`,
      );
    }
    getFourBitType(this.bnb4bitQuantType);
    if (!(this.llmInt8Threshold >= 0)) {
      throw new RangeError(`llmInt8Threshold must be at least 0, got ${this.llmInt8Threshold}`);
    }
  }
}

/** Quantizes the linear layers of a model in place, disposes their weights, and returns the model. */
export function quantizeModel<M extends Module>(model: M, config: BitsAndBytesConfig): M {
  const replaced: tf.Tensor[] = [];
  for (const [path, layer] of [...model.namedModules()]) {
    if (!(layer instanceof Linear) || path === '' || !isQuantizedBy(config, path)) continue;
    model.setSubmodule(path, quantizeWeight(layer.weight, layer.bias, config));
    replaced.push(layer.weight);
  }
  disposeUnused(model, replaced);
  return model;
}

/** Whether a config packs the linear layer at a path. */
export function isQuantizedBy({ llmInt8SkipModules }: BitsAndBytesConfig, path: string): boolean {
  const skipped = llmInt8SkipModules ?? ['lm_head'];
  return !skipped.some(
    (name) => path === name || path.split('.').includes(name) || path.endsWith(`.${name}`),
  );
}

/** Freezes all parameters, so that only adapters added later are trained; returns the model. */
export function prepareModelForKbitTraining<M extends Module>(model: M): M {
  if (![...model.namedModules()].some(([, layer]) => isPacked(layer)))
    throw new Error('prepareModelForKbitTraining needs a model quantized before');
  for (const parameter of model.parameters()) parameter.trainable = false;
  return model;
}

/** Bytes of a model's weights in memory, packed ones as they are. */
export function getMemoryFootprint(model: Module): number {
  let bytes = model.parameters().reduce((sum, { size }) => sum + size * 4, 0);
  for (const [, layer] of model.namedModules()) {
    if (isPacked(layer)) bytes += layer.bytes;
  }
  return bytes;
}

const isPacked = (layer: Module): layer is Linear4bit | Linear8bitLt | IntegerLinear =>
  [Linear4bit, Linear8bitLt, IntegerLinear].some((type) => layer instanceof type);

/** A layer with this weight [out, in] packed as a config asks; neither tensor is disposed. */
export function quantizeWeight(
  weight: tf.Tensor,
  bias: tf.Tensor | undefined,
  config: BitsAndBytesConfig,
): Linear4bit | Linear8bitLt {
  if (config.loadIn8bit) {
    return new Linear8bitLt(weight, bias, { threshold: config.llmInt8Threshold });
  }
  return Linear4bit.fromWeight(weight, bias, {
    quantType: config.bnb4bitQuantType,
    compressStatistics: config.bnb4bitUseDoubleQuant,
  });
}
