// Which run the executing code belongs to, also after an `await`: for runs that are beside the main shell's
// cell (subshells, comm messages).
import { AsyncLocalStorage } from 'node:async_hooks';

/** A cell, or a message on a comm. */
export interface RunContext {
  run: number;
  messageId: string;
}

/** The current run. */
export class RunContexts {
  private readonly beside = new AsyncLocalStorage<RunContext>();
  private main: RunContext = { run: 0, messageId: '' };

  /** The run whose code executes now; the main shell's last cell if it is none beside it. */
  current(): RunContext {
    return this.beside.getStore() ?? this.main;
  }

  /** Makes `context` the main shell's. */
  enterMain(context: RunContext): void {
    this.main = context;
  }

  /** Calls `run` as part of `context`, and all that it starts. */
  enterBeside(context: RunContext, run: () => unknown): void {
    this.beside.run(context, () => {
      allowTermination();
      run();
    });
  }
}

interface AsyncWrap {
  async_hook_fields: Uint32Array;
  constants: { kCheck: number };
}

/**
 * AsyncLocalStorage, once used, lets Node check its hooks, and abort when JavaScript is ended from outside:
 * undoes that, as `--no-force-async-hooks-checks` does for a process without it.
 */
function allowTermination(): void {
  try {
    const { binding } = process as unknown as { binding: (name: string) => AsyncWrap };
    const { async_hook_fields: fields, constants } = binding('async_wrap');
    fields[constants.kCheck] = 0;
  } catch {
    // A Node without this binding has no such checks in JavaScript's reach: an interrupt may end the process.
  }
}
