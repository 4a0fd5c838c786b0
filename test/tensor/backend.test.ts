import { spawnSync } from 'node:child_process';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { startEager } from '../../src/tensor/backend.ts';

describe('startEager', () => {
  it('computes on WASM and on plain JavaScript', async () => {
    for (const name of ['cpu', 'wasm'] as const) {
      expect(await startEager(name)).to.equal(true);
      expect(tf.getBackend()).to.equal(name);
      const product = tf.matMul(tf.ones([3, 4]), tf.ones([4, 2]));
      expect(Array.from(product.dataSync())).to.deep.equal([4, 4, 4, 4, 4, 4]);
    }
  });

  it('writes nothing to stderr on the first use of either backend', () => {
    const script = `
      import { setBackend } from 'peftlab';
      import * as tf from '@tensorflow/tfjs';
      for (const name of ['cpu', 'wasm']) { await setBackend(name); tf.tensor([1]).print(); }`;
    const flags = ['--import=tsx', '--input-type=module', '--eval', script];
    const run = spawnSync(process.execPath, flags, { encoding: 'utf8' });
    expect(run.status).to.equal(0);
    expect(run.stderr).to.equal('');
  });
});
