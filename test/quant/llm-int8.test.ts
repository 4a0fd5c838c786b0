import { expect } from 'chai';
import { quantizeRows } from '../../src/quant/llm-int8.ts';

describe('quantizeRows', () => {
  // torch.round(x.half() * (127 / absmax)): torch multiplies by the rounded reciprocal, so that the half of
  // absmax, code 63.5, falls to either side.
  const ofTorch: [absmax: number, code: number][] = [
    [2.375, 64],
    [28 / 1024, 64],
    [29 / 1024, 63],
    [47 / 1024, 63],
    [202 / 1024, 63],
  ];
  for (const [absmax, code] of ofTorch) {
    it(`rounds half of ${absmax} to ${code}, as torch does`, () => {
      const { codes } = quantizeRows(Float32Array.of(absmax, absmax / 2, -absmax / 2), 3);
      expect([...codes]).to.deep.equal([127, code, -code]);
    });
  }

  it('leaves numbers of the threshold and above out of absmax, and their columns out of the codes', () => {
    const x = Float32Array.of(1, 7, 2, /**/ 4, 0.5, -2);
    const { codes, rowStats, outlierColumns } = quantizeRows(x, 3, 6);
    expect(outlierColumns).to.deep.equal([1]);
    expect([...rowStats]).to.deep.equal([2, 4]);
    expect([...codes]).to.deep.equal([64, 0, 127, /**/ 127, 0, -64]);
  });
});
