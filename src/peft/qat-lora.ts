// Quantization-aware LoRA: y = Q(x) Q(W + s B A)^T + b, so that the adapter learns for the weight that merging
// and rounding will leave. The gradient goes straight through Q to A and B.
// Left out: LoRA's dropout, which has no place in a merged weight, and adapters a row.
import { fakeQuantize, type QuantFormat } from '../quant/fake-quantize.ts';
import type { PeftModel } from './peft-model.ts';
import type { BaseModel } from './prompt-learning.ts';

/** What the merged weights, and the inputs of adapted layers, are rounded to. */
export interface QatLoraConfig {
  weight: QuantFormat;
  activation?: QuantFormat;
}

/**
 * From now on adapted layers compute with their merged and rounded weights, in training and after;
 * without a config they compute as before. Returns the model.
 */
export function setQuantizationAware<M extends PeftModel<BaseModel>>(
  model: M,
  config?: QatLoraConfig,
): M {
  const { weight, activation } = config ?? {};
  model.state.rounding = weight && {
    weight: (w) => fakeQuantize(w, weight),
    input: (x) => (activation ? fakeQuantize(x, activation) : x),
  };
  return model;
}
