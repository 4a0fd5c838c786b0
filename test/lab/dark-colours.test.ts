import { expect } from 'chai';
import { darkColours } from '../../src/lab/browser/dark-colours.ts';

describe('Colours on a dark page', () => {
  it('greys change places, colours and words stay', () => {
    const layout = {
      paper_bgcolor: '#ffffff',
      plot_bgcolor: 'white',
      font: { color: '#000' },
      xaxis: { gridcolor: '#dddddd', title: { text: '#ffffff' } },
      colorway: ['#3178c6', '#222222'],
    };
    expect(darkColours(layout)).to.deep.equal({
      paper_bgcolor: '#111111',
      plot_bgcolor: '#111111',
      font: { color: '#ffffff' },
      xaxis: { gridcolor: '#313131', title: { text: '#ffffff' } },
      colorway: ['#3178c6', '#dfdfdf'],
    });
    expect(layout.paper_bgcolor).to.equal('#ffffff');
  });

  it('numbers and their arrays are handed on as they are', () => {
    const values = new Float32Array([1, 2]);
    const data = { x: values, z: [1, 2], marker: { color: [0.1, 0.2] } };
    expect(darkColours(data)).to.deep.equal(data);
    expect(darkColours(data).x).to.equal(values);
  });
});
