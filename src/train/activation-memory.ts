// Bytes that a forward pass keeps for its backward pass: after Korthikanti et al. 2022 (arXiv 2205.05198),
// counted anew for the layers of Llama and GPT-2 as transformers and PEFT run them.
// Left out: dropout's masks, keys and values repeated for grouped queries, weights while they are dequantized.
import { adaptedLayers } from '../peft/count.ts';
import type { LayerShape, ModelShape } from '../peft/layer-shapes.ts';
import { isPromptLearning, type PeftConfig } from '../peft/mapping.ts';
import { modelShape } from '../peft/prompt-learning.ts';

/** What is run: `size` and `adapterSize` are bytes of a number in the base and in an adapter. */
export interface ActivationOptions {
  model: ModelShape;
  method: 'full' | PeftConfig;
  size: number;
  adapterSize: number;
  /** Tokens of a row, virtual ones included. */
  sequence: number;
  flashAttention: boolean;
}

/**
 * Bytes that all layers keep for one token: the inputs of norms (float32 where the run is in 16 bits),
 * queries, keys, values and what they mix, gate, its activation and up; and what the method adds.
 */
export function layerActivations(options: ActivationOptions): number {
  const { model, method, size, sequence, flashAttention } = options;
  const { hiddenSize: h, numLayers, numHeads, numKeyValueHeads, headDim } = modelShape(model);
  const [q, kv] = [numHeads * headDim, numKeyValueHeads * headDim];
  const norms = 2 * h * Math.max(size, 4);
  const scores = flashAttention ? numHeads : numHeads * sequence;
  const attention = (2 * q + 2 * kv + scores) * size;
  const isLlama = model.modelType === 'llama';
  const inner = isLlama ? model.intermediateSize : (model.nInner ?? 4 * h);
  const mlp = (isLlama ? 3 : 2) * inner * size; // gate, its silu, up; or a sum and its tanh
  const own = numLayers * (norms + attention + mlp);
  // The inputs of products whose weights are trained; norms in 16 bits keep their results too.
  const full = (2 * h + inner) * size + (size < 4 ? 2 * h * size : 0);
  return own + (method === 'full' ? numLayers * full : adapterActivations(options, method));
}

/** Bytes for one token and the vocabulary: scores, their softmax and its gradient in float32. */
export function vocabularyActivations({ vocabSize }: ModelShape, size: number): number {
  // In 16 bits the scores are copied to float32, and the gradient once more.
  return vocabSize * (size + (size < 4 ? 12 : 8));
}

/** What adapters keep for one token, in all layers. */
function adapterActivations(options: ActivationOptions, config: PeftConfig): number {
  const { model, adapterSize } = options;
  if (isPromptLearning(config)) return 0;
  if (config.peftType === 'BOTTLENECK') {
    const { hiddenSize, numLayers } = modelShape(model);
    const { mhAdapter, outputAdapter, reductionFactor } = config.options;
    const each = hiddenSize + 2 * Math.floor(hiddenSize / reductionFactor);
    return numLayers * (Number(mhAdapter) + Number(outputAdapter)) * each * adapterSize;
  }
  const layers = adaptedLayers(model, config).filter(({ kind }) => kind === 'linear');
  const sum = (of: (layer: LayerShape) => number) =>
    layers.reduce((total, layer) => total + of(layer), 0);
  if (config.peftType === 'VERA') return sum(({ out }) => config.r + out) * adapterSize;
  if (config.peftType === 'IA3') return sum(({ out }) => out) * adapterSize;
  const low = sum(() => config.r) * adapterSize;
  const dora = config.useDora ? sum(({ out }) => out) * (options.size + adapterSize) : 0;
  return keptInputs(options, layers) + low + dora;
}

/** LoRA's inputs: a copy for each layer where they are converted, else one for each place. */
function keptInputs({ size, adapterSize }: ActivationOptions, layers: LayerShape[]): number {
  if (size !== adapterSize) return layers.reduce((sum, layer) => sum + layer.in * adapterSize, 0);
  const places = layers.flatMap((layer) => {
    const block = /\d+/.exec(layer.path)?.[0] ?? '';
    if (/(q|k|v)_proj$|c_attn$/.test(layer.path))
      return [[`${block} attention`, layer.in]] as const;
    if (/o_proj$|attn\.c_proj$/.test(layer.path)) return []; // what attention mixed is kept already
    const place = /(gate|up)_proj$|c_fc$/.test(layer.path) ? `${block} mlp` : layer.path;
    return [[place, layer.in]] as const;
  });
  return [...new Map(places).values()].reduce((sum, width) => sum + width * size, 0);
}
