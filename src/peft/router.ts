// A router over LoRA experts: a classifier of hidden states whose probabilities say how much each
// expert counts, for each token or for a whole sequence. Top-1 weighs the winner by its probability
// (Switch Transformer, Fedus et al. 2022), top-k shares 1 among the winners (Mixtral), soft uses all.
// Left out: expert capacity, noise on the logits.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { normalInit } from '../nn/init.ts';
import { Linear } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import { RandomState } from '../tensor/random.ts';
import { fromTensor, loadFile, saveFile, toTensor } from '../tensor/safetensors.ts';

/** How a router is made. */
export interface RouterConfig {
  /** Names of the adapters that it chooses among. */
  experts: readonly string[];
  /** Width C of the hidden states that it reads. */
  hiddenSize: number;
  /** How many experts work at once; undefined lets all of them, weighed ("soft"). */
  topK?: number;
  /** One choice for each token, or one for the whole sequence. Default 'sequence'. */
  level?: 'sequence' | 'token';
  /** Which hidden states it reads: 0 are the embeddings, -1 (default) what leaves the final norm. */
  layer?: number;
  /** Seed of its first weights. Default 0. */
  seed?: number;
}

/** What a router says; S is T, or 1 for whole sequences. All are [B, S, E]. */
export type Routing = {
  logits: tf.Tensor3D;
  /** softmax(logits). */
  probabilities: tf.Tensor3D;
  /** 1 for experts that work, else 0. */
  selected: tf.Tensor3D;
  /** How much each expert counts. */
  weights: tf.Tensor3D;
};

/** logits = W x / rms(x) + b over the experts; `classifier` W [E, C]. */
export class Router extends Module {
  readonly config: Required<Omit<RouterConfig, 'topK'>> & { topK: number | undefined };
  classifier: Linear;

  /** Throws a RangeError for no experts, one named twice, or a topK that is none of 1..E. */
  constructor(config: RouterConfig) {
    super();
    const { experts, topK, level = 'sequence', layer = -1, seed = 0, hiddenSize } = config;
    if (experts.length === 0 || new Set(experts).size !== experts.length) {
      throw new RangeError(`A router needs experts with different names, got [${experts}]`);
    }
    checkTopK(topK, experts.length);
    if (level !== 'sequence' && level !== 'token') {
      throw new RangeError(`level must be 'sequence' or 'token', got ${JSON.stringify(level)}`);
    }
    this.config = { experts, hiddenSize, topK, level, layer, seed };
    const init = normalInit(0.02, new RandomState(seed));
    this.classifier = new Linear(hiddenSize, experts.length, { init });
  }

  /**
   * States [B, T, C] to a choice. For sequences, the mean of the states where `mask` [B, T] is 1 is
   * read: in training that must leave out the answer, which is not there yet when it matters.
   */
  forward(states: tf.Tensor3D, mask?: tf.Tensor2D): Routing {
    const { level, topK } = this.config;
    const seen = level === 'token' ? states : pooled(states, mask); // [B, S, C]
    const square = tf.mean(tf.square(seen), -1, true); // [B, S, 1]
    const scaled = tf.mul(seen, tf.rsqrt(tf.add(square, 1e-6)));
    return choose(this.classifier.forward(scaled) as tf.Tensor3D, topK);
  }

  /** Writes router_config.json and router.safetensors. */
  save(folder: string): void {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, CONFIG), `${JSON.stringify(this.config, null, 2)}\n`);
    const tensors = [...this.namedParameters()].map(
      ([name, tensor]) => [name, fromTensor(tensor)] as const,
    );
    saveFile(new Map(tensors), join(folder, WEIGHTS));
  }

  /** Reads what `save` wrote. */
  static load(folder: string): Router {
    const config = JSON.parse(readFileSync(join(folder, CONFIG), 'utf8')) as RouterConfig;
    const router = new Router(config);
    const stored = loadFile(join(folder, WEIGHTS));
    for (const [name, parameter] of router.namedParameters()) {
      const raw = stored.get(name);
      if (String(raw?.shape) !== String(parameter.shape)) {
        throw new Error(
          `router.safetensors must have '${name}' of shape [${parameter.shape}], got [${raw?.shape}]`,
        );
      }
      tf.tidy(() => parameter.assign(toTensor(raw!)));
    }
    return router;
  }
}

const CONFIG = 'router_config.json';
const WEIGHTS = 'router.safetensors';

/** The choice that logits [B, S, E] make; `topK` undefined is soft. */
export function choose(logits: tf.Tensor3D, topK?: number): Routing {
  const experts = logits.shape[2];
  checkTopK(topK, experts);
  const probabilities = tf.softmax(logits) as tf.Tensor3D; // [B, S, E]
  if (topK === undefined) {
    const selected = tf.onesLike(probabilities);
    return { logits, probabilities, selected, weights: probabilities };
  }
  const selected = topKMask(logits, topK);
  const kept = tf.mul(probabilities, selected) as tf.Tensor3D;
  const weights = topK === 1 ? kept : (tf.div(kept, tf.sum(kept, -1, true)) as tf.Tensor3D);
  return { logits, probabilities, selected, weights };
}

/**
 * E sum_e f_e P_e, with f_e the share of rows that expert e works on and P_e its mean probability:
 * 1 for even routing with topK 1 (Switch Transformer's formula), k for top-k as transformers has it.
 * `mask` [B, S] leaves out padding.
 */
export function loadBalancingLoss(
  { probabilities, selected }: Pick<Routing, 'probabilities' | 'selected'>,
  mask?: tf.Tensor2D,
): tf.Scalar {
  const [batch, steps, experts] = probabilities.shape;
  const counted = mask
    ? tf.reshape(tf.cast(mask, 'float32'), [batch, steps, 1])
    : tf.ones([batch, steps, 1]);
  const rows = tf.sum(counted);
  const share = tf.div(tf.sum(tf.mul(selected, counted), [0, 1]), rows); // [E]
  const probability = tf.div(tf.sum(tf.mul(probabilities, counted), [0, 1]), rows); // [E]
  return tf.mul(tf.sum(tf.mul(share, probability)), experts) as tf.Scalar;
}

/** 1 at the k largest of the last axis; of equals the first. */
function topKMask(scores: tf.Tensor3D, k: number): tf.Tensor3D {
  let left: tf.Tensor = scores;
  let mask: tf.Tensor = tf.zerosLike(scores);
  for (let i = 0; i < k; i++) {
    const winner = tf.cast(tf.oneHot(tf.argMax(left, -1), scores.shape[2]), 'float32');
    mask = tf.add(mask, winner);
    left = tf.sub(left, tf.mul(winner, 1e30));
  }
  return mask as tf.Tensor3D;
}

/** The mean over the positions that count, [B, 1, C]. */
function pooled(states: tf.Tensor3D, mask?: tf.Tensor2D): tf.Tensor3D {
  if (!mask) return tf.mean(states, 1, true);
  const counted = tf.expandDims(tf.cast(mask, 'float32'), 2); // [B, T, 1]
  const sum = tf.sum(tf.mul(states, counted), 1, true);
  return tf.div(sum, tf.maximum(tf.sum(counted, 1, true), 1)) as tf.Tensor3D;
}

function checkTopK(topK: number | undefined, experts: number): void {
  if (topK === undefined || (Number.isInteger(topK) && topK >= 1 && topK <= experts)) return;
  throw new RangeError(`topK must be an integer from 1 to ${experts}, got ${topK}`);
}
