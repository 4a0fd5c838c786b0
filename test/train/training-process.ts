// A run in a process of its own, for tests that kill it: prints each loss as it comes.
// node --import tsx test/train/training-process.ts FOLDER STEPS [resume]
import { join } from 'node:path';
import { setBackend } from '../../src/jit/backend.ts';
import type { CausalLM } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { Trainer } from '../../src/train/trainer.ts';

const [outputDir = '', steps = '8', resume] = process.argv.slice(2);
await setBackend('auto');
const rows = Array.from({ length: 12 }, (_, row) => {
  const inputIds = Array.from({ length: 6 + (row % 3) }, (_, i) => (row * 7 + i * 5) % 90);
  return { inputIds, labels: inputIds };
});
const config = new LoraConfig({ r: 4, targetModules: ['c_attn'], loraDropout: 0.2 });
const model = getPeftModel(
  loadFolder(join(import.meta.dirname, '../peers/01_models/gpt2')),
  config,
);
const trainer = new Trainer({
  model: model as unknown as CausalLM,
  trainDataset: rows,
  args: {
    outputDir,
    learningRate: 1e-2,
    maxSteps: Number(steps),
    perDeviceTrainBatchSize: 4,
    saveSteps: 1,
  },
  onStep: ({ step, loss }) => {
    process.stdout.write(`${step} ${loss}\n`);
    // Slow enough that a signal comes between two steps.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);
    return undefined;
  },
});
try {
  await trainer.train({ resumeFromCheckpoint: resume === 'resume' });
  process.stdout.write(`done ${trainer.state.globalStep}\n`);
} catch (error) {
  process.stdout.write(`error ${(error as Error).message}\n`);
}
process.exit(0);
