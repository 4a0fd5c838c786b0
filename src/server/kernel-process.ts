// One kernel of the server: its process, and one subscription to its iopub channel that all clients share (a
// subscription of each would miss its first messages). What running cells said so far is kept, for pages
// that are loaded in their middle.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as zmq from 'zeromq';
import { freePorts, KERNEL_ENV } from '../kernel/client.ts';
import { type Channel, type ConnectionInfo, endpoint } from '../kernel/connection.ts';
import { kernelspec } from '../kernel/kernelspec.ts';
import { type Json, type Message, MessageError, Wire } from '../kernel/message.ts';

const START_MS = 30_000;
const NUDGE_MS = 300;
const STOP_MS = 1500;
const MOST_RESTARTS = 5;
const KEPT_BYTES = 20_000_000;
const KEPT_CELLS = 500;

/** Frames of one message from the header on. */
type Parts = readonly Buffer[];

interface KernelEvents {
  /** An iopub message. */
  iopub: [parts: Parts];
  /** The process is another one: its sockets must be connected anew. */
  replaced: [];
}

/** What a cell has said. */
interface KeptCell {
  parts: Parts[];
  size: number;
  isDone: boolean;
}

/** A kernel's process and channels. */
export class KernelProcess extends EventEmitter<KernelEvents> {
  readonly id: string = randomUUID();
  readonly name: string;
  readonly cwd: string;
  state = 'starting';
  lastActivity: Date = new Date();
  /** Clients connected now. */
  connections = 0;
  readonly connection: ConnectionInfo;
  readonly wire: Wire;
  private readonly file: string;
  private process: ChildProcess | null = null;
  private iopub: zmq.Subscriber | null = null;
  private readonly kept = new Map<string, KeptCell>();
  private restarts = 0;
  private isStopping = false;

  private constructor(name: string, cwd: string, connection: ConnectionInfo) {
    super();
    this.setMaxListeners(0);
    this.name = name;
    this.cwd = cwd;
    this.connection = connection;
    this.wire = new Wire(connection.key, `server-${this.id}`, 'server');
    this.file = join(tmpdir(), `peftlab-kernel-${this.id}.json`);
    writeFileSync(this.file, JSON.stringify(connection), { mode: 0o600 });
  }

  /** Starts a kernel in the folder `cwd`. */
  static async start(name: string, cwd: string): Promise<KernelProcess> {
    const [shell, control, stdin, iopub, hb] = await freePorts(5);
    const kernel = new KernelProcess(name, cwd, {
      ...{ transport: 'tcp', ip: '127.0.0.1', key: randomBytes(32).toString('hex') },
      ...{ shell_port: shell!, control_port: control!, stdin_port: stdin! },
      ...{ iopub_port: iopub!, hb_port: hb!, signature_scheme: 'hmac-sha256', kernel_name: name },
    });
    try {
      await kernel.spawn();
    } catch (error) {
      await kernel.shutdown();
      throw error;
    }
    return kernel;
  }

  /** The kernel as Jupyter Server's REST API shows it. */
  model(): Json {
    return {
      ...{ id: this.id, name: this.name, last_activity: this.lastActivity.toISOString() },
      ...{ execution_state: this.state, connections: this.connections },
    };
  }

  /** What the cells that run now have said so far, and those that ended while nobody listened. */
  unheard(): Parts[] {
    const parts = [...this.kept.values()].flatMap((cell) => cell.parts);
    for (const [id, cell] of this.kept) if (cell.isDone) this.kept.delete(id);
    return parts;
  }

  /** Interrupts what runs. */
  async interrupt(): Promise<void> {
    await this.request('control', 'interrupt_request', {});
  }

  /** Ends the process and starts another. */
  async restart(): Promise<void> {
    this.restarts = 0;
    await this.stop(true);
    await this.spawn();
    this.emit('replaced');
  }

  /** Ends the kernel for good. */
  async shutdown(): Promise<void> {
    await this.stop(false);
    this.iopub?.close();
    this.state = 'dead';
    this.tell('dead');
    rmSync(this.file, { force: true });
  }

  /** Tells all clients of a status of the server's own. */
  private tell(state: string): void {
    const { header } = this.wire.message('status', {});
    const parts = [header, {}, {}, { execution_state: state }];
    this.emit(
      'iopub',
      parts.map((part) => Buffer.from(JSON.stringify(part))),
    );
  }

