import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { appendKeyValue, attend, attendCached, attentionBias } from '../../src/nn/attention.ts';
import { applyRotary, RotaryEmbedding } from '../../src/nn/rotary.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

/** softmax(q k / sqrt(D)) v of one head and position, by its formula. */
function formula(q: number[], keys: number[][], values: number[][]): number[] {
  const scores = keys.map((k) => k.reduce((sum, x, i) => sum + x * q[i]!, 0) / Math.sqrt(q.length));
  const exps = scores.map((s) => Math.exp(s));
  const total = exps.reduce((a, b) => a + b, 0);
  return q.map((_, d) => values.reduce((sum, v, s) => sum + (exps[s]! / total) * v[d]!, 0));
}

describe('attention', () => {
  before(() => setBackend('wasm'));
  const random = new RandomState(5);
  const tensor = (...shape: [number, number, number, number]) => randomNormal(shape, random);

  it('mixes values by the formula, each key head serving its query heads', () => {
    const [q, key, value] = [tensor(2, 6, 3, 4), tensor(2, 2, 5, 4), tensor(2, 2, 5, 4)];
    const bias = attentionBias(3, 5)!;
    const out = attend(q as tf.Tensor4D, { key, value } as never, { bias }).arraySync();
    const [Q, K, V] = [q.arraySync(), key.arraySync(), value.arraySync()] as number[][][][][];
    for (const b of [0, 1]) {
      for (let h = 0; h < 6; h++) {
        for (let t = 0; t < 3; t++) {
          const seen = [K, V].map((x) => x![b]![Math.floor(h / 3)]!.slice(0, 3 + t));
          const expected = formula(Q![b]![h]![t]!, seen[0]!, seen[1]!);
          for (const [d, value] of expected.entries()) {
            expect(out[b]![t]![h * 4 + d]).to.be.closeTo(value, 1e-5);
          }
        }
      }
    }
  });

  it('hides what is later and what is padding, and nothing from a single new position', () => {
    expect(attentionBias(1, 4)).to.equal(undefined);
    const mask = tf.tensor2d([[0, 1, 1]], undefined, 'int32');
    const visible = attentionBias(3, 3, mask)!.equal(0).dataSync();
    expect([...visible]).to.deep.equal([0, 0, 0, 0, 1, 0, 0, 1, 1]);
  });

  it('refuses a mask that does not cover the past', () => {
    expect(() => attentionBias(1, 4, tf.ones([1, 3]) as tf.Tensor2D)).to.throw(
      'attentionMask must cover all 4 positions, past ones included, got [1,3]',
    );
  });

  it('turns pairs so that only distances between positions count', () => {
    const rotary = new RotaryEmbedding(8, 64, { ropeType: 'default', ropeTheta: 10000 });
    const [q, k] = [tensor(1, 1, 1, 8), tensor(1, 1, 1, 8)] as tf.Tensor4D[];
    const at = (x: tf.Tensor4D, p: number) =>
      applyRotary(x, rotary.tables(tf.tensor2d([[p]], undefined, 'int32')));
    const dot = (p: number, s: number) => tf.sum(tf.mul(at(q!, p), at(k!, s))).dataSync()[0]!;
    expect(dot(9, 4)).to.be.closeTo(dot(25, 20), 1e-4);
    expect(dot(9, 4)).to.not.be.closeTo(dot(9, 5), 1e-4);
  });

  it('names the rotary setting that is missing or wrong', () => {
    const make =
      (rope: object, size = 8) =>
      () =>
        new RotaryEmbedding(size, 64, { ropeTheta: 1e4, ...rope } as never);
    expect(make({ ropeType: 'linear' })).to.throw("rope_type 'linear' needs factor");
    expect(make({ ropeType: 'longrope', shortFactor: [1] })).to.throw('short_factor must hold 4');
    expect(make({ ropeType: 'x' })).to.throw("got 'x'");
    expect(make({ ropeType: 'default' }, 7)).to.throw('head_dim must be even');
  });
});

describe('attendCached', () => {
  const shapes = { batch: 2, heads: 4, groups: 2, size: 16, total: 12 };
  const draw = (heads: number, length: number, seed: number) =>
    tf.randomNormal(
      [shapes.batch, heads, length, shapes.size],
      0,
      1,
      'float32',
      seed,
    ) as tf.Tensor4D;

  for (const length of [1, 3]) {
    it(`gives over a filled cache what attention over all positions gives, ${length} at a time`, async () => {
      for (const backend of ['wasm', 'native'] as const) {
        await setBackend(backend);
        const { heads, groups, size, total, batch } = shapes;
        const filled = length === 1 ? [5, 5] : [0, 0];
        const lengths = tf.tensor1d(filled, 'int32');
        const past = { key: draw(groups, total, 1), value: draw(groups, total, 2) };
        const q = draw(heads, length, 3);
        const now = { key: draw(groups, length, 4), value: draw(groups, length, 5) };
        const cut = (x: tf.Tensor4D) =>
          tf.slice(x, [0, 0, 0, 0], [batch, groups, filled[0]!, size]);
        const all = appendKeyValue({ key: cut(past.key), value: cut(past.value) }, now);
        const bias = attentionBias(length, filled[0]! + length);
        const wanted = attend(q, all, { bias });
        const run = jit((...args: Parameters<typeof attendCached>) => attendCached(...args));
        const [mixed, cache] = run(q, now, past, lengths);
        expect(run.fallback).to.equal(undefined);
        expect(tf.max(tf.abs(tf.sub(mixed, wanted))).dataSync()[0]).to.be.lessThan(1e-5);
        const kept = tf.slice(cache.key, [0, 0, 0, 0], all.key.shape);
        expect(tf.max(tf.abs(tf.sub(kept, all.key))).dataSync()[0]).to.be.lessThan(1e-6);
      }
    });
  }
});
