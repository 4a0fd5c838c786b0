// Steps of SFT on SmolLM2-135M: ours, and PEFT + TRL's in Python, on the same rows in the same order.
import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type CausalLM, LoraConfig, SFTTrainer, type Tokenizer } from 'peftlab';
import { codingRows } from './real-model-rows.ts';

const STEPS = 6;
const BATCH = 8;
const LEARNING_RATE = 5e-5;
const TARGETS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

/** Steps: milliseconds, those of processors, losses; seconds and tokens of all after the first two. */
export interface Measured {
  times: number[];
  cpu: number[];
  losses: number[];
  seconds: number;
  tokens: number;
}

export type Method = 'lora' | 'full';

/** Steps of SFTTrainer; `model` is disposed. */
export async function ours(
  model: CausalLM,
  tokenizer: Tokenizer,
  method: Method,
): Promise<Measured> {
  const times: number[] = [];
  const cpu: number[] = [];
  let last = 0;
  let used = process.cpuUsage();
  const config = new LoraConfig({ r: 16, loraAlpha: 32, targetModules: TARGETS });
  const trainer = new SFTTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: codingRows,
    onStep: () => {
      times.push(performance.now() - last);
      last = performance.now();
      const { user, system } = process.cpuUsage(used);
      cpu.push((user + system) / 1000);
      used = process.cpuUsage();
      return undefined;
    },
    args: {
      learningRate: LEARNING_RATE,
      maxSteps: STEPS,
      perDeviceTrainBatchSize: BATCH,
      lrSchedulerType: 'constant',
      trainSamplingStrategy: 'sequential',
      padToMultipleOf: 32,
    },
    ...(method === 'lora' && { peftConfig: config }),
  });
  last = performance.now();
  const { logHistory } = await trainer.train();
  trainer.dispose();
  trainer.model.dispose();
  const tokens = logHistory.at(-1)!.numTokens - logHistory[1]!.numTokens;
  const seconds = times.slice(2).reduce((sum, time) => sum + time, 0) / 1000;
  return { times, cpu, losses: logHistory.map(({ loss }) => loss), seconds, tokens };
}

/** The same steps of TRL's SFTTrainer, the model and tokenizer read from `folder`. */
export function theirs(python: string, folder: string, method: Method, threads: number): Measured {
  const file = join(folder, 'task.json');
  const args = {
    learning_rate: LEARNING_RATE,
    max_steps: STEPS,
    per_device_train_batch_size: BATCH,
    lr_scheduler_type: 'constant',
  };
  const task = { kind: 'sft', lora: method === 'lora', r: 16, threads, model: folder, args };
  const rows = codingRows.slice(0, STEPS * BATCH);
  writeFileSync(file, JSON.stringify({ ...task, tokenizer: folder, rows, targets: TARGETS }));
  const script = fileURLToPath(new URL('./train.py', import.meta.url));
  const run = spawnSync(python, [script, file], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr.slice(-2000));
  const { times, cpu, losses, tokens } = JSON.parse(run.stdout.trimEnd().split('\n').at(-1)!);
  const seconds = times.slice(2).reduce((sum: number, time: number) => sum + time, 0) / 1000;
  return { times, cpu, losses, seconds, tokens: tokens.at(-1) - tokens[1] };
}
