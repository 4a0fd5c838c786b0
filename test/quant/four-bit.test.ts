import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import { setBackend } from '../../src/jit/backend.ts';
import { dequantizeBlockwise, quantizeBlockwise } from '../../src/quant/blockwise.ts';
import { createDynamicMap, getFourBitType } from '../../src/quant/codebook.ts';
import { dequantize4bit, pack4bit, quantize4bit, unpack4bit } from '../../src/quant/four-bit.ts';
import { pythonFloat, QuantState, type QuantStateFields } from '../../src/quant/quant-state.ts';
import { torchMean } from '../../src/quant/torch-mean.ts';
import { RandomState } from '../../src/tensor/random.ts';
import { checkBnb } from '../parity/bnb.ts';
import { passes } from '../parity/measure.ts';

const golden = fileURLToPath(new URL('../peers/03_bnb', import.meta.url));
const normal = (n: number) => {
  const random = new RandomState(7);
  return Float32Array.from({ length: n }, () => random.normal());
};

describe('4-bit and 8-bit blockwise quantization', () => {
  before(() => setBackend('auto'));

  it('gives the bytes, scales and numbers of bitsandbytes', async () => {
    const manifest = JSON.parse(readFileSync(`${golden}/manifest.json`, 'utf8'));
    const measures = await checkBnb(golden, manifest);
    expect(measures.length).to.be.greaterThan(60);
    expect(measures.filter((measure) => !passes(measure))).to.deep.equal([]);
  });

  it('takes the nearest level of every number, the lower one at a midpoint', () => {
    for (const quantType of ['nf4', 'fp4'] as const) {
      const { values } = getFourBitType(quantType);
      const x = normal(4096);
      const { packed, quantState } = pack4bit(x, [4096], { quantType });
      const back = unpack4bit(packed, quantState);
      for (let i = 0; i < x.length; i++) {
        const scale = (quantState.absmax as Float32Array)[i >> 6]!;
        const nearest = Math.min(...values.map((level) => Math.abs(level * scale - x[i]!)));
        expect(Math.abs(back[i]! - x[i]!)).to.be.closeTo(nearest, 1e-6);
      }
    }
  });

  it('keeps the shape of a tensor and quantizes its own result to itself', () => {
    const x = tf.tensor(normal(5 * 77), [5, 7, 11]);
    const { packed, quantState } = quantize4bit(x, { quantType: 'nf4' });
    const back = dequantize4bit(packed, quantState);
    expect(back.shape).to.deep.equal([5, 7, 11]);
    const again = quantize4bit(back, { quantType: 'nf4' });
    expect(again.packed).to.deep.equal(packed);
    tf.dispose([x, back]);
  });

  it('reads back the QuantState that it writes', () => {
    for (const compressStatistics of [false, true]) {
      const { quantState } = pack4bit(normal(1000), [10, 100], { compressStatistics });
      expect(QuantState.fromTensors(quantState.asTensors())).to.deep.equal(quantState);
    }
  });

  it('refuses tensors that are empty, not finite or of another shape', () => {
    const pack = (...numbers: number[]) => pack4bit(Float32Array.from(numbers), [numbers.length]);
    expect(() => pack()).to.throw('must not be empty');
    expect(() => pack(1, NaN)).to.throw('must be finite, got NaN at 1');
    expect(() => pack(1, 2, -Infinity)).to.throw('must be finite, got -Infinity at 2');
    expect(() => pack4bit(new Float32Array(4), [2, 3])).to.throw("shape [2,3] can't have 4");
    expect(() => pack4bit(new Float32Array(4), [4], { blocksize: 48 })).to.throw('got 48');
    expect(() => pack4bit(new Float32Array(4), [4], { quantType: 'nf3' as 'nf4' })).to.throw(
      "quantType must be 'nf4' or 'fp4', got 'nf3'",
    );
    expect(() => quantizeBlockwise(Float32Array.of(NaN))).to.throw('must be finite');
  });

  it('refuses packed bytes or scales that do not fit', () => {
    const { packed, quantState } = pack4bit(normal(100), [100]);
    expect(() => unpack4bit(packed.subarray(1), quantState)).to.throw('need 50 bytes, got 49');
    const short = new QuantState({
      ...(quantState as QuantStateFields),
      absmax: new Float32Array(1),
    });
    expect(() => unpack4bit(packed, short)).to.throw('need 2 scales, got 1');
    const tensors = quantState.asTensors();
    const key = 'quant_state.bitsandbytes__fp4';
    tensors.set(key, { dtype: 'U8', shape: [2], data: Uint8Array.of(1, 2) });
    expect(() => QuantState.fromTensors(tensors)).to.throw('must hold a JSON object');
    tensors.delete(key);
    expect(() => QuantState.fromTensors(tensors)).to.throw('Expected one tensor');
  });

  it('stays within half a step of any numbers', () => {
    const levels = createDynamicMap();
    const gap = Math.max(...levels.subarray(1).map((level, i) => level - levels[i]!));
    fc.assert(
      fc.property(
        fc.float32Array({
          minLength: 1,
          maxLength: 200,
          noNaN: true,
          max: 2 ** 100,
          min: -(2 ** 100),
        }),
        fc.constantFrom(16, 64, 100),
        (x, blocksize) => {
          const blocks = quantizeBlockwise(x, { blocksize });
          const back = dequantizeBlockwise(blocks, { blocksize });
          return x.every((value, i) => {
            const scale = blocks.absmax[Math.floor(i / blocksize)]!;
            return Math.abs(value - back[i]!) <= (gap / 2 + 1e-5) * Math.max(scale, 1e-38);
          });
        },
      ),
    );
  });

  it("rounds means as torch does and writes numbers as Python's json", () => {
    const ramp = Float32Array.from({ length: 7 }, (_, i) => Math.fround(0.1 * (i + 1)));
    expect(torchMean(ramp)).to.equal(0.40000003576278687);
    expect([1, 1e-5, 2.5e-7, 1e16, 0.25].map(pythonFloat)).to.deep.equal([
      ...['1.0', '1e-05', '2.5e-07', '1e+16', '0.25'],
    ]);
  });
});
