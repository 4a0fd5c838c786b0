// Attacks that must fail.
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { WebSocket } from 'ws';
import { TestServer } from './support.ts';

describe('The server refuses', () => {
  const server = new TestServer();
  before(() => server.start());
  after(() => server.stop());
  const html = { accept: 'text/html' };

  it('whoever has no token, or a wrong one', async () => {
    expect((await server.ask('GET', '/api/contents')).status).to.equal(403);
    expect((await server.ask('GET', '/lab', html)).text).to.contain('type="password"');
    const wrong = { authorization: 'token wrong' };
    expect((await server.ask('GET', '/api/contents', wrong)).status).to.equal(403);
    expect((await server.ask('GET', '/static/lab/lab.js')).status).to.equal(403);
    expect((await server.ask('GET', '/api/contents', { cookie: 'peftlab-1=x' })).status).to.equal(
      403,
    );
  });

  it('to keep the token in the address: it becomes a cookie that scripts do not see', async () => {
    const page = `/lab/tree/a%20b.ipynb?token=${encodeURIComponent(server.token)}&reset`;
    const { status, headers } = await server.ask('GET', page, html);
    expect(status).to.equal(302);
    expect(headers.location).to.equal('/lab/tree/a%20b.ipynb?reset=');
    const session = headers['set-cookie']!.find((cookie) => cookie.startsWith('peftlab-'))!;
    expect(session).to.contain('HttpOnly').and.to.contain('SameSite=Strict');
    expect(session).to.not.contain(encodeURIComponent(server.token));
  });

  it('a change by cookie without the XSRF header, or from another site', async () => {
    const { cookie, xsrf } = await server.cookies();
    const post = (headers: Record<string, string>) =>
      server.ask('POST', '/api/contents', { cookie, ...headers }, { type: 'file' });
    expect((await post({})).json.message).to.contain('_xsrf');
    expect((await post({ 'x-xsrftoken': 'guess' })).status).to.equal(403);
    const foreign = { 'x-xsrftoken': xsrf, origin: 'http://evil.example' };
    expect((await post(foreign)).status).to.equal(403);
    expect((await post({ 'x-xsrftoken': xsrf })).status).to.equal(201);
  });

  it('a name that is not its own: DNS rebinding', async () => {
    const headers = { authorization: `token ${server.token}`, host: 'evil.example' };
    expect((await server.ask('GET', '/api/contents', headers)).status).to.equal(403);
    const local = { ...headers, host: `localhost:${server.server.port}` };
    expect((await server.ask('GET', '/api/contents', local)).status).to.equal(200);
  });

  it('paths and links that lead out of the folder, and hidden files', async () => {
    writeFileSync(join(server.folder, 'secret.txt'), 'secret');
    mkdirSync(join(server.root, '.hidden'));
    writeFileSync(join(server.root, '.hidden', 'key.txt'), 'secret');
    symlinkSync(server.folder, join(server.root, 'out'));
    symlinkSync(join(server.folder, 'secret.txt'), join(server.root, 'link.txt'));
    const paths = [
      ...['../secret.txt', '..%2fsecret.txt', '%2e%2e/secret.txt', 'a/../../secret.txt'],
      ...['out/secret.txt', 'link.txt', '.hidden/key.txt', '..%5csecret.txt', 'a%00b'],
    ];
    for (const path of paths) {
      for (const prefix of ['/api/contents/', '/files/', '/nbconvert/html/']) {
        const answer = await server.api('GET', prefix + path);
        expect(answer.status, prefix + path).to.be.oneOf([400, 403, 404]);
        expect(answer.text, prefix + path).to.not.contain('"secret"');
      }
      const body = { type: 'file', format: 'text', content: 'overwritten' };
      const written = await server.api('PUT', `/api/contents/${path}`, body);
      expect(written.status, path).to.be.oneOf([400, 403, 404]);
    }
    expect((await server.api('PATCH', '/api/contents/link.txt', { path: '../x' })).status).to.equal(
      403,
    );
    expect((await server.api('DELETE', '/api/contents/')).status).to.equal(400);
  });

  it('scripts that are not its own, by its policy; files run in a sandbox', async () => {
    const { cookie } = await server.cookies();
    const { headers, text } = await server.ask('GET', '/lab/tree/%3C/script%3E', {
      ...html,
      cookie,
    });
    expect(headers['content-security-policy']).to.contain("script-src 'self';");
    expect(text).to.not.contain('tree/</script>');
    writeFileSync(join(server.root, 'page.html'), '<script>1</script>');
    const file = await server.api('GET', '/files/page.html');
    expect(file.headers['content-security-policy']).to.match(/^sandbox allow-scripts;/);
    const notebook = { cells: [], metadata: {}, nbformat: 4, nbformat_minor: 5 };
    writeFileSync(join(server.root, 'page.ipynb'), JSON.stringify(notebook));
    for (const query of ['', '?print=true']) {
      const report = await server.api('GET', `/nbconvert/html/page.ipynb${query}`);
      const sandbox = /^sandbox ([^;]*)/.exec(
        String(report.headers['content-security-policy']),
      )![1];
      expect(sandbox).to.equal(query ? 'allow-scripts allow-modals' : 'allow-scripts');
    }
  });

  it('WebSockets from other sites, without proof, or of no kernel', async () => {
    const { cookie } = await server.cookies();
    const { id } = (await server.api('POST', '/api/kernels', {})).json as { id: string };
    const host = `127.0.0.1:${server.server.port}`;
    const connect = (headers: Record<string, string>, kernel = id): Promise<number> =>
      new Promise((resolve, reject) => {
        const socket = new WebSocket(`ws://${host}/api/kernels/${kernel}/channels`, { headers });
        socket.on('unexpected-response', (_, response) => resolve(response.statusCode!));
        socket.on('open', () => {
          socket.close();
          resolve(101);
        });
        socket.on('error', reject);
      });
    expect(await connect({})).to.equal(403);
    expect(await connect({ cookie })).to.equal(403);
    expect(await connect({ cookie, origin: 'http://evil.example' })).to.equal(403);
    expect(await connect({ cookie, origin: `http://${host}` })).to.equal(101);
    const authorization = `token ${server.token}`;
    expect(await connect({ authorization, origin: 'http://evil.example' })).to.equal(403);
    expect(await connect({ authorization })).to.equal(101);
    expect(await connect({ authorization }, 'none')).to.equal(404);
  });

  it('to go on guessing tokens', async () => {
    const guess = { authorization: 'token guess' };
    const { cookie } = await server.cookies();
    for (let i = 0; i < 25; i++) await server.ask('GET', '/api/contents', guess);
    expect((await server.ask('GET', '/api/contents', guess)).status).to.equal(429);
    expect((await server.api('GET', '/api/contents')).status).to.equal(429);
    expect((await server.ask('GET', '/api/contents', { cookie })).status).to.equal(200);
  });
});
