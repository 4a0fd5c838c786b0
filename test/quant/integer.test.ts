import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { fakeQuantize, type QuantFormat } from '../../src/quant/fake-quantize.ts';
import { pack4bit, unpack4bit } from '../../src/quant/four-bit.ts';
import {
  dequantizeInteger,
  type Granularity,
  type IntegerScheme,
  integerBytes,
  quantizeInteger,
} from '../../src/quant/integer.ts';
import { IntegerLinear } from '../../src/quant/integer-linear.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

interface Golden {
  shape: [number, number];
  weight: number[];
  grids: {
    bits: number;
    scheme: IntegerScheme;
    granularity: Granularity;
    scales: number[];
    zeros: number[];
    values: number[];
  }[];
  gradients: { x: number[]; scale: number; zero: number; low: number; high: number } & Record<
    'y' | 'dx',
    number[]
  >;
}
const file = join(import.meta.dirname, '../peers/integer.json');
const golden = JSON.parse(readFileSync(file, 'utf8')) as Golden;
const weight = Float32Array.from(golden.weight);

/** The largest difference between two lists. */
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) => {
  expect(a.length).to.equal(b.length);
  return Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
};

describe('integer grids', () => {
  before(() => setBackend('auto'));

  for (const { bits, scheme, granularity, scales, zeros, values } of golden.grids) {
    it(`are torch's: ${bits} bits, ${scheme}, ${granularity}`, () => {
      const options = { bits, scheme, granularity };
      const ours = quantizeInteger(weight, golden.shape, options);
      // torch gives rows of zeros its least scale, 1e-30 here; ours have the scale 1.
      const isZero = (i: number) => scales[i]! < 1e-20;
      expect(
        apart(
          ours.scales.map((s, i) => (isZero(i) ? 0 : s)),
          scales.map((s, i) => (isZero(i) ? 0 : s)),
        ),
      ).to.be.below(1e-7);
      expect([...(ours.zeros ?? zeros)]).to.deep.equal(zeros);
      expect(apart(dequantizeInteger(ours), values)).to.be.below(1e-6);
      const x = tf.tensor(weight, golden.shape);
      for (const run of [fakeQuantize, jit((t: tf.Tensor) => fakeQuantize(t, options))]) {
        expect(apart(run(x, options).dataSync(), values)).to.be.below(1e-6);
      }
    });
  }

  it('pass gradients as torch does, with none beyond a fixed grid', () => {
    const { x, y, dx, ...grid } = golden.gradients;
    const dy = tf.range(1, 42);
    const both = (input: tf.Tensor) => ({
      y: fakeQuantize(input, grid),
      dx: tf.grad((t) => fakeQuantize(t, grid))(input, dy),
    });
    for (const run of [both, jit(both)]) {
      const result = run(tf.tensor1d(x));
      expect(apart(result.y.dataSync(), y)).to.be.below(1e-6);
      expect(apart(result.dx.dataSync(), dx)).to.equal(0);
    }
  });

  const formats: QuantFormat[] = [
    { bits: 4, granularity: 16 },
    { bits: 8, scheme: 'zeropoint', granularity: 'tensor' },
    { quantType: 'nf4' },
    { quantType: 'fp4', blocksize: 32 },
  ];
  for (const format of formats) {
    it(`pass gradients whole with scales of their own: ${JSON.stringify(format)}`, () => {
      const x = randomNormal([5, 48], new RandomState(1));
      const dy = randomNormal([5, 48], new RandomState(2));
      const grad = (input: tf.Tensor) => tf.grad((t) => fakeQuantize(t, format))(input, dy);
      for (const run of [grad, jit(grad)]) {
        expect(apart(run(x).dataSync(), dy.dataSync())).to.equal(0);
      }
    });
  }

  for (const quantType of ['nf4', 'fp4'] as const) {
    it(`round to ${quantType} in a graph as quantize4bit does`, () => {
      const x = randomNormal([7, 30], new RandomState(3));
      const { packed, quantState } = pack4bit(x.dataSync() as Float32Array, x.shape, { quantType });
      const run = jit((t: tf.Tensor) => fakeQuantize(t, { quantType }));
      const wanted = unpack4bit(packed, quantState);
      expect(apart(fakeQuantize(x, { quantType }).dataSync(), wanted)).to.be.below(1e-6);
      expect(apart(run(x).dataSync(), wanted)).to.be.below(1e-6);
      expect(run.fallback).to.equal(undefined);
    });
  }

  it('count codes, scales and zero points as bytes', () => {
    const bytes = (options: object) =>
      integerBytes(quantizeInteger(new Float32Array(512), [4, 128], options));
    expect(bytes({ bits: 8 })).to.equal(512 + 4 * 4);
    expect(bytes({ bits: 4, granularity: 64 })).to.equal(256 + 8 * 4);
    expect(bytes({ bits: 4, granularity: 64, scheme: 'zeropoint' })).to.equal(256 + 8 * 4 + 4);
  });

  it('lose at most half a step of any finite tensor', () => {
    const finite = fc.float({ min: Math.fround(-1e38), max: Math.fround(1e38), noNaN: true });
    const options = fc.record({
      bits: fc.integer({ min: 2, max: 8 }),
      scheme: fc.constantFrom<IntegerScheme>('absmax', 'zeropoint'),
      granularity: fc.constantFrom<Granularity>('tensor', 'channel', 4),
    });
    const rows = fc.array(fc.array(finite, { minLength: 8, maxLength: 8 }), {
      minLength: 1,
      maxLength: 4,
    });
    fc.assert(
      fc.property(rows, options, (matrix, chosen) => {
        const values = Float32Array.from(matrix.flat());
        const result = quantizeInteger(values, [matrix.length, 8], chosen);
        dequantizeInteger(result).forEach((x, i) => {
          const step = result.scales[Math.floor(i / result.size)]!;
          // Zero points are rounded, so that the ends may lie half a step beyond the grid.
          const most = step * (chosen.scheme === 'absmax' ? 0.5 : 1);
          if (step !== 1) expect(Math.abs(x - values[i]!)).to.be.at.most(most * 1.001);
          else expect(Math.abs(x - values[i]!)).to.be.at.most(1.001);
        });
      }),
    );
  });

  it('refuse what has no grid', () => {
    const values = new Float32Array(8);
    const bad = (x: number) => Float32Array.of(1, x);
    expect(() => quantizeInteger(values, [2, 4], { granularity: 3 })).to.throw('divides rows of 4');
    expect(() => quantizeInteger(values, [2, 3])).to.throw("can't have 8 numbers");
    expect(() => quantizeInteger(new Float32Array(0), [0, 4])).to.throw('must not be empty');
    expect(() => quantizeInteger(values, [8], { bits: 9 })).to.throw('2 to 8, got 9');
    expect(() => quantizeInteger(values, [8], { scheme: 'sym' as 'absmax' })).to.throw("got 'sym'");
    expect(() => quantizeInteger(bad(Number.NaN), [2])).to.throw('finite, got NaN at 1');
    expect(() => quantizeInteger(bad(-Infinity), [2])).to.throw('finite, got -Infinity');
    expect(() => quantizeInteger(Float32Array.of(3e38, -3e38), [2])).to.throw('span at most 3e38');
    expect(() => fakeQuantize(tf.zeros([4]), { quantType: 'nf5' as 'nf4' })).to.throw("got 'nf5'");
  });
});

