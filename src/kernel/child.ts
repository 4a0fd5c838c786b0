// The process of the user's code: runs compiled cells one after the other on its main thread, each in
// its own turn of the event loop, and reports output, results and errors to the kernel (protocol.ts).
// An interrupt may end any function here in its middle, at a call or a loop. It is always told of
// afterwards (`interrupted`), and all runs are then reported again that were not reported to the end.
import { randomUUID } from 'node:crypto';
import { pathToFileURL } from 'node:url';
import { compileFunction, constants } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { CommManager } from './comm.ts';
import { createDisplay, type DisplaySink, mimeBundle } from './display.ts';
import { installGlobals } from './globals.ts';
import { bindImports, Imports } from './imports.ts';
import { InterruptListeners } from './interrupts.ts';
import { captureOutput, markEnd, sendToKernel } from './output.ts';
import type { CellError, Delivery, RunRequest, ToChild } from './protocol.ts';
import { RunContexts } from './run-context.ts';
import { Scope } from './scope.ts';
import { StackTraces } from './stack.ts';
import { CellTimers } from './timers.ts';
import { createTslab } from './tslab.ts';

/** One running cell. */
interface Run {
  request: RunRequest;
  pending: Promise<unknown>[];
  finish: (error: CellError | null) => void;
  isDone: boolean;
}

const [helperPath, hooksPath] = process.argv.slice(2) as [string, string];
const session = randomUUID();
const nextTurn = setImmediate;
const reallyExit = process.exit.bind(process);
const inputBuffer = new SharedArrayBuffer(64 * 1024);
const listeners = new InterruptListeners();
const contexts = new RunContexts();
const running = new Map<number, Run>();
/** Comm messages that are being dealt with. */
const handling = new Set<number>();
/** The number of the last message that was taken. */
const taken = new Int32Array(new SharedArrayBuffer(4));
let exitCode: number | string | null | undefined = null;

