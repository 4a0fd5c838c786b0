// Formats side by side: `npm run bench -- formats` prints the table of README. Bits and sizes are those of
// Llama-2-7B's shapes; errors and losses are measured on models/world-3m, whose linear layers are rounded
// (GGUF: all its matrices, through a file), with other sentences to calibrate than to test.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { loadDataset } from '../src/data/dataset.ts';
import { benchModel, modelScore } from '../src/eval/quant-bench.ts';
import {
  awqMethod,
  fourBitMethod,
  gptqMethod,
  halfMethod,
  hqqMethod,
  integerMethod,
  llmInt8Method,
  type QuantMethod,
} from '../src/eval/quant-methods.ts';
import { setBackend } from '../src/jit/backend.ts';
import { AutoModelForCausalLM, AutoTokenizer } from '../src/models/auto.ts';
import type { CausalLM } from '../src/models/causal-lm.ts';
import { saveGguf } from '../src/models/gguf-export.ts';
import { type GgufFileType, tensorType } from '../src/models/gguf-mix.ts';
import { ggufName } from '../src/models/gguf-model.ts';
import { layerShapes } from '../src/peft/layer-shapes.ts';
import { linearLayers } from '../src/quant/calibration.ts';
import { ggmlType } from '../src/quant/gguf-types.ts';
import { RandomState } from '../src/tensor/random.ts';

const LLAMA_7B = {
  modelType: 'llama',
  vocabSize: 32000,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
} as const;

/** Methods on linear layers; the rest of the model stays in 16 bits. */
const METHODS: [QuantMethod, string][] = [
  [halfMethod('BF16'), 'training, and what others are measured by'],
  [llmInt8Method(), 'bitsandbytes: loads at once, nearly no loss'],
  [integerMethod({ bits: 8 }), 'integer hardware, small devices'],
  [integerMethod({ bits: 4, granularity: 64 }), 'the baseline of 4 bits'],
  [integerMethod({ bits: 4, granularity: 64, scheme: 'zeropoint' }), 'uneven weights'],
  [fourBitMethod('nf4'), 'QLoRA: training on a base of 4 bits'],
  [fourBitMethod('nf4', { compressStatistics: true }), 'QLoRA in less memory'],
  [fourBitMethod('fp4'), 'where hardware has it; NF4 loses less'],
  [hqqMethod({ nbits: 4 }), 'no calibration data'],
  [gptqMethod({ bits: 4 }), 'inference on GPUs'],
  [gptqMethod({ bits: 3 }), 'few bits, with good calibration data'],
  [awqMethod(), 'inference on GPUs'],
];

/** Types of GGUF files. */
const FILES: [GgufFileType, string][] = [
  ['f16', 'the source of other GGUF files'],
  ['q8_0', 'CPUs: no loss to be seen'],
  ['q6_k', 'nearly the same in less'],
  ['q5_k_m', 'CPUs, a balance'],
  ['q4_k_m', 'CPUs, the usual choice'],
  ['iq4_nl', '4 bits with uneven levels'],
  ['q4_0', 'the oldest and simplest'],
  ['q3_k', 'little memory'],
  ['q2_k', 'the last resort'],
];

interface Line {
  format: string;
  bits: number;
  bytes: number;
  error: number;
  divergence: number;
  use: string;
}

const shapes = layerShapes(LLAMA_7B);
const sizeOf = ({ out, in: width, kind }: (typeof shapes)[number]) =>
  kind === 'norm' ? width : out * width;
const total = shapes.reduce((sum, shape) => sum + sizeOf(shape), 0);

/** Bits of linear layers, bytes of all, of a method on 7B. */
function on7B(method: QuantMethod): { bits: number; bytes: number } {
  const [inside, outside] = [true, false].map((isInside) =>
    shapes.filter(({ kind, path }) => (kind === 'linear' && path !== 'lm_head') === isInside),
  ) as [typeof shapes, typeof shapes];
  const packed = inside.reduce((sum, { out, in: width }) => sum + method.bytes([out, width]), 0);
  const count = inside.reduce((sum, shape) => sum + sizeOf(shape), 0);
  const rest = outside.reduce((sum, shape) => sum + 2 * sizeOf(shape), 0);
  return { bits: (8 * packed) / count, bytes: packed + rest };
}

