import { expect } from 'chai';
import { PageStore } from '../../src/train/page-store.ts';

describe('PageStore', () => {
  it('keeps what is written into pages, whatever the budget', () => {
    for (const budget of [Infinity, 256, 64]) {
      const store = new PageStore({ pageBytes: 64, budget });
      store.allocate(10, 64);
      for (let round = 0; round < 3; round++) {
        for (let i = 0; i < 10; i++) {
          const page = store.page(i);
          expect([...new Set(page)]).to.deep.equal([round === 0 ? 0 : 10 * round + i]);
          page.fill(10 * (round + 1) + i);
        }
      }
      expect(store.statistics.residentPages * 64).to.be.at.most(budget);
      store.dispose();
    }
  });

  it('counts faults, pages in and out, and the bytes moved', () => {
    const store = new PageStore({ pageBytes: 64, budget: 128 });
    store.allocate(3, 64);
    for (const i of [0, 1, 1, 2, 0]) store.page(i);
    // 0 and 1 are made, 2 drives out 0, 0 comes back and drives out 1.
    const counts = { faults: 4, pagesIn: 1, pagesOut: 2, bytesIn: 64, bytesOut: 128 };
    expect(store.statistics).to.deep.equal({ pages: 3, residentPages: 2, ...counts });
    store.dispose();
  });

  it('puts records into pages whole, and fills the last page first', () => {
    const store = new PageStore({ pageBytes: 64 });
    expect(store.allocate(3, 24)).to.deep.equal([
      { page: 0, offset: 0, count: 2 },
      { page: 1, offset: 0, count: 1 },
    ]);
    expect(store.allocate(1, 40)).to.deep.equal([{ page: 1, offset: 24, count: 1 }]);
    expect(store.statistics.pages).to.equal(2);
  });

  it('refuses pages, budgets and records of sizes that can not be', () => {
    expect(() => new PageStore({ pageBytes: 12 })).to.throw('positive multiple of 8, got 12');
    expect(() => new PageStore({ budget: 100 })).to.throw(
      'at least one page of 65536 bytes, got 100',
    );
    expect(() => new PageStore({ budget: Number.NaN })).to.throw('got NaN');
    expect(() => new PageStore({ pageBytes: 64 }).allocate(1, 72)).to.throw(
      'of 72 bytes does not fit',
    );
    expect(() => new PageStore().page(0)).to.throw('There is no page 0; have 0');
  });
});
