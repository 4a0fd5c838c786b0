// How new parameters are filled: functions from a shape to a tensor.
import * as tf from '@tensorflow/tfjs';
import { placeTensor, placeZeros } from '../jit/place.ts';
import { drawn, RandomState } from '../tensor/random.ts';

/** Makes the first value of a parameter of this shape. */
export type Initializer = (shape: number[]) => tf.Tensor;

/** All zeros: for biases, and for weights that a file fills next. */
export const zerosInit: Initializer = placeZeros;

/** All ones: for the scales of norms. */
export const onesInit: Initializer = (shape) => filled(shape, () => 1);

/** Gaussian with mean 0 and deviation `std` (default 0.02, transformers' initializer_range). */
export function normalInit(std = 0.02, random = new RandomState(0)): Initializer {
  return (shape) => filled(shape, () => random.normal(0, std));
}

const filled = (shape: number[], next: () => number) =>
  placeTensor(drawn(tf.util.sizeFromShape(shape), next), shape);
