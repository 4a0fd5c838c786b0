import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { RandomState, randomNormal, setBackend, singularValues, svd } from 'peftlab';
import peer from '../peers/svd.json' with { type: 'json' };

const largest = (tensor: tf.Tensor) => tf.max(tf.abs(tensor)).dataSync()[0]!;

/** Checks A = U diag(s) Vh, and that U's columns and Vh's rows are orthonormal. */
function expectDecomposition(matrix: tf.Tensor2D): void {
  const { u, s, vh } = svd(matrix);
  const k = Math.min(...matrix.shape);
  expect(u.shape).to.deep.equal([matrix.shape[0], k]);
  expect(vh.shape).to.deep.equal([k, matrix.shape[1]]);
  const scale = Math.max(largest(matrix), 1e-30);
  expect(largest(tf.sub(tf.matMul(tf.mul(u, s), vh), matrix)) / scale).to.be.below(1e-6 * k);
  expect(largest(tf.sub(tf.matMul(u, u, true, false), tf.eye(k)))).to.be.below(1e-6 * k);
  expect(largest(tf.sub(tf.matMul(vh, vh, false, true), tf.eye(k)))).to.be.below(1e-6 * k);
}

describe('svd', () => {
  before(() => setBackend());

  for (const { name, matrix, s } of peer.cases) {
    it(`finds the singular values of a matrix (${name}) as ${peer.peer}`, () => {
      const values = singularValues(tf.tensor2d(matrix));
      expect(values).to.have.length(s.length);
      for (const [i, value] of values.entries()) {
        expect(value).to.be.closeTo(s[i]!, 1e-6 * Math.max(s[0]!, 1e-30));
      }
    });

    it(`takes a matrix (${name}) apart so that the product is the matrix`, () => {
      expectDecomposition(tf.tensor2d(matrix));
    });
  }

  it('takes random matrices of many shapes apart', () => {
    const random = new RandomState(11);
    for (let i = 0; i < 20; i++) {
      const shape: [number, number] = [random.randint(1, 20), random.randint(1, 20)];
      expectDecomposition(randomNormal<tf.Rank.R2>(shape, random));
    }
  });

  it('finds no more than r singular values in a product through r dimensions', () => {
    const random = new RandomState(2);
    const b = randomNormal<tf.Rank.R2>([48, 5], random);
    const a = randomNormal<tf.Rank.R2>([5, 40], random);
    const values = singularValues(tf.matMul(b, a));
    expect(values[4]).to.be.greaterThan(1);
    expect(values[5]! / values[0]!).to.be.below(1e-6);
  });

  it('refuses entries that are not finite', () => {
    expect(() => svd(tf.tensor2d([[1, Number.NaN]]))).to.throw(RangeError, 'finite');
  });
});
