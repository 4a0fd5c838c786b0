import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'chai';

const BIN = fileURLToPath(new URL('../src/bin.mjs', import.meta.url));

describe('The command peftlab', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'peftlab cli '));
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  const peftlab = (args: string[], onOutput?: (text: string, stop: () => void) => void) =>
    new Promise<{ code: number | null; out: string; err: string }>((resolve) => {
      const env = { ...process.env, PEFTLAB_DATA_DIR: folder };
      const child = spawn(process.execPath, [BIN, ...args], { cwd: folder, env });
      let [out, err] = ['', ''];
      child.stdout.on('data', (text: Buffer) => {
        out += text;
        onOutput?.(out, () => child.kill('SIGINT'));
      });
      child.stderr.on('data', (text: Buffer) => {
        err += text;
      });
      child.once('close', (code) => resolve({ code, out, err }));
    });
  const write = (name: string, text: string) => writeFileSync(join(folder, name), text);
  const read = (name: string) => readFileSync(join(folder, name), 'utf8');

  it('builds a notebook from its source, runs it, and writes a report', async () => {
    write('good.ts', '// %% [markdown]\n// # Good\n\n// %%\nconst x: number = 6;\nx * 7\n');
    const { code, out } = await peftlab(['build', 'good.ts']);
    expect(code).to.equal(0);
    expect(out).to.match(
      /good {2}cell 1\/1\ngood {2}done in [\d.]+ s {2}good.html\n1 of 1 notebooks/,
    );
    expect(JSON.parse(read('good.ipynb')).cells[1].outputs[0].data['text/plain']).to.deep.equal([
      '42',
    ]);
    expect(read('good.html')).to.contain('<h1 id="good">Good</h1>');
    const again = await peftlab(['run', 'good.ipynb']);
    expect(again.code).to.equal(0);
  });

  it('exits with 1 and names notebook, cell and line when a cell fails, and saves what ran', async () => {
    write(
      'bad.ts',
      '// %%\nconsole.log("before")\n\n// %%\n\nconst a = 1;\nthrow new Error("boom " + a)\n',
    );
    const { code, out, err } = await peftlab(['build', 'bad.ts']);
    expect(code).to.equal(1);
    expect(err).to.match(/bad {2}FAILED in cell 2, line 2 after/);
    expect(err).to.contain('boom 1');
    expect(out).to.contain('0 of 1 notebooks ran without an error; failed: bad.ts cell 2');
    const cells = JSON.parse(read('bad.ipynb')).cells;
    expect(cells[0].outputs[0].text).to.deep.equal(['before\n']);
    expect(cells[1].outputs[0].ename).to.equal('Error');
  });

  it('exits with 2 and one sentence for bad input, the file untouched', async () => {
    write('broken.ipynb', '{');
    for (const [args, words] of [
      [['run', 'broken.ipynb'], /^peftlab: broken.ipynb must be JSON: .*\n$/],
      [
        ['run', 'none.ipynb'],
        /^peftlab: Can't read none.ipynb: there is no such file or folder\n$/,
      ],
      [['run', 'zz'], /^peftlab: No lesson begins with 'zz'; have .*\n$/],
    ] as const) {
      const { code, err } = await peftlab([...args]);
      expect(code).to.equal(2);
      expect(err).to.match(words);
    }
    expect(read('broken.ipynb')).to.equal('{');
  });

  it('stops at Ctrl+C, saves what ran, and exits with 130', async () => {
    write(
      'long.ts',
      '// %%\nconsole.log("first")\n\n// %%\nawait new Promise((r) => setTimeout(r, 60000))\n',
    );
    const { code } = await peftlab(['build', 'long.ts'], (text, stop) => {
      if (text.includes('cell 2/2')) setTimeout(stop, 500);
    });
    expect(code).to.equal(130);
    expect(JSON.parse(read('long.ipynb')).cells[0].outputs[0].text).to.deep.equal(['first\n']);
  });

  it('installs and removes the kernelspec', async () => {
    const spec = join(folder, 'share', 'jupyter', 'kernels', 'typescript-peftlab');
    const { code, out } = await peftlab(['install', '--prefix', folder]);
    expect([code, out]).to.deep.equal([0, `Installed ${spec}\n`]);
    const kernel = JSON.parse(readFileSync(join(spec, 'kernel.json'), 'utf8'));
    expect(kernel).to.deep.include({ language: 'typescript', interrupt_mode: 'message' });
    expect(kernel.argv.at(-1)).to.equal('{connection_file}');
    for (const logo of ['logo-svg.svg', 'logo-32x32.png', 'logo-64x64.png']) {
      expect(existsSync(join(spec, logo)), logo).to.equal(true);
    }
    expect((await peftlab(['uninstall', '--prefix', folder])).code).to.equal(0);
    expect(existsSync(spec)).to.equal(false);
    expect((await peftlab(['uninstall', '--prefix', folder])).code).to.equal(1);
  });

  it('shows which backends this machine has', async () => {
    const { code, out } = await peftlab(['doctor']);
    expect(code).to.equal(0);
    for (const name of ['native', 'tensorflow', 'wasm', 'cpu']) {
      expect(out).to.match(new RegExp(`^[* ] ${name} +(not here|[\\d.]+ GFLOP/s) `, 'm'));
    }
    expect(out).to.match(/Training and generation use '(native|wasm)'/);
  });

  it('refuses models that it does not have, with one sentence', async () => {
    for (const [args, words] of [
      [['model', 'gpt5'], /^peftlab: Model must be 'smollm2', got 'gpt5'; .*\n$/],
      [['generate', 'no such model', 'Hello'], /^peftlab: 'no such model' is no folder, .*\n$/],
      [['generate', folder, 'Hello'], /^peftlab: No .* in .*\n$/],
    ] as const) {
      const { code, err } = await peftlab([...args]);
      expect(code, args.join(' ')).to.equal(1);
      expect(err).to.match(words);
    }
  });
});
