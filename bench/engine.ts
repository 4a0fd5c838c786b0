// Training steps and decoding beside PyTorch with transformers and PEFT, llama.cpp and eager WASM, on three
// sizes of model. All contestants of a comparison take turns in one run.
// `--only A,decode` limits it to comparisons whose names hold one of these words.
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { obtainSmollm2 } from 'peftlab';
import { peersPython } from '../test/peers-live/python.ts';
import { MODELS, type WorkerTask } from './engine-models.ts';
import { median, type Row, report, row } from './report.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const python = peersPython();
if (!python) console.log('PyTorch and llama.cpp are left out: no python3');

/** A process that takes turns with others. */
class Contestant {
  first = 0;
  peak = 0;
  readonly times: number[] = [];
  private readonly process: ChildProcess;
  private readonly lines: AsyncIterator<string>;
  private readonly reader: Interface;

  constructor(task: WorkerTask) {
    const isOurs = task.engine === 'native' || task.engine === 'wasm';
    const argv = isOurs
      ? [process.execPath, '--import=tsx', path('./engine-worker.ts')]
      : [python!, path('./engine-worker.py')];
    const environment = { ...process.env, OMP_NUM_THREADS: String(task.threads) };
    this.process = spawn(argv[0]!, [...argv.slice(1), JSON.stringify(task)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: environment,
    });
    this.reader = createInterface({ input: this.process.stdout! });
    this.lines = this.reader[Symbol.asyncIterator]();
  }

  async start(): Promise<void> {
    this.first = ((await this.read()) as { first: number }).first;
  }

  async run(count: number, keep = true): Promise<void> {
    this.process.stdin!.write(`${count}\n`);
    const times = (await this.read()) as number[];
    if (keep) this.times.push(...times);
  }

  async end(): Promise<void> {
    this.process.stdin!.write('q\n');
    this.peak = ((await this.read()) as { peak: number }).peak;
    this.reader.close();
    this.process.kill();
  }

