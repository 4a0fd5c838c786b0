// Length-framed values between the kernel and the process of the user's code:
// [uint32 LE length][structured clone bytes (v8.serialize)], over pipes.
import { writeSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { deserialize, serialize } from 'node:v8';

const HEAD = 4;

/** The bytes of one frame. */
export function frame(value: unknown): Buffer {
  const body = serialize(value);
  const head = Buffer.allocUnsafe(HEAD);
  head.writeUInt32LE(body.length);
  return Buffer.concat([head, body]);
}

/** Writes one frame to `fd`, waiting until the pipe has taken all of it. */
export function writeFrame(fd: number, value: unknown): void {
  writeAll(fd, frame(value));
}

/** Writes all of `bytes` to `fd`, waiting while a non-blocking pipe is full. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
      Atomics.wait(PAUSE, 0, 0, 1);
    }
  }
}

const PAUSE = new Int32Array(new SharedArrayBuffer(4));

/** Calls `receive` with each value whose frame has arrived whole on `stream`. */
export function readFrames(stream: Readable, receive: (value: unknown) => void): void {
  let chunks: Buffer[] = [];
  let have = 0;
  let need = -1;
  stream.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    have += chunk.length;
    while (have >= (need < 0 ? HEAD : need)) {
      const all = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
      if (need < 0) {
        need = all.readUInt32LE(0);
        chunks = [all.subarray(HEAD)];
        have -= HEAD;
      } else {
        chunks = [all.subarray(need)];
        have -= need;
        const body = all.subarray(0, need);
        need = -1;
        receive(deserialize(body));
      }
    }
  });
}
