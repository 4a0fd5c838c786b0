// TensorFlow.js kernels that move, pick, reduce and multiply, as ONNX operators.
// ScatterND is avoided: ONNX Runtime's adds at equal indices race above one thread (its issue 18048).
import { backend_util, slice_util, util } from '@tensorflow/tfjs';
import { elements, type Graph, MICROSOFT, type Value } from './graph.ts';
import type { Inputs, Lowering } from './kernels-elementwise.ts';
import * as ops from './operators.ts';

const list = (inputs: Inputs) => Object.values(inputs);

/** x with `size` of ones put in or axes taken out. */
const withAxis = (shape: readonly number[], axis: number) => shape.toSpliced(axis, 0, 1);

const expandDims: Lowering = (g, { input }, { dim }) => {
  const axis = dim < 0 ? input!.shape.length + 1 + dim : dim;
  return ops.reshape(g, input!, withAxis(input!.shape, axis));
};

const slice: Lowering = (g, { x }, { begin, size }) => {
  const [from, sizes] = slice_util.parseSliceParams({ shape: x!.shape } as never, begin, size);
  return ops.slice(g, x!, from!, sizes!);
};

const stridedSlice: Lowering = (g, { x }, attributes) => {
  const a = attributes;
  const plan = slice_util.sliceInfo(
    x!.shape,
    a.begin,
    a.end,
    a.strides,
    a.beginMask,
    a.endMask,
    a.ellipsisMask,
    a.newAxisMask,
    a.shrinkAxisMask,
  );
  const { begin, end, strides, finalShape, finalShapeSparse } = plan;
  const axes = [...x!.shape.keys()];
  // ONNX takes the smallest int64 where a negative stride reaches the first element.
  const ends = end.map((to, i) => (strides[i]! < 0 && to < 0 ? -(2 ** 31) : to));
  const inputs = [begin, ends, axes, strides].map((numbers) => g.integers(numbers));
  const cut = g.emit('Slice', [x!, ...inputs], finalShapeSparse, x!.dtype);
  return ops.reshape(g, cut, finalShape);
};

const pack: Lowering = (g, inputs, { axis }) => {
  const parts = list(inputs).map((x) => ops.reshape(g, x, withAxis(x.shape, axis)));
  return ops.concat(g, parts, axis);
};

const unpack: Lowering = (g, { value }, { axis }) => {
  const at = ops.axisOf(axis, value!);
  const shape = value!.shape.toSpliced(at, 1);
  const sizes = Array<number>(value!.shape[at]!).fill(1);
  return ops.split(g, value!, sizes, at).map((part) => ops.reshape(g, part, shape));
};

const splitV: Lowering = (g, { x }, { numOrSizeSplits, axis }) => {
  const at = ops.axisOf(axis, x!);
  const sizes = backend_util.prepareSplitSize({ shape: x!.shape } as never, numOrSizeSplits, at);
  return ops.split(g, x!, sizes, at);
};

const tile: Lowering = (g, { x }, { reps }) => {
  const shape = x!.shape.map((size, i) => size * reps[i]);
  const isBroadcast = x!.shape.every((size, i) => size === 1 || reps[i] === 1);
  if (isBroadcast) return ops.expand(g, x!, shape);
  return g.emit('Tile', [x!, g.integers(reps)], shape, x!.dtype);
};

const pad: Lowering = (g, { x }, { paddings, constantValue }) => {
  const pads = paddings as [number, number][];
  const counts = g.integers([...pads.map(([before]) => before), ...pads.map(([, after]) => after)]);
  const shape = x!.shape.map((size, i) => size + pads[i]![0] + pads[i]![1]);
  return g.emit('Pad', [x!, counts, ops.scalar(g, constantValue, x!.dtype)], shape, x!.dtype);
};

const reverse: Lowering = (g, { x }, { dims }) => {
  const axes = ops.axesOf(dims, x!);
  if (axes.length === 0) return x!;
  const numbers = [axes.map(() => -1), axes.map(() => -(2 ** 31)), axes, axes.map(() => -1)];
  const inputs = numbers.map((each) => g.integers(each));
  return g.emit('Slice', [x!, ...inputs], x!.shape, x!.dtype);
};

