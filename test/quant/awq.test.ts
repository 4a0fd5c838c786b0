import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import { setBackend } from '../../src/jit/backend.ts';
import { pseudoQuantize, quantizeScaled, searchAwqScales } from '../../src/quant/awq.ts';
import { applyAwqClip, searchAwqClip } from '../../src/quant/awq-clip.ts';
import { packAwq, unpackAwq } from '../../src/quant/awq-pack.ts';
import { dequantizeAwq, quantizeAwq } from '../../src/quant/awq-quantize.ts';
import { RandomState } from '../../src/tensor/random.ts';

function normal(shape: [number, number], seed: number): tf.Tensor2D {
  const random = new RandomState(seed);
  return tf.tensor2d(
    Float32Array.from({ length: shape[0] * shape[1] }, () => random.normal()),
    shape,
  );
}

/** Inputs of which a few columns are far larger than the others. */
function withOutliers(rows: number, columns: number, seed: number): tf.Tensor2D {
  const sizes = Array.from({ length: columns }, (_, i) => (i % 16 === 3 ? 20 : 1));
  return tf.tidy(() => tf.mul(normal([rows, columns], seed), tf.tensor1d(sizes)) as tf.Tensor2D);
}

function outputError(x: tf.Tensor2D, w: tf.Tensor2D, q: Float32Array): number {
  return tf.tidy(() => {
    const lost = tf.matMul(x, tf.transpose(tf.sub(w, tf.tensor2d(q, w.shape))) as tf.Tensor2D);
    return tf.mean(tf.square(lost)).dataSync()[0]!;
  });
}

