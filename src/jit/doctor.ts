// `peftlab doctor`: which backends this machine has, how fast each multiplies, and what would help.
import { availableParallelism, cpus, totalmem } from 'node:os';
import * as tf from '@tensorflow/tfjs';
import { type BackendName, setBackend } from './backend.ts';
import { jit } from './jit.ts';
import { nativeState } from './native-check.ts';

/** One backend: its GFLOP/s (10^9 multiplications and additions a second), or why there are none. */
export interface BackendReport {
  name: Exclude<BackendName, 'auto'>;
  detail: string;
  gflops?: number;
  /** What to do to have it, or to have it faster. */
  advice?: string;
}

/** What was found, and which backend `setBackend('auto')` takes. */
export interface Diagnosis {
  machine: string;
  used: Exclude<BackendName, 'auto'>;
  backends: BackendReport[];
}

/** Tries every backend and times each; takes about two seconds and leaves `'auto'` set. */
export async function diagnose(): Promise<Diagnosis> {
  const backends: BackendReport[] = [];
  for (const name of ['native', 'tensorflow', 'wasm', 'cpu'] as const) {
    backends.push(await report(name));
  }
  const used = await setBackend('auto');
  const memory = `${(totalmem() / 2 ** 30).toFixed(0)} GB`;
  const model = cpus()[0]?.model.trim() ?? process.arch;
  const machine = `${model}, ${availableParallelism()} cores, ${memory}, Node ${process.versions.node}`;
  return { machine, used, backends };
}

const DETAILS = {
  native: 'onnxruntime-node',
  tensorflow: "TensorFlow's library",
  wasm: 'WebAssembly, 128-bit SIMD, one thread',
  cpu: 'plain JavaScript',
};

async function report(name: BackendReport['name']): Promise<BackendReport> {
  try {
    await setBackend(name);
  } catch (error) {
    const [detail, advice] = (error as Error).message.split('; ');
    return { name, detail: detail!, ...(advice ? { advice } : {}) };
  }
  const state = nativeState();
  const version = name === 'native' && state.usable ? ` ${state.version}` : '';
  const gflops = await measure(name === 'cpu' ? 128 : 512);
  return { name, detail: `${DETAILS[name]}${version}`, gflops };
}

/** The best rate of a few products of two [size, size] matrices, four at a time. */
async function measure(size: number): Promise<number> {
  const chain = jit((x: tf.Tensor, y: tf.Tensor) => {
    let z = x;
    for (let i = 0; i < 4; i++) z = tf.matMul(z, y);
    return tf.sum(z);
  });
  const [x, y] = [0, 1].map((seed) => tf.randomUniform([size, size], 0, 1 / size, 'float32', seed));
  let best = 0;
  for (let i = 0; i < 8; i++) {
    const start = performance.now();
    const sum = chain(x!, y!);
    await sum.data();
    best = Math.max(best, (4 * 2 * size ** 3) / (performance.now() - start) / 1e6);
    sum.dispose();
  }
  tf.dispose([x!, y!]);
  chain.dispose();
  return best;
}
