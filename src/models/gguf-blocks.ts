// The number types of GGUF (ggml): how many values make a block, its bytes, and how it is read.
// Q8_0: x = d q; Q4_0: x = d (q - 8); Q4_1: x = d q + m, with d and m in float16 and the first half of
// a block in the low nibbles. Left out so far: reading the other quantized types.
import { bfloat16ToFloat32, float16ToFloat32 } from '../tensor/float16.ts';

/** One number type: `size` values in `bytes` bytes; `read` fills float32 values from blocks. */
export interface GgmlType {
  name: string;
  size: number;
  bytes: number;
  read?: (blocks: Uint8Array, values: Float32Array) => void;
}

/** Types by the numbers that files have for them. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map([
  [0, { name: 'F32', size: 1, bytes: 4, read: readF32 }],
  [1, { name: 'F16', size: 1, bytes: 2, read: readF16 }],
  [2, { name: 'Q4_0', size: 32, bytes: 18, read: readQ40 }],
  [3, { name: 'Q4_1', size: 32, bytes: 20, read: readQ41 }],
  [6, { name: 'Q5_0', size: 32, bytes: 22 }],
  [7, { name: 'Q5_1', size: 32, bytes: 24 }],
  [8, { name: 'Q8_0', size: 32, bytes: 34, read: readQ80 }],
  [9, { name: 'Q8_1', size: 32, bytes: 36 }],
  [10, { name: 'Q2_K', size: 256, bytes: 84 }],
  [11, { name: 'Q3_K', size: 256, bytes: 110 }],
  [12, { name: 'Q4_K', size: 256, bytes: 144 }],
  [13, { name: 'Q5_K', size: 256, bytes: 176 }],
  [14, { name: 'Q6_K', size: 256, bytes: 210 }],
  [15, { name: 'Q8_K', size: 256, bytes: 292 }],
  [16, { name: 'IQ2_XXS', size: 256, bytes: 66 }],
  [17, { name: 'IQ2_XS', size: 256, bytes: 74 }],
  [18, { name: 'IQ3_XXS', size: 256, bytes: 98 }],
  [19, { name: 'IQ1_S', size: 256, bytes: 50 }],
  [20, { name: 'IQ4_NL', size: 32, bytes: 18 }],
  [21, { name: 'IQ3_S', size: 256, bytes: 110 }],
  [22, { name: 'IQ2_S', size: 256, bytes: 82 }],
  [23, { name: 'IQ4_XS', size: 256, bytes: 136 }],
  [24, { name: 'I8', size: 1, bytes: 1 }],
  [25, { name: 'I16', size: 1, bytes: 2 }],
  [26, { name: 'I32', size: 1, bytes: 4 }],
  [27, { name: 'I64', size: 1, bytes: 8 }],
  [28, { name: 'F64', size: 1, bytes: 8 }],
  [29, { name: 'IQ1_M', size: 256, bytes: 56 }],
  [30, { name: 'BF16', size: 1, bytes: 2, read: readBF16 }],
]);

/** The names of the types that can be read. */
export const READABLE_TYPES = [...GGML_TYPES.values()]
  .filter(({ read }) => read)
  .map(({ name }) => name);

function readF32(blocks: Uint8Array, values: Float32Array): void {
  values.set(new Float32Array(blocks.slice().buffer));
}

function readF16(blocks: Uint8Array, values: Float32Array): void {
  values.set(float16ToFloat32(new Uint16Array(blocks.slice().buffer)));
}

function readBF16(blocks: Uint8Array, values: Float32Array): void {
  values.set(bfloat16ToFloat32(new Uint16Array(blocks.slice().buffer)));
}

function readQ80(blocks: Uint8Array, values: Float32Array): void {
  const scales = halves(blocks, 34, 0);
  const quants = new Int8Array(blocks.buffer, blocks.byteOffset, blocks.byteLength);
  for (let b = 0; b < scales.length; b++) {
    for (let i = 0; i < 32; i++) values[b * 32 + i] = scales[b]! * quants[b * 34 + 2 + i]!;
  }
}

function readQ40(blocks: Uint8Array, values: Float32Array): void {
  const scales = halves(blocks, 18, 0);
  for (let b = 0; b < scales.length; b++) {
    for (let i = 0; i < 16; i++) {
      const pair = blocks[b * 18 + 2 + i]!;
      values[b * 32 + i] = scales[b]! * ((pair & 15) - 8);
      values[b * 32 + 16 + i] = scales[b]! * ((pair >> 4) - 8);
    }
  }
}

function readQ41(blocks: Uint8Array, values: Float32Array): void {
  const scales = halves(blocks, 20, 0);
  const lowest = halves(blocks, 20, 2);
  for (let b = 0; b < scales.length; b++) {
    for (let i = 0; i < 16; i++) {
      const pair = blocks[b * 20 + 4 + i]!;
      values[b * 32 + i] = scales[b]! * (pair & 15) + lowest[b]!;
      values[b * 32 + 16 + i] = scales[b]! * (pair >> 4) + lowest[b]!;
    }
  }
}

/** The float16 number at `at` in each block of `width` bytes. */
function halves(blocks: Uint8Array, width: number, at: number): Float32Array {
  const bits = new Uint16Array(blocks.length / width);
  for (let b = 0; b < bits.length; b++) {
    bits[b] = blocks[b * width + at]! | (blocks[b * width + at + 1]! << 8);
  }
  return float16ToFloat32(bits);
}
