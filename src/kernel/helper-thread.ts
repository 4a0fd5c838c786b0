// A thread beside the user's code. It stays awake while that code loops: it ends the running
// JavaScript through the inspector, hands over a line of input to code that waits for it, and
// carries the debugger's protocol. All messages for the main thread come through it: whatever it ends
// there, also the taking of a message, is made good by giving again what was not taken.
// Needs `--no-force-async-hooks-checks` on the process.
import { Session } from 'node:inspector';
import { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { frame, readFrames } from './frames.ts';
import { GRACE_MS } from './interrupts.ts';
import {
  type Delivery,
  type FromHelper,
  TO_HELPER,
  type ToChild,
  type ToHelper,
} from './protocol.ts';

/** How long a thread that does not loop may need to answer; forcing it then may end Node's own code. */
const ANSWER_MS = 30;
const RETRY_MS = 200;
const ORPHAN_MS = 2000;

const { inputBuffer, listening, taken } = workerData as {
  inputBuffer: SharedArrayBuffer;
  listening: Int32Array;
  /** The number of the last message that the main thread has taken. */
  taken: Int32Array;
};
const socket = new Socket({ fd: TO_HELPER, readable: true, writable: true });
const session = new Session();
session.connectToMainThread();

function send(message: FromHelper): void {
  socket.write(frame(message));
}

/** Messages that the main thread may not have taken, in their order. */
let given: Delivery[] = [];
let deliveries = 0;
/** Cells and comm messages that were given and are not over. */
const active = new Set<number>();

/** Hands a message to the main thread. */
function give(message: ToChild): void {
  const last = Atomics.load(taken, 0);
  given = given.filter(({ number }) => number > last);
  if (message.type !== 'input') active.add(message.run);
  const delivery = { number: ++deliveries, message };
  given.push(delivery);
  parentPort!.postMessage(delivery);
}

/** Ends whatever runs on the main thread, then tells it so. */
function terminate(): void {
  session.post('Runtime.terminateExecution', () => {
    for (const delivery of given) parentPort!.postMessage(delivery);
    parentPort!.postMessage('terminated');
  });
}

/** Runs that an interrupt is for, and the next thing to do if they do not end. */
let ending = new Set<number>();
let next: NodeJS.Timeout | undefined;

/**
 * Asks the main thread to end what is active. If it has no time to answer, its code loops: that is ended by
 * force, again and again until all is over. Code that listens gets longer.
 */
function interrupt(): void {
  // It comes too late, and must not reach the next cell; or it came before.
  if (active.size === 0 || ending.size > 0) return;
  ending = new Set(active);
  parentPort!.postMessage('interrupt');
  forceIn(Atomics.load(listening, 0) > 0 ? GRACE_MS : ANSWER_MS);
}

function force(): void {
  terminate();
  forceIn(RETRY_MS);
}

function forceIn(ms: number): void {
  clearTimeout(next);
  if (ending.size > 0) next = setTimeout(force, ms);
}

/** A cell is over, or a comm message dealt with. */
function over(run: number): void {
  active.delete(run);
  ending.delete(run);
  if (ending.size === 0) clearTimeout(next);
}

/** Input for code that waits synchronously: [state, byte length, bytes]; length -1 means none. */
function giveInput(value: string | null): void {
  const head = new Int32Array(inputBuffer, 0, 2);
  const bytes = Buffer.from(value ?? '', 'utf8').subarray(0, inputBuffer.byteLength - 8);
  new Uint8Array(inputBuffer, 8).set(bytes);
  head[1] = value === null ? -1 : bytes.length;
  Atomics.store(head, 0, 1);
  Atomics.notify(head, 0);
}

readFrames(socket, (value) => {
  const message = value as ToHelper;
  if (message.type === 'interrupt') interrupt();
  else if (message.type === 'input-sync') giveInput(message.value);
  else if (message.type !== 'cdp') give(message);
  else {
    session.post(message.method, message.params, (error, result) => {
      if (error) send({ type: 'cdp', id: message.id, error: error.message });
      else send({ type: 'cdp', id: message.id, result: (result ?? {}) as object });
    });
  }
});
socket.on('close', () => {
  parentPort!.postMessage('closed');
  setTimeout(() => process.kill(process.pid, 'SIGKILL'), ORPHAN_MS);
});

session.on('inspectorNotification', (notification) => {
  const { method, params } = notification as unknown as { method: string; params: object };
  if (method.startsWith('Debugger.')) send({ type: 'event', method, params });
});
parentPort!.on('message', (message: number | 'terminate' | 'stopping') => {
  if (message === 'terminate') terminate();
  else if (message === 'stopping') forceIn(GRACE_MS);
  else over(message);
});
parentPort!.postMessage('ready');
