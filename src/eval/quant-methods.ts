// Ways to quantize one matrix [out, in], each with the numbers that it leaves and the bytes that its files take,
// scales, zero points and indices counted. 16-bit scales are rounded as they are stored.
// Left out: tables that all matrices share (16 or 256 levels).
import * as tf from '@tensorflow/tfjs';
import type { Module } from '../nn/module.ts';
import { pseudoQuantize } from '../quant/awq.ts';
import { quantizeAwq } from '../quant/awq-quantize.ts';
import { dequantizeBlockwise, quantizeBlockwise } from '../quant/blockwise.ts';
import type { FourBitType } from '../quant/codebook.ts';
import { pack4bit, unpack4bit } from '../quant/four-bit.ts';
import { dequantizeGguf, ggmlType, quantizeGguf } from '../quant/gguf-types.ts';
import { dequantizeGptq, quantizeGptq } from '../quant/gptq.ts';
import { GptqHessian } from '../quant/gptq-hessian.ts';
import { halfScales } from '../quant/gptq-pack.ts';
import { dequantizeHqq, type HqqOptions, quantizeHqq } from '../quant/hqq.ts';
import { dequantizeInteger, type IntegerOptions, quantizeInteger } from '../quant/integer.ts';
import { IntegerLinear } from '../quant/integer-linear.ts';
import { Linear8bitLt } from '../quant/linear-8bit.ts';
import { dequantizeRows, quantizeRows } from '../quant/llm-int8.ts';
import { float16ToFloat32 } from '../tensor/float16.ts';

type Shape = readonly [number, number];

/** One way to quantize a matrix. */
export interface QuantMethod {
  name: string;
  /** Bits of a code. */
  bits: number;
  /** Numbers that share a scale; 0 for a whole row. */
  group: number;
  /** Bytes that a matrix of this shape takes. */
  bytes(shape: Shape): number;
  /** What is left of a matrix; `inputs` [rows, in] are there if they were given to the bench. */
  round(weight: Float32Array, shape: Shape, inputs: tf.Tensor2D | undefined): Float32Array;
  /** The layer that it makes, where inputs are rounded too. */
  layer?(
    weight: tf.Tensor,
    bias: tf.Tensor | undefined,
  ): Module & { forward(x: tf.Tensor): tf.Tensor };
}

const halves = (values: Float32Array) => float16ToFloat32(halfScales(values));
const count = ([rows, columns]: Shape) => rows * columns;
const groupsOf = ([rows, columns]: Shape, group: number) => rows * (group ? columns / group : 1);

/** Floats of 16 bits; 'BF16' or 'F16'. */
export function halfMethod(name: 'F16' | 'BF16' = 'F16'): QuantMethod {
  return { ...ggufMethod(name), name: name === 'F16' ? 'float16' : 'bfloat16' };
}

/** Integers by absmax or zero point, scales in float32; with `activationBits` for inputs too, by row. */
export function integerMethod(
  options: IntegerOptions & { activationBits?: number } = {},
): QuantMethod {
  const { activationBits, ...weight } = { bits: 8, scheme: 'absmax' as const, ...options };
  const { bits, scheme, granularity } = weight;
  const group = typeof granularity === 'number' ? granularity : 0;
  const own = scheme === 'absmax' ? '' : ' zero point';
  const quantize = (values: Float32Array, shape: readonly number[]) =>
    quantizeInteger(values, shape, weight);
  return {
    name: `INT${bits}${own}${activationBits ? `, inputs ${activationBits} bits` : ''}`,
    bits,
    group,
    bytes: (shape) => {
      const scales = granularity === 'tensor' ? 1 : groupsOf(shape, group);
      const zeros = scheme === 'absmax' ? 0 : Math.ceil((scales * bits) / 8);
      return Math.ceil((count(shape) * bits) / 8) + 4 * scales + zeros;
    },
    round: (values, shape) => dequantizeInteger(quantize(values, shape)),
    ...(activationBits && {
      layer: (w: tf.Tensor, bias: tf.Tensor | undefined) => {
        const codes = quantize(w.dataSync() as Float32Array, w.shape);
        return new IntegerLinear(codes, bias, { bits: activationBits, granularity: 'channel' });
      },
    }),
  };
}

/** bitsandbytes' NF4 or FP4, with double quantization if `compressStatistics`. */
export function fourBitMethod(
  quantType: FourBitType = 'nf4',
  { blocksize = 64, compressStatistics = false } = {},
): QuantMethod {
  const options = { quantType, blocksize, compressStatistics };
  return {
    name: `${quantType.toUpperCase()}${compressStatistics ? ', double quantization' : ''}`,
    bits: 4,
    group: blocksize,
    bytes: (shape) => {
      const blocks = Math.ceil(count(shape) / blocksize);
      const scales = compressStatistics ? blocks + 4 * Math.ceil(blocks / 256) + 4 : 4 * blocks;
      return Math.ceil(count(shape) / 2) + scales;
    },
    round: (values, shape) => {
      const { packed, quantState } = pack4bit(values, shape, options);
      return unpack4bit(packed, quantState);
    },
  };
}

