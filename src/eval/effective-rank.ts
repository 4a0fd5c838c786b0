// How many directions an update really has: exp(entropy of its singular values' shares), Roy and
// Vetterli 2007, and the number of singular values that hold a share of its energy.
import * as tf from '@tensorflow/tfjs';
import type { Module } from '../nn/module.ts';
import { symmetricEigenvalues } from '../tensor/eigenvalues.ts';

/** exp(-sum p log p) with p = s / sum(s); 0 for a zero matrix. */
export function effectiveRank(matrix: tf.Tensor2D): number {
  return rankOf(spectrum(matrix));
}

/** The fewest singular values whose squares hold `share` of all squares. Default 0.9. */
export function energyRank(matrix: tf.Tensor2D, share = 0.9): number {
  return heldBy(spectrum(matrix), share);
}

/**
 * Singular values of [m, n], largest first, as roots of the eigenvalues of the smaller Gram matrix:
 * exact to 1e-8 of the largest, finer than the float32 entries are.
 */
function spectrum(matrix: tf.Tensor2D): number[] {
  const [m, n] = matrix.shape;
  const isWide = m < n;
  const values = matrix.dataSync();
  const [long, short] = isWide ? [n, m] : [m, n];
  const column = (j: number) =>
    Float64Array.from({ length: long }, (_, i) => values[isWide ? j * n + i : i * n + j]!);
  const columns = Array.from({ length: short }, (_, j) => column(j));
  const gram = columns.map(() => new Float64Array(short));
  for (const [i, a] of columns.entries()) {
    for (const [j, b] of columns.slice(0, i + 1).entries()) {
      let sum = 0;
      for (let k = 0; k < long; k++) sum += a[k]! * b[k]!;
      gram[i]![j] = sum;
      gram[j]![i] = sum;
    }
  }
  return symmetricEigenvalues(gram).map((value) => Math.sqrt(Math.max(0, value)));
}

function rankOf(values: readonly number[]): number {
  const sum = values.reduce((total, value) => total + value, 0);
  if (sum === 0) return 0;
  const shares = values.map((value) => value / sum).filter((share) => share > 0);
  return Math.exp(-shares.reduce((total, share) => total + share * Math.log(share), 0));
}

function heldBy(values: readonly number[], share: number): number {
  const squares = values.map((value) => value ** 2);
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
      .map(([name, own]) => [plainName(name), (own.dataSync() as Float32Array).slice()]),
  );
}

/** A parameter's name in the base model, also where the model is adapted. */
function plainName(name: string): string {
  return name.replace(/^base_model\.model\./, '').replace('.base_layer.', '.');
}

/** What a matrix changed by, its effective rank, its norm, and both relative to the matrix. */
export interface UpdateRank {
  name: string;
  effectiveRank: number;
  energyRank: number;
  /** Frobenius norm of the change over that of the matrix before. */
  relativeNorm: number;
}

/** The change of each matrix that `pattern` matches since `before`; adapters count once merged. */
export function updateRanks(
  model: Module,
  before: ReadonlyMap<string, Float32Array>,
  pattern = /proj|c_attn|c_fc/,
): UpdateRank[] {
  return [...model.namedParameters()].flatMap(([path, own]) => {
    const name = plainName(path);
    const old = before.get(name);
    if (!old || !pattern.test(name) || own.rank !== 2) return [];
    const change = tf.tidy(() => tf.sub(own, tf.tensor2d(old, own.shape as [number, number])));
    const norm = tf.tidy(() => tf.norm(change).dataSync()[0]!);
    const size = Math.sqrt(old.reduce((sum, value) => sum + value ** 2, 0));
    const values = spectrum(change as tf.Tensor2D);
    const rank = {
      name,
      effectiveRank: rankOf(values),
      energyRank: heldBy(values, 0.9),
      relativeNorm: norm / size,
    };
    change.dispose();
    return [rank];
  });
}
