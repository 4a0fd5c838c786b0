import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Dataset, loadDataset } from 'peftlab';

const numbers = (count: number) => new Dataset([...Array(count).keys()].map((n) => ({ n })));

describe('Dataset', () => {
  it('gives rows, columns and length', () => {
    const data = new Dataset<{ word: string; more?: number }>([
      { word: 'a' },
      { word: 'b', more: 2 },
    ]);
    expect(data).to.have.length(2);
    expect(data.columnNames).to.deep.equal(['word', 'more']);
    expect(data.column('word')).to.deep.equal(['a', 'b']);
    expect(data.at(-1)).to.deep.equal({ word: 'b', more: 2 });
    expect(() => data.at(2)).to.throw(RangeError, 'has 2 rows, got index 2');
  });

  it('maps, filters and selects into new data sets', () => {
    const data = numbers(6);
    const squares = data.map(({ n }) => ({ square: n * n }));
    expect(squares.column('square')).to.deep.equal([0, 1, 4, 9, 16, 25]);
    expect(data.filter(({ n }) => n % 2 === 1).column('n')).to.deep.equal([1, 3, 5]);
    expect(data.select([4, 0, 4]).column('n')).to.deep.equal([4, 0, 4]);
    expect(data.column('n')).to.deep.equal([0, 1, 2, 3, 4, 5]);
  });

  it('shuffles by seed, always in the same way', () => {
    const order = (seed: number) => numbers(50).shuffle({ seed }).column('n');
    expect(order(1)).to.deep.equal(order(1)).and.not.deep.equal(order(2));
    expect([...order(1)].sort((a, b) => a - b)).to.deep.equal(numbers(50).column('n'));
  });

  for (const [testSize, expected] of [
    [0.25, 25],
    [7, 7],
  ] as const) {
    it(`splits off testSize ${testSize} as ${expected} of 100 rows, without a common row`, () => {
      const { train, test } = numbers(100).trainTestSplit({ testSize, seed: 4 });
      expect(test).to.have.length(expected);
      expect(new Set([...train.column('n'), ...test.column('n')]).size).to.equal(100);
    });
  }

  it('refuses a split that leaves a part empty', () => {
    for (const testSize of [0, 10, 11, 2.5]) {
      const split = () => numbers(10).trainTestSplit({ testSize, seed: 0 });
      expect(split, String(testSize)).to.throw(RangeError, `got ${testSize}`);
    }
  });

  it('goes through batches in order', () => {
    const sizes = (options?: { dropLastBatch: boolean }) =>
      [...numbers(7).iter(3, options)].map((batch) => batch.length);
    expect(sizes()).to.deep.equal([3, 3, 1]);
    expect(sizes({ dropLastBatch: true })).to.deep.equal([3, 3]);
    expect(() => numbers(7).iter(0).next()).to.throw(RangeError, 'got 0');
  });

  it('shows its first rows, with markup made harmless', () => {
    const data = numbers(9).map(({ n }) => ({ text: `<b>${n}&` }));
    const bundle = data[Symbol.for('Jupyter.display') as never] as () => Record<string, string>;
    const { 'text/html': html, 'text/plain': plain } = bundle.call(data);
    expect(html).to.contain('&lt;b&gt;4&amp;').and.not.contain('<b>');
    expect(plain).to.contain('9 rows x 1 columns, the first 5').and.contain('"<b>4&"');
  });
});

describe('Dataset.fromJson', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'peftlab-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  const file = (text: string) => {
    const path = join(folder, 'rows.jsonl');
    writeFileSync(path, text);
    return path;
  };

  it('reads one object a line and skips empty lines', () => {
    const data = Dataset.fromJson<{ a: number }>(file('{"a":1}\n\n{"a":2}\r\n'));
    expect(data.column('a')).to.deep.equal([1, 2]);
  });

  it('names the file and the line that is not a JSON object', () => {
    expect(() => Dataset.fromJson(file('{"a":1}\n{"a":'))).to.throw(
      SyntaxError,
      'rows.jsonl line 2',
    );
    expect(() => Dataset.fromJson(file('[1]'))).to.throw(
      SyntaxError,
      'must be a JSON object, got [1]',
    );
  });

  it('loads the data sets of the package by name', () => {
    expect(loadDataset('small-world')).to.have.length(240);
    expect(() => loadDataset('../package')).to.throw(RangeError, "got '../package'");
  });
});
