// Calibration: what enters each linear layer of a model while some function runs it. GPTQ, AWQ, SmoothQuant
// and static activation grids all begin with this.
import type * as tf from '@tensorflow/tfjs';
import { Linear } from '../nn/linear.ts';
import type { Module } from '../nn/module.ts';

/** Calls `see` with the inputs [..., in] of each linear layer, while `run` runs the model eagerly. */
export function watchInputs<T>(
  model: Module,
  see: (path: string, x: tf.Tensor) => void,
  run: () => T,
): T {
  const layers = linearLayers(model);
  for (const [path, layer] of layers) {
    const forward = layer.forward.bind(layer);
    layer.forward = (x) => {
      see(path, x);
      return forward(x);
    };
  }
  try {
    return run();
  } finally {
    for (const [, layer] of layers) Reflect.deleteProperty(layer, 'forward');
  }
}

/** The largest size of each input of each linear layer by path, [in]. */
export function inputMaxima(model: Module, run: () => void): Map<string, Float32Array> {
  const maxima = new Map<string, Float32Array>();
  const see = (path: string, x: tf.Tensor) => {
    const columns = x.shape.at(-1)!;
    const own = maxima.get(path) ?? new Float32Array(columns);
    maxima.set(path, own);
    x.dataSync().forEach((value, i) => {
      if (value - value !== 0) {
        throw new RangeError(`Inputs of '${path}' must be finite, got ${value}`);
      }
      own[i % columns] = Math.max(own[i % columns]!, Math.abs(value));
    });
  };
  watchInputs(model, see, run);
  return maxima;
}

/** The linear layers of a model but those that `skip` names, by path. */
export function linearLayers(model: Module, skip: readonly string[] = []): [string, Linear][] {
  return [...model.namedModules()].filter(
    (entry): entry is [string, Linear] =>
      entry[1] instanceof Linear &&
      !skip.some((name) => entry[0] === name || entry[0].split('.').includes(name)),
  );
}

/** Frees weights that no module of the model has any more; a tied one stays where it is still used. */
export function disposeUnused(model: Module, weights: readonly tf.Tensor[]): void {
  const used = new Set<tf.Tensor>(model.parameters());
  for (const weight of weights) if (!used.has(weight)) weight.dispose();
}
