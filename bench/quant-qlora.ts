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

  constructor(...args: string[]) {
    this.process = spawn(process.execPath, ['--import=tsx', SCRIPT, ...args], {
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
    const lora = new Trainee(join(folder, 'float'));
    const qlora = new Trainee(join(folder, 'nf4'));
    const lean = new Trainee(join(folder, 'nf4'), 'checkpointing');
    const all = [lora, qlora, lean];
    for (const trainee of all) await trainee.read();
    for (let round = 0; round <= ROUNDS; round++) {
      for (const trainee of all) await trainee.run(STEPS, round > 0);
    }
    for (const trainee of all) await trainee.end();
    const against = (
      name: string,
      unit: string,
      of: (trainee: Trainee) => number,
      target?: number,
    ) =>
      [qlora, lean].map((trainee) =>
        row(
          `${trainee === lean ? 'QLoRA step, checkpointing' : 'QLoRA step'}, ${name}`,
          unit,
          of(trainee),
          {
            ...{ theirs: of(lora), peer: 'LoRA step', target: target ?? null },
          },
        ),
      );
    return [
      ...against('median', 'ms', ({ times }) => median(times), 1.6),
      ...against('minimum', 'ms', ({ times }) => Math.min(...times), 1.6),
      ...against('peak memory', 'MB', ({ peak }) => peak, 0.6),
      ...against('bytes of the base', 'MB', ({ bytes }) => bytes / 2 ** 20).slice(0, 1),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
