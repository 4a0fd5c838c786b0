import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { jit, setBackend } from 'peftlab';
import { drawInputs, OPS, type OpCase } from './ops.ts';

/** Gradients of the sum of an op's results, each weighted by a fixed wave, for its float inputs. */
function gradientsOf({ run }: OpCase, inputs: tf.Tensor[]): tf.Tensor[] {
  const floats = inputs.filter(({ dtype }) => dtype === 'float32');
  const loss = (...values: tf.Tensor[]) => {
    const rest = [...values];
    const all = inputs.map((x) => (x.dtype === 'float32' ? rest.shift()! : x));
    const results = [run(...all)].flat();
    return tf.addN(
      results.map((y) => {
        const wave = Float32Array.from({ length: y.size }, (_, i) => Math.sin(i + 1));
        return tf.sum(tf.mul(y, tf.tensor(wave, y.shape)));
      }),
    ) as tf.Scalar;
  };
  return tf.grads(loss)(floats);
}

const listed = (x: tf.Tensor | tf.Tensor[]) => [x].flat();

function expectEqual(found: tf.Tensor[], wanted: tf.Tensor[], what: string): void {
  expect(found.length).to.equal(wanted.length);
  for (const [i, y] of wanted.entries()) {
    const x = found[i]!;
    expect(x.shape, what).to.deep.equal(y.shape);
    expect(x.dtype, what).to.equal(y.dtype);
    const [a, b] = [x.dataSync(), y.dataSync()];
    for (const [j, value] of b.entries()) {
      const allowed = 2e-6 + 3e-6 * Math.abs(value) + (y.dtype === 'float32' ? 1e-6 : 0);
      const isEqual = Object.is(a[j], value) || Math.abs(a[j]! - value) <= allowed;
      if (!isEqual) expect.fail(`${what}: element ${j} is ${a[j]}, eager gives ${value}`);
    }
  }
}

describe('Ops compiled by jit', () => {
  after(() => setBackend('auto'));

  for (const threads of [1, 2]) {
    describe(`on ${threads} thread${threads > 1 ? 's' : ''}`, () => {
      before(async () => {
        await setBackend('native', { threads });
        await tf.setBackend('cpu'); // WASM's gather with batches and its cast to bool are wrong
      });

      for (const op of OPS) {
        it(`gives what eager ${op.name} gives${op.gradient === false ? '' : ', and its gradient'}`, () => {
          const compiled = jit((...inputs: tf.Tensor[]) => op.run(...inputs));
          const gradients = jit((...inputs: tf.Tensor[]) => gradientsOf(op, inputs));
          for (const seed of [1, 2]) {
            const inputs = drawInputs(op, seed);
            expectEqual(listed(compiled(...inputs)), listed(op.run(...inputs)), op.name);
            if (op.gradient === false) continue;
            expectEqual(gradients(...inputs), gradientsOf(op, inputs), `gradient of ${op.name}`);
          }
          expect(compiled.fallback).to.equal(undefined);
          expect(gradients.fallback).to.equal(undefined);
          compiled.dispose();
          gradients.dispose();
        });
      }
    });
  }

  it('adds rows that are scattered to one place without a race', async () => {
    await setBackend('native', { threads: 2 });
    const ids = tf.tensor1d(
      Int32Array.from({ length: 4096 }, (_, i) => i % 7),
      'int32',
    );
    const rows = tf.randomUniform([4096, 64], 0, 1, 'float32', 3);
    const table = tf.zeros([32, 64]);
    const loss = (t: tf.Tensor) => tf.sum(tf.mul(tf.gather(t, ids), rows)) as tf.Scalar;
    const wanted = tf.grad(loss)(table);
    const gradient = jit((t: tf.Tensor) => tf.grad(loss)(t));
    for (let i = 0; i < 50; i++) {
      const found = gradient(table);
      expect(tf.max(tf.abs(tf.sub(found, wanted))).dataSync()[0]).to.be.lessThan(1e-2);
      found.dispose();
    }
  });
});
