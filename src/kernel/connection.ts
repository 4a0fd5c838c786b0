// A connection file and the five sockets of a kernel: shell, control, stdin (ROUTER), iopub (XPUB,
// so that each subscriber gets `iopub_welcome`) and heartbeat (REP).
import { readFileSync } from 'node:fs';
import * as zmq from 'zeromq';
import { type Message, MessageError, Wire } from './message.ts';

/** Contents of a connection file (jupyter_client's `kernel-<id>.json`). */
export interface ConnectionInfo {
  transport: 'tcp' | 'ipc';
  ip: string;
  shell_port: number;
  control_port: number;
  stdin_port: number;
  iopub_port: number;
  hb_port: number;
  key: string;
  signature_scheme?: string;
  kernel_name?: string;
}

/** Channels that carry requests. */
export type Channel = 'shell' | 'control' | 'stdin';

const PORTS = ['shell_port', 'control_port', 'stdin_port', 'iopub_port', 'hb_port'] as const;

/** Reads and checks a connection file. */
export function readConnectionFile(path: string): ConnectionInfo {
  let info: Partial<ConnectionInfo>;
  try {
    info = JSON.parse(readFileSync(path, 'utf8')) as Partial<ConnectionInfo>;
  } catch (error) {
    throw new Error(
      `The connection file ${path} must be readable JSON: ${(error as Error).message}`,
    );
  }
  for (const port of PORTS) {
    if (!Number.isInteger(info[port])) {
      throw new Error(
        `The connection file ${path} must give ${port} as an integer, got ${info[port]}`,
      );
    }
  }
  const scheme = info.signature_scheme ?? 'hmac-sha256';
  if (scheme !== 'hmac-sha256') {
    throw new Error(`signature_scheme must be 'hmac-sha256', got '${scheme}'`);
  }
  return { transport: 'tcp', ip: '127.0.0.1', key: '', ...info } as ConnectionInfo;
}

/** The address of one port, for `bind` and `connect`. */
export function endpoint(info: ConnectionInfo, port: (typeof PORTS)[number]): string {
  const separator = info.transport === 'ipc' ? '-' : ':';
  return `${info.transport}://${info.ip}${separator}${info[port]}`;
}

/** The kernel's end of a connection: `serve` receives requests, `send` and `publish` answer. */
export class Connection {
  readonly wire: Wire;
  private readonly info: ConnectionInfo;
  private readonly routers: Record<Channel, zmq.Router>;
  private readonly iopub = new zmq.XPublisher({ sendHighWaterMark: 0, verbosity: 'allSubs' });
  private readonly heartbeat = new zmq.Reply();
  private readonly sending = new Map<object, Promise<void>>();

  constructor(info: ConnectionInfo) {
    this.info = info;
    this.wire = new Wire(info.key);
    const router = () => new zmq.Router({ sendHighWaterMark: 0, handover: true, linger: 1000 });
    this.routers = { shell: router(), control: router(), stdin: router() };
    this.iopub.linger = 1000;
  }

  /**
   * Binds all sockets, iopub last, so that nothing is published to a subscriber before it is
   * greeted. An address in use is an error that names channel and address.
   */
  async bind(): Promise<void> {
    const sockets = [
      ['shell_port', this.routers.shell],
      ['control_port', this.routers.control],
      ['stdin_port', this.routers.stdin],
      ['hb_port', this.heartbeat],
      ['iopub_port', this.iopub],
    ] as const;
    for (const [port, socket] of sockets) {
      const address = endpoint(this.info, port);
      try {
        await socket.bind(address);
      } catch (error) {
        throw new Error(`The kernel can't bind ${port} at ${address}: ${(error as Error).message}`);
      }
    }
  }

  /** Hands every valid request to `receive`; malformed or wrongly signed ones are reported, then dropped. */
  serve(receive: (channel: Channel, message: Message) => void): void {
    for (const channel of ['shell', 'control', 'stdin'] as const) {
      this.listen(channel, receive);
    }
    this.beat();
    this.welcome();
  }

  private async listen(
    channel: Channel,
    receive: (channel: Channel, message: Message) => void,
  ): Promise<void> {
    for await (const frames of this.routers[channel]) {
      try {
        receive(channel, this.wire.decode(frames));
      } catch (error) {
        if (!(error instanceof MessageError)) throw error;
        process.stderr.write(`Refused a message on ${channel}: ${error.message}\n`);
      }
    }
  }

  private async beat(): Promise<void> {
    for await (const frames of this.heartbeat) await this.heartbeat.send(frames);
  }

  /** JEP 65: a new subscription (a frame that starts with 1) is greeted on its own topic. */
  private async welcome(): Promise<void> {
    for await (const [subscription] of this.iopub) {
      if (subscription?.[0] !== 1) continue;
      const topic = subscription.subarray(1);
      const content = { subscription: topic.toString() };
      this.publish('iopub_welcome', content, null, { topic: Buffer.from(topic) });
    }
  }

  /** Sends `message` to the peer that its identities name. */
  send(channel: Channel, message: Message): Promise<void> {
    return this.queue(this.routers[channel], message);
  }

  /** Publishes on iopub. */
  publish(
    type: string,
    content: Message['content'],
    parent: Message | null,
    options: { metadata?: Message['metadata']; buffers?: Buffer[]; topic?: Buffer } = {},
  ): Promise<void> {
    const { topic = Buffer.from(`kernel.${type}`), metadata = {}, buffers = [] } = options;
    return this.queue(
      this.iopub,
      this.wire.message(type, content, parent, { identities: [topic], metadata, buffers }),
    );
  }

  /** A ZeroMQ socket takes one `send` at a time: this keeps the order. */
  private queue(socket: zmq.Router | zmq.XPublisher, message: Message): Promise<void> {
    const frames = this.wire.encode(message);
    const before = this.sending.get(socket) ?? Promise.resolve();
    const sent = before.then(
      () => socket.send(frames),
      () => socket.send(frames),
    );
    const settled = sent.catch(() => {});
    this.sending.set(socket, settled);
    return settled;
  }

  /** Waits until everything queued is handed to ZeroMQ, then closes all sockets. */
  async close(): Promise<void> {
    await Promise.all(this.sending.values());
    for (const socket of [...Object.values(this.routers), this.iopub, this.heartbeat])
      socket.close();
  }
}
