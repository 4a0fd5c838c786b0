import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { fromConfig, llamaConfig, setBackend } from 'peftlab';
import { adamwStep } from './adamw-step.ts';

describe('the order of a graph', () => {
  it('uses up what a gradient needs before the next is made, though all are read at the end', function () {
    if (process.platform !== 'linux') this.skip();
    const script = join(import.meta.dirname, 'order-process.ts');
    const printed = execFileSync(process.execPath, ['--import=tsx', script], { encoding: 'utf8' });
    const { grown, temporaries } = JSON.parse(printed.trimEnd().split('\n').at(-1)!) as {
      grown: number;
      temporaries: number;
    };
    // In ONNX Runtime's own order the gradients come last, and the process grows by 190 MB.
    expect(temporaries).to.be.below(60);
    expect(grown).to.be.below(150);
  });

  it('updates a large weight as soon as its gradient is there, with what AdamW works out for all', async () => {
    await setBackend('native');
    const sizes = {
      hiddenSize: 256,
      intermediateSize: 512,
      numHiddenLayers: 6,
      numAttentionHeads: 4,
    };
    const model = fromConfig(llamaConfig({ vocabSize: 64, ...sizes }));
    const { own, optimizer, step } = adamwStep(model);
    step(tf.zeros([1, 8], 'int32'), optimizer.numbers()).dataSync();
    const gradients = own.reduce((sum, { size }) => sum + 4 * size, 0);
    expect(step.memory!.temporaries).to.be.below(0.15 * gradients);
    step.dispose();
  });
});
