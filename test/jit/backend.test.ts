import { createRequire } from 'node:module';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { jit, setBackend } from 'peftlab';

const failure = (run: Promise<unknown>) => run.then(String, (error: Error) => error.message);

describe('setBackend', () => {
  after(() => setBackend('auto'));

  it('takes native graphs where ONNX Runtime works, with WASM for eager ops', async () => {
    expect(await setBackend()).to.equal('native');
    expect(tf.getBackend()).to.equal('wasm');
  });

  it('runs everything eagerly on the backend that was asked for', async () => {
    for (const name of ['cpu', 'wasm'] as const) {
      expect(await setBackend(name)).to.equal(name);
      expect(tf.getBackend()).to.equal(name);
      const double = jit((x: tf.Tensor) => tf.mul(x, 2));
      expect(Array.from(double(tf.tensor1d([1, 2])).dataSync())).to.deep.equal([2, 4]);
      expect(double.compilations).to.equal(0);
    }
  });

  it('names the choices when a backend does not exist', async () => {
    const message = await failure(setBackend('quantum' as 'cpu'));
    expect(message).to.contain("got 'quantum'").and.contain('native, wasm');
  });

  it('refuses threads and providers that do not exist', async () => {
    expect(await failure(setBackend('native', { threads: 0 }))).to.contain('threads must be');
    const message = await failure(setBackend('native', { executionProviders: ['abacus'] }));
    expect(message).to.contain("got 'abacus'").and.contain('cuda');
  });

  it('says what a provider needs that does not start here', async function () {
    const asked = setBackend('native', { executionProviders: ['cuda'] });
    const message = await failure(asked);
    if (message === 'native') this.skip(); // a machine with CUDA
    expect(message).to.equal(
      "Execution provider 'cuda' does not start here; it needs an NVIDIA GPU with CUDA 12 and cuDNN 9, and on Linux x64 'ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node', which downloads its CUDA library",
    );
  });

  it("says what to install when TensorFlow's library is missing", async function () {
    const require = createRequire(import.meta.url);
    for (const name of ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node']) {
      try {
        require.resolve(name);
        this.skip();
      } catch {}
    }
    expect(await failure(setBackend('tensorflow'))).to.contain('install @tensorflow/tfjs-node-gpu');
  });
});
