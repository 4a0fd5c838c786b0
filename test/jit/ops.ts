// One case for each op of TensorFlow.js that the library uses: inputs by shape, and the function.
import * as tf from '@tensorflow/tfjs';

/** How the inputs of a case are drawn. */
type Draw = 'normal' | 'positive' | 'unit' | 'int' | 'bool';

/** An op on inputs of these shapes; `gradient: false` where TensorFlow.js has none. */
export interface OpCase {
  name: string;
  inputs: { shape: number[]; draw?: Draw; below?: number }[];
  run: (...inputs: tf.Tensor[]) => tf.Tensor | tf.Tensor[];
  gradient?: boolean;
}

const one = (
  name: string,
  run: (x: tf.Tensor) => tf.Tensor | tf.Tensor[],
  draw: Draw = 'normal',
  gradient = true,
): OpCase => ({ name, inputs: [{ shape: [3, 4, 5], draw }], run, gradient });

const PAIRS: [number[], number[]][] = [
  [
    [3, 4],
    [3, 4],
  ],
  [[3, 4], [4]],
  [[], [2, 3]],
  [
    [2, 1, 4],
    [3, 1],
  ],
];

const two = (
  name: string,
  run: (a: tf.Tensor, b: tf.Tensor) => tf.Tensor,
  draw: Draw = 'normal',
  gradient = true,
): OpCase[] =>
  PAIRS.map(([a, b]) => ({
    name: `${name} of [${a}] and [${b}]`,
    inputs: [
      { shape: a, draw },
      { shape: b, draw },
    ],
    run,
    gradient,
  }));

/** TensorFlow.js' own gradients of some ops don't sum over broadcast axes. */
const sameShapeGradient = (op: OpCase): OpCase => ({
  ...op,
  gradient: String(op.inputs[0]!.shape) === String(op.inputs[1]!.shape),
});

const UNARY: OpCase[] = [
  one('abs', tf.abs),
  one('neg', tf.neg),
  one('exp', tf.exp),
  one('expm1', tf.expm1),
  one('log', tf.log, 'positive'),
  one('log1p', tf.log1p, 'positive'),
  one('sqrt', tf.sqrt, 'positive'),
  one('rsqrt', tf.rsqrt, 'positive'),
  one('square', tf.square),
  one('reciprocal', tf.reciprocal, 'positive'),
  one('sigmoid', tf.sigmoid),
  one('logSigmoid', tf.logSigmoid),
  one('tanh', tf.tanh),
  one('relu', tf.relu),
  one('softplus', tf.softplus),
  one('elu', tf.elu),
  one('selu', tf.selu),
  one('leakyRelu', (x) => tf.leakyRelu(x, 0.1)),
  one('erf', tf.erf),
  one('sin', tf.sin),
  one('cos', tf.cos),
  one('sign', tf.sign),
  one('floor', tf.floor),
  one('ceil', tf.ceil),
  one('round', (x) => tf.round(tf.mul(x, 3)), 'normal', false),
  one('step', (x) => tf.step(x)),
  one('isNaN', tf.isNaN, 'normal', false),
  one('isFinite', tf.isFinite, 'normal', false),
  one('clipByValue', (x) => tf.clipByValue(x, -0.5, 0.7)),
  one('logicalNot', tf.logicalNot, 'bool', false),
  one('softmax', (x) => tf.softmax(x)),
  one('logSoftmax', (x) => tf.logSoftmax(x)),
  one('zerosLike', (x) => tf.add(tf.zerosLike(x), x)),
  one('onesLike', (x) => tf.add(tf.onesLike(x), x)),
];

