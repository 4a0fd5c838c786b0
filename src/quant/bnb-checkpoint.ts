// Quantized layers in checkpoints, as transformers saves them: `weight` packed and its QuantState beside
// it (4 bits), or `weight` int8, `SCB` and `weight_format` (LLM.int8); quantization_config in config.json.
// Left out: other storage types than uint8, and LLM.int8's older weight formats.
import type * as tf from '@tensorflow/tfjs';
import type { Module } from '../nn/module.ts';
import type { RawTensor } from '../tensor/safetensors.ts';
import { BitsAndBytesConfig } from './bnb-config.ts';
import type { FourBitType } from './codebook.ts';
import { unpack4bit } from './four-bit.ts';
import { Linear4bit } from './linear-4bit.ts';
import { Linear8bitLt } from './linear-8bit.ts';
import { dequantizeRows } from './llm-int8.ts';
import { QuantState } from './quant-state.ts';

/** A layer whose weight is packed. */
export type QuantizedLinear = Linear4bit | Linear8bitLt;

/** Whether a module is such a layer. */
export const isQuantizedLinear = (module: Module): module is QuantizedLinear =>
  module instanceof Linear4bit || module instanceof Linear8bitLt;

/** The tensors of a layer but its bias, by what follows the layer's path and a dot. */
export function layerTensors(layer: QuantizedLinear): Map<string, RawTensor> {
  if (layer instanceof Linear4bit) {
    const { packed, quantState } = layer.state();
    const weight: RawTensor = { dtype: 'U8', shape: [packed.length, 1], data: packed };
    const parts = [...quantState.asTensors()].map(([key, raw]) => [`weight.${key}`, raw] as const);
    return new Map([['weight', weight], ...parts]);
  }
  const { codes, rowStats } = layer.state();
  return new Map<string, RawTensor>([
    ['weight', { dtype: 'I8', shape: [layer.outFeatures, layer.inFeatures], data: codes }],
    ['SCB', { dtype: 'F32', shape: [rowStats.length], data: rowStats }],
    ['weight_format', { dtype: 'U8', shape: [], data: Uint8Array.of(0) }],
  ]);
}

/** What `layerTensors` gave as a layer again; undefined if these are not a quantized layer's tensors. */
export function layerFromTensors(
  tensors: ReadonlyMap<string, RawTensor>,
  bias: tf.Tensor | undefined,
  config: BitsAndBytesConfig | undefined,
): QuantizedLinear | undefined {
  const weight = tensors.get('weight');
  const SCB = tensors.get('SCB');
  if (weight?.dtype === 'I8' && SCB?.data instanceof Float32Array) {
    const codes = weight.data as Int8Array;
    const state = { codes, rowStats: SCB.data, shape: weight.shape };
    return new Linear8bitLt(state, bias, { threshold: config?.llmInt8Threshold ?? 6 });
  }
  const parts = stateParts(tensors);
  if (weight?.dtype !== 'U8' || parts.size === 0) return undefined;
  const quantState = QuantState.fromTensors(parts);
  return new Linear4bit({ packed: weight.data as Uint8Array, quantState }, bias);
}

/** W [out, in] in float32 of what `layerTensors` gave. */
export function unpackTensors(tensors: ReadonlyMap<string, RawTensor>): Float32Array {
  const weight = tensors.get('weight')!;
  const SCB = tensors.get('SCB');
  if (SCB) {
    const [codes, rowStats] = [weight.data as Int8Array, SCB.data as Float32Array];
    return dequantizeRows({ codes, rowStats });
  }
  return unpack4bit(weight.data as Uint8Array, QuantState.fromTensors(stateParts(tensors)));
}

/** config.json's `quantization_config` of a model with such layers; undefined for one without. */
export function quantizationJson(model: Module): Record<string, unknown> | undefined {
  const layers = [...model.namedModules()].map(([, layer]) => layer).filter(isQuantizedLinear);
  const [first] = layers;
  if (!first) return undefined;
  const is4bit = first instanceof Linear4bit;
  const { quantType, state2, dtype } = is4bit
    ? first.state().quantState
    : { quantType: 'fp4', state2: undefined, dtype: 'float32' };
  return {
    _load_in_4bit: is4bit,
    _load_in_8bit: !is4bit,
    bnb_4bit_compute_dtype: dtype,
    bnb_4bit_quant_storage: 'uint8',
    bnb_4bit_quant_type: quantType,
    bnb_4bit_use_double_quant: state2 !== undefined,
    llm_int8_enable_fp32_cpu_offload: false,
    llm_int8_has_fp16_weight: false,
    llm_int8_skip_modules: null,
    llm_int8_threshold: is4bit ? 6.0 : first.threshold,
    load_in_4bit: is4bit,
    load_in_8bit: !is4bit,
    quant_method: 'bitsandbytes',
  };
}

/** The tensors of a QuantState, without `weight.` before their names. */
function stateParts(tensors: ReadonlyMap<string, RawTensor>): Map<string, RawTensor> {
  const parts = [...tensors].flatMap(([key, raw]) =>
    key.startsWith('weight.') ? [[key.slice('weight.'.length), raw] as const] : [],
  );
  return new Map(parts);
}

/** The config that a config.json's `quantization_config` is; undefined for null or none. */
export function quantizationFromJson(json: unknown): BitsAndBytesConfig | undefined {
  if (json === undefined || json === null) return undefined;
  const fields = json as Record<string, unknown>;
  if (fields.quant_method !== 'bitsandbytes') {
    const method = JSON.stringify(fields.quant_method);
    throw new RangeError(
      `quant_method of quantization_config must be 'bitsandbytes', got ${method}`,
    );
  }
  const storage = fields.bnb_4bit_quant_storage ?? 'uint8';
  if (fields.load_in_4bit === true && storage !== 'uint8') {
    throw new RangeError(`bnb_4bit_quant_storage must be 'uint8', got ${JSON.stringify(storage)}`);
  }
  const skipped = fields.llm_int8_skip_modules;
  return new BitsAndBytesConfig({
    loadIn4bit: fields.load_in_4bit === true,
    loadIn8bit: fields.load_in_8bit === true,
    bnb4bitQuantType: (fields.bnb_4bit_quant_type ?? 'fp4') as FourBitType,
    bnb4bitUseDoubleQuant: fields.bnb_4bit_use_double_quant === true,
    llmInt8Threshold: Number(fields.llm_int8_threshold ?? 6),
    ...(Array.isArray(skipped) ? { llmInt8SkipModules: skipped as string[] } : {}),
  });
}
