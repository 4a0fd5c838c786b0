// The kernel's side of the language thread: each method returns a promise for the thread's answer. A
// thread that has died (types can outgrow its memory) is replaced by one with more, told of the same cells.
import { Worker } from 'node:worker_threads';
import type { CompileReply, CompileRequest, Language } from './language.ts';

type Method = 'compile' | 'expression' | 'complete' | 'inspect' | 'isComplete' | 'reset';

interface Waiting {
  resolve: (value: never) => void;
  reject: (error: Error) => void;
}

const FIRST_LIMIT_MB = 512;
const LAST_LIMIT_MB = 4096;

/** Calls the methods of a `Language` that lives in a thread. */
export class LanguageClient {
  private readonly script: string;
  private readonly options: { cwd: string; env: string; typeRoots: string[] };
  private worker: Worker;
  private limit = FIRST_LIMIT_MB;
  private readonly waiting = new Map<number, Waiting>();
  /** Cells that declared names, for the next thread. */
  private declaring: CompileRequest[] = [];
  private lastId = 0;

  constructor(script: string, options: { cwd: string; env: string; typeRoots: string[] }) {
    this.script = script;
    this.options = options;
    this.worker = this.start();
  }

  private start(): Worker {
    const worker = new Worker(this.script, {
      workerData: this.options,
      // A small young generation and old-space limit keep garbage, and so the process, small.
      resourceLimits: { maxOldGenerationSizeMb: this.limit, maxYoungGenerationSizeMb: 6 },
    });
    worker.on('message', (reply: { id: number; value?: never; error?: string }) => {
      const call = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      if (reply.error === undefined) call?.resolve(reply.value as never);
      else call?.reject(new Error(reply.error));
    });
    worker.on('error', (error: Error) => this.replace(error));
    return worker;
  }

  private replace(error: Error): void {
    for (const call of this.waiting.values()) call.reject(error);
    this.waiting.clear();
    this.limit = Math.min(2 * this.limit, LAST_LIMIT_MB);
    this.worker = this.start();
    const cells = this.declaring.splice(0);
    for (const cell of cells) void this.compile(cell).catch(() => {});
  }

  /** Compiles a cell. */
  async compile(request: CompileRequest): Promise<CompileReply> {
    const reply = await this.call('compile', request);
    if (reply.status === 'ready' && reply.declares.length > 0) this.declaring.push(request);
    return reply;
  }

  /** Forgets all names. */
  async reset(): Promise<void> {
    this.declaring = [];
    await this.call('reset');
  }

  /** Calls `method` in the thread. */
  call<M extends Method>(
    method: M,
    ...args: Parameters<Language[M]>
  ): Promise<ReturnType<Language[M]>> {
    const id = ++this.lastId;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (v: never) => void, reject });
      this.worker.postMessage({ id, method, args });
    });
  }

  /** Ends the thread. */
  close(): Promise<number> {
    return this.worker.terminate();
  }
}
