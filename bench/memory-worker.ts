// One training step of `bench memory`: the bytes that the compiled step holds, and what the process grows by.
import { readFileSync, writeFileSync } from 'node:fs';
import { type CausalLM, fromConfig, getPeftModel, LoraConfig, setBackend, Trainer } from 'peftlab';
import type { BenchModel } from './engine-models.ts';
import type { MemoryMeasured, MemoryTask } from './memory.ts';
import { configOf } from './model-config.ts';

const { sizes, method, checkpointing } = JSON.parse(process.argv[2]!) as MemoryTask;

/** Bytes of this process that the kernel counts: now, or at most since it was last reset. */
function resident(what: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(new RegExp(`${what}:\\s+(\\d+)`).exec(status)![1]) * 1024;
}

/** Some steps on a model of these sizes; the bytes of a step. */
async function train(own: BenchModel, steps: number): Promise<number> {
  const { batch, length } = own;
  const base = fromConfig(configOf(own));
  const lora = new LoraConfig({ r: 8, targetModules: 'all-linear' });
  const model = (method === 'full' ? base : getPeftModel(base, lora)) as CausalLM;
  const rows = Array.from({ length: steps * batch }, (_, i) => {
    const inputIds = Array.from({ length }, (_, t) => (i * 31 + t * 17) % own.vocab);
    return { inputIds, labels: inputIds };
  });
  const args = { maxSteps: steps, perDeviceTrainBatchSize: batch, disableTqdm: true };
  const trainer = new Trainer({
    model,
    trainDataset: rows,
    args: { ...args, gradientCheckpointing: checkpointing },
  });
  await trainer.train();
  const held = trainer.stepMemory!;
  return held.arguments + held.temporaries;
}

await setBackend('native');
// What a graph of as many operators costs without numbers to speak of.
const tiny = { vocab: 64, hidden: 16, heads: 2, keyHeads: 2, inner: 32, length: 8, batch: 2 };
await train({ ...sizes, ...tiny }, 2);
const before = resident('VmRSS');
writeFileSync('/proc/self/clear_refs', '5');
const step = await train(sizes, 4);
const measured: MemoryMeasured = { step, process: resident('VmHWM') - before };
console.log(JSON.stringify(measured));
process.exit(0);
