// Kind 04_gguf: .gguf files of gguf-py and llama.cpp. Types and numbers must be theirs, simple types pack
// to their bytes, K types within their error, and models give the logits of the dequantized weights.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/models/auto.ts';
import { type GgufReader, openGguf } from '../../src/models/gguf.ts';
import { dequantizeGguf, quantizeGguf } from '../../src/quant/gguf-types.ts';
import { loadFile, type RawTensor, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure, same } from './measure.ts';

type Stored = Map<string, RawTensor>;

interface TensorCase {
  type: string;
  shape: number[];
  dequant_sha256: string;
  packed_sha256?: string;
  mse?: number;
}

interface QuantCase {
  file: string | null;
  tensors: Record<string, TensorCase>;
}

/** Compares files, blocks, logits and ids of a case. */
export const checkGguf: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const quants = manifest.quants as Record<string, QuantCase>;
  const atol = (manifest.tolerance as Record<string, number>).logits_atol ?? 0;
  const sources = sourcesOf(folder, quants, stored);
  const measures: Measure[] = [];
  for (const [key, { file, tensors }] of Object.entries(quants)) {
    const path = file ? join(folder, file) : undefined;
    if (path) measures.push(...compareFile(path, key, tensors, stored));
    else measures.push(...compareBlocks(key, tensors, stored));
    for (const [name, one] of Object.entries(tensors)) {
      const source = sources.get(name);
      if (source) measures.push(compareQuantized(`${key}:${name}`, source, one));
    }
    if (path && stored.has(`logits.${key}`)) {
      measures.push(await compareLogits(path, key, stored, atol));
    }
  }
  const file = Object.values(quants).find((one) => one.file)?.file;
  const text = manifest.spm_tokenize as { text: string; ids: number[] } | undefined;
  if (file && text) {
    const tokenizer = await AutoTokenizer.fromPretrained(join(folder, file));
    measures.push(same('spm_tokenize', tokenizer.encode(text.text), text.ids));
  }
  return measures;
};

function compareFile(
  path: string,
  key: string,
  tensors: Record<string, TensorCase>,
  stored: Stored,
): Measure[] {
  return withFile(path, (file) => [
    same(`${key} names`, [...file.tensors.keys()].sort(), Object.keys(tensors).sort()),
    ...Object.entries(tensors).flatMap(([name, one]) => {
      const { type, shape } = file.tensors.get(name)!;
      const values = file.read(name);
      const dense = stored.get(`dequant.${key}:${name}`);
      return [
        same(`${key}:${name}`, [type.name, shape], [one.type, one.shape]),
        same(`${key}:${name} numbers`, sha256(values), one.dequant_sha256),
        ...(dense ? [close(`${key}:${name} dequant`, values, toFloat32(dense), {})] : []),
      ];
    }),
  ]);
}

function compareBlocks(
  key: string,
  tensors: Record<string, TensorCase>,
  stored: Stored,
): Measure[] {
  return Object.entries(tensors).flatMap(([name, { type, dequant_sha256 }]) => {
    const raw = stored.get(`raw.${key}:${name}`);
    if (!raw) return [];
    const values = dequantizeGguf(raw.data as Uint8Array, type);
    return [same(`${key}:${name} numbers`, sha256(values), dequant_sha256)];
  });
}

/** Equal bytes for types with one scale a block; for the others no larger error than llama.cpp's. */
function compareQuantized(what: string, source: Float32Array, one: TensorCase): Measure {
  const blocks = quantizeGguf(source, one.type, one.shape.at(-1)!);
  const hash = createHash('sha256').update(blocks).digest('hex');
  if (!/_K$|^IQ/.test(one.type)) return same(`${what} packed`, hash, one.packed_sha256 ?? hash);
  const back = dequantizeGguf(blocks, one.type);
  const mse = back.reduce((sum, x, i) => sum + (x - source[i]!) ** 2, 0) / source.length;
  return { what: `${what} mse`, error: mse, tolerance: one.mse! * (1 + 1e-6) };
}

/** The numbers that were quantized: those of the unquantized file, and stored ones. */
function sourcesOf(
  folder: string,
  quants: Record<string, QuantCase>,
  stored: Stored,
): Map<string, Float32Array> {
  const sources = new Map<string, Float32Array>();
  const whole = ['f32', 'f16'].map((key) => quants[key]?.file).find((file) => file);
  if (whole && existsSync(join(folder, whole))) {
    withFile(join(folder, whole), (file) => {
      for (const name of file.tensors.keys()) sources.set(name, file.read(name));
    });
  }
  for (const [key, tensor] of stored) {
    if (key.startsWith('source:')) sources.set(key.slice(7), toFloat32(tensor));
  }
  return sources;
}

async function compareLogits(
  path: string,
  key: string,
  stored: Stored,
  atol: number,
): Promise<Measure> {
  const model = await AutoModelForCausalLM.fromPretrained(path);
  const ids = toTensor(stored.get('input_ids')!) as tf.Tensor2D;
  const { logits } = model.forward(ids);
  const expected = toFloat32(stored.get(`logits.${key}`)!);
  const measure = close(`logits.${key}`, logits.dataSync(), expected, { atol });
  ids.dispose();
  logits.dispose();
  model.dispose();
  return measure;
}

function withFile<T>(path: string, use: (file: GgufReader) => T): T {
  const file = openGguf(path);
  try {
    return use(file);
  } finally {
    file.close();
  }
}

const sha256 = (values: Float32Array) =>
  createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
