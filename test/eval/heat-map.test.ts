import { expect } from 'chai';
import { heatMap } from '../../src/eval/heat-map.ts';

const options = {
  title: 'Who serves what',
  x: 'expert',
  y: 'task',
  z: 'share of choices',
  columns: ['a', 'b'],
  rows: ['sums', 'colours', 'capitals'],
  values: [
    [1, 0],
    [0.25, 0.75],
    [0, 1],
  ],
};

describe('heatMap', () => {
  it('has a title, titles of axes and colours, and the first row on top', () => {
    const { data, layout } = heatMap({ ...options, range: [0, 1] });
    expect(layout).to.deep.include({ title: { text: 'Who serves what' } });
    expect(layout.yaxis).to.include({ autorange: 'reversed' });
    expect(data[0]).to.deep.include({ z: options.values, zmin: 0, zmax: 1 });
    expect((data[0] as { colorbar: object }).colorbar).to.deep.include({
      title: { text: 'share of choices', side: 'right' },
    });
  });

  it('tells in words which columns are largest in each row', () => {
    expect(heatMap(options).text).to.equal(
      [
        'Figure: Who serves what. Across: expert; down: task; colour: share of choices.',
        'sums: a 1, b 0',
        'colours: b 0.75, a 0.25',
        'capitals: b 1, a 0',
      ].join('\n'),
    );
  });

  it('says which values are missing', () => {
    expect(() => heatMap({ ...options, values: [[1, 0]] })).to.throw(
      'A heat map of 3 rows and 2 columns needs as many values, got 1 rows',
    );
    expect(() => heatMap({ ...options, values: [[1, 0], [1], [0, 1]] })).to.throw('one of 1');
  });
});
