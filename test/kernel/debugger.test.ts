import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { KernelClient } from '../../src/kernel/client.ts';
import { murmur2 } from '../../src/kernel/debug-scripts.ts';
import type { Json, Message } from '../../src/kernel/message.ts';

const CELL = `interface Point { x: number; y: number }
type Pair = [Point, Point];

function length(p: Point): number {
  const squares = p.x ** 2 + p.y ** 2;
  return Math.sqrt(squares);
}
const point: Point = { x: 3, y: 4 };
const result = length(point);
result`;

describe('The debugger', () => {
  let kernel: KernelClient;
  let folder: string;
  let seq = 0;
  let events: Json[] = [];
  const waiting = new Map<string, (event: Json) => void>();

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'peftlab debug '));
    kernel = await KernelClient.start({ cwd: folder, env: { PEFTLAB_DATA_DIR: folder } });
    kernel.onMessage = (message: Message) => {
      if (message.header.msg_type !== 'debug_event') return;
      events.push(message.content);
      waiting.get(String(message.content.event))?.(message.content);
    };
  });
  after(async () => {
    await kernel.shutdown();
    rmSync(folder, { recursive: true, force: true });
  });

  const ask = async (command: string, args: Json = {}): Promise<Json> => {
    const request = { type: 'request', seq: ++seq, command, arguments: args };
    const { content } = await kernel.request('control', 'debug_request', request);
    expect(content).to.include({ type: 'response', request_seq: seq, command });
    if (content.success !== true) throw new Error(String(content.message));
    return content.body as Json;
  };
  const next = (event: string): Promise<Json> =>
    new Promise((resolve) => waiting.set(event, resolve));
  const breakAt = async (code: string, ...breakpoints: object[]): Promise<string> => {
    const { sourcePath } = await ask('dumpCell', { code });
    await ask('setBreakpoints', { source: { path: sourcePath }, breakpoints });
    return String(sourcePath);
  };
  const top = async (): Promise<Json> =>
    ((await ask('stackTrace', { threadId: 1 })).stackFrames as Json[])[0]!;
  const names = async (scope: string): Promise<Record<string, unknown>> => {
    const { scopes } = await ask('scopes', { frameId: (await top()).id });
    const { variablesReference } = (scopes as Json[]).find((s) => s.name === scope)!;
    const { variables } = await ask('variables', { variablesReference });
    return Object.fromEntries((variables as Json[]).map((v) => [v.name, v.value]));
  };

  it('computes cell paths as JupyterLab does', async () => {
    const info = await ask('debugInfo');
    expect(info).to.include({ isStarted: false, hashMethod: 'Murmur2', tmpFileSuffix: '.ts' });
    const hash = murmur2(new TextEncoder().encode(CELL), Number(info.hashSeed));
    const { sourcePath } = await ask('dumpCell', { code: CELL });
    expect(sourcePath).to.equal(`${info.tmpFilePrefix}${hash}.ts`);
    // Reference values of MurmurHash2 by A. Appleby, seed 0x9747b28c and 0.
    expect(murmur2(new TextEncoder().encode('hello'), 0)).to.equal(0xe56129cb);
    expect(murmur2(new Uint8Array(0), 0)).to.equal(0);
  });

  it('attaches, and does not stop without a breakpoint', async () => {
    const capabilities = await ask('initialize', { adapterID: 'test' });
    expect(capabilities.supportsConditionalBreakpoints).to.equal(true);
    const initialized = next('initialized');
    await ask('attach');
    await initialized;
    await ask('configurationDone');
    expect((await kernel.execute('1 + 1')).reply.status).to.equal('ok');
    expect((await ask('debugInfo')).isStarted).to.equal(true);
  });

  it('stops at a TypeScript line below types, shows frames and variables, steps, and goes on', async () => {
    const path = await breakAt(CELL, { line: 5 });
    const stopped = next('stopped');
    const running = kernel.execute(CELL);
    expect(await stopped).to.deep.include({
      body: { reason: 'breakpoint', threadId: 1, allThreadsStopped: true },
    });
    const { stackFrames } = await ask('stackTrace', { threadId: 1 });
    const frames = (stackFrames as Json[]).map((f) => [f.name, f.line, (f.source as Json).path]);
    expect(frames).to.deep.equal([
      ['length', 5, path],
      ['In[2]', 9, path],
    ]);
    expect(await names('Locals')).to.include({ p: 'Object' });
    expect(await ask('evaluate', { expression: 'p.x + 1', frameId: 1 })).to.include({
      result: '4',
    });
    expect(await ask('evaluate', { expression: 'point.y * 2', frameId: 1 })).to.include({
      result: '8',
    });
    let step = next('stopped');
    await ask('next', { threadId: 1 });
    expect((await step).body).to.include({ reason: 'step' });
    expect(await top()).to.include({ line: 6 });
    expect(await names('Locals')).to.include({ squares: '25' });
    step = next('stopped');
    await ask('stepOut', { threadId: 1 });
    await step;
    expect(await top()).to.include({ name: 'In[2]', line: 10 });
    expect(await names('Notebook')).to.include({ point: 'Object', result: '5' });
    const continued = next('continued');
    await ask('continue', { threadId: 1 });
    await continued;
    expect((await running).messages.at(-1)!.content.data).to.deep.equal({ 'text/plain': '5' });
  });

  it('keeps the breakpoint when the cell runs again, and answers other requests meanwhile', async () => {
    const stopped = next('stopped');
    const running = kernel.execute(CELL);
    await stopped;
    const reply = await kernel.request('shell', 'complete_request', {
      code: 'Math.flo',
      cursor_pos: 8,
    });
    expect(reply.content.matches).to.deep.equal(['floor']);
    const inner = next('stopped');
    await ask('stepIn', { threadId: 1 });
    await inner;
    await ask('continue', { threadId: 1 });
    expect((await running).reply.status).to.equal('ok');
    await breakAt(CELL);
    expect((await kernel.execute(CELL)).reply.status).to.equal('ok');
  });

  it('stops only where a condition holds, and prints log messages without stopping', async () => {
    const code =
      'for (let i = 0; i < 5; i++) {\n  const square: number = i * i;\n  void square;\n}';
    await breakAt(code, { line: 3, condition: 'i === 3' });
    const stopped = next('stopped');
    const running = kernel.execute(code);
    await stopped;
    expect(await names('Block')).to.include({ square: '9' });
    await ask('continue', { threadId: 1 });
    await running;
    await breakAt(code, { line: 3, logMessage: 'i is {i}' });
    const { messages } = await kernel.execute(code);
    expect(messages.map((m) => m.content.text).join('')).to.contain('i is 0\ni is 1\n');
    await breakAt(code);
  });

  it('lists the names of all cells and shows one richly', async () => {
    const { variables } = await ask('inspectVariables');
    expect((variables as Json[]).map((v) => v.name)).to.include.members([
      'length',
      'point',
      'result',
    ]);
    const { data } = await ask('richInspectVariables', { variableName: 'point' });
    expect(data).to.deep.equal({ 'text/plain': '{ x: 3, y: 4 }' });
  });

  it('stops where a cell throws when it is told to', async () => {
    await ask('setExceptionBreakpoints', { filters: ['raised'] });
    const stopped = next('stopped');
    const running = kernel.execute('type A = 1;\nthrow new Error("here")');
    expect((await stopped).body).to.include({ reason: 'exception' });
    expect(await top()).to.include({ line: 2 });
    await ask('continue', { threadId: 1 });
    expect((await running).reply.status).to.equal('error');
    await ask('setExceptionBreakpoints', { filters: [] });
  });

  it('shows the lines of an imported TypeScript file', async () => {
    const path = join(folder, 'lib.ts');
    writeFileSync(
      path,
      'export interface A { x: number }\nexport function twice(n: number): number {\n  debugger;\n  return n * 2;\n}\n',
    );
    const stopped = next('stopped');
    const running = kernel.execute("import { twice } from './lib.ts';\ntwice(4)");
    await stopped;
    expect(await top()).to.deep.include({
      name: 'twice',
      line: 3,
      source: { name: 'lib.ts', path },
    });
    expect((await ask('source', { source: { path } })).content).to.contain('debugger');
    await ask('continue', { threadId: 1 });
    expect((await running).reply.status).to.equal('ok');
  });

  it('ends a paused cell at an interrupt, names kept', async () => {
    const code = 'let kept = 5;\nkept += 1;\nawait 0;\nwhile (true) kept;';
    await breakAt(code, { line: 4 });
    const stopped = next('stopped');
    const running = kernel.execute(code);
    await stopped;
    await kernel.interrupt();
    expect((await running).reply.ename).to.equal('KeyboardInterrupt');
    await breakAt(code);
    const { messages } = await kernel.execute('kept');
    expect(messages[0]!.content.data).to.deep.equal({ 'text/plain': '6' });
  });

  it('lets a paused cell go on when the front end disconnects, and stops no more', async () => {
    const code = 'const before = 1;\nbefore + 1';
    await breakAt(code, { line: 2 });
    const stopped = next('stopped');
    const running = kernel.execute(code);
    await stopped;
    await ask('disconnect', { restart: false, terminateDebuggee: true });
    expect((await running).reply.status).to.equal('ok');
    events = [];
    expect((await kernel.execute(code)).reply.status).to.equal('ok');
    expect(events).to.deep.equal([]);
    expect((await ask('debugInfo')).isStarted).to.equal(false);
  });

  it('answers an unknown command with its name', async () => {
    let message = '';
    await ask('fly').catch((error: Error) => {
      message = error.message;
    });
    expect(message).to.equal("The debugger has no command 'fly'");
  });
});
