// Comms: named two-way channels between a cell's objects and a front end (widgets use them).
// JavaScript's event loop handles messages while a cell awaits.
import { randomUUID } from 'node:crypto';
import type { CommMessage } from './protocol.ts';

type Data = Record<string, unknown>;

/** What arrives on a comm. */
export interface CommEvent {
  data: Data;
  metadata: Data;
  buffers: Uint8Array[];
}

/** One open channel. `onMessage` and `onClose` are yours to set. */
export class Comm {
  readonly id: string;
  readonly targetName: string;
  /** A promise that it gives keeps the kernel busy, and the front end from sending more. */
  onMessage: ((event: CommEvent) => unknown) | null = null;
  onClose: ((event: CommEvent) => void) | null = null;
  private readonly manager: CommManager;

  constructor(manager: CommManager, targetName: string, id: string) {
    this.manager = manager;
    this.targetName = targetName;
    this.id = id;
  }

  /** Sends `data`, with binary `buffers` beside it. */
  send(data: Data, options: { metadata?: Data; buffers?: Uint8Array[] } = {}): void {
    const { metadata = {}, buffers = [] } = options;
    const content = { comm_id: this.id, data };
    this.manager.send({ kind: 'comm_msg', content, metadata, buffers });
  }

  /** Ends the channel on both sides. */
  close(data: Data = {}): void {
    this.manager.close(this.id);
    const content = { comm_id: this.id, data };
    this.manager.send({ kind: 'comm_close', content, metadata: {}, buffers: [] });
  }
}

/** Called when a front end opens a comm for a registered target. */
export type CommTarget = (comm: Comm, event: CommEvent) => void;

/** All comms of a session. */
export class CommManager {
  readonly send: (message: CommMessage) => void;
  private readonly comms = new Map<string, Comm>();
  private readonly targets = new Map<string, CommTarget>();
  private readonly changed: (comms: Record<string, { target_name: string }>) => void;

  constructor(
    send: (message: CommMessage) => void,
    changed: (comms: Record<string, { target_name: string }>) => void,
  ) {
    this.send = send;
    this.changed = changed;
  }

  /** Opens a comm towards the front end. */
  open(
    targetName: string,
    data: Data = {},
    options: { id?: string; metadata?: Data; buffers?: Uint8Array[] } = {},
  ): Comm {
    const { id = randomUUID(), metadata = {}, buffers = [] } = options;
    const comm = this.add(targetName, id);
    const content = { comm_id: id, target_name: targetName, data };
    this.send({ kind: 'comm_open', content, metadata, buffers });
    return comm;
  }

  /** Lets front ends open comms named `targetName`. */
  registerTarget(targetName: string, target: CommTarget): void {
    this.targets.set(targetName, target);
  }

  /** Handles a message from the front end; an unknown target is closed again, as the protocol asks. */
  receive(message: CommMessage): unknown {
    const {
      comm_id: id,
      target_name: targetName,
      data,
    } = message.content as {
      comm_id: string;
      target_name?: string;
      data?: Data;
    };
    const event = { data: data ?? {}, metadata: message.metadata, buffers: message.buffers };
    if (message.kind === 'comm_open') return this.accept(id, targetName ?? '', event);
    const comm = this.comms.get(id);
    if (!comm) return;
    if (message.kind === 'comm_msg') return comm.onMessage?.(event);
    this.close(id);
    comm.onClose?.(event);
  }

  /** Forgets a comm. */
  close(id: string): void {
    this.comms.delete(id);
    this.report();
  }

  private accept(id: string, targetName: string, event: CommEvent): void {
    const target = this.targets.get(targetName);
    const comm = this.add(targetName, id);
    if (!target) return comm.close();
    try {
      target(comm, event);
    } catch (error) {
      comm.close();
      throw error;
    }
  }

  private add(targetName: string, id: string): Comm {
    const comm = new Comm(this, targetName, id);
    this.comms.set(id, comm);
    this.report();
    return comm;
  }

  private report(): void {
    const open = [...this.comms.values()].map((c) => [c.id, { target_name: c.targetName }]);
    this.changed(Object.fromEntries(open));
  }
}
