import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { type Notebook, NotebookError, newCell, type Output } from '../../src/notebook/nbformat.ts';
import { runNotebook } from '../../src/notebook/run.ts';

const make = (...sources: string[]): Notebook => ({
  cells: sources.map((source, i) => newCell('code', source, i)),
  metadata: {},
  nbformat: 4,
  nbformat_minor: 5,
});
const textOf = (output: Output | undefined) =>
  output?.output_type === 'stream' ? output.text : undefined;

describe('Running a notebook', () => {
  let folder: string;
  let path: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'peftlab run '));
    path = join(folder, 'x.ipynb');
    process.env.PEFTLAB_DATA_DIR = folder;
  });
  after(() => {
    rmSync(folder, { recursive: true, force: true });
  });

  it('keeps results, joined streams, counts and the kernel language', async () => {
    const nb = make("console.log('a'); console.log('b'); 6 * 7", '', 'console.error(1)');
    const seen: number[] = [];
    const failure = await runNotebook(nb, { path, onCell: (n, total) => seen.push(n, total) });
    expect(failure).to.equal(null);
    expect(nb.cells[0]!.outputs).to.deep.equal([
      { output_type: 'stream', name: 'stdout', text: 'a\nb\n' },
      {
        output_type: 'execute_result',
        data: { 'text/plain': '42' },
        metadata: {},
        execution_count: 1,
      },
    ]);
    expect(nb.cells[2]!.outputs).to.deep.equal([
      { output_type: 'stream', name: 'stderr', text: '1\n' },
    ]);
    expect(nb.cells.map((c) => c.execution_count)).to.deep.equal([1, null, 2]);
    expect(seen).to.deep.equal([1, 3, 3, 3]);
    expect(nb.metadata.language_info).to.include({ name: 'typescript', file_extension: '.ts' });
  });

  it('changes earlier outputs by display id and clears outputs', async () => {
    const nb = make(
      "const h = display.text('one', { displayId: 'd' }); console.log('kept')",
      "h.update('two'); console.log('gone'); clearOutput(true); console.log('new')",
    );
    await runNotebook(nb, { path });
    expect(nb.cells[0]!.outputs![0]).to.deep.include({ data: { 'text/plain': "'two'" } });
    expect(nb.cells[1]!.outputs!.map(textOf)).to.deep.equal(['new\n']);
  });

  it('stops at the first error and names cell and line', async () => {
    const nb = make(
      'const a = 1',
      'interface A { x: number }\n\nthrow new RangeError("too far")',
      '3',
    );
    const failure = await runNotebook(nb, { path });
    expect(failure).to.deep.include({ cell: 2, line: 3, ename: 'RangeError', evalue: 'too far' });
    expect(nb.cells[1]!.outputs!.at(-1)!.output_type).to.equal('error');
    expect(nb.cells[2]!.execution_count).to.equal(null);
  });

  it('goes on after an error that a cell is tagged for, or when told to', async () => {
    const tagged = make('throw new Error("x")', '2');
    tagged.cells[0]!.metadata.tags = ['raises-exception'];
    expect(await runNotebook(tagged, { path })).to.equal(null);
    expect(tagged.cells[1]!.execution_count).to.equal(2);
    const allowed = make('throw new Error("x")', '2');
    expect(await runNotebook(allowed, { path, allowErrors: true })).to.include({ cell: 1 });
    expect(allowed.cells[1]!.execution_count).to.equal(2);
  });

  it('interrupts a cell at its time limit and keeps what it printed', async () => {
    const nb = make("console.log('before'); while (true) {}");
    // The first cell waits for TypeScript, up to 3 seconds on a slow machine.
    const failure = await runNotebook(nb, { path, timeout: 9000 });
    expect(failure?.ename).to.equal('KeyboardInterrupt');
    expect(textOf(nb.cells[0]!.outputs![0])).to.equal('before\n');
  });

  it('ends when asked to, with what ran until then', async () => {
    const nb = make("console.log('first')", 'await new Promise((r) => setTimeout(r, 60000))', '3');
    const stop = new AbortController();
    const running = runNotebook(nb, {
      path,
      signal: stop.signal,
      onCell: (n) => n === 2 && setTimeout(() => stop.abort(), 300),
    });
    expect((await running)?.ename).to.equal('KeyboardInterrupt');
    expect(textOf(nb.cells[0]!.outputs![0])).to.equal('first\n');
  });

  it('leaves a missing name in a test cell to fail where it is used', async () => {
    const nb = make("console.log('so far');\nnotWritten(1)");
    nb.cells[0]!.metadata.nbgrader = { grade: true, solution: false };
    const failure = await runNotebook(nb, { path });
    expect(failure).to.include({ ename: 'ReferenceError', line: 2 });
    expect(textOf(nb.cells[0]!.outputs![0])).to.equal('so far\n');
  });

  it('refuses a notebook of another kernel', async () => {
    const nb = make('1');
    nb.metadata.kernelspec = { name: 'python3', language: 'python' };
    let error: unknown;
    await runNotebook(nb, { path }).catch((e: unknown) => {
      error = e;
    });
    expect(error).to.be.instanceOf(NotebookError);
    expect((error as Error).message).to.match(
      /must name the kernel typescript-peftlab, got 'python3'/,
    );
  });
});
