import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect } from 'chai';

const script = join(import.meta.dirname, 'training-process.ts');

/** Runs the script until it ends, or until `stop` wants it to end after a line. */
async function run(
  args: string[],
  stop: (line: string, child: ChildProcess) => void = () => {},
  shell = '',
): Promise<string[]> {
  const node = [process.execPath, '--import=tsx', script, ...args];
  const child = shell
    ? spawn('bash', ['-c', `${shell}; exec "$@"`, 'bash', ...node])
    : spawn(node[0]!, node.slice(1));
  const lines: string[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    if (!/^(\d+|done|error) /.test(line)) continue;
    lines.push(line);
    stop(line, child);
  }
  return lines;
}

describe('A training process', () => {
  let folder = '';
  let whole: string[] = [];
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'training-'));
    whole = await run([join(folder, 'whole'), '8']);
  });
  after(() => rmSync(folder, { recursive: true }));

  it('gives the same losses bit for bit when it was killed and resumed, dropout included', async () => {
    const outputDir = join(folder, 'killed');
    const first = await run([outputDir, '8'], (line, child) => {
      if (line.startsWith('4 ')) child.kill('SIGKILL');
    });
    expect(first.at(-1)).to.match(/^[45] /);
    const second = await run([outputDir, '8', 'resume']);
    expect(second.at(-1)).to.equal('done 8');
    const byStep = new Map(
      [...first, ...second].map((line) => line.split(' ') as [string, string]),
    );
    expect([...byStep].map((pair) => pair.join(' ')).slice(0, 8)).to.deep.equal(whole.slice(0, 8));
  });

  it('stops after the step in progress at Ctrl+C and keeps a checkpoint of it', async () => {
    const outputDir = join(folder, 'interrupted');
    const lines = await run([outputDir, '8'], (line, child) => {
      if (line.startsWith('3 ')) child.kill('SIGINT');
    });
    const [, last] = lines.at(-1)!.split(' ');
    expect(lines.at(-1)).to.match(/^done [34]$/);
    expect(existsSync(join(outputDir, `checkpoint-${last}`))).to.equal(true);
    const resumed = await run([outputDir, '8', 'resume']);
    expect([...lines.slice(0, -1), ...resumed]).to.deep.equal(whole);
  });

  it('leaves the checkpoint before intact where the disk is full', async () => {
    const outputDir = join(folder, 'full');
    await run([outputDir, '2']);
    // Files may not grow beyond 4 KiB, as on a disk without room.
    const limit = "trap '' XFSZ; ulimit -f 4; export TSX_DISABLE_CACHE=1";
    const lines = await run([outputDir, '2', 'resume'], undefined, limit);
    expect(lines).to.deep.equal(['done 2']);
    const other = join(folder, 'full-first');
    const [, error] = await run([other, '8'], undefined, limit);
    expect(error).to.match(
      /^error Checkpoint 1 could not be saved in .*full-first \(E\w+: .*\); earlier ones are intact$/,
    );
    expect(readdirSync(other)).to.deep.equal([]);
    rmSync(join(outputDir, 'checkpoint-2'), { recursive: true });
    const again = await run([outputDir, '2', 'resume'], undefined, limit);
    expect(again.at(-1)).to.match(/^error Checkpoint 2 could not be saved/);
    expect(readdirSync(outputDir)).to.deep.equal(['checkpoint-1']);
    expect((await run([outputDir, '2', 'resume'])).at(-1)).to.equal('done 2');
  });
});
