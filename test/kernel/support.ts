// A kernel process for a test file, in a temporary folder of its own.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ExecuteOptions, KernelClient } from '../../src/kernel/client.ts';
import type { Json, Message } from '../../src/kernel/message.ts';

/** What a cell did, as tests ask about it. */
export interface Ran {
  reply: Json;
  messages: Message[];
  /** `text/plain` of the cell's value. */
  value: string | undefined;
  stdout: string;
  stderr: string;
  /** The MIME bundles of displays and of the value. */
  bundles: Json[];
}

/** One kernel in one folder. */
export class TestKernel {
  readonly folder: string = mkdtempSync(join(tmpdir(), 'peftlab test '));
  client!: KernelClient;

  /** Starts (or starts anew) the kernel. */
  async start(): Promise<void> {
    const env = { PEFTLAB_DATA_DIR: join(this.folder, 'data') };
    this.client = await KernelClient.start({ cwd: this.folder, env });
  }

  /** Ends the kernel and removes its folder. */
  async stop(): Promise<void> {
    await this.client.shutdown();
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Runs a cell. */
  async run(code: string, options: ExecuteOptions = {}): Promise<Ran> {
    const { reply, messages } = await this.client.execute(code, options);
    const of = (type: string) => messages.filter((m) => m.header.msg_type === type);
    const stream = (name: string) =>
      of('stream')
        .filter((m) => m.content.name === name)
        .map((m) => m.content.text)
        .join('');
    const result = of('execute_result')[0]?.content.data as Json | undefined;
    const bundles = messages.flatMap((m) => (m.content.data ? [m.content.data as Json] : []));
    return {
      ...{ reply, messages, bundles, stdout: stream('stdout'), stderr: stream('stderr') },
      value: result?.['text/plain'] as string | undefined,
    };
  }

  /** Runs cells one after the other; the value of the last, or its error. */
  async value(...cells: string[]): Promise<string | undefined> {
    let last: Ran | undefined;
    for (const cell of cells) last = await this.run(cell);
    return last?.reply.status === 'ok' ? last.value : `${last?.reply.ename}: ${last?.reply.evalue}`;
  }
}

/** Waits. */
export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
