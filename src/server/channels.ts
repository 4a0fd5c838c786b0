// What connects one client to one kernel: shell, control and stdin sockets of its own, and a WebSocket that may
// break and come back. While it is away, everything for it is kept.
import { randomUUID } from 'node:crypto';
import type { WebSocket } from 'ws';
import * as zmq from 'zeromq';
import { type Channel, endpoint } from '../kernel/connection.ts';
import { decodeLegacy, decodeV1, encodeLegacy, encodeV1, type Framed, V1 } from './frames.ts';
import { type KernelProcess, partsOf } from './kernel-process.ts';

const CHANNELS: readonly Channel[] = ['shell', 'control', 'stdin'];
const AWAY_MS = 10 * 60_000;
const KEPT_MESSAGES = 20_000;
const PING_MS = 30_000;

/** A client of a kernel, by the session id that it names. */
export class KernelChannels {
  private readonly kernel: KernelProcess;
  private readonly forget: () => void;
  private sockets = new Map<Channel, zmq.Dealer>();
  private readonly sending = new Map<Channel, Promise<void>>();
  private socket: WebSocket | null = null;
  private waiting: Framed[] = [];
  private away: NodeJS.Timeout | null = null;

  /** `forget` is called when the client does not come back. */
  constructor(kernel: KernelProcess, forget: () => void) {
    this.kernel = kernel;
    this.forget = forget;
    this.open();
    kernel.on('iopub', this.publish);
    kernel.on('replaced', this.reopen);
    // A page that is loaded while cells run hears what they said before it came.
    this.waiting = kernel.unheard().map((parts) => ({ channel: 'iopub', parts }));
  }

  /** The client is there (again): hands over what was kept. */
  attach(socket: WebSocket): void {
    this.socket?.close(1000, 'replaced');
    if (this.away) clearTimeout(this.away);
    this.socket = socket;
    this.kernel.connections++;
    for (const message of this.waiting.splice(0)) this.send(message);
    socket.on('message', (data: Buffer, isBinary) => this.receive(socket, data, isBinary));
    socket.on('error', () => {});
    let isAlive = true;
    const ping = setInterval(() => {
      if (!isAlive) return socket.terminate();
      isAlive = false;
      socket.ping();
    }, PING_MS);
    socket.on('pong', () => {
      isAlive = true;
    });
    socket.on('close', () => {
      clearInterval(ping);
      this.kernel.connections--;
      if (this.socket !== socket) return;
      this.socket = null;
      this.away = setTimeout(() => this.close(), AWAY_MS).unref();
    });
  }

  /** Ends the connection for good. */
  close(): void {
    if (this.away) clearTimeout(this.away);
    this.kernel.off('iopub', this.publish);
    this.kernel.off('replaced', this.reopen);
    this.socket?.close(1000, 'The kernel was shut down');
    this.closeSockets();
    this.forget();
  }

  private readonly publish = (parts: readonly Buffer[]): void =>
    this.send({ channel: 'iopub', parts });

  private readonly reopen = (): void => {
    this.closeSockets();
    this.open();
  };

  private open(): void {
    // A ROUTER ignores a second peer of a name that it knows: each connection has its own. The three
    // sockets share it, for input requests go to the identity that the shell request had.
    const routingId = randomUUID();
    for (const channel of CHANNELS) {
      const options = { routingId, linger: 0, sendHighWaterMark: 0, receiveHighWaterMark: 0 };
      const socket = new zmq.Dealer(options);
      socket.connect(endpoint(this.kernel.connection, `${channel}_port`));
      this.sockets.set(channel, socket);
      const pump = async (): Promise<void> => {
        for await (const frames of socket) this.send({ channel, parts: partsOf(frames) });
      };
      pump().catch(() => {});
    }
  }

  private closeSockets(): void {
    for (const socket of this.sockets.values()) socket.close();
    this.sockets.clear();
  }

  private send(message: Framed): void {
    const { socket } = this;
    if (socket && socket.readyState === socket.OPEN) {
      socket.send(socket.protocol === V1 ? encodeV1(message) : encodeLegacy(message));
    } else if (this.waiting.length < KEPT_MESSAGES) this.waiting.push(message);
  }

  private receive(socket: WebSocket, data: Buffer, isBinary: boolean): void {
    let message: Framed;
    try {
      message = socket.protocol === V1 && isBinary ? decodeV1(data) : decodeLegacy(data, isBinary);
    } catch {
      return socket.close(1003, 'A message must be framed as the protocol says');
    }
    const channel = message.channel as Channel;
    if (!CHANNELS.includes(channel)) return;
    this.kernel.lastActivity = new Date();
    const frames = this.kernel.wire.seal(message.parts);
    const before = this.sending.get(channel) ?? Promise.resolve();
    const sent = before.then(() => this.sockets.get(channel)?.send(frames)).catch(() => {});
    this.sending.set(channel, sent);
  }
}
