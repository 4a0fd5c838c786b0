import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from 'peftlab';

/** The same computation on both backends; `cpu` is the reference. */
async function onBoth(compute: () => tf.Tensor): Promise<{ wasm: number[]; cpu: number[] }> {
  await setBackend('cpu');
  const cpu = Array.from(await compute().data());
  await setBackend('wasm');
  const wasm = Array.from(await compute().data());
  return { wasm, cpu };
}

function expectClose(actual: number[], expected: number[]): void {
  expect(actual).to.have.length(expected.length);
  for (const [i, value] of actual.entries()) expect(value).to.be.closeTo(expected[i]!, 1e-5);
}

const numbers = (shape: number[], seed: number) => tf.randomUniform(shape, -1, 1, 'float32', seed);

describe('WASM kernels', () => {
  after(() => setBackend());

  for (const transposeA of [false, true]) {
    for (const transposeB of [false, true]) {
      it(`multiplies with transposeA=${transposeA}, transposeB=${transposeB} as plain JavaScript does`, async () => {
        for (const batch of [[], [3], [2, 3]]) {
          const { wasm, cpu } = await onBoth(() => {
            const a = numbers([...batch, ...(transposeA ? [4, 5] : [5, 4])], 1);
            const b = numbers([...batch, ...(transposeB ? [6, 4] : [4, 6])], 2);
            return tf.matMul(a, b, transposeA, transposeB);
          });
          expectClose(wasm, cpu);
        }
      });
    }
  }

  it('multiplies by a transposed operand whose batch is broadcast', async () => {
    const { wasm, cpu } = await onBoth(() =>
      tf.matMul(numbers([3, 5, 4], 1), numbers([1, 6, 4], 2), false, true),
    );
    expectClose(wasm, cpu);
  });

  it('sums rows by segment and skips ids outside the range', async () => {
    await setBackend('wasm');
    const x = tf.tensor2d([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]);
    const sums = tf.unsortedSegmentSum(x, tf.tensor1d([2, 0, 2, -1], 'int32'), 3);
    expect(sums.arraySync()).to.deep.equal([
      [3, 4],
      [0, 0],
      [6, 8],
    ]);
  });

  it('gives the gradient of an embedding look-up with repeated ids', async () => {
    await setBackend('wasm');
    const table = tf.ones([4, 3]);
    const ids = tf.tensor1d([1, 3, 1], 'int32');
    const gradient = tf.grad((w) => tf.sum(tf.gather(w, ids)))(table);
    expect(gradient.sum(1).arraySync()).to.deep.equal([0, 6, 0, 3]);
  });

  it('leaves no memory behind', async () => {
    await setBackend('wasm');
    const a = tf.ones([8, 8]);
    const before = tf.engine().backend.numDataIds();
    tf.dispose(tf.matMul(a, a, true, true));
    tf.dispose(tf.unsortedSegmentSum(a, tf.zeros([8], 'int32').as1D(), 2));
    expect(tf.engine().backend.numDataIds()).to.equal(before + 1);
  });
});