const BINARY: OpCase[] = [
  ...two('add', tf.add),
  ...two('sub', tf.sub),
  ...two('mul', tf.mul),
  ...two('div', tf.div, 'positive'),
  ...two('maximum', tf.maximum).map(sameShapeGradient),
  ...two('minimum', tf.minimum).map(sameShapeGradient),
  ...two('pow', tf.pow, 'positive'),
  ...two('squaredDifference', tf.squaredDifference).map(sameShapeGradient),
  ...two('mod', tf.mod, 'positive', false),
  ...two('floorDiv', (a, b) => tf.floorDiv(a, tf.add(b, tf.scalar(1, 'int32'))), 'int', false),
  ...two('equal', tf.equal, 'int', false),
  ...two('notEqual', tf.notEqual, 'int', false),
  ...two('less', tf.less, 'normal', false),
  ...two('lessEqual', tf.lessEqual, 'int', false),
  ...two('greater', tf.greater, 'normal', false),
  ...two('greaterEqual', tf.greaterEqual, 'int', false),
  ...two('logicalAnd', tf.logicalAnd, 'bool', false),
  ...two('logicalOr', tf.logicalOr, 'bool', false),
  ...two('logicalXor', tf.logicalXor, 'bool', false),
  ...two('add of integers', tf.add, 'int', false),
  ...two('mul of integers', tf.mul, 'int', false),
];

const REDUCTIONS: OpCase[] = [
  one('sum', (x) => tf.sum(x, 1)),
  one('sum of all', (x) => tf.sum(x)),
  one('sum that keeps axes', (x) => tf.sum(x, [0, 2], true)),
  one('sum of booleans', (x) => tf.sum(x, 1), 'bool', false),
  one('mean', (x) => tf.mean(x, -1)),
  one('max', (x) => tf.max(x, 1)),
  one('min', (x) => tf.min(x, -1)),
  one('prod', (x) => tf.prod(x, 1), 'normal', false),
  one('all', (x) => tf.all(x, 1), 'bool', false),
  one('any', (x) => tf.any(x, 2), 'bool', false),
  one('argMax', (x) => tf.argMax(x, 1), 'normal', false),
  one('argMin', (x) => tf.argMin(x, 0), 'normal', false),
  one('logSumExp', (x) => tf.logSumExp(x, 1)),
  one('norm', (x) => tf.norm(x, 2, -1), 'positive'),
  one('moments', (x) => Object.values(tf.moments(x, 1)) as tf.Tensor[]),
  one('cumsum of the last axis', (x) => tf.cumsum(x, 2)),
  one('cumsum', (x) => tf.cumsum(x, 1), 'normal', false),
  one('exclusive reverse cumsum', (x) => tf.cumsum(x, 2, true, true)),
  one('topk', (x) => tf.topk(x, 2).values, 'normal', false),
];

