// Builders of graph values with the shape worked out, and what can be simplified on the way: moves
// that cancel out, arithmetic on constants, broadcasts that an operator does by itself.
import { backend_util, util } from '@tensorflow/tfjs';
import { type Attribute, type ElementType, type Graph, MICROSOFT, type Value } from './graph.ts';

const same = (a: readonly number[], b: readonly number[]) =>
  util.arraysEqual(a as number[], b as number[]);
const broadcast = (a: number[], b: number[]) => backend_util.assertAndGetBroadcastShape(a, b);

/** Whether x is one number. */
const isScalar = (x: Value) => x.uniform !== undefined && x.shape.length === 0;

/** A constant scalar. */
export function scalar(g: Graph, x: number, dtype: ElementType = 'float32'): Value {
  return g.fill(x, [], dtype);
}

/** x in another shape of the same size. */
export function reshape(g: Graph, x: Value, shape: readonly number[]): Value {
  if (same(x.shape, shape)) return x;
  if (x.uniform !== undefined) return g.fill(x.uniform, shape, x.dtype);
  if (x.data) return g.constant(x.data, shape, x.dtype);
  if (x.node?.op === 'Reshape') return reshape(g, x.node.ins[0]!, shape);
  return g.emit('Reshape', [x, g.integers(shape)], shape, x.dtype);
}

/** x broadcast to `shape`. */
export function expand(g: Graph, x: Value, shape: readonly number[]): Value {
  if (same(x.shape, shape)) return x;
  if (x.uniform !== undefined) return g.fill(x.uniform, shape, x.dtype);
  const from = x.node?.op === 'Expand' ? x.node.ins[0]! : x;
  return g.emit('Expand', [from, g.integers(shape)], shape, x.dtype);
}

/** Axes of x in the order `perm`. */
export function transpose(g: Graph, x: Value, perm: readonly number[]): Value {
  if (perm.every((p, i) => p === i)) return x;
  if (x.node?.op === 'Transpose') {
    const inner = x.node.attributes.perm as number[];
    return transpose(
      g,
      x.node.ins[0]!,
      perm.map((p) => inner[p]!),
    );
  }
  const shape = perm.map((p) => x.shape[p]!);
  const long = perm.filter((p) => x.shape[p] !== 1);
  if (long.every((p, i) => i === 0 || long[i - 1]! < p)) return reshape(g, x, shape);
  return g.emit('Transpose', [x], shape, x.dtype, { perm: [...perm] });
}

/** One element after another: same shape; `dtype` that of x unless given. */
export function unary(
  g: Graph,
  op: string,
  x: Value,
  dtype: ElementType = x.dtype,
  attributes: Record<string, Attribute> = {},
  domain = '',
): Value {
  const inner = flatter(x);
  if (inner) return reshape(g, unary(g, op, inner, dtype, attributes, domain), x.shape);
  return g.emit(op, [x], x.shape, dtype, attributes, domain);
}

const ARITHMETIC: Record<string, (a: number, b: number) => number> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
};

/** a op b with broadcasting. */
export function binary(
  g: Graph,
  op: string,
  a: Value,
  b: Value,
  dtype: ElementType = a.dtype,
): Value {
  const shape = broadcast(a.shape, b.shape);
  const simple = a.dtype === 'float32' ? simplified(g, op, a, b, shape) : undefined;
  if (simple) return simple;
  const before = beforeReshape(g, a, b) ?? beforeReshape(g, b, a)?.reverse();
  if (before) return reshape(g, binary(g, op, before[0]!, before[1]!, dtype), shape);
  const left = shrunk(g, a, b, shape);
  const right = shrunk(g, b, left, shape);
  return g.emit(op, [left, right], shape, dtype);
}

/** What x was before it got its shape, if that was a matrix or had fewer axes than x. */
function flatter(x: Value): Value | undefined {
  const inner = x.node?.op === 'Reshape' ? x.node.ins[0]! : undefined;
  const axes = inner?.shape.length ?? 0;
  return axes >= 2 && axes < x.shape.length ? inner : undefined;
}

/**
 * What `reshaped` was before it got its shape, and `other` in a shape that fits it: so that products
 * stay matrices, which scale and add by themselves. Undefined unless one element meets the same one.
 */
