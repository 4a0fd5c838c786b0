// AutoAWQ's packed tensors of a layer (GEMM version, 4 bits), both ways. qweight [in, out/8] holds eight
// outputs a word, qzeros [groups, out/8] likewise, scales [groups, out] float16; the nibbles of a word
// hold outputs 0, 2, 4, 6, 1, 3, 5, 7. Left out: the GEMV and Marlin versions.
import { float16ToFloat32 } from '../tensor/float16.ts';
import type { RawTensor } from '../tensor/safetensors.ts';
import type { AwqWeight } from './awq.ts';
import { checkDtypes, halfScales } from './gptq-pack.ts';

/** A layer's tensors under the last part of their names. */
export interface AwqTensors {
  qweight: RawTensor;
  qzeros: RawTensor;
  scales: RawTensor;
}

/** Which of eight outputs each nibble holds, lowest first. */
const ORDER = [0, 2, 4, 6, 1, 3, 5, 7];

/** Packs a layer of 4 bits with zero points; throws if outputs are no multiple of 8. */
export function packAwq({ wBit, shape, codes, scales, zeros }: AwqWeight): AwqTensors {
  const [rows, columns] = shape;
  if (wBit !== 4 || !zeros || rows % 8 !== 0) {
    throw new RangeError(
      `A layer to pack must have 4 bits, zero points and a multiple of 8 outputs, got ${wBit} bits, ${zeros ? '' : 'no '}zero points and ${rows} outputs`,
    );
  }
  const groups = scales.length / rows;
  const int32 = (data: Int32Array, height: number): RawTensor => ({
    dtype: 'I32',
    shape: [height, rows / 8],
    data,
  });
  const byGroup = Float32Array.from(
    scales,
    (_, i) => scales[(i % rows) * groups + Math.floor(i / rows)]!,
  );
  return {
    qweight: int32(packed(codes, rows, columns), columns),
    qzeros: int32(packed(zeros, rows, groups), groups),
    scales: { dtype: 'F16', shape: [groups, rows], data: halfScales(byGroup) },
  };
}

/** The layer in such tensors; throws if their shapes do not fit together. */
export function unpackAwq({ qweight, qzeros, scales }: AwqTensors): AwqWeight {
  checkDtypes({ qweight, qzeros, scales }, { qweight: 'I32', qzeros: 'I32', scales: 'F16' });
  const [columns, words] = qweight.shape as [number, number];
  const [groups, rows] = scales.shape as [number, number];
  const fits = words * 8 === rows && String(qzeros.shape) === String([groups, words]);
  if (!fits || !(groups > 0) || columns % groups !== 0) {
    throw new RangeError(
      `qweight, qzeros and scales must be [in, out/8], [groups, out/8] and [groups, out], got [${qweight.shape}], [${qzeros.shape}] and [${scales.shape}]`,
    );
  }
  const codes = Int16Array.from(unpacked(qweight.data as Int32Array, rows, columns));
  const zeros = Float32Array.from(unpacked(qzeros.data as Int32Array, rows, groups));
  const halves = float16ToFloat32(scales.data as Uint16Array);
  const byRow = halves.map((_, i) => halves[(i % groups) * rows + Math.floor(i / groups)]!);
  const groupSize = columns / groups;
  const values = Float32Array.from(codes, (code, i) => {
    const g = Math.floor(i / groupSize);
    return byRow[g]! * (code - zeros[g]!);
  });
  return { wBit: 4, groupSize, shape: [rows, columns], values, codes, scales: byRow, zeros };
}

/** Words [height, rows/8] of numbers [rows, height]. */
function packed(numbers: ArrayLike<number>, rows: number, height: number): Int32Array {
  const out = new Int32Array((height * rows) / 8);
  for (let i = 0; i < height; i++) {
    for (let row = 0; row < rows; row++) {
      const source = (row & ~7) + ORDER[row & 7]!;
      out[(i * rows + row) >> 3]! |= numbers[source * height + i]! << ((row & 7) * 4);
    }
  }
  return out;
}

/** Numbers [rows, height] of such words. */
function unpacked(words: Int32Array, rows: number, height: number): Uint8Array {
  const out = new Uint8Array(rows * height);
  for (let i = 0; i < height; i++) {
    for (let row = 0; row < rows; row++) {
      const source = (row & ~7) + ORDER[row & 7]!;
      out[source * height + i] = (words[(i * rows + row) >> 3]! >>> ((row & 7) * 4)) & 15;
    }
  }
  return out;
}
