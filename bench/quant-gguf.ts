// GGUF's simple types beside gguf-py, bitsandbytes' formats beside itself and GPTQ beside torch, in turns in
// one run; medians in ms. `npm run bench -- quant` runs it, with the QLoRA step.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {
  dequantize4bit,
  dequantizeBlockwise,
  dequantizeGguf,
  GptqHessian,
  quantize4bit,
  quantizeBlockwise,
  quantizeGguf,
  quantizeGptq,
  RandomState,
  setBackend,
} from 'peftlab';
import { peersPython } from '../test/peers-live/python.ts';
import { median, type Row, row } from './report.ts';
import { settle } from './settle.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));

/** Runs of each contestant in a turn, and turns; the first turn warms up. */
const RUNS = 3;
const TURNS = 5;

interface Task {
  peer: string;
  /** The largest allowed ratio, where one was set. */
  target: number | null;
  run: () => void | Promise<void>;
}

/** Numbers like those of a trained layer. */
function normal(size: number, seed: number): Float32Array {
  const random = new RandomState(seed);
  return Float32Array.from({ length: size }, () => random.normal());
}

function tasks(): Record<string, Task> {
  const columns = 4096;
  const x = normal(columns * columns, 0);
  const quantize = (type: string): Task => ({
    peer: 'gguf-py',
    target: 1,
    run: () => void quantizeGguf(x, type, columns),
  });
  const dequantize = (type: string): Task => {
    const blocks = quantizeGguf(x, type, columns);
    return { peer: 'gguf-py', target: null, run: () => void dequantizeGguf(blocks, type) };
  };
  return {
    ...bitsandbytesTasks(x, columns),
    'Q4_0 quantize': quantize('Q4_0'),
    'Q8_0 quantize': quantize('Q8_0'),
    'Q4_0 dequantize': dequantize('Q4_0'),
    'Q8_0 dequantize': dequantize('Q8_0'),
    GPTQ: { peer: 'torch', target: 1, run: gptqLayer() },
  };
}

/** NF4 with and without double quantization, and the dynamic 8-bit map in blocks of 4096. */
function bitsandbytesTasks(x: Float32Array, columns: number): Record<string, Task> {
  const peer = 'bitsandbytes';
  const weight = tf.tensor2d(x, [columns, columns]);
  const made: Record<string, Task> = {};
  for (const compressStatistics of [false, true]) {
    const name = compressStatistics ? 'NF4, double quantization' : 'NF4';
    const options = { quantType: 'nf4', compressStatistics } as const;
    const { packed, quantState } = quantize4bit(weight, options);
    made[`${name}, quantize`] = {
      ...{ peer, target: compressStatistics ? null : 0.5 },
      run: () => void quantize4bit(weight, options),
    };
    made[`${name}, dequantize`] = {
      ...{ peer, target: compressStatistics ? null : 1 },
      run: async () => {
        const tensor = dequantize4bit(packed, quantState);
        await settle();
        tensor.dispose();
      },
    };
  }
  const blocks = quantizeBlockwise(x);
  made['8-bit blockwise, quantize'] = { peer, target: null, run: () => void quantizeBlockwise(x) };
  made['8-bit blockwise, dequantize'] = {
    ...{ peer, target: null },
    run: () => void dequantizeBlockwise(blocks),
  };
  return made;
}

/** 1024 x 1024, 4 bits, groups of 128, 128 sequences of 64 tokens. */
function gptqLayer(): () => void {
  const [tokens, size] = [128 * 64, 1024];
  const weight = tf.tensor2d(normal(size * size, 1), [size, size]);
  const inputs = tf.tidy(() => {
    const mixed = tf.matMul(
      tf.tensor2d(normal(tokens * 64, 2), [tokens, 64]),
      tf.tensor2d(normal(64 * size, 3), [64, size]),
    );
    return tf.reshape(tf.add(mixed, tf.tensor2d(normal(tokens * size, 4), [tokens, size])), [
      128,
      64,
      size,
    ]) as tf.Tensor3D;
  });
  return () => {
    const hessian = new GptqHessian(size);
    hessian.addBatch(inputs);
    quantizeGptq(weight, hessian, { groupSize: 128 });
    hessian.dispose();
  };
}

/** A Python process that runs tasks by name. */
class Peer {
  private readonly process;
  private readonly lines: AsyncIterator<string>;

  constructor(python: string, threads: number) {
    const environment = { ...process.env, OMP_NUM_THREADS: String(threads) };
    this.process = spawn(python, [path('./quant-gguf.py'), String(threads)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: environment,
    });
    this.lines = createInterface({ input: this.process.stdout })[Symbol.asyncIterator]();
  }

  async run(name: string): Promise<number[]> {
    this.process.stdin.write(`${JSON.stringify([name, RUNS])}\n`);
    const { value, done } = await this.lines.next();
    if (done) throw new Error(`The peer of '${name}' ended before its turn`);
    return (JSON.parse(value) as number[]).map((seconds) => seconds * 1000);
  }

  end(): void {
    this.process.stdin.end();
  }
}

/** The rows of this bench; without Python those of peftlab alone. */
export async function ggufRows(): Promise<Row[]> {
  await setBackend('auto');
  const python = peersPython();
  const peer = python ? new Peer(python, 2) : undefined;
  const rows: Row[] = [];
  for (const [name, { peer: label, target, run }] of Object.entries(tasks())) {
    const [ours, theirs]: [number[], number[]] = [[], []];
    for (let turn = 0; turn < TURNS; turn++) {
      const own = await time(run);
      const other = peer ? await peer.run(name) : [];
      if (turn > 0) ours.push(...own);
      if (turn > 0) theirs.push(...other);
    }
    const compared = peer ? { theirs: median(theirs), peer: label, target } : {};
    rows.push(row(name, 'ms', median(ours), compared));
  }
  peer?.end();
  return rows;
}

async function time(run: Task['run']): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < RUNS; i++) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  return times;
}