  private async read(): Promise<unknown> {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error('A contestant ended before its turn');
      if (/^[[{]/.test(value)) return JSON.parse(value);
    }
  }
}

/** Lets contestants take turns: a round is `steps` steps of each. */
async function race(
  tasks: WorkerTask[],
  { rounds, steps }: { rounds: number; steps: number },
): Promise<Contestant[]> {
  const all: Contestant[] = [];
  for (const task of tasks) {
    const contestant = new Contestant(task);
    await contestant.start();
    all.push(contestant);
  }
  // Twice: a decoder packs its weights after 64 tokens.
  for (const contestant of [...all, ...all]) await contestant.run(steps, false);
  for (let round = 0; round < rounds; round++) {
    for (const contestant of all) await contestant.run(steps);
  }
  for (const contestant of all) await contestant.end();
  return all;
}

const { values } = parseArgs({ options: { only: { type: 'string' } }, strict: false });
const words = typeof values.only === 'string' ? values.only.split(',') : [];
const wanted = (name: string) => words.every((word) => name.includes(word));
const rows: Row[] = [];
const least = (times: number[]) => Math.min(...times);
const COMPILE = { A: 200, B: 300, C: 1000 };
const ROUNDS = { A: 8, B: 6, C: 5 };
const STEPS = { A: 10, B: 4, C: 2 };

function task(
  model: 'A' | 'B' | 'C',
  mode: WorkerTask['mode'],
  threads: number,
  engine: string,
): WorkerTask {
  return { model, sizes: MODELS[model], mode, threads, engine };
}

async function training(
  model: 'A' | 'B' | 'C',
  mode: 'lora' | 'full',
  threads: number,
): Promise<void> {
  const name = `${mode} step ${model}, ${threads} thread${threads > 1 ? 's' : ''}`;
  if (!wanted(name)) return;
  const tasks = [task(model, mode, threads, 'native')];
  if (python) tasks.push(task(model, mode, threads, 'torch'));
  const hasWasm = mode === 'lora' && threads === 1 && model !== 'C';
  const [ours, torch] = await race(tasks, { rounds: ROUNDS[model], steps: STEPS[model] });
  const peer = { peer: 'torch + peft' };
  const target = 1 / 2.5;
  if (torch) {
    rows.push(
      row(`${name}, median`, 'ms', median(ours!.times), {
        theirs: median(torch.times),
        target,
        ...peer,
      }),
      row(`${name}, minimum`, 'ms', least(ours!.times), {
        theirs: least(torch.times),
        target,
        ...peer,
      }),
      row(`${name}, peak memory`, 'MB', ours!.peak, { theirs: torch.peak, target: 0.6, ...peer }),
    );
  } else rows.push(row(`${name}, median`, 'ms', median(ours!.times)));
  const compile = ours!.first - median(ours!.times);
  rows.push(
    row(`${name}, compile`, 'ms', compile, { target: mode === 'lora' ? COMPILE[model] : null }),
  );
  if (hasWasm) {
    const [wasm] = await race([task(model, mode, threads, 'wasm')], { rounds: 1, steps: 2 });
    const theirs = median(ours!.times);
    rows.push(
      row(`${name}, eager WASM`, 'ms', median(wasm!.times), { theirs, target: 20, peer: 'native' }),
    );
  }
  show(4);
}

/** Prints the last rows, since all of them take a while. */
function show(count: number): void {
  console.table(
    rows
      .slice(-count)
      .map((r) => ({ name: r.name, ours: r.ours, theirs: r.theirs, ratio: r.ratio })),
  );
}

async function gemmShare(threads: number): Promise<void> {
  const name = `share of GEMM limit, full step B, ${threads} threads`;
  if (!wanted(name)) return;
  const tasks = [task('B', 'full', threads, 'native'), task('B', 'gemm', threads, 'native')];
  const [step, gemm] = await race(tasks, { rounds: 6, steps: 4 });
  const limit = least(gemm!.times) * stepGigaflops();
  rows.push(
    row(name, 'ms', least(step!.times), { theirs: limit, peer: 'products alone', target: 1 / 0.9 }),
  );
}

/** 10^9 operations in the products of one full step of B: forward, and twice that backward. */
function stepGigaflops(): number {
  const { vocab, hidden, layers, inner, length, batch } = MODELS.B;
  const weights = layers * (4 * hidden * hidden + 3 * hidden * inner) + vocab * hidden;
  const attention = layers * 2 * length * hidden;
  return (3 * 2 * batch * length * (weights + attention)) / 1e9;
}

async function decoding(model: 'B' | 'C', threads: number): Promise<void> {
  const name = `decode ${model}, ${threads} thread${threads > 1 ? 's' : ''}`;
  if (!wanted(name)) return;
  const tasks = [task(model, 'decode', threads, 'native')];
  if (python) tasks.push(task(model, 'decode', threads, 'torch'));
  const [ours, torch] = await race(tasks, { rounds: 6, steps: 64 });
  const theirs = torch ? { theirs: median(torch.times), target: 1 / 3, peer: 'transformers' } : {};
  rows.push(row(`${name}, median`, 'ms a token', median(ours!.times), theirs));
  if (torch) {
    const best = { ...theirs, theirs: least(torch.times) };
    rows.push(row(`${name}, minimum`, 'ms a token', least(ours!.times), best));
  }
  show(2);
}

/** The same float32 weights in a GGUF file, read by llama.cpp. */
async function besideLlamaCpp(threads: number): Promise<void> {
  const name = `decode SmolLM2 shape, ${threads} thread${threads > 1 ? 's' : ''}, f32`;
  if (!wanted(name) || !python) return;
  const folder = mkdtempSync(join(tmpdir(), 'peftlab-bench-'));
  const file = join(folder, 'c.gguf');
  const script = path('./engine-f32-gguf.py');
  const source = await obtainSmollm2();
  const made = spawn(python, [script, source, file], { stdio: 'inherit' });
  await new Promise((resolve) => made.on('exit', resolve));
  if (existsSync(file)) {
    const tasks = [
      task('C', 'decode', threads, 'native'),
      { ...task('C', 'decode', threads, 'llama.cpp'), file },
    ];
    const [ours, theirs] = await race(tasks, { rounds: 6, steps: 64 });
    const peer = { peer: 'llama.cpp', target: 1.5 };
    rows.push(
      row(`${name}, median`, 'ms a token', median(ours!.times), {
        theirs: median(theirs!.times),
        ...peer,
      }),
      row(`${name}, minimum`, 'ms a token', least(ours!.times), {
        theirs: least(theirs!.times),
        ...peer,
      }),
    );
    show(2);
  }
  rmSync(folder, { recursive: true, force: true });
}

for (const model of ['A', 'B', 'C'] as const) {
  for (const threads of [1, 2]) {
    await training(model, 'lora', threads);
    await training(model, 'full', threads);
  }
}
await gemmShare(2);
for (const threads of [1, 2]) {
  await decoding('B', threads);
  await decoding('C', threads);
  await besideLlamaCpp(threads);
}
report(rows);
process.exit(0);
