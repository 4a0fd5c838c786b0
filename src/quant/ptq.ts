// Post-training quantization of a model: weights to integers at once, activations to fixed grids that
// observers choose while some calibration data runs through the model (static quantization).
// Left out: grids of layer outputs, of norms and of attention products, which stay float32.
import type { Module } from '../nn/module.ts';
import { disposeUnused, linearLayers, watchInputs } from './calibration.ts';
import { type IntegerOptions, quantizeInteger } from './integer.ts';
import { type ActivationFormat, IntegerLinear } from './integer-linear.ts';
import { Observer, type ObserverOptions } from './observer.ts';

/** What becomes of a model's linear layers. */
export interface PtqConfig {
  /** Default: 8 bits, absmax, a scale a row. */
  weight?: IntegerOptions;
  /** How the inputs of each layer are watched; without it they stay float32. */
  activation?: ObserverOptions;
  /** Names of layers that stay as they are. Default `['lm_head']`. */
  skip?: readonly string[];
  /** Runs the model eagerly on calibration data; needed with `activation`. */
  calibrate?: () => void;
}

/** Puts IntegerLinear in the place of the linear layers, disposes their weights, returns the model. */
export function quantizePtq<M extends Module>(model: M, config: PtqConfig = {}): M {
  const { weight = {}, activation, skip = ['lm_head'], calibrate } = config;
  if (activation && !calibrate) {
    throw new TypeError('quantizePtq needs `calibrate` to choose grids for activations, got none');
  }
  const layers = linearLayers(model, skip);
  if (layers.length === 0) throw new RangeError('quantizePtq found no linear layer to quantize');
  const grids = activation && gridsOf(model, activation, layers, calibrate!);
  for (const [path, layer] of layers) {
    const values = layer.weight.dataSync() as Float32Array;
    const codes = quantizeInteger(values, layer.weight.shape, weight);
    model.setSubmodule(path, new IntegerLinear(codes, layer.bias, grids?.get(path)));
  }
  disposeUnused(
    model,
    layers.map(([, { weight: old }]) => old),
  );
  return model;
}

/** The grid of each layer's inputs; throws for a layer that saw none. */
function gridsOf(
  model: Module,
  options: ObserverOptions,
  layers: readonly (readonly [string, Module])[],
  calibrate: () => void,
): Map<string, ActivationFormat> {
  const observers = new Map(layers.map(([path]) => [path, new Observer(options)]));
  watchInputs(model, (path, x) => observers.get(path)?.observe(x), calibrate);
  const grids = new Map<string, ActivationFormat>();
  for (const [path, observer] of observers) {
    if (observer.count === 0)
      throw new RangeError(`Calibration must reach '${path}', it saw nothing`);
    grids.set(path, observer.grid());
  }
  return grids;
}
