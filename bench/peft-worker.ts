// One contestant of `bench peft` in TypeScript: says when it is ready, then for each line 'N' does its
// task N times and answers with the milliseconds, and for 'q' with further figures, and ends.
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs';
import {
  fromConfig,
  getPeftModel,
  IA3Config,
  Linear,
  LoraConfig,
  Module,
  type PeftConfig,
  PrefixTuningConfig,
  setBackend,
} from 'peftlab';
import { configOf } from './model-config.ts';
import type { PeftTask } from './peft.ts';
import { settle } from './settle.ts';
import { makeStep } from './training-step.ts';

const task = JSON.parse(process.argv[2]!) as PeftTask;
const { sizes, mode, threads } = task;
const LINEAR = ['q', 'k', 'v', 'o', 'gate', 'up', 'down'].map((name) => `${name}_proj`);

function makeConfig(): PeftConfig {
  if (mode === 'ia3') return new IA3Config();
  if (mode === 'prefix') return new PrefixTuningConfig({ numVirtualTokens: 20 });
  const r = mode === 'lora' || mode === 'dora' ? 8 : 16;
  return new LoraConfig({ r, loraAlpha: 2 * r, targetModules: LINEAR, useDora: mode === 'dora' });
}

/** One linear layer in the place of a model. */
class OneLayer extends Module {
  readonly config = {};
  layer = new Linear(4096, 4096, { bias: false });

  forward(): { logits: tf.Tensor3D } {
    throw new Error('A layer alone gives no logits');
  }
}

function makeMerge(): () => Promise<number> {
  const layerConfig = new LoraConfig({ r: 16, targetModules: ['layer'] });
  const model =
    mode === 'merge layer'
      ? getPeftModel(new OneLayer(), layerConfig)
      : getPeftModel(fromConfig(configOf(sizes)), makeConfig());
  return async () => {
    const start = performance.now();
    model.mergeAdapter();
    model.unmergeAdapter();
    await settle();
    return performance.now() - start;
  };
}

const COUNT = 50;
const residentMb = () => process.memoryUsage().rss / 2 ** 20;
const further: Record<string, number> = {};

/** Adapters loaded from a file, one after another active. */
function makeSwitch(): () => number {
  const folder = mkdtempSync(join(tmpdir(), 'peftlab-bench-'));
  const model = getPeftModel(fromConfig(configOf(sizes)), makeConfig());
  model.savePretrained(folder);
  const size = readdirSync(folder).reduce(
    (sum, name) => sum + statSync(join(folder, name)).size,
    0,
  );
  const before = { resident: residentMb(), tensors: tf.memory().numBytes };
  for (let i = 0; i < COUNT; i++) model.loadAdapter(folder, `adapter${i}`);
  further.files = (COUNT * size) / 2 ** 20;
  further.resident = residentMb() - before.resident;
  further.tensors = (tf.memory().numBytes - before.tensors) / 2 ** 20;
  rmSync(folder, { recursive: true });
  let at = 0;
  return () => {
    const start = performance.now();
    model.setAdapter(`adapter${at++ % COUNT}`);
    return performance.now() - start;
  };
}

await setBackend('auto', { threads });
const single = mode.startsWith('merge')
  ? makeMerge()
  : mode === 'switch'
    ? makeSwitch()
    : makeStep(getPeftModel(fromConfig(configOf(sizes)), makeConfig()), sizes);
const print = (value: unknown) => console.log(JSON.stringify(value));
await single();
print({ ready: true });
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === 'q') break;
  const times: number[] = [];
  for (let i = 0; i < Number(line); i++) times.push(await single());
  print(times);
}
print(further);
process.exit(0);
