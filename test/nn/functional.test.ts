import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { crossEntropy } from '../../src/nn/functional.ts';

const scores = [
  [1, 2, 0.5, -3],
  [0, 0, 0, 0],
  [80, -80, 3, 4],
];
const exact = (row: number[], label: number) =>
  Math.log(row.reduce((sum, x) => sum + Math.exp(x - row[label]!), 0));

describe('crossEntropy', () => {
  for (const backend of ['cpu', 'wasm'] as const) {
    describe(`on ${backend}`, () => {
      before(() => setBackend(backend));

      it('is -log softmax of the label, averaged', () => {
        const loss = crossEntropy(tf.tensor2d(scores), tf.tensor1d([1, 3, 0], 'int32'));
        const expected = (exact(scores[0]!, 1) + exact(scores[1]!, 3) + exact(scores[2]!, 0)) / 3;
        expect(loss.dataSync()[0]).to.be.closeTo(expected, 1e-6);
      });

      it('leaves labels of -100 out of sum and count', () => {
        const labels = tf.tensor1d([1, -100, 2], 'int32');
        const sum = exact(scores[0]!, 1) + exact(scores[2]!, 2);
        const loss = (options = {}) => [
          ...crossEntropy(tf.tensor2d(scores), labels, options).dataSync(),
        ];
        expect(loss()[0]).to.be.closeTo(sum / 2, 1e-5);
        expect(loss({ reduction: 'sum' })[0]).to.be.closeTo(sum, 1e-5);
        expect(loss({ reduction: 'none' })[1]).to.equal(0);
      });

      it('has the gradient of a finite difference', () => {
        const labels = tf.tensor1d([1, -100, 2], 'int32');
        const loss = (x: tf.Tensor) => crossEntropy(x, labels).asScalar();
        const gradient = tf
          .grad((x) => loss(x))(tf.tensor2d(scores))
          .arraySync() as number[][];
        for (const [i, j] of [
          [0, 0],
          [0, 1],
          [1, 2],
          [2, 2],
        ] as const) {
          const moved = (step: number) => {
            const rows = scores.map((row) => [...row]);
            rows[i]![j]! += step;
            return loss(tf.tensor2d(rows)).dataSync()[0]!;
          };
          expect(gradient[i]![j]).to.be.closeTo((moved(0.05) - moved(-0.05)) / 0.1, 2e-3);
        }
      });
    });
  }
});
