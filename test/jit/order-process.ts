// What a process grows by at most, in MB, in steps that train a LoRA on a small Llama whose layers are
// computed a second time for their gradients; small weights are updated together at the end of a step.
import { readFileSync, writeFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import { fromConfig, getPeftModel, LoraConfig, llamaConfig, setBackend } from 'peftlab';
import { checkpointLayers } from '../../src/train/gradient-checkpointing.ts';
import { adamwStep } from './adamw-step.ts';

/** Megabytes that the system counts: now, or at most since it was last reset. */
function resident(what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(new RegExp(`${what}:\\s+(\\d+)`).exec(status)![1]) / 1024;
}

async function train(length: number): Promise<number> {
  const sizes = { hiddenSize: 256, intermediateSize: 688, numHiddenLayers: 6 };
  const heads = { numAttentionHeads: 8, numKeyValueHeads: 8 };
  const base = fromConfig(llamaConfig({ vocabSize: 256, ...sizes, ...heads }));
  const model = getPeftModel(base, new LoraConfig({ r: 8, targetModules: 'all-linear' }));
  model.train();
  checkpointLayers(model);
  const { optimizer, step } = adamwStep(model);
  for (let i = 0; i < 2; i++)
    await step(tf.zeros([8, length], 'int32'), optimizer.numbers()).data();
  return step.memory!.temporaries / 2 ** 20;
}

await setBackend('native');
await train(4); // what compiling takes
const before = resident('VmRSS');
writeFileSync('/proc/self/clear_refs', '5');
const temporaries = await train(128);
console.log(JSON.stringify({ grown: resident('VmHWM') - before, temporaries }));
process.exit(0);
