// Two kernels that TensorFlow.js' WASM backend lacks or has slow: products with a transposed operand
// (its own run at a tenth of the speed of plain ones, so the operand is transposed first), and
// UnsortedSegmentSum, the gradient of `tf.gather`. Left out: `segmentIds` of more than one dimension.
import type { KernelFunc, TensorInfo } from '@tensorflow/tfjs';
import * as tf from '@tensorflow/tfjs';
import type { BackendWasm } from '@tensorflow/tfjs-backend-wasm';

type KernelArguments = Parameters<KernelFunc>[0];

/** Puts the two kernels into the WASM backend. Doing so twice changes nothing. */
export function addWasmKernels(): void {
  const own = tf.getKernel('BatchMatMul', 'wasm');
  if (!own || tf.getKernel('UnsortedSegmentSum', 'wasm')) return;
  tf.unregisterKernel('BatchMatMul', 'wasm');
  const kernelFunc: KernelFunc = (call) => matMulPlain(own.kernelFunc, call);
  tf.registerKernel({ ...own, kernelFunc });
  tf.registerKernel({
    kernelName: 'UnsortedSegmentSum',
    backendName: 'wasm',
    kernelFunc: unsortedSegmentSum,
  });
}

/** op(a) op(b), with each transposed operand copied into plain order first. */
function matMulPlain(matMul: KernelFunc, { inputs, attrs, backend }: KernelArguments) {
  const { a, b } = inputs as { a: TensorInfo; b: TensorInfo };
  const { transposeA, transposeB } = attrs as { transposeA: boolean; transposeB: boolean };
  if (transposeB && !transposeA && isShort(a, b))
    return shortTimesTransposed(matMul, a, b, attrs, backend);
  const left = transposeA ? transposed(a, backend) : a;
  const right = transposeB ? transposed(b, backend) : b;
  const plain = { ...attrs, transposeA: false, transposeB: false };
  const product = matMul({ inputs: { a: left, b: right }, attrs: plain, backend });
  if (left !== a) (backend as BackendWasm).disposeData(left.dataId);
  if (right !== b) (backend as BackendWasm).disposeData(right.dataId);
  return product;
}

/** Whether a [M, K] has fewer rows than b [N, K], without batches that would have to match. */
function isShort(a: TensorInfo, b: TensorInfo): boolean {
  const isPlain = [a, b].every(({ shape }) => tf.util.sizeFromShape(shape.slice(0, -2)) === 1);
  return isPlain && a.shape.length === b.shape.length && a.shape.at(-2)! < b.shape.at(-2)!;
}

/** a b^T as (b a^T)^T, so that the short operand is copied and not the long one. */
function shortTimesTransposed(
  matMul: KernelFunc,
  a: TensorInfo,
  b: TensorInfo,
  attrs: KernelArguments['attrs'],
  backend: unknown,
): TensorInfo {
  const plain = { ...attrs, transposeA: false, transposeB: false };
  const column = transposed(a, backend);
  const product = matMul({
    inputs: { a: b, b: column },
    attrs: plain,
    backend: backend as object,
  }) as TensorInfo;
  const out = transposed(product, backend);
  for (const { dataId } of [column, product]) (backend as BackendWasm).disposeData(dataId);
  return out;
}

function transposed(x: TensorInfo, backend: unknown): TensorInfo {
  const rank = x.shape.length;
  const perm = [...x.shape.keys()].slice(0, -2).concat(rank - 1, rank - 2);
  const { kernelFunc } = tf.getKernel('Transpose', 'wasm')!;
  return kernelFunc({ inputs: { x }, attrs: { perm }, backend: backend as object }) as TensorInfo;
}

/** out[s] = sum of x[i] over all i with segmentIds[i] = s; ids outside 0..numSegments-1 are skipped. */
function unsortedSegmentSum(call: KernelArguments): TensorInfo {
  const backend = call.backend as BackendWasm;
  const { x, segmentIds } = call.inputs as { x: TensorInfo; segmentIds: TensorInfo };
  const { numSegments } = call.attrs as unknown as { numSegments: number };
  const [, ...rest] = x.shape;
  const out = backend.makeOutput([numSegments, ...rest], 'float32');
  const width = tf.util.sizeFromShape(rest);
  const sums = backend.typedArrayFromHeap(out).fill(0);
  const values = backend.typedArrayFromHeap(x);
  backend.typedArrayFromHeap(segmentIds).forEach((segment, i) => {
    if (segment < 0 || segment >= numSegments) return;
    for (let j = 0; j < width; j++) sums[segment * width + j]! += values[i * width + j]!;
  });
  return out;
}
