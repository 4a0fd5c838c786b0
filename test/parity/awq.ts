// Kind 05_awq: autoawq's searches for scales and limits, its rounding and its packed tensors.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  type AwqOptions,
  pseudoQuantize,
  scaleColumns,
  searchAwqScales,
} from '../../src/quant/awq.ts';
import { searchAwqClip } from '../../src/quant/awq-clip.ts';
import { type AwqTensors, packAwq, unpackAwq } from '../../src/quant/awq-pack.ts';
import { loadFile, type RawTensor, toFloat32 } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure } from './measure.ts';

type Stored = Map<string, RawTensor>;

interface AwqCase {
  key: string;
  w_bit: number;
  group_size: number;
  zero_point: boolean;
  duo_scaling: boolean;
  n_grid: number;
  losses: number[];
  best_ratio: number;
}

/** Runs both searches with each case's settings. */
export const checkAwq: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const tolerance = manifest.tolerance as Record<string, number>;
  const tensor = (name: string) => tf.tensor(toFloat32(stored.get(name)!), stored.get(name)!.shape);
  const names = [...stored.keys()].filter((name) => /^W\d+$/.test(name)).sort();
  const weights = names.map((name) => tensor(name) as tf.Tensor2D);
  const x = tensor('X');
  const measures = (manifest.cases as AwqCase[]).flatMap((one) =>
    compare(one, stored, weights, x, tolerance),
  );
  tf.dispose([weights, x]);
  return measures;
};

function compare(
  one: AwqCase,
  stored: Stored,
  weights: tf.Tensor2D[],
  x: tf.Tensor,
  tolerance: Record<string, number>,
): Measure[] {
  const { key } = one;
  const options: AwqOptions = {
    wBit: one.w_bit,
    groupSize: one.group_size,
    zeroPoint: one.zero_point,
    duoScaling: one.duo_scaling,
    nGrid: one.n_grid,
    asOnCpu: true,
  };
  const numbers = (name: string) => toFloat32(stored.get(`${key}.${name}`)!);
  const found = searchAwqScales(weights, x, options);
  const best = numbers('best_scales');
  const rtol = tolerance.best_scales_rtol ?? 0;
  const first = toFloat32(stored.get('W0')!);
  const shape = weights[0]!.shape;
  const scaled = scaleColumns(first, best);
  const inputs = (x.dataSync() as Float32Array).map((value, i) => value / best[i % best.length]!);
  const limits = searchAwqClip(scaled, shape, inputs, options);
  const measures = [
    close(`${key} x_mean`, found.xMean, numbers('x_mean'), { rtol }),
    close(`${key} w_mean`, found.wMean, numbers('w_mean'), { rtol }),
    close(`${key} losses`, found.losses, one.losses, { rtol: tolerance.losses_rtol ?? 0 }),
    close(`${key} ratio`, [found.ratio], [one.best_ratio], {}),
    close(`${key} scales`, found.scales, best, { rtol }),
    close(`${key} limits`, limits, numbers('W0_best_clip_max'), { rtol }),
  ];
  if (!stored.has(`${key}.gemm.qweight`)) return measures;
  return [...measures, ...comparePacked(key, scaled, shape, options, stored)];
}

function comparePacked(
  key: string,
  weight: Float32Array,
  shape: [number, number],
  options: AwqOptions,
  stored: Stored,
): Measure[] {
  const numbers = (name: string) => toFloat32(stored.get(`${key}.${name}`)!);
  const rounded = pseudoQuantize(weight, shape, options);
  const files = (['qweight', 'qzeros', 'scales'] as const).map(
    (name) => [name, stored.get(`${key}.gemm.${name}`)!] as const,
  );
  const back = unpackAwq(Object.fromEntries(files) as unknown as AwqTensors);
  const ours = packAwq(rounded);
  return [
    close(`${key} rounded`, rounded.values, numbers('W0_pseudo_quant'), {}),
    close(`${key} group scales`, rounded.scales, numbers('W0_scales'), {}),
    close(`${key} zeros`, rounded.zeros!, numbers('W0_zeros'), {}),
    ...files.map(([name, { data }]) =>
      close(`${key} ${name}`, Array.from(ours[name].data, Number), Array.from(data, Number), {}),
    ),
    close(`${key} unpacked codes`, back.codes, rounded.codes, {}),
    close(`${key} unpacked zeros`, back.zeros!, numbers('W0_zeros'), {}),
  ];
}
