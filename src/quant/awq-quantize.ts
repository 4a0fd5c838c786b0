// One layer by AWQ from start to end: scales, limits, rounded codes. What the layer computes is
// y = Q(clip(W s)) (x / s), so x / s must be had: from the layer before (folded into it) or by a division.
import type * as tf from '@tensorflow/tfjs';
import {
  type AwqOptions,
  type AwqScales,
  type AwqWeight,
  pseudoQuantize,
  scaleColumns,
  searchAwqScales,
} from './awq.ts';
import { applyAwqClip, searchAwqClip } from './awq-clip.ts';

/** How a layer is quantized. */
export interface AwqLayerOptions extends AwqOptions {
  /** Whether limits are searched; autoawq leaves it out for q and k. Default true. */
  clip?: boolean;
}

/** A layer: codes of W s, and what was found on the way to them. */
export interface AwqLayer {
  weight: AwqWeight;
  search: AwqScales;
  /** [out, groups], with `clip`. */
  limits: Float32Array | undefined;
}

/** Quantizes `weight` [out, in] for `inputs` [..., in] like those that it will see. */
export function quantizeAwq(
  weight: tf.Tensor2D,
  inputs: tf.Tensor,
  { clip = true, ...options }: AwqLayerOptions = {},
): AwqLayer {
  const search = searchAwqScales([weight], inputs, options);
  const { scales } = search;
  const { shape } = weight;
  const scaled = scaleColumns(weight.dataSync() as Float32Array, scales);
  if (!clip) return { weight: pseudoQuantize(scaled, shape, options), search, limits: undefined };
  const x = (inputs.dataSync() as Float32Array).map(
    (value, i) => value / scales[i % scales.length]!,
  );
  const limits = searchAwqClip(scaled, shape, x, options);
  const clipped = applyAwqClip(scaled, limits);
  return { weight: pseudoQuantize(clipped, shape, options), search, limits };
}

/** What the layer multiplies x with: [out, in], the codes' values over s. */
export function dequantizeAwq({ weight, search }: AwqLayer): Float32Array {
  const { scales } = search;
  return weight.values.map((value, i) => value / scales[i % scales.length]!);
}
