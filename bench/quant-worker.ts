// One contestant of the QLoRA rows of `bench quant`: `make FOLDER` saves model C in float32 and in NF4, and
// `FOLDER/float` or `FOLDER/nf4` (and `checkpointing`) trains a LoRA on it. After its first step it answers each line 'N' with the
// milliseconds of N steps, and 'q' with its peak memory in MB and the bytes of its base.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  AutoModelForCausalLM,
  BitsAndBytesConfig,
  type CausalLM,
  fromConfig,
  getMemoryFootprint,
  getPeftModel,
  LoraConfig,
  savePretrained,
  setBackend,
} from 'peftlab';
import { checkpointLayers } from '../src/train/gradient-checkpointing.ts';
import { MODELS } from './engine-models.ts';
import { configOf } from './model-config.ts';
import { makeStep } from './training-step.ts';

const { C } = MODELS;

async function make(folder: string): Promise<void> {
  const model = fromConfig(configOf(C));
  savePretrained(model, join(folder, 'float'));
  model.dispose();
  const options = {
    loadIn4bit: true,
    bnb4bitQuantType: 'nf4',
    bnb4bitUseDoubleQuant: true,
  } as const;
  const quantizationConfig = new BitsAndBytesConfig(options);
  const packed = await AutoModelForCausalLM.fromPretrained(join(folder, 'float'), {
    quantizationConfig,
  });
  savePretrained(packed, join(folder, 'nf4'));
}

const print = (value: unknown) => console.log(JSON.stringify(value));
const [command = '', option = ''] = process.argv.slice(2);
await setBackend('native');
if (command === 'make') {
  await make(option);
  process.exit(0);
}
const base = await AutoModelForCausalLM.fromPretrained(command);
const bytes = getMemoryFootprint(base);
const adapted = getPeftModel(base, new LoraConfig({ r: 8, targetModules: 'all-linear' }));
adapted.train();
if (option === 'checkpointing') checkpointLayers(adapted);
const step = makeStep(adapted as unknown as CausalLM, C);
print({ first: await step() });
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === 'q') break;
  const times: number[] = [];
  for (let i = 0; i < Number(line); i++) times.push(await step());
  print(times);
}
const status = readFileSync('/proc/self/status', 'utf8');
print({ peak: Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024, bytes });
process.exit(0);
