// 4-bit quantization with NF4 or FP4 levels, as bitsandbytes' quantize_4bit: two codes a byte, the
// first in the high half. Double quantization: absmax - mean(absmax) in 8 bits, blocks of 256.
import * as tf from '@tensorflow/tfjs';
import { nativeOptions } from '../jit/native-check.ts';
import { placeTensor } from '../jit/place.ts';
import {
  bfloat16ToFloat32,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
} from '../tensor/float16.ts';
import { dequantizeBlockwise, encodeBlocks, findAbsmax, quantizeBlockwise } from './blockwise.ts';
import { createDynamicMap, type FourBitType, getFourBitType } from './codebook.ts';
import { decodeFourBit, decodeInThread, encodeFourBit } from './four-bit-simd.ts';
import { type FloatType, QuantState } from './quant-state.ts';
import { torchMean } from './torch-mean.ts';

/** Block sizes that bitsandbytes has. */
const BLOCK_SIZES = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/** Blocks of the second quantization. */
const NESTED_BLOCKSIZE = 256;

/** How a tensor is quantized. */
export interface FourBitOptions {
  /** Levels; default 'fp4', as in bitsandbytes. */
  quantType?: FourBitType;
  /** Numbers that share a scale; default 64. */
  blocksize?: number;
  /** Whether the scales are quantized too (double quantization); default false. */
  compressStatistics?: boolean;
  /** The numbers' own type, to which they are rounded before and after; default 'float32'. */
  dtype?: FloatType;
}

/** A packed tensor: ceil(n / 2) bytes and what it takes to read them. */
export interface FourBit {
  packed: Uint8Array;
  quantState: QuantState;
}

/** Packs a tensor of finite numbers into 4 bits each; throws if it is empty or not finite. */
export function quantize4bit(tensor: tf.Tensor, options: FourBitOptions = {}): FourBit {
  return pack4bit(tensor.dataSync() as Float32Array, tensor.shape, options);
}

/** The tensor that 4-bit codes stand for: level * absmax, in the shape it had. */
export function dequantize4bit(packed: Uint8Array, quantState: QuantState): tf.Tensor {
  const { quantType, blocksize, dtype, shape } = quantState;
  const isWhole = BLOCK_SIZES.includes(blocksize) && tf.util.sizeFromShape(shape) % blocksize === 0;
  if (dtype !== 'float32' || !isWhole || !nativeOptions()) {
    return placeTensor(unpack4bit(packed, quantState), shape);
  }
  const scales = scalesOf(quantState);
  checkSizes(packed, scales, tf.util.sizeFromShape(shape), blocksize);
  return decodeInThread({ quantType, packed, scales, blocksize }, shape);
}

/** `quantize4bit` of plain numbers in `shape`. */
export function pack4bit(
  values: Float32Array,
  shape: readonly number[],
  options: FourBitOptions = {},
): FourBit {
  const { quantType = 'fp4', blocksize = 64, compressStatistics = false } = options;
  const { dtype = 'float32' } = options;
  getFourBitType(quantType);
  checkBlocksize(blocksize);
  if (tf.util.sizeFromShape(shape as number[]) !== values.length) {
    throw new RangeError(`A tensor of shape [${shape}] can't have ${values.length} numbers`);
  }
  const packed = new Uint8Array(Math.ceil(values.length / 2));
  const absmax = encodeAll(roundTo(values, dtype), blocksize, quantType, packed);
  if (values.length % 2) packed[packed.length - 1]! |= padding(quantType);
  const common = { quantType, blocksize, dtype, shape: [...shape] };
  if (!compressStatistics) return { packed, quantState: new QuantState({ ...common, absmax }) };
  const offset = torchMean(absmax);
  const centred = absmax.map((scale) => scale - offset);
  const nested = quantizeBlockwise(centred, { blocksize: NESTED_BLOCKSIZE });
  const state2 = { absmax: nested.absmax, code: createDynamicMap(), blocksize: NESTED_BLOCKSIZE };
  const quantState = new QuantState({ ...common, absmax: nested.codes, offset, state2 });
  return { packed, quantState };
}

