import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import {
  dequantizeGguf,
  ggmlType,
  quantizeGguf,
  READABLE_TYPES,
} from '../../src/quant/gguf-types.ts';
import { RandomState } from '../../src/tensor/random.ts';
import { loadFile, toFloat32 } from '../../src/tensor/safetensors.ts';

const stored = loadFile(join(import.meta.dirname, '../peers/gguf-blocks/blocks.safetensors'));
const source = toFloat32(stored.get('source')!);
const types = [...stored.keys()].flatMap((key) => (key.startsWith('raw.') ? [key.slice(4)] : []));

/** Indices where two lists differ, -0 and 0 told apart. */
const differences = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  a.length === b.length
    ? Array.from(a, (x, i) => (Object.is(x, b[i]) ? -1 : i)).filter((i) => i >= 0)
    : ['length', a.length, b.length];

describe('GGUF types', () => {
  it('knows 13 quantized or half types in the peers’ cases', () => {
    expect(types.sort()).to.deep.equal(READABLE_TYPES.filter((name) => name !== 'F32').sort());
  });

  for (const type of types) {
    it(`packs ${type} to the bytes of ggml`, () => {
      const raw = stored.get(`raw.${type}`)!.data as Uint8Array;
      expect(differences(quantizeGguf(source, type, 256), raw)).to.deep.equal([]);
    });

    it(`unpacks ${type} to the numbers of gguf-py`, () => {
      const raw = stored.get(`raw.${type}`)!.data as Uint8Array;
      const expected = toFloat32(stored.get(`dequant.${type}`)!);
      expect(differences(dequantizeGguf(raw, type), expected)).to.deep.equal([]);
    });

    it(`unpacks any bytes of ${type}`, () => {
      const { bytes, size } = ggmlType(type);
      fc.assert(
        fc.property(fc.uint8Array({ minLength: bytes, maxLength: bytes }), (block) => {
          expect(dequantizeGguf(block, type)).to.have.lengthOf(size);
        }),
        { numRuns: 50, seed: 5 },
      );
    });

    it(`keeps any row in ${type} near itself, or says why it cannot`, () => {
      const { size } = ggmlType(type);
      const numbers = fc.float({ noNaN: false, noDefaultInfinity: false });
      fc.assert(
        fc.property(fc.float32Array({ minLength: 256, maxLength: 256 }), numbers, (row, extra) => {
          row[17] = extra;
          let back: Float32Array;
          try {
            back = dequantizeGguf(quantizeGguf(row, type, 256), type);
          } catch (error) {
            expect((error as Error).message).to.match(
              /^(A number for \S+ must be (finite|at most (65504|3.39e38)), got |A block's scale must be at most 65504)/,
            );
            return;
          }
          expect(back.every(Number.isFinite), `${size}`).to.equal(true);
        }),
        { numRuns: 60, seed: 7 },
      );
    });
  }

  it('has an error that falls with the bits of a number', () => {
    const random = new RandomState(1);
    const x = Float32Array.from({ length: 256 * 64 }, () => random.normal());
    const error = (type: string) => {
      const back = dequantizeGguf(quantizeGguf(x, type, 256), type);
      return back.reduce((sum, value, i) => sum + (value - x[i]!) ** 2, 0) / x.length;
    };
    const order = ['F32', 'F16', 'Q8_0', 'Q6_K', 'Q5_K', 'Q4_K', 'Q3_K', 'Q2_K'].map(error);
    expect(order).to.deep.equal([...order].sort((a, b) => a - b));
    expect(error('Q4_K')).to.be.below(error('Q4_0'));
    expect(error('F32')).to.equal(0);
  });

  it('refuses unknown types, ragged rows and blocks, NaN and what float16 cannot hold', () => {
    const zeros = new Float32Array(256);
    expect(() => quantizeGguf(zeros, 'q9_9')).to.throw(
      RangeError,
      /^A GGUF type must be one of F32, F16, .*IQ4_NL, BF16, got 'q9_9'$/,
    );
    expect(() => quantizeGguf(zeros, 'IQ1_S')).to.throw(RangeError, /got 'IQ1_S'$/);
    expect(() => quantizeGguf(zeros, 'Q4_0', 16)).to.throw(
      'A row for Q4_0 must be whole blocks of 32, got 16',
    );
    expect(() => dequantizeGguf(new Uint8Array(19), 'q4_0')).to.throw(
      'Blocks of Q4_0 must be a multiple of 18 bytes, got 19',
    );
    const odd = zeros.slice();
    odd[3] = Number.NaN;
    expect(() => quantizeGguf(odd, 'q8_0')).to.throw(
      'A number for Q8_0 must be finite, got NaN at index 3',
    );
    odd[0] = 1;
    expect(() => quantizeGguf(odd, 'q4_0')).to.throw('for Q4_0 must be finite, got NaN at index 3');
    odd[200] = Number.NEGATIVE_INFINITY;
    odd[3] = 0;
    for (const type of types) {
      expect(() => quantizeGguf(odd, type)).to.throw(
        `A number for ${type} must be finite, got -Infinity at index 200`,
      );
    }
    odd[200] = 0;
    odd[3] = -1e5;
    expect(() => quantizeGguf(odd, 'f16')).to.throw(
      'A number for F16 must be at most 65504, got -100000',
    );
    odd[3] = 3e38;
    expect(() => quantizeGguf(odd, 'q4_k')).to.throw(
      /^A block's scale must be at most 65504 \(float16\)/,
    );
    expect(quantizeGguf(new Float32Array(0), 'q4_k')).to.have.lengthOf(0);
  });
});
