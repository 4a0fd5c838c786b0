// The kernel's side of the language thread: each method returns a promise for the thread's answer.
import { Worker } from 'node:worker_threads';
import type { Language } from './language.ts';

type Method = 'compile' | 'expression' | 'complete' | 'inspect' | 'isComplete' | 'reset';

/** Calls the methods of a `Language` that lives in a thread. */
export class LanguageClient {
  private readonly worker: Worker;
  private readonly waiting = new Map<
    number,
    { resolve: (v: never) => void; reject: (e: Error) => void }
  >();
  private lastId = 0;

  constructor(script: string, options: { cwd: string; env: string; typeRoots: string[] }) {
    this.worker = new Worker(script, {
      workerData: options,
      resourceLimits: { maxOldGenerationSizeMb: 512, maxYoungGenerationSizeMb: 6 },
    });
    this.worker.on('message', (reply: { id: number; value?: never; error?: string }) => {
      const call = this.waiting.get(reply.id);
      this.waiting.delete(reply.id);
      if (reply.error === undefined) call?.resolve(reply.value as never);
      else call?.reject(new Error(reply.error));
    });
    this.worker.on('error', (error) => {
      for (const call of this.waiting.values()) call.reject(error as Error);
      this.waiting.clear();
    });
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
