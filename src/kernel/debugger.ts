// The debug adapter: Jupyter's `debug_request` (Debug Adapter Protocol) on the inspector of the
// process of the user's code.
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Json } from './message.ts';

/** Calls the inspector of the user's process. */
export type Inspector = (method: string, params?: object) => Promise<Record<string, unknown>>;

/** Translates between the Debug Adapter Protocol and V8's inspector. */
export class Debugger {
  private readonly inspector: Inspector;
  private readonly send: (event: Json) => void;

  constructor(inspector: Inspector, send: (event: Json) => void) {
    this.inspector = inspector;
    this.send = send;
  }

  /** The script name of a cell: the same for the same text. */
  pathOf(code: string): string {
    return join(
      tmpdir(),
      `peftlab_${process.pid}`,
      `${createHash('sha256').update(code).digest('hex').slice(0, 16)}.ts`,
    );
  }

  event(_method: string, _params: object): void {}

  reset(): void {}

  async request(content: Json): Promise<Json> {
    return { type: 'response', request_seq: content.seq, success: false, command: content.command };
  }
}