/** Rows of x by index; with `batchDims` the leading axes of x and indices go together. */
const gather: Lowering = (g, { x, indices }, { axis, batchDims = 0 }) => {
  const at = ops.axisOf(axis, x!);
  const [before, after] = [x!.shape.slice(0, at), x!.shape.slice(at + 1)];
  const shape = [...before, ...indices!.shape.slice(batchDims), ...after];
  if (!batchDims) return g.emit('Gather', [x!, indices!], shape, x!.dtype, { axis: at });
  if (batchDims !== at) throw new Error('GatherV2 with batchDims before the axis');
  // [B..., S, rest] with indices [B..., I...]: each index is repeated over the rest.
  const batch = x!.shape.slice(0, batchDims);
  const count = util.sizeFromShape(indices!.shape.slice(batchDims));
  const rest = util.sizeFromShape(after);
  const rows = ops.reshape(g, x!, [...batch, x!.shape[at]!, rest]);
  const picked = ops.expand(g, ops.reshape(g, indices!, [...batch, count, 1]), [
    ...batch,
    count,
    rest,
  ]);
  const out = g.emit('GatherElements', [rows, picked], picked.shape, x!.dtype, { axis: at });
  return ops.reshape(g, out, shape);
};

/** out[index] += row, over a first axis of `rows`; indices outside are an error at run time. */
function scatterRows(g: Graph, rows: number, indices: Value, updates: Value): Value {
  const count = util.sizeFromShape(indices.shape);
  const width = util.sizeFromShape(updates.shape) / count;
  const at = ops.expand(g, ops.reshape(g, indices, [count, 1]), [count, width]);
  const flat = ops.reshape(g, updates, [count, width]);
  const zeros = g.fill(0, [rows, width], updates.dtype);
  const attributes = { axis: 0, reduction: 'add' };
  return g.emit('ScatterElements', [zeros, at, flat], [rows, width], updates.dtype, attributes);
}

/** Number of the element at an index of `shape`: [..., D] to [...]. */
function flatIndex(g: Graph, indices: Value, shape: readonly number[]): Value {
  const depth = indices.shape.at(-1)!;
  const strides = Int32Array.from({ length: depth }, (_, i) =>
    util.sizeFromShape(shape.slice(i + 1, depth)),
  );
  const terms = ops.multiply(g, indices, g.constant(strides, [depth], 'int32'));
  return ops.reduce(g, 'ReduceSum', terms, -1);
}

const scatterNd: Lowering = (g, { indices, updates }, { shape }) => {
  const depth = indices!.shape.at(-1)!;
  const rows = util.sizeFromShape(shape.slice(0, depth));
  const out = scatterRows(g, rows, flatIndex(g, indices!, shape), updates!);
  return ops.reshape(g, out, shape);
};

const gatherNd: Lowering = (g, { params, indices }) => {
  const depth = indices!.shape.at(-1)!;
  const rest = params!.shape.slice(depth);
  const rows = ops.reshape(g, params!, [
    util.sizeFromShape(params!.shape.slice(0, depth)),
    ...rest,
  ]);
  const at = flatIndex(g, indices!, params!.shape);
  return g.emit('Gather', [rows, at], [...at.shape, ...rest], params!.dtype, { axis: 0 });
};

const unsortedSegmentSum: Lowering = (g, { x, segmentIds }, { numSegments }) => {
  const rest = x!.shape.slice(segmentIds!.shape.length);
  return ops.reshape(g, scatterRows(g, numSegments, segmentIds!, x!), [numSegments, ...rest]);
};

const oneHot: Lowering = (g, { indices }, { depth, onValue, offValue, dtype }) => {
  // A comparison and not OneHot, which counts negative indices from the end; out of range is off.
  const columns = g.constant(
    Int32Array.from({ length: depth }, (_, i) => i),
    [depth],
    'int32',
  );
  const at = ops.reshape(g, indices!, [...indices!.shape, 1]);
  const hit = ops.binary(g, 'Equal', at, columns, 'bool');
  if (onValue === 1 && offValue === 0) return ops.cast(g, hit, dtype);
  const [on, off] = [onValue, offValue].map((x) => ops.scalar(g, x, dtype));
  return ops.where(g, hit, on!, off!);
};

const select: Lowering = (g, { condition, t, e }) => {
  const isVector = condition!.shape.length === 1 && t!.shape.length > 1;
  const shape = [condition!.shape[0]!, ...t!.shape.slice(1).map(() => 1)];
  return ops.where(g, isVector ? ops.reshape(g, condition!, shape) : condition!, t!, e!);
};

const sum =
  (op: string, attribute = 'axis'): Lowering =>
  (g, { x }, attributes) =>
    ops.reduce(g, op, x!, attributes[attribute], attributes.keepDims);

