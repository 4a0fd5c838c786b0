// The kernel's handle on the process of the user's code: starts it, runs cells in it, interrupts it,
// and starts a new one when it has died, whatever the reason.
import { type ChildProcess, spawn } from 'node:child_process';
import type { Duplex, Readable } from 'node:stream';
import { StringDecoder } from 'node:string_decoder';
import { frame, readFrames } from './frames.ts';
import {
  type CellError,
  type CommMessage,
  END_MARK,
  FROM_CHILD,
  type FromChild,
  type FromHelper,
  type RunRequest,
  TO_HELPER,
  type ToHelper,
} from './protocol.ts';

/** How a cell ended. */
export interface RunResult {
  error: CellError | null;
  expressions: Record<string, unknown>;
}

/** Scripts that the process is made of. */
export interface ProcessScripts {
  child: string;
  helper: string;
  hooks: string;
}

/** What the kernel wants to hear. */
export interface ProcessEvents {
  message: (message: FromChild) => void;
  /** A new process has taken the place of one that died: all state is gone. */
  replaced: () => void;
  debug: (method: string, params: object) => void;
}

const FLAGS = [
  '--no-force-async-hooks-checks', // without it, ending JavaScript from outside can abort Node
  '--experimental-import-meta-resolve',
  '--disable-warning=ExperimentalWarning',
  '--stack-trace-limit=30',
];

const DOUBLE_CLICK_MS = 300;

/** The error of a cell that was interrupted before it ran. */
export const INTERRUPTED: CellError = {
  ename: 'KeyboardInterrupt',
  evalue: 'The cell was interrupted',
  traceback: ['\x1b[1m\x1b[31mKeyboardInterrupt\x1b[0m: The cell was interrupted'],
};

interface Running {
  resolve: (result: RunResult) => void;
  result: RunResult | null;
  /** Streams whose end mark has not been seen. */
  open: Set<'stdout' | 'stderr'>;
}

/** One after the other, the processes that run the user's code. */
export class UserProcess {
  private readonly scripts: ProcessScripts;
  private readonly events: ProcessEvents;
  private child!: ChildProcess;
  private helper!: Duplex;
  private ready!: Promise<void>;
  private readonly running = new Map<number, Running>();
  /** Comm messages that the process deals with, and how to say that it has. */
  private readonly handling = new Map<number, () => void>();
  private commRuns = 0;
  private lastRun = 0;
  private interruptedAt = 0;
  private isClosing = false;
  private isReady = false;
  private killedByUser = false;
  private errorTail = '';
  private nextCall = 0;
  private readonly calls = new Map<number, (reply: FromHelper & { type: 'cdp' }) => void>();

  constructor(scripts: ProcessScripts, events: ProcessEvents) {
    this.scripts = scripts;
    this.events = events;
    this.spawn();
  }

  private spawn(): void {
    const { child, helper, hooks } = this.scripts;
    this.killedByUser = false;
    this.isReady = false;
    this.errorTail = '';
    this.child = spawn(process.execPath, [...FLAGS, child, helper, hooks], {
      env: userEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
    });
    const started = this.child;
    this.helper = started.stdio[TO_HELPER] as unknown as Duplex;
    this.helper.on('error', () => {});
    this.capture(started.stdout!, 'stdout');
    this.capture(started.stderr!, 'stderr');
    this.ready = new Promise((resolve) => {
      readFrames(started.stdio[FROM_CHILD] as Readable, (value) => {
        const message = value as FromChild;
        if (message.type === 'ready') {
          this.isReady = true;
          resolve();
        } else if (message.type === 'done') this.done(message.run, message);
        else {
          this.events.message(message);
          if (message.type === 'handled') this.handled(message.run);
        }
      });
      started.once('close', () => resolve());
    });
    readFrames(this.helper, (value) => {
      const message = value as FromHelper;
      if (message.type === 'event') this.events.debug(message.method, message.params);
      else this.calls.get(message.id)?.(message);
    });
    started.once('close', (code, signal) => this.died(code, signal));
  }

  /** Runs one cell; resolves when it has ended and all its output has been handed on. */
  async run(request: RunRequest): Promise<RunResult> {
    this.lastRun = request.run;
    const result = new Promise<RunResult>((resolve) => {
      this.running.set(request.run, { resolve, result: null, open: new Set(['stdout', 'stderr']) });
    });
    await this.ready;
    if (this.interruptedAt > 0) this.drop(request.run);
    else this.send(request);
    return result;
  }

  /** Hands over a comm message; its run has a negative number. Resolves when it has been dealt with. */
  receive(messageId: string, message: CommMessage, onRun: (run: number) => void): Promise<void> {
    const run = --this.commRuns;
    onRun(run);
    const done = new Promise<void>((resolve) => this.handling.set(run, resolve));
    this.send({ type: 'comm', run, messageId, message });
    return done;
  }

  private handled(run: number): void {
    this.handling.get(run)?.();
    this.handling.delete(run);
    if (this.isQuiet()) this.interruptedAt = 0;
  }

  private isQuiet(): boolean {
    return this.running.size === 0 && this.handling.size === 0;
  }

