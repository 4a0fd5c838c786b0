// All kernels of a server, the sessions that tie them to notebooks, and the clients connected to each.
import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { WebSocket } from 'ws';
import { KERNEL_NAME } from '../kernel/kernelspec.ts';
import type { Json } from '../kernel/message.ts';
import { KernelChannels } from './channels.ts';
import { type Contents, ContentsError } from './contents.ts';
import { KernelProcess } from './kernel-process.ts';

/** A notebook (or console) and its kernel. */
export interface Session {
  id: string;
  path: string;
  name: string;
  type: string;
  kernel: KernelProcess;
}

/** What a client asks for. */
export interface SessionRequest {
  path?: string | null;
  name?: string;
  type?: string;
  kernel?: { id?: string | null; name?: string | null };
}

const CULL_CHECKS = 10;
const LONGEST_CHECK_MS = 60_000;

/** The kernels of a server. */
export class Kernels {
  readonly sessions: Map<string, Session> = new Map();
  private readonly contents: Contents;
  private readonly kernels = new Map<string, KernelProcess>();
  private readonly clients = new Map<string, KernelChannels>();
  private readonly starting = new Map<string, Promise<Session>>();
  private readonly made = Date.now();
  private readonly culling: NodeJS.Timeout;

  /** Kernels that have been idle for `cullIdleMs`, with no page connected, are ended. */
  constructor(contents: Contents, cullIdleMs: number) {
    this.contents = contents;
    const every = Math.min(cullIdleMs / CULL_CHECKS, LONGEST_CHECK_MS);
    this.culling = setInterval(() => this.cull(cullIdleMs), every).unref();
  }

  all(): KernelProcess[] {
    return [...this.kernels.values()];
  }

  /** When a kernel last did something, or this was made. */
  lastActivity(): Date {
    const times = this.all().map((kernel) => kernel.lastActivity.getTime());
    return new Date(Math.max(this.made, ...times));
  }

  get(id: string): KernelProcess {
    const kernel = this.kernels.get(id);
    if (!kernel) throw new ContentsError(404, `Kernel does not exist: ${id}`);
    return kernel;
  }

  /** Starts a kernel in the folder of the file `path`. */
  async start(name: string | null | undefined, path: string): Promise<KernelProcess> {
    if (name && name !== KERNEL_NAME) {
      throw new ContentsError(404, `No kernel '${name}' here, but '${KERNEL_NAME}'`);
    }
    const kernel = await KernelProcess.start(KERNEL_NAME, this.folderOf(path));
    this.kernels.set(kernel.id, kernel);
    return kernel;
  }

  /** Ends a kernel, its sessions and the connections to it. */
  async remove(id: string): Promise<void> {
    const kernel = this.get(id);
    this.kernels.delete(id);
    for (const session of this.sessions.values()) {
      if (session.kernel === kernel) this.sessions.delete(session.id);
    }
    await kernel.shutdown();
    for (const [key, client] of this.clients) if (key.startsWith(`${id}/`)) client.close();
  }

  /** Connects a client, which may have been connected before. */
  connect(id: string, session: string, socket: WebSocket): void {
    const kernel = this.get(id);
    const key = `${id}/${session}`;
    const known =
      this.clients.get(key) ?? new KernelChannels(kernel, () => this.clients.delete(key));
    this.clients.set(key, known);
    known.attach(socket);
  }

  /** The session of a file, with its kernel; there is one, however many pages ask. */
  open(request: SessionRequest): Promise<Session> {
    const { type = 'notebook' } = request;
    const path = request.path ?? '';
    const known = [...this.sessions.values()].find((s) => s.path === path && s.type === type);
    if (known) return Promise.resolve(known);
    const key = `${type}/${path}`;
    const started = this.starting.get(key) ?? this.begin(request);
    this.starting.set(key, started);
    return started.finally(() => this.starting.delete(key));
  }

  session(id: string): Session {
    const session = this.sessions.get(id);
    if (!session) throw new ContentsError(404, `Session not found: ${id}`);
    return session;
  }

  /** Changes path, name, type or kernel of a session. */
  async change(id: string, { path, name, type, kernel }: SessionRequest): Promise<Session> {
    const session = this.session(id);
    if (typeof path === 'string') session.path = path;
    if (name !== undefined) session.name = name;
    if (type !== undefined) session.type = type;
    if (kernel && kernel.id !== session.kernel.id) {
      const old = session.kernel;
      session.kernel = kernel.id
        ? this.get(kernel.id)
        : await this.start(kernel.name, session.path);
      if (![...this.sessions.values()].some((other) => other.kernel === old)) {
        await this.remove(old.id);
      }
    }
    return session;
  }

  /** Ends all kernels. */
  async close(): Promise<void> {
    clearInterval(this.culling);
    await Promise.all(this.all().map(({ id }) => this.remove(id).catch(() => {})));
  }

  private cull(idleMs: number): void {
    for (const { id, state, connections, lastActivity } of this.all()) {
      const isUsed = state === 'busy' || connections > 0;
      if (isUsed || Date.now() - lastActivity.getTime() < idleMs) continue;
      this.remove(id).catch(() => {});
    }
  }

  private async begin({ name = '', type = 'notebook', kernel, ...request }: SessionRequest) {
    const path = request.path ?? '';
    const running = kernel?.id ? this.get(kernel.id) : await this.start(kernel?.name, path);
    const session: Session = { id: randomUUID(), path, name, type, kernel: running };
    this.sessions.set(session.id, session);
    return session;
  }

  private folderOf(path: string): string {
    for (let at = this.contents.place(path); ; at = dirname(at)) {
      if (statSync(at, { throwIfNoEntry: false })?.isDirectory()) return at;
    }
  }
}

/** A session as Jupyter Server's REST API shows it. */
export function sessionModel({ id, path, name, type, kernel }: Session): Json {
  return { id, path, name, type, kernel: kernel.model(), notebook: { path, name } };
}