const logical =
  (op: string): Lowering =>
  (g, { x }, { axis, keepDims }) =>
    ops.cast(g, ops.reduce(g, op, ops.cast(g, x!, 'int32'), axis, keepDims), 'bool');

const argument =
  (op: string): Lowering =>
  (g, { x }, { axis }) => {
    const at = ops.axisOf(axis, x!);
    const shape = x!.shape.toSpliced(at, 1);
    const numbers = x!.dtype === 'bool' ? ops.cast(g, x!, 'int32') : x!;
    const found = g.emit(op, [numbers], shape, 'int64', { axis: at, keepdims: 0 });
    return ops.cast(g, found, 'int32');
  };

const cumulative: Lowering = (g, { x }, { axis, exclusive, reverse: backwards }) => {
  const attributes = { exclusive: Number(exclusive), reverse: Number(backwards) };
  const at = ops.scalar(g, ops.axisOf(axis, x!), 'int32');
  return g.emit('CumSum', [x!, at], x!.shape, x!.dtype, attributes);
};

const topK: Lowering = (g, { x }, { k, sorted }) => {
  const shape = x!.shape.with(-1, k);
  const [values, indices] = g.emitAll(
    'TopK',
    [x!, g.integers([k])],
    [
      { shape, dtype: x!.dtype },
      { shape, dtype: 'int64' },
    ],
    { axis: -1, largest: 1, sorted: Number(sorted) },
  );
  return [values!, ops.cast(g, indices!, 'int32')];
};

const einsum: Lowering = (g, inputs, { equation }) => {
  const values = list(inputs);
  const { allDims, summedDims, idDims } = backend_util.decodeEinsumEquation(
    equation,
    values.length,
  );
  const sizes: number[] = [];
  for (const [i, dims] of idDims.entries()) {
    for (const [j, dim] of dims.entries()) sizes[dim] = values[i]!.shape[j]!;
  }
  const kept = allDims.length - summedDims.length;
  return g.emit('Einsum', values, sizes.slice(0, kept), values[0]!.dtype, { equation });
};

const fusedMatMul: Lowering = (g, { a, b, bias, preluActivationWeights }, attributes) => {
  const { transposeA, transposeB, activation = 'linear', leakyreluAlpha } = attributes;
  const product = ops.matMul(g, a!, b!, transposeA, transposeB);
  const y = bias ? ops.binary(g, 'Add', product, bias) : product;
  if (activation === 'linear') return y;
  if (activation === 'relu') return ops.unary(g, 'Relu', y);
  if (activation === 'sigmoid') return ops.unary(g, 'Sigmoid', y);
  throw new Error(
    `activation '${activation}' of tf.fused.matMul (${leakyreluAlpha ?? preluActivationWeights ?? ''})`,
  );
};

const range: Lowering = (g, _, { start, stop, step, dtype = 'float32' }) => {
  const size = Math.max(0, Math.ceil((stop - start) / step));
  const data = elements(dtype, size) as Float32Array;
  for (const i of data.keys()) data[i] = start + i * step;
  return g.constant(data, [size], dtype);
};

/** Kernels by their TensorFlow.js names. */
export const ARRAY: Record<string, Lowering> = {
  Identity: (_, { x }) => x!,
  Reshape: (g, { x }, { shape }) =>
    ops.reshape(g, x!, util.inferFromImplicitShape(shape, util.sizeFromShape(x!.shape))),
  ExpandDims: expandDims,
  Transpose: (g, { x }, { perm }) => ops.transpose(g, x!, perm),
  Cast: (g, { x }, { dtype }) => ops.cast(g, x!, dtype),
  Slice: slice,
  StridedSlice: stridedSlice,
  Concat: (g, inputs, { axis }) => ops.concat(g, list(inputs), ops.axisOf(axis, list(inputs)[0]!)),
  SplitV: splitV,
  Pack: pack,
  Unpack: unpack,
  Tile: tile,
  PadV2: pad,
  Reverse: reverse,
  GatherV2: gather,
  GatherNd: gatherNd,
  ScatterNd: scatterNd,
  UnsortedSegmentSum: unsortedSegmentSum,
  OneHot: oneHot,
  Select: select,
  Range: range,
  Fill: (g, _, { shape, value, dtype }) => g.fill(value, shape, dtype ?? 'float32'),
  ZerosLike: (g, { x }) => g.fill(0, x!.shape, x!.dtype),
  OnesLike: (g, { x }) => g.fill(1, x!.shape, x!.dtype),
  Sum: sum('ReduceSum'),
  Mean: (g, { x }, { axis, keepDims }) =>
    ops.reduce(g, 'ReduceMean', ops.cast(g, x!, 'float32'), axis, keepDims),
  Max: sum('ReduceMax', 'reductionIndices'),
  Min: sum('ReduceMin'),
  Prod: sum('ReduceProd'),
  All: logical('ReduceMin'),
  Any: logical('ReduceMax'),
  ArgMax: argument('ArgMax'),
  ArgMin: argument('ArgMin'),
  Cumsum: cumulative,
  TopK: topK,
  BatchMatMul: (g, { a, b }, { transposeA, transposeB }) =>
    ops.matMul(g, a!, b!, transposeA, transposeB),
  _FusedMatMul: fusedMatMul,
  Einsum: einsum,
  Softmax: (g, { logits }, { dim }) =>
    g.emit('Softmax', [logits!], logits!.shape, logits!.dtype, { axis: ops.axisOf(dim, logits!) }),
};