describe('IntegerLinear', () => {
  before(() => setBackend('auto'));

  for (const bits of [3, 4, 8]) {
    for (const scheme of ['absmax', 'zeropoint'] as const) {
      for (const granularity of ['tensor', 'channel', 5] as const) {
        it(`multiplies by dequantized weights: ${bits} bits, ${scheme}, ${granularity}`, () => {
          const w = randomNormal<tf.Rank.R2>([3, 15], new RandomState(3));
          const codes = quantizeInteger(w.dataSync() as Float32Array, w.shape, {
            bits,
            scheme,
            granularity,
          });
          const layer = new IntegerLinear(codes, tf.variable(tf.ones([3])));
          expect(layer.state()).to.deep.equal(codes);
          const x = randomNormal<tf.Rank.R3>([2, 3, 15], new RandomState(4));
          const plain = tf.tensor2d(dequantizeInteger(codes), [3, 15]);
          const wanted = tf.add(tf.matMul(x.reshape([6, 15]), plain, false, true), 1).dataSync();
          const dxWanted = tf.matMul(tf.ones([6, 3]), plain).dataSync();
          const both = (input: tf.Tensor) => ({
            y: layer.forward(input),
            dx: tf.grad((t) => tf.sum(layer.forward(t)))(input),
          });
          for (const run of [both, jit(both)]) {
            const result = run(x);
            expect(apart(result.y.dataSync(), wanted)).to.be.below(1e-5);
            expect(apart(result.dx.dataSync(), dxWanted)).to.be.below(1e-5);
          }
          const again = layer.requantize(layer.dequantize());
          expect(apart(again.dequantize().dataSync(), plain.dataSync())).to.be.below(1e-6);
        });
      }
    }
  }

  it('keeps 4 bits in half a byte', () => {
    const codes = quantizeInteger(new Float32Array(64 * 128).fill(1), [64, 128], {
      bits: 4,
      granularity: 64,
    });
    expect(new IntegerLinear(codes).bytes).to.equal((64 * 128) / 2 + 128 * 4);
  });
});
