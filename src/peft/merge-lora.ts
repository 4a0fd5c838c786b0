// Several LoRA updates s_i B_i A_i of one layer as a single B A, by PEFT's add_weighted_adapter:
// factor by factor (linear, ties, dare_*, magnitude_prune), side by side (cat), or as a product cut
// to a rank again (svd and *_svd).
import * as tf from '@tensorflow/tfjs';
import { type Svd, svd } from '../tensor/svd.ts';
import { type CombineMethod, type CombineOptions, combineTasks } from './merge-tasks.ts';

/** PEFT's names of the ways to merge. */
export const COMBINATION_TYPES = [
  'linear',
  'cat',
  'svd',
  'ties',
  'ties_svd',
  'dare_linear',
  'dare_linear_svd',
  'dare_ties',
  'dare_ties_svd',
  'magnitude_prune',
  'magnitude_prune_svd',
] as const;

/** One of PEFT's ways to merge adapters. */
export type CombinationType = (typeof COMBINATION_TYPES)[number];

/** The update `scaling * b a` of one layer: `a` [r, in], `b` [out, r]. */
export interface LoraFactors {
  a: tf.Tensor2D;
  b: tf.Tensor2D;
  scaling: number;
}

/** Options of a merge; `svd*` are for `svd` and `*_svd`. */
export interface MergeLoraOptions extends CombineOptions {
  /** Rank of the result of an svd; default the largest rank that was merged. */
  svdRank?: number;
  /** Quantile at which the entries of an svd's factors are cut off; default no cut. */
  svdClamp?: number;
}

/**
 * One update for sum_i w_i s_i B_i A_i; the result's scaling is 1. `cat` and an `svd` of enough rank
 * are exact, the others are not: factor by factor, B_1 A_2 and B_2 A_1 come in as well.
 */
export function mergeLora(
  combinationType: CombinationType,
  loras: LoraFactors[],
  weights: number[],
  options: MergeLoraOptions = {},
): LoraFactors {
  const type = loras.length === 1 ? 'linear' : checkCombinationType(combinationType);
  if (loras.length === 0 || loras.length !== weights.length) {
    throw new RangeError(
      `Merging needs as many weights as adapters, got ${weights.length} and ${loras.length}`,
    );
  }
  if (type === 'cat') return concatenated(loras, weights);
  if (type === 'svd') return decomposed('linear', loras, weights, options);
  if (type.endsWith('_svd')) {
    return decomposed(type.slice(0, -4) as CombineMethod, loras, weights, options);
  }
  checkMergedRanks(
    type,
    loras.map(({ a }) => a.shape[0]),
  );
  return factorwise(type as CombineMethod, loras, weights, options);
}

/** Throws unless `type` is one of `COMBINATION_TYPES`. */
export function checkCombinationType(type: string): CombinationType {
  const found = COMBINATION_TYPES.find((name) => name === type);
  if (found) return found;
  throw new RangeError(
    `combinationType must be one of ${COMBINATION_TYPES.join(', ')}, got '${type}'`,
  );
}

/** Throws if ranks differ with a method that merges A and B apart. */
export function checkMergedRanks(type: CombinationType, ranks: number[]): void {
  if (type === 'cat' || type.endsWith('svd') || new Set(ranks).size <= 1) return;
  throw new RangeError(
    `combinationType '${type}' needs adapters of one rank, got ${ranks.join(' and ')}; ` +
      "'cat' and 'svd' take different ranks",
  );
}

/** A and B each by sqrt(|w s|), the sign of w s on A alone. */
function factorwise(
  method: CombineMethod,
  loras: LoraFactors[],
  weights: number[],
  options: CombineOptions,
): LoraFactors {
  const shares = loras.map(({ scaling }, i) => weights[i]! * scaling);
  const ofB = shares.map((share) => Math.sqrt(Math.abs(share)));
  const ofA = ofB.map((root, i) => (shares[i]! < 0 ? -root : root));
  const combine = (factors: tf.Tensor2D[], by: number[]) =>
    combineTasks(method, factors, by, options) as tf.Tensor2D;
  const a = combine(
    loras.map((lora) => lora.a),
    ofA,
  );
  const b = combine(
    loras.map((lora) => lora.b),
    ofB,
  );
  return { a, b, scaling: 1 };
}

/** A = [w_1 s_1 A_1; w_2 s_2 A_2; ...] [sum r, in], B = [B_1, B_2, ...] [out, sum r]. */
function concatenated(loras: LoraFactors[], weights: number[]): LoraFactors {
  return tf.tidy(() => {
    const scaled = loras.map(({ a, scaling }, i) => tf.mul(a, weights[i]! * scaling));
    const a = tf.concat(scaled, 0) as tf.Tensor2D;
    const b = tf.concat2d(
      loras.map((lora) => lora.b),
      1,
    );
    return { a, b, scaling: 1 };
  });
}

/** The nearest B A of the wanted rank to the combined products: B = U S, A = Vh. */
function decomposed(
  method: CombineMethod,
  loras: LoraFactors[],
  weights: number[],
  options: MergeLoraOptions,
): LoraFactors {
  const { svdRank = Math.max(...loras.map(({ a }) => a.shape[0])), svdClamp } = options;
  const most = Math.min(loras[0]!.b.shape[0], loras[0]!.a.shape[1]);
  if (!Number.isInteger(svdRank) || svdRank < 1 || svdRank > most) {
    throw new RangeError(`svdRank must be an integer from 1 to ${most}, got ${svdRank}`);
  }
  return tf.tidy(() => {
    const ranks = loras.reduce((sum, { a }) => sum + a.shape[0], 0);
    const isSum = method === 'linear' && svdRank <= ranks && ranks < most;
    const { u, s, vh } = isSum
      ? svdOfProduct(concatenated(loras, weights))
      : svd(combineTasks(method, loras.map(product), weights, options) as tf.Tensor2D);
    const b = tf.mul(u, s).slice([0, 0], [-1, svdRank]) as tf.Tensor2D; // [out, r]
    const a = vh.slice([0, 0], [svdRank, -1]); // [r, in]
    if (svdClamp === undefined) return { a, b, scaling: 1 };
    const limit = quantile([...b.dataSync(), ...a.dataSync()], svdClamp);
    const cut = (x: tf.Tensor2D) => tf.minimum(tf.maximum(x, -limit), limit) as tf.Tensor2D;
    return { a: cut(a), b: cut(b), scaling: 1 };
  });
}

const product = ({ a, b, scaling }: LoraFactors) => tf.mul(tf.matMul(b, a), scaling); // [out, in]

/** The svd of B A through those of B and of what is left, a few columns each: the same in far less time. */
function svdOfProduct({ a, b }: LoraFactors): Svd {
  const left = svd(b); // U [out, R], S V [R, R]
  const rest = tf.matMul(tf.mul(tf.expandDims(left.s, 1), left.vh), a) as tf.Tensor2D; // [R, in]
  const { u, s, vh } = svd(rest);
  return { u: tf.matMul(left.u, u), s, vh };
}

/** The value below which a share `q` of the numbers lies, between two of them by proportion. */
function quantile(numbers: number[], q: number): number {
  if (!(q >= 0 && q <= 1)) throw new RangeError(`svdClamp must be from 0 to 1, got ${q}`);
  const sorted = Float64Array.from(numbers).sort();
  const at = q * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(at)]!, sorted[Math.ceil(at)]!];
  return low + (high - low) * (at - Math.floor(at));
}
