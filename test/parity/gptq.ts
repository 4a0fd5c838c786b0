// Kind 05_gptq: auto_gptq's codes, scales and packed tensors of a layer, under several settings.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  dequantizeGptq,
  type GptqOptions,
  type GptqWeight,
  quantizeGptq,
} from '../../src/quant/gptq.ts';
import { GptqHessian } from '../../src/quant/gptq-hessian.ts';
import { type GptqTensors, packGptq, unpackGptq } from '../../src/quant/gptq-pack.ts';
import { loadFile, type RawTensor, toFloat32 } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure, same } from './measure.ts';

type Stored = Map<string, RawTensor>;

interface GptqCase {
  key: string;
  bits: number;
  group_size: number;
  sym: boolean;
  act_order: boolean;
  static_groups: boolean;
  percdamp: number;
  gptq_rel_output_err: number;
  packed?: string;
}

/** Quantizes the layer as each case says. */
export const checkGptq: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const tolerance = manifest.tolerance as Record<string, number>;
  const tensor = (name: string) => tf.tensor(toFloat32(stored.get(name)!), stored.get(name)!.shape);
  const [w, x] = [tensor('W') as tf.Tensor2D, tensor('X') as tf.Tensor3D];
  const hessian = new GptqHessian(w.shape[1]);
  hessian.addBatch(x);
  const h = hessian.values();
  const diagonal = Float32Array.from({ length: w.shape[1] }, (_, i) => h[i * w.shape[1] + i]!);
  const expected = toFloat32(stored.get('H_diag_before_damp')!);
  const measures = [close('H', diagonal, expected, { rtol: 1e-5 })];
  for (const one of manifest.cases as GptqCase[]) {
    const options: GptqOptions = {
      bits: one.bits,
      groupSize: one.group_size,
      sym: one.sym,
      descAct: one.act_order,
      staticGroups: one.static_groups,
      dampPercent: one.percdamp,
    };
    const result = quantizeGptq(w, hessian, options);
    measures.push(...compare(one, result, stored, tolerance));
    measures.push(compareOutputs(one, result, w, x, tolerance));
  }
  hessian.dispose();
  tf.dispose([w, x]);
  return measures;
};

function compare(
  { key, bits, packed }: GptqCase,
  result: GptqWeight,
  stored: Stored,
  tolerance: Record<string, number>,
): Measure[] {
  const numbers = (name: string) => toFloat32(stored.get(`${key}.${name}`)!);
  const codes = stored.get(`${key}.codes`)!.data as Uint8Array;
  const gIdx = stored.get(`${key}.g_idx`)!.data as Int32Array;
  const other = codes.reduce((count, code, i) => count + Number(code !== result.codes[i]), 0);
  const measures = [
    {
      what: `${key} codes`,
      error: other / codes.length,
      tolerance: 1 - (tolerance.codes_equal_fraction_min ?? 1),
    },
    same(`${key} g_idx`, [...result.gIdx], [...gIdx]),
    close(`${key} scales`, result.scales, numbers('scales'), { rtol: 1e-2 }),
  ];
  if (!packed) return measures;
  const theirs: GptqWeight = {
    ...result,
    codes,
    gIdx,
    scales: numbers('scales'),
    zeros: numbers('zeros'),
  };
  const ours = packGptq(theirs);
  const names = ['qweight', 'qzeros', 'scales', 'g_idx'] as const;
  const files = names.map((name) => [name, stored.get(`${key}.packed.${name}`)!] as const);
  const back = unpackGptq(Object.fromEntries(files) as unknown as GptqTensors, bits);
  return [
    ...measures,
    ...files.map(([name, tensor]) =>
      close(
        `${key} ${name}`,
        Array.from(ours[name].data, Number),
        Array.from(tensor.data, Number),
        {},
      ),
    ),
    close(`${key} unpacked codes`, back.codes, codes, {}),
    close(`${key} unpacked zeros`, back.zeros, theirs.zeros, {}),
  ];
}

/** |X W^T - X Q^T|^2 / |X W^T|^2, beside the peer's. */
function compareOutputs(
  { key, gptq_rel_output_err: expected }: GptqCase,
  result: GptqWeight,
  w: tf.Tensor2D,
  x: tf.Tensor3D,
  { rel_err_rtol: rtol = 0 }: Record<string, number>,
): Measure {
  const error = tf.tidy(() => {
    const flat = tf.reshape(x, [-1, w.shape[1]]) as tf.Tensor2D;
    const q = tf.tensor2d(dequantizeGptq(result), w.shape);
    const outputs = tf.matMul(flat, tf.transpose(w));
    const lost = tf.sub(outputs, tf.matMul(flat, tf.transpose(q)));
    return tf.div(tf.sum(tf.square(lost)), tf.sum(tf.square(outputs))).dataSync();
  });
  return close(`${key} output`, error, [expected], { rtol });
}
