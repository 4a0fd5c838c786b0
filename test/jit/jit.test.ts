import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { dropout, jit, seededUniform, setBackend } from 'peftlab';

/** What `run` prints. */
function printed(run: () => unknown): string[] {
  const { log } = console;
  const lines: string[] = [];
  console.log = (line: string) => void lines.push(line);
  try {
    run();
  } finally {
    console.log = log;
  }
  return lines;
}

const numbers = (x: tf.Tensor) => Array.from(x.dataSync());

describe('jit', () => {
  before(() => setBackend('native'));
  after(() => setBackend('auto'));

  it('takes and gives nested arrays, records and maps', () => {
    const swap = jit(({ a, rest }: { a: tf.Tensor; rest: [tf.Tensor, number] }) => ({
      sum: [tf.add(a, rest[0])],
      by: new Map([['scaled', tf.mul(a, rest[1])]]),
      label: 'same',
    }));
    const result = swap({ a: tf.tensor1d([1, 2]), rest: [tf.tensor1d([3, 4]), 10] });
    expect(numbers(result.sum[0]!)).to.deep.equal([4, 6]);
    expect(numbers(result.by.get('scaled')!)).to.deep.equal([10, 20]);
    expect(result.label).to.equal('same');
  });

  it('compiles once for each set of shapes and plain values', () => {
    const scale = jit((x: tf.Tensor, factor: number) => tf.mul(x, factor));
    scale(tf.ones([2]), 2);
    scale(tf.zeros([2]), 2);
    expect(scale.compilations).to.equal(1);
    expect(numbers(scale(tf.ones([3]), 2))).to.deep.equal([2, 2, 2]);
    expect(numbers(scale(tf.ones([3]), 5))).to.deep.equal([5, 5, 5]);
    expect(scale.compilations).to.equal(3);
  });

  it('says once that numbers which change make it compile at each call', () => {
    const shift = jit(function shift(x: tf.Tensor, by: number) {
      return tf.add(x, by);
    });
    const lines = printed(() => {
      for (let i = 0; i < 20; i++) shift(tf.ones([2]), i);
    });
    expect(lines).to.deep.equal([
      "jit: 'shift' was compiled 16 times; numbers that change are passed as tf.scalar(x)",
    ]);
    shift.dispose();
  });

  it('reads variables anew at each call and assigns those that the function assigns', () => {
    const weight = tf.variable(tf.tensor1d([1, 2]));
    const step = jit((gradient: tf.Tensor) => {
      weight.assign(tf.sub(weight, tf.mul(gradient, 0.5)) as tf.Tensor1D);
      return tf.sum(weight);
    });
    const first = step(tf.tensor1d([2, 2]));
    expect(numbers(weight)).to.deep.equal([0, 1]);
    expect(numbers(first)).to.deep.equal([1]);
    weight.assign(tf.tensor1d([5, 5]));
    step(tf.tensor1d([2, 2]));
    expect(numbers(weight)).to.deep.equal([4, 4]);
    weight.dispose();
  });

  it('gives the gradients of variables', () => {
    const weight = tf.variable(
      tf.tensor2d([
        [1, 2],
        [3, 4],
      ]),
    );
    const loss = () => tf.sum(tf.square(tf.matMul(tf.ones([1, 2]), weight))) as tf.Scalar;
    const step = jit(() => tf.variableGrads(loss, [weight]));
    const { value, grads } = step();
    expect(numbers(value)).to.deep.equal([16 + 36]);
    expect(numbers(Object.values(grads)[0]!)).to.deep.equal([8, 12, 8, 12]);
    weight.dispose();
  });

  it('names the op that has no native form and the line, once, and runs eagerly', () => {
    const filter = jit(function filter(x: tf.Tensor4D) {
      return tf.maxPool(x, 2, 2, 'same');
    });
    const x = tf.ones([1, 4, 4, 1]) as tf.Tensor4D;
    const lines = printed(() => [filter(x), filter(x)]);
    expect(lines).to.have.length(1);
    expect(lines[0]).to.match(
      /^jit: 'filter' runs eagerly, since the op MaxPool has no native form/,
    );
    expect(lines[0]).to.contain(`${fileURLToPath(import.meta.url)}:`);
    expect(numbers(filter(x))).to.deep.equal([1, 1, 1, 1]);
  });

  it('names the line whose flow depends on a number', () => {
    const clip = jit((x: tf.Tensor) => (tf.max(x).dataSync()[0]! > 1 ? tf.zerosLike(x) : x));
    const lines = printed(() => clip(tf.tensor1d([0.5, 2])));
    expect(lines[0]).to.contain('the value of a traced tensor was read at');
    expect(clip.fallback).to.contain('the value of a traced tensor was read');
    expect(numbers(clip(tf.tensor1d([0.5, 2])))).to.deep.equal([0, 0]);
  });

  for (const [name, draw] of Object.entries({
    randomUniform: () => tf.randomUniform([4]),
    randomNormal: () => tf.randomNormal([4]),
    truncatedNormal: () => tf.truncatedNormal([4]),
    dropout: () => tf.dropout(tf.ones([4]), 0.5),
  })) {
    it(`refuses tf.${name}, which has no seed input`, () => {
      const noisy = jit((x: tf.Tensor) => tf.add(x, draw()));
      expect(printed(() => noisy(tf.ones([4])))[0]).to.contain(`tf.${name} without a seed input`);
    });
  }

  it('refuses a promise and a new variable', () => {
    const slow = jit(async (x: tf.Tensor) => x);
    expect(printed(() => slow(tf.ones([1])))[0]).to.contain('it returns a promise');
    const maker = jit((x: tf.Tensor) => tf.add(x, tf.variable(tf.ones([1]))));
    expect(printed(() => maker(tf.ones([1])))[0]).to.contain('a tf.Variable was made');
  });

  it('passes on an error of the function itself', () => {
    const wrong = jit((x: tf.Tensor) => tf.matMul(x, tf.ones([3, 3])));
    expect(() => wrong(tf.ones([2, 2]))).to.throw('matMul');
  });

  it('scans as a loop of calls does', async () => {
    type Carry = { sum: tf.Tensor; factor: tf.Tensor; count: tf.Tensor };
    const fn = ({ sum, factor, count }: Carry): [Carry, { twice: tf.Tensor }] => {
      const next = tf.add(tf.mul(sum, factor), count);
      const carry = { sum: next, factor, count: tf.add(count, 1) };
      return [carry, { twice: tf.mul(next, 2) }];
    };
    const begin = () => ({
      sum: tf.tensor1d([1, -2, 0.5]),
      factor: tf.scalar(1.5),
      count: tf.scalar(1),
    });
    const found: number[][] = [];
    for (const backend of ['native', 'wasm'] as const) {
      await setBackend(backend);
      const step = jit(fn);
      const [carry, { twice }] = step.scan(begin(), 5);
      expect(twice.shape).to.deep.equal([5, 3]);
      found.push([...numbers(carry.sum), ...numbers(carry.count), ...numbers(twice)]);
      expect(numbers(carry.factor)).to.deep.equal([1.5]);
      const [last] = step.scan(carry, 1);
      expect(numbers(last.count)).to.deep.equal([7]);
    }
    let carry: Carry = begin();
    const rows: number[] = [];
    for (let i = 0; i < 5; i++) {
      const [next, { twice }] = fn(carry);
      rows.push(...numbers(twice));
      carry = next;
    }
    const wanted = [...numbers(carry.sum), ...numbers(carry.count), ...rows];
    expect(found).to.deep.equal([wanted, wanted]);
    await setBackend('native');
  });

  it('draws the same numbers as eager code from a seed, and others from another', () => {
    const seed = (n: number) => tf.scalar(n, 'int32');
    const draw = jit((s: tf.Tensor) => seededUniform([1000], s));
    for (const n of [0, 7, -3]) {
      expect(numbers(draw(seed(n)))).to.deep.equal(numbers(seededUniform([1000], seed(n))));
    }
    expect(numbers(draw(seed(1)))).not.to.deep.equal(numbers(draw(seed(2))));
    const drop = jit((x: tf.Tensor, s: tf.Tensor) => dropout(x, 0.3, s));
    const x = tf.ones([50, 40]);
    expect(numbers(drop(x, seed(4)))).to.deep.equal(numbers(dropout(x, 0.3, seed(4))));
    const kept = numbers(drop(x, seed(5))).filter((value) => value > 0).length / 2000;
    expect(kept).to.be.closeTo(0.7, 0.05);
    expect(drop.compilations).to.equal(1);
  });

  it('uses up donated state and leaves no tensor behind', () => {
    const step = jit((state: tf.Tensor[], x: tf.Tensor) => state.map((s) => tf.add(s, x)), {
      donate: [0],
    });
    const x = tf.ones([3]);
    let state = step([tf.zeros([3]), tf.ones([3])], x);
    const before = tf.memory().numTensors;
    for (let i = 0; i < 10; i++) state = step(state, x);
    expect(tf.memory().numTensors).to.equal(before);
    expect(numbers(state[0]!)).to.deep.equal([11, 11, 11]);
  });

  it('keeps nothing of what it made while tracing', () => {
    const fn = jit((x: tf.Tensor) => tf.sum(tf.mul(tf.add(x, 1), tf.exp(x))));
    const x = tf.ones([4]);
    const before = tf.memory().numTensors;
    fn(x).dispose();
    expect(tf.memory().numTensors).to.equal(before);
    fn.dispose();
  });

  it('reads what it captures once where it is to freeze it', () => {
    const weight = tf.variable(tf.ones([3, 2]));
    const multiply = (x: tf.Tensor2D) => tf.matMul(x, weight as tf.Tensor2D, false, true);
    const [frozen, plain] = [jit(multiply, { freeze: true }), jit(multiply)];
    const x = tf.tensor2d([[1, 2]]);
    for (const compiled of [frozen, plain]) {
      expect(numbers(compiled(x))).to.deep.equal([3, 3, 3]);
      expect(compiled.memory!.results).to.equal(12);
      expect(compiled.memory!.temporaries).to.equal(0);
    }
    weight.assign(tf.fill([3, 2], 10));
    expect(numbers(frozen(x))).to.deep.equal([3, 3, 3]);
    expect(numbers(plain(x))).to.deep.equal([30, 30, 30]);
    expect(frozen.fallback).to.equal(undefined);
  });

  it('works within another jit and within tf.tidy', () => {
    const inner = jit((x: tf.Tensor) => tf.mul(x, 3));
    const outer = jit((x: tf.Tensor) => tf.add(inner(x), 1));
    expect(numbers(tf.tidy(() => outer(tf.ones([2]))))).to.deep.equal([4, 4]);
  });

  it('lets eager ops read its results and takes theirs', () => {
    const square = jit((x: tf.Tensor) => tf.square(x));
    const four = tf.add(square(tf.tensor1d([1, 2])), tf.tensor1d([3, 0]));
    expect(numbers(square(four))).to.deep.equal([16, 16]);
    expect(numbers(four)).to.deep.equal([4, 4]);
  });

  it('leaves the event loop free while a graph runs', async () => {
    const heavy = jit((x: tf.Tensor) => {
      let y = x;
      for (let i = 0; i < 30; i++) y = tf.mul(tf.matMul(y, x), 1e-3);
      return tf.sum(y);
    });
    const x = tf.randomUniform([600, 600], 0, 1, 'float32', 1);
    await heavy(x).data();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await heavy(x).data();
    clearInterval(timer);
    expect(ticks).to.be.greaterThan(5);
    heavy.dispose();
  });

  it('says how much memory was wanted where there is not enough', async () => {
    const spread = jit((x: tf.Tensor) => tf.broadcastTo(x, [2 ** 20, 2 ** 20]));
    let message = '';
    await spread(tf.ones([1, 2 ** 20]))
      .data()
      .catch((error: Error) => {
        message = error.message;
      });
    expect(message).to.equal(
      'The native run failed: Out of memory: 4194304 MB were wanted for a result of shape [1048576,1048576]',
    );
  });

  it('says that a disposed tensor was passed', () => {
    const same = jit((x: tf.Tensor) => tf.neg(x));
    const x = tf.ones([2]);
    same(x);
    x.dispose();
    expect(() => same(x)).to.throw('disposed');
  });
});
