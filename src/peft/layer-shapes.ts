// The modules of a model and their shapes from its config alone, in the names of its state dict: what
// counts are made of when there are no weights. Llama and GPT-2, as transformers has them.
import { modelShape } from './prompt-learning.ts';

/** What of a Llama config makes its shapes; the rest has transformers' defaults. */
export interface LlamaShape {
  modelType: 'llama';
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  numKeyValueHeads?: number;
  headDim?: number;
  attentionBias?: boolean;
  mlpBias?: boolean;
  tieWordEmbeddings?: boolean;
}

/** What of a GPT-2 config makes its shapes. */
export interface GPT2Shape {
  modelType: 'gpt2';
  vocabSize: number;
  nEmbd: number;
  nLayer: number;
  nHead: number;
  nPositions: number;
  nInner?: number | null;
  tieWordEmbeddings?: boolean;
}

/** The shape of a model; every config of a model here is one. */
export type ModelShape = LlamaShape | GPT2Shape;

/** A module with parameters: W [out, in], an embedding [out = rows, in = width], or a norm [in]. */
export interface LayerShape {
  path: string;
  kind: 'linear' | 'embedding' | 'norm';
  out: number;
  in: number;
  bias: boolean;
  /** Whether its weight is that of another layer and counts there. */
  isTied?: boolean;
}

/** The output head's path. */
export const HEAD = 'lm_head';

/** The modules of a model that have parameters, with the paths of its state dict. */
export function layerShapes(config: ModelShape): LayerShape[] {
  if (config.modelType === 'gpt2') return gpt2Shapes(config);
  if (config.modelType === 'llama') return llamaShapes(config);
  const { modelType } = config as { modelType: unknown };
  throw new RangeError(`modelType must be 'llama' or 'gpt2', got ${JSON.stringify(modelType)}`);
}

/** Numbers of a weight; none of one that is tied. */
export const weightSize = ({ kind, out, in: width, isTied }: LayerShape) =>
  isTied ? 0 : kind === 'norm' ? width : out * width;

/** Numbers of a bias. */
export const biasSize = ({ kind, out, in: width, bias }: LayerShape) =>
  bias ? (kind === 'norm' ? width : out) : 0;

function llamaShapes(config: LlamaShape): LayerShape[] {
  const { vocabSize, intermediateSize: inner, attentionBias = false, mlpBias = false } = config;
  const { hiddenSize: width, numLayers, numHeads, numKeyValueHeads, headDim } = modelShape(config);
  const [q, kv] = [numHeads * headDim, numKeyValueHeads * headDim];
  const blocks = Array.from({ length: numLayers }, (_, i) => {
    const at = `model.layers.${i}`;
    return [
      linear(`${at}.self_attn.q_proj`, q, width, attentionBias),
      linear(`${at}.self_attn.k_proj`, kv, width, attentionBias),
      linear(`${at}.self_attn.v_proj`, kv, width, attentionBias),
      linear(`${at}.self_attn.o_proj`, width, q, attentionBias),
      linear(`${at}.mlp.gate_proj`, inner, width, mlpBias),
      linear(`${at}.mlp.up_proj`, inner, width, mlpBias),
      linear(`${at}.mlp.down_proj`, width, inner, mlpBias),
      norm(`${at}.input_layernorm`, width, false),
      norm(`${at}.post_attention_layernorm`, width, false),
    ];
  });
  return [
    embedding('model.embed_tokens', vocabSize, width),
    ...blocks.flat(),
    norm('model.norm', width, false),
    { ...linear(HEAD, vocabSize, width, false), isTied: config.tieWordEmbeddings ?? false },
  ];
}

function gpt2Shapes(config: GPT2Shape): LayerShape[] {
  const { vocabSize, nEmbd: width, nLayer, nPositions } = config;
  const inner = config.nInner ?? 4 * width;
  const blocks = Array.from({ length: nLayer }, (_, i) => {
    const at = `transformer.h.${i}`;
    return [
      norm(`${at}.ln_1`, width, true),
      linear(`${at}.attn.c_attn`, 3 * width, width, true),
      linear(`${at}.attn.c_proj`, width, width, true),
      norm(`${at}.ln_2`, width, true),
      linear(`${at}.mlp.c_fc`, inner, width, true),
      linear(`${at}.mlp.c_proj`, width, inner, true),
    ];
  });
  return [
    embedding('transformer.wte', vocabSize, width),
    embedding('transformer.wpe', nPositions, width),
    ...blocks.flat(),
    norm('transformer.ln_f', width, true),
    { ...linear(HEAD, vocabSize, width, false), isTied: config.tieWordEmbeddings ?? true },
  ];
}

const linear = (path: string, out: number, width: number, bias: boolean): LayerShape => ({
  path,
  kind: 'linear',
  out,
  in: width,
  bias,
});
const embedding = (path: string, rows: number, width: number): LayerShape => ({
  ...linear(path, rows, width, false),
  kind: 'embedding',
});
const norm = (path: string, width: number, bias: boolean): LayerShape => ({
  ...linear(path, 1, width, bias),
  kind: 'norm',
});
