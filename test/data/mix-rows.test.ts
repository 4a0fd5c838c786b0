import { expect } from 'chai';
import { deduplicate, splitWithoutLeaks } from '../../src/data/duplicates.ts';
import { curriculum, mixRows, ReplayBuffer, withReplay } from '../../src/data/mix-rows.ts';

const numbers = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

describe('mixRows', () => {
  it('gives each source its share, exactly, without repeating rows', () => {
    const mixed = mixRows([
      { rows: numbers(0, 100), weight: 80 },
      { rows: numbers(1000, 10), weight: 20 },
    ]);
    expect(mixed).to.have.length(50);
    expect(mixed.filter((row) => row >= 1000)).to.have.length(10);
    expect(new Set(mixed).size).to.equal(50);
  });

  it('repeats all rows of a short source before one comes a third time', () => {
    const mixed = mixRows(
      [
        { rows: numbers(0, 100), weight: 0.5 },
        { rows: numbers(1000, 7), weight: 0.5 },
      ],
      { length: 40, seed: 3 },
    );
    const counts = numbers(1000, 7).map((row) => mixed.filter((other) => other === row).length);
    expect(counts.reduce((sum, count) => sum + count)).to.equal(20);
    expect(Math.max(...counts) - Math.min(...counts)).to.equal(1);
  });

  it('follows its seed and rounds shares to whole rows', () => {
    const sources = [1, 1, 1].map((weight, i) => ({ rows: numbers(i * 10, 10), weight }));
    expect(mixRows(sources, { length: 10, seed: 1 })).to.deep.equal(
      mixRows(sources, { length: 10, seed: 1 }),
    );
    expect(mixRows(sources, { length: 10 })).to.have.length(10);
  });

  it('names weights and sources that can not be mixed', () => {
    expect(() => mixRows([{ rows: [1], weight: -1 }])).to.throw('at least 0, got -1');
    expect(() => mixRows([{ rows: [], weight: 1 }])).to.throw('must have rows, got none');
    expect(() => mixRows([{ rows: [1], weight: 0 }])).to.throw('more than 0, got 0');
  });
});

describe('Replay', () => {
  it('makes earlier rows a share of the whole', () => {
    const rows = withReplay(numbers(0, 80), numbers(1000, 200), { share: 0.2 });
    expect(rows.filter((row) => row >= 1000)).to.have.length(20);
    expect(rows).to.have.length(100);
    expect(() => withReplay([1], [2], { share: 1 })).to.throw('below 1, got 1');
  });

  it('keeps each row of a stream with the same chance', () => {
    const times = Array<number>(20).fill(0);
    for (const seed of numbers(0, 2000)) {
      const buffer = new ReplayBuffer<number>(5, { seed });
      for (const row of numbers(0, 20)) buffer.add(row);
      for (const row of buffer.rows) times[row]!++;
    }
    // 500 expected of 2000, deviation sqrt(2000 * 0.25 * 0.75) = 19.4.
    for (const count of times) expect(count).to.be.within(400, 600);
  });

  it('samples without repeating, and not more than it holds', () => {
    const buffer = new ReplayBuffer<number>(5);
    for (const row of numbers(0, 9)) buffer.add(row);
    expect(new Set(buffer.sample(5)).size).to.equal(5);
    expect(() => buffer.sample(6)).to.throw('The buffer holds 5 rows, 6 were asked for');
    expect(() => new ReplayBuffer(0)).to.throw('must be positive, got 0');
  });
});

describe('curriculum', () => {
  it('goes from easy to hard in stages, mixed inside', () => {
    const rows = curriculum(numbers(0, 30).reverse(), (row) => row, { stages: 3, seed: 1 });
    for (const stage of [0, 1, 2]) {
      const part = rows.slice(stage * 10, stage * 10 + 10);
      expect(part.toSorted((a, b) => a - b)).to.deep.equal(numbers(stage * 10, 10));
      expect(part).to.not.deep.equal(numbers(stage * 10, 10));
    }
    expect(() => curriculum([1], (row) => row, { stages: 0 })).to.throw('positive integer, got 0');
  });
});

describe('Duplicates', () => {
  const rows = [
    { text: 'The capital of France is Paris.' },
    { text: 'the  capital of France is PARIS' },
    { text: 'The capital of France is Paris, of course.' },
    { text: 'Sums of numbers are numbers again' },
  ];

  it('are found up to case, space and punctuation', () => {
    const { rows: kept, removed } = deduplicate(rows);
    expect([removed, kept.length, kept.at(0)]).to.deep.equal([1, 3, rows[0]]);
  });

  it('are found by what they share, if asked', () => {
    expect(deduplicate(rows, { threshold: 0.6 }).removed).to.equal(2);
    expect(() => deduplicate(rows, { threshold: 0 })).to.throw('above 0 and at most 1, got 0');
  });

  it('never stand on both sides of a split', () => {
    const many = numbers(0, 60).map((i) => ({
      text: `row ${i % 20}`,
      page: String((i % 20) >> 1),
    }));
    for (const seed of numbers(0, 10)) {
      const { train, test } = splitWithoutLeaks(many, {
        testSize: 0.25,
        seed,
        groupOf: ({ page }) => page,
      });
      expect(train.length + test.length).to.equal(60);
      expect(test.length).to.be.within(10, 15);
      const pages = new Set(train.column('page'));
      expect(test.column('page').some((page) => pages.has(page))).to.equal(false);
    }
    expect(() => splitWithoutLeaks(rows.slice(0, 2), { testSize: 0.5, seed: 1 })).to.throw(
      'testSize must leave rows in both parts of 2 in 1 groups, got 0.5',
    );
  });
});