/** `dequantize4bit` as plain numbers. */
export function unpack4bit(packed: Uint8Array, quantState: QuantState): Float32Array {
  const { quantType, blocksize, dtype, shape } = quantState;
  const size = tf.util.sizeFromShape(shape);
  const absmax = scalesOf(quantState);
  checkSizes(packed, absmax, size, blocksize);
  const { values: levels } = getFourBitType(quantType);
  const out = new Float32Array(size);
  const table = new Float32Array(16);
  const whole = BLOCK_SIZES.includes(blocksize) ? Math.floor(size / blocksize) : 0;
  const body = out.subarray(0, whole * blocksize);
  decodeFourBit({ quantType, packed, scales: absmax, blocksize }, body);
  for (let b = whole, start = whole * blocksize; start < size; b++, start += blocksize) {
    for (let code = 0; code < 16; code++) table[code] = levels[code]! * absmax[b]!;
    const end = Math.min(start + blocksize, size);
    for (let i = start; i < end; i += 2) {
      const pair = packed[i >> 1]!;
      out[i] = table[pair >> 4]!;
      out[i + 1] = table[pair & 15]!;
    }
  }
  return roundTo(out, dtype);
}

/** The float32 scale of each block: code[absmax] * nested absmax + offset if quantized twice. */
export function scalesOf({ absmax, offset, state2 }: QuantState): Float32Array {
  if (absmax instanceof Float32Array) return absmax;
  const { code, blocksize } = state2!;
  const centred = dequantizeBlockwise(
    { codes: absmax, absmax: state2!.absmax },
    { code, blocksize },
  );
  return centred.map((scale) => scale + offset!);
}

/** Whole blocks by SIMD, then a ragged one; returns the scales. */
function encodeAll(
  values: Float32Array,
  blocksize: number,
  quantType: FourBitType,
  packed: Uint8Array,
): Float32Array {
  const whole = Math.floor(values.length / blocksize);
  const [body, tail] = [values.subarray(0, whole * blocksize), values.subarray(whole * blocksize)];
  const scales = new Float32Array(Math.ceil(values.length / blocksize));
  scales.set(encodeFourBit(quantType, body, blocksize, packed));
  const wrong = scales.findIndex((scale) => !Number.isFinite(scale));
  if (wrong >= 0) findAbsmax(values, wrong * blocksize, blocksize);
  if (tail.length === 0 && whole > 0) return scales;
  const pairs = (codes: Uint8Array) => packPairs(codes, packed, body.length >> 1);
  scales.set(encodeBlocks(tail, blocksize, getFourBitType(quantType), pairs), whole);
  return scales;
}

function packPairs(codes: Uint8Array, packed: Uint8Array, at: number): void {
  for (let i = 0; i < codes.length; i += 2) {
    packed[at + (i >> 1)] = (codes[i]! << 4) | (i + 1 < codes.length ? codes[i + 1]! : 0);
  }
}

/** The code of the 0 that fills the last byte of an odd number of codes. */
const padding = (quantType: FourBitType) => (quantType === 'nf4' ? 7 : 0);

function roundTo(values: Float32Array, dtype: FloatType): Float32Array {
  if (dtype === 'float16') return float16ToFloat32(float32ToFloat16(values));
  return dtype === 'bfloat16' ? bfloat16ToFloat32(float32ToBfloat16(values)) : values;
}

function checkBlocksize(blocksize: number): void {
  if (!BLOCK_SIZES.includes(blocksize)) {
    throw new RangeError(`blocksize must be one of ${BLOCK_SIZES.join(', ')}, got ${blocksize}`);
  }
}

function checkSizes(packed: Uint8Array, absmax: Float32Array, size: number, blocksize: number) {
  const [bytes, blocks] = [Math.ceil(size / 2), Math.ceil(size / blocksize)];
  if (packed.length !== bytes) {
    throw new RangeError(`${size} 4-bit numbers need ${bytes} bytes, got ${packed.length}`);
  }
  if (absmax.length !== blocks) {
    throw new RangeError(`${size} 4-bit numbers need ${blocks} scales, got ${absmax.length}`);
  }
}
