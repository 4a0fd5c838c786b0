// Prompt tuning (Lester et al. 2021): learned vectors [nv, C] before the text's embeddings. They
// begin Gaussian, as vectors of random tokens, or as those of a text that is repeated to fill them.
import * as tf from '@tensorflow/tfjs';
import { Embedding } from '../nn/embedding.ts';
import { type Module, parameter } from '../nn/module.ts';
import { type RandomState, randomNormal } from '../tensor/random.ts';
import type { BaseLayer } from './base-layer.ts';
import { commonFields, require } from './peft-config.ts';
import {
  type BaseModel,
  type BaseOptions,
  type BaseOutput,
  forwardWithPrefix,
  modelShape,
  type PromptConfig,
  PromptEncoder,
  type PromptOptions,
  shifted,
  withoutPrefix,
} from './prompt-learning.ts';
import { originalModules, unwrapped } from './target-modules.ts';

/** How virtual tokens begin. */
export type PromptTuningInit = 'RANDOM' | 'SAMPLE_VOCAB' | 'TEXT';

/** Options of PromptTuningConfig; what is left out has PEFT's default. */
export interface PromptTuningOptions extends PromptOptions {
  promptTuningInit?: PromptTuningInit;
  /** The text of 'TEXT'; getPeftModel needs the tokenizer too. */
  promptTuningInitText?: string | null;
  /** The tokenizer of that text, for PEFT. */
  tokenizerNameOrPath?: string | null;
}

/** What prompt tuning is set to. Throws a RangeError for a value out of range. */
export class PromptTuningConfig implements PromptConfig {
  readonly peftType = 'PROMPT_TUNING';
  readonly taskType: PromptConfig['taskType'];
  baseModelNameOrPath: string | null;
  inferenceMode: boolean;
  readonly numVirtualTokens: number;
  tokenDim: number | null;
  numLayers: number | null;
  numAttentionHeads: number | null;
  readonly promptTuningInit: PromptTuningInit;
  readonly promptTuningInitText: string | null;
  readonly tokenizerNameOrPath: string | null;

  constructor(options: PromptTuningOptions) {
    const { taskType, baseModelNameOrPath, inferenceMode } = commonFields(options);
    this.taskType = taskType;
    this.baseModelNameOrPath = baseModelNameOrPath;
    this.inferenceMode = inferenceMode;
    this.numVirtualTokens = options.numVirtualTokens;
    this.tokenDim = options.tokenDim ?? null;
    this.numLayers = options.numLayers ?? null;
    this.numAttentionHeads = options.numAttentionHeads ?? null;
    this.promptTuningInit = options.promptTuningInit ?? 'RANDOM';
    this.promptTuningInitText = options.promptTuningInitText ?? null;
    this.tokenizerNameOrPath = options.tokenizerNameOrPath ?? null;
    const { numVirtualTokens: count, promptTuningInit: init } = this;
    const isCount = Number.isInteger(count) && count > 0;
    require(isCount, 'PromptTuningConfig.numVirtualTokens', 'a positive integer', count);
    const inits = ['RANDOM', 'SAMPLE_VOCAB', 'TEXT'];
    const rule = `one of ${inits.join(', ')}`;
    require(inits.includes(init), 'PromptTuningConfig.promptTuningInit', rule, init);
    const hasText = init !== 'TEXT' || !!this.promptTuningInitText;
    require(hasText, 'PromptTuningConfig.promptTuningInitText', "a text with 'TEXT'", options.promptTuningInitText ??
      null);
  }

  createEncoder(
    base: BaseModel,
    random: RandomState | undefined,
    encode?: (text: string) => readonly number[],
  ): PromptEmbedding {
    const { hiddenSize, numLayers, numHeads } = modelShape(base.config);
    this.numLayers ??= numLayers;
    this.numAttentionHeads ??= numHeads;
    this.tokenDim ??= hiddenSize;
    if (this.tokenDim !== hiddenSize) {
      throw new RangeError(
        `The prompt has vectors of ${this.tokenDim} numbers, the model of ${hiddenSize}`,
      );
    }
    const words = wordEmbeddings(base);
    return new PromptEmbedding(this.firstValues(words, random, encode), words);
  }

