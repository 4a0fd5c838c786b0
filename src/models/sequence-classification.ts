// A language model with a classifier in the place of its head: W h of each row's last token that is no
// padding, as transformers' ...ForSequenceClassification. Module names are those of its files.
import * as tf from '@tensorflow/tfjs';
import { type Initializer, normalInit } from '../nn/init.ts';
import { Linear } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import { wantedStates } from './causal-lm.ts';
import type { ModelConfig } from './config.ts';
import type { GPT2LMHeadModel, GPT2Model } from './gpt2.ts';
import type { LlamaForCausalLM, LlamaModel } from './llama.ts';

/** Scores [B, numLabels] of texts. */
export class ForSequenceClassification extends Module {
  readonly config: ModelConfig;
  readonly numLabels: number;
  /** The layers of a Llama. */
  model: LlamaModel | undefined;
  /** The layers of a GPT-2. */
  transformer: GPT2Model | undefined;
  score: Linear;

  /** Takes over the layers of `base`, whose head is left to the caller; the new head is random. */
  constructor(
    base: LlamaForCausalLM | GPT2LMHeadModel,
    {
      numLabels = 2,
      init = normalInit(base.config.initializerRange),
    }: { numLabels?: number; init?: Initializer } = {},
  ) {
    super();
    if (!(Number.isInteger(numLabels) && numLabels > 0)) {
      throw new RangeError(`numLabels must be a positive integer, got ${numLabels}`);
    }
    this.config = base.config;
    this.numLabels = numLabels;
    if ('model' in base) this.model = base.model;
    else this.transformer = base.transformer;
    const { config } = base;
    const width = config.modelType === 'gpt2' ? config.nEmbd : config.hiddenSize;
    this.score = new Linear(width, numLabels, { bias: false, init });
  }

  /** `inputIds` [B, T] int32 to logits [B, numLabels]; rows of several lengths need a mask or a pad id. */
  forward(
    inputIds: tf.Tensor2D | null,
    options: { attentionMask?: tf.Tensor2D } = {},
  ): { logits: tf.Tensor2D } {
    const ids = inputIds!;
    const logits = tf.tidy(() => {
      const [states] = (this.model ?? this.transformer!).forward(ids, options);
      const pooled = wantedStates(states.at(-1)!, this.lastTokens(ids, options.attentionMask));
      return tf.squeeze(this.score.forward(pooled), [1]) as tf.Tensor2D; // [B, numLabels]
    });
    return { logits };
  }

  /** Of each row the last token that is no padding, [B] int32. */
  private lastTokens(ids: tf.Tensor2D, mask: tf.Tensor2D | undefined): tf.Tensor1D {
    const [batch, length] = ids.shape;
    const { padTokenId } = this.config;
    if (!mask && padTokenId === null) return tf.fill([batch], length - 1, 'int32');
    const real = mask ?? tf.notEqual(ids, tf.scalar(padTokenId!, 'int32')); // [B, T]
    const places = tf.range(0, length, 1, 'int32');
    return tf.argMax(tf.mul(tf.cast(real, 'int32'), places), 1) as tf.Tensor1D;
  }
}
