import { expect } from 'chai';
import { pause, TestKernel } from './support.ts';

describe('An interrupt', () => {
  const kernel = new TestKernel();
  before(async () => {
    await kernel.start();
    await kernel.run('let kept = 7; let ticks = 0');
  });
  after(() => kernel.stop());

  /**
   * Runs a cell and interrupts it so long after the kernel has taken it (an earlier one is for no cell), or
   * after it has printed something.
   */
  const interrupted = async (code: string, after = 150, { printed = false } = {}) => {
    const taken = new Promise<void>((resolve) => {
      kernel.client.onMessage = ({ header, content }) => {
        if (printed ? header.msg_type === 'stream' : content.execution_state === 'busy') resolve();
      };
    });
    const running = kernel.run(code);
    await taken;
    await pause(after);
    await kernel.client.interrupt();
    return running;
  };

  for (const [what, code] of [
    ['a loop', 'while (true) {}'],
    ['a loop that catches everything', 'for (;;) { try { while (true) {} } catch {} finally {} }'],
    ['a loop after an await', 'await new Promise((r) => setTimeout(r, 20)); while (true) {}'],
    ['a loop of microtasks', 'for (;;) await null'],
    ['a loop in a timer', 'await new Promise(() => setTimeout(() => { while (true) {} }, 10))'],
    ['a pending await', 'await new Promise((r) => setTimeout(r, 60_000))'],
    ['an await that nothing will end', 'await new Promise(() => {})'],
    ['a runaway regular expression', "/(a+)+$/.test('a'.repeat(40) + 'b')"],
    ['Atomics.wait', 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)'],
    ['a loop that prints much', "for (;;) console.log('x'.repeat(30_000))"],
    ['a generator', '[...(function* () { for (let i = 0; ; i++) if (i < 0) yield i })()]'],
    ['a cell that waits for input', "await input('?')"],
  ] as const) {
    it(`ends ${what} and keeps the names`, async () => {
      const { reply } = await interrupted(code);
      if (what.includes('input')) expect(reply.status).to.equal('error');
      else expect(reply).to.include({ status: 'error', ename: 'KeyboardInterrupt' });
      expect(await kernel.value('kept')).to.equal('7');
    });
  }

  it('stops a loop that sleeps, with setTimeout of any kind, for good', async () => {
    for (const sleep of [
      'const sleep1 = (ms: number) => new Promise((r) => setTimeout(r, ms));',
      "import { setTimeout as sleep1 } from 'node:timers/promises';",
      "import { promisify } from 'node:util'; const sleep1 = promisify(setTimeout);",
    ]) {
      await kernel.run('ticks = 0');
      const loop = "while (true) { if (ticks++ === 5) console.log('five'); await sleep1(2) }";
      await interrupted(`${sleep}\n${loop}`, 50, { printed: true });
      const before = await kernel.value('ticks');
      await pause(60);
      expect(await kernel.value('ticks')).to.equal(before);
      expect(Number(before)).to.be.greaterThan(5);
    }
  });

  it('works thirty times in a row', async () => {
    for (let i = 0; i < 30; i++) {
      const code = ['while (true) kept', 'await new Promise(() => {})', 'for (;;) await 0'][i % 3]!;
      expect((await interrupted(code, 20 + i)).reply.ename).to.equal('KeyboardInterrupt');
    }
    expect(await kernel.value('kept')).to.equal('7');
  });

  it('reaches a cell at any moment of its beginning, and what is sent after it runs', async () => {
    for (let i = 0; i < 40; i++) {
      const { reply } = await interrupted(`for (;;) { ${i} }`, i / 2);
      expect(reply.ename).to.equal('KeyboardInterrupt');
      expect(await kernel.value(`kept + ${i}`)).to.equal(`${7 + i}`);
    }
  });

  it('ends what a front end asked to evaluate after the cell', async () => {
    const { reply } = await kernel.client.execute("display('cell')", {
      userExpressions: { endless: '(() => { for (;;) {} })()' },
      onMessage: ({ header }) => {
        if (header.msg_type === 'display_data')
          void pause(100).then(() => kernel.client.interrupt());
      },
    });
    expect(reply).to.include({ status: 'error', ename: 'KeyboardInterrupt' });
    expect(await kernel.value('kept')).to.equal('7');
  });

  it('reaches a cell that is still being compiled or has just begun', async () => {
    for (const after of [0, 1, 3, 10]) {
      const { reply } = await interrupted(
        `interface N${after} { x: number }\nawait new Promise(() => {})`,
        after,
      );
      expect(reply.ename).to.equal('KeyboardInterrupt');
    }
  });

  it('only tells code that listens for it, which then ends by itself', async () => {
    await kernel.run(`
      const listen = (globalThis as any)[Symbol.for('peftlab.interrupt')] as (f: () => void) => () => void;
      let turns = 0;
      async function work() {
        let stopping = false;
        const unlisten = listen(() => { stopping = true; });
        display(0);
        while (!stopping) { turns++; await new Promise((r) => setTimeout(r, 10)); }
        await new Promise((r) => setTimeout(r, 300));
        unlisten();
        return 'stopped by itself';
      }`);
    const { reply, value } = await kernel.run('await work()', {
      onMessage: ({ header }) => {
        if (header.msg_type === 'display_data') void kernel.client.interrupt();
      },
    });
    expect(reply.status).to.equal('ok');
    expect(value).to.equal("'stopped by itself'");
    expect((await interrupted('for (;;) await 0')).reply.ename).to.equal('KeyboardInterrupt');
  });

  it('does nothing when no cell runs', async () => {
    await kernel.client.interrupt();
    expect(await kernel.value('kept + 1')).to.equal('8');
  });

  it('ends the process at the second press, and says that names are lost', async () => {
    const running = kernel.run("require('node:child_process').execSync('sleep 30')");
    await pause(200);
    await kernel.client.interrupt();
    await pause(500);
    await kernel.client.interrupt();
    const { reply } = await running;
    expect(reply.ename).to.equal('KeyboardInterrupt');
    expect(reply.evalue).to.contain('all variables are lost');
    expect((await kernel.run('kept')).reply.evalue).to.match(/Cannot find name 'kept'/);
    expect(await kernel.value('1 + 1')).to.equal('2');
  });
});

