import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import {
  type CombinationType,
  type LoraFactors,
  type MergeLoraOptions,
  mergeLora,
} from '../../src/peft/merge-lora.ts';
import { combineTasks } from '../../src/peft/merge-tasks.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { svd } from '../../src/tensor/svd.ts';

const numbers = (tensor: tf.Tensor) => Array.from(tensor.dataSync());

function lora(seed: number, rank: number, scaling = 2): LoraFactors {
  const random = new RandomState(seed);
  return {
    a: randomNormal<tf.Rank.R2>([rank, 6], random),
    b: randomNormal<tf.Rank.R2>([5, rank], random),
    scaling,
  };
}

const product = ({ a, b, scaling }: LoraFactors) => tf.mul(tf.matMul(b, a), scaling);

function distance(x: tf.Tensor, y: tf.Tensor): number {
  return tf.max(tf.abs(tf.sub(x, y))).dataSync()[0]!;
}

describe('combineTasks', () => {
  before(() => setBackend('wasm'));

  it('elects signs before the weighting and divides by the count that agrees', () => {
    const tasks = [tf.tensor1d([1, -2, 4]), tf.tensor1d([-1.5, 3, 8])];
    const merged = combineTasks('ties', tasks, [2, 1], { density: 1 });
    expect(numbers(merged)).to.deep.equal([-1.5, 3, 8]);
  });

  it('counts signs when the majority is one of frequency', () => {
    const tasks = [tf.tensor1d([9]), tf.tensor1d([-1]), tf.tensor1d([-2])];
    const merge = (majoritySignMethod: 'total' | 'frequency') =>
      numbers(combineTasks('ties', tasks, [1, 1, 1], { density: 1, majoritySignMethod }));
    expect(merge('total')).to.deep.equal([9]);
    expect(merge('frequency')).to.deep.equal([-1.5]);
  });

  it('prunes by magnitude without scaling, by chance with 1/density', () => {
    const pruned = combineTasks('magnitude_prune', [tf.tensor1d([1, -5, 2])], [1], {
      density: 0.4,
    });
    expect(numbers(pruned)).to.deep.equal([0, -5, 0]);
    const equals = tf.tensor1d([1, -1, 1, 2]);
    const first = combineTasks('magnitude_prune', [equals], [1], { density: 0.5 });
    expect(numbers(first)).to.deep.equal([1, 0, 0, 2]);
    const dared = combineTasks('dare_linear', [tf.ones([2000])], [1], { density: 0.25 });
    expect(new Set(numbers(dared))).to.deep.equal(new Set([0, 4]));
    expect(tf.mean(dared).dataSync()[0]).to.be.closeTo(1, 0.15);
  });
});

describe('mergeLora', () => {
  const pair = () => [lora(1, 2), lora(2, 3, 0.5)];
  const exact = ([x, y]: LoraFactors[]) => tf.add(tf.mul(product(x!), 0.7), product(y!).mul(-1.2));

  it('is exact with cat, whose rank is the sum of ranks', () => {
    const merged = mergeLora('cat', pair(), [0.7, -1.2]);
    expect(merged.a.shape).to.deep.equal([5, 6]);
    expect(distance(product(merged), exact(pair()))).to.be.below(1e-5);
  });

  it('is exact with an svd of enough rank and nearest to it with less', () => {
    const errors = [1, 2, 3, 5].map((svdRank) => {
      const merged = mergeLora('svd', pair(), [0.7, -1.2], { svdRank });
      expect(merged.a.shape[0]).to.equal(svdRank);
      return tf.norm(tf.sub(product(merged), exact(pair()))).dataSync()[0]!;
    });
    expect(errors.at(-1)).to.be.below(1e-5);
    for (let i = 1; i < errors.length; i++) expect(errors[i]).to.be.below(errors[i - 1]!);
  });

  it('takes few ranks apart by their factors, as the svd of the whole sum would', () => {
    const few = [lora(1, 1), lora(2, 2, 0.5)];
    const { u, s, vh } = svd(exact(few) as tf.Tensor2D);
    const merged = mergeLora('svd', few, [0.7, -1.2], { svdRank: 2 });
    const kept = [tf.mul(u, s).slice([0, 0], [-1, 2]), vh.slice([0, 0], [2, -1])] as const;
    expect(distance(product(merged), tf.matMul(kept[0] as tf.Tensor2D, kept[1]))).to.be.below(1e-5);
    const [lengths, right] = [tf.norm(merged.b, 2, 0), tf.matMul(merged.a, merged.a, false, true)];
    expect(distance(lengths, s.slice(0, 2))).to.be.below(1e-5);
    expect(distance(right, tf.eye(2))).to.be.below(1e-5);
    expect(mergeLora('svd', few, [1, 1], { svdRank: 5 }).a.shape[0]).to.equal(5);
  });

  it('gives one adapter alone its own product with linear, also when subtracted', () => {
    const merged = mergeLora('svd', [lora(1, 2)], [-0.5]);
    expect(merged.a.shape[0]).to.equal(2);
    expect(distance(product(merged), tf.mul(product(lora(1, 2)), -0.5))).to.be.below(1e-6);
  });

  it('cuts the factors of an svd off at a quantile', () => {
    const merged = mergeLora('svd', pair(), [1, 1], { svdClamp: 0.9 });
    const all = [...numbers(merged.a), ...numbers(merged.b)].map(Math.abs);
    const largest = Math.max(...all);
    expect(all.filter((x) => x === largest).length).to.be.greaterThan(3);
  });

  it('says what does not fit', () => {
    const merge =
      (type: string, options: MergeLoraOptions = {}, weights = [1, 1]) =>
      () =>
        mergeLora(type as CombinationType, pair(), weights, options);
    expect(merge('linear')).to.throw(
      "combinationType 'linear' needs adapters of one rank, got 2 and 3; 'cat' and 'svd' take " +
        'different ranks',
    );
    expect(merge('mean')).to.throw(/must be one of linear, cat, svd, .*got 'mean'/);
    expect(merge('ties_svd')).to.throw("'ties' needs a density from 0 to 1, got none");
    expect(merge('ties_svd', { density: 2 })).to.throw('density must be a number from 0 to 1');
    expect(merge('svd', { svdRank: 6 })).to.throw('svdRank must be an integer from 1 to 5, got 6');
    expect(merge('cat', {}, [1])).to.throw('as many weights as adapters, got 1 and 2');
  });
});
