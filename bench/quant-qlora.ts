// A QLoRA step on model C's shape beside a LoRA step of ours: same adapters, same batch, in turns; each in its
// own process, which reads its base from disk. `npm run bench -- quant` runs it.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { median, type Row, row } from './report.ts';

const SCRIPT = fileURLToPath(new URL('./quant-worker.ts', import.meta.url));
const ROUNDS = 6;
const STEPS = 2;

/** A process that trains on one base. */
class Trainee {
  readonly times: number[] = [];
  peak = 0;
  bytes = 0;
  private readonly process: ChildProcess;
  private readonly lines: AsyncIterator<string>;

  constructor(base: string) {
    this.process = spawn(process.execPath, ['--import=tsx', SCRIPT, base], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.lines = createInterface({ input: this.process.stdout! })[Symbol.asyncIterator]();
  }

  async run(count: number, keep: boolean): Promise<void> {
    this.process.stdin!.write(`${count}\n`);
    const times = (await this.read()) as number[];
    if (keep) this.times.push(...times);
  }

  async end(): Promise<void> {
    this.process.stdin!.write('q\n');
    Object.assign(this, await this.read());
  }

  async read(): Promise<unknown> {
    for (;;) {
      const { value, done } = await this.lines.next();
      if (done) throw new Error('A contestant ended before its turn');
      if (/^[[{]/.test(value)) return JSON.parse(value);
    }
  }
}

/** Time, peak memory of the process, and bytes of the base in memory. */
export async function qloraRows(): Promise<Row[]> {
  const folder = mkdtempSync(join(tmpdir(), 'peftlab-qlora-'));
  try {
    const made = spawnSync(process.execPath, ['--import=tsx', SCRIPT, 'make', folder]);
    if (made.status !== 0) throw new Error(String(made.stderr));
    const [lora, qlora] = ['float', 'nf4'].map((name) => new Trainee(join(folder, name)));
    const both = [lora!, qlora!];
    for (const trainee of both) await trainee.read();
    for (let round = 0; round <= ROUNDS; round++) {
      for (const trainee of both) await trainee.run(STEPS, round > 0);
    }
    for (const trainee of both) await trainee.end();
    const peer = 'LoRA step';
    const least = (times: number[]) => Math.min(...times);
    return [
      row('QLoRA step, median', 'ms', median(qlora!.times), {
        ...{ theirs: median(lora!.times), peer, target: 1.6 },
      }),
      row('QLoRA step, minimum', 'ms', least(qlora!.times), {
        ...{ theirs: least(lora!.times), peer, target: 1.6 },
      }),
      row('QLoRA step, peak memory', 'MB', qlora!.peak, {
        ...{ theirs: lora!.peak, peer, target: 0.6 },
      }),
      row('QLoRA step, bytes of the base', 'MB', qlora!.bytes / 2 ** 20, {
        ...{ theirs: lora!.bytes / 2 ** 20, peer },
      }),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