const currentRun = () => contexts.current().run;
const scope = new Scope();
const traces = new StackTraces((file) => /\bsrc\/kernel\/|\.cache\/peftlab\//.test(file));
const timers = new CellTimers(() => (running.has(currentRun()) ? currentRun() : null));
const sink: DisplaySink = {
  show: (data, { id, update = false, metadata }) =>
    sendToKernel({
      type: 'display',
      run: currentRun(),
      data,
      metadata: metadata as Record<string, unknown>,
      ...(id ? { id } : {}),
      update,
    }),
  clear: (wait) => sendToKernel({ type: 'clear', run: currentRun(), wait }),
  defer: (task) => void running.get(currentRun())?.pending.push(task),
};
const comms = new CommManager(
  (message) => sendToKernel({ type: 'comm', run: currentRun(), message }),
  (open) => sendToKernel({ type: 'comms', comms: open }),
);
const imports = new Imports(
  process.cwd(),
  pathToFileURL(hooksPath).href,
  new Map([['tslab', createTslab(sink, session)]]),
);
const meta = {
  url: pathToFileURL(`${process.cwd()}/notebook.ts`).href,
  dirname: process.cwd(),
  filename: `${process.cwd()}/notebook.ts`,
  resolve: imports.resolve,
};

/** What the debugger reads: all top-level names, and how a value is shown. */
Object.defineProperty(globalThis, Symbol.for('peftlab.scope'), {
  value: () => Object.fromEntries(scope.values()),
});
Object.defineProperty(globalThis, Symbol.for('peftlab.bundle'), { value: mimeBundle });

captureOutput(currentRun);
traces.install();
timers.install();
listeners.install();
const helper = new Worker(helperPath, {
  workerData: { inputBuffer, listening: listeners.count, taken },
  stdout: true,
  stderr: true,
});
const input = installGlobals({
  display: createDisplay(sink, session),
  sink,
  comms,
  inputBuffer,
  require: imports.require(),
  allowsStdin: () => running.get(currentRun())?.request.allowStdin ?? false,
  currentRun,
  messageId: () => contexts.current().messageId,
  exit: (code) => {
    exitCode = code ?? process.exitCode ?? 0;
    helper.postMessage('terminate');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  },
});

/** Compiles the body of a cell (or an expression) into the function to call. */
function prepare(request: { js: string; boxes: string[] }, path: string): () => Promise<unknown> {
  const make = compileFunction(request.js, ['__$import', '__$bind', '__$meta'], {
    filename: path,
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  } as object);
  const bind = (
    specifier: string,
    module: object,
    ...pairs: [string, { name: string; v: unknown }][]
  ) => bindImports(scope, specifier, module, pairs);
  const boxes = request.boxes.map((name) => scope.box(name));
  const body = make(imports.load, bind, meta) as (...boxes: unknown[]) => Promise<unknown>;
  return () => body(...boxes);
}

async function execute(run: Run): Promise<void> {
  const { request } = run;
  traces.add(request.path, request);
  for (const name of request.declares) scope.declare(name);
  const value = await prepare(request, request.path)();
  if (value !== undefined) await showResult(request.run, value);
  while (run.pending.length > 0) await Promise.all(run.pending.splice(0));
}

async function showResult(run: number, value: unknown): Promise<void> {
  const shown = mimeBundle(value);
  const data = shown instanceof Promise ? await shown : shown;
  if (Object.keys(data).length > 0) sendToKernel({ type: 'result', run, data, metadata: {} });
}

async function evaluateAll(request: RunRequest): Promise<Record<string, unknown>> {
  const results: Record<string, unknown> = {};
  for (const [key, expression] of Object.entries(request.expressions)) {
    try {
      if ('ename' in expression) throw expression;
      const value = await prepare(expression, `${request.path}#${key}`)();
      results[key] = { status: 'ok', data: await mimeBundle(value), metadata: {} };
    } catch (error) {
      const described = error === expression ? (error as CellError) : traces.describe(error);
      results[key] = { status: 'error', ...described };
    }
  }
  return results;
}

function start(run: Run): void {
  const { request } = run;
  const go = () =>
    execute(run).then(
      // One more turn: rejections that nobody handles are reported before the cell ends.
      () => nextTurn(() => run.finish(null)),
      (error) => run.finish(traces.describe(error)),
    );
  if (request.isSubshell) contexts.enterBeside(request, go);
  else {
    contexts.enterMain(request);
    go();
  }
}

/** Takes a message in a turn of its own: what ends its code cannot end the taking of the next. */
function take({ number, message }: Delivery): void {
  nextTurn(() => {
    // It came twice, or one before it is missing and comes again.
    if (number !== taken[0]! + 1) return;
    if (message.type === 'run') {
      const run: Run = { request: message, pending: [], isDone: false, finish: () => {} };
      run.finish = (error) => void finish(run, error);
      running.set(message.run, run);
      Atomics.store(taken, 0, number);
      start(run);
    } else if (message.type === 'comm') {
      handling.add(message.run);
      Atomics.store(taken, 0, number);
      receiveComm(message);
    } else {
      Atomics.store(taken, 0, number);
      input.receive(message.value);
    }
  });
}

/** Lets the owner of a comm deal with a message; what it prints and sends belongs to that message. */
function receiveComm(received: ToChild & { type: 'comm' }): void {
  const { run, message } = received;
  contexts.enterBeside(received, async () => {
    try {
      await comms.receive(message);
    } catch (error) {
      process.stderr.write(`${traces.describe(error).traceback.join('\n')}\n`);
    }
    handled(run);
  });
}

function handled(run: number): void {
  if (!handling.has(run)) return;
  helper.postMessage(run);
  sendToKernel({ type: 'handled', run });
  handling.delete(run);
}

async function finish(run: Run, error: CellError | null): Promise<void> {
  if (run.isDone) return;
  run.isDone = true;
  report(run.request.run, error, error ? {} : await evaluateAll(run.request));
}

function report(run: number, error: CellError | null, expressions: Record<string, unknown>): void {
  if (!running.has(run)) return;
  timers.forget(run);
  markEnd(run);
  helper.postMessage(run);
  sendToKernel({ type: 'done', run, error, expressions });
  running.delete(run);
}

/** An interrupt, which came between two turns or has ended one: the cells that were running are over. */
function interrupted(): void {
  const error =
    exitCode === null
      ? cellError('KeyboardInterrupt', 'The cell was interrupted')
      : cellError(
          'ProcessExit',
          `process.exit(${exitCode}) was called; the kernel and its state stay`,
        );
  exitCode = null;
  listeners.clear();
  for (const run of running.values()) {
    run.isDone = true;
    timers.stop(run.request.run);
    report(run.request.run, error, {});
  }
  for (const run of handling) handled(run);
}

function cellError(ename: string, evalue: string): CellError {
  return { ename, evalue, traceback: [`\x1b[1m\x1b[31m${ename}\x1b[0m: ${evalue}`] };
}

/** An error outside the cell's own promise: the running cell fails, or a message says so. */
function stray(error: unknown): void {
  const described = traces.describe(error);
  const run = running.get(currentRun()) ?? [...running.values()].at(-1);
  if (run) run.finish(described);
  else process.stderr.write(`${described.traceback.join('\n')}\n`);
}

process.on('uncaughtException', stray);
process.on('unhandledRejection', stray);
process.on('SIGINT', () => {});
helper.on('message', (said: Delivery | 'ready' | 'terminated' | 'interrupt' | 'closed') => {
  if (said === 'ready') sendToKernel({ type: 'ready' });
  else if (said === 'terminated') nextTurn(interrupted);
  else if (said === 'interrupt' && listeners.tell()) helper.postMessage('stopping');
  else if (said === 'interrupt') interrupted();
  else if (said === 'closed') reallyExit(0);
  else take(said);
});
