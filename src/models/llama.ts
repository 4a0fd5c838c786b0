// Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al. 2023).
// Module names and numbers are those of transformers' LlamaForCausalLM. Left out: tensor-parallel
// slices (pretraining_tp), attention dropout.
import * as tf from '@tensorflow/tfjs';
import { type Activation, getActivation } from '../nn/activations.ts';
import {
  appendKeyValue,
  attend,
  attendCached,
  attentionBias,
  type KeyValue,
  splitHeads,
} from '../nn/attention.ts';
import { Embedding } from '../nn/embedding.ts';
import { type Initializer, normalInit, zerosInit } from '../nn/init.ts';
import { Linear } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import { RMSNorm } from '../nn/norm.ts';
import {
  applyRotary,
  type RopeParameters,
  RotaryEmbedding,
  type RotaryTables,
} from '../nn/rotary.ts';
import {
  type CausalLM,
  type CausalLMOutput,
  type ForwardOptions,
  newPositions,
  wantedStates,
} from './causal-lm.ts';
import type { BaseConfig } from './config.ts';

/** Shape of a Llama model; the fields of its config.json. */
export interface LlamaConfig extends BaseConfig {
  modelType: 'llama';
  hiddenSize: number;
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  /** Fewer than `numAttentionHeads`, so that several query heads share one. */
  numKeyValueHeads: number;
  headDim: number;
  hiddenAct: string;
  maxPositionEmbeddings: number;
  rmsNormEps: number;
  ropeParameters: RopeParameters;
  attentionBias: boolean;
  mlpBias: boolean;
}

/** What layers share in one pass. */
interface Context {
  rotary: RotaryTables;
  bias: tf.Tensor | undefined;
  /** How much of a cache of fixed size is filled, [B]. */
  lengths: tf.Tensor1D | undefined;
}

/** softmax(q k^T / sqrt(D)) v with rotary q and k; `numKeyValueHeads` heads of k and v. */
export class LlamaAttention extends Module {
  readonly config: LlamaConfig;
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  oProj: Linear;

  constructor(config: LlamaConfig, init: Initializer) {
    super();
    const { hiddenSize, headDim, numAttentionHeads, numKeyValueHeads } = config;
    const options = { bias: config.attentionBias, init };
    this.config = config;
    this.qProj = new Linear(hiddenSize, numAttentionHeads * headDim, options);
    this.kProj = new Linear(hiddenSize, numKeyValueHeads * headDim, options);
    this.vProj = new Linear(hiddenSize, numKeyValueHeads * headDim, options);
    this.oProj = new Linear(numAttentionHeads * headDim, hiddenSize, options);
  }

  /** x [B, T, C] to [B, T, C], and the keys and values with those of `past` before them. */
  forward(x: tf.Tensor, context: Context, past?: KeyValue): [tf.Tensor, KeyValue] {
    const { rotary, bias, lengths } = context;
    const { numAttentionHeads, numKeyValueHeads } = this.config;
    const q = applyRotary(splitHeads(this.qProj.forward(x), numAttentionHeads), rotary); // [B, H, T, D]
    const k = applyRotary(splitHeads(this.kProj.forward(x), numKeyValueHeads), rotary); // [B, KV, T, D]
    const v = splitHeads(this.vProj.forward(x), numKeyValueHeads); // [B, KV, T, D]
    if (lengths) {
      const [mixed, cache] = attendCached(q, { key: k, value: v }, past!, lengths); // [B, T, H * D]
      return [this.oProj.forward(mixed), cache];
    }
    const keyValue = appendKeyValue(past, { key: k, value: v });
    const mixed = attend(q, keyValue, { bias }); // [B, T, H * D]
    return [this.oProj.forward(mixed), keyValue];
  }
}

/** SwiGLU: down(act(gate(x)) * up(x)). */
export class LlamaMLP extends Module {
  gateProj: Linear;
  upProj: Linear;
  downProj: Linear;
  private readonly act: Activation;

  constructor(config: LlamaConfig, init: Initializer) {
    super();
    const { hiddenSize, intermediateSize, mlpBias: bias } = config;
    this.gateProj = new Linear(hiddenSize, intermediateSize, { bias, init });
    this.upProj = new Linear(hiddenSize, intermediateSize, { bias, init });
    this.downProj = new Linear(intermediateSize, hiddenSize, { bias, init });
    this.act = getActivation(config.hiddenAct);
  }

  /** x [B, T, C] to [B, T, C]. */
  forward(x: tf.Tensor): tf.Tensor {
    const gated = tf.mul(this.act(this.gateProj.forward(x)), this.upProj.forward(x)); // [B, T, F]
    return this.downProj.forward(gated);
  }
}

