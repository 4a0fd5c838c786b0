import { spawnSync } from 'node:child_process';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from 'peftlab';

describe('setBackend', () => {
  it('takes WASM by default and computes on it', async () => {
    expect(await setBackend()).to.equal('wasm');
    expect(tf.getBackend()).to.equal('wasm');
    const product = tf.matMul(tf.ones([3, 4]), tf.ones([4, 2]));
    expect(Array.from(product.dataSync())).to.deep.equal([4, 4, 4, 4, 4, 4]);
  });

  it('takes plain JavaScript when asked', async () => {
    expect(await setBackend('cpu')).to.equal('cpu');
    expect(tf.getBackend()).to.equal('cpu');
    await setBackend('auto');
  });

  it('names the choices when a backend does not exist', async () => {
    const failure = await setBackend('quantum' as 'cpu').catch((error: Error) => error.message);
    expect(failure).to.contain("got 'quantum'").and.contain("'wasm'");
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
