// The number types of GGUF (ggml): how many values make a block, its bytes, how it is read and written.
// Blocks lie along a row, the last dimension. Left out: importance matrices, and the contents of IQ types
// other than IQ4_NL, of which only the sizes are known.
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from '../tensor/float16.ts';
import { dequantizeIQ4NL, quantizeIQ4NL } from './gguf-iq4.ts';
import {
  dequantizeQ2K,
  dequantizeQ3K,
  dequantizeQ4K,
  dequantizeQ5K,
  dequantizeQ6K,
} from './gguf-k-read.ts';
import { quantizeQ2K, quantizeQ3K, quantizeQ4K, quantizeQ5K, quantizeQ6K } from './gguf-k-write.ts';
import {
  dequantizeQ80,
  dequantizeSimple,
  type Form,
  quantizeQ40,
  quantizeQ80,
  quantizeSimple,
} from './gguf-simple.ts';

/** One number type: `size` values in `bytes` bytes; `read` fills float32 values from blocks. */
export interface GgmlType {
  name: string;
  size: number;
  bytes: number;
  read?: (blocks: Uint8Array, values: Float32Array) => void;
  write?: (values: Float32Array) => Uint8Array;
}

const simple = (form: Form): Pick<GgmlType, 'read' | 'write'> => ({
  read: (blocks, values) => dequantizeSimple(blocks, values, form),
  write: (values) => quantizeSimple(values, form),
});

/** Types by the numbers that files have for them. */
export const GGML_TYPES: ReadonlyMap<number, GgmlType> = new Map<number, GgmlType>([
  [0, { name: 'F32', size: 1, bytes: 4, read: readF32, write: writeF32 }],
  [1, { name: 'F16', size: 1, bytes: 2, read: readF16, write: writeF16 }],
  [
    2,
    {
      name: 'Q4_0',
      size: 32,
      bytes: 18,
      ...simple({ bits: 4, hasMin: false }),
      write: quantizeQ40,
    },
  ],
  [3, { name: 'Q4_1', size: 32, bytes: 20, ...simple({ bits: 4, hasMin: true }) }],
  [6, { name: 'Q5_0', size: 32, bytes: 22, ...simple({ bits: 5, hasMin: false }) }],
  [7, { name: 'Q5_1', size: 32, bytes: 24, ...simple({ bits: 5, hasMin: true }) }],
  [8, { name: 'Q8_0', size: 32, bytes: 34, read: dequantizeQ80, write: quantizeQ80 }],
  [9, { name: 'Q8_1', size: 32, bytes: 36 }],
  [10, { name: 'Q2_K', size: 256, bytes: 84, read: dequantizeQ2K, write: quantizeQ2K }],
  [11, { name: 'Q3_K', size: 256, bytes: 110, read: dequantizeQ3K, write: quantizeQ3K }],
  [12, { name: 'Q4_K', size: 256, bytes: 144, read: dequantizeQ4K, write: quantizeQ4K }],
  [13, { name: 'Q5_K', size: 256, bytes: 176, read: dequantizeQ5K, write: quantizeQ5K }],
  [14, { name: 'Q6_K', size: 256, bytes: 210, read: dequantizeQ6K, write: quantizeQ6K }],
  [15, { name: 'Q8_K', size: 256, bytes: 292 }],
  [16, { name: 'IQ2_XXS', size: 256, bytes: 66 }],
  [17, { name: 'IQ2_XS', size: 256, bytes: 74 }],
  [18, { name: 'IQ3_XXS', size: 256, bytes: 98 }],
  [19, { name: 'IQ1_S', size: 256, bytes: 50 }],
  [20, { name: 'IQ4_NL', size: 32, bytes: 18, read: dequantizeIQ4NL, write: quantizeIQ4NL }],
  [21, { name: 'IQ3_S', size: 256, bytes: 110 }],
  [22, { name: 'IQ2_S', size: 256, bytes: 82 }],
  [23, { name: 'IQ4_XS', size: 256, bytes: 136 }],
  [24, { name: 'I8', size: 1, bytes: 1 }],
  [25, { name: 'I16', size: 1, bytes: 2 }],
  [26, { name: 'I32', size: 1, bytes: 4 }],
  [27, { name: 'I64', size: 1, bytes: 8 }],
  [28, { name: 'F64', size: 1, bytes: 8 }],
  [29, { name: 'IQ1_M', size: 256, bytes: 56 }],
  [30, { name: 'BF16', size: 1, bytes: 2, read: readBF16, write: writeBF16 }],
]);

