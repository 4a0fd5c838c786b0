// The models of the benches as configs of the library.
import { type LlamaConfig, llamaConfig } from 'peftlab';
import type { BenchModel } from './engine-models.ts';

/** The config of a Llama of these sizes. */
export function configOf(sizes: BenchModel): LlamaConfig {
  return llamaConfig({
    vocabSize: sizes.vocab,
    hiddenSize: sizes.hidden,
    intermediateSize: sizes.inner,
    numHiddenLayers: sizes.layers,
    numAttentionHeads: sizes.heads,
    numKeyValueHeads: sizes.keyHeads,
    maxPositionEmbeddings: 512,
    rmsNormEps: 1e-5,
    tieWordEmbeddings: sizes.tied,
  });
}
