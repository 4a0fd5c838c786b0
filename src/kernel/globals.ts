// Names that every cell can use (declared for the type checker in env.d.ts): display, progress,
// clearOutput, input, prompt, confirm, Comm, require.
import type { CommManager } from './comm.ts';
import type { createDisplay, DisplaySink } from './display.ts';
import { sendToKernel } from './output.ts';
import { Progress, type ProgressOptions, progressOver, sizeOf } from './progress.ts';

/** What the global functions need of the process. */
export interface Globals {
  display: ReturnType<typeof createDisplay>;
  sink: DisplaySink;
  comms: CommManager;
  inputBuffer: SharedArrayBuffer;
  require: NodeJS.Require;
  allowsStdin: () => boolean;
  currentRun: () => number;
  /** Id of the message that the running code answers. */
  messageId: () => string;
  exit: (code?: number | string | null) => void;
}

/** Takes the answer to an asynchronous `input`. */
export interface InputReceiver {
  receive(value: string | null): void;
}

/** Puts the global functions in place. */
export function installGlobals(globals: Globals): InputReceiver {
  const { display, comms, sink } = globals;
  const waiting: ((value: string | null) => void)[] = [];
  const ask = (prompt: string, password: boolean, sync: boolean): void => {
    if (!globals.allowsStdin()) throw new Error('This front end does not take input (allow_stdin)');
    sendToKernel({ type: 'input', run: globals.currentRun(), prompt, password, sync });
  };
  const input = (prompt = '', { password = false } = {}): Promise<string | null> => {
    ask(prompt, password, false);
    return new Promise((resolve) => waiting.push(resolve));
  };
  const prompt = (message = '', byDefault: string | null = null): string | null => {
    if (!globals.allowsStdin()) return null;
    ask(`${message} `, false, true);
    const value = waitForInput(globals.inputBuffer);
    return value === '' ? byDefault : value;
  };
  const confirm = (message = ''): boolean => /^y(es)?$/i.test(prompt(`${message} [y/N]`) ?? '');
  const progress = <T>(items: Iterable<T> | ProgressOptions, options: ProgressOptions = {}) => {
    const show = (bundle: object) => display(bundle, { raw: true });
    if (!(Symbol.iterator in items)) return new Progress(items, show);
    const total = options.total ?? sizeOf(items);
    return progressOver(
      items,
      new Progress(total === undefined ? options : { ...options, total }, show),
    );
  };
  const clearOutput = (wait = false): void => sink.clear(wait);
  const Comm = {
    open: comms.open.bind(comms),
    registerTarget: comms.registerTarget.bind(comms),
    parentId: globals.messageId,
  };
  const values = {
    ...{ display, progress, clearOutput, input, prompt, confirm, Comm },
    ...{ require: globals.require, __dirname: process.cwd() },
  };
  for (const [name, value] of Object.entries(values)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  }
  process.exit = globals.exit as never;
  return { receive: (value) => waiting.shift()?.(value) };
}

/** Sleeps until the helper thread has put a line into `buffer`. */
function waitForInput(buffer: SharedArrayBuffer): string | null {
  const head = new Int32Array(buffer, 0, 2);
  Atomics.wait(head, 0, 0);
  Atomics.store(head, 0, 0);
  const length = head[1]!;
  if (length < 0) return null;
  return Buffer.from(new Uint8Array(buffer, 8, length)).toString('utf8');
}
