import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import { setBackend } from '../../src/jit/backend.ts';
import { dequantizeGptq, type GptqOptions, quantizeGptq } from '../../src/quant/gptq.ts';
import { roundEven } from '../../src/quant/gptq-grid.ts';
import { GptqHessian, inverseFactor } from '../../src/quant/gptq-hessian.ts';
import { packGptq, unpackGptq } from '../../src/quant/gptq-pack.ts';
import { RandomState } from '../../src/tensor/random.ts';

const normal = (shape: number[], seed: number) => {
  const random = new RandomState(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return tf.tensor(
    Float32Array.from({ length: size }, () => random.normal()),
    shape,
  );
};

/** Inputs whose columns depend on each other. */
function correlated(rows: number, columns: number, seed: number): tf.Tensor2D {
  return tf.tidy(() => {
    const mixed = tf.matMul(
      normal([rows, 8], seed) as tf.Tensor2D,
      normal([8, columns], seed + 1) as tf.Tensor2D,
    );
    return tf.add(mixed, tf.mul(normal([rows, columns], seed + 2), 0.1)) as tf.Tensor2D;
  });
}

/** |X (W - Q)^T|^2 / |X W^T|^2 */
function outputError(x: tf.Tensor2D, w: tf.Tensor2D, q: Float32Array): number {
  return tf.tidy(() => {
    const lost = tf.matMul(x, tf.transpose(tf.sub(w, tf.tensor2d(q, w.shape))) as tf.Tensor2D);
    const all = tf.matMul(x, tf.transpose(w));
    return tf.div(tf.sum(tf.square(lost)), tf.sum(tf.square(all))).dataSync()[0]!;
  });
}

/** Quantizes by GPTQ, and by rounding alone: a Hessian of independent inputs. */
function both(x: tf.Tensor2D, w: tf.Tensor2D, options: GptqOptions) {
  const run = (inputs: tf.Tensor2D) => {
    const hessian = new GptqHessian(w.shape[1]);
    hessian.addBatch(inputs);
    const result = quantizeGptq(w, hessian, options);
    hessian.dispose();
    return result;
  };
  return { gptq: run(x), rounded: run(tf.eye(w.shape[1])) };
}

const silently = <T>(run: () => T): T => {
  const { log } = console;
  console.log = () => {};
  try {
    return run();
  } finally {
    console.log = log;
  }
};

describe('GPTQ', () => {
  before(() => setBackend('auto'));

  it('factors the inverse: U^T U H = I for upper U, whatever the size', () => {
    for (const n of [1, 5, 64, 65, 200]) {
      const x = normal([2 * n + 3, n], n) as tf.Tensor2D;
      const h = tf.tidy(() => tf.matMul(x, x, true).dataSync()) as Float32Array;
      const u = inverseFactor(h, n)!;
      for (let i = 1; i < n; i++) for (let j = 0; j < i; j++) expect(u[i * n + j]).to.equal(0);
      const worst = tf.tidy(() => {
        const U = tf.tensor2d(u, [n, n]);
        const identity = tf.matMul(tf.matMul(tf.transpose(U), U), tf.tensor2d(h, [n, n]));
        return tf.max(tf.abs(tf.sub(identity, tf.eye(n)))).dataSync()[0]!;
      });
      expect(worst, `${n}`).to.be.below(2e-3);
    }
    expect(inverseFactor(Float32Array.of(1, 2, 2, 1), 2)).to.equal(undefined);
  });

  it('rounds only, where inputs are independent', () => {
    const w = normal([8, 64], 3) as tf.Tensor2D;
    const { rounded } = both(normal([9, 64], 4) as tf.Tensor2D, w, { sym: false });
    const values = w.dataSync();
    const back = dequantizeGptq(rounded);
    for (const [i, x] of back.entries()) {
      expect(Math.abs(x - values[i]!)).to.be.at.most(rounded.scales[Math.floor(i / 64)]! * 0.5001);
    }
  });

  for (const options of [
    { bits: 4 },
    { bits: 3, groupSize: 32 },
    { bits: 2, groupSize: 32, sym: false, descAct: true },
    { bits: 4, groupSize: 40, sym: false, descAct: true, staticGroups: true },
    { bits: 8, groupSize: 64 },
  ]) {
    it(`loses less of the outputs than rounding does: ${JSON.stringify(options)}`, () => {
      const [x, w] = [correlated(400, 160, 5), normal([32, 160], 9) as tf.Tensor2D];
      const { gptq, rounded } = both(x, w, options);
      const [ours, theirs] = [gptq, rounded].map((q) => outputError(x, w, dequantizeGptq(q)));
      expect(ours).to.be.below(theirs! * 0.6);
      expect(gptq.warnings).to.deep.equal([]);
      expect(Math.max(...gptq.codes)).to.be.at.most(2 ** options.bits - 1);
      expect(gptq.scales).to.have.lengthOf(32 * Math.ceil(160 / (options.groupSize ?? 160)));
    });
  }

  it('sums the Hessian over batches as over one', () => {
    const x = tf.reshape(correlated(60, 16, 2), [6, 10, 16]) as tf.Tensor3D;
    const [once, often] = [new GptqHessian(16), new GptqHessian(16)];
    once.addBatch(x);
    for (const sequence of tf.split(x, 6)) often.addBatch(tf.squeeze(sequence, [0]) as tf.Tensor2D);
    expect([often.sequences, often.rows]).to.deep.equal([once.sequences, once.rows]);
    const [a, b] = [once.values(), often.values()];
    for (const [i, value] of a.entries()) {
      expect(b[i]).to.be.closeTo(value, 1e-4 * (1 + Math.abs(value)));
    }
    once.dispose();
    often.dispose();
  });

  it('dampens a singular Hessian until it can be factored, and says so', () => {
    const hessian = new GptqHessian(96);
    hessian.addBatch(
      tf.mul(tf.ones([3, 96]), tf.tensor1d([1e4, ...Array(95).fill(1e4)])) as tf.Tensor2D,
    );
    const w = normal([4, 96], 1) as tf.Tensor2D;
    const result = silently(() => quantizeGptq(w, hessian, { dampPercent: 1e-9 }));
    expect(result.dampPercent).to.be.above(1e-9);
    expect(result.warnings).to.have.lengthOf(2);
    expect(result.warnings[0]).to.match(/^GPTQ: 3 calibration rows for 96 inputs/);
    expect(result.warnings[1]).to.match(/the Hessian was singular, so it was damped by/);
    expect(dequantizeGptq(result).every(Number.isFinite)).to.equal(true);
    hessian.dispose();
  });

  it('clears weights of inputs that are always zero', () => {
    const hessian = new GptqHessian(8);
    const live = tf.tensor1d([1, 1, 0, 1, 1, 1, 1, 0]);
    hessian.addBatch(tf.mul(normal([40, 8], 6), live) as tf.Tensor2D);
    const result = quantizeGptq(normal([4, 8], 7) as tf.Tensor2D, hessian);
    const back = dequantizeGptq(result);
    for (let row = 0; row < 4; row++) {
      expect([back[row * 8 + 2], back[row * 8 + 7]]).to.deep.equal([0, 0]);
    }
    hessian.dispose();
  });

  it('packs and unpacks any codes of 2, 3, 4 and 8 bits', () => {
    const sizes = fc.constantFrom(32, 64, 96);
    const layer = fc.tuple(fc.constantFrom(2, 3, 4, 8), sizes, sizes, fc.nat(1000), fc.boolean());
    fc.assert(
      fc.property(layer, ([bits, rows, columns, seed, isSecond]) => {
        const random = new RandomState(seed);
        const some = (count: number) =>
          Array.from({ length: count }, () => random.randint(2 ** bits));
        const groups = columns / 32;
        const weight = {
          bits,
          shape: [rows, columns] as [number, number],
          codes: Uint8Array.from(some(rows * columns)),
          scales: new Float32Array(rows * groups).fill(0.5),
          zeros: Float32Array.from(some(rows * groups)),
          gIdx: Int32Array.from({ length: columns }, () => random.randint(groups)),
        };
        const format = isSecond ? 'gptq_v2' : 'gptq';
        expect(unpackGptq(packGptq(weight, format), bits, format)).to.deep.equal(weight);
      }),
      { numRuns: 40, seed: 4 },
    );
  });

  it('rounds halves to even', () => {
    expect([0.5, 1.5, 2.5, -0.5, -1.5, 2.4999].map((x) => roundEven(x) + 0)).to.deep.equal([
      0, 2, 2, 0, -2, 2,
    ]);
  });

  it('refuses bad settings, weights, inputs and tensors in one sentence', () => {
    const hessian = new GptqHessian(32);
    const w = normal([32, 32], 2) as tf.Tensor2D;
    expect(() => quantizeGptq(w, hessian)).to.throw(
      'A Hessian must have calibration rows, got none',
    );
    expect(() => hessian.addBatch(tf.ones([4, 5]) as tf.Tensor2D)).to.throw(
      'Calibration inputs must have 32 columns, got shape [4,5]',
    );
    hessian.addBatch(normal([64, 32], 3) as tf.Tensor2D);
    expect(() => quantizeGptq(w, hessian, { bits: 5 })).to.throw(
      "GPTQ's bits must be 2, 3, 4 or 8, got 5",
    );
    expect(() => quantizeGptq(w, hessian, { groupSize: 0 })).to.throw(
      "GPTQ's groupSize must be -1 or a positive integer, got 0",
    );
    expect(() => quantizeGptq(w, hessian, { dampPercent: 0 })).to.throw('between 0 and 1, got 0');
    const odd = tf.add(
      w,
      tf.oneHot(tf.tensor1d([3], 'int32'), 32).mul(Number.POSITIVE_INFINITY),
    ) as tf.Tensor2D;
    expect(() => quantizeGptq(odd, hessian)).to.throw(/^A weight for GPTQ must be finite, got/);
    expect(() => quantizeGptq(normal([4, 8], 1) as tf.Tensor2D, hessian)).to.throw(
      'The Hessian must have 8 columns, got 32',
    );
    const result = quantizeGptq(w, hessian);
    const packed = packGptq(result);
    expect(() => unpackGptq({ ...packed, scales: packed.qzeros }, 4)).to.throw('must be F16');
    const flat = { ...packed.scales, shape: [32] };
    expect(() => unpackGptq({ ...packed, scales: flat }, 4)).to.throw(
      /must have shapes .* of 4 bits, got/,
    );
    const outside = { ...packed.g_idx, data: new Int32Array(32).fill(7) };
    expect(() => unpackGptq({ ...packed, g_idx: outside }, 4)).to.throw(
      'g_idx must be below 1, got 7',
    );
    expect(() => packGptq({ ...result, shape: [16, 64] })).to.throw(
      'multiples of 32 inputs and outputs, got [16,64]',
    );
    const nan = new GptqHessian(32);
    nan.addBatch(tf.fill([4, 32], Number.NaN) as tf.Tensor2D);
    expect(() => quantizeGptq(w, nan)).to.throw(
      /^Calibration inputs must be finite, got NaN in column 0/,
    );
    for (const one of [hessian, nan]) one.dispose();
  });
});
