import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { Linear } from '../../src/nn/linear.ts';
import { DoraLinear } from '../../src/peft/dora.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

describe('DoRA in a compiled step', () => {
  before(() => setBackend('auto'));

  it('gives the output and the gradients of the plain one', async () => {
    const random = new RandomState(4);
    const draw = (shape: number[]) => randomNormal(shape, random) as tf.Tensor2D;
    const layer = new Linear(12, 9, { init: (shape) => randomNormal(shape, random) });
    (layer.bias as tf.Variable).assign(draw([9]));
    const factors = { a: draw([3, 12]), b: draw([9, 3]) };
    const dora = new DoraLinear(factors, { r: 3, scaling: 0.7, dropout: 0, salt: 0 }, layer);
    const magnitudes = dora.loraMagnitudeVector as tf.Variable;
    tf.tidy(() => magnitudes.assign(tf.mul(magnitudes, 1.3)));
    const params = dora.parameters();
    const [x, weights] = [draw([7, 12]), draw([7, 9])];
    const run = (input: tf.Tensor, isFirst: boolean) => {
      const loss = (z: tf.Tensor) => {
        const call = { x: z, y: layer.forward(z), base: layer, seed: undefined, isFirst };
        return tf.sum(tf.mul(tf.square(dora.output(call)), weights)) as tf.Scalar;
      };
      const { grads, value } = tf.variableGrads(() => loss(input), params);
      return [value, tf.grad(loss)(input), ...params.map(({ name }) => grads[name]!)];
    };
    const plain = run(x, false);
    const compiled = jit((input: tf.Tensor) => run(input, true));
    const folded = compiled(x);
    expect(compiled.fallback).to.equal(undefined);
    for (const [i, tensor] of folded.entries()) {
      const [actual, expected] = [await tensor.data(), plain[i]!.dataSync()];
      for (const [j, value] of expected.entries()) {
        expect(actual[j], `result ${i}, number ${j}`).to.be.closeTo(
          value,
          1e-3 + 1e-4 * Math.abs(value),
        );
      }
    }
    compiled.dispose();
  });
});
