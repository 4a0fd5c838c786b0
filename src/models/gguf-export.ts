// Llama models to .gguf files that llama.cpp loads: its names and metadata, rows of q and k in the order
// of its rotary pairs (gguf-model.ts reads them back), types by llama.cpp's mixes.
// Left out: other architectures, rotary scaling other than linear, yarn and llama3.
import * as tf from '@tensorflow/tfjs';
import type { Tokenizer } from '../data/tokenizer.ts';
import { RotaryEmbedding } from '../nn/rotary.ts';
import { quantizeGguf } from '../quant/gguf-types.ts';
import type { CausalLM } from './causal-lm.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { ModelConfig } from './config.ts';
import { type GgufFileType, ggufFileCode, ggufFileType, tensorType } from './gguf-mix.ts';
import { ggufName, permute, ROPE_FREQS } from './gguf-model.ts';
import { vocabularyEntries } from './gguf-vocabulary.ts';
import { type GgufEntry, type GgufSource, writeGguf } from './gguf-write.ts';
import type { LlamaConfig } from './llama.ts';

/** How a file is made. */
export interface GgufOptions {
  /** 'q4_k_m', 'q5_k_m', 'q8_0' (default), 'f16', ...: see gguf-mix.ts. */
  type?: string;
  /** Written into the file, so that llama.cpp needs nothing else. */
  tokenizer?: Tokenizer;
  /** Entries `tokenizer.*` in the place of a tokenizer. */
  vocabulary?: ReadonlyMap<string, GgufEntry>;
  /** `general.name`. */
  name?: string;
  /** Told before each tensor. */
  onTensor?: (name: string, n: number, total: number) => void;
}

/** Writes a model in memory; its weights stay as they are. */
export function saveGguf(model: CausalLM, path: string, options: GgufOptions = {}): void {
  const parameters = new Map(model.namedParameters());
  const weights: Checkpoint = {
    shapes: new Map([...parameters].map(([name, { shape }]) => [name, shape])),
    // Shares the values; a clone copies them on WASM and can lose its memory.
    read: (name) => tf.reshape(parameters.get(name)!, parameters.get(name)!.shape),
    close: () => {},
  };
  exportGguf(model.config, weights, path, options);
}

/** Writes weights, read one at a time; throws one sentence if GGUF cannot hold such a model. */
export function exportGguf(
  config: ModelConfig,
  weights: Checkpoint,
  path: string,
  { type: typeName = 'q8_0', tokenizer, vocabulary, name = 'model', onTensor }: GgufOptions = {},
): void {
  if (config.modelType !== 'llama') {
    throw new RangeError(
      `A model to be written as GGUF must be a llama, got '${config.modelType}'`,
    );
  }
  const llama = config as LlamaConfig;
  const type = ggufFileType(typeName);
  const metadata = new Map<string, GgufEntry>([
    ['general.architecture', { type: 'string', value: 'llama' }],
    ['general.type', { type: 'string', value: 'model' }],
    ['general.name', { type: 'string', value: name }],
    ['general.file_type', { type: 'uint32', value: ggufFileCode(type) }],
    ['general.quantization_version', { type: 'uint32', value: 2 }],
    ...architecture(llama),
    ...(vocabulary ?? vocabularyOf(tokenizer, llama.vocabSize)),
  ]);
  const tensors = [...ropeTensor(llama), ...tensorsOf(llama, weights, type)];
  const told = tensors.map((tensor, i) => ({
    ...tensor,
    blocks() {
      onTensor?.(tensor.name, i + 1, tensors.length);
      return tensor.blocks();
    },
  }));
  writeGguf(path, metadata, told);
}

function architecture(config: LlamaConfig): [string, GgufEntry][] {
  if (config.hiddenAct !== 'silu') {
    throw new RangeError(
      `hidden_act must be 'silu' to be written as GGUF, got '${config.hiddenAct}'`,
    );
  }
  const { ropeType, ropeTheta, factor, originalMaxPositionEmbeddings } = config.ropeParameters;
  const counts = {
    vocab_size: config.vocabSize,
    context_length: config.maxPositionEmbeddings,
    embedding_length: config.hiddenSize,
    block_count: config.numHiddenLayers,
    feed_forward_length: config.intermediateSize,
    'attention.head_count': config.numAttentionHeads,
    'attention.head_count_kv': config.numKeyValueHeads,
    'attention.key_length': config.headDim,
    'attention.value_length': config.headDim,
    'rope.dimension_count': config.headDim,
  };
  const entries: [string, GgufEntry][] = Object.entries(counts).map(([key, value]) => [
    `llama.${key}`,
    { type: 'uint32', value },
  ]);
  const float = (key: string, value: number) =>
    entries.push([`llama.${key}`, { type: 'float32', value }]);
  float('attention.layer_norm_rms_epsilon', config.rmsNormEps);
  float('rope.freq_base', ropeTheta);
  if (ropeType === 'yarn') checkYarn(config);
  if (ropeType === 'linear' || ropeType === 'yarn') {
    entries.push(['llama.rope.scaling.type', { type: 'string', value: ropeType }]);
    float('rope.scaling.factor', factor!);
    if (originalMaxPositionEmbeddings !== undefined) {
      const value = originalMaxPositionEmbeddings;
      entries.push(['llama.rope.scaling.original_context_length', { type: 'uint32', value }]);
    }
  } else if (!['default', 'llama3', 'longrope'].includes(ropeType)) {
    throw new RangeError(
      `rope_type must be default, linear, yarn or llama3 to be written as GGUF, got '${ropeType}'`,
    );
  }
  return entries;
}

