import { expect } from 'chai';
import { Graph } from '../../src/jit/graph.ts';
import { memoryAnalysis } from '../../src/jit/memory-analysis.ts';

describe('memoryAnalysis', () => {
  it('counts what is alive at once, and lets go what nothing needs any more', () => {
    const graph = new Graph();
    const x = graph.input([100], 'float32'); // 400 bytes
    const a = graph.emit('Gelu', [x], [100], 'float32');
    const b = graph.emit('Gelu', [a], [50], 'float32'); // a is not needed after this
    const c = graph.emit('Gelu', [b], [100], 'float32');
    const y = graph.emit('Gelu', [c], [1], 'float32');
    expect(memoryAnalysis(graph.nodes, [x], [y])).to.deep.equal({
      arguments: 400,
      results: 4,
      temporaries: 600,
    });
  });

  it('gives no room to a new shape, and lets a sum be written over an addend', () => {
    const graph = new Graph();
    const x = graph.input([10, 10], 'float32');
    const a = graph.emit('Gelu', [x], [10, 10], 'float32');
    const flat = graph.emit('Reshape', [a], [100], 'float32');
    const sum = graph.emit('Add', [flat, x], [100], 'float32');
    const y = graph.emit('Gelu', [sum], [1], 'float32');
    expect(memoryAnalysis(graph.nodes, [x], [y]).temporaries).to.equal(400);
  });

  it('keeps what a later node reads', () => {
    const graph = new Graph();
    const x = graph.input([100], 'float32');
    const a = graph.emit('Gelu', [x], [100], 'float32');
    const b = graph.emit('Sin', [a], [100], 'float32');
    const c = graph.emit('Cos', [b], [100], 'float32');
    const y = graph.emit('Concat', [a, c], [200], 'float32');
    expect(memoryAnalysis(graph.nodes, [x], [y]).temporaries).to.equal(1200);
    expect(memoryAnalysis(graph.nodes.slice(0, 3), [x], [c]).temporaries).to.equal(800);
  });
});
