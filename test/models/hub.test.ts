import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/models/auto.ts';
import { type DownloadProgress, snapshotDownload } from '../../src/models/hub.ts';

const peers = join(import.meta.dirname, '../peers');
const REPO = 'someone/tiny';

/** A hub of one model on this machine; `breakAfter` bytes of weights it hangs up once. */
class FakeHub {
  files = new Map<string, Buffer>();
  requests: string[] = [];
  breakAfter: number | undefined;
  server!: Server;

  async start(): Promise<string> {
    this.server = createServer((request, response) => {
      const { pathname } = new URL(request.url!, 'http://x');
      const range = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '');
      this.requests.push(`${pathname} ${request.headers.range ?? ''}`);
      if (pathname.includes('/tree/')) {
        response.setHeader('content-type', 'application/json');
        return void response.end(JSON.stringify(this.list()));
      }
      const name = pathname.split('/').at(-1)!;
      const content = this.files.get(name);
      if (!content) return void response.writeHead(404).end();
      const [begin, end] = range ? [Number(range[1]), Number(range[2])] : [0, content.length - 1];
      const part = content.subarray(begin, end + 1);
      response.writeHead(range ? 206 : 200, {
        etag: '"x"',
        'content-length': part.length,
        'content-range': `bytes ${begin}-${end}/${content.length}`,
      });
      if (this.breakAfter !== undefined && name.endsWith('.safetensors') && part.length > 1) {
        response.write(part.subarray(0, this.breakAfter));
        this.breakAfter = undefined;
        return void setTimeout(() => response.destroy(), 20);
      }
      response.end(part);
    });
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  private list() {
    return [...this.files].map(([path, content]) => {
      const lfs = { oid: createHash('sha256').update(content).digest('hex'), size: content.length };
      const blob = createHash('sha1').update(`blob ${content.length}\0`).update(content);
      const isLarge = path.endsWith('.safetensors');
      return {
        type: 'file',
        path,
        size: content.length,
        oid: blob.digest('hex'),
        ...(isLarge ? { lfs } : {}),
      };
    });
  }
}

describe('models of the hub', () => {
  let hub: FakeHub;
  let options: { hubUrl: string; cacheDir: string; onProgress: (p: DownloadProgress) => void };
  let progress: DownloadProgress[];
  const message = (run: Promise<unknown>) =>
    run.then(
      () => '',
      (error: Error) => error.message,
    );

  before(() => setBackend('wasm'));
  beforeEach(async () => {
    hub = new FakeHub();
    for (const name of ['config.json', 'model.safetensors']) {
      hub.files.set(name, readFileSync(join(peers, '01_models/llama', name)));
    }
    hub.files.set(
      'tokenizer.json',
      readFileSync(join(peers, '08_tokenizer/llama3_split/tokenizer.json')),
    );
    hub.files.set('pytorch_model.bin', Buffer.from('not wanted'));
    progress = [];
    options = {
      hubUrl: await hub.start(),
      cacheDir: mkdtempSync(join(tmpdir(), 'hub-')),
      onProgress: (p) => progress.push(p),
    };
  });
  afterEach(() => {
    hub.server.closeAllConnections();
    hub.server.close();
    rmSync(options.cacheDir, { recursive: true });
  });

  it('are downloaded once, with progress, and only the files that are needed', async () => {
    const folder = await snapshotDownload(REPO, options);
    expect(readdirSync(folder).sort()).to.deep.equal([
      '.complete',
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    expect(progress.at(-1)!.loaded).to.equal(progress.at(-1)!.total);
    const count = hub.requests.length;
    const model = await AutoModelForCausalLM.fromPretrained(REPO, options);
    const tokenizer = await AutoTokenizer.fromPretrained(REPO, options);
    expect([model.config.vocabSize, tokenizer.vocabSize]).to.deep.equal([96, 420]);
    expect(hub.requests).to.have.length(count);
  });

  it('go on where a broken download stopped', async () => {
    hub.files.set('model.safetensors', Buffer.alloc(40_000_000, 7));
    hub.breakAfter = 1000;
    expect(await message(snapshotDownload(REPO, options))).to.match(/someone\/tiny/);
    const folder = await snapshotDownload(REPO, { ...options });
    expect(
      readFileSync(join(folder, 'model.safetensors')).equals(hub.files.get('model.safetensors')!),
    ).to.equal(true);
  });

  it('keep whole pieces of an interrupted file', async () => {
    hub.files.set('model.safetensors', Buffer.alloc(40_000_000, 7));
    const stop = (p: DownloadProgress) => {
      if (p.file === 'model.safetensors') throw new Error('stop');
    };
    await message(snapshotDownload(REPO, { ...options, onProgress: stop }));
    hub.requests = [];
    await snapshotDownload(REPO, options);
    const pieces = hub.requests.filter((request) => /model.safetensors bytes=\d\d+/.test(request));
    expect(pieces.map((request) => request.split('=')[1])).to.deep.equal([
      '16777216-33554431',
      '33554432-39999999',
    ]);
  });

  it('are refused when they come damaged', async () => {
    const good = hub.files.get('model.safetensors')!;
    const bad = Buffer.from(good);
    bad[500]! ^= 1;
    const list = (hub as unknown as { list: () => unknown[] }).list.bind(hub);
    const truth = list();
    (hub as unknown as { list: () => unknown[] }).list = () => truth;
    hub.files.set('model.safetensors', bad);
    expect(await message(snapshotDownload(REPO, options))).to.match(
      /model.safetensors of 'someone\/tiny' came damaged/,
    );
    hub.files.set('model.safetensors', good);
    expect(await message(snapshotDownload(REPO, options))).to.equal('');
  });

  it('that are not there, or cannot be reached, say what to do', async () => {
    hub.server.closeAllConnections();
    await new Promise((resolve) => hub.server.close(resolve));
    expect(await message(snapshotDownload(REPO, options))).to.match(
      /^The hub can't be reached for 'someone\/tiny' \(ECONNREFUSED\): connect to the internet and try again, or name a folder or .gguf file that holds the model$/,
    );
    expect(await message(snapshotDownload('no id', options))).to.equal(
      "A hub id must be 'owner/name', got 'no id'",
    );
    expect(await message(AutoTokenizer.fromPretrained('nowhere'))).to.match(
      /^'nowhere' is no folder/,
    );
  });

  it('without safetensors are refused', async () => {
    hub.files.delete('model.safetensors');
    expect(await message(snapshotDownload(REPO, options))).to.equal(
      "'someone/tiny' has no safetensors weights on the hub",
    );
  });
});
