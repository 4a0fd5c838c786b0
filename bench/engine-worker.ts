// One contestant of `bench engine` in TypeScript: says what its first step took, then for each line
// 'N' runs N steps and answers with their milliseconds, and for 'q' with its peak memory in MB.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs';
import {
  type CausalLM,
  fromConfig,
  generate,
  getPeftModel,
  jit,
  LoraConfig,
  setBackend,
} from 'peftlab';
import type { WorkerTask } from './engine-models.ts';
import { configOf } from './model-config.ts';
import { makeStep } from './training-step.ts';

const task = JSON.parse(process.argv[2]!) as WorkerTask;
const { sizes, mode, threads, engine } = task;

/** Greedy tokens one after another: a step is one token. */
function makeDecoder(model: CausalLM): (count: number) => Promise<number[]> {
  return async (count) => {
    const start = performance.now();
    const prompt = Array.from({ length: 8 }, (_, i) => 5 + i);
    await generate(model, [prompt], { maxNewTokens: count, eosTokenId: [] });
    return [(performance.now() - start) / count];
  };
}

/** The product that a feed-forward layer makes, alone: milliseconds for all products of one step. */
function makeGemm(): () => Promise<number> {
  const rows = sizes.batch * sizes.length;
  const x = tf.randomNormal([rows, sizes.hidden]);
  const w = tf.randomNormal([sizes.inner, sizes.hidden]);
  const chain = jit((a: tf.Tensor, b: tf.Tensor) => {
    let y = a;
    for (let i = 0; i < 10; i++) y = tf.matMul(tf.matMul(y, b, false, true), b);
    return tf.sum(y);
  });
  const flops = 10 * 2 * 2 * rows * sizes.hidden * sizes.inner;
  return async () => {
    const start = performance.now();
    const sum = chain(x, w);
    await sum.data();
    sum.dispose();
    return (performance.now() - start) / (flops / 1e9); // ms for 10^9 operations
  };
}

function peakMb(): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024;
}

const print = (value: unknown) => console.log(JSON.stringify(value));

await setBackend(engine as 'native', engine === 'native' ? { threads } : {});
const model = mode === 'gemm' ? undefined : fromConfig(configOf(sizes));
const lora = new LoraConfig({ r: 8, loraAlpha: 16, targetModules: 'all-linear' });
const trained = mode === 'lora' ? getPeftModel(model!, lora) : model;
const single = mode === 'gemm' ? makeGemm() : makeStep(trained!, sizes);
const run =
  mode === 'decode'
    ? makeDecoder(model!)
    : async (count: number) => {
        const times: number[] = [];
        for (let i = 0; i < count; i++) times.push(await single());
        return times;
      };
const started = performance.now();
await run(1);
print({ first: performance.now() - started });
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === 'q') break;
  print(await run(Number(line)));
}
print({ peak: peakMb() });
process.exit(0);