/** x + attention(norm(x)), then x + mlp(norm(x)). */
export class LlamaDecoderLayer extends Module {
  selfAttn: LlamaAttention;
  mlp: LlamaMLP;
  inputLayernorm: RMSNorm;
  postAttentionLayernorm: RMSNorm;

  constructor(config: LlamaConfig, init: Initializer) {
    super();
    this.selfAttn = new LlamaAttention(config, init);
    this.mlp = new LlamaMLP(config, init);
    this.inputLayernorm = new RMSNorm(config.hiddenSize, config.rmsNormEps);
    this.postAttentionLayernorm = new RMSNorm(config.hiddenSize, config.rmsNormEps);
  }

  /** x [B, T, C] to [B, T, C], and the layer's keys and values. */
  forward(x: tf.Tensor, context: Context, past?: KeyValue): [tf.Tensor, KeyValue] {
    const [mixed, keyValue] = this.selfAttn.forward(this.inputLayernorm.forward(x), context, past);
    const h = tf.add(x, mixed); // [B, T, C]
    return [tf.add(h, this.mlp.forward(this.postAttentionLayernorm.forward(h))), keyValue];
  }
}

/** Embedding, layers, final norm. */
export class LlamaModel extends Module {
  embedTokens: Embedding;
  layers: LlamaDecoderLayer[];
  norm: RMSNorm;
  private readonly rotary: RotaryEmbedding;

  constructor(config: LlamaConfig, init: Initializer) {
    super();
    this.embedTokens = new Embedding(config.vocabSize, config.hiddenSize, { init });
    this.layers = Array.from(
      { length: config.numHiddenLayers },
      () => new LlamaDecoderLayer(config, init),
    );
    this.norm = new RMSNorm(config.hiddenSize, config.rmsNormEps);
    this.rotary = new RotaryEmbedding(
      config.headDim,
      config.maxPositionEmbeddings,
      config.ropeParameters,
    );
  }

  /** The states [B, T, C] before each layer and after the final norm, and all keys and values. */
  forward(inputIds: tf.Tensor2D | null, options: ForwardOptions): [tf.Tensor[], KeyValue[]] {
    const { cache } = options;
    const pastKeyValues = cache?.layers ?? options.pastKeyValues;
    const past = pastKeyValues?.[0]?.key.shape[2] ?? 0;
    let x: tf.Tensor = options.inputsEmbeds ?? this.embedTokens.forward(inputIds!); // [B, T, C]
    const length = x.shape[1]!;
    const positionIds = newPositions(options, past, length);
    const context = {
      rotary: this.rotary.tables(positionIds),
      bias: cache ? undefined : attentionBias(length, past + length, options.attentionMask),
      lengths: cache?.lengths,
    };
    const states: tf.Tensor[] = [];
    const keyValues: KeyValue[] = [];
    for (const [i, layer] of this.layers.entries()) {
      states.push(x);
      const [y, keyValue] = layer.forward(x, context, pastKeyValues?.[i]);
      keyValues.push(keyValue);
      x = y;
    }
    return [[...states, this.norm.forward(x)], keyValues];
  }
}

/** Llama with a head over the vocabulary, which is the embedding itself when tied. */
export class LlamaForCausalLM extends Module implements CausalLM {
  readonly config: LlamaConfig;
  readonly supportsStaticCache = true;
  model: LlamaModel;
  lmHead: Linear;

  /** Weights come from `init`, by default Gaussian with deviation `initializerRange`. */
  constructor(config: LlamaConfig, { init = normalInit(config.initializerRange) } = {}) {
    super();
    this.config = config;
    this.model = new LlamaModel(config, init);
    const { hiddenSize, vocabSize, tieWordEmbeddings } = config;
    const headInit = tieWordEmbeddings ? zerosInit : init; // zeros take no memory until they are written
    this.lmHead = new Linear(hiddenSize, vocabSize, { bias: false, init: headInit });
    if (tieWordEmbeddings) {
      this.lmHead.weight.dispose();
      this.lmHead.weight = this.model.embedTokens.weight;
    }
  }

  /** `inputIds` [B, T] int32 to logits [B, T, V]. */
  forward(inputIds: tf.Tensor2D | null, options: ForwardOptions = {}): CausalLMOutput {
    return tf.tidy(() => {
      const [hiddenStates, pastKeyValues] = this.model.forward(inputIds, options);
      return {
        logits: this.lmHead.forward(
          wantedStates(hiddenStates.at(-1)!, options.logitsAt),
        ) as tf.Tensor3D,
        ...(options.useCache ? { pastKeyValues } : {}),
        ...(options.outputHiddenStates ? { hiddenStates: hiddenStates as tf.Tensor3D[] } : {}),
      };
    });
  }
}
