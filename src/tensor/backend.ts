// Starts the TensorFlow.js backend on which eager ops run: WASM (one thread, 128-bit SIMD), plain
// JavaScript, or TensorFlow's own library where the user has installed it.
// Importing this file also keeps TensorFlow.js from writing its banner to stderr.
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as tf from '@tensorflow/tfjs';
import { setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { addWasmKernels } from './wasm-kernels.ts';

// PROD only turns warnings off; IS_TEST would too, but adds a leak check to every kernel call.
tf.enableProdMode();

/** Where eager tensors live: WASM, plain JavaScript, or TensorFlow's library. */
export type EagerBackend = 'wasm' | 'cpu' | 'tensorflow';

/** Packages that bring TensorFlow's library, the fastest first. Neither is a dependency. */
export const TENSORFLOW_PACKAGES = ['@tensorflow/tfjs-node-gpu', '@tensorflow/tfjs-node'];

/** Makes `name` the backend of all tensors made from now on; false if it can't start here. */
export async function startEager(name: EagerBackend): Promise<boolean> {
  if (name === 'tensorflow' && !(await loadTensorflow())) return false;
  if (name === 'wasm') {
    const main = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
    setWasmPaths(dirname(main) + sep);
  }
  if (!(await tf.setBackend(name))) return false;
  if (name === 'wasm') addWasmKernels();
  return true;
}

/**
 * Loads TensorFlow's library, which registers itself as the backend 'tensorflow'. It is looked for
 * beside this package and in the folder where the process runs.
 */
async function loadTensorflow(): Promise<boolean> {
  if (tf.engine().registryFactory.tensorflow) return true;
  for (const from of [import.meta.url, pathToFileURL(join(process.cwd(), 'package.json')).href]) {
    for (const name of TENSORFLOW_PACKAGES) {
      try {
        createRequire(from)(name);
      } catch {
        continue;
      }
      if (tf.engine().registryFactory.tensorflow) return true;
    }
  }
  return false;
}