describe('The process of a kernel that was killed', () => {
  it('ends too, also where its cell loops', async () => {
    const kernel = new TestKernel();
    await kernel.start();
    const { stdout } = await kernel.run('console.log(process.pid)');
    const looping = kernel.run('for (;;) {}').catch(() => {});
    await pause(300);
    await kernel.client.kill();
    await looping;
    const isGone = () => {
      try {
        process.kill(Number(stdout), 0);
        return false;
      } catch {
        return true;
      }
    };
    for (let waited = 0; waited < 20_000 && !isGone(); waited += 100) await pause(100);
    expect(isGone()).to.equal(true);
    await kernel.stop();
  });
});

describe('A cell that would end the process', () => {
  const kernel = new TestKernel();
  before(async () => {
    await kernel.start();
    await kernel.run('let kept = 7');
  });
  after(() => kernel.stop());

  it('fails at process.exit, the state kept', async () => {
    const { reply, stdout } = await kernel.run(
      "console.log('a'); process.exit(3); console.log('b')",
    );
    expect(reply).to.include({ ename: 'ProcessExit' });
    expect(reply.evalue).to.match(/^process.exit\(3\) was called/);
    expect(stdout).to.equal('a\n');
    expect(await kernel.value('kept')).to.equal('7');
  });

  it('fails at a rejection that nobody handles, and at a throw in a timer', async () => {
    const rejected = await kernel.run("Promise.reject(new RangeError('lost')); 5");
    expect(rejected.reply).to.include({ ename: 'RangeError', evalue: 'lost' });
    const thrown = await kernel.run(
      "setTimeout(() => { throw new TypeError('late') }, 5); await new Promise(() => {})",
    );
    expect(thrown.reply).to.include({ ename: 'TypeError', evalue: 'late' });
    const emitter = await kernel.run(
      "new (require('node:events'))().emit('error', new Error('unheard'))",
    );
    expect(emitter.reply).to.include({ evalue: 'unheard' });
    expect(await kernel.value('kept')).to.equal('7');
  });

  it('prints an error that comes after its end, and the kernel goes on', async () => {
    let text = '';
    kernel.client.onMessage = (m) => {
      if (m.header.msg_type === 'stream') text += m.content.text;
    };
    await kernel.run("setTimeout(() => { throw new Error('afterwards') }, 30)");
    await pause(200);
    expect(text).to.contain('afterwards');
    expect(await kernel.value('kept')).to.equal('7');
  });

  for (const [what, code, words] of [
    ['a crash', 'process.abort()', /The process of the notebook ended \(signal SIGABRT\)/],
    [
      'a kill',
      "process.kill(process.pid, 'SIGKILL'); await new Promise(() => {})",
      /signal SIGKILL/,
    ],
    [
      'running out of memory',
      'const hog: number[][] = []; for (;;) hog.push(new Array(1_000_000).fill(0.5))',
      /ran out of memory/,
    ],
  ] as const) {
    it(`fails at ${what}, and a new process takes its place`, async function () {
      this.timeout(60_000);
      const { reply } = await kernel.run(code);
      expect(reply.ename).to.equal('ProcessDied');
      expect(reply.evalue).to.match(words).and.to.contain('all variables are lost');
      expect(await kernel.value('6 * 7')).to.equal('42');
    });
  }
});
