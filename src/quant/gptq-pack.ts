// AutoGPTQ's packed tensors of a layer, both ways. qweight [in bits/32, out] holds codes as a stream of
// bits down the inputs, lowest first; qzeros [groups, out bits/32] the zeros less one, along the outputs;
// scales [groups, out] float16; g_idx [in]. Left out: Marlin's and ExLlama's orders.
import { float16ToFloat32, float32ToFloat16 } from '../tensor/float16.ts';
import type { RawTensor } from '../tensor/safetensors.ts';
import type { GptqWeight } from './gptq.ts';

/** A layer's tensors under the last part of their names. */
export interface GptqTensors {
  qweight: RawTensor;
  qzeros: RawTensor;
  scales: RawTensor;
  g_idx: RawTensor;
}

/** 'gptq' stores zeros less one, 'gptq_v2' as they are. */
export type GptqFormat = 'gptq' | 'gptq_v2';

/** Packs a layer; throws if inputs or outputs are no multiple of 32. */
export function packGptq(weight: GptqWeight, format: GptqFormat = 'gptq'): GptqTensors {
  const { bits, shape, codes, scales, zeros, gIdx } = weight;
  const [rows, columns] = shape;
  if (rows % 32 !== 0 || columns % 32 !== 0) {
    throw new RangeError(
      `A layer to pack must have multiples of 32 inputs and outputs, got [${shape}]`,
    );
  }
  const groups = scales.length / rows;
  const mask = 2 ** bits - 1;
  const qweight = new Int32Array((columns / 32) * bits * rows);
  for (let o = 0; o < rows; o++) {
    putStream(qweight, o, rows, columns, bits, (i) => codes[o * columns + i]!);
  }
  const less = format === 'gptq' ? 1 : 0;
  const width = (rows / 32) * bits;
  const qzeros = new Int32Array(groups * width);
  for (let g = 0; g < groups; g++) {
    putStream(qzeros, g * width, 1, rows, bits, (o) => (zeros[o * groups + g]! - less) & mask);
  }
  const byGroup = Float32Array.from(
    scales,
    (_, i) => scales[(i % rows) * groups + Math.floor(i / rows)]!,
  );
  const int32 = (data: Int32Array, ...size: number[]): RawTensor => ({
    dtype: 'I32',
    shape: size,
    data,
  });
  return {
    qweight: int32(qweight, (columns / 32) * bits, rows),
    qzeros: int32(qzeros, groups, width),
    scales: { dtype: 'F16', shape: [groups, rows], data: halfScales(byGroup) },
    g_idx: int32(gIdx, columns),
  };
}

/** The layer in such tensors, of so many bits; throws if their shapes do not fit together. */
export function unpackGptq(
  { qweight, qzeros, scales, g_idx }: GptqTensors,
  bits: number,
  format: GptqFormat = 'gptq',
): GptqWeight {
  if (![2, 3, 4, 8].includes(bits)) {
    throw new RangeError(`GPTQ's bits must be 2, 3, 4 or 8, got ${bits}`);
  }
  const dtypes = { qweight: 'I32', qzeros: 'I32', scales: 'F16', g_idx: 'I32' };
  checkDtypes({ qweight, qzeros, scales, g_idx }, dtypes);
  const [words, rows] = qweight.shape as [number, number];
  const columns = (words * 32) / bits;
  if (!Number.isInteger(columns)) {
    throw new RangeError(`qweight [${qweight.shape}] holds no whole number of ${bits}-bit inputs`);
  }
  const groups = scales.shape[0]!;
  const expected = [[groups, (rows / 32) * bits], [groups, rows], [columns]];
  const got = [qzeros.shape, scales.shape, g_idx.shape];
  if (JSON.stringify(got) !== JSON.stringify(expected)) {
    throw new RangeError(
      `qzeros, scales and g_idx must have shapes ${JSON.stringify(expected)} beside qweight [${qweight.shape}] of ${bits} bits, got ${JSON.stringify(got)}`,
    );
  }
  const gIdx = g_idx.data as Int32Array;
  const odd = gIdx.find((g) => g < 0 || g >= groups);
  if (odd !== undefined) throw new RangeError(`g_idx must be below ${groups}, got ${odd}`);
  const codes = new Uint8Array(rows * columns);
  const data = qweight.data as Int32Array;
  for (let o = 0; o < rows; o++) {
    for (let i = 0; i < columns; i++)
      codes[o * columns + i] = bitsAt(data, o, rows, i * bits, bits);
  }
  const less = format === 'gptq' ? 1 : 0;
  const width = (rows / 32) * bits;
  const zeros = new Float32Array(rows * groups);
  for (let g = 0; g < groups; g++) {
    for (let o = 0; o < rows; o++) {
      const stored = bitsAt(qzeros.data as Int32Array, g * width, 1, o * bits, bits);
      zeros[o * groups + g] = (stored + less) & (2 ** bits - 1);
    }
  }
  const halves = float16ToFloat32(scales.data as Uint16Array);
  const byRow = halves.map((_, i) => halves[(i % groups) * rows + Math.floor(i / groups)]!);
  return { bits, shape: [rows, columns], codes, scales: byRow, zeros, gIdx };
}

/** Scales in float16; throws if one is beyond its 65504. */
export function halfScales(scales: Float32Array): Uint16Array {
  const large = scales.find((scale) => !(Math.abs(scale) <= 65504));
  if (large === undefined) return float32ToFloat16(scales);
  throw new RangeError(`A scale to pack must be at most 65504 (float16), got ${large}`);
}

/** Throws unless tensors have these types, and the numbers that their shapes say. */
export function checkDtypes(
  tensors: Record<string, RawTensor>,
  dtypes: Record<string, string>,
): void {
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    if (dtype !== dtypes[name]) {
      throw new TypeError(`${name} must be ${dtypes[name]}, got ${dtype}`);
    }
    if (shape.reduce((product, size) => product * size, 1) !== data.length) {
      throw new RangeError(`${name} of shape [${shape}] can't have ${data.length} numbers`);
    }
  }
}

/** Writes `count` codes as a stream of bits into words begin, begin + step, ... */
function putStream(
  words: Int32Array,
  begin: number,
  step: number,
  count: number,
  bits: number,
  codeAt: (i: number) => number,
): void {
  for (let i = 0, bit = 0; i < count; i++, bit += bits) {
    const code = codeAt(i);
    const at = begin + (bit >> 5) * step;
    words[at]! |= code << (bit & 31);
    if ((bit & 31) + bits > 32) words[at + step]! |= code >> (32 - (bit & 31));
  }
}

/** The code whose bits begin at `bit` of such a stream. */
function bitsAt(words: Int32Array, begin: number, step: number, bit: number, bits: number): number {
  const at = begin + (bit >> 5) * step;
  let code = words[at]! >>> (bit & 31);
  if ((bit & 31) + bits > 32) code |= words[at + step]! << (32 - (bit & 31));
  return code & (2 ** bits - 1);
}
