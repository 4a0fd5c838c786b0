// The graph that a trace writes: nodes are ONNX operators, values their inputs and outputs.
// Equal nodes and equal small constants are made once (common-subexpression elimination).
import * as tf from '@tensorflow/tfjs';

/** Element types of values: TensorFlow.js' three, and four that only graphs have. */
export type ElementType = 'float32' | 'int32' | 'bool' | 'int64' | 'uint8' | 'uint32';

/** Numbers of one value. */
export type ElementArray = Float32Array | Int32Array | Uint8Array | BigInt64Array | Uint32Array;

/** An attribute of a node; `{ float }` marks numbers that ONNX stores as floats. */
export type Attribute = number | string | number[] | { float: number };

/** The inputs of a node that follow `ins`, or a value of the graph: a tensor with a known shape. */
export interface Value {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: ElementType;
  /** The node that makes it; undefined for inputs and constants. */
  node?: Node;
  /** The numbers of a constant; a large one of equal elements makes them when it is asked. */
  readonly data?: ElementArray;
  /** What all elements of a constant are, if they are equal. */
  uniform?: number;
}

/** One ONNX operator; a missing optional input is null. */
export interface Node {
  op: string;
  /** '' for ONNX' own operators, 'com.microsoft' for ONNX Runtime's. */
  domain: string;
  ins: (Value | null)[];
  attributes: Record<string, Attribute>;
  outs: Value[];
  /** What a Scan does with each block; it may also use values of the graph around it: `ins` ends with them. */
  body?: { nodes: Node[]; ins: Value[]; outs: Value[] };
}

/** ONNX Runtime's own operators. */
export const MICROSOFT = 'com.microsoft';

const ARRAYS = {
  float32: Float32Array,
  int32: Int32Array,
  bool: Uint8Array,
  int64: BigInt64Array,
  uint8: Uint8Array,
  uint32: Uint32Array,
};

/** A zeroed array that holds `size` elements of `dtype`. */
export function elements(dtype: ElementType, size: number): ElementArray {
  return new ARRAYS[dtype](size);
}

function filled(dtype: ElementType, size: number, number: number): ElementArray {
  const data = elements(dtype, size);
  return data instanceof BigInt64Array ? data.fill(BigInt(number)) : data.fill(number);
}

/** Equal elements above this number are not held, neither here nor in the model. */
export const LARGE = 4096;

/** Nodes in the order in which they run. */
export class Graph {
  readonly nodes: Node[] = [];
  private readonly known = new Map<string, Value[]>();
  private readonly constants = new Map<string, Value>();
  private count = 0;

  /** A value that comes from outside. */
  input(shape: readonly number[], dtype: ElementType): Value {
    return { id: this.count++, shape: [...shape], dtype };
  }

  /** A value known now; equal small ones are the same value. */
  constant(data: ElementArray, shape: readonly number[], dtype: ElementType): Value {
    const uniform = uniformOf(data);
    const content = uniform ?? (data.length <= 64 ? data.join() : undefined);
    const key = `${dtype}|${shape}|${uniform === undefined ? '' : 'u'}${signed(content)}`;
    const before = content === undefined ? undefined : this.constants.get(key);
    if (before) return before;
    const value: Value = { ...this.input(shape, dtype), data };
    if (uniform !== undefined) value.uniform = uniform;
    if (content !== undefined) this.constants.set(key, value);
    return value;
  }

  /** A constant of one number, in any shape. */
  fill(number: number, shape: readonly number[], dtype: ElementType = 'float32'): Value {
    const size = tf.util.sizeFromShape([...shape]);
    if (size <= LARGE || dtype === 'int64')
      return this.constant(filled(dtype, size, number), shape, dtype);
    const uniform = uniformOf(filled(dtype, 1, number))!;
    const key = `${dtype}|${shape}|u${signed(uniform)}`;
    const value: Value = this.constants.get(key) ?? {
      ...this.input(shape, dtype),
      uniform,
      get data() {
        return filled(dtype, size, number);
      },
    };
    this.constants.set(key, value);
    return value;
  }

  /** A vector of int64, as ONNX wants shapes and axes. */
  integers(numbers: readonly number[]): Value {
    return this.constant(BigInt64Array.from(numbers.map(BigInt)), [numbers.length], 'int64');
  }

  /** The output of a node, which is added unless there is an equal one. */
  emit(
    op: string,
    ins: (Value | null)[],
    shape: readonly number[],
    dtype: ElementType,
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): Value {
    return this.emitAll(op, ins, [{ shape, dtype }], attributes, domain)[0]!;
  }

  /** As `emit`, for nodes with several outputs. */
  emitAll(
    op: string,
    ins: (Value | null)[],
    outs: { shape: readonly number[]; dtype: ElementType }[],
    attributes: Record<string, Attribute> = {},
    domain = '',
  ): Value[] {
    const from = ins.map((value) => value?.id ?? '-').join();
    const key = `${op}|${domain}|${from}|${JSON.stringify(attributes)}|${JSON.stringify(outs)}`;
    const before = this.known.get(key);
    if (before) return before;
    const node: Node = { op, domain, ins, attributes, outs: [] };
    node.outs = outs.map(({ shape, dtype }) => ({ ...this.input(shape, dtype), node }));
    this.nodes.push(node);
    this.known.set(key, node.outs);
    return node.outs;
  }
}

/** The number that all elements are, if there is one; int64 has none. */
function uniformOf(data: ElementArray): number | undefined {
  if (data instanceof BigInt64Array || data.length === 0) return undefined;
  const first = data[0]!;
  return data.every((x) => Object.is(x, first)) ? first : undefined;
}

/** Adds to the list that a map has for a key. */
export function append<K, V>(lists: Map<K, V[]>, key: K, value: V): void {
  const list = lists.get(key);
  if (list) list.push(value);
  else lists.set(key, [value]);
}

/** Tells -0 from 0 in a key. */
const signed = (x: unknown) => (Object.is(x, -0) ? '-0' : String(x));
