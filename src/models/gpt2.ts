// GPT-2: learned positions, LayerNorm before each part, Conv1D layers (Radford et al. 2019).
// Module names and numbers are those of transformers' GPT2LMHeadModel. Left out: cross-attention,
// token types, dropout, reorder_and_upcast_attn (no difference in float32).
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
import { Conv1D, Linear } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import { LayerNorm } from '../nn/norm.ts';
import {
  type CausalLM,
  type CausalLMOutput,
  type ForwardOptions,
  newPositions,
  wantedStates,
} from './causal-lm.ts';
import type { BaseConfig } from './config.ts';

/** Shape of a GPT-2 model; the fields of its config.json. */
export interface GPT2Config extends BaseConfig {
  modelType: 'gpt2';
  nEmbd: number;
  nLayer: number;
  nHead: number;
  nPositions: number;
  /** Width of the feed-forward part; 4 nEmbd when null. */
  nInner: number | null;
  activationFunction: string;
  layerNormEpsilon: number;
  scaleAttnWeights: boolean;
  scaleAttnByInverseLayerIdx: boolean;
}

/** What blocks share in one pass: what hides positions, or how much of a fixed cache is filled. */
interface Context {
  bias: tf.Tensor | undefined;
  lengths: tf.Tensor1D | undefined;
}

/** softmax(q k^T / sqrt(D)) v with q, k and v made by one layer. */
export class GPT2Attention extends Module {
  cAttn: Conv1D;
  cProj: Conv1D;
  private readonly heads: number;
  private readonly scale: number;

  constructor(config: GPT2Config, layer: number, init: Initializer) {
    super();
    this.heads = config.nHead;
    this.scale = config.scaleAttnWeights ? (config.nEmbd / config.nHead) ** -0.5 : 1;
    if (config.scaleAttnByInverseLayerIdx) this.scale /= layer + 1;
    this.cAttn = new Conv1D(config.nEmbd, 3 * config.nEmbd, { init });
    this.cProj = new Conv1D(config.nEmbd, config.nEmbd, { init });
  }

  /** x [B, T, C] to [B, T, C], and the keys and values with those of `past` before them. */
  forward(x: tf.Tensor, { bias, lengths }: Context, past?: KeyValue): [tf.Tensor, KeyValue] {
    const parts = tf.split(this.cAttn.forward(x), 3, 2); // 3 x [B, T, C]
    const [q, key, value] = parts.map((part) => splitHeads(part, this.heads)); // [B, H, T, D]
    const now = { key: key!, value: value! };
    if (lengths) {
      const [mixed, cache] = attendCached(q!, now, past!, lengths, this.scale); // [B, T, C]
      return [this.cProj.forward(mixed), cache];
    }
    const keyValue = appendKeyValue(past, now);
    const mixed = attend(q!, keyValue, { scale: this.scale, bias }); // [B, T, C]
    return [this.cProj.forward(mixed), keyValue];
  }
}

/** proj(act(fc(x))). */
export class GPT2MLP extends Module {
  cFc: Conv1D;
  cProj: Conv1D;
  private readonly act: Activation;

  constructor(config: GPT2Config, init: Initializer) {
    super();
    const inner = config.nInner ?? 4 * config.nEmbd;
    this.cFc = new Conv1D(config.nEmbd, inner, { init });
    this.cProj = new Conv1D(inner, config.nEmbd, { init });
    this.act = getActivation(config.activationFunction);
  }

  /** x [B, T, C] to [B, T, C]. */
  forward(x: tf.Tensor): tf.Tensor {
    return this.cProj.forward(this.act(this.cFc.forward(x)));
  }
}

/** x + attention(norm(x)), then x + mlp(norm(x)). */
export class GPT2Block extends Module {
  ln1: LayerNorm;
  attn: GPT2Attention;
  ln2: LayerNorm;
  mlp: GPT2MLP;