/** llama.cpp takes yarn's usual ramp and scale for granted. */
function checkYarn({ ropeParameters: rope }: LlamaConfig): void {
  const { betaFast = 32, betaSlow = 1, truncate = true } = rope;
  const isScaled = [rope.attentionFactor, rope.mscale, rope.mscaleAllDim].some(
    (x) => x !== undefined,
  );
  if (betaFast !== 32 || betaSlow !== 1 || !truncate || isScaled || rope.factor === undefined) {
    throw new RangeError(
      `yarn must have a factor and defaults else to be written as GGUF, got ${JSON.stringify(rope)}`,
    );
  }
}

/** Factors that frequencies are divided by, where they are neither all alike nor yarn's. */
function ropeTensor({ ropeParameters, headDim, maxPositionEmbeddings }: LlamaConfig): GgufSource[] {
  const { ropeType, ropeTheta, shortFactor = [], longFactor = [] } = ropeParameters;
  if (ropeType !== 'llama3' && ropeType !== 'longrope') return [];
  const isOne = String(shortFactor) === String(longFactor) && ropeParameters.attentionFactor === 1;
  if (ropeType === 'longrope' && !isOne) {
    throw new RangeError('longrope must have equal short and long factors to be written as GGUF');
  }
  const { invFreq } = new RotaryEmbedding(headDim, maxPositionEmbeddings, ropeParameters);
  const plain = new RotaryEmbedding(headDim, maxPositionEmbeddings, {
    ropeType: 'default',
    ropeTheta,
  });
  const factors =
    ropeType === 'longrope'
      ? Float32Array.from(longFactor)
      : plain.invFreq.map((frequency, i) => frequency / invFreq[i]!);
  const blocks = () => quantizeGguf(factors, 'F32');
  return [{ name: ROPE_FREQS, shape: [factors.length], type: 'F32', blocks }];
}

function tensorsOf(config: LlamaConfig, weights: Checkpoint, file: GgufFileType): GgufSource[] {
  const tied = config.tieWordEmbeddings;
  const names = [...weights.shapes.keys()].filter(
    (name) => !(tied && name === 'lm_head.weight') && !name.endsWith('rotary_emb.inv_freq'),
  );
  return names.map((own) => {
    const name = ggufName(/^(model|lm_head)\./.test(own) ? own : `model.${own}`);
    const shape = weights.shapes.get(own)!;
    const type = tensorType(name, shape, file, { layers: config.numHiddenLayers, tied });
    const heads = own.includes('.q_proj.') ? config.numAttentionHeads : config.numKeyValueHeads;
    const blocks = () => {
      const values = valuesOf(weights, own);
      const isPermuted = /self_attn\.[qk]_proj\./.test(own);
      try {
        const rows = isPermuted ? permute(values, shape[0]!, heads) : values;
        return quantizeGguf(rows, type, shape.at(-1)!);
      } catch (error) {
        throw new RangeError(`Tensor '${own}': ${(error as Error).message}`, { cause: error });
      }
    };
    return { name, shape, type, blocks };
  });
}

/** A tensor's numbers; those of float32 without tf.cast, which copies on WASM and can lose its memory. */
function valuesOf(weights: Checkpoint, name: string): Float32Array {
  const tensor = weights.read(name);
  const floats = tensor.dtype === 'float32' ? tensor : tf.cast(tensor, 'float32');
  const values = floats.dataSync() as Float32Array;
  tf.dispose([tensor, floats]);
  return values;
}

function vocabularyOf(tokenizer: Tokenizer | undefined, size: number): Map<string, GgufEntry> {
  if (tokenizer) return vocabularyEntries(tokenizer, size);
  return new Map([['tokenizer.ggml.model', { type: 'string', value: 'none' }]]);
}
