import { expect } from 'chai';
import { RandomState, randomNormal, randomUniform, setBackend } from 'peftlab';
import peer from '../peers/random-state.json' with { type: 'json' };

const draws = <T>(count: number, draw: () => T): T[] => Array.from({ length: count }, draw);
const mean = (values: number[]) => values.reduce((a, b) => a + b, 0) / values.length;

describe('RandomState', () => {
  for (const expected of peer.cases) {
    describe(`with seed ${expected.seed}, as ${peer.peer}`, () => {
      const random = () => new RandomState(expected.seed);

      it('draws the same uniform numbers, over several refills of the state', () => {
        const state = random();
        const values = draws(2000, () => state.random());
        expect([0, 1, 2, 700, 1999].map((i) => values[i])).to.deep.equal(expected.random);
        expect(random().uniform(-2, 5)).to.be.closeTo(expected.uniform, 1e-15);
      });

      it('draws the same Gaussian numbers', () => {
        const state = random();
        for (const value of expected.normal) expect(state.normal()).to.be.closeTo(value, 1e-14);
        expect(random().normal(1, 3)).to.be.closeTo(expected.normalScaled, 1e-14);
      });

      it('draws the same whole numbers and the same order', () => {
        const state = random();
        expect(draws(6, () => state.randint(3, 17))).to.deep.equal(expected.randint);
        expect(random().permutation(Array(12).keys())).to.deep.equal(expected.permutation);
      });
    });
  }

  it('repeats itself from the same seed and differs from another', () => {
    const first = new RandomState(7);
    const again = new RandomState(7);
    const other = new RandomState(8);
    const values = draws(20, () => first.random());
    expect(draws(20, () => again.random())).to.deep.equal(values);
    expect(draws(20, () => other.random())).to.not.deep.equal(values);
  });

  it('keeps the items in permutation and leaves the list alone', () => {
    const items = ['a', 'b', 'c', 'd', 'e', 'f'];
    const mixed = new RandomState(3).permutation(items);
    expect(mixed).to.have.members(items).and.not.deep.equal(items);
    expect(items.join('')).to.equal('abcdef');
  });

  it('chooses every item sooner or later', () => {
    const random = new RandomState(1);
    const chosen = new Set(draws(100, () => random.choice(['x', 'y', 'z'])));
    expect([...chosen]).to.have.members(['x', 'y', 'z']);
  });

  it('refuses seeds and ranges it can not use', () => {
    expect(() => new RandomState(-1)).to.throw(RangeError, 'got -1');
    expect(() => new RandomState(1.5)).to.throw(RangeError, 'got 1.5');
    expect(() => new RandomState(0).randint(3, 3)).to.throw(RangeError, 'got 3 and 3');
    expect(() => new RandomState(0).choice([])).to.throw(RangeError, 'got none');
  });
});

describe('random tensors', () => {
  before(() => setBackend());

  it('have the shape, mean and deviation asked for', () => {
    const tensor = randomNormal([200, 100], new RandomState(5), { mean: 2, std: 0.5 });
    const values = Array.from(tensor.dataSync());
    const centre = mean(values);
    expect(tensor.shape).to.deep.equal([200, 100]);
    expect(centre).to.be.closeTo(2, 5 * (0.5 / Math.sqrt(20000)));
    expect(Math.sqrt(mean(values.map((x) => (x - centre) ** 2)))).to.be.closeTo(0.5, 0.015);
  });

  it('stay within the bounds and fill them', () => {
    const tensor = randomUniform([1000], new RandomState(5), { low: -3, high: 1 });
    expect(tensor.min().dataSync()[0]).to.be.within(-3, -2.9);
    expect(tensor.max().dataSync()[0]).to.be.within(0.9, 1);
  });

  it('continue the stream of their generator', () => {
    const [one, two] = [new RandomState(9), new RandomState(9)];
    const whole = randomNormal([4], one).dataSync();
    const parts = [randomNormal([2], two), randomNormal([2], two)].flatMap((t) => [
      ...t.dataSync(),
    ]);
    expect(parts).to.deep.equal([...whole]);
  });
});
