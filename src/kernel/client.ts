// Starts a kernel process and speaks to it over its sockets: what the notebook runner, the server and
// the tests use.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as zmq from 'zeromq';
import { type Channel, type ConnectionInfo, endpoint } from './connection.ts';
import { type Json, type Message, Wire } from './message.ts';

/** The script that starts a kernel. */
export const LAUNCHER: string = fileURLToPath(new URL('./launch.mjs', import.meta.url));

/**
 * Environment of the kernel process: glibc's per-thread heaps would hold 50 MB of freed memory. User code
 * does not see it.
 */
export const KERNEL_ENV: Readonly<Record<string, string>> = { MALLOC_ARENA_MAX: '1' };

/** How to start a kernel. */
export interface StartOptions {
  /** Folder in which the cells run. Default: the current one. */
  cwd?: string;
  env?: Record<string, string>;
  /** Command of another kernel, `{connection_file}` standing for its connection file. */
  argv?: readonly string[];
  /** Milliseconds to wait for the kernel's first answer. Default 60,000. */
  startupTimeout?: number;
}

/** Options of one `execute`. */
export interface ExecuteOptions {
  silent?: boolean;
  storeHistory?: boolean;
  stopOnError?: boolean;
  userExpressions?: Record<string, string>;
  /** Metadata of the request, such as the cell's own. */
  metadata?: Json;
  /** Runs in this subshell, beside other cells. */
  subshellId?: string;
  /** Called with each iopub message as it comes. */
  onMessage?: (message: Message) => void;
  /** Answers `input_request`; without it the kernel is told that there is no input. */
  onInput?: (prompt: string, password: boolean) => string | Promise<string>;
}

/** What a cell did. */
export interface Execution {
  /** Content of the `execute_reply`. */
  reply: Json;
  /** Its iopub messages but `status` and `execute_input`. */
  messages: Message[];
}

interface Waiting {
  channel: Channel;
  resolve: (reply: Message) => void;
  reject: (error: Error) => void;
}

/** One running kernel. */
export class KernelClient {
  /** Content of the `kernel_info_reply`. */
  info: Json = {};
  /** Called with each iopub message, whatever its parent. */
  onMessage: ((message: Message) => void) | null = null;
  readonly connection: ConnectionInfo;
  readonly process: ChildProcess;
  private readonly wire: Wire;
  private readonly file: string;
  private readonly sockets: Record<Channel, zmq.Dealer>;
  private readonly iopub = new zmq.Subscriber({ receiveHighWaterMark: 0, reconnectInterval: 10 });
  private readonly replies = new Map<string, Waiting>();
  private readonly listeners = new Map<string, (message: Message) => void>();
  private readonly inputs = new Map<string, NonNullable<ExecuteOptions['onInput']>>();
  private readonly sending = new Map<Channel, Promise<void>>();
  private errors = '';
  private isOver = false;