function beforeReshape(g: Graph, reshaped: Value, other: Value): [Value, Value] | undefined {
  const inner = flatter(reshaped);
  if (!inner) return undefined;
  if (same(other.shape, reshaped.shape)) return [inner, reshape(g, other, inner.shape)];
  const first = other.shape.findIndex((size) => size !== 1);
  const own = first < 0 ? [] : other.shape.slice(first);
  const tail = (shape: number[]) => shape.slice(shape.length - own.length);
  const isTail = own.length <= Math.min(inner.shape.length, reshaped.shape.length);
  if (!isTail || other.shape.length > reshaped.shape.length) return undefined;
  if (!same(tail(inner.shape), tail(reshaped.shape))) return undefined;
  return own.every((size, i) => size === 1 || size === tail(inner.shape)[i])
    ? [inner, reshape(g, other, own)]
    : undefined;
}

/** a op b where a number or an operand already tells the result. */
function simplified(
  g: Graph,
  op: string,
  a: Value,
  b: Value,
  shape: readonly number[],
): Value | undefined {
  const fold = ARITHMETIC[op];
  if (!fold) return undefined;
  if (a.uniform !== undefined && b.uniform !== undefined) {
    return g.fill(Math.fround(fold(a.uniform, b.uniform)), shape);
  }
  if ((op === 'Mul' || op === 'Div') && b.uniform === 1) return expand(g, a, shape);
  if (op === 'Mul' && a.uniform === 1) return expand(g, b, shape);
  if ((op === 'Add' || op === 'Sub') && b.uniform === 0) return expand(g, a, shape);
  if (op === 'Add' && a.uniform === 0) return expand(g, b, shape);
  if (op === 'Div' && b.uniform && Number.isInteger(Math.log2(Math.abs(b.uniform)))) {
    return binary(g, 'Mul', a, scalar(g, 1 / b.uniform));
  }
  return undefined;
}

/** x without the broadcast that the operator does by itself, as long as y still gives the shape. */
function shrunk(g: Graph, x: Value, y: Value, shape: number[]): Value {
  if (x.uniform !== undefined && same(y.shape, shape)) return scalar(g, x.uniform, x.dtype);
  const inner = x.node?.op === 'Expand' ? x.node.ins[0]! : undefined;
  return inner && same(broadcast(inner.shape, y.shape), shape) ? inner : x;
}

/** a * b. */
export const multiply = (g: Graph, a: Value, b: Value) => binary(g, 'Mul', a, b);

/** condition ? a : b, all three broadcast. */
export function where(g: Graph, condition: Value, a: Value, b: Value): Value {
  const shape = broadcast(broadcast(condition.shape, a.shape), b.shape);
  return g.emit('Where', [condition, a, b], shape, a.dtype);
}

const TYPE_NUMBERS: Record<ElementType, number> = {
  float32: 1,
  uint8: 2,
  int32: 6,
  int64: 7,
  bool: 9,
  uint32: 12,
};

/** x as another type: floats are cut towards zero, anything but 0 is true. */
export function cast(g: Graph, x: Value, dtype: ElementType): Value {
  if (x.dtype === dtype) return x;
  if (x.uniform !== undefined && Number.isFinite(x.uniform)) {
    const kept = dtype === 'float32' ? x.uniform : Math.trunc(x.uniform);
    return g.fill(dtype === 'bool' ? Number(x.uniform !== 0) : kept, x.shape, dtype);
  }
  return g.emit('Cast', [x], x.shape, dtype, { to: TYPE_NUMBERS[dtype] });
}

/** Sorted positive axes; all of them for undefined. */
export function axesOf(axis: number | number[] | undefined, x: Value): number[] {
  return util.parseAxisParam(axis as number[], x.shape).sort((p, q) => p - q);
}

/** One axis as a positive number. */
export const axisOf = (axis: number, x: Value) => axesOf(axis, x)[0]!;

