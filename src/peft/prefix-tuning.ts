// Prefix tuning (Li & Liang 2021): learned keys and values before those of the text, in every layer:
// numbers [nv, 2 L D], layer by layer k then v, with D = kv heads * head size. With projection they
// are W2 tanh(W1 e + b1) + b2 of embeddings e while training, and plain numbers once saved.
import * as tf from '@tensorflow/tfjs';
import type { KeyValue } from '../nn/attention.ts';
import { linear } from '../nn/linear.ts';
import { parameter } from '../nn/module.ts';
import { type RandomState, randomNormal, randomUniform } from '../tensor/random.ts';
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
} from './prompt-learning.ts';

/** Options of PrefixTuningConfig; what is left out has PEFT's default. */
export interface PrefixTuningOptions extends PromptOptions {
  /** Make the prefix by a small network. Default false. */
  prefixProjection?: boolean;
  /** Width of that network; default `tokenDim`. */
  encoderHiddenSize?: number | null;
  /** Begin with zeros in the place of Gaussian numbers. */
  initWeights?: 'zero' | null;
}

/** What prefix tuning is set to. Throws a RangeError for a value out of range. */
export class PrefixTuningConfig implements PromptConfig {
  readonly peftType = 'PREFIX_TUNING';
  readonly taskType: PromptConfig['taskType'];
  baseModelNameOrPath: string | null;
  inferenceMode: boolean;
  readonly numVirtualTokens: number;
  tokenDim: number | null;
  numLayers: number | null;
  numAttentionHeads: number | null;
  readonly prefixProjection: boolean;
  encoderHiddenSize: number | null;
  readonly initWeights: 'zero' | null;

  constructor(options: PrefixTuningOptions) {
    const { taskType, baseModelNameOrPath, inferenceMode } = commonFields(options);
    this.taskType = taskType;
    this.baseModelNameOrPath = baseModelNameOrPath;
    this.inferenceMode = inferenceMode;
    this.numVirtualTokens = options.numVirtualTokens;
    this.tokenDim = options.tokenDim ?? null;
    this.numLayers = options.numLayers ?? null;
    this.numAttentionHeads = options.numAttentionHeads ?? null;
    this.prefixProjection = options.prefixProjection ?? false;
    this.encoderHiddenSize = options.encoderHiddenSize ?? null;
    this.initWeights = options.initWeights ?? null;
    const count = this.numVirtualTokens;
    const isCount = Number.isInteger(count) && count > 0;
    require(isCount, 'PrefixTuningConfig.numVirtualTokens', 'a positive integer', count);
  }

  createEncoder({ config }: BaseModel, random: RandomState | undefined): PrefixEncoder {
    const { numLayers, numKeyValueHeads, headDim } = modelShape(config);
    this.numLayers ??= numLayers;
    this.numAttentionHeads ??= numKeyValueHeads;
    this.tokenDim ??= numKeyValueHeads * headDim;
    this.encoderHiddenSize ??= this.tokenDim;
    const fits = this.numLayers === numLayers && this.tokenDim === numKeyValueHeads * headDim;
    if (!fits) {
      throw new RangeError(
        `The prefix is for ${this.numLayers} layers of ${this.tokenDim}, the model has ${numLayers} of ${numKeyValueHeads * headDim}`,
      );
    }
    if (this.prefixProjection && !this.inferenceMode && !random) {
      throw new Error('A saved prefix can not be taken apart into the projection that made it');
    }
    return new PrefixEncoder(this, random);
  }
}

/** The network that makes a prefix of embeddings [nv, D]. */
interface Projection {
  w1: tf.Variable;
  b1: tf.Variable;
  w2: tf.Variable;
  b2: tf.Variable;
}

/** Keys and values of virtual tokens. */
export class PrefixEncoder extends PromptEncoder {
  readonly numVirtualTokens: number;
  /** [nv, 2 L D], or [nv, D] before the projection. */
  embedding: tf.Tensor;
  w1: tf.Tensor | undefined;
  b1: tf.Tensor | undefined;
  w2: tf.Tensor | undefined;
  b2: tf.Tensor | undefined;
  private readonly layers: number;
  private readonly heads: number;

  constructor(config: PrefixTuningConfig, random: RandomState | undefined) {
    super();
    const { numVirtualTokens: count, tokenDim, numLayers, encoderHiddenSize: inner } = config;
    const width = 2 * numLayers! * tokenDim!;
    this.numVirtualTokens = count;
    this.layers = numLayers!;
    this.heads = config.numAttentionHeads!;
    const isProjected = config.prefixProjection && !config.inferenceMode;
    const zero = config.initWeights === 'zero' || !random;
    const shape: [number, number] = [count, isProjected ? tokenDim! : width];
    this.embedding = parameter(
      zero && !isProjected ? tf.zeros(shape) : randomNormal<tf.Rank.R2>(shape, random!),
    );
    if (!isProjected || !random) return;
    const uniform = (size: number[], fanIn: number) =>
      parameter(
        randomUniform(size as [number, number], random, {
          low: -(fanIn ** -0.5),
          high: fanIn ** -0.5,
        }),
      );
    this.w1 = uniform([inner!, tokenDim!], tokenDim!);
    this.b1 = uniform([inner!], tokenDim!);
    this.w2 = zero ? parameter(tf.zeros([width, inner!])) : uniform([width, inner!], inner!);
    this.b2 = zero ? parameter(tf.zeros([width])) : uniform([width], inner!);
  }

  override promptEmbeddings(): tf.Tensor2D {
    const { w1, b1, w2, b2 } = this as unknown as Partial<Projection>;
    if (!w1 || !w2) return this.embedding as tf.Tensor2D;
    return linear(tf.tanh(linear(this.embedding, w1, b1)), w2, b2) as tf.Tensor2D;
  }

  override get loadable(): tf.Variable {
    return this.embedding as tf.Variable;
  }

  override forward(base: BaseModel, ids: tf.Tensor2D | null, options: BaseOptions): BaseOutput {
    const batch = (ids ?? options.inputsEmbeds!).shape[0]!;
    return forwardWithPrefix(base, ids, options, this.keyValues(batch));
  }

  /** One entry a layer, both [B, H, nv, D / H]. */
  private keyValues(batch: number): KeyValue[] {
    const { numVirtualTokens: count, layers, heads } = this;
    const apart = tf.reshape(this.promptEmbeddings(), [count, 2 * layers, heads, -1]);
    const byLayer = tf.transpose(apart, [1, 2, 0, 3]); // [2 L, H, nv, D / H]
    const parts = tf.split(byLayer, 2 * layers).map((part) => tf.tile(part, [batch, 1, 1, 1]));
    return Array.from({ length: layers }, (_, i) => ({
      key: parts[2 * i] as tf.Tensor4D,
      value: parts[2 * i + 1] as tf.Tensor4D,
    }));
  }
}
