// A server for a test file: a folder of its own, and a bundle without a page.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type IncomingHttpHeaders, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { decodeLegacy, decodeV1, encodeLegacy, encodeV1, V1 } from '../../src/server/frames.ts';
import { type LabServer, type ServerOptions, startServer } from '../../src/server/server.ts';

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

  async start(options: Partial<ServerOptions> = {}): Promise<void> {
    process.env.PEFTLAB_DATA_DIR = join(this.folder, 'data');
    const bundle = join(this.folder, 'bundle');
    for (const folder of [this.root, join(bundle, 'static')])
      mkdirSync(folder, { recursive: true });
    writeFileSync(join(bundle, 'schemas.json'), '{"a:b": {"version": "1", "schema": {}}}');
    this.server = await startServer({ root: this.root, bundle, token: this.token, ...options });
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

  /** Connects to a kernel, below `baseUrl`. */
  connect(kernel: string, { baseUrl = '/', protocol = V1 as string | null } = {}): KernelSocket {
    const place = `${this.server.port}${baseUrl}api/kernels/${kernel}/channels`;
    const url = `ws://127.0.0.1:${place}?session_id=${Math.random()}`;
    const headers = { authorization: `token ${this.token}` };
    return new KernelSocket(new WebSocket(url, protocol ? [protocol] : [], { headers }));
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

/** A message as a client sees it. */
export interface Seen {
  type: string;
  /** Id of the request that it belongs to. */
  parent: string;
  content: Record<string, unknown>;
}

/** A client of a kernel. */
export class KernelSocket {
  readonly seen: Seen[] = [];
  private readonly socket: WebSocket;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.on('message', (data: Buffer, isBinary) => {
      const { parts } = socket.protocol ? decodeV1(data) : decodeLegacy(data, isBinary);
      const [header, parent, , content] = parts.map((part) => JSON.parse(part.toString()));
      this.seen.push({ type: header.msg_type, parent: parent.msg_id, content });
    });
  }

  /** Asks the kernel to run `code`; gives the id of the request. */
  async execute(code: string): Promise<string> {
    const { socket } = this;
    if (socket.readyState !== socket.OPEN)
      await new Promise((resolve) => socket.once('open', resolve));
    const header = { msg_id: `m${Math.random()}`, msg_type: 'execute_request', session: 's' };
    const parts = [header, {}, {}, { code, store_history: false }].map((part) =>
      Buffer.from(JSON.stringify(part)),
    );
    const message = { channel: 'shell', parts };
    socket.send(socket.protocol ? encodeV1(message) : encodeLegacy(message));
    return header.msg_id;
  }

  /** Waits for a message. */
  async until(isIt: (message: Seen) => boolean): Promise<Seen> {
    for (;;) {
      const found = this.seen.find(isIt);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Runs `code`; gives what it said. */
  async run(code: string): Promise<Seen[]> {
    const id = await this.execute(code);
    await this.until((m) => m.parent === id && m.content.execution_state === 'idle');
    return this.seen.filter(({ parent }) => parent === id);
  }

  close(): void {
    this.socket.terminate();
  }
}
