import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  awqMethod,
  dynamic8Method,
  fourBitMethod,
  ggufMethod,
  gptqMethod,
  halfMethod,
  hqqMethod,
  integerMethod,
  llmInt8Method,
} from '../../src/eval/quant-methods.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { Linear } from '../../src/nn/linear.ts';
import { Module } from '../../src/nn/module.ts';
import { pseudoQuantize } from '../../src/quant/awq.ts';
import { applyAwqClip, searchAwqClip } from '../../src/quant/awq-clip.ts';
import { packAwq, unpackAwq } from '../../src/quant/awq-pack.ts';
import { dequantizeBlockwise } from '../../src/quant/blockwise.ts';
import { BitsAndBytesConfig, quantizeModel } from '../../src/quant/bnb-config.ts';
import { inputMaxima } from '../../src/quant/calibration.ts';
import { pack4bit, unpack4bit } from '../../src/quant/four-bit.ts';
import { dequantizeGguf, quantizeGguf, READABLE_TYPES } from '../../src/quant/gguf-types.ts';
import { quantizeGptq } from '../../src/quant/gptq.ts';
import { GptqHessian } from '../../src/quant/gptq-hessian.ts';
import { packGptq, unpackGptq } from '../../src/quant/gptq-pack.ts';
import { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { dequantizeProduct, dequantizeRows, multiplyInt8 } from '../../src/quant/llm-int8.ts';
import { QuantState } from '../../src/quant/quant-state.ts';
import type { RawTensor } from '../../src/tensor/safetensors.ts';

const METHODS = [
  halfMethod('F16'),
  halfMethod('BF16'),
  dynamic8Method(64),
  llmInt8Method(),
  integerMethod({ bits: 8, granularity: 'tensor' }),
  integerMethod({ bits: 4, granularity: 32, scheme: 'zeropoint' }),
  fourBitMethod('nf4'),
  fourBitMethod('fp4', { compressStatistics: true }),
  hqqMethod({ nbits: 3 }),
  gptqMethod({ groupSize: 32 }),
  awqMethod({ groupSize: 32 }),
  ...READABLE_TYPES.filter((name) => !/^B?F\d/.test(name)).map(ggufMethod),
];

/** What `run` gives, or the error it throws, which must be one sentence of a kind that names the input. */
function outcome<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    expect(error).to.satisfy(
      (e: unknown) => e instanceof RangeError || e instanceof TypeError || e instanceof Error,
    );
    const { message } = error as Error;
    expect(message).to.not.match(/is not a function|Cannot read|\n|Invalid typed array/);
    return undefined;
  }
}

class Net extends Module {
  readonly layer = new Linear(4, 4, { bias: false });
}

