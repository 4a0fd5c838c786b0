// Kernels and sessions of the server, over HTTP and both WebSocket protocols.
import { expect } from 'chai';
import { V1 } from '../../src/server/frames.ts';
import { TestServer } from './support.ts';

const baseUrl = '/user/ada/';
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('Kernels of the server', function () {
  this.timeout(180_000);
  const server = new TestServer();
  before(() => server.start({ baseUrl }));
  after(() => server.stop());
  const api = (method: string, path: string, body?: unknown) =>
    server.api(method, `${baseUrl}api/${path}`, body);
  const startKernel = async () => (await api('POST', 'kernels', {})).json.id as string;

  it('run cells over both WebSocket protocols, restart and shut down', async () => {
    const session = { path: 'n.ipynb', name: 'n', type: 'notebook', kernel: {} };
    const [first, second] = await Promise.all([
      api('POST', 'sessions', session),
      api('POST', 'sessions', session),
    ]);
    expect(first.json.id).to.equal(second.json.id);
    const id = first.json.kernel.id as string;
    for (const protocol of [V1, null]) {
      const client = server.connect(id, { baseUrl, protocol });
      const seen = await client.run('let kept = 20 + 1; kept * 2');
      const result = seen.find(({ type }) => type === 'execute_result');
      expect(result!.content.data).to.deep.equal({ 'text/plain': '42' });
      client.close();
    }
    expect((await api('GET', 'kernels')).json).to.have.length(1);
    expect((await api('POST', `kernels/${id}/restart`)).json.id).to.equal(id);
    const client = server.connect(id, { baseUrl });
    const [error] = (await client.run('kept')).filter(({ type }) => type === 'error');
    expect(error!.content.ename).to.equal('ReferenceError');
    client.close();
    expect((await api('DELETE', `sessions/${first.json.id}`)).status).to.equal(204);
    expect((await api('GET', `kernels/${id}`)).status).to.equal(404);
    expect((await api('GET', 'sessions')).json).to.deep.equal([]);
  });

  it('tell a client that comes in the middle of a cell what it said before', async () => {
    const id = await startKernel();
    const first = server.connect(id, { baseUrl });
    await first.execute('console.log("early"); await new Promise((r) => setTimeout(r, 2000))');
    await first.until(({ content }) => content.text === 'early\n');
    const late = server.connect(id, { baseUrl });
    await late.until(({ content }) => content.text === 'early\n');
    first.close();
    late.close();
    await api('DELETE', `kernels/${id}`);
  });

  it('tell what a cell said that ended while nobody was there, to the first who comes', async () => {
    const id = await startKernel();
    const first = server.connect(id, { baseUrl });
    const code = 'await new Promise((r) => setTimeout(r, 500)); console.log("late")';
    const request = await first.execute(code);
    await first.until(({ parent, content }) => parent === request && 'code' in content);
    first.close();
    const stateOf = async () => (await api('GET', `kernels/${id}`)).json.execution_state;
    while ((await stateOf()) !== 'idle') await pause(20);
    const second = server.connect(id, { baseUrl });
    await second.until(({ parent, content }) => parent === request && content.text === 'late\n');
    await second.until(({ content }) => content.execution_state === 'idle');
    const third = server.connect(id, { baseUrl });
    await third.run('1');
    expect(third.seen.some(({ parent }) => parent === request)).to.equal(false);
    second.close();
    third.close();
    await api('DELETE', `kernels/${id}`);
  });
});

describe('Idle kernels of the server', function () {
  this.timeout(180_000);
  const server = new TestServer();
  before(() => server.start({ cullIdleMs: 400 }));
  after(() => server.stop());
  const isThere = async (id: string) =>
    (await server.api('GET', `/api/kernels/${id}`)).status === 200;

  it('are ended when no page is connected and no cell runs', async () => {
    const { id } = (await server.api('POST', '/api/kernels', {})).json as { id: string };
    const page = server.connect(id);
    await page.run('1');
    await pause(1000);
    expect(await isThere(id), 'with a page').to.equal(true);
    await page.execute('await new Promise((r) => setTimeout(r, 1500))');
    await page.until(({ content }) => content.execution_state === 'busy');
    page.close();
    await pause(800);
    expect(await isThere(id), 'at work').to.equal(true);
    while (await isThere(id)) await pause(50);
  });
});
