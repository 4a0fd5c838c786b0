// Chooses how tensors are computed: native graphs by `jit` beside eager WASM, or one eager backend.
import { type EagerBackend, startEager, TENSORFLOW_PACKAGES } from '../tensor/backend.ts';
import type { NativeOptions } from './native.ts';
import { checkProviders, nativeState, useNative } from './native-check.ts';

/** What computes: see `setBackend`. */
export type BackendName = 'auto' | 'native' | 'wasm' | 'tensorflow' | 'cpu';

const NAMES: BackendName[] = ['auto', 'native', 'wasm', 'tensorflow', 'cpu'];

/** Providers of ONNX Runtime that its npm package or a build of it can have. */
const PROVIDERS = ['cpu', 'cuda', 'webgpu', 'tensorrt', 'dml', 'coreml'];

/**
 * Chooses the backend of everything that follows and returns the one in use.
 *
 * - `'native'`: functions compiled by `jit` run in ONNX Runtime, on `threads` cores or by another of
 *   its `executionProviders` (`['cuda', 'cpu']`); eager ops run on WASM.
 * - `'wasm'`, `'cpu'` (plain JavaScript), `'tensorflow'` (`@tensorflow/tfjs-node-gpu` or
 *   `tfjs-node`, when installed): everything runs eagerly, `jit` functions too.
 * - `'auto'` (default): native where it works, else WASM, told once on stdout, else plain JavaScript.
 *
 * Throws if the name is none of these, or if the backend or a provider doesn't work here.
 */
export async function setBackend(
  name: BackendName = 'auto',
  options: NativeOptions = {},
): Promise<Exclude<BackendName, 'auto'>> {
  if (!NAMES.includes(name)) {
    throw new RangeError(`Backend must be one of ${NAMES.join(', ')}, got '${name}'`);
  }
  checkOptions(options);
  useNative(undefined);
  if (name === 'auto') return automatic(options);
  if (name === 'native') {
    const state = nativeState();
    if (!state.usable) {
      throw new Error(`Backend 'native' does not start: ${state.reason}; ${state.advice}`);
    }
    checkProviders(options);
    await startEager('wasm');
    useNative(options);
    return name;
  }
  if (await startEager(name)) return name;
  const advice = name === 'tensorflow' ? `; install ${TENSORFLOW_PACKAGES.join(' or ')}` : '';
  throw new Error(`Backend '${name}' does not start on this machine${advice}`);
}

let told = false;

async function automatic(options: NativeOptions): Promise<Exclude<BackendName, 'auto'>> {
  const eager: EagerBackend = (await startEager('wasm')) ? 'wasm' : 'cpu';
  if (eager === 'cpu') await startEager('cpu');
  const state = nativeState();
  if (state.usable) {
    useNative(options);
    return 'native';
  }
  if (!told) console.log(`Training runs on ${eager}, since ${state.reason} (${state.advice})`);
  told = true;
  return eager;
}

function checkOptions({ threads, executionProviders }: NativeOptions): void {
  if (threads !== undefined && !(Number.isInteger(threads) && threads > 0)) {
    throw new RangeError(`threads must be a positive integer, got ${threads}`);
  }
  for (const provider of executionProviders ?? []) {
    if (PROVIDERS.includes(provider)) continue;
    throw new RangeError(
      `executionProviders must be of ${PROVIDERS.join(', ')}, got '${provider}'`,
    );
  }
}
