// Chooses the TensorFlow.js backend: WASM (one thread, 128-bit SIMD) or plain JavaScript.
// Importing this file also keeps TensorFlow.js from writing its banner to stderr.
import { createRequire } from 'node:module';
import { dirname, sep } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { addWasmKernels } from './wasm-kernels.ts';

// PROD only turns warnings off; IS_TEST would too, but adds a leak check to every kernel call.
tf.enableProdMode();

/** Where tensors live: `'wasm'`, `'cpu'` (plain JavaScript), or the fastest that works. */
export type BackendName = 'auto' | 'wasm' | 'cpu';

/**
 * Makes `name` the backend of all tensors made from now on and returns the one in use.
 * `'auto'` (default) takes WASM and falls back to plain JavaScript. Throws if `name` is unknown or
 * can't start.
 */
export async function setBackend(name: BackendName = 'auto'): Promise<string> {
  if (!['auto', 'wasm', 'cpu'].includes(name)) {
    throw new RangeError(`Backend must be 'auto', 'wasm' or 'cpu', got '${name}'`);
  }
  const candidates = name === 'auto' ? ['wasm', 'cpu'] : [name];
  if (candidates.includes('wasm')) {
    const main = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
    setWasmPaths(dirname(main) + sep);
  }
  for (const candidate of candidates) {
    if (!(await tf.setBackend(candidate))) continue;
    if (candidate === 'wasm') addWasmKernels();
    return candidate;
  }
  throw new Error(`Backend '${name}' does not start on this machine`);
}