describe('bad input to quantizers', () => {
  before(() => setBackend('auto'));

  const ordinary = fc.float({ min: -8, max: 8, noNaN: true });
  const huge = fc.float({ noDefaultInfinity: true, noNaN: true });
  const number = fc.oneof({ weight: 30, arbitrary: ordinary }, { weight: 1, arbitrary: huge });
  const any = fc.oneof({ weight: 200, arbitrary: number }, { weight: 1, arbitrary: fc.float() });

  for (const method of METHODS) {
    it(`${method.name} gives finite numbers or says what is wrong`, () => {
      const values = fc.array(any, { minLength: 256, maxLength: 256 });
      fc.assert(
        fc.property(values, (list) => {
          const weight = Float32Array.from(list);
          const result = outcome(() => method.round(weight, [1, 256], undefined));
          if (!result) return;
          expect(weight.every(Number.isFinite)).to.equal(true);
          expect(result.length).to.equal(256);
          expect(result.every(Number.isFinite)).to.equal(true);
        }),
        { numRuns: 40 },
      );
    });

    it(`${method.name} refuses NaN, infinity, nothing, and rows that do not fit`, () => {
      const round = (weight: Float32Array, shape: [number, number]) =>
        method.round(weight, shape, undefined);
      for (const bad of [Number.NaN, Infinity, -Infinity]) {
        const weight = new Float32Array(256).fill(0.5);
        weight[77] = bad;
        expect(() => round(weight, [1, 256])).to.throw(RangeError);
      }
      // GGUF and halves have no blocks of nothing; the others refuse it.
      const nothing = outcome(() => round(new Float32Array(0), [0, 256]));
      expect(nothing ?? []).to.have.lengthOf(0);
    });
  }

  it('refuses packed tensors that do not fit together', () => {
    const { packed, quantState } = pack4bit(new Float32Array(128).fill(1), [2, 64]);
    expect(() => unpack4bit(packed.subarray(1), quantState)).to.throw('need 64 bytes, got 63');
    expect(() => new Linear4bit({ packed: packed.subarray(1), quantState })).to.throw('bytes');
    const blocks = { codes: new Uint8Array(128), absmax: new Float32Array(1) };
    expect(() => dequantizeBlockwise(blocks, { blocksize: 64 })).to.throw('must have 2 values');
    expect(() => dequantizeBlockwise(blocks, { code: new Float32Array(16) })).to.throw(
      '256 levels',
    );
    expect(() => dequantizeBlockwise(blocks, { blocksize: 0.5 })).to.throw('positive integer');
    expect(() =>
      dequantizeRows({ codes: new Int8Array(5), rowStats: new Float32Array(2) }),
    ).to.throw('do not make 2 rows');
    expect(() => multiplyInt8(new Int8Array(5), new Int8Array(4), 2)).to.throw('rows of 2');
    expect(() =>
      dequantizeProduct(new Int32Array(3), new Float32Array(2), new Float32Array(2)),
    ).to.throw('must have 2 x 2 numbers');
    expect(() => quantizeGguf(new Float32Array(40), 'Q4_0', 32)).to.throw('rows of 32');
    expect(() => dequantizeGguf(new Uint8Array(19), 'Q4_0')).to.throw('multiple of 18 bytes');
    expect(() => quantizeGguf(new Float32Array(32), 'Q9_9')).to.throw("got 'Q9_9'");
  });

  it('refuses packed GPTQ and AWQ tensors of other types and sizes, whatever they are', () => {
    const hessian = new GptqHessian(32);
    hessian.addBatch(tf.eye(32) as tf.Tensor2D);
    const gptq = packGptq(quantizeGptq(tf.ones([32, 32]), hessian));
    const awq = packAwq(
      pseudoQuantize(new Float32Array(1024).fill(1), [32, 32], { groupSize: 32 }),
    );
    expect(() => unpackGptq(gptq, 5)).to.throw('2, 3, 4 or 8, got 5');
    const shape = fc.array(fc.integer({ min: 0, max: 40 }), { minLength: 0, maxLength: 3 });
    const tensor = fc.record({
      name: fc.constantFrom('qweight', 'qzeros', 'scales', 'g_idx'),
      dtype: fc.constantFrom('I32', 'F16', 'F32'),
      shape,
      length: fc.integer({ min: 0, max: 64 }),
    });
    fc.assert(
      fc.property(
        tensor,
        fc.constantFrom(2, 3, 4, 8),
        ({ name, dtype, shape: size, length }, bits) => {
          const types = { I32: Int32Array, F16: Uint16Array, F32: Float32Array };
          const data = new types[dtype as 'I32'](length);
          const wrong = { [name]: { dtype, shape: size, data } as RawTensor };
          outcome(() => unpackGptq({ ...gptq, ...wrong }, bits));
          outcome(() => unpackAwq({ ...awq, ...wrong }));
        },
      ),
    );
  });

  it('reads any bytes of a QuantState as one or says what is wrong', () => {
    const { packed, quantState } = pack4bit(new Float32Array(128).fill(1), [2, 64], {
      compressStatistics: true,
    });
    const good = quantState.asTensors();
    const key = [...good.keys()].find((name) => name.startsWith('quant_state'))!;
    const text = new TextDecoder().decode(good.get(key)!.data as Uint8Array);
    const json = fc.oneof(
      fc.json(),
      fc.constantFrom('null', '[]', '3', text.replace('64', '-1'), text.replace('fp4', 'x')),
      fc.string(),
    );
    fc.assert(
      fc.property(json, (content) => {
        const data = new TextEncoder().encode(content);
        const tensors = new Map(good).set(key, { dtype: 'U8', shape: [data.length], data });
        const state = outcome(() => QuantState.fromTensors(tensors));
        if (state) outcome(() => unpack4bit(packed, state));
      }),
    );
  });

  it('refuses calibration without rows, with NaN, and clips nothing by guesswork', () => {
    expect(() => new GptqHessian(4).values()).to.throw('must have calibration rows');
    const empty = new GptqHessian(4);
    empty.addBatch(tf.zeros([0, 4]) as tf.Tensor2D);
    expect(() => empty.values()).to.throw('must have calibration rows');
    const bad = new GptqHessian(2);
    bad.addBatch(tf.tensor2d([[1, Number.NaN]]));
    expect(() => bad.values()).to.throw('must be finite');
    const inputs = Float32Array.of(1, Number.NaN);
    expect(() => searchAwqClip(new Float32Array(2), [1, 2], inputs, { groupSize: 2 })).to.throw(
      'finite',
    );
    expect(() => applyAwqClip(new Float32Array(4), new Float32Array(3))).to.throw('do not divide');
    const net = new Net();
    const run = () => void net.layer.forward(tf.tensor2d([[1, 2, Number.NaN, 4]]));
    expect(() => inputMaxima(net, run)).to.throw("Inputs of 'layer' must be finite, got NaN");
    expect(Object.keys(net.layer)).to.not.include('forward');
  });

  it('says that too few rows and a singular Hessian are trouble, and still rounds', () => {
    const hessian = new GptqHessian(8);
    hessian.addBatch(tf.ones([3, 8]) as tf.Tensor2D);
    const { warnings, codes } = quantizeGptq(tf.ones([4, 8]), hessian);
    expect(warnings.join()).to.include('3 calibration rows for 8 inputs');
    expect(codes.length).to.equal(32);
  });

  it('leaves a model as it was when its weights are not finite', () => {
    const net = new Net();
    (net.layer.weight as tf.Variable).assign(tf.fill([4, 4], Number.NaN));
    const config = new BitsAndBytesConfig({ loadIn4bit: true });
    expect(() => quantizeModel(net, config)).to.throw('must be finite, got NaN at 0');
    expect(net.layer).to.be.instanceOf(Linear);
  });
});