  private firstValues(
    words: Words,
    random: RandomState | undefined,
    encode?: (text: string) => readonly number[],
  ): tf.Tensor {
    const { numVirtualTokens: count, promptTuningInit: init, tokenDim } = this;
    const shape: [number, number] = [count, tokenDim!];
    if (!random) return tf.zeros(shape);
    if (init === 'RANDOM') return randomNormal<tf.Rank.R2>(shape, random);
    if (init === 'TEXT' && !encode) {
      throw new TypeError("promptTuningInit 'TEXT' needs getPeftModel's option tokenizer");
    }
    const text = init === 'TEXT' ? encode!(this.promptTuningInitText!) : [];
    const draw = () => random.randint(words.count);
    const ids = Array.from({ length: count }, (_, i) =>
      init === 'TEXT' ? text[i % text.length]! : draw(),
    );
    return tf.tidy(() => words.look(tf.tensor1d(ids, 'int32')));
  }
}

/** The model's table of token vectors. */
interface Words {
  count: number;
  look(ids: tf.Tensor): tf.Tensor;
}

/** Virtual tokens as vectors [nv, C]. */
export class PromptEmbedding extends PromptEncoder {
  embedding: tf.Tensor;
  readonly numVirtualTokens: number;
  private readonly words: Words;

  /** Takes over `embedding`. */
  constructor(embedding: tf.Tensor, words: Words) {
    super();
    this.embedding = parameter(embedding);
    this.numVirtualTokens = embedding.shape[0]!;
    this.words = words;
  }

  override promptEmbeddings(): tf.Tensor2D {
    return this.embedding as tf.Tensor2D;
  }

  override get loadable(): tf.Variable {
    return this.embedding as tf.Variable;
  }

  /** Logits of the virtual tokens come first, [B, nv + T, V], unless there is a cache already. */
  override forward(base: BaseModel, ids: tf.Tensor2D | null, options: BaseOptions): BaseOutput {
    const batch = (ids ?? options.inputsEmbeds!).shape[0]!;
    const prompts = tf.tile(tf.expandDims(this.embedding, 0), [batch, 1, 1]) as tf.Tensor3D;
    if (options.pastKeyValues) {
      const { pastKeyValues } = base.forward(null, { inputsEmbeds: prompts, useCache: true });
      return forwardWithPrefix(base, ids, options, pastKeyValues!);
    }
    const text = options.inputsEmbeds ?? this.words.look(ids!); // [B, T, C]
    const { positionIds: _, ...rest } = shifted(options, batch, this.numVirtualTokens);
    const inputsEmbeds = tf.concat([prompts, text], 1) as tf.Tensor3D; // [B, nv + T, C]
    const positions = this.positions(options.positionIds);
    const output = base.forward(null, { ...rest, inputsEmbeds, ...positions });
    return withoutPrefix(output, this.numVirtualTokens);
  }

  /** Positions of virtual tokens before those of the text. */
  private positions(given: tf.Tensor2D | undefined): BaseOptions {
    if (!given) return {};
    const count = this.numVirtualTokens;
    const first = tf.tile(tf.expandDims(tf.range(0, count, 1, 'int32'), 0), [given.shape[0], 1]);
    const after = tf.add(given, tf.scalar(count, 'int32'));
    return { positionIds: tf.concat([first, after], 1) as tf.Tensor2D };
  }
}

/** The first embedding with a row a token, wrapped or not. */
function wordEmbeddings(base: BaseModel): Words {
  const { vocabSize } = base.config as { vocabSize: number };
  const found = [...originalModules(base)].find(([, module]) => {
    const layer: Module = unwrapped(module);
    return layer instanceof Embedding && layer.numEmbeddings === vocabSize;
  });
  if (!found) throw new TypeError(`The model has no embedding of ${vocabSize} tokens`);
  return { count: vocabSize, look: (ids) => (found[1] as BaseLayer).forward(ids) };
}