/** Cosines and sines of all positions as ONNX Runtime's cache, and where each position is in it. */
const rotary: Lowering = (g, { x, cos, sin }) => {
  const [batch, , length] = x!.shape as [number, number, number, number];
  const [tables, , , half] = cos!.shape as [number, number, number, number];
  const positions = BigInt64Array.from({ length: batch * length }, (_, i) =>
    BigInt(tables === 1 ? i % length : i),
  );
  const at = g.constant(positions, [batch, length], 'int64');
  const cache = (table: Value) => ops.reshape(g, table, [tables * length, half]);
  const inputs = [x!, at, cache(cos!), cache(sin!)];
  const attributes = { interleaved: 0 };
  return g.emit('RotaryEmbedding', inputs, x!.shape, 'float32', attributes, MICROSOFT);
};

/** Kernels of the graph alone: what `fused.ts` calls while a function is traced. */
export const NATIVE: Record<string, Lowering> = {
  NativeRMSNorm: (g, { x, weight }, { eps }) => {
    const size = x!.shape.at(-1)!;
    const rows = ops.reshape(g, x!, [util.sizeFromShape(x!.shape) / size, size]);
    const outs = [rows.shape, [rows.shape[0]!, 1]].map((shape) => ({ shape, dtype: rows.dtype }));
    const attributes = { axis: -1, epsilon: { float: eps }, stash_type: 1 };
    const [y, r] = g.emitAll('SimplifiedLayerNormalization', [rows, weight!], outs, attributes);
    return [ops.reshape(g, y!, x!.shape), ops.reshape(g, r!, x!.shape.with(-1, 1))];
  },
  NativeCachedAttention: (g, inputs, { heads, groups, scale }) => {
    const { query, key, value, pastKey, pastValue, last, total } = inputs;
    const outs = [query!, pastKey!, pastValue!].map(({ shape, dtype }) => ({ shape, dtype }));
    const ins = [query!, key!, value!, pastKey!, pastValue!, last!, total!];
    const attributes = { num_heads: heads, kv_num_heads: groups, scale: { float: scale } };
    return g.emitAll('GroupQueryAttention', ins, outs, attributes, MICROSOFT);
  },
  NativeSilu: (g, { x }) =>
    ops.unary(g, 'QuickGelu', x!, 'float32', { alpha: { float: 1 } }, MICROSOFT),
  NativeRotary: rotary,
  NativeMatMulBnb4: (g, { x, packed, scales }, { rows, blocksize, quantType }) => {
    const [count, columns] = x!.shape as [number, number];
    const attributes = {
      K: columns,
      N: rows,
      block_size: blocksize,
      quant_type: quantType === 'nf4' ? 1 : 0,
      training_mode: 0,
      transB: 1,
    };
    return g.emit(
      'MatMulBnb4',
      [x!, packed!, scales!],
      [count, rows],
      'float32',
      attributes,
      MICROSOFT,
    );
  },
  NativeGatherElements: (g, { x, indices }, { axis }) =>
    g.emit('GatherElements', [x!, indices!], indices!.shape, x!.dtype, { axis }),
  NativeScatterAdd: (g, { x, indices, updates }, { axis }) =>
    g.emit('ScatterElements', [x!, indices!, updates!], x!.shape, x!.dtype, {
      axis,
      reduction: 'add',
    }),
};
