// Random numbers from a counter and a seed, the same in a native graph and in plain JavaScript:
// a 32-bit integer hash of (seed, index), lowbias32 (Wellons 2018), of which the high 24 bits are
// a float in [0, 1). A seed is a tensor, so that one compiled graph draws anew at each call.
import * as tf from '@tensorflow/tfjs';
import type { Graph, Value } from './graph.ts';
import type { Lowering } from './kernels-elementwise.ts';
import { binary, cast, reshape } from './operators.ts';

const FIRST = 0x7feb352d;
const SECOND = 0x846ca68b;
const GOLDEN = 0x9e3779b9;

/**
 * hash(seed, i) / 2^24 for element i: uniform numbers in [0, 1) with 24 bits. `seed` is an int32
 * scalar; the same seed and shape give the same numbers, eagerly and in a `jit`.
 */
export function seededUniform(shape: number[], seed: tf.Tensor): tf.Tensor {
  if (tf.getBackend() === 'trace') {
    return tf.engine().runKernel('SeededUniform', { seed } as unknown as tf.NamedTensorMap, {
      shape,
    }) as tf.Tensor;
  }
  const [start] = seed.dataSync() as Int32Array;
  const salt = hash((start! ^ GOLDEN) >>> 0);
  const values = Float32Array.from(
    { length: tf.util.sizeFromShape(shape) },
    (_, i) => (hash((i ^ salt) >>> 0) >>> 8) / 2 ** 24,
  );
  return tf.tensor(values, shape);
}

function hash(x: number): number {
  let h = Math.imul(x ^ (x >>> 16), FIRST);
  h = Math.imul(h ^ (h >>> 15), SECOND);
  return (h ^ (h >>> 16)) >>> 0;
}

const constant = (g: Graph, x: number) => g.constant(Uint32Array.of(x), [], 'uint32');

function xor(g: Graph, a: Value, b: Value): Value {
  const shape = a.shape.length > b.shape.length ? a.shape : b.shape;
  return g.emit('BitwiseXor', [a, b], shape, 'uint32');
}

function shiftRight(g: Graph, x: Value, count: number): Value {
  const bits = constant(g, count);
  return g.emit('BitShift', [x, bits], x.shape, 'uint32', { direction: 'RIGHT' });
}

/** Products modulo 2^32, which ONNX Runtime has for int32 and not for uint32. */
function times(g: Graph, x: Value, factor: number): Value {
  const product = binary(
    g,
    'Mul',
    cast(g, x, 'int32'),
    g.constant(Int32Array.of(factor), [], 'int32'),
  );
  return cast(g, product, 'uint32');
}

function hashValues(g: Graph, x: Value): Value {
  const first = times(g, xor(g, x, shiftRight(g, x, 16)), FIRST);
  const second = times(g, xor(g, first, shiftRight(g, first, 15)), SECOND);
  return xor(g, second, shiftRight(g, second, 16));
}

const seededUniformGraph: Lowering = (g, { seed }, { shape }) => {
  const size = tf.util.sizeFromShape(shape);
  const salt = hashValues(g, xor(g, cast(g, reshape(g, seed!, []), 'uint32'), constant(g, GOLDEN)));
  const index = g.constant(
    Uint32Array.from({ length: size }, (_, i) => i),
    [size],
    'uint32',
  );
  const bits = shiftRight(g, hashValues(g, xor(g, index, salt)), 8);
  const scaled = binary(g, 'Mul', cast(g, cast(g, bits, 'int32'), 'float32'), g.fill(2 ** -24, []));
  return reshape(g, scaled, shape);
};

/** Kernels by name. */
export const RANDOM: Record<string, Lowering> = { SeededUniform: seededUniformGraph };
