import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { nativeOptions } from '../../src/jit/native-check.ts';
import { Conv1D, Linear } from '../../src/nn/linear.ts';
import { DoraLinear } from '../../src/peft/dora.ts';
import { IA3Layer } from '../../src/peft/ia3.ts';
import { LoraLinear } from '../../src/peft/lora.ts';
import { type LayerAdapter, TunerLayer } from '../../src/peft/tuner-layer.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const random = new RandomState(4);
const draw = (...shape: [number, number]) => randomNormal<tf.Rank.R2>(shape, random);
const init = (shape: number[]) => randomNormal(shape, random);
const numbers = { r: 3, scaling: 0.7, dropout: 0, salt: 0 };
const factors = () => ({ a: draw(3, 12), b: draw(9, 3) });

const layers = {
  Linear: () => new Linear(12, 9, { init }),
  'Linear without bias': () => new Linear(12, 9, { init, bias: false }),
  Conv1D: () => new Conv1D(12, 9, { init }),
};
const adapters: Record<string, (layer: Linear | Conv1D) => LayerAdapter> = {
  LoRA: () => new LoraLinear(factors(), numbers),
  DoRA: (layer) => new DoraLinear(factors(), numbers, layer),
  'IA3 of outputs': () => new IA3Layer(draw(9, 1), false),
  'IA3 of inputs': () => new IA3Layer(draw(1, 12), true),
};

describe('Adapters in a compiled step', () => {
  before(() => setBackend('auto'));

  for (const [kind, makeLayer] of Object.entries(layers)) {
    for (const [name, makeAdapter] of Object.entries(adapters)) {
      it(`give the outputs and gradients of the plain ones: ${name} on ${kind}`, async () => {
        const layer = makeLayer();
        if (layer.bias) (layer.bias as tf.Variable).assign(tf.linspace(-1, 1, 9));
        const seed = tf.variable(tf.scalar(0, 'int32'), false);
        const state = { active: ['a'], disabled: false, rows: undefined, mixture: undefined, seed };
        const tuner = new TunerLayer(layer, state);
        const adapter = makeAdapter(layer);
        tuner.add('a', adapter);
        const params = adapter.parameters();
        const [x, weights] = [draw(7, 12), draw(7, 9)];
        const loss = (z: tf.Tensor) =>
          tf.sum(tf.mul(tf.square(tuner.forward(z)), weights)) as tf.Scalar;
        const run = (input: tf.Tensor) => {
          const { grads, value } = tf.variableGrads(() => loss(input), params);
          const byParameter = params.map((parameter) => grads[parameter.name]!);
          return [value, tuner.forward(input), tf.grad(loss)(input), ...byParameter];
        };
        const plain = run(x);
        const compiled = jit(run);
        const results = compiled(x);
        expect(compiled.fallback).to.equal(undefined);
        for (const [i, tensor] of results.entries()) {
          const [actual, expected] = [await tensor.data(), plain[i]!.dataSync()];
          expect(tensor.shape).to.deep.equal(plain[i]!.shape);
          for (const [j, value] of expected.entries()) {
            const tolerance = 1e-3 + 1e-4 * Math.abs(value);
            expect(actual[j], `result ${i}, number ${j}`).to.be.closeTo(value, tolerance);
          }
        }
        compiled.dispose();
      });

      it(`merge where the weight lives, and come out again: ${name} on ${kind}`, () => {
        const layer = makeLayer();
        if (layer.bias) (layer.bias as tf.Variable).assign(tf.linspace(-1, 1, 9));
        const before = Array.from(layer.weight.dataSync());
        const seed = tf.variable(tf.scalar(0, 'int32'), false);
        const state = { active: ['a'], disabled: false, rows: undefined, mixture: undefined, seed };
        const tuner = new TunerLayer(layer, state);
        tuner.add('a', makeAdapter(layer));
        const x = draw(7, 12);
        const apart = Array.from(tuner.forward(x).dataSync());
        tuner.merge('a');
        const { backend } = tf.engine().state.tensorInfo.get(layer.weight.dataId)!;
        if (nativeOptions()) expect(backend).to.equal(tf.findBackend('onnxruntime'));
        expectClose(tuner.forward(x).dataSync(), apart);
        tuner.unmerge();
        expectClose(layer.weight.dataSync(), before);
        tuner.dispose();
      });
    }
  }

  it('merge one after another in more shapes than are kept', () => {
    const seed = tf.variable(tf.scalar(0, 'int32'), false);
    const state = { active: ['a'], disabled: false, rows: undefined, mixture: undefined, seed };
    for (let size = 1; size <= 14; size++) {
      const tuner = new TunerLayer(new Linear(size, 2, { init, bias: false }), state);
      const { a, b } = { a: draw(1, size), b: draw(2, 1) };
      const expected = tf.add(tuner.weight!, tf.matMul(tf.mul(b, 0.7), a)).dataSync();
      tuner.add('a', new LoraLinear({ a, b }, { ...numbers, r: 1 }));
      tuner.merge('a');
      expectClose(tuner.weight!.dataSync(), expected);
    }
  });
});

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(actual.length).to.equal(expected.length);
  const gaps = Array.from(expected, (value, i) => Math.abs(value - actual[i]!));
  expect(Math.max(...gaps)).to.be.below(1e-4);
}
