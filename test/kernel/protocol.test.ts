import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect } from 'chai';
import * as zmq from 'zeromq';
import { freePorts, KernelClient, LAUNCHER } from '../../src/kernel/client.ts';
import { endpoint } from '../../src/kernel/connection.ts';
import { type Json, type Message, Wire } from '../../src/kernel/message.ts';
import { pause, TestKernel } from './support.ts';

describe('The kernel on its sockets', () => {
  const kernel = new TestKernel();
  before(() => kernel.start());
  after(() => kernel.stop());
  const ask = async (channel: 'shell' | 'control', type: string, content: Json = {}) =>
    (await kernel.client.request(channel, type, content)).content;

  it('says what it is', async () => {
    const info = await ask('shell', 'kernel_info_request');
    expect(info).to.deep.include({
      status: 'ok',
      protocol_version: '5.5',
      implementation: 'peftlab',
      debugger: true,
      supported_features: ['debugger', 'kernel subshells'],
    });
    expect(info.language_info).to.deep.include({
      name: 'typescript',
      version: '6.0.3',
      file_extension: '.ts',
    });
    expect(await ask('control', 'kernel_info_request')).to.deep.equal(info);
  });

  it('announces busy, the input, the result and idle, in this order', async () => {
    const seen: string[] = [];
    await pause(100);
    kernel.client.onMessage = (m) =>
      seen.push(String(m.content.execution_state ?? m.header.msg_type));
    const { reply } = await kernel.run('1 + 1');
    kernel.client.onMessage = null;
    expect(seen).to.deep.equal(['busy', 'execute_input', 'execute_result', 'idle']);
    expect((await kernel.run('2')).reply.execution_count).to.equal(
      Number(reply.execution_count) + 1,
    );
  });

  it('runs silently, and without history, when asked to', async () => {
    const before = Number((await kernel.run('1')).reply.execution_count);
    const silent = await kernel.run('const hush = 5; hush', { silent: true });
    expect(silent.messages).to.deep.equal([]);
    const unstored = await kernel.run('hush', { storeHistory: false });
    expect(unstored.value).to.equal('5');
    expect((await kernel.run('3')).reply.execution_count).to.equal(before + 1);
    const { history } = await ask('shell', 'history_request', {
      hist_access_type: 'tail',
      n: 2,
      output: false,
      raw: true,
    });
    expect((history as unknown[][]).map((item) => item[2])).to.deep.equal(['1', '3']);
  });

  it('evaluates user expressions, errors among them', async () => {
    const { reply } = await kernel.run('var a = 41', {
      userExpressions: { x: 'a + 1', y: 'nope', z: '(' },
    });
    const { x, y, z } = reply.user_expressions as Record<string, Json>;
    expect(x).to.deep.equal({ status: 'ok', data: { 'text/plain': '42' }, metadata: {} });
    expect(y).to.include({ status: 'error', ename: 'ReferenceError' });
    expect(z).to.include({ status: 'error', ename: 'SyntaxError' });
  });

  it('aborts what waits behind an error, unless stop_on_error is false', async () => {
    const three = (stopOnError: boolean) =>
      Promise.all(
        ["throw new Error('x')", '1', '2'].map((code) => kernel.run(code, { stopOnError })),
      );
    expect((await three(true)).map((r) => r.reply.status)).to.deep.equal([
      'error',
      'aborted',
      'aborted',
    ]);
    expect((await three(false)).map((r) => r.reply.status)).to.deep.equal(['error', 'ok', 'ok']);
    expect((await kernel.run('1')).reply.status).to.equal('ok');
  });

  it('answers everything else while a cell loops', async () => {
    const running = kernel.run('{ const t = Date.now(); while (Date.now() - t < 1500) {} }');
    await pause(100);
    const started = Date.now();
    expect((await ask('control', 'kernel_info_request')).status).to.equal('ok');
    expect(
      (await ask('shell', 'complete_request', { code: 'Math.flo', cursor_pos: 8 })).matches,
    ).to.deep.equal(['floor']);
    expect(
      (await ask('shell', 'inspect_request', { code: 'parseInt', cursor_pos: 8, detail_level: 0 }))
        .found,
    ).to.equal(true);
    expect((await ask('shell', 'is_complete_request', { code: 'if (1) {' })).status).to.equal(
      'incomplete',
    );
    expect((await ask('shell', 'comm_info_request')).comms).to.deep.equal({});
    const heart = new zmq.Request({ linger: 0 });
    heart.connect(endpoint(kernel.client.connection, 'hb_port'));
    await heart.send('ping');
    expect(String((await heart.receive())[0])).to.equal('ping');
    heart.close();
    expect(Date.now() - started).to.be.lessThan(1400);
    await running;
  });

  it('runs a subshell beside a main shell that waits', async () => {
    const { subshell_id: id } = await ask('control', 'create_subshell_request');
    expect((await ask('control', 'list_subshell_request')).subshell_id).to.deep.equal([id]);
    await kernel.run(
      'let release = () => {}; const gate = new Promise<void>((r) => { release = r })',
    );
    const waiting = kernel.run("console.log('main before'); await gate; console.log('main after')");
    await pause(100);
    const beside = await kernel.run("console.log('beside'); release()", { subshellId: String(id) });
    expect(beside.stdout).to.equal('beside\n');
    expect((await waiting).stdout).to.equal('main before\nmain after\n');
    expect((await ask('control', 'delete_subshell_request', { subshell_id: id })).status).to.equal(
      'ok',
    );
    expect(
      (await kernel.run('1', { subshellId: 'none' }).catch(() => ({ reply: { status: 'error' } })))
        .reply.status,
    ).to.equal('error');
  });

  it('shows documentation in the pager', async () => {
    const { reply } = await kernel.run('?parseInt');
    const [page] = reply.payload as { source: string; data: Json }[];
    expect(page!.source).to.equal('page');
    expect(page!.data['text/plain']).to.match(
      /^function parseInt\(string: string, radix\?: number\): number/,
    );
  });

  it('takes input: asynchronous, synchronous, hidden, and none', async () => {
    const asked: [string, boolean][] = [];
    const onInput = (prompt: string, password: boolean) => {
      asked.push([prompt, password]);
      return 'é answer';
    };
    expect((await kernel.run("await input('name? ')", { onInput })).value).to.equal("'é answer'");
    expect(
      (await kernel.run("await input('secret', { password: true })", { onInput })).value,
    ).to.equal("'é answer'");
    expect((await kernel.run("prompt('now?')", { onInput })).value).to.equal("'é answer'");
    expect((await kernel.run("confirm('sure?')", { onInput: () => 'y' })).value).to.equal('true');
    expect((await kernel.run("prompt('x', 'default')", { onInput: () => '' })).value).to.equal(
      "'default'",
    );
    expect((await kernel.run("prompt('x')")).value).to.equal('null');
    expect((await kernel.run("await input('x')")).reply.evalue).to.match(/does not take input/);
    expect(asked).to.deep.equal([
      ['name? ', false],
      ['secret', true],
      ['now? ', false],
    ]);
  });

  it('opens, uses and closes comms in both directions', async () => {
    const seen: Message[] = [];
    kernel.client.onMessage = (m) => {
      if (m.header.msg_type.startsWith('comm_')) seen.push(m);
    };
    await kernel.run(
      "const comm = Comm.open('mine', { a: 1 }); const got: unknown[] = []; comm.onMessage = (e) => { got.push(e.data); comm.send({ echo: e.data }, { buffers: [new Uint8Array([1, 2])] }) }",
    );
    const id = String(seen[0]!.content.comm_id);
    expect(seen[0]!.content).to.deep.include({ target_name: 'mine', data: { a: 1 } });
    expect((await ask('shell', 'comm_info_request')).comms).to.deep.equal({
      [id]: { target_name: 'mine' },
    });
    expect((await ask('shell', 'comm_info_request', { target_name: 'other' })).comms).to.deep.equal(
      {},
    );
    await kernel.client.send('shell', 'comm_msg', { comm_id: id, data: { b: 2 } });
    await pause(100);
    expect(seen[1]!.content.data).to.deep.equal({ echo: { b: 2 } });
    expect([...seen[1]!.buffers[0]!]).to.deep.equal([1, 2]);
    await kernel.run("Comm.registerTarget('theirs', (c, e) => { c.send({ hello: e.data.name }) })");
    await kernel.client.send('shell', 'comm_open', {
      comm_id: 'c1',
      target_name: 'theirs',
      data: { name: 'n' },
    });
    await kernel.client.send('shell', 'comm_open', {
      comm_id: 'c2',
      target_name: 'unknown',
      data: {},
    });
    await pause(100);
    expect(seen.find((m) => m.content.comm_id === 'c1')!.content.data).to.deep.equal({
      hello: 'n',
    });
    expect(seen.find((m) => m.content.comm_id === 'c2')!.header.msg_type).to.equal('comm_close');
    await kernel.client.send('shell', 'comm_close', { comm_id: id, data: {} });
    await pause(100);
    expect((await ask('shell', 'comm_info_request', { target_name: 'mine' })).comms).to.deep.equal(
      {},
    );
    kernel.client.onMessage = null;
  });

  it('keeps history on disk: tail, range and search, also after a restart', async () => {
    await kernel.run("const needle = 'first'");
    const last = (
      await ask('shell', 'history_request', { hist_access_type: 'tail', n: 1, output: true })
    ).history as [number, number, [string, string]][];
    const [session, line, [input]] = last[0]!;
    expect(input).to.equal("const needle = 'first'");
    await kernel.client.shutdown();
    await kernel.start();
    await kernel.run('7 * 6');
    const query = async (content: Json) =>
      (await ask('shell', 'history_request', { output: false, raw: true, ...content }))
        .history as unknown[][];
    expect(
      await query({ hist_access_type: 'range', session, start: line, stop: line + 1 }),
    ).to.deep.equal([[session, line, input]]);
    expect(
      await query({ hist_access_type: 'range', session: -1, start: line, stop: line + 1 }),
    ).to.deep.equal([[session, line, input]]);
    expect(
      await query({ hist_access_type: 'search', pattern: '*needle*', unique: true }),
    ).to.deep.equal([[session, line, input]]);
    expect(await query({ hist_access_type: 'search', pattern: '7?*6', n: 5 })).to.deep.equal([
      [session + 1, 1, '7 * 6'],
    ]);
    expect(await query({ hist_access_type: 'tail', n: 0 })).to.deep.equal([]);
  });

  it('refuses another key and malformed frames, and lives', async () => {
    const dealer = new zmq.Dealer({ linger: 0 });
    dealer.connect(endpoint(kernel.client.connection, 'shell_port'));
    const wrong = new Wire('another key');
    await dealer.send(
      wrong.encode(wrong.message('execute_request', { code: 'globalThis.evil = 1' })),
    );
    const right = new Wire(kernel.client.connection.key);
    const valid = right.encode(right.message('kernel_info_request', {}));
    await dealer.send(valid.slice(0, 3));
    await dealer.send([Buffer.from('<IDS|MSG>')]);
    await dealer.send([
      Buffer.alloc(0),
      Buffer.from([0xff, 0xfe, 0]),
      Buffer.from('x'.repeat(1000)),
    ]);
    await dealer.send([...valid.slice(0, 2), ...valid.slice(2).map(() => Buffer.from('{'))]);
    await dealer.send(right.encode(right.message('no_such_request', {})));
    await dealer.send(
      right.encode(right.message('execute_request', { code: 5 as never, user_expressions: 'x' })),
    );
    await pause(200);
    dealer.close();
    expect(await kernel.value("'evil' in globalThis")).to.equal('false');
  });

  it('shuts down when asked to, and says so', async () => {
    const other = await KernelClient.start({
      cwd: kernel.folder,
      env: { PEFTLAB_DATA_DIR: kernel.folder },
    });
    const ended = new Promise((resolve) => other.process.once('exit', resolve));
    const reply = await other.request('control', 'shutdown_request', { restart: true });
    expect(reply.content).to.deep.equal({ status: 'ok', restart: true });
    expect(await ended).to.equal(0);
  });

  it('says which port it cannot bind, and which connection file it cannot read', async () => {
    const launch = (file: string) =>
      new Promise<{ code: number | null; err: string }>((resolve) => {
        const child = spawn(process.execPath, [LAUNCHER, file]);
        let err = '';
        child.stderr.on('data', (text: Buffer) => {
          err += text;
        });
        child.once('close', (code) => resolve({ code, err }));
      });
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const taken = (server.address() as { port: number }).port;
    const [a, b, c, d] = await freePorts(4);
    const file = join(kernel.folder, 'connection.json');
    writeFileSync(
      file,
      JSON.stringify({
        ip: '127.0.0.1',
        shell_port: a,
        control_port: taken,
        stdin_port: b,
        iopub_port: c,
        hb_port: d,
        key: 'k',
      }),
    );
    const busy = await launch(file);
    expect(busy.code).to.equal(1);
    expect(busy.err).to.match(
      new RegExp(`^The kernel can't bind control_port at tcp://127.0.0.1:${taken}: .*\\n$`),
    );
    server.close();
    writeFileSync(file, '{"shell_port": "x"}');
    expect((await launch(file)).err).to.match(/must give shell_port as an integer, got x/);
    expect((await launch(join(kernel.folder, 'none.json'))).err).to.match(/must be readable JSON/);
  });
});
