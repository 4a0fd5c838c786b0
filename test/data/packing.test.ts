import { expect } from 'chai';
import { collate, collatePaddingFree } from '../../src/data/collator.ts';
import { packRows } from '../../src/data/packing.ts';

const row = (...inputIds: number[]) => ({ inputIds, labels: inputIds });

describe('packRows', () => {
  const rows = [row(1, 2, 3, 4, 5), row(6, 7), row(8, 9, 10), row(11)];

  it('cuts rows that are too long and fills the best bin first', () => {
    expect(packRows(rows, 4)).to.deep.equal([
      { ...row(1, 2, 3, 4), seqLengths: [4] },
      { ...row(8, 9, 10, 11), seqLengths: [3, 1] },
      { ...row(6, 7), seqLengths: [2] },
    ]);
  });

  it('keeps every token when it splits or wraps', () => {
    const tokens = (strategy: 'bfd_split' | 'wrapped') =>
      packRows(rows, 4, strategy).flatMap(({ inputIds }) => inputIds);
    expect(tokens('bfd_split').toSorted((a, b) => a - b)).to.deep.equal(tokens('wrapped'));
  });

  it('refuses lengths and strategies that it does not know', () => {
    expect(() => packRows(rows, 0)).to.throw('must be a positive integer, got 0');
    expect(() => packRows(rows, 4, 'ffd' as never)).to.throw("bfd_split, wrapped, got 'ffd'");
  });
});

describe('collate', () => {
  it('pads ids, labels and masks, up to a multiple', () => {
    const batch = collate([row(5, 6, 7), row(8)], { padTokenId: 9, padToMultipleOf: 4 });
    expect(batch).to.deep.equal({
      inputIds: [
        [5, 6, 7, 9],
        [8, 9, 9, 9],
      ],
      labels: [
        [5, 6, 7, -100],
        [8, -100, -100, -100],
      ],
      attentionMask: [
        [1, 1, 1, 0],
        [1, 0, 0, 0],
      ],
    });
  });

  it('joins rows without padding and learns no first token', () => {
    const batch = collatePaddingFree([{ ...row(1, 2, 3), seqLengths: [2, 1] }, row(4, 5)]);
    expect(batch.positionIds).to.deep.equal([[0, 1, 0, 0, 1]]);
    expect(batch.labels).to.deep.equal([[-100, 2, -100, -100, 5]]);
    expect(batch.cuSeqLens).to.deep.equal([0, 2, 3, 5]);
  });

  it('needs a row', () => {
    expect(() => collate([], { padTokenId: 0 })).to.throw('at least one row, got 0');
  });
});
