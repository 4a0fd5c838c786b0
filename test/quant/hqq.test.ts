import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { dequantizeHqq, quantizeHqq } from '../../src/quant/hqq.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

interface Case {
  nbits: number;
  groupSize: number;
  shape: [number, number];
  weight: number[];
  codes: number[];
  scales: number[];
  zeros: number[];
  values: number[];
}
const file = join(import.meta.dirname, '../peers/integer.json');
const { hqq } = JSON.parse(readFileSync(file, 'utf8')) as { hqq: Case[] };
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

/** sum |x - x'|^p / n */
const error = (a: Float32Array, b: Float32Array, p: number) =>
  a.reduce((sum, x, i) => sum + Math.abs(x - b[i]!) ** p, 0) / a.length;

describe('HQQ', () => {
  for (const { nbits, groupSize, shape, weight, codes, scales, zeros, values } of hqq) {
    it(`finds hqq's zero points: ${nbits} bits, groups of ${groupSize}`, () => {
      const ours = quantizeHqq(Float32Array.from(weight), shape, { nbits, groupSize });
      const alike = codes.filter((code, i) => code === ours.codes[i]).length;
      expect(alike / codes.length).to.be.above(0.995);
      expect(apart(ours.scales, scales)).to.be.below(1e-6);
      expect(apart(ours.zeros, zeros)).to.be.below(1e-3 * 2 ** nbits);
      const step = Math.max(...scales);
      expect(apart(dequantizeHqq(ours), values)).to.be.below(1.01 * step);
    });
  }

  it('lowers the error that it is made for, at each width and for each seed', () => {
    for (const seed of [1, 2, 3]) {
      const shape: [number, number] = [32, 64];
      const weight = randomNormal(shape, new RandomState(seed)).dataSync() as Float32Array;
      for (const nbits of [2, 3, 4]) {
        const [found, plain] = [true, false].map((optimize) =>
          error(weight, dequantizeHqq(quantizeHqq(weight, shape, { nbits, optimize })), 0.7),
        );
        expect(found!).to.be.below(plain! * 0.99);
      }
    }
  });

  it('gives back equal numbers, tiny ones and zeros', () => {
    for (const value of [0, 1e-6, -3, 1e30]) {
      const weight = new Float32Array(64).fill(value);
      const back = dequantizeHqq(quantizeHqq(weight, [1, 64]));
      expect(error(weight, back, 1)).to.be.at.most(1e-6 * Math.abs(value));
    }
  });

  it('is finite for all finite numbers, and refuses others', () => {
    const float = fc.float({
      noDefaultInfinity: true,
      noNaN: true,
      min: Math.fround(-1e38),
      max: Math.fround(1e38),
    });
    fc.assert(
      fc.property(
        fc.array(float, { minLength: 16, maxLength: 16 }),
        fc.integer({ min: 1, max: 8 }),
        (list, nbits) => {
          const result = quantizeHqq(Float32Array.from(list), [2, 8], { nbits, groupSize: 8 });
          expect([...result.zeros, ...dequantizeHqq(result)].every(Number.isFinite)).to.equal(true);
        },
      ),
    );
    expect(() => quantizeHqq(Float32Array.of(1, Number.NaN), [1, 2], { groupSize: 2 })).to.throw(
      'finite',
    );
    expect(() => quantizeHqq(new Float32Array(6), [2, 3], { groupSize: 2 })).to.throw('rows of 3');
    expect(() => quantizeHqq(new Float32Array(64), [1, 64], { nbits: 9 })).to.throw('1 to 8');
    expect(() => quantizeHqq(new Float32Array(64), [1, 64], { lpNorm: 2 })).to.throw('lpNorm');
  });
});
