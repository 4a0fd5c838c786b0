// Long chains of elementwise work on large tensors, block by block: a block stays in the cache through
// all of the chain, where node after node would read and write memory. An optimizer's update is such
// a chain. ONNX's Scan goes over the blocks, and reads and writes them where they are.
import { util } from '@tensorflow/tfjs';
import { append, type Graph, type Node, type Value } from './graph.ts';

/** Tensors from this size on are worked on in blocks. */
const LARGE = 2 ** 16;
/** A chain shorter than this reads and writes little. */
const FEWEST = 6;
/** Elements of a block at most. */
const BLOCK = 2 ** 16;

const ELEMENTWISE = new Set(
  'Add Sub Mul Div Sqrt Abs Neg Max Min Sign Exp Log Tanh Sigmoid Reciprocal Pow'.split(' '),
);

/** The nodes with each long chain in the place of its last node, as one Scan. */
export function inBlocks(graph: Graph, nodes: readonly Node[], outputs: readonly Value[]): Node[] {
  const readers = readersOf(nodes);
  const stands = new Map<Node, Node[]>();
  for (const chain of chains(nodes)) {
    const size = blockSize(chain[0]!.outs[0]!);
    if (chain.length < FEWEST || !size || !isClosed(chain, readers)) continue;
    for (const node of chain) stands.set(node, []);
    stands.set(chain.at(-1)!, scan(graph, chain, size, readers, new Set(outputs)));
  }
  return nodes.flatMap((node) => stands.get(node) ?? [node]);
}

/** The nodes that read each value. */
export function readersOf(nodes: readonly Node[]): Map<Value, Node[]> {
  const readers = new Map<Value, Node[]>();
  for (const node of nodes) {
    for (const value of new Set(node.ins)) {
      if (value) append(readers, value, node);
    }
  }
  return readers;
}

const isOne = ({ shape }: Value) => shape.length <= 1 && util.sizeFromShape(shape) === 1;

/** Whether a node works on single elements of a large tensor. */
function isLarge({ op, domain, ins, outs: [out] }: Node): boolean {
  if (domain || !ELEMENTWISE.has(op) || util.sizeFromShape(out!.shape) < LARGE) return false;
  return ins.every(
    (x) => x?.dtype === 'float32' && (isOne(x) || util.arraysEqual(x.shape, out!.shape)),
  );
}

/** Large elementwise nodes, those that read each other's outputs together, in order. */
function chains(nodes: readonly Node[]): Node[][] {
  const chainOf = new Map<Node, Node[]>();
  for (const node of nodes) {
    if (!isLarge(node)) continue;
    const before = node.ins.flatMap((x) => (x?.node && chainOf.get(x.node)) ?? []);
    const chain = [...new Set([...before, node])];
    for (const member of chain) chainOf.set(member, chain);
  }
  return [...new Set(chainOf.values())];
}

/** Whether nothing outside of a chain lies between two of its nodes. */
function isClosed(chain: readonly Node[], readers: Map<Value, Node[]>): boolean {
  const members = new Set(chain);
  const next = (node: Node) => node.outs.flatMap((out) => readers.get(out) ?? []);
  const waiting = chain.flatMap(next).filter((node) => !members.has(node));
  const seen = new Set(waiting);
  for (const node of waiting) {
    for (const reader of next(node)) {
      if (members.has(reader)) return false;
      if (seen.has(reader)) continue;
      seen.add(reader);
      waiting.push(reader);
    }
  }
  return true;
}

/** The largest size of blocks that cuts x evenly; undefined if they would all be small. */
function blockSize({ shape }: Value): number | undefined {
  const total = util.sizeFromShape(shape);
  for (let size = BLOCK; size >= BLOCK / 8; size--) if (total % size === 0) return size;
  return undefined;
}

/** A chain as a Scan over blocks [count, size] of its inputs, and what shapes them. */
function scan(
  graph: Graph,
  chain: readonly Node[],
  size: number,
  readers: Map<Value, Node[]>,
  outputs: ReadonlySet<Value>,
): Node[] {
  const members = new Set(chain);
  const { shape } = chain[0]!.outs[0]!;
  const blocks = [util.sizeFromShape(shape) / size, size];
  const inside = new Map<Value, Value>();
  const shaped: Node[] = [];
  const ins: Value[] = [];
  const around = new Set<Value>();
  for (const value of chain.flatMap((node) => node.ins as Value[])) {
    if (inside.has(value) || (value.node && members.has(value.node))) continue;
    if (isOne(value)) around.add(value);
    else {
      shaped.push(reshaping(graph, value, blocks));
      ins.push(shaped.at(-1)!.outs[0]!);
      inside.set(value, graph.input([size], 'float32'));
    }
  }
  const bodyIns = [...inside.values()];
  const nodes = chain.map((node): Node => {
    const copy: Node = { ...node, ins: node.ins.map((x) => inside.get(x!) ?? x), outs: [] };
    copy.outs = [{ ...graph.input([size], 'float32'), node: copy }];
    inside.set(node.outs[0]!, copy.outs[0]!);
    return copy;
  });
  const isRead = (out: Value) => readers.get(out)?.some((node) => !members.has(node));
  const wanted = chain.flatMap(({ outs }) => outs).filter((x) => outputs.has(x) || isRead(x));
  const node: Node = {
    op: 'Scan',
    domain: '',
    ins: [...ins, ...around],
    attributes: { num_scan_inputs: ins.length },
    outs: [],
    body: { nodes, ins: bodyIns, outs: wanted.map((x) => inside.get(x)!) },
  };
  node.outs = wanted.map(() => ({ ...graph.input(blocks, 'float32'), node }));
  const after = wanted.map((value, i) => {
    value.node = reshaping(graph, node.outs[i]!, shape);
    value.node.outs = [value];
    return value.node;
  });
  return [...shaped, node, ...after];
}

/** A node that gives x another shape. */
function reshaping(graph: Graph, x: Value, shape: readonly number[]): Node {
  const node: Node = {
    op: 'Reshape',
    domain: '',
    ins: [x, graph.integers(shape)],
    attributes: {},
    outs: [],
  };
  node.outs = [{ ...graph.input(shape, x.dtype), node }];
  return node;
}
