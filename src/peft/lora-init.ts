// First values of A and B. Default: A uniform in +-1/sqrt(in), B zero, so that nothing changes at
// first; PiSSA (Meng et al. 2024): the largest singular parts of W, which then lose them; LoftQ
// (Li et al. 2023): those of W - quantized W, which takes W's place. Left out: OLoRA, EVA, CorDA.
import * as tf from '@tensorflow/tfjs';
import type { Embedding } from '../nn/embedding.ts';
import { dequantize4bit, quantize4bit } from '../quant/four-bit.ts';
import { dequantizeRows, quantizeRows } from '../quant/llm-int8.ts';
import { RandomState, randomNormal, randomUniform } from '../tensor/random.ts';
import { type Svd, svd } from '../tensor/svd.ts';
import { isQuantized, type LinearLayer, readWeight } from './base-layer.ts';
import type { LoraNumbers } from './lora.ts';

/** How A and B begin; false leaves both random, so that the update is not zero. */
export type InitLoraWeights = boolean | 'gaussian' | 'pissa' | `pissa_niter_${number}` | 'loftq';

/** Ways of PEFT's that leave the base alone, so that a file's numbers are all there is to know. */
const HARMLESS: unknown[] = ['eva', 'orthogonal'];

/** Bits of LoftQ's quantization, 4 (NF4, blocks of 64) or 8, and how often it is repeated. */
export interface LoftqConfig {
  loftqBits?: number;
  loftqIter?: number;
}

/** What an initialization goes by. */
export interface InitOptions {
  /** Undefined when a file will tell the numbers, so that none are drawn. */
  random: RandomState | undefined;
  init: InitLoraWeights;
  loftq: LoftqConfig;
}

/** A and B, and the weight that the layer is to have with them, where it is another. */
export type Factors = { a: tf.Tensor; b: tf.Tensor; weight?: tf.Tensor };

/** A [r, in] and B [out, r] of a linear layer. */
export function initLinear(
  layer: LinearLayer,
  { r, scaling }: LoraNumbers,
  { random, init, loftq }: InitOptions,
): Factors {
  const { inFeatures, outFeatures } = layer;
  if (init === 'loftq') return loftqInit(layer, r, loftq);
  if (typeof init === 'string' && init.startsWith('pissa')) {
    return pissaInit(layer, r, scaling, init);
  }
  const isKnown = init === true || init === false || init === 'gaussian';
  if (!random && (isKnown || HARMLESS.includes(init))) {
    return { a: tf.zeros([r, inFeatures]), b: tf.zeros([outFeatures, r]) };
  }
  if (!random || !isKnown) {
    throw new RangeError(
      `LoraConfig.initLoraWeights must be true, false, 'gaussian', 'pissa', 'pissa_niter_N' or 'loftq', got '${init}'`,
    );
  }
  const bound = inFeatures ** -0.5;
  const uniform = (shape: [number, number], limit: number) =>
    randomUniform<tf.Rank.R2>(shape, random, { low: -limit, high: limit });
  const a =
    init === 'gaussian'
      ? randomNormal<tf.Rank.R2>([r, inFeatures], random, { std: 1 / r })
      : uniform([r, inFeatures], bound);
  const b = init === false ? uniform([outFeatures, r], r ** -0.5) : tf.zeros([outFeatures, r]);
  return { a, b };
}

/** A [r, num] zero and B [dim, r] Gaussian, or both Gaussian for false. */
export function initEmbedding(
  { numEmbeddings, embeddingDim }: Embedding,
  { r }: LoraNumbers,
  { random, init }: InitOptions,
): Factors {
  if (init !== true && init !== false && init !== 'gaussian') {
    throw new RangeError(`initLoraWeights '${init}' is for linear layers, not for embeddings`);
  }
  const gaussian = (shape: [number, number]) =>
    random ? randomNormal<tf.Rank.R2>(shape, random) : tf.zeros(shape);
  const a = init === false ? gaussian([r, numEmbeddings]) : tf.zeros([r, numEmbeddings]);
  return { a, b: gaussian([embeddingDim, r]) };
}