/** A reduction such as ReduceSum over axes. */
export function reduce(
  g: Graph,
  op: string,
  x: Value,
  axis: number | number[] | undefined,
  keepDims = false,
): Value {
  const axes = axesOf(axis, x);
  const kept = x.shape.map((size, i) => (axes.includes(i) ? 1 : size));
  const shape = keepDims ? kept : x.shape.filter((_, i) => !axes.includes(i));
  if (axes.every((i) => x.shape[i] === 1)) return reshape(g, x, shape);
  return g.emit(op, [x, g.integers(axes)], shape, x.dtype, { keepdims: Number(keepDims) });
}

/** op(a) op(b) of matrices [M, K] and [K, N]. */
export function gemm(g: Graph, a: Value, b: Value, transA: boolean, transB: boolean): Value {
  const shape = [a.shape[transA ? 1 : 0]!, b.shape[transB ? 0 : 1]!];
  const attributes = { transA: Number(transA), transB: Number(transB) };
  return g.emit('Gemm', [a, b], shape, 'float32', attributes);
}

/** op(a) op(b) over the last two axes, those before them broadcast. */
export function matMul(g: Graph, a: Value, b: Value, transA = false, transB = false): Value {
  const [batchA, batchB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const rows = a.shape.at(transA ? -1 : -2)!;
  const columns = b.shape.at(transB ? -2 : -1)!;
  const shape = [...broadcast(batchA, batchB), rows, columns];
  const [countA, countB] = [util.sizeFromShape(batchA), util.sizeFromShape(batchB)];
  const flatB = () => reshape(g, b, b.shape.slice(-2));
  if (countB === 1 && (countA === 1 || !transA)) {
    const matrix = transA ? a.shape.slice(-2) : [countA * rows, a.shape.at(-1)!];
    return reshape(g, gemm(g, reshape(g, a, matrix), flatB(), transA, transB), shape);
  }
  const attributes = { transA: Number(transA), transB: Number(transB) };
  return g.emit('FusedMatMul', [a, b], shape, 'float32', attributes, MICROSOFT);
}

/** The part of x from `begin` with the sizes `size`; -1 is all that is left. */
export function slice(
  g: Graph,
  x: Value,
  begin: readonly number[],
  size: readonly number[],
): Value {
  const shape = size.map((n, i) => (n === -1 ? x.shape[i]! - begin[i]! : n));
  if (same(shape, x.shape)) return x;
  if (x.uniform !== undefined) return g.fill(x.uniform, shape, x.dtype);
  const axes = [...shape.keys()].filter((i) => shape[i] !== x.shape[i]);
  const from = axes.map((i) => begin[i]!);
  const to = axes.map((i) => begin[i]! + shape[i]!);
  return g.emit('Slice', [x, g.integers(from), g.integers(to), g.integers(axes)], shape, x.dtype);
}

/** x cut along an axis into parts of these sizes. */
export function split(g: Graph, x: Value, sizes: readonly number[], axis: number): Value[] {
  if (sizes.length === 1) return [x];
  const outs = sizes.map((size) => ({ shape: x.shape.with(axis, size), dtype: x.dtype }));
  return g.emitAll('Split', [x, g.integers(sizes)], outs, { axis });
}

/** Values one after another along an axis. */
export function concat(g: Graph, values: readonly Value[], axis: number): Value {
  const parts = values.filter(({ shape }) => util.sizeFromShape(shape) > 0);
  if (parts.length === 0) return values[0]!;
  if (parts.length === 1) return parts[0]!;
  const length = parts.reduce((sum, { shape }) => sum + shape[axis]!, 0);
  return g.emit('Concat', [...parts], parts[0]!.shape.with(axis, length), parts[0]!.dtype, {
    axis,
  });
}

/** x to the power y; common powers without logarithms. */
export function power(g: Graph, x: Value, y: Value): Value {
  if (x.dtype !== 'float32') return binary(g, 'Pow', x, y);
  const root = () => unary(g, 'Sqrt', x);
  if (isScalar(y) || y.shape.every((size) => size === 1)) {
    if (y.uniform === 1) return expand(g, x, broadcast(x.shape, y.shape));
    if (y.uniform === 2) return reshape(g, multiply(g, x, x), broadcast(x.shape, y.shape));
    if (y.uniform === 0.5) return reshape(g, root(), broadcast(x.shape, y.shape));
  }
  return binary(g, 'Pow', x, y);
}
