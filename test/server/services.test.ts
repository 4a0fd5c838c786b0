// The server through JupyterLab's own client library, @jupyterlab/services, in Node.
import {
  ContentsManager,
  KernelManager,
  KernelSpecManager,
  ServerConnection,
  SessionManager,
} from '@jupyterlab/services';
import { expect } from 'chai';
import { WebSocket } from 'ws';
import { TestServer } from './support.ts';

describe("The server, for JupyterLab's client library", function () {
  this.timeout(180_000);
  const server = new TestServer();
  before(() => server.start({ baseUrl: '/user/ada/' }));
  after(() => server.stop());

  it('serves files, kernels and sessions; runs a cell, completes, restarts', async () => {
    const at = `127.0.0.1:${server.server.port}/user/ada/`;
    const serverSettings = ServerConnection.makeSettings({
      ...{ baseUrl: `http://${at}`, wsUrl: `ws://${at}`, token: server.token },
      ...{ appendToken: true, WebSocket: WebSocket as unknown as typeof globalThis.WebSocket },
    });
    const contents = new ContentsManager({ serverSettings });
    const specs = new KernelSpecManager({ serverSettings });
    const kernels = new KernelManager({ serverSettings });
    const sessions = new SessionManager({ kernelManager: kernels, serverSettings });
    await specs.ready;
    expect(specs.specs!.default).to.equal('typescript-peftlab');
    const { path } = await contents.newUntitled({ type: 'notebook' });
    expect((await contents.get(path)).content.nbformat).to.equal(4);
    const session = await sessions.startNew({
      ...{ path, name: path, type: 'notebook' },
      kernel: { name: specs.specs!.default },
    });
    const kernel = session.kernel!;
    const texts: string[] = [];
    const future = kernel.requestExecute({ code: 'let n: number = 6; console.log(n * 7)' });
    future.onIOPub = ({ content }) => {
      if ('text' in content) texts.push(String(content.text));
    };
    expect((await future.done).content.status).to.equal('ok');
    expect(texts.join('')).to.equal('42\n');
    const { content } = await kernel.requestComplete({ code: 'Math.sq', cursor_pos: 7 });
    expect((content as { matches: string[] }).matches.join()).to.contain('sqrt');
    await kernel.restart();
    const again = await kernel.requestExecute({ code: 'n' }).done;
    expect(again.content.status).to.equal('error');
    await session.shutdown();
    await kernels.refreshRunning();
    expect([...kernels.running()]).to.deep.equal([]);
    for (const manager of [sessions, kernels, specs, contents]) manager.dispose();
  });
});