  /** Ends the running cells, state kept; asked again while they still run, kills the process. */
  interrupt(): void {
    if (this.isQuiet()) return;
    if (this.interruptedAt > 0) {
      if (Date.now() - this.interruptedAt < DOUBLE_CLICK_MS) return;
      this.killedByUser = true;
      this.child.kill('SIGKILL');
      return;
    }
    this.interruptedAt = Date.now();
    if (this.isReady) this.send({ type: 'interrupt' });
  }

  /** Ends a run that was interrupted before it was sent. */
  private drop(run: number): void {
    const waiting = this.running.get(run);
    this.running.delete(run);
    if (this.isQuiet()) this.interruptedAt = 0;
    waiting?.resolve({ error: INTERRUPTED, expressions: {} });
  }

  /** Answers a cell that waits for input. */
  giveInput(value: string | null, sync: boolean): void {
    this.send({ type: sync ? 'input-sync' : 'input', value });
  }

  /** Calls a method of the Chrome DevTools protocol on the main thread's inspector. */
  debug(method: string, params: object = {}): Promise<Record<string, unknown>> {
    const id = ++this.nextCall;
    return new Promise((resolve, reject) => {
      this.calls.set(id, (reply) => {
        this.calls.delete(id);
        if (reply.error !== undefined) reject(new Error(reply.error));
        else resolve((reply.result ?? {}) as Record<string, unknown>);
      });
      void this.ready.then(() => this.send({ type: 'cdp', id, method, params }));
    });
  }

  /** Ends the process for good. */
  close(): void {
    this.isClosing = true;
    this.child.kill('SIGKILL');
  }

  private send(message: ToHelper): void {
    this.helper.write(frame(message));
  }

  private done(run: number, result: RunResult): void {
    const running = this.running.get(run);
    if (!running) return;
    running.result = { error: result.error, expressions: result.expressions };
    this.settle(run);
  }

  private settle(run: number): void {
    const running = this.running.get(run);
    if (!running?.result || running.open.size > 0) return;
    this.running.delete(run);
    if (this.isQuiet()) this.interruptedAt = 0;
    running.resolve(running.result);
  }

  /** Output of native code and of child processes, up to the end marks that the child writes. */
  private capture(stream: Readable, name: 'stdout' | 'stderr'): void {
    const decoder = new StringDecoder('utf8');
    let held = '';
    stream.on('data', (chunk: Buffer) => {
      held += decoder.write(chunk);
      for (let mark = END_MARK.exec(held); mark; mark = END_MARK.exec(held)) {
        this.captured(name, held.slice(0, mark.index));
        held = held.slice(mark.index + mark[0].length);
        this.closeStream(Number(mark[1]), name);
      }
      const partial = held.lastIndexOf('\0peftlab');
      const keep = partial >= 0 && held.length - partial < 40 ? partial : held.length;
      this.captured(name, held.slice(0, keep));
      held = held.slice(keep);
    });
    stream.on('end', () => {
      this.captured(name, held);
      for (const run of this.running.keys()) this.closeStream(run, name);
    });
  }

  private captured(name: 'stdout' | 'stderr', text: string): void {
    if (text === '') return;
    if (name === 'stderr') this.errorTail = (this.errorTail + text).slice(-4000);
    this.events.message({ type: 'stream', run: this.lastRun, name, text });
  }

  private closeStream(run: number, name: 'stdout' | 'stderr'): void {
    this.running.get(run)?.open.delete(name);
    this.settle(run);
  }

  private died(code: number | null, signal: NodeJS.Signals | null): void {
    if (this.isClosing) return;
    const error = deathNotice(code, signal, this.killedByUser, this.errorTail);
    const lost = [...this.running.values()];
    this.running.clear();
    for (const run of [...this.handling.keys()]) this.handled(run);
    this.interruptedAt = 0;
    for (const call of this.calls.values()) call({ type: 'cdp', id: 0, error: error.evalue });
    this.spawn();
    this.events.replaced();
    for (const run of lost) run.resolve({ error, expressions: {} });
  }
}

/** What the kernel alone needs is kept from user code. */
function userEnvironment(): NodeJS.ProcessEnv {
  const { MALLOC_ARENA_MAX: _arenas, JPY_PARENT_PID: _parent, ...env } = process.env;
  return env;
}

function deathNotice(
  code: number | null,
  signal: NodeJS.Signals | null,
  byUser: boolean,
  errors: string,
): CellError {
  const how = signal ? `signal ${signal}` : `exit code ${code}`;
  const cause = byUser
    ? 'The cell did not stop, so its process was ended'
    : /heap out of memory|Allocation failed/.test(errors)
      ? 'The process of the notebook ran out of memory'
      : `The process of the notebook ended (${how})`;
  const evalue = `${cause}: all variables are lost. A new process is ready; run the cells again from the first.`;
  const ename = byUser ? 'KeyboardInterrupt' : 'ProcessDied';
  return { ename, evalue, traceback: [`\x1b[1m\x1b[31m${ename}\x1b[0m: ${evalue}`] };
}
