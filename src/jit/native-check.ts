// Whether the native path can be trusted here: ONNX Runtime is installed, starts, and multiplies two
// matrices as arithmetic says. Found out once, at the first use.
import { createRequire } from 'node:module';
import { NativeGraph, type NativeOptions, nativeTensor } from './native.ts';

/** What was found, and what to do about it if it is not usable. */
export type NativeState =
  | { usable: true; version: string }
  | { usable: false; reason: string; advice: string };

let state: NativeState | undefined;
let setting: NativeOptions | undefined;

/** Whether graphs can run natively on this machine. The first call starts the thread: about 0.1 s. */
export function nativeState(): NativeState {
  state ??= check();
  return state;
}

/** Switches native runs on, with these options, or off. */
export function useNative(options: NativeOptions | undefined): void {
  setting = options;
}

/** How graphs are to run; undefined when they are not to. */
export const nativeOptions = (): NativeOptions | undefined => setting;

function check(): NativeState {
  let version: string;
  try {
    const require = createRequire(import.meta.url);
    require.resolve('onnxruntime-node');
    ({ version } = require('onnxruntime-node/package.json') as { version: string });
  } catch {
    return {
      usable: false,
      reason: 'onnxruntime-node is not installed',
      advice: 'npm install onnxruntime-node',
    };
  }
  const error = selfTest();
  if (error === undefined) return { usable: true, version };
  return {
    usable: false,
    reason: `onnxruntime-node ${version} does not work here: ${error}`,
    advice: `it has binaries for Linux, Windows and macOS on ARM; this is ${process.platform} ${process.arch}`,
  };
}

/** What providers other than the CPU's need that the npm package does not bring. */
const NEEDS: Record<string, string> = {
  cuda: "an NVIDIA GPU with CUDA 12 and cuDNN 9, and on Linux x64 'ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node', which downloads its CUDA library",
  tensorrt: "what 'cuda' needs, and TensorRT 10",
  webgpu: 'a GPU that Vulkan (Linux: libvulkan1 and its driver), Direct3D 12 or Metal knows',
  dml: 'Windows with Direct3D 12',
  coreml: 'macOS',
};

/** Throws if graphs can't run on these execution providers, with what they need. */
export function checkProviders({ executionProviders = [], ...options }: NativeOptions): void {
  for (const provider of executionProviders) {
    const needs = NEEDS[provider];
    const error = needs && selfTest({ ...options, executionProviders: [provider, 'cpu'] });
    if (!error) continue;
    throw new Error(`Execution provider '${provider}' does not start here; it needs ${needs}`, {
      cause: error,
    });
  }
}

/** What is wrong with A B for a small A and B, if anything. */
function selfTest(options: NativeOptions = {}): string | undefined {
  const size = 8;
  const shape = [size, size];
  const a = Float32Array.from({ length: size * size }, (_, i) => (i % 7) - 3);
  const b = Float32Array.from({ length: size * size }, (_, i) => (i % 5) - 2);
  const wanted = a.map((_, at) => {
    const [row, column] = [Math.floor(at / size), at % size];
    return b.reduce(
      (sum, _b, k) => (k < size ? sum + a[row * size + k]! * b[k * size + column]! : sum),
      0,
    );
  });
  try {
    const edge = (name: string) => ({ name, shape, dtype: 'float32' as const });
    const gemm = { op: 'Gemm', domain: '', ins: ['a', 'b'], outs: ['c'], attributes: {} };
    const edges = { inputs: [edge('a'), edge('b')], outputs: [edge('c')] };
    const graph = new NativeGraph({ nodes: [gemm], ...edges, initializers: [] }, options);
    const inputs = [nativeTensor(a, shape), nativeTensor(b, shape)];
    const [product] = graph.run(inputs);
    const found = product!.dataSync();
    for (const tensor of [...inputs, product!]) tensor.dispose();
    graph.dispose();
    const isRight = wanted.every((x, i) => x === found[i]);
    return isRight ? undefined : 'its products are wrong';
  } catch (error) {
    return (error as Error).message;
  }
}
