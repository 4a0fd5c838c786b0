// A thread beside the user's code. It stays awake while that code loops: it ends the running
// JavaScript through the inspector, hands over a line of input to code that waits for it, and
// carries the debugger's protocol. Needs `--no-force-async-hooks-checks` on the process.
import { Session } from 'node:inspector';
import { Socket } from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { frame, readFrames } from './frames.ts';
import { type FromHelper, TO_HELPER, type ToHelper } from './protocol.ts';

const { inputBuffer } = workerData as { inputBuffer: SharedArrayBuffer };
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
  if (message.type === 'interrupt') terminate();
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
parentPort!.on('message', terminate);
parentPort!.postMessage('ready');