  constructor(config: GPT2Config, layer: number, init: Initializer) {
    super();
    this.ln1 = new LayerNorm(config.nEmbd, config.layerNormEpsilon);
    this.attn = new GPT2Attention(config, layer, init);
    this.ln2 = new LayerNorm(config.nEmbd, config.layerNormEpsilon);
    this.mlp = new GPT2MLP(config, init);
  }

  /** x [B, T, C] to [B, T, C], and the layer's keys and values. */
  forward(x: tf.Tensor, context: Context, past?: KeyValue): [tf.Tensor, KeyValue] {
    const [mixed, keyValue] = this.attn.forward(this.ln1.forward(x), context, past);
    const h = tf.add(x, mixed); // [B, T, C]
    return [tf.add(h, this.mlp.forward(this.ln2.forward(h))), keyValue];
  }
}

/** Token and position embeddings, blocks, final norm. */
export class GPT2Model extends Module {
  wte: Embedding;
  wpe: Embedding;
  h: GPT2Block[];
  lnF: LayerNorm;

  constructor(config: GPT2Config, init: Initializer) {
    super();
    this.wte = new Embedding(config.vocabSize, config.nEmbd, { init });
    this.wpe = new Embedding(config.nPositions, config.nEmbd, { init });
    this.h = Array.from({ length: config.nLayer }, (_, i) => new GPT2Block(config, i, init));
    this.lnF = new LayerNorm(config.nEmbd, config.layerNormEpsilon);
  }

  /** The states [B, T, C] before each block and after the final norm, and all keys and values. */
  forward(inputIds: tf.Tensor2D | null, options: ForwardOptions): [tf.Tensor[], KeyValue[]] {
    const { cache } = options;
    const pastKeyValues = cache?.layers ?? options.pastKeyValues;
    const past = pastKeyValues?.[0]?.key.shape[2] ?? 0;
    const tokens: tf.Tensor = options.inputsEmbeds ?? this.wte.forward(inputIds!); // [B, T, C]
    const length = tokens.shape[1]!;
    const positionIds = newPositions(options, past, length);
    const context = {
      bias: cache ? undefined : attentionBias(length, past + length, options.attentionMask),
      lengths: cache?.lengths,
    };
    let x = tf.add(tokens, this.wpe.forward(positionIds)); // [B, T, C]
    const states: tf.Tensor[] = [];
    const keyValues: KeyValue[] = [];
    for (const [i, block] of this.h.entries()) {
      states.push(x);
      const [y, keyValue] = block.forward(x, context, pastKeyValues?.[i]);
      keyValues.push(keyValue);
      x = y;
    }
    return [[...states, this.lnF.forward(x)], keyValues];
  }
}

/** GPT-2 with a head over the vocabulary, which is the token embedding itself when tied. */
export class GPT2LMHeadModel extends Module implements CausalLM {
  readonly config: GPT2Config;
  readonly supportsStaticCache = true;
  transformer: GPT2Model;
  lmHead: Linear;

  /** Weights come from `init`, by default Gaussian with deviation `initializerRange`. */
  constructor(config: GPT2Config, { init = normalInit(config.initializerRange) } = {}) {
    super();
    this.config = config;
    this.transformer = new GPT2Model(config, init);
    const headInit = config.tieWordEmbeddings ? zerosInit : init; // zeros take no memory until they are written
    this.lmHead = new Linear(config.nEmbd, config.vocabSize, { bias: false, init: headInit });
    if (config.tieWordEmbeddings) {
      this.lmHead.weight.dispose();
      this.lmHead.weight = this.transformer.wte.weight;
    }
  }

  /** `inputIds` [B, T] int32 to logits [B, T, V]; at most `nPositions` positions. */
  forward(inputIds: tf.Tensor2D | null, options: ForwardOptions = {}): CausalLMOutput {
    return tf.tidy(() => {
      const [hiddenStates, pastKeyValues] = this.transformer.forward(inputIds, options);
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
