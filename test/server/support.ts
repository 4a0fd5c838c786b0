// A server for a test file: a folder of its own, and a bundle without a page.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LabServer, startServer } from '../../src/server/server.ts';

/** An answer. */
export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  // biome-ignore lint/suspicious/noExplicitAny: tests look at any answer
  json: any;
}

/** A server in a temporary folder. */
export class TestServer {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'peftlab server '));
  readonly root: string = join(this.folder, 'root');
  readonly token = 'a token for tests';
  server!: LabServer;

  async start(baseUrl = '/'): Promise<void> {
    process.env.PEFTLAB_DATA_DIR = join(this.folder, 'data');
    const bundle = join(this.folder, 'bundle');
    for (const folder of [this.root, join(bundle, 'static')])
      mkdirSync(folder, { recursive: true });
    writeFileSync(join(bundle, 'schemas.json'), '{"a:b": {"version": "1", "schema": {}}}');
    this.server = await startServer({ root: this.root, bundle, token: this.token, baseUrl });
  }

  async stop(): Promise<void> {
    await this.server.close();
    delete process.env.PEFTLAB_DATA_DIR;
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Asks with these headers alone; the address goes out as it is written. */
  ask(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    body?: unknown,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const sent = request(
        { host: '127.0.0.1', port: this.server.port, method, path, headers },
        (response) => {
          const chunks: Buffer[] = [];
          response.on('data', (chunk: Buffer) => chunks.push(chunk));
          response.on('end', () => {
            const text = Buffer.concat(chunks).toString();
            const isJson = response.headers['content-type']?.includes('json');
            resolve({
              ...{ status: response.statusCode!, headers: response.headers, text },
              json: isJson && text ? JSON.parse(text) : undefined,
            });
          });
        },
      );
      sent.on('error', reject);
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  /** Asks with the token. */
  api(method: string, path: string, body?: unknown): Promise<Answer> {
    return this.ask(method, path, { authorization: `token ${this.token}` }, body);
  }

  /** The cookies that a browser has, after it came with the token. */
  async cookies(): Promise<{ cookie: string; xsrf: string }> {
    const page = `/lab?token=${encodeURIComponent(this.token)}`;
    const { headers } = await this.ask('GET', page, { accept: 'text/html' });
    const pairs = headers['set-cookie']!.map((cookie) => cookie.split(';')[0]!);
    const xsrf = pairs.find((pair) => pair.startsWith('_xsrf='))!.slice('_xsrf='.length);
    return { cookie: pairs.join('; '), xsrf };
  }
}