/** bitsandbytes' 8 bits in blocks, with levels of the dynamic map. */
export function dynamic8Method(blocksize = 4096): QuantMethod {
  return {
    name: '8-bit dynamic',
    bits: 8,
    group: blocksize,
    bytes: (shape) => count(shape) + 4 * Math.ceil(count(shape) / blocksize),
    round: (values) => dequantizeBlockwise(quantizeBlockwise(values, { blocksize }), { blocksize }),
  };
}

/** LLM.int8: rows of weights and inputs in int8, columns of outliers apart. */
export function llmInt8Method(threshold = 6): QuantMethod {
  return {
    name: 'LLM.int8',
    bits: 8,
    group: 0,
    bytes: (shape) => count(shape) + 4 * shape[0],
    round: (values, shape) => dequantizeRows(quantizeRows(values, shape[1])),
    layer: (weight, bias) => new Linear8bitLt(weight, bias, { threshold }),
  };
}

/** A type of GGUF, such as 'Q4_K'. */
export function ggufMethod(typeName: string): QuantMethod {
  const { name, size, bytes } = ggmlType(typeName);
  return {
    name,
    bits: Number(/\d+/.exec(name)?.[0] ?? 16),
    group: size === 1 ? 0 : size,
    bytes: (shape) => (count(shape) / size) * bytes,
    round: (values, shape) => dequantizeGguf(quantizeGguf(values, name, shape[1]), name),
  };
}

/** HQQ, with scales and zero points in 16 bits; 3 bits lie ten to a word of 32. */
export function hqqMethod(options: HqqOptions = {}): QuantMethod {
  const { nbits = 4, groupSize = 64 } = options;
  return {
    name: 'HQQ',
    bits: nbits,
    group: groupSize,
    bytes: (shape) =>
      Math.ceil((count(shape) * (nbits === 3 ? 3.2 : nbits)) / 8) + 4 * groupsOf(shape, groupSize),
    round: (values, shape) => {
      const found = quantizeHqq(values, shape, options);
      const stored = { scales: halves(found.scales), zeros: halves(found.zeros) };
      return dequantizeHqq({ ...found, ...stored });
    },
  };
}

/** GPTQ with zero points, in AutoGPTQ's format; without inputs it is rounding to nearest. */
export function gptqMethod({ bits = 4, groupSize = 128, descAct = false } = {}): QuantMethod {
  return {
    name: `GPTQ${descAct ? ', act-order' : ''}`,
    bits,
    group: groupSize,
    bytes: (shape) =>
      (count(shape) * bits + groupsOf(shape, groupSize) * (16 + bits)) / 8 + 4 * shape[1],
    round: (values, shape, inputs) => {
      const seen = inputs ?? tf.eye(shape[1]);
      const hessian = new GptqHessian(shape[1]);
      hessian.addBatch(seen as tf.Tensor2D);
      const weight = tf.tensor2d(values, [shape[0], shape[1]]);
      const found = quantizeGptq(weight, hessian, { bits, groupSize, descAct, sym: false });
      hessian.dispose();
      tf.dispose(inputs ? [weight] : [weight, seen]);
      return dequantizeGptq({ ...found, scales: halves(found.scales) });
    },
  };
}

/** AWQ in AutoAWQ's format; without inputs it is rounding to nearest. */
export function awqMethod({ wBit = 4, groupSize = 128, clip = true } = {}): QuantMethod {
  return {
    name: `AWQ${clip ? '' : ', no clipping'}`,
    bits: wBit,
    group: groupSize,
    bytes: (shape) => (count(shape) * wBit + groupsOf(shape, groupSize) * (16 + wBit)) / 8,
    round: (values, shape, inputs) => {
      const options = { wBit, groupSize };
      if (!inputs) return pseudoQuantize(values, shape, options).values;
      const weight = tf.tensor2d(values, [shape[0], shape[1]]);
      const { weight: found, search } = quantizeAwq(weight, inputs, { ...options, clip });
      weight.dispose();
      const scales = halves(found.scales);
      return Float32Array.from(found.codes, (code, i) => {
        const g = Math.floor(i / found.groupSize);
        return (scales[g]! * (code - found.zeros![g]!)) / search.scales[i % shape[1]]!;
      });
    },
  };
}
