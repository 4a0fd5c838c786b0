import { expect } from 'chai';
import { TestKernel } from './support.ts';

describe('Output', () => {
  const kernel = new TestKernel();
  before(() => kernel.start());
  after(() => kernel.stop());

  it('arrives whole: 20,000 lines and a string of 10 MB', async () => {
    const lines = await kernel.run("for (let i = 0; i < 20000; i++) console.log('line ' + i)");
    expect(lines.stdout).to.equal(Array.from({ length: 20000 }, (_, i) => `line ${i}\n`).join(''));
    expect(lines.messages.length).to.be.lessThan(500);
    const big = await kernel.run("console.log('x'.repeat(10_000_000))");
    expect(big.stdout.length).to.equal(10_000_001);
  });

  it('appears while a synchronous loop runs', async () => {
    const at: number[] = [];
    const code =
      'for (let i = 0; i < 4; i++) { console.log(i); const t = Date.now(); while (Date.now() - t < 150); }';
    let reply = 0;
    await kernel.run(code, { onMessage: () => at.push(Date.now()) }).then(() => {
      reply = Date.now();
    });
    expect(at.length).to.be.at.least(4);
    expect(reply - at[0]!).to.be.greaterThan(300);
  });

  it('keeps the order of stdout, stderr and displays', async () => {
    const { messages } = await kernel.run(
      "console.log('a'); console.error('b'); process.stdout.write('c'); display.text('d'); console.log('e')",
    );
    expect(messages.map((m) => m.content.text ?? 'display')).to.deep.equal([
      'a\n',
      'b\n',
      'c',
      'display',
      'e\n',
    ]);
  });

  it('includes what child processes, file descriptors and worker threads write', async () => {
    const code = `import { spawnSync } from 'node:child_process';
import { writeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
spawnSync('sh', ['-c', 'echo from a child; echo and its stderr >&2'], { stdio: 'inherit' });
writeSync(1, 'from a descriptor\\n');
const worker = new Worker("console.log('from a worker')", { eval: true });
await new Promise((resolve) => worker.on('exit', resolve));`;
    const { stdout, stderr } = await kernel.run(code);
    expect(stdout)
      .to.contain('from a child\n')
      .and.to.contain('from a descriptor\n')
      .and.to.contain('from a worker\n');
    expect(stderr).to.equal('and its stderr\n');
  });

  it('joins characters that come in pieces', async () => {
    const { stdout } = await kernel.run(
      "const bytes = Buffer.from('é🙂'); process.stdout.write(bytes.subarray(0, 4)); process.stdout.write(bytes.subarray(4));",
    );
    expect(stdout).to.equal('é🙂');
  });

  it('has console.warn on stdout and console.error on stderr', async () => {
    const { stdout, stderr } = await kernel.run("console.warn('w'); console.error('e')");
    expect([stdout, stderr]).to.deep.equal(['w\n', 'e\n']);
  });

  it('is never greeted by a library on stderr', async () => {
    const code =
      "import * as tf from '@tensorflow/tfjs'; tf.tensor([1]).dataSync()[0]; process.emitWarning('old', 'DeprecationWarning'); new (require('node:buffer').Buffer)(1)";
    const { stderr, reply } = await kernel.run(code);
    expect([stderr, reply.status]).to.deep.equal(['', 'ok']);
  });

  it('comes before idle, all of it', async () => {
    const order: string[] = [];
    kernel.client.onMessage = (m) =>
      order.push(String(m.content.execution_state ?? m.header.msg_type));
    await kernel.run(
      "for (let i = 0; i < 3000; i++) process.stdout.write('y'); require('node:child_process').execSync('echo done', { stdio: 'inherit' })",
    );
    kernel.client.onMessage = null;
    expect(order[0]).to.equal('busy');
    expect(order.at(-1)).to.equal('idle');
    expect(order.filter((x) => x === 'idle')).to.have.length(1);
  });

  it('does not reach the streams of the kernel itself', async () => {
    const { stdout } = await kernel.run(
      "import * as fs from 'node:fs'; fs.readFileSync; console.table([{ a: 1 }]); console.group('g'); console.info('in'); console.groupEnd()",
    );
    expect(stdout).to.contain('│ a │').and.to.contain('g\n  in\n');
  });
});
