// Jupyter Server's API: files, checkpoints, trust, settings, kernels and sessions, over HTTP and WebSocket.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { WebSocket } from 'ws';
import { decodeLegacy, decodeV1, encodeLegacy, encodeV1, V1 } from '../../src/server/frames.ts';
import { TestServer } from './support.ts';

type Json = Record<string, unknown>;

const cell = (trusted?: boolean) => ({
  ...{ cell_type: 'code', id: 'a', source: '1', execution_count: 1 },
  metadata: trusted === undefined ? {} : { trusted },
  outputs: [{ output_type: 'display_data', data: { 'text/html': '<b>x</b>' }, metadata: {} }],
});
const notebook = (...cells: object[]) => ({ cells, metadata: {}, nbformat: 4, nbformat_minor: 5 });

describe('The server', () => {
  const server = new TestServer();
  before(() => server.start('/user/ada/'));
  after(() => server.stop());
  const api = (method: string, path: string, body?: unknown) =>
    server.api(method, `/user/ada/api/${path}`, body);

  it('lists, makes, reads, renames, copies and deletes files', async () => {
    const made = (await api('POST', 'contents', { type: 'notebook' })).json;
    expect(made).to.include({ path: 'Untitled.ipynb', type: 'notebook', content: null });
    await api('PUT', 'contents/a%20b', { type: 'directory' });
    const text = { type: 'file', format: 'text', content: 'é' };
    expect((await api('PUT', 'contents/a%20b/t.txt', text)).json.path).to.equal('a b/t.txt');
    expect((await api('GET', 'contents/a%20b/t.txt')).json.content).to.equal('é');
    expect((await api('GET', 'contents/a%20b/t.txt?format=base64')).json.content).to.equal('w6k=');
    await api('POST', 'contents/a%20b', { copy_from: 'a b/t.txt' });
    await api('PATCH', 'contents/a%20b/t.txt', { path: 'a b/u.txt' });
    const listed = (await api('GET', 'contents/a%20b')).json.content as { name: string }[];
    expect(listed.map(({ name }) => name).sort()).to.deep.equal(['t-Copy1.txt', 'u.txt']);
    const taken = await api('PATCH', 'contents/a%20b/u.txt', { path: 'a b/t-Copy1.txt' });
    expect(taken.status).to.equal(409);
    expect((await api('DELETE', 'contents/a%20b')).status).to.equal(204);
    expect((await api('GET', 'contents/a%20b')).json.message).to.equal(
      'No such file or folder: a b',
    );
  });

  it('keeps a checkpoint and brings it back', async () => {
    const save = (content: string) =>
      api('PUT', 'contents/c.txt', { type: 'file', format: 'text', content });
    await save('first');
    expect((await api('POST', 'contents/c.txt/checkpoints')).status).to.equal(201);
    await save('second');
    expect((await api('GET', 'contents/c.txt/checkpoints')).json).to.have.length(1);
    await api('POST', 'contents/c.txt/checkpoints/checkpoint');
    expect(readFileSync(join(server.root, 'c.txt'), 'utf8')).to.equal('first');
  });

  it('trusts a notebook that was saved here, and no longer when it was changed elsewhere', async () => {
    const trusted = async () =>
      (await api('GET', 'contents/n.ipynb')).json.content.cells[0].metadata.trusted;
    writeFileSync(join(server.root, 'n.ipynb'), JSON.stringify(notebook(cell())));
    expect(await trusted()).to.equal(false);
    await api('PUT', 'contents/n.ipynb', { type: 'notebook', content: notebook(cell(false)) });
    expect(await trusted()).to.equal(false);
    await api('PUT', 'contents/n.ipynb', { type: 'notebook', content: notebook(cell(true)) });
    expect(await trusted()).to.equal(true);
    const file = readFileSync(join(server.root, 'n.ipynb'), 'utf8');
    expect(file).to.not.contain('trusted');
    writeFileSync(join(server.root, 'n.ipynb'), file.replace('<b>x</b>', '<script>x</script>'));
    expect(await trusted()).to.equal(false);
  });

  it('refuses what is no notebook, in words', async () => {
    const refused = await api('PUT', 'contents/n.ipynb', {
      type: 'notebook',
      content: { cells: 1 },
    });
    expect(refused.status).to.equal(400);
    expect(refused.json.message).to.contain('n.ipynb must have nbformat 4');
  });

  it('keeps settings, with comments, and workspaces', async () => {
    const lab = (method: string, path: string, body?: unknown) =>
      server.api(method, `/user/ada/lab/api/${path}`, body);
    const raw = '{ // why\n "theme": "dark" }';
    expect((await lab('PUT', 'settings/a:b', { raw })).status).to.equal(204);
    expect((await lab('GET', 'settings/a:b')).json).to.deep.include({
      ...{ raw, settings: { theme: 'dark' } },
    });
    expect((await lab('PUT', 'settings/none', { raw })).status).to.equal(404);
    const workspace = { data: { 'layout:x': 1 }, metadata: { id: 'w' } };
    await lab('PUT', 'workspaces/w', workspace);
    expect((await lab('GET', 'workspaces/w')).json.data).to.deep.equal(workspace.data);
    await lab('DELETE', 'workspaces/w');
    expect((await lab('GET', 'workspaces/w')).json.data).to.deep.equal({});
  });

  /** Connects to a kernel, runs `code`, and gives what came until idle. */
  const run = (id: string, protocol: string | null, code: string): Promise<Json[]> =>
    new Promise((resolve, reject) => {
      const url = `ws://127.0.0.1:${server.server.port}/user/ada/api/kernels/${id}/channels`;
      const headers = { authorization: `token ${server.token}` };
      const socket = new WebSocket(
        `${url}?session_id=${Math.random()}`,
        protocol ? [protocol] : [],
        {
          headers,
        },
      );
      const header = { msg_id: `m${Math.random()}`, msg_type: 'execute_request', session: 's' };
      const content = { code, store_history: false };
      const parts = [header, {}, {}, content].map((part) => Buffer.from(JSON.stringify(part)));
      const seen: Json[] = [];
      socket.on('open', () => {
        const message = { channel: 'shell', parts };
        socket.send(protocol ? encodeV1(message) : encodeLegacy(message));
      });
      socket.on('message', (data: Buffer, isBinary) => {
        const framed = protocol ? decodeV1(data) : decodeLegacy(data, isBinary);
        const [own, parent, , body] = framed.parts.map(
          (part) => JSON.parse(part.toString()) as Json,
        );
        if (parent!.msg_id !== header.msg_id) return;
        seen.push({ type: own!.msg_type, ...body });
        if (body!.execution_state !== 'idle') return;
        socket.close();
        resolve(seen);
      });
      socket.on('error', reject);
    });

  it('runs cells over both WebSocket protocols, restarts and shuts down', async () => {
    const session = { path: 'n.ipynb', name: 'n', type: 'notebook', kernel: {} };
    const [first, second] = await Promise.all([
      api('POST', 'sessions', session),
      api('POST', 'sessions', session),
    ]);
    expect(first.json.id).to.equal(second.json.id);
    const id = first.json.kernel.id as string;
    for (const protocol of [V1, null]) {
      const seen = await run(id, protocol, 'let kept = 20 + 1; kept * 2');
      const result = seen.find(({ type }) => type === 'execute_result');
      expect(result!.data).to.deep.equal({ 'text/plain': '42' });
    }
    expect((await api('GET', 'kernels')).json).to.have.length(1);
    expect((await api('POST', `kernels/${id}/restart`)).json.id).to.equal(id);
    const [error] = (await run(id, V1, 'kept')).filter(({ type }) => type === 'error');
    expect(error!.ename).to.equal('ReferenceError');
    expect((await api('DELETE', `sessions/${first.json.id}`)).status).to.equal(204);
    expect((await api('GET', `kernels/${id}`)).status).to.equal(404);
    expect((await api('GET', 'sessions')).json).to.deep.equal([]);
  });

  it('hands what a running cell said to a client that comes in its middle', async () => {
    const { id } = (await api('POST', 'kernels', {})).json as { id: string };
    const running = run(
      id,
      V1,
      'console.log("early"); await new Promise((r) => setTimeout(r, 1500))',
    );
    await new Promise((resolve) => setTimeout(resolve, 700));
    const url = `ws://127.0.0.1:${server.server.port}/user/ada/api/kernels/${id}/channels`;
    const headers = { authorization: `token ${server.token}` };
    const late = new WebSocket(`${url}?session_id=late`, [V1], { headers });
    const text = await new Promise<string>((resolve) => {
      late.on('message', (data: Buffer) => {
        const body = JSON.parse(decodeV1(data).parts[3]!.toString()) as Json;
        if (typeof body.text === 'string') resolve(body.text);
      });
    });
    expect(text).to.equal('early\n');
    late.close();
    await running;
    await api('DELETE', `kernels/${id}`);
  });
});
