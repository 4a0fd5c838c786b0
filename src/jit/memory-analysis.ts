// What a compiled graph holds, after JAX's memory_analysis: bytes that it takes and gives, and the most
// that is alive in between at one time, when its nodes run in order and free what nothing needs any more.
// Left out: what an allocator rounds up, scratch space inside operators.
import type { Node, Value } from './graph.ts';

/** Bytes of a compiled graph. */
export interface GraphMemory {
  /** What it reads: arguments and variables. */
  arguments: number;
  /** What it returns or assigns; a variable's new value may be written over the old one. */
  results: number;
  /** The most that is alive in between. */
  temporaries: number;
}

const WIDTH = { float32: 4, int32: 4, bool: 1, int64: 8, uint8: 1, uint32: 4 } as const;

/** Operators whose result is their first input in another shape: it takes no room. */
const VIEWS = new Set(['Reshape', 'Identity']);

/** Operators that can write over an input of the same size that nothing else needs. */
const OVERWRITING = new Set(
  'Add Sub Mul Div Neg Sqrt Exp Log Sigmoid Tanh Relu Softmax Where Pow Reciprocal Erf'.split(' '),
);

/** Bytes of a graph's inputs and results, and of what lives between them. */
export function memoryAnalysis(
  nodes: readonly Node[],
  inputs: readonly Value[],
  results: readonly Value[],
): GraphMemory {
  const owners = new Map<Value, Value>();
  const owner = (value: Value): Value => owners.get(value) ?? value;
  for (const { op, ins, outs } of nodes) {
    if (VIEWS.has(op)) owners.set(outs[0]!, owner(ins[0]!));
  }
  const outside = new Set([...inputs, ...results].map(owner));
  const isOwn = (value: Value) => !value.data && !outside.has(value);
  const ownIn = (values: readonly (Value | null)[]) =>
    [...new Set(values.flatMap((value) => (value ? [owner(value)] : [])))].filter(isOwn);
  const lastUse = new Map<Value, Node>();
  for (const node of nodes) {
    for (const value of ownIn([...node.ins, ...node.outs])) lastUse.set(value, node);
  }
  let [alive, temporaries] = [0, 0];
  for (const node of nodes) {
    if (VIEWS.has(node.op)) continue;
    const made = ownIn(node.outs);
    const ending = ownIn([...node.ins, ...node.outs]).filter(
      (value) => lastUse.get(value) === node,
    );
    const isReplaced = (value: Value) => made[0] && !made.includes(value) && isLike(value, made[0]);
    const replaced = OVERWRITING.has(node.op) ? ending.find(isReplaced) : undefined;
    alive += sum(made) - (replaced ? bytes(replaced) : 0);
    temporaries = Math.max(temporaries, alive);
    alive -= sum(ending) - (replaced ? bytes(replaced) : 0);
  }
  return { arguments: sum(inputs), results: sum(results), temporaries };
}

const bytes = ({ shape, dtype }: Value) => shape.reduce((a, b) => a * b, 1) * WIDTH[dtype];
const isLike = (a: Value, b: Value) => bytes(a) === bytes(b);
const sum = (values: readonly Value[]) => values.reduce((total, value) => total + bytes(value), 0);