  private async spawn(): Promise<void> {
    const { argv, env } = kernelspec() as { argv: string[]; env: Record<string, string> };
    const [command, ...args] = argv.map((arg) => arg.replace('{connection_file}', this.file));
    this.isStopping = false;
    this.state = 'starting';
    this.kept.clear();
    const started = spawn(command!, args, {
      cwd: this.cwd,
      env: { ...process.env, ...KERNEL_ENV, ...env, JPY_PARENT_PID: String(process.pid) },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    this.process = started;
    started.once('exit', () => {
      if (this.process === started && !this.isStopping) void this.died();
    });
    started.once('error', () => {});
    await this.waitUntilReady(started);
    this.state = 'idle';
  }

  /** Asks for `kernel_info` until the answer has been seen on iopub too. */
  private async waitUntilReady(started: ChildProcess): Promise<void> {
    let isHeard = false;
    this.listen(() => {
      isHeard = true;
    });
    const until = Date.now() + START_MS;
    for (;;) {
      await this.request('shell', 'kernel_info_request', {}, START_MS);
      for (let waited = 0; waited < NUDGE_MS && !isHeard; waited += 5) await pause(5);
      if (isHeard) return;
      if (started.exitCode !== null || Date.now() > until) {
        throw new Error(`The kernel '${this.name}' did not start within ${START_MS / 1000} s`);
      }
    }
  }

  private listen(heard: () => void): void {
    this.iopub?.close();
    const socket = new zmq.Subscriber({ receiveHighWaterMark: 0, linger: 0 });
    this.iopub = socket;
    socket.subscribe();
    socket.connect(endpoint(this.connection, 'iopub_port'));
    const read = async (): Promise<void> => {
      for await (const frames of socket) {
        try {
          this.take(this.wire.decode(frames), partsOf(frames), heard);
        } catch (error) {
          if (!(error instanceof MessageError)) throw error;
        }
      }
    };
    read().catch(() => {});
  }

  private take(message: Message, parts: Parts, heard: () => void): void {
    const { msg_type: type } = message.header;
    if (type === 'iopub_welcome') return;
    heard();
    this.lastActivity = new Date();
    if (type === 'status') this.state = String(message.content.execution_state);
    this.keep(message, parts);
    this.emit('iopub', parts);
  }

  /** Keeps what a cell says from its start to its end, and on until somebody is there to hear it. */
  private keep({ header, parent_header: parent, content }: Message, parts: Parts): void {
    const id = parent.msg_id ?? '';
    if (header.msg_type === 'execute_input' && this.kept.size < KEPT_CELLS) {
      this.kept.set(id, { parts: [], size: 0, isDone: false });
    }
    const cell = this.kept.get(id);
    if (!cell) return;
    const isEnd = header.msg_type === 'status' && content.execution_state === 'idle';
    if (isEnd && this.connections > 0) return void this.kept.delete(id);
    cell.isDone = isEnd;
    cell.size += parts.reduce((sum, part) => sum + part.length, 0);
    if (cell.size <= KEPT_BYTES || isEnd) cell.parts.push(parts);
  }

  /** Sends one request on a socket of its own and gives the content of the reply. */
  private async request(
    channel: Channel,
    type: string,
    content: Json,
    timeout = 5000,
  ): Promise<Json> {
    const socket = new zmq.Dealer({ linger: 0, receiveTimeout: timeout });
    socket.connect(endpoint(this.connection, `${channel}_port`));
    try {
      const message = this.wire.message(type, content);
      await socket.send(this.wire.encode(message));
      for (;;) {
        const reply = this.wire.decode(await socket.receive());
        if (reply.parent_header.msg_id === message.header.msg_id) return reply.content;
      }
    } finally {
      socket.close();
    }
  }

  /** A process that ended by itself is replaced, a few times. */
  private async died(): Promise<void> {
    if (this.restarts++ >= MOST_RESTARTS) {
      this.state = 'dead';
      return this.tell('dead');
    }
    this.tell('restarting');
    try {
      await this.spawn();
      this.emit('replaced');
    } catch {
      this.state = 'dead';
      this.tell('dead');
    }
  }

  private async stop(isRestart: boolean): Promise<void> {
    this.isStopping = true;
    const { process: child } = this;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<true>((resolve) => child.once('exit', () => resolve(true)));
    this.request('control', 'shutdown_request', { restart: isRestart }, STOP_MS).catch(() => {});
    if (await Promise.race([ended, pause(STOP_MS)])) return;
    child.kill('SIGKILL');
    await ended;
  }
}

/** Frames of a message without identities, delimiter and signature. */
export function partsOf(frames: readonly Buffer[]): Parts {
  return frames.slice(frames.findIndex((frame) => frame.toString() === '<IDS|MSG>') + 2);
}

function pause(ms: number): Promise<false> {
  return new Promise((resolve) => setTimeout(() => resolve(false), ms));
}
