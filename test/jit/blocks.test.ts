import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { jit, setBackend } from 'peftlab';
import { AdamW, type AdamWNumbers } from '../../src/train/optimizers.ts';

/** A matrix of numbers that differ, but are the same in each run. */
const filled = (rows: number, columns: number, step: number) =>
  tf.tensor2d(
    Float32Array.from({ length: rows * columns }, (_, i) => 0.05 * Math.sin(i * step + 1)),
    [rows, columns],
  );

/** Losses and weights after some steps of AdamW on two layers, of which the second is read twice. */
async function trained(shapes: [number, number][]): Promise<Float32Array[]> {
  const weights = shapes.map(([rows, columns], i) =>
    tf.variable(filled(rows, columns, 0.37 + 0.2 * i)),
  );
  const optimizer = new AdamW(weights, { lr: 0.01, weightDecay: 0.1, eps: 1e-4 });
  const step = jit((x: tf.Tensor2D, numbers: AdamWNumbers[]) => {
    const loss = () => {
      const hidden = tf.tanh(tf.matMul(x, weights[0] as tf.Tensor));
      return tf.mean(tf.square(tf.sub(tf.matMul(hidden, weights[1] as tf.Tensor), 1))) as tf.Scalar;
    };
    const { value, grads } = tf.variableGrads(loss, weights);
    optimizer.apply(
      weights.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  const losses: number[] = [];
  for (let i = 0; i < 4; i++) {
    const loss = step(filled(4, shapes[0]![0], 0.3 + i), optimizer.numbers());
    losses.push(...(await loss.data()));
  }
  expect(step.fallback).to.equal(undefined);
  const numbers: Float32Array[] = [Float32Array.from(losses)];
  for (const weight of weights) numbers.push((await weight.data()) as Float32Array);
  step.dispose();
  tf.dispose(weights);
  return numbers;
}

const worst = (a: Float32Array, b: Float32Array) =>
  a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

describe('large updates', () => {
  after(() => setBackend('auto'));

  for (const [title, shapes] of [
    [
      'blocks of equal size',
      [
        [512, 384],
        [384, 1024],
      ],
    ],
    [
      'sizes that no block divides',
      [
        [257, 257],
        [257, 263],
      ],
    ],
  ] as [string, [number, number][]][]) {
    it(`give what eager updates give: ${title}`, async () => {
      await setBackend('wasm');
      const wanted = await trained(shapes);
      for (const threads of [1, 2]) {
        await setBackend('native', { threads });
        const found = await trained(shapes);
        for (const [i, values] of found.entries()) {
          expect(worst(values, wanted[i]!)).to.be.below(2e-5);
        }
      }
    });
  }

  it('leave a failed run its own error', async () => {
    await setBackend('native');
    const pick = jit((x: tf.Tensor, at: tf.Tensor) => tf.gather(x, at as tf.Tensor1D));
    const picked = pick(tf.tensor1d([1, 2, 3]), tf.tensor1d([7], 'int32')) as tf.Tensor;
    let message = '';
    await picked.data().catch((error: Error) => {
      message = error.message;
    });
    expect(message).to.match(/The native run failed: .*(out of data bounds|bounds)/);
  });

  it('compile to small models, however large the zeros in them', async () => {
    await setBackend('native');
    const spread = jit((ids: tf.Tensor1D, rows: tf.Tensor2D) =>
      tf.unsortedSegmentSum(rows, ids, 500_000),
    );
    const sum = spread(tf.tensor1d([3, 499_999, 3], 'int32'), tf.ones([3, 8])) as tf.Tensor;
    expect(tf.sum(sum).dataSync()[0]).to.equal(24);
    expect(tf.slice(sum, [3, 0], [1, 8]).dataSync()).to.deep.equal(new Float32Array(8).fill(2));
    spread.dispose();
  });
});
