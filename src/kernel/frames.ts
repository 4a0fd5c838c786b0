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

/** Writes all of `bytes` to `fd`, waiting while a non-blocking pipe is full. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += writeSome(fd, bytes, done);
}

const NOTHING: Uint8Array = new Uint8Array(0);

/** Writes frames to `fd`. A frame in which its writer was ended is completed before the next. */
export class FrameWriter {
  private readonly fd: number;
  private bytes = NOTHING;
  private done = 0;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** Writes one frame, waiting until the pipe has taken all of it. */
  write(value: unknown): void {
    const bytes = frame(value);
    this.flush();
    this.done = 0;
    this.bytes = bytes;
    this.flush();
    this.bytes = NOTHING;
  }

  private flush(): void {
    while (this.done < this.bytes.length) this.done += writeSome(this.fd, this.bytes, this.done);
  }
}

/** Writes what a non-blocking pipe takes; waits a moment if it is full. */
function writeSome(fd: number, bytes: Uint8Array, from: number): number {
  try {
    return writeSync(fd, bytes, from);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') throw error;
    Atomics.wait(PAUSE, 0, 0, 1);
    return 0;
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
