// A thread beside the user's code. It stays awake while that code loops: it ends the running
// JavaScript through the inspector, hands over a line of input to code that waits for it, and
// carries the debugger's protocol. Needs `--no-force-async-hooks-checks` on the process.
import { Session } from 'node:inspector';
import { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { frame, readFrames } from './frames.ts';
import { GRACE_MS } from './interrupts.ts';
import { type FromHelper, TO_HELPER, type ToHelper } from './protocol.ts';

const { inputBuffer, listening } = workerData as {
  inputBuffer: SharedArrayBuffer;
  listening: Int32Array;
};
const socket = new Socket({ fd: TO_HELPER, readable: true, writable: true });
const session = new Session();
session.connectToMainThread();

function send(message: FromHelper): void {
  socket.write(frame(message));
}

/** Ends whatever runs on the main thread, then tells it so. */
function terminate(): void {
  session.post('Runtime.terminateExecution', () => parentPort!.postMessage('terminated'));
}

let grace: NodeJS.Timeout | undefined;

/** Tells code that listens, and ends it if it has not stopped in time; ends other code at once. */
function interrupt(): void {
  if (grace) return; // told already: between its last step and its end it listens no more
  if (Atomics.load(listening, 0) === 0) return terminate();
  grace = setTimeout(terminate, GRACE_MS);
  parentPort!.postMessage('interrupt');
}

/** A cell is over: an interrupt that it was told of is none for the next. */
function forgetInterrupt(): void {
  clearTimeout(grace);
  grace = undefined;
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
  else if (message.type === 'input') giveInput(message.value);
  else {
    session.post(message.method, message.params, (error, result) => {
      if (error) send({ type: 'cdp', id: message.id, error: error.message });
      else send({ type: 'cdp', id: message.id, result: (result ?? {}) as object });
    });
  }
});
socket.on('close', () => process.exit(0));

session.on('inspectorNotification', (notification) => {
  const { method, params } = notification as unknown as { method: string; params: object };
  if (method.startsWith('Debugger.')) send({ type: 'event', method, params });
});
parentPort!.on('message', (message) => {
  forgetInterrupt();
  if (message === 'terminate') terminate();
});
parentPort!.postMessage('ready');
