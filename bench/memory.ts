// estimateMemory beside what steps of training really hold: the live bytes of our compiled step, what our
// process grows by, and the tensors that PyTorch with transformers and PEFT keeps, on the engine bench's models.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { estimateMemory, LoraConfig } from 'peftlab';
import { peersPython } from '../test/peers-live/python.ts';
import { type BenchModel, MODELS } from './engine-models.ts';
import { configOf } from './model-config.ts';
import { type Row, report, row } from './report.ts';

/** What a worker measures. */
export interface MemoryTask {
  sizes: BenchModel;
  method: 'full' | 'lora';
  checkpointing: boolean;
}

/** Bytes of one step of ours. */
export interface MemoryMeasured {
  /** Read by the compiled step, and alive in between. */
  step: number;
  /** What the process grew by, at its highest. */
  process: number;
}

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const python = peersPython();
if (!python) console.log('PyTorch is left out: no python3');

function ask<Answer>(command: string, args: string[], task: MemoryTask): Answer {
  const run = spawnSync(command, [...args, JSON.stringify(task)], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr.slice(-2000));
  return JSON.parse(run.stdout.trimEnd().split('\n').at(-1)!) as Answer;
}

function estimate({ sizes, method, checkpointing }: MemoryTask, flashAttention: boolean) {
  return estimateMemory({
    model: configOf(sizes),
    method: method === 'full' ? 'full' : new LoraConfig({ r: 8, targetModules: 'all-linear' }),
    dtype: 'float32',
    batch: sizes.batch,
    sequence: sizes.length,
    checkpointing,
    flashAttention,
  });
}

const rows: Row[] = [];
const megabytes = (bytes: number) => bytes / 1e6;
for (const name of ['A', 'B'] as const) {
  for (const method of ['full', 'lora'] as const) {
    for (const checkpointing of [false, true]) {
      const task = { sizes: MODELS[name], method, checkpointing };
      const title = `${method} step ${name}${checkpointing ? ', checkpointing' : ''}`;
      const loader = ['--import=tsx', path('./memory-worker.ts')];
      const ours = ask<MemoryMeasured>(process.execPath, loader, task);
      const { peak } = estimate(task, false);
      const figures = { theirs: megabytes(ours.step), peer: 'compiled step' };
      rows.push(row(`${title}, estimate`, 'MB', megabytes(peak), figures));
      const error = 100 * Math.abs(peak / ours.step - 1);
      rows.push(row(`${title}, error of the estimate`, '%', error, { target: 10 }));
      rows.push(row(`${title}, growth of the process`, 'MB', megabytes(ours.process)));
      if (!python || checkpointing) continue;
      const torch = ask<{ held: number }>(python, [path('./memory-worker.py')], task);
      const peer = { theirs: megabytes(torch.held), peer: 'torch + peft' };
      rows.push(row(`${title}, estimate`, 'MB', megabytes(estimate(task, true).peak), peer));
    }
  }
}
report(rows);
