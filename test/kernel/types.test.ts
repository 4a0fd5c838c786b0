import { expect } from 'chai';
import { TestKernel } from './support.ts';

const plain = (text: unknown): string => String(text).replace(/\x1b\[\d+m/g, '');

describe('Types and errors', () => {
  const kernel = new TestKernel();
  before(() => kernel.start());
  after(() => kernel.stop());
  const traceback = async (code: string, options = {}): Promise<string> =>
    plain(((await kernel.run(code, options)).reply.traceback as string[]).join('\n'));

  it('show a type error as a warning with line, column and source, and run the cell', async () => {
    const { reply, stdout, stderr, value } = await kernel.run(
      "const a = 1;\nconst b: number = 'x';\nb",
    );
    expect(reply.status).to.equal('ok');
    expect(plain(stdout)).to.equal(
      "warning TS2322: Type 'string' is not assignable to type 'number'.\nIn[1]:2:7\n  1 | const a = 1;\n> 2 | const b: number = 'x';\n    |       ^\n  3 | b\n",
    );
    expect([value, stderr]).to.deep.equal(["'x'", '']);
  });

  it('see the types of earlier cells, also when assigning', async () => {
    await kernel.run('let count = 5; interface Row { id: number }');
    expect(plain((await kernel.run("count = 'six' as never as string")).stdout)).to.contain(
      'TS2322',
    );
    expect(plain((await kernel.run("const row: Row = { id: 'x' };")).stdout)).to.contain('TS2322');
    expect(
      (await kernel.run('count = 7; const good: Row = { id: count }; good.id')).value,
    ).to.equal('7');
  });

  it('stop a cell with a syntax error or an unknown name before it runs', async () => {
    const syntax = await kernel.run("console.log('ran');\nlet x = = 2");
    expect(syntax.reply).to.include({ status: 'error', ename: 'SyntaxError' });
    const unknown = await kernel.run("console.log('ran');\nmissing()");
    expect(unknown.reply).to.include({ status: 'error', ename: 'ReferenceError' });
    expect(unknown.reply.evalue).to.match(/Cannot find name 'missing'. \(In\[\d+\]:2:1\)/);
    expect(syntax.stdout + unknown.stdout).to.equal('');
  });

  it('leave an unknown name of a test cell to fail where it is used', async () => {
    for (const [code, options] of [
      [
        "console.log('ran');\nmissing()",
        { metadata: { nbgrader: { grade: true, solution: false } } },
      ],
      ["console.log('ran');\nmissing()", { metadata: { tags: ['test'] } }],
      ["import assert from 'node:assert';\nconsole.log('ran');\nassert.equal(missing(), 1)", {}],
      ["console.log('ran')\n// BEGIN HIDDEN TESTS\nmissing()", {}],
    ] as const) {
      const { reply, stdout } = await kernel.run(code, options);
      expect(reply).to.include({ ename: 'ReferenceError', evalue: 'missing is not defined' });
      expect(stdout).to.contain('ran');
    }
  });

  it('are strict, off or warnings as %types says', async () => {
    const wrong = "const w: number = 'x'; w";
    expect((await kernel.run(`%types strict\n${wrong}`)).reply).to.include({
      ename: 'TypeScriptError',
    });
    expect((await kernel.run(wrong)).reply.status).to.equal('error');
    const off = await kernel.run(`%types off\n${wrong}`);
    expect([off.stdout, off.value]).to.deep.equal(['', "'x'"]);
    expect((await kernel.run(`%types warn\n${wrong}`)).stdout).to.contain('TS2322');
    expect((await kernel.run('%types loud')).reply.evalue).to.equal(
      "%types must be strict, warn or off, got 'loud'",
    );
    expect((await kernel.run('%time 1')).reply.evalue).to.equal(
      'There is no magic %time; have %types strict|warn|off',
    );
  });

  it("point at the cell's TypeScript line and show no frames of the kernel", async () => {
    await kernel.run(
      'interface A { x: number }\n\nfunction deep(a: A): number {\n  return (a as unknown as { y: { z: number } }).y.z;\n}',
    );
    const text = await traceback('type B = 1;\nconst go = () => deep({ x: 1 });\ngo()');
    expect(text).to.match(
      /^TypeError: Cannot read properties of undefined \(reading 'z'\)\nIn\[\d+\]:4:\d+\n/,
    );
    expect(text).to.match(/> 4 \| {3}return \(a as/);
    const frames = text.split('\n').filter((line) => line.startsWith('    at '));
    expect(frames).to.have.length(3);
    expect(frames.join('\n')).to.match(
      /at deep \(In\[\d+\]:4:\d+\)\n {4}at go \(In\[\d+\]:2:\d+\)\n {4}at In\[\d+\]:3:/,
    );
  });

  it('map error.stack for user code too, with causes and what is no error', async () => {
    expect((await kernel.run("const s = new Error('e').stack!; s")).value).to.match(
      /Error: e\\n'?[\s\S]*at In\[\d+\]:1:/,
    );
    expect(
      await traceback("throw new Error('outer', { cause: new RangeError('inner') })"),
    ).to.match(/Caused by RangeError: inner/);
    expect((await kernel.run("throw 'text'")).reply).to.include({
      ename: 'Uncaught',
      evalue: 'text',
    });
    expect((await kernel.run('throw null')).reply).to.include({
      ename: 'Uncaught',
      evalue: 'null',
    });
    expect(
      (await kernel.run("await Promise.any([Promise.reject(new Error('one'))])")).reply.ename,
    ).to.equal('AggregateError');
  });

  it('report errors that only the engine finds, at their line', async () => {
    const text = await traceback(
      '%types off\nconst ok = 1;\nlet dup = 1; let dup = 2; for (const q of [1]) { break nowhere }',
    );
    expect(text).to.match(/^SyntaxError: /);
  });
});
