// The kernel beside tslab's, Deno's and ipykernel, where these are installed: cold start, a small cell, a
// declaring cell as cells grow in number, memory. All kernels take turns in one run.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { KernelClient } from '../src/kernel/client.ts';
import { hasPython, pythonEnvironment } from '../test/jupyter/python.ts';
import { median, type Row, report, row } from './report.ts';

interface Contestant {
  name: string;
  argv?: readonly string[];
  isPython?: boolean;
}

interface Figures {
  coldStart: number[];
  first: number[];
  small: number[];
  fresh: number[];
  declaring: number[];
  complete: number[];
  memory: number;
  /** Memory half way through the cells. */
  earlier: number;
}

const CELLS = 200;
const STARTS = 5;
const data = mkdtempSync(join(tmpdir(), 'peftlab-bench-'));

function contestants(): Contestant[] {
  const all: Contestant[] = [{ name: 'peftlab' }];
  const bin = (name: string) =>
    fileURLToPath(new URL(`../node_modules/.bin/${name}`, import.meta.url));
  const onPath = (name: string) =>
    spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0 ? name : null;
  const deno = onPath(process.env.DENO ?? 'deno');
  const tslab = existsSync(bin('tslab')) ? bin('tslab') : onPath('tslab');
  if (tslab)
    all.push({ name: 'tslab', argv: [tslab, 'kernel', '--config-path', '{connection_file}'] });
  if (deno)
    all.push({ name: 'Deno', argv: [deno, 'jupyter', '--kernel', '--conn', '{connection_file}'] });
  else console.log('Deno is left out: not on the PATH (DENO=/path/to/deno names one)');
  if (hasPython()) {
    const environment = pythonEnvironment(
      fileURLToPath(new URL('./kernel-requirements.txt', import.meta.url)),
    );
    const python = join(environment, 'bin', 'python');
    all.push({
      name: 'ipykernel',
      argv: [python, '-m', 'ipykernel_launcher', '-f', '{connection_file}'],
      isPython: true,
    });
  } else console.log('ipykernel is left out: no python3');
  return all;
}

function declaringCell(i: number, isPython: boolean): string {
  if (isPython) {
    return `class P${i}:\n    def __init__(self, x, name):\n        self.x = x; self.name = name\nv${i} = P${i}(${i}, 'n${i}')\ndef f${i}(p): return p.x + ${i}\nf${i}(v${i})`;
  }
  return [
    `interface P${i} { x: number; name: string; tags?: string[] }`,
    `class C${i} { constructor(public p: P${i}) {} get(): number { return this.p.x * 2; } }`,
    `const v${i}: P${i} = { x: ${i}, name: 'n${i}' };`,
    `function f${i}(p: P${i}): number { return p.x + ${i}; }`,
    `f${i}(v${i}) + new C${i}(v${i}).get()`,
  ].join('\n');
}

/** Resident memory of a process and all below it, in MB. */
function residentMb(pid: number): number {
  const own =
    Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' ').filter(Boolean),
  );
  return own + children.reduce((sum, child) => sum + residentMb(Number(child)), 0);
}

/** Memory of a kernel; 0 where the system does not tell. */
function memoryOf(kernel: KernelClient): number {
  return existsSync('/proc/self/status') ? residentMb(kernel.process.pid!) : 0;
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await task();
  return performance.now() - started;
}

const options = (c: Contestant) => ({
  env: { PEFTLAB_DATA_DIR: data },
  ...(c.argv ? { argv: c.argv } : {}),
});
const reply = (kernel: KernelClient, code: string) =>
  timed(() =>
    kernel.request('shell', 'execute_request', {
      ...{
        code,
        silent: false,
        store_history: true,
        user_expressions: {},
        allow_stdin: false,
        stop_on_error: true,
      },
    }),
  );

