import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { diagnose } from 'peftlab';

describe('diagnose', () => {
  it('times every backend that starts, and says why another does not', async () => {
    const { machine, used, backends } = await diagnose();
    expect(machine).to.contain(`Node ${process.versions.node}`);
    expect(backends.map(({ name }) => name)).to.deep.equal(['native', 'tensorflow', 'wasm', 'cpu']);
    for (const { name, gflops, detail, advice } of backends) {
      if (gflops === undefined) {
        expect(detail, name).to.contain(`Backend '${name}' does not start`);
        expect(advice, name).to.contain('install');
      } else {
        expect(gflops, name).to.be.greaterThan(0).and.to.satisfy(Number.isFinite);
      }
    }
    const wasm = backends.find(({ name }) => name === 'wasm');
    expect(wasm?.gflops).to.be.a('number');
    expect(backends.find(({ name }) => name === used)?.gflops).to.be.a('number');
  });

  it('leaves the backend set that it names, and no tensor behind', async () => {
    const before = tf.memory().numTensors;
    expect((await diagnose()).used).to.be.oneOf(['native', 'wasm']);
    expect(tf.getBackend()).to.equal('wasm');
    expect(tf.memory().numTensors).to.equal(before);
  });
});
