// Shapes of well-known models, as their config.json on the hub has them, so that exact counts can be
// given for models that nobody loads. Left out: all that changes no shape.
import type { ModelShape } from './layer-shapes.ts';

const llama2 = { modelType: 'llama', vocabSize: 32000 } as const;
const llama3 = { modelType: 'llama', vocabSize: 128256, numKeyValueHeads: 8 } as const;
const gpt2 = { modelType: 'gpt2', vocabSize: 50257, nPositions: 1024 } as const;

/** Shapes by the names that people use. */
export const KNOWN_MODELS = {
  'Llama-2-7B': {
    ...llama2,
    hiddenSize: 4096,
    intermediateSize: 11008,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
  },
  'Llama-2-13B': {
    ...llama2,
    hiddenSize: 5120,
    intermediateSize: 13824,
    numHiddenLayers: 40,
    numAttentionHeads: 40,
  },
  'Llama-2-70B': {
    ...llama2,
    hiddenSize: 8192,
    intermediateSize: 28672,
    numHiddenLayers: 80,
    numAttentionHeads: 64,
    numKeyValueHeads: 8,
  },
  'Llama-3-8B': {
    ...llama3,
    hiddenSize: 4096,
    intermediateSize: 14336,
    numHiddenLayers: 32,
    numAttentionHeads: 32,
  },
  'Llama-3-70B': {
    ...llama3,
    hiddenSize: 8192,
    intermediateSize: 28672,
    numHiddenLayers: 80,
    numAttentionHeads: 64,
  },
  'Llama-3.2-1B': {
    ...llama3,
    hiddenSize: 2048,
    intermediateSize: 8192,
    numHiddenLayers: 16,
    numAttentionHeads: 32,
    headDim: 64,
    tieWordEmbeddings: true,
  },
  'Llama-3.2-3B': {
    ...llama3,
    hiddenSize: 3072,
    intermediateSize: 8192,
    numHiddenLayers: 28,
    numAttentionHeads: 24,
    headDim: 128,
    tieWordEmbeddings: true,
  },
  'SmolLM2-135M': {
    modelType: 'llama',
    vocabSize: 49152,
    hiddenSize: 576,
    intermediateSize: 1536,
    numHiddenLayers: 30,
    numAttentionHeads: 9,
    numKeyValueHeads: 3,
    tieWordEmbeddings: true,
  },
  'GPT-2': { ...gpt2, nEmbd: 768, nLayer: 12, nHead: 12 },
  'GPT-2 medium': { ...gpt2, nEmbd: 1024, nLayer: 24, nHead: 16 },
  'GPT-2 large': { ...gpt2, nEmbd: 1280, nLayer: 36, nHead: 20 },
  'GPT-2 XL': { ...gpt2, nEmbd: 1600, nLayer: 48, nHead: 25 },
} as const satisfies Record<string, ModelShape>;