const LAYOUT: OpCase[] = [
  one('reshape', (x) => tf.reshape(x, [5, 12])),
  one('transpose', (x) => tf.transpose(x, [2, 0, 1])),
  one('expandDims', (x) => tf.expandDims(x, 1)),
  one('squeeze', (x) => tf.squeeze(tf.expandDims(x, 1))),
  one('slice', (x) => tf.slice(x, [1, 0, 2], [2, 3, -1])),
  one('stridedSlice', (x) => tf.stridedSlice(x, [0, 0, 4], [3, 4, 0], [2, 1, -2]), 'normal', false),
  one('split', (x) => tf.split(x, [1, 3, 1], 2)),
  one('unstack', (x) => tf.unstack(x, 1)),
  one('stack', (x) => tf.stack([x, tf.mul(x, 2)], 1)),
  one('concat', (x) => tf.concat([x, tf.square(x)], 1)),
  one('tile', (x) => tf.tile(x, [2, 1, 3])),
  one('pad', (x) =>
    tf.pad(
      x,
      [
        [1, 0],
        [0, 2],
        [1, 1],
      ],
      0.5,
    ),
  ),
  one('range', (x) => tf.add(x, tf.range(0, 10, 2))),
  one('reverse', (x) => tf.reverse(x, [1])),
  one('broadcastTo', (x) => tf.broadcastTo(tf.slice(x, [0, 0, 0], [1, 4, 5]), [3, 4, 5])),
  one('cast to int32', (x) => tf.cast(tf.mul(x, 3), 'int32'), 'normal', false),
  one('cast to bool', (x) => tf.cast(tf.relu(x), 'bool'), 'normal', false),
  one('cast from int32', (x) => tf.cast(x, 'float32'), 'int', false),
  one('oneHot', (x) => tf.oneHot(tf.cast(x, 'int32'), 6), 'int', false),
  {
    name: 'where',
    inputs: [{ shape: [3, 4], draw: 'bool' }, { shape: [3, 4] }, { shape: [4] }],
    run: (c, a, b) => tf.where(c!, a!, b!),
  },
  {
    name: 'gather of rows, some twice',
    inputs: [{ shape: [6, 4] }, { shape: [3, 5], draw: 'int', below: 6 }],
    run: (x, at) => tf.gather(x!, at as tf.Tensor2D),
  },
  {
    name: 'gather of columns',
    inputs: [{ shape: [3, 6] }, { shape: [4], draw: 'int', below: 6 }],
    run: (x, at) => tf.gather(x!, at as tf.Tensor1D, 1),
  },
  {
    name: 'gather per row',
    inputs: [{ shape: [3, 6] }, { shape: [3, 2], draw: 'int', below: 6 }],
    run: (x, at) => tf.gather(x!, at as tf.Tensor2D, 1, 1),
    gradient: false,
  },
  {
    name: 'unsortedSegmentSum',
    inputs: [{ shape: [7, 3] }, { shape: [7], draw: 'int', below: 4 }],
    run: (x, at) => tf.unsortedSegmentSum(x!, at as tf.Tensor1D, 4),
  },
  {
    name: 'layer norm by moments',
    inputs: [{ shape: [2, 3, 8] }, { shape: [8] }, { shape: [8] }],
    run: (x, w, b) => {
      const { mean, variance } = tf.moments(x!, -1, true);
      return tf.add(tf.mul(tf.mul(tf.sub(x!, mean), tf.rsqrt(tf.add(variance, 1e-5))), w!), b!);
    },
  },
];

const flags = [false, true];
const PRODUCTS: OpCase[] = flags.flatMap((ta) =>
  flags.flatMap((tb): OpCase[] => {
    const a = (m: number, k: number) => (ta ? [k, m] : [m, k]);
    const b = (k: number, n: number) => (tb ? [n, k] : [k, n]);
    const run = (x: tf.Tensor, y: tf.Tensor) => tf.matMul(x, y, ta, tb);
    const name = (shapes: string) => `matMul ${shapes}, transposed ${ta} and ${tb}`;
    return [
      { name: name('2D'), inputs: [{ shape: a(3, 5) }, { shape: b(5, 4) }], run: run as never },
      {
        name: name('batched'),
        inputs: [{ shape: [2, 3, ...a(3, 5)] }, { shape: [2, 3, ...b(5, 4)] }],
        run: run as never,
      },
      {
        name: name('batched by one matrix'),
        inputs: [{ shape: [2, ...a(3, 5)] }, { shape: [1, ...b(5, 4)] }],
        run: run as never,
        gradient: false,
      },
    ];
  }),
);

/** All of them. */
export const OPS: OpCase[] = [...UNARY, ...BINARY, ...REDUCTIONS, ...LAYOUT, ...PRODUCTS];

/** Inputs of a case, drawn anew for each seed. */
export function drawInputs({ inputs }: OpCase, seed: number): tf.Tensor[] {
  return inputs.map(({ shape, draw = 'normal', below = 4 }, i) => {
    const s = seed * 31 + i;
    if (draw === 'int') return tf.randomUniform(shape, 0, below, 'int32', s);
    if (draw === 'bool')
      return tf.cast(tf.greater(tf.randomUniform(shape, 0, 1, 'float32', s), 0.5), 'bool');
    if (draw === 'positive') return tf.randomUniform(shape, 0.5, 2, 'float32', s);
    return tf.randomNormal(shape, 0, 1, 'float32', s);
  });
}