  private constructor(connection: ConnectionInfo, options: StartOptions) {
    this.connection = connection;
    this.wire = new Wire(connection.key, randomUUID(), 'client');
    this.file = join(tmpdir(), `peftlab-kernel-${randomUUID()}.json`);
    writeFileSync(this.file, JSON.stringify(connection), { mode: 0o600 });
    const [command, ...args] = (
      options.argv ?? [process.execPath, LAUNCHER, '{connection_file}']
    ).map((arg) => arg.replace('{connection_file}', this.file));
    this.process = spawn(command!, args, {
      cwd: options.cwd ?? process.cwd(),
      env: { ...process.env, ...KERNEL_ENV, ...options.env, JPY_PARENT_PID: String(process.pid) },
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.process.stderr!.on('data', (text: Buffer) => {
      this.errors = (this.errors + text.toString()).slice(-4000);
    });
    this.process.once('error', (error) => {
      this.errors += error.message;
      this.over();
    });
    this.process.once('exit', () => this.over());
    const routingId = randomUUID();
    const dealer = () =>
      new zmq.Dealer({ routingId, linger: 0, receiveHighWaterMark: 0, reconnectInterval: 10 });
    this.sockets = { shell: dealer(), control: dealer(), stdin: dealer() };
  }

  /** Starts a kernel and waits until it answers and its iopub channel is open. */
  static async start(options: StartOptions = {}): Promise<KernelClient> {
    const ports = await freePorts(5);
    const [shell_port, control_port, stdin_port, iopub_port, hb_port] = ports as [
      number,
      number,
      number,
      number,
      number,
    ];
    const client = new KernelClient(
      {
        ...{ transport: 'tcp', ip: '127.0.0.1', signature_scheme: 'hmac-sha256' },
        ...{ shell_port, control_port, stdin_port, iopub_port, hb_port, key: randomUUID() },
        kernel_name: 'typescript-peftlab',
      },
      options,
    );
    try {
      await client.connect(options.startupTimeout ?? 60_000, options.argv === undefined);
    } catch (error) {
      await client.kill();
      throw error;
    }
    return client;
  }

  private async connect(timeout: number, greets: boolean): Promise<void> {
    for (const channel of ['shell', 'control', 'stdin'] as const) {
      this.sockets[channel].connect(endpoint(this.connection, `${channel}_port`));
      void this.listen(channel);
    }
    const welcome = new Promise<void>((resolve) => {
      this.listeners.set('welcome', () => resolve());
      if (!greets) resolve();
    });
    this.iopub.connect(endpoint(this.connection, 'iopub_port'));
    this.iopub.subscribe();
    void this.listenIopub();
    const started = Promise.all([this.request('shell', 'kernel_info_request', {}), welcome]);
    const [reply] = await withTimeout(
      started,
      timeout,
      () => `The kernel did not answer within ${timeout} ms. ${this.errors}`,
    );
    this.info = reply.content;
  }

  /** Sends a request and resolves with the reply. */
  request(
    channel: Channel,
    type: string,
    content: Json,
    options: { metadata?: Json; subshellId?: string; buffers?: Buffer[] } = {},
  ): Promise<Message> {
    const message = this.wire.message(type, content, null, options);
    if (options.subshellId) message.header.subshell_id = options.subshellId;
    return this.exchange(channel, message);
  }

  /** Sends a message that has no reply, such as `comm_msg`. */
  async send(channel: Channel, type: string, content: Json, buffers: Buffer[] = []): Promise<void> {
    await this.queue(channel, this.wire.message(type, content, null, { buffers }));
  }

  private exchange(channel: Channel, message: Message): Promise<Message> {
    if (this.isOver) return Promise.reject(this.gone());
    return new Promise((resolve, reject) => {
      this.replies.set(message.header.msg_id, { channel, resolve, reject });
      void this.queue(channel, message);
    });
  }

  /** Runs a cell; resolves when its reply has come and the kernel is idle again. */
  async execute(code: string, options: ExecuteOptions = {}): Promise<Execution> {
    const { silent = false, storeHistory = true, stopOnError = true, onMessage, onInput } = options;
    const content = {
      ...{ code, silent, store_history: storeHistory, stop_on_error: stopOnError },
      ...{ user_expressions: options.userExpressions ?? {}, allow_stdin: onInput !== undefined },
    };
    const message = this.wire.message('execute_request', content, null, {
      metadata: options.metadata ?? {},
    });
    if (options.subshellId) message.header.subshell_id = options.subshellId;
    const id = message.header.msg_id;
    const messages: Message[] = [];
    const idle = new Promise<void>((resolve) => {
      this.listeners.set(id, (m) => {
        if (m.header.msg_type === 'status') {
          if (m.content.execution_state === 'idle') resolve();
        } else if (m.header.msg_type !== 'execute_input') {
          messages.push(m);
          onMessage?.(m);
        }
      });
    });
    if (onInput) this.inputs.set(id, onInput);
    try {
      const reply = await this.exchange('shell', message);
      await idle;
      return { reply: reply.content, messages };
    } finally {
      this.listeners.delete(id);
      this.inputs.delete(id);
    }
  }

  /** Interrupts what runs; a second time, ends its process. */
  async interrupt(): Promise<void> {
    await this.request('control', 'interrupt_request', {});
  }

  /** Shuts the kernel down and waits until its process has ended. */
  async shutdown(): Promise<void> {
    if (this.isOver) return;
    const ended = new Promise<void>((resolve) => this.process.once('exit', () => resolve()));
    void this.request('control', 'shutdown_request', { restart: false }).catch(() => {});
    await withTimeout(ended, 5000, () => '').catch(() => this.kill());
    this.over();
  }

  /** Ends the process at once. */
  async kill(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      const ended = new Promise((resolve) => this.process.once('exit', resolve));
      this.process.kill('SIGKILL');
      await ended;
    }
    this.over();
  }

  private async queue(channel: Channel, message: Message): Promise<void> {
    const before = this.sending.get(channel) ?? Promise.resolve();
    const sent = before.then(() => this.sockets[channel].send(this.wire.encode(message)));
    this.sending.set(
      channel,
      sent.catch(() => {}),
    );
    await sent.catch(() => {});
  }

  private async listen(channel: Channel): Promise<void> {
    for await (const frames of this.sockets[channel]) {
      const message = this.wire.decode(frames);
      if (message.header.msg_type === 'input_request') void this.answerInput(message);
      const id = message.parent_header.msg_id ?? '';
      const waiting = this.replies.get(id);
      if (!waiting || waiting.channel !== channel) continue;
      this.replies.delete(id);
      waiting.resolve(message);
    }
  }

  private async listenIopub(): Promise<void> {
    for await (const frames of this.iopub) {
      const message = this.wire.decode(frames);
      if (message.header.msg_type === 'iopub_welcome') this.listeners.get('welcome')?.(message);
      this.listeners.get(message.parent_header.msg_id ?? '')?.(message);
      this.onMessage?.(message);
    }
  }

  private async answerInput(request: Message): Promise<void> {
    const { prompt, password } = request.content;
    const ask = this.inputs.get(request.parent_header.msg_id ?? '');
    const value = ask ? await ask(String(prompt), password === true) : '';
    await this.queue('stdin', this.wire.message('input_reply', { status: 'ok', value }, request));
  }

  private gone(): Error {
    return new Error(`The kernel process has ended${this.errors ? `: ${this.errors.trim()}` : ''}`);
  }

  private over(): void {
    if (this.isOver) return;
    this.isOver = true;
    rmSync(this.file, { force: true });
    for (const waiting of this.replies.values()) waiting.reject(this.gone());
    this.replies.clear();
    for (const socket of [...Object.values(this.sockets), this.iopub]) socket.close();
  }
}

/** Ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer();
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
      return server;
    }),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

async function withTimeout<T>(task: Promise<T>, ms: number, words: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(words())), ms);
  });
  try {
    return await Promise.race([task, late]);
  } finally {
    clearTimeout(timer);
  }
}