/** The names of the types that can be read; all of them can be written. */
export const READABLE_TYPES = [...GGML_TYPES.values()]
  .filter(({ read }) => read)
  .map(({ name }) => name);

/** The type of this name, in small or capital letters; throws if it cannot be read and written. */
export function ggmlType(name: string): GgmlType {
  const type = [...GGML_TYPES.values()].find((one) => one.name === name.toUpperCase());
  if (type?.read) return type;
  throw new RangeError(`A GGUF type must be one of ${READABLE_TYPES.join(', ')}, got '${name}'`);
}

/**
 * Blocks of `values`, whose rows have `columns` numbers (default: all of them), as gguf-py and llama.cpp
 * pack them. Throws if rows are no whole blocks, or a number is NaN, infinite, or too large for the type.
 */
export function quantizeGguf(
  values: Float32Array,
  typeName: string,
  columns: number = values.length,
): Uint8Array {
  const type = ggmlType(typeName);
  if (values.length > 0 && !(values.length % columns === 0)) {
    throw new RangeError(`${values.length} numbers do not make rows of ${columns}`);
  }
  if (columns % type.size !== 0) {
    throw new RangeError(
      `A row for ${type.name} must be whole blocks of ${type.size}, got ${columns}`,
    );
  }
  // The blocks of these two have a scale that is not finite if a number is not.
  if (type.write !== quantizeQ80 && type.write !== quantizeQ40) refuseInfinite(values, type.name);
  try {
    return type.write!(values);
  } catch (error) {
    refuseInfinite(values, type.name);
    throw error;
  }
}

function refuseInfinite(values: Float32Array, name: string): void {
  for (let i = 0; i < values.length; i++) {
    if (values[i]! - values[i]! !== 0) {
      throw new RangeError(`A number for ${name} must be finite, got ${values[i]} at index ${i}`);
    }
  }
}

/** The numbers of `blocks`; throws if they are no whole blocks of the type. */
export function dequantizeGguf(blocks: Uint8Array, typeName: string): Float32Array {
  const type = ggmlType(typeName);
  if (blocks.length % type.bytes !== 0) {
    throw new RangeError(
      `Blocks of ${type.name} must be a multiple of ${type.bytes} bytes, got ${blocks.length}`,
    );
  }
  const values = new Float32Array((blocks.length / type.bytes) * type.size);
  type.read!(blocks, values);
  return values;
}

function readF32(blocks: Uint8Array, values: Float32Array): void {
  values.set(new Float32Array(blocks.slice().buffer));
}

function readF16(blocks: Uint8Array, values: Float32Array): void {
  values.set(float16ToFloat32(new Uint16Array(blocks.slice().buffer)));
}

function readBF16(blocks: Uint8Array, values: Float32Array): void {
  values.set(bfloat16ToFloat32(new Uint16Array(blocks.slice().buffer)));
}

function writeF32(values: Float32Array): Uint8Array {
  return new Uint8Array(values.slice().buffer);
}

function writeF16(values: Float32Array): Uint8Array {
  return finite(float32ToFloat16(values), values, 0x7c00, 'F16');
}

function writeBF16(values: Float32Array): Uint8Array {
  return finite(float32ToBfloat16(values), values, 0x7f80, 'BF16');
}

/** The bytes of 16-bit numbers; throws if one is `infinity` or above. */
function finite(halves: Uint16Array, values: Float32Array, infinity: number, name: string) {
  const at = halves.findIndex((half) => (half & 0x7fff) >= infinity);
  const limit = name === 'F16' ? 65504 : '3.39e38';
  if (at >= 0)
    throw new RangeError(`A number for ${name} must be at most ${limit}, got ${values[at]}`);
  return new Uint8Array(halves.buffer);
}
