// Adapters beside Hugging Face's peft: training steps, merging, switching, memory. Both take turns in one
// run. `--only dora,merge` limits it to rows whose names hold one of these words; PEFTLAB_PEERS_PYTHON names a
// Python that has peft already.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { peersPython } from '../test/peers-live/python.ts';
import { type BenchModel, MODELS } from './engine-models.ts';
import { median, type Row, report, row } from './report.ts';

/** What a contestant does. */
export interface PeftTask {
  mode: 'lora' | 'dora' | 'ia3' | 'prefix' | 'merge layer' | 'merge model' | 'switch';
  sizes: BenchModel;
  threads: number;
}

/** A Llama of 53 million parameters. */
const LARGE: BenchModel = {
  vocab: 10496,
  hidden: 640,
  layers: 8,
  heads: 10,
  keyHeads: 10,
  inner: 1728,
  tied: false,
  length: 64,
  batch: 2,
};

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** A process that does its task when it is told to. */
class Contestant {
  readonly times: number[] = [];
  further: Record<string, number> = {};
  private readonly process: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(argv: string[], task: PeftTask) {
    const env = { ...process.env, OMP_NUM_THREADS: String(task.threads) };
    this.process = spawn(argv[0]!, [...argv.slice(1), JSON.stringify(task)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env,
    });
    this.lines = createInterface({ input: this.process.stdout! })[Symbol.asyncIterator]();
  }

  async read<T>(): Promise<T> {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error('A contestant ended before its turn');
      if (/^[[{]/.test(value)) return JSON.parse(value) as T;
    }
  }

  async run(count: number): Promise<void> {
    this.process.stdin!.write(`${count}\n`);
    this.times.push(...(await this.read<number[]>()));
  }

  async end(): Promise<void> {
    this.process.stdin!.write('q\n');
    this.further = await this.read();
    this.process.kill();
  }
}

const python = peersPython();
if (!python) console.log('peft is left out: no python3');

async function race(task: PeftTask, rounds: number, count: number): Promise<Contestant[]> {
  const commands = [[process.execPath, '--import=tsx', path('./peft-worker.ts')]];
  if (python) commands.push([python, path('./peft-worker.py')]);
  const all: Contestant[] = [];
  for (const command of commands) {
    const contestant = new Contestant(command, task);
    await contestant.read();
    await contestant.run(count);
    contestant.times.length = 0;
    all.push(contestant);
  }
  for (let i = 0; i < rounds; i++) for (const contestant of all) await contestant.run(count);
  for (const contestant of all) await contestant.end();
  return all;
}

const { values } = parseArgs({ options: { only: { type: 'string' } }, strict: false });
const words = typeof values.only === 'string' ? values.only.split(',') : [''];
const wanted = (name: string) => words.some((word) => name.includes(word));
const rows: Row[] = [];
const least = (times: number[]) => Math.min(...times);

for (const mode of ['lora', 'dora', 'ia3', 'prefix'] as const) {
  const name = `${mode} step A, 2 threads`;
  if (!wanted(name)) continue;
  const [ours, theirs] = await race({ mode, sizes: MODELS.A, threads: 2 }, 8, 10);
  for (const [kind, of] of [['median', median] as const, ['minimum', least] as const]) {
    const peer = theirs ? { theirs: of(theirs.times), target: 0.5, peer: 'peft' } : {};
    rows.push(row(`${name}, ${kind}`, 'ms', of(ours!.times), peer));
  }
}

for (const [mode, sizes, target] of [
  ['merge layer', MODELS.A, 66],
  ['merge model', LARGE, null],
] as const) {
  const what = mode === 'merge layer' ? '4096x4096, r=16' : 'all-linear of 53M, r=16';
  const name = `merge + unmerge ${what}`;
  if (!wanted(name)) continue;
  const [ours, theirs] = await race({ mode, sizes, threads: 2 }, 6, 3);
  rows.push(row(`${name}, minimum`, 'ms', least(ours!.times), { target }));
  const peer = theirs ? { theirs: median(theirs.times), peer: 'peft', target: 0.5 } : {};
  rows.push(row(`${name}, median`, 'ms', median(ours!.times), peer));
}

if (wanted('switch among 50 adapters')) {
  const [ours, theirs] = await race({ mode: 'switch', sizes: LARGE, threads: 2 }, 4, 25);
  const { files, resident, tensors } = ours!.further;
  rows.push(row('switch among 50 adapters, median', 'ms', median(ours!.times), { target: 5 }));
  if (theirs) rows.push(row('switch in peft, median', 'ms', median(theirs.times)));
  const sum = { theirs: files!, peer: 'sum of files' };
  rows.push(row('50 adapters, tensors', 'MB', tensors!, { ...sum, target: 1.02 }));
  rows.push(row('50 adapters, memory of the process', 'MB', resident!, { ...sum, target: 1.3 }));
  if (theirs) rows.push(row('50 adapters in peft', 'MB', theirs.further.resident!, sum));
}
report(rows);
process.exit(0);