/** Bytes of the tensors of a GGUF file of 7B. */
function fileOf7B(type: GgufFileType): number {
  return shapes.reduce((sum, shape) => {
    const size = shape.kind === 'norm' ? [shape.in] : [shape.out, shape.in];
    const name = tensorType(ggufName(`${shape.path}.weight`)!, size, type, {
      layers: 32,
      tied: false,
    });
    const { size: block, bytes } = ggmlType(name);
    return sum + (sizeOf(shape) / block) * bytes;
  }, 0);
}

const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
await setBackend('auto');
const model = await AutoModelForCausalLM.fromPretrained('models/world-3m');

/** Rows [n, 64] of the statements of one split, in random order. */
function rowsOf(split: string, n: number): tf.Tensor2D {
  const facts = [...loadDataset<{ statement: string; split: string }>('world-facts')];
  const own = facts.filter((fact) => fact.split === split).map((fact) => fact.statement);
  const text = new RandomState(3).permutation(own).join(' ');
  return tf.tensor2d(tokenizer.encode(text).slice(0, n * 64), [n, 64], 'int32');
}
const [calibration, test] = [rowsOf('train', 16), rowsOf('test', 16)];

const methods = METHODS.map(([method]) => method);
const onRow = ({ method }: { method: string }) => console.error(`${method} done`);
const lines: Line[] = benchModel(model, methods, { calibration, test, onRow }).map((row, i) => {
  const [method, use] = METHODS[i]!;
  const group = method.group > 1 ? `, groups of ${method.group}` : '';
  const bits = method.name === 'GPTQ' && method.bits !== 4 ? ` ${method.bits} bits` : '';
  const { weightError: error, divergence } = row;
  return { format: `${method.name}${bits}${group}`, ...on7B(method), error, divergence, use };
});

const folder = mkdtempSync(join(tmpdir(), 'formats-'));
const score = modelScore(model, test);
for (const [type, use] of FILES) {
  const path = join(folder, `${type}.gguf`);
  saveGguf(model, path, { type, tokenizer });
  const read = await AutoModelForCausalLM.fromPretrained(path);
  const bytes = fileOf7B(type);
  const error = errorOf(read);
  const format = `GGUF ${type.toUpperCase()}`;
  const { divergence } = score(read);
  lines.push({ format, bits: (8 * bytes) / total, bytes, error, divergence, use });
  read.dispose();
  console.error(`${format} done`);
}
rmSync(folder, { recursive: true });

/** |W - Q| / |W| over the linear layers. */
function errorOf(other: CausalLM): number {
  let [lost, whole] = [0, 0];
  const originals = new Map(linearLayers(model, ['lm_head']));
  for (const [path, { weight }] of linearLayers(other, ['lm_head'])) {
    const [own, rounded] = [originals.get(path)!.weight.dataSync(), weight.dataSync()];
    own.forEach((value, i) => {
      lost += (value - rounded[i]!) ** 2;
      whole += value ** 2;
    });
  }
  return Math.sqrt(lost / whole);
}

console.log('| Format | Bits a weight | 7B, GB | Error of weights | KL, nats a token | Use |');
console.log('| --- | ---: | ---: | ---: | ---: | --- |');
for (const { format, bits, bytes, error, divergence, use } of lines.sort(
  (a, b) => b.bits - a.bits,
)) {
  const numbers = [
    bits.toFixed(2),
    (bytes / 1e9).toFixed(2),
    `${(100 * error).toFixed(error < 0.001 ? 3 : 2)} %`,
    divergence.toFixed(5),
  ];
  console.log(`| ${format} | ${numbers.join(' | ')} | ${use} |`);
}
process.exit(0);