/** B = U_r sqrt(S_r / s), A = sqrt(S_r / s) V_r^T, W <- W - s B A. */
function pissaInit(layer: LinearLayer, r: number, scaling: number, init: string): Factors {
  const [, rounds] = /^pissa(?:_niter_(\d+))?$/.exec(init) ?? [];
  if (rounds === undefined && init !== 'pissa') {
    throw new RangeError(`initLoraWeights must be 'pissa' or 'pissa_niter_N', got '${init}'`);
  }
  if (isQuantized(layer)) {
    throw new TypeError('PiSSA needs float weights; initialize first and quantize what is left');
  }
  return tf.tidy(() => {
    const weight = readWeight(layer) as tf.Tensor2D;
    const { a, b } = principal(weight, r, rounds === undefined ? undefined : Number(rounds));
    const rest = tf.sub(weight, tf.matMul(b, a));
    const share = scaling ** -0.5;
    return { a: tf.mul(a, share), b: tf.mul(b, share), weight: rest };
  });
}

/** Q <- quantized(W - B A) and A, B from W - Q, `loftqIter` times; s is taken for 1, as PEFT does. */
function loftqInit(layer: LinearLayer, r: number, loftq: LoftqConfig): Factors {
  const { loftqBits: bits = 4, loftqIter: iterations = 1 } = loftq;
  if (bits !== 4 && bits !== 8) throw new RangeError(`loftqBits must be 4 or 8, got ${bits}`);
  if (!(Number.isInteger(iterations) && iterations > 0)) {
    throw new RangeError(`loftqIter must be a positive integer, got ${iterations}`);
  }
  if (isQuantized(layer)) throw new TypeError('LoftQ quantizes the layer itself; it needs floats');
  return tf.tidy(() => {
    const weight = readWeight(layer) as tf.Tensor2D;
    let rest: tf.Tensor = weight;
    for (let i = 1; ; i++) {
      const quantized = roundTrip(rest, bits);
      const { a, b } = principal(tf.sub(weight, quantized), r);
      if (i === iterations) return { a, b, weight: quantized };
      rest = tf.sub(weight, tf.matMul(b, a));
    }
  });
}

/** The best B A of rank r, B = U_r sqrt(S_r), A = sqrt(S_r) V_r^T; nearly so with `rounds`. */
function principal(matrix: tf.Tensor2D, r: number, rounds?: number): Factors {
  const most = Math.min(...matrix.shape);
  if (r > most) {
    throw new RangeError(`r must be at most ${most} for a weight [${matrix.shape}], got ${r}`);
  }
  const { u, s, vh } = rounds === undefined ? svd(matrix) : svdLowRank(matrix, r, rounds);
  const root = tf.sqrt(tf.slice(s, [0], [r])); // [r]
  const a = tf.mul(tf.slice(vh, [0, 0], [r, -1]), tf.expandDims(root, 1)); // [r, in]
  return { a, b: tf.mul(tf.slice(u, [0, 0], [-1, r]), root) }; // [out, r]
}

/** Halko et al. 2009: the SVD of W within the range of W G for random G, after power iterations. */
function svdLowRank(matrix: tf.Tensor2D, r: number, rounds: number): Svd {
  const basis = (columns: tf.Tensor) => svd(columns as tf.Tensor2D).u; // orthonormal columns
  const start = randomNormal<tf.Rank.R2>([matrix.shape[1], r], new RandomState(0));
  let q = basis(tf.matMul(matrix, start)); // [out, r]
  for (let i = 0; i < rounds; i++) {
    q = basis(tf.matMul(matrix, basis(tf.matMul(matrix, q, true))));
  }
  const inside = svd(tf.matMul(q, matrix, true) as tf.Tensor2D); // of [r, in]
  return { u: tf.matMul(q, inside.u) as tf.Tensor2D, s: inside.s, vh: inside.vh };
}

function roundTrip(weight: tf.Tensor, bits: number): tf.Tensor {
  if (bits === 4) {
    const { packed, quantState } = quantize4bit(weight, { quantType: 'nf4' });
    return dequantize4bit(packed, quantState);
  }
  const rows = quantizeRows(weight.dataSync() as Float32Array, weight.shape[1]!);
  return tf.tensor(dequantizeRows(rows), weight.shape);
}
