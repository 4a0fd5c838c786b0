import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { linearMerge, slerp, taskMerge } from '../../src/peft/mergekit.ts';
import { seededMasks } from '../../src/peft/prune.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const numbers = (tensor: tf.Tensor) => Array.from(tensor.dataSync());

describe('mergekit', () => {
  before(() => setBackend('wasm'));

  it('averages by default and sums when not normalized', () => {
    const models = [tf.tensor1d([1, 2]), tf.tensor1d([3, 6])];
    expect(numbers(linearMerge(models, { weights: [1, 3] }))).to.deep.equal([2.5, 5]);
    const sum = linearMerge(models, { weights: [1, 3], normalize: false });
    expect(numbers(sum)).to.deep.equal([10, 20]);
  });

  it('goes along the circle with slerp, along the line where vectors are parallel', () => {
    const middle = numbers(slerp(0.5, tf.tensor1d([1, 0]), tf.tensor1d([0, 1])));
    expect(middle[0]).to.be.closeTo(Math.SQRT1_2, 1e-6);
    expect(middle[1]).to.be.closeTo(Math.SQRT1_2, 1e-6);
    const line = numbers(slerp(0.25, tf.tensor1d([1, 0]), tf.tensor1d([5, 0])));
    expect(line).to.deep.equal([2, 0]);
    expect(numbers(slerp(0.5, tf.zeros([2]), tf.tensor1d([0, 1])))[1]).to.be.closeTo(
      Math.SQRT1_2,
      1e-6,
    );
  });

  it('elects signs after the weighting in ties and divides by the weights that agree', () => {
    const base = tf.zeros([3]);
    const models = [tf.tensor1d([1, -2, 4]), tf.tensor1d([-1.5, 3, 8])];
    const merged = taskMerge('ties', base, models, { weights: [2, 1] });
    expect(numbers(merged)).to.deep.equal([1, -2, 16 / 3].map(Math.fround));
    const sum = taskMerge('ties', base, models, { weights: [2, 1], normalize: false });
    expect(numbers(sum)).to.deep.equal([2, -4, 16]);
  });

  it('keeps the largest changes in ties, at least one of them', () => {
    const prune = (density: number) => {
      const models = [tf.tensor1d([1, -5, 2, 3])];
      const parameters = { weights: [1], densities: [density] };
      return numbers(taskMerge('ties', tf.zeros([4]), models, parameters));
    };
    expect(prune(0.5)).to.deep.equal([0, -5, 0, 3]);
    expect(prune(0.1)).to.deep.equal([0, -5, 0, 0]);
    expect(prune(0)).to.deep.equal([0, 0, 0, 0]);
  });

  it('keeps the L1 norm of a change in DARE and repeats a seed exactly', () => {
    const base = tf.zeros([1000]);
    const model = randomNormal([1000], new RandomState(1));
    const dare = (seed: number) =>
      taskMerge('dare_linear', base, [model], {
        weights: [1],
        densities: [0.2],
        masks: seededMasks(seed),
      });
    const norm = (x: tf.Tensor) => tf.sum(tf.abs(x)).dataSync()[0]!;
    const first = numbers(dare(3));
    expect(norm(dare(3)) / norm(model)).to.be.closeTo(1, 1e-5);
    expect(first.filter((x) => x !== 0).length).to.be.within(150, 250);
    expect(numbers(dare(3))).to.deep.equal(first);
    expect(numbers(dare(4))).to.not.deep.equal(first);
  });

  it('negates a task with a weight of -1', () => {
    const [base, model] = [tf.tensor1d([1, 1]), tf.tensor1d([2, -1])];
    const merged = taskMerge('task_arithmetic', base, [model], { weights: [-1] });
    expect(numbers(merged)).to.deep.equal([0, 3]);
  });

  it('says what does not fit', () => {
    const [a, b] = [tf.zeros([2]), tf.zeros([3])];
    expect(() => linearMerge([a, b], { weights: [1, 1] })).to.throw(
      'Tensors to merge must have one shape, got [2] and [3]',
    );
    expect(() => linearMerge([a, a], { weights: [1] })).to.throw('2 models need 2 weights, got 1');
    expect(() => linearMerge([a, a], { weights: [1, -1] })).to.throw('must not sum to 0');
    expect(() => linearMerge([], { weights: [] })).to.throw('at least one model, got none');
    expect(() => taskMerge('ties', a, [a], { weights: [1], densities: [1.5] })).to.throw(
      "A merge's density must be a number from 0 to 1, got 1.5",
    );
    expect(() => taskMerge('ties', a, [a], { weights: [1], densities: [] })).to.throw(
      '1 models need 1 densities, got 0',
    );
  });
});
