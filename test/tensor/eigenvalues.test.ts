import { expect } from 'chai';
import { symmetricEigenvalues } from '../../src/tensor/eigenvalues.ts';
import { RandomState } from '../../src/tensor/random.ts';

const rows = (n: number, entry: (i: number, j: number) => number) =>
  Array.from({ length: n }, (_, i) => Float64Array.from({ length: n }, (_, j) => entry(i, j)));

describe('symmetricEigenvalues', () => {
  it('are 2 - 2 cos(k pi / (n + 1)) for the second difference of n points', () => {
    for (const n of [1, 2, 3, 50]) {
      const got = symmetricEigenvalues(
        rows(n, (i, j) => (i === j ? 2 : Math.abs(i - j) === 1 ? -1 : 0)),
      );
      for (const [i, value] of got.entries()) {
        const exact = 2 - 2 * Math.cos(((n - i) * Math.PI) / (n + 1));
        expect(value).to.be.closeTo(exact, 1e-12);
      }
    }
  });

  it('are n and zeros for a matrix of ones, and the entries of a diagonal one', () => {
    const ones = symmetricEigenvalues(rows(20, () => 1));
    expect(ones[0]).to.be.closeTo(20, 1e-12);
    for (const value of ones.slice(1)) expect(value).to.be.closeTo(0, 1e-12);
    expect(
      symmetricEigenvalues(rows(4, (i, j) => (i === j ? [3, -1, 0, 7][i]! : 0))),
    ).to.deep.equal([7, 3, 0, -1]);
  });

  it('are found where most of them are nothing: a product of rank 8 of 96 rows', () => {
    const random = new RandomState(5);
    const factor = rows(96, (_, j) => (j < 8 ? random.normal() : 0));
    const product = rows(96, (i, j) => {
      let sum = 0;
      for (let k = 0; k < 8; k++) sum += factor[i]![k]! * factor[j]![k]!;
      return Math.fround(1e-4 * sum);
    });
    const gram = rows(96, (i, j) =>
      product[i]!.reduce((sum, x, k) => sum + x * product[j]![k]!, 0),
    );
    const values = symmetricEigenvalues(gram);
    expect(values[7]).to.be.above(1e-3 * values[0]!);
    for (const value of values.slice(8)) expect(Math.abs(value)).to.be.below(1e-12 * values[0]!);
  });

  it('keep the trace and the sum of squares of a random matrix', () => {
    const random = new RandomState(3);
    const half = rows(60, () => random.normal());
    const matrix = rows(60, (i, j) => half[i]![j]! + half[j]![i]!);
    const trace = matrix.reduce((sum, row, i) => sum + row[i]!, 0);
    const squares = matrix.reduce((sum, row) => sum + row.reduce((all, x) => all + x * x, 0), 0);
    const values = symmetricEigenvalues(matrix);
    expect(values.reduce((sum, value) => sum + value, 0)).to.be.closeTo(trace, 1e-9);
    expect(values.reduce((sum, value) => sum + value ** 2, 0)).to.be.closeTo(squares, 1e-8);
  });
});
