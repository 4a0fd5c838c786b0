import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { type CalibrationMethod, Observer } from '../../src/quant/observer.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

/** Normal numbers and one far off. */
const withOutlier = (seed: number) =>
  tf.tidy(() => tf.concat([randomNormal([4095], new RandomState(seed)), tf.tensor1d([40])]));

/** Mean squared error of x on the grid that an observer chooses. */
function errorOf(x: tf.Tensor, method: CalibrationMethod, bits: number): number {
  const observer = new Observer({ method, bits });
  observer.observe(x);
  const { scale, zero, low, high } = observer.grid();
  const values = x.dataSync();
  let sum = 0;
  for (const value of values) {
    const code = Math.min(high, Math.max(low, Math.round(value / scale) + zero));
    sum += (value - scale * (code - zero)) ** 2;
  }
  return sum / values.length;
}

describe('observers', () => {
  before(() => setBackend('auto'));

  it('cover the whole range with min-max, whatever the batches', () => {
    const x = randomNormal([64], new RandomState(1));
    const [whole, parts] = [new Observer(), new Observer()];
    whole.observe(x);
    for (const part of tf.split(x, 4)) parts.observe(part);
    const values = x.dataSync();
    expect(whole.range()).to.deep.equal([Math.min(...values), Math.max(...values)]);
    expect(parts.range()).to.deep.equal(whole.range());
  });

  for (const percentile of [50, 90, 99, 99.9, 100]) {
    it(`cut where ${percentile} % of the sizes lie, to a hundredth`, () => {
      const x = randomNormal([20000], new RandomState(2));
      const observer = new Observer({ method: 'percentile', percentile });
      observer.observe(x);
      const sizes = Float32Array.from(x.dataSync(), Math.abs).sort();
      const wanted = sizes[Math.ceil((percentile / 100) * sizes.length) - 1]!;
      expect(observer.range()[1] / Math.min(wanted, Math.max(...x.dataSync()))).to.be.closeTo(
        1,
        0.01,
      );
    });
  }

  it('choose the range of least squared error among a hundred with mse', () => {
    for (const seed of [3, 4, 5]) {
      const x = withOutlier(seed);
      for (const bits of [4, 6]) {
        const own = errorOf(x, 'mse', bits);
        expect(own).to.be.below(errorOf(x, 'min-max', bits));
        const observer = new Observer({ method: 'mse', bits });
        observer.observe(x);
        const values = [...x.dataSync()];
        const [min, max] = [Math.min(...values), Math.max(...values)];
        const tried = Array.from({ length: 100 }, (_, k) => {
          const fixed = new Observer({ bits });
          const share = (k + 1) / 100;
          fixed.observe(tf.tensor1d([min * share, max * share]));
          const { scale, zero, low, high } = fixed.grid();
          return values.reduce((sum, value) => {
            const code = Math.min(high, Math.max(low, Math.round(value / scale) + zero));
            return sum + (value - scale * (code - zero)) ** 2 / values.length;
          }, 0);
        });
        expect(own).to.be.at.most(Math.min(...tried) * 1.02);
      }
    }
  });

  it('refuse nothing, infinity, and unknown methods', () => {
    expect(() => new Observer().grid()).to.throw('must have seen numbers');
    expect(() => new Observer().observe(tf.tensor1d([1, Number.NaN]))).to.throw('finite, got NaN');
    expect(() => new Observer({ method: 'entropy' as 'mse' })).to.throw("got 'entropy'");
    expect(() => new Observer({ percentile: 0 })).to.throw('percentile');
  });
});
