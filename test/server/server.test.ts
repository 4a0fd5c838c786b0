// Jupyter Server's API: files, checkpoints, trust, settings, workspaces.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { TestServer } from './support.ts';

const cell = (trusted?: boolean) => ({
  ...{ cell_type: 'code', id: 'a', source: '1', execution_count: 1 },
  metadata: trusted === undefined ? {} : { trusted },
  outputs: [{ output_type: 'display_data', data: { 'text/html': '<b>x</b>' }, metadata: {} }],
});
const notebook = (...cells: object[]) => ({ cells, metadata: {}, nbformat: 4, nbformat_minor: 5 });

describe('The server', () => {
  const server = new TestServer();
  before(() => server.start({ baseUrl: '/user/ada/' }));
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
    await server.server.close();
    await server.start({ baseUrl: '/user/ada/' }); // both outlive the server
    expect((await lab('GET', 'settings/a:b')).json.settings).to.deep.equal({ theme: 'dark' });
    expect((await lab('GET', 'workspaces/w')).json.data).to.deep.equal(workspace.data);
    await lab('DELETE', 'workspaces/w');
    expect((await lab('GET', 'workspaces/w')).json.data).to.deep.equal({});
  });

  it('has no terminals', async () => {
    expect((await api('GET', 'terminals')).json).to.deep.equal([]);
    expect((await api('POST', 'terminals', {})).status).to.equal(404);
    const socket = await server.api('GET', '/user/ada/terminals/websocket/1');
    expect(socket.status).to.equal(404);
  });
});
