import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { choose, loadBalancingLoss, Router } from '../../src/peft/router.ts';
import { RoutingStatistics } from '../../src/peft/router-statistics.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

interface Case {
  logits: number[][][];
  topK: number;
  loss: number;
  mask?: number[][];
}

const cases: Case[] = JSON.parse(
  readFileSync(join(import.meta.dirname, '../peers/router.json'), 'utf8'),
);
const numbers = (tensor: tf.Tensor) => Array.from(tensor.dataSync());
const states = (seed = 1) => randomNormal<tf.Rank.R3>([2, 4, 6], new RandomState(seed));

describe('choose', () => {
  before(() => setBackend('wasm'));
  const logits = () => tf.tensor3d([[[2, 0, 1, -1]]]);
  const exps = [2, 0, 1, -1].map(Math.exp);
  const total = exps.reduce((a, b) => a + b);

  it('weighs the winner of top-1 by its probability', () => {
    const weights = numbers(choose(logits(), 1).weights);
    expect(weights[0]).to.be.closeTo(exps[0]! / total, 1e-6);
    expect(weights.slice(1)).to.deep.equal([0, 0, 0]);
  });

  it('shares 1 among the winners of top-k', () => {
    const weights = numbers(choose(logits(), 2).weights);
    expect(weights[0]).to.be.closeTo(exps[0]! / (exps[0]! + exps[2]!), 1e-6);
    expect(weights[0]! + weights[2]!).to.be.closeTo(1, 1e-6);
    expect([weights[1], weights[3]]).to.deep.equal([0, 0]);
  });

  it('uses all experts when soft', () => {
    const { weights, selected } = choose(logits());
    numbers(weights).forEach((w, i) => void expect(w).to.be.closeTo(exps[i]! / total, 1e-6));
    expect(numbers(selected)).to.deep.equal([1, 1, 1, 1]);
  });

  it('selects exactly k where probabilities are equal', () => {
    expect(numbers(choose(tf.zeros([1, 1, 4]) as tf.Tensor3D, 2).selected)).to.deep.equal([
      1, 1, 0, 0,
    ]);
  });
});

describe('loadBalancingLoss', () => {
  before(() => setBackend('wasm'));

  it('is that of transformers', () => {
    for (const { logits, topK, loss, mask } of cases) {
      const routing = choose(tf.tensor3d(logits), topK);
      const own = loadBalancingLoss(routing, mask && tf.tensor2d(mask, undefined, 'int32'));
      expect(own.dataSync()[0]).to.be.closeTo(loss, 1e-5);
    }
  });

  it('is 1 when even and E when one expert has all', () => {
    const even = tf.tensor3d([[1, 2, 3].map((i) => [1, 2, 3].map((j) => (i === j ? 30 : 0)))]);
    const one = tf.tensor3d([[1, 2, 3].map(() => [30, 0, 0])]);
    expect(loadBalancingLoss(choose(even, 1)).dataSync()[0]).to.be.closeTo(1, 1e-5);
    expect(loadBalancingLoss(choose(one, 1)).dataSync()[0]).to.be.closeTo(3, 1e-5);
  });
});

describe('Router', () => {
  before(() => setBackend('wasm'));
  const config = { experts: ['a', 'b', 'c'], hiddenSize: 6 };

  it('chooses for each token or for the whole sequence', () => {
    const token = new Router({ ...config, level: 'token' });
    const sequence = new Router(config);
    expect(token.forward(states()).weights.shape).to.deep.equal([2, 4, 3]);
    expect(sequence.forward(states()).weights.shape).to.deep.equal([2, 1, 3]);
  });

  it('reads only the positions of the mask', () => {
    const router = new Router(config);
    const mask = tf.tensor2d(
      [
        [1, 1, 0, 0],
        [1, 0, 0, 0],
      ],
      undefined,
      'int32',
    );
    const all = numbers(router.forward(states(), mask).logits);
    const cut = tf.concat([states().slice([0, 0], [-1, 2]), states(5).slice([0, 2])], 1);
    expect(numbers(router.forward(cut as tf.Tensor3D, mask).logits)).to.deep.equal(all);
    const other = tf.concat([states(5).slice([0, 0], [-1, 1]), states().slice([0, 1])], 1);
    expect(numbers(router.forward(other as tf.Tensor3D, mask).logits)).to.not.deep.equal(all);
  });

  it('is the same after it was saved', () => {
    const folder = mkdtempSync(join(tmpdir(), 'peftlab-'));
    const router = new Router({ ...config, topK: 2, level: 'token', layer: 1, seed: 4 });
    router.save(folder);
    const again = Router.load(folder);
    expect(again.config).to.deep.equal(router.config);
    expect(numbers(again.forward(states()).weights)).to.deep.equal(
      numbers(router.forward(states()).weights),
    );
    rmSync(folder, { recursive: true });
  });

  it('says which setting is wrong', () => {
    expect(() => new Router({ ...config, topK: 4 })).to.throw(
      'topK must be an integer from 1 to 3, got 4',
    );
    expect(() => new Router({ ...config, experts: [] })).to.throw('experts with different names');
    expect(() => new Router({ ...config, experts: ['a', 'a'] })).to.throw('got [a,a]');
    expect(() => new Router({ ...config, level: 'word' as 'token' })).to.throw('got "word"');
  });
});

describe('RoutingStatistics', () => {
  before(() => setBackend('wasm'));

  it('counts shares, entropy and tasks, without padding', () => {
    const statistics = new RoutingStatistics(['a', 'b']);
    const logits = tf.tensor3d([
      [
        [9, 0],
        [0, 9],
      ],
      [
        [9, 0],
        [0, 0],
      ],
    ]);
    const mask = tf.tensor2d(
      [
        [1, 1],
        [1, 0],
      ],
      undefined,
      'int32',
    );
    statistics.add(choose(logits, 1), { tasks: ['a', 'b'], mask });
    const report = statistics.report();
    expect(report.rows).to.equal(3);
    expect(report.share).to.deep.equal([2 / 3, 1 / 3]);
    expect(report.byTask.get('a')).to.deep.equal([0.5, 0.5]);
    expect(report.byTask.get('b')).to.deep.equal([1, 0]);
    expect(report.accuracy).to.be.closeTo(1 / 3, 1e-9);
    const counted = loadBalancingLoss(choose(logits, 1), mask).dataSync()[0]!;
    expect(report.balance).to.be.closeTo(counted, 1e-5);
    expect(report.effectiveExperts).to.be.closeTo(3 / 2 ** (2 / 3), 1e-6);
  });

  it('knows nothing of a router that knows nothing', () => {
    const statistics = new RoutingStatistics(['a', 'b', 'c']);
    statistics.add(choose(tf.zeros([4, 1, 3]) as tf.Tensor3D));
    const { entropy, share, accuracy } = statistics.report();
    expect(entropy).to.be.closeTo(Math.log(3), 1e-6);
    share.forEach((part) => void expect(part).to.be.closeTo(1 / 3, 1e-6));
    expect(accuracy).to.equal(undefined);
  });
});