async function measure(all: readonly Contestant[]): Promise<Map<string, Figures>> {
  const figures = new Map<string, Figures>();
  for (const { name } of all) {
    figures.set(name, {
      coldStart: [],
      first: [],
      small: [],
      fresh: [],
      declaring: [],
      complete: [],
      memory: 0,
      earlier: 0,
    });
  }
  const kernels = new Map<string, KernelClient>();
  for (let i = 0; i <= STARTS; i++) {
    for (const contestant of all) {
      await kernels.get(contestant.name)?.shutdown();
      let kernel: KernelClient | undefined;
      const ms = await timed(async () => {
        kernel = await KernelClient.start(options(contestant));
      });
      // The first start of all fills caches of the disk: it does not count.
      if (i > 0) figures.get(contestant.name)!.coldStart.push(ms);
      kernels.set(contestant.name, kernel!);
    }
  }
  await pause(300);
  for (const { name } of all) figures.get(name)!.first.push(await reply(kernels.get(name)!, '1+1'));
  for (let i = 0; i < 60; i++) {
    for (const { name } of all) {
      figures.get(name)!.small.push(await reply(kernels.get(name)!, '1+1'));
      figures.get(name)!.fresh.push(await reply(kernels.get(name)!, `1+${i}+2`));
    }
  }
  for (let i = 1; i <= CELLS; i++) {
    for (const { name, isPython = false } of all) {
      figures
        .get(name)!
        .declaring.push(await reply(kernels.get(name)!, declaringCell(i, isPython)));
      if (i === CELLS / 2) figures.get(name)!.earlier = memoryOf(kernels.get(name)!);
    }
  }
  for (const { name } of all) {
    const kernel = kernels.get(name)!;
    for (let i = 0; i < 10; i++) {
      const content = { code: 'v3.na', cursor_pos: 5 };
      figures
        .get(name)!
        .complete.push(await timed(() => kernel.request('shell', 'complete_request', content)));
    }
    figures.get(name)!.memory = memoryOf(kernel);
    await kernel.shutdown();
  }
  return figures;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function rows(figures: ReadonlyMap<string, Figures>): Row[] {
  const ours = figures.get('peftlab')!;
  const at = (values: readonly number[], n: number) => median(values.slice(Math.max(0, n - 10), n));
  const out: Row[] = [];
  for (const [peer, theirs] of figures) {
    if (peer === 'peftlab') continue;
    const beside = (name: string, unit: string, f: (x: Figures) => number, target: number | null) =>
      out.push(row(name, unit, f(ours), { theirs: f(theirs), peer, target }));
    beside(
      'cold start to kernel_info, median',
      'ms',
      (x) => median(x.coldStart),
      peer === 'ipykernel' ? 1 : null,
    );
    beside('cold start to kernel_info, minimum', 'ms', (x) => Math.min(...x.coldStart), null);
    beside('first cell after the start', 'ms', (x) => x.first[0]!, null);
    beside('1+1, median', 'ms', (x) => median(x.small), peer === 'Deno' ? 2 : null);
    beside('1+1, minimum', 'ms', (x) => Math.min(...x.small), null);
    beside('an expression not seen before, median', 'ms', (x) => median(x.fresh), null);
    beside('declaring cell at 200 cells, median of 10', 'ms', (x) => at(x.declaring, CELLS), null);
    beside('completion at 200 cells, median', 'ms', (x) => median(x.complete), null);
    if (ours.memory > 0) beside('memory after 200 cells', 'MB', (x) => x.memory, null);
  }
  const early = at(ours.declaring, 20);
  out.push(
    row('declaring cell at 200 cells', 'ms', at(ours.declaring, CELLS), {
      ...{ theirs: early, peer: 'itself at 10 to 20 cells', target: 2 },
    }),
  );
  if (ours.memory > 0) {
    out.push(row('memory of all processes after 200 cells', 'MB', ours.memory, { target: 300 }));
    out.push(
      row('memory of all processes after 200 cells', 'MB', ours.memory, {
        ...{ theirs: ours.earlier, peer: 'itself after 100 cells', target: 1.1 },
      }),
    );
  }
  return out;
}

try {
  const all = contestants();
  console.log(`Kernels: ${all.map((c) => c.name).join(', ')}; Node ${process.version}`);
  report(rows(await measure(all)));
} finally {
  rmSync(data, { recursive: true, force: true });
}
