// The three models of the engine's benchmark: sizes, and what is trained on them.

/** Sizes of a Llama, and of a batch for it. */
export interface BenchModel {
  vocab: number;
  hidden: number;
  layers: number;
  heads: number;
  keyHeads: number;
  inner: number;
  tied: boolean;
  length: number;
  batch: number;
}

/** Two small ones, and SmolLM2-135M's shape. */
export const MODELS: Record<'A' | 'B' | 'C', BenchModel> = {
  A: {
    vocab: 1024,
    hidden: 128,
    layers: 4,
    heads: 4,
    keyHeads: 4,
    inner: 344,
    tied: false,
    length: 64,
    batch: 16,
  },
  B: {
    vocab: 2048,
    hidden: 256,
    layers: 6,
    heads: 8,
    keyHeads: 8,
    inner: 688,
    tied: false,
    length: 128,
    batch: 8,
  },
  C: {
    vocab: 49152,
    hidden: 576,
    layers: 30,
    heads: 9,
    keyHeads: 3,
    inner: 1536,
    tied: true,
    length: 64,
    batch: 2,
  },
};

/** What a worker measures. */
export interface WorkerTask {
  model: keyof typeof MODELS;
  sizes: BenchModel;
  mode: 'lora' | 'full' | 'decode' | 'gemm';
  threads: number;
  /** Ours: 'native' or 'wasm'; theirs: 'torch' or 'llama.cpp'. */
  engine: string;
  /** A .gguf file for llama.cpp. */
  file?: string;
}

/** What a worker says first. */
export interface WorkerStart {
  /** Milliseconds of the first step: compilation included. */
  first: number;
  /** Milliseconds of tracing and compiling alone, where there is such a thing. */
  compile?: number;
}