describe('AWQ', () => {
  before(() => setBackend('auto'));

  for (const options of [
    { groupSize: 32 },
    { groupSize: 64, wBit: 3 },
    { groupSize: -1, zeroPoint: false },
    { groupSize: 32, duoScaling: false },
  ]) {
    it(`protects channels with large activations: ${JSON.stringify(options)}`, () => {
      const [x, w] = [withOutliers(96, 128, 1), normal([32, 128], 2)];
      const plain = pseudoQuantize(w.dataSync() as Float32Array, w.shape, options).values;
      const layer = quantizeAwq(w, x, options);
      const scaled = quantizeAwq(w, x, { ...options, clip: false });
      const rounding = outputError(x, w, plain);
      expect(outputError(x, w, dequantizeAwq(scaled))).to.be.below(rounding * 0.6);
      expect(outputError(x, w, dequantizeAwq(layer))).to.be.below(rounding * 0.6);
      const { scales, losses, ratio } = layer.search;
      expect(losses).to.have.lengthOf(20);
      expect(Math.min(...losses)).to.equal(losses[Math.round(ratio * 20)]);
      expect(scales[3]).to.be.above(scales[4]!);
      tf.dispose([x, w]);
    });
  }

  it('finds at ratio 0 without duo scaling what plain rounding gives', () => {
    const [x, w] = [withOutliers(20, 64, 3), normal([8, 64], 4)];
    const options = { groupSize: 32, duoScaling: false, nGrid: 1 };
    const { scales, losses } = searchAwqScales([w], x, options);
    expect([...scales]).to.deep.equal(Array(64).fill(1));
    const values = w.dataSync() as Float32Array;
    const plain = pseudoQuantize(values, w.shape, options).values;
    expect(quantizeScaled(values, w.shape, scales, options)).to.deep.equal(plain);
    expect(losses[0]).to.be.closeTo(outputError(x, w, plain), 1e-5);
  });

  it('never clips below half, and clips to no larger error of the outputs', () => {
    const [x, w] = [normal([64, 64], 5), normal([16, 64], 6)];
    const values = w.dataSync() as Float32Array;
    const options = { groupSize: 32, wBit: 3 };
    const limits = searchAwqClip(values, [16, 64], x.dataSync() as Float32Array, options);
    for (const [g, limit] of limits.entries()) {
      const largest = Math.max(...values.subarray(g * 32, g * 32 + 32).map(Math.abs));
      expect(limit).to.be.within(largest * 0.549, largest);
    }
    const clipped = pseudoQuantize(applyAwqClip(values, limits), [16, 64], options).values;
    const plain = pseudoQuantize(values, [16, 64], options).values;
    expect(outputError(x, w, clipped)).to.be.below(outputError(x, w, plain) * 1.02);
  });

  it('looks at about as many rows as it is told to', () => {
    const values = normal([8, 32], 7).dataSync() as Float32Array;
    const rows = normal([90, 32], 8).dataSync() as Float32Array;
    const every = Float32Array.from(
      Array.from({ length: 30 }, (_, i) => [...rows.subarray(i * 96, i * 96 + 32)]).flat(),
    );
    const options = { groupSize: 32 };
    expect(searchAwqClip(values, [8, 32], rows, { ...options, nSampleToken: 30 })).to.deep.equal(
      searchAwqClip(values, [8, 32], every, options),
    );
  });

  it('packs and unpacks any codes', () => {
    const sizes = fc.tuple(fc.constantFrom(8, 16, 40), fc.constantFrom(16, 32), fc.nat(1000));
    fc.assert(
      fc.property(sizes, ([rows, columns, seed]) => {
        const random = new RandomState(seed);
        const w = Float32Array.from({ length: rows * columns }, () => random.normal());
        const weight = pseudoQuantize(w, [rows, columns], { groupSize: 16 });
        const back = unpackAwq(packAwq(weight));
        expect(back.codes).to.deep.equal(weight.codes);
        expect(back.zeros).to.deep.equal(weight.zeros);
        expect([back.shape, back.groupSize]).to.deep.equal([weight.shape, 16]);
        for (const [i, value] of back.values.entries()) {
          expect(value).to.be.closeTo(weight.values[i]!, 2e-3 * (1 + Math.abs(value)));
        }
      }),
      { numRuns: 30, seed: 4 },
    );
  });

  it('rounds constant groups without harm, and refuses empty ones', () => {
    const zeros = pseudoQuantize(new Float32Array(32), [1, 32], { groupSize: 32 });
    expect([...zeros.values].every((x) => x === 0)).to.equal(true);
    const same = pseudoQuantize(new Float32Array(32).fill(0.3), [1, 32], { groupSize: 32 });
    expect(same.values.every(Number.isFinite)).to.equal(true);
    expect(() => pseudoQuantize(new Float32Array(0), [0, 32], { groupSize: 32 })).to.throw(
      'not empty',
    );
  });

  it('refuses bad settings, weights, inputs and tensors in one sentence', () => {
    const [x, w] = [normal([4, 32], 1), normal([8, 32], 2)];
    expect(() => quantizeAwq(w, x, { wBit: 1 })).to.throw(
      "AWQ's wBit must be a whole number from 2 to 8, got 1",
    );
    expect(() => quantizeAwq(w, x, { groupSize: 24 })).to.throw(
      "AWQ's groupSize must divide the 32 inputs, got 24",
    );
    expect(() => quantizeAwq(w, normal([4, 16], 1), { groupSize: 16 })).to.throw(
      'Weights must have 16 inputs as the activations have, got [8,32]',
    );
    expect(() => quantizeAwq(w, tf.zeros([0, 32]), { groupSize: 32 })).to.throw(
      'must have calibration rows, got none',
    );
    const nan = tf.fill([4, 32], Number.NaN);
    expect(() => quantizeAwq(w, nan, { groupSize: 32 })).to.throw(
      'must be finite, got NaN in column 0',
    );
    const odd = tf.fill([8, 32], Number.POSITIVE_INFINITY) as tf.Tensor2D;
    expect(() => quantizeAwq(odd, x, { groupSize: 32 })).to.throw(
      'A weight for AWQ must be finite, got Infinity',
    );
    expect(() =>
      searchAwqClip(new Float32Array(32), [1, 32], new Float32Array(5), { groupSize: 32 }),
    ).to.throw("AWQ's inputs must be rows of 32 numbers, got 5 in all");
    const three = pseudoQuantize(new Float32Array(256), [8, 32], { groupSize: 32, wBit: 3 });
    expect(() => packAwq(three)).to.throw(/must have 4 bits, .* got 3 bits/);
    const packed = packAwq(pseudoQuantize(new Float32Array(256), [8, 32], { groupSize: 32 }));
    expect(() => unpackAwq({ ...packed, qzeros: packed.qweight })).to.throw(
      /must be \[in, out\/8\]/,
    );
  });
});
