// A Llama model in a GGUF file: llama.cpp's names and metadata to transformers' config and names.
// llama.cpp stores rows of q and k in the order of its own rotary pairs, (x_2i, x_2i+1); they are put
// back to (x_i, x_i+D/2). Left out: other architectures, mixtures of experts.
import { placeTensor } from '../jit/place.ts';
import type { RopeParameters } from '../nn/rotary.ts';
import type { Checkpoint } from './checkpoint.ts';
import { llamaConfig } from './config.ts';
import type { GgufReader, GgufValue } from './gguf.ts';
import type { LlamaConfig } from './llama.ts';

const PLACES: Record<string, string> = {
  attn_norm: 'input_layernorm',
  attn_q: 'self_attn.q_proj',
  attn_k: 'self_attn.k_proj',
  attn_v: 'self_attn.v_proj',
  attn_output: 'self_attn.o_proj',
  ffn_norm: 'post_attention_layernorm',
  ffn_gate: 'mlp.gate_proj',
  ffn_up: 'mlp.up_proj',
  ffn_down: 'mlp.down_proj',
};

const ENDS: Record<string, string> = {
  token_embd: 'model.embed_tokens',
  output_norm: 'model.norm',
  output: 'lm_head',
};

/** Factors of rotary frequencies, which are no parameter. */
export const ROPE_FREQS = 'rope_freqs.weight';

/** The config that a file's metadata and tensors describe; throws if it is no Llama. */
export function ggufConfig(file: GgufReader): LlamaConfig {
  const architecture = file.metadata.get('general.architecture');
  if (architecture !== 'llama') {
    throw new Error(`general.architecture must be 'llama', got '${architecture}'`);
  }
  const number = (key: string) => optional(file, `llama.${key}`);
  const needed = (key: string) => {
    const value = number(key);
    if (value === undefined) throw new Error(`The GGUF metadata lacks llama.${key}`);
    return value;
  };
  const heads = needed('attention.head_count');
  const embedding = file.tensors.get('token_embd.weight');
  const headDim = number('attention.key_length') ?? number('rope.dimension_count');
  return llamaConfig({
    vocabSize: embedding?.shape[0] ?? needed('vocab_size'),
    hiddenSize: needed('embedding_length'),
    intermediateSize: needed('feed_forward_length'),
    numHiddenLayers: needed('block_count'),
    numAttentionHeads: heads,
    numKeyValueHeads: number('attention.head_count_kv') ?? heads,
    ...(headDim === undefined ? {} : { headDim }),
    maxPositionEmbeddings: number('context_length') ?? 2048,
    rmsNormEps: Number.parseFloat(needed('attention.layer_norm_rms_epsilon').toPrecision(7)),
    ropeParameters: ropeOf(file),
    attentionBias: file.tensors.has('blk.0.attn_q.bias'),
    mlpBias: file.tensors.has('blk.0.ffn_gate.bias'),
    tieWordEmbeddings: !file.tensors.has('output.weight'),
    bosTokenId: optional(file, 'tokenizer.ggml.bos_token_id') ?? null,
    eosTokenId: optional(file, 'tokenizer.ggml.eos_token_id') ?? null,
    padTokenId: optional(file, 'tokenizer.ggml.padding_token_id') ?? null,
  });
}

/** The file's weights under transformers' names, dequantized to float32 as they are read. */
export function ggufCheckpoint(file: GgufReader, config: LlamaConfig): Checkpoint {
  const names = new Map<string, string>();
  for (const name of file.tensors.keys()) {
    if (name !== ROPE_FREQS) names.set(transformersName(name), name);
  }
  const heads = (name: string) =>
    name.includes('.q_proj.') ? config.numAttentionHeads : config.numKeyValueHeads;
  return {
    shapes: new Map([...names].map(([name, own]) => [name, file.tensors.get(own)!.shape])),
    read(name) {
      const own = names.get(name);
      if (!own) throw new Error(`No tensor for '${name}' in the GGUF file`);
      const { shape } = file.tensors.get(own)!;
      const values = file.read(own);
      const isPermuted = /self_attn\.[qk]_proj\./.test(name);
      return placeTensor(isPermuted ? unpermute(values, shape[0]!, heads(name)) : values, shape);
    },
    close: () => file.close(),
  };
}

/** Rows (pair, half) of each head back to (half, pair): row 2i + h goes to h D/2 + i. */
export function unpermute(values: Float32Array, rows: number, heads: number): Float32Array {
  const out = new Float32Array(values.length);
  const width = values.length / rows;
  const size = rows / heads;
  for (let row = 0; row < rows; row++) {
    const at = row % size;
    const target = row - at + (at % 2) * (size / 2) + Math.floor(at / 2);
    out.set(values.subarray(row * width, (row + 1) * width), target * width);
  }
  return out;
}

/** Rows (half, pair) of each head to (pair, half): what `unpermute` undoes. */
export function permute(values: Float32Array, rows: number, heads: number): Float32Array {
  const out = new Float32Array(values.length);
  const width = values.length / rows;
  const size = rows / heads;
  for (let row = 0; row < rows; row++) {
    const at = row % size;
    const source = row - at + (at % 2) * (size / 2) + Math.floor(at / 2);
    out.set(values.subarray(source * width, (source + 1) * width), row * width);
  }
  return out;
}

/** llama.cpp's name of a tensor of transformers; throws if it has none. */
export function ggufName(name: string): string {
  const [, layer, place, kind] =
    /^(?:model\.layers\.(\d+)\.)?([\w.]+)\.(weight|bias)$/.exec(name) ?? [];
  const table = Object.entries(layer === undefined ? ENDS : PLACES);
  const part = table.find(([, own]) => own === place)?.[0];
  if (part === undefined) throw new Error(`llama.cpp has no tensor for '${name}'`);
  return `${layer === undefined ? '' : `blk.${layer}.`}${part}.${kind}`;
}

function transformersName(name: string): string {
  const [, layer, part, kind] = /^(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)$/.exec(name) ?? [];
  const place = layer === undefined ? ENDS[part ?? ''] : PLACES[part ?? ''];
  if (place === undefined) return name;
  return `${layer === undefined ? '' : `model.layers.${layer}.`}${place}.${kind}`;
}

/** Rotary settings; factors stored one per frequency act as longrope's, short and long alike. */
function ropeOf(file: GgufReader): RopeParameters {
  const number = (key: string) => optional(file, `llama.rope.${key}`);
  const ropeTheta = number('freq_base') ?? 10000;
  const type = file.metadata.get('llama.rope.scaling.type') ?? 'none';
  const original = number('scaling.original_context_length');
  const factor = number('scaling.factor');
  const scaling = {
    ...(factor === undefined ? {} : { factor }),
    ...(original === undefined ? {} : { originalMaxPositionEmbeddings: original }),
  };
  if (file.tensors.has(ROPE_FREQS)) {
    const factors = [...file.read(ROPE_FREQS)];
    const every = { shortFactor: factors, longFactor: factors, attentionFactor: 1 };
    return { ropeType: 'longrope', ropeTheta, ...every, originalMaxPositionEmbeddings: 1 };
  }
  if (type === 'none') return { ropeType: 'default', ropeTheta };
  if (type === 'linear' || type === 'yarn') return { ropeType: type, ropeTheta, ...scaling };
  throw new Error(`llama.rope.scaling.type must be none, linear or yarn, got '${type}'`);
}

function optional(file: GgufReader, key: string): number | undefined {
  const value: GgufValue | undefined = file.metadata.get(key);
  return typeof value === 'number' ? value : undefined;
}
