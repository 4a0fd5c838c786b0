// How many directions an update really has: exp(entropy of its singular values' shares), Roy and
// Vetterli 2007, and the number of singular values that hold a share of its energy.
import * as tf from '@tensorflow/tfjs';
import type { Module } from '../nn/module.ts';
import { singularValues } from '../tensor/svd.ts';

/** exp(-sum p log p) with p = s / sum(s); 0 for a zero matrix. */
export function effectiveRank(matrix: tf.Tensor2D): number {
  const values = singularValues(matrix);
  const sum = values.reduce((total, value) => total + value, 0);
  if (sum === 0) return 0;
  const shares = values.map((value) => value / sum).filter((share) => share > 0);
  return Math.exp(-shares.reduce((total, share) => total + share * Math.log(share), 0));
}

/** The fewest singular values whose squares hold `share` of all squares. Default 0.9. */
export function energyRank(matrix: tf.Tensor2D, share = 0.9): number {
  const squares = singularValues(matrix)
    .map((value) => value ** 2)
    .sort((a, b) => b - a);
  const wanted = share * squares.reduce((total, value) => total + value, 0);
  let [held, count] = [0, 0];
  for (const value of squares) {
    if (held >= wanted) break;
    held += value;
    count++;
  }
  return count;
}

/** The numbers of all matrices of a model by name, to measure an update against later. */
export function matricesOf(model: Module): Map<string, Float32Array> {
  return new Map(
    [...model.namedParameters()]
      .filter(([, { rank }]) => rank === 2)
      .map(([name, own]) => [name, (own.dataSync() as Float32Array).slice()]),
  );
}

/** What a matrix changed by, its effective rank, its norm, and both relative to the matrix. */
export interface UpdateRank {
  name: string;
  effectiveRank: number;
  energyRank: number;
  /** Frobenius norm of the change over that of the matrix before. */
  relativeNorm: number;
}

/** The change of each matrix that `pattern` matches since `before`. */
export function updateRanks(
  model: Module,
  before: ReadonlyMap<string, Float32Array>,
  pattern = /proj|c_attn|c_fc/,
): UpdateRank[] {
  return [...model.namedParameters()].flatMap(([name, own]) => {
    const old = before.get(name);
    if (!old || !pattern.test(name) || own.rank !== 2) return [];
    const change = tf.tidy(() => tf.sub(own, tf.tensor2d(old, own.shape as [number, number])));
    const norm = tf.tidy(() => tf.norm(change).dataSync()[0]!);
    const size = Math.hypot(...old);
    const matrix = change as tf.Tensor2D;
    const rank = {
      name,
      effectiveRank: effectiveRank(matrix),
      energyRank: energyRank(matrix),
      relativeNorm: norm / size,
    };
    change.dispose();
    return [rank];
  });
}
