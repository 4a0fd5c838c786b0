// Kind 03_qlora_model: a base in 4 bits with an adapter of PEFT's: logits, gradients, and the weights
// that are packed again after merging.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { causalLMLoss } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { PeftModel } from '../../src/peft/peft-model.ts';
import { BitsAndBytesConfig, quantizeModel } from '../../src/quant/bnb-config.ts';
import type { FourBitType } from '../../src/quant/codebook.ts';
import type { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { loadFile, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure } from './measure.ts';

/** Quantizes the base here and compares with bitsandbytes and PEFT. */
export const checkQlora: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const { bnb_4bit_quant_type: type, bnb_4bit_use_double_quant: nested } =
    manifest.quant_config as Record<string, unknown>;
  const tolerance = manifest.tolerance as Record<string, number>;
  const config = new BitsAndBytesConfig({
    loadIn4bit: true,
    bnb4bitQuantType: type as FourBitType,
    bnb4bitUseDoubleQuant: nested as boolean,
  });
  const base = quantizeModel(loadFolder(join(folder, manifest.base_model as string)), config);
  const ids = toTensor(stored.get('input_ids')!) as tf.Tensor2D;
  const given = stored.get('labels');
  const labels = (given ? toTensor(given) : ids) as tf.Tensor2D;
  const atol = tolerance.logits_atol!;
  const logits = (name: string, model: { forward(ids: tf.Tensor2D): { logits: tf.Tensor } }) =>
    close(name, model.forward(ids).logits.dataSync(), toFloat32(stored.get(name)!), { atol });
  const plain = logits('logits_dequantized_fp32', base);
  const model = PeftModel.fromPretrained(base, join(folder, 'adapter'), { isTrainable: true });
  const adapted = logits('logits_qlora_fp32', model);
  const state = model.getAdapterState() as Map<string, tf.Variable>;
  const keys = [...stored.keys()];
  const variables = keys.filter((key) => key.startsWith('grad:')).map((key) => key.slice(5));
  const { grads } = tf.variableGrads(
    () => causalLMLoss(model.forward(ids).logits as tf.Tensor3D, labels),
    variables.map((key) => state.get(key)!),
  );
  const gradients = variables.map((key): Measure => {
    const actual = grads[state.get(key)!.name]!.dataSync();
    const expected = toFloat32(stored.get(`grad:${key}`)!);
    return close(`grad:${key}`, actual, expected, { atol: 1e-5, rtol: tolerance.grad_rtol! });
  });
  model.mergeAdapter();
  const merged = keys
    .filter((key) => key.startsWith('merged_requant:'))
    .map((key): Measure => {
      const path = key.slice('merged_requant:'.length).replace(/\.weight$/, '');
      const actual = (model.layers.get(path)!.baseLayer as Linear4bit).dequantize().dataSync();
      const expected = toFloat32(stored.get(key)!);
      const other = expected.filter((value, i) => Math.abs(value - actual[i]!) > 1e-6).length;
      return {
        what: `${key}, share of other codes`,
        error: other / expected.length,
        tolerance: 1e-3,
      };
    });
  model.dispose();
  return [plain, adapted, ...gradients, ...merged];
};
