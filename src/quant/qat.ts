// Quantization-aware training (Jacob et al. 2017): the forward pass computes with rounded weights and
// activations, the gradient goes straight through to the float32 weights, which move until rounding
// does least harm. torch.ao's steps: prepareQat, train, convertQat. With LoRA: peft/qat-lora.ts.
import type * as tf from '@tensorflow/tfjs';
import { type Linear, linear } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import { disposeUnused, linearLayers } from './calibration.ts';
import { type FourBitFormat, fakeQuantize } from './fake-quantize.ts';
import { type IntegerOptions, quantizeInteger } from './integer.ts';
import { type ActivationFormat, IntegerLinear } from './integer-linear.ts';
import { Linear4bit } from './linear-4bit.ts';

/** What weights and activations are rounded to in training. */
export interface QatConfig {
  /** Default: 8 bits, absmax, a scale a row. */
  weight?: IntegerOptions | FourBitFormat;
  /** The inputs of each layer; without it they are not rounded. */
  activation?: ActivationFormat;
  /** Names of layers that stay as they are. Default `['lm_head']`. */
  skip?: readonly string[];
}

/** y = Q(x) Q(W)^T + b, with W [out, in] and b trained in float32. */
export class FakeQuantizedLinear extends Module {
  readonly inFeatures: number;
  readonly outFeatures: number;
  weight: tf.Tensor;
  bias: tf.Tensor | undefined;
  readonly config: Pick<QatConfig, 'activation'> & Required<Pick<QatConfig, 'weight'>>;

  /** Takes over the layer's weight and bias. */
  constructor({ weight, bias, inFeatures, outFeatures }: Linear, config: QatConfig = {}) {
    super();
    this.inFeatures = inFeatures;
    this.outFeatures = outFeatures;
    this.weight = weight;
    this.bias = bias;
    const { activation, weight: format = {} } = config;
    this.config = { weight: format, ...(activation && { activation }) };
  }

  /** x [..., in] to [..., out]. */
  forward(x: tf.Tensor): tf.Tensor {
    const { activation, weight } = this.config;
    const input = activation ? fakeQuantize(x, activation) : x;
    return linear(input, fakeQuantize(this.weight, weight), this.bias);
  }
}

/** Makes the linear layers of a model train as they will be rounded; returns the model. */
export function prepareQat<M extends Module>(model: M, config: QatConfig = {}): M {
  const { weight, skip = ['lm_head'] } = config;
  if (weight && 'quantType' in weight && config.activation) {
    throw new TypeError(
      'prepareQat rounds activations beside integer weights only, got 4-bit levels',
    );
  }
  const layers = linearLayers(model, skip);
  if (layers.length === 0) throw new RangeError('prepareQat found no linear layer to prepare');
  for (const [path, layer] of layers) {
    model.setSubmodule(path, new FakeQuantizedLinear(layer, config));
  }
  return model;
}

/** Rounds for good what `prepareQat` prepared: the model computes what it computed in training. */
export function convertQat<M extends Module>(model: M): M {
  const layers = [...model.namedModules()].filter(
    (entry): entry is [string, FakeQuantizedLinear] => entry[1] instanceof FakeQuantizedLinear,
  );
  if (layers.length === 0)
    throw new RangeError('convertQat needs a model that prepareQat prepared');
  for (const [path, layer] of layers) {
    model.setSubmodule(path, converted(layer));
  }
  disposeUnused(
    model,
    layers.map(([, { weight }]) => weight),
  );
  return model;
}

function converted({ weight, bias, config }: FakeQuantizedLinear): Module {
  if ('quantType' in config.weight) return Linear4bit.fromWeight(weight, bias, config.weight);
  const codes = quantizeInteger(weight.dataSync() as Float32Array, weight.shape, config.weight);
  return new IntegerLinear(codes, bias, config.activation);
}
