// In which order nodes run, and which results may be written over the values that they replace: a
// state of several gigabytes is then held once.
import { util } from '@tensorflow/tfjs';
import { append, type Graph, type Node, type Value } from './graph.ts';

/**
 * The nodes that run as soon as they can, wherever they were traced: large updates with what shapes their
 * inputs, waits for their readers, and the single numbers that they need, such as a rate's corrections.
 */
function earlyNodes(nodes: readonly Node[], results: ReadonlySet<Value>): Set<Node> {
  const updates = nodes.filter(({ op, outs }) => op === 'Scan' && outs.some((x) => results.has(x)));
  const shaping = updates.flatMap(({ ins }) => ins.flatMap((x) => x?.node ?? []));
  const isSmall = ({ op, outs }: Node) =>
    op === 'Size' || outs.every(({ shape }) => util.sizeFromShape(shape) === 1);
  const isReshape = ({ op }: Node) => op === 'Reshape';
  return new Set([...updates, ...shaping.filter(isReshape), ...nodes.filter(isSmall)]);
}

/**
 * Nodes in the order in which they were traced, but for large updates: each comes as soon as its
 * gradient is there, so that this is used up before the next is made. A model holds its nodes in
 * reverse: ONNX Runtime goes back from the ends of a graph, and of the nodes at hand takes the last.
 */
export function inOrder(nodes: readonly Node[], results: readonly Value[]): Node[] {
  const early = earlyNodes(nodes, new Set(results));
  const places = new Map<Node, number>();
  const traced = new Map(nodes.map((node, i) => [node, i]));
  const pending = new Map<Node, number>();
  const readers = new Map<Node, Node[]>();
  const sources = (node: Node) => new Set(node.ins.flatMap((x) => x?.node ?? []));
  for (const node of nodes) {
    const from = sources(node);
    pending.set(node, from.size);
    for (const source of from) append(readers, source, node);
  }
  const ready = nodes.filter((node) => pending.get(node) === 0);
  for (const node of ready) {
    const own = early.has(node) ? 0 : traced.get(node)!;
    const before = [...sources(node)].map((source) => places.get(source)! + 1e-4);
    places.set(node, Math.max(own, ...before));
    for (const reader of readers.get(node) ?? []) {
      const left = pending.get(reader)! - 1;
      pending.set(reader, left);
      if (left === 0) ready.push(reader);
    }
  }
  return ready.sort((a, b) => places.get(a)! - places.get(b)!);
}

/** A node whose first reader is further off than this is marked. */
const FAR = 32;

/**
 * Nodes in this order with a leaf after each that uses a large value up for a small one which only a
 * late node reads, as a weight's gradient: ONNX Runtime, which goes back from a graph's leaves, the
 * earliest first, would run it late too, and hold what it uses up until then.
 */
export function marked(
  graph: Graph,
  nodes: readonly Node[],
  kept: ReadonlySet<Value | null>,
): Node[] {
  const first = new Map<Value, number>();
  const last = new Map<Value, number>();
  for (const [at, node] of nodes.entries()) {
    for (const value of node.ins) {
      if (!value) continue;
      const base = origin(value);
      if (node.op !== 'Reshape' && !first.has(base)) first.set(base, at);
      last.set(base, at);
    }
  }
  return nodes.flatMap((node, at) => {
    const ending = new Set(node.ins.map((x) => x && origin(x)));
    const freed = [...ending].filter((x) => x?.node && last.get(x) === at && !kept.has(x));
    const isWorth = bytes(freed as Value[]) > bytes(node.outs);
    const reader = Math.min(...node.outs.map((out) => first.get(out) ?? Number.POSITIVE_INFINITY));
    const isFar = reader > at + FAR && Number.isFinite(reader);
    return isWorth && isFar && node.op !== 'Reshape' ? [node, sizeOf(graph, node)] : [node];
  });
}

const bytes = (values: readonly Value[]) =>
  values.reduce((sum, { shape }) => sum + 4 * shape.reduce((a, b) => a * b, 1), 0);

/** The value that another is in a new shape. */
const origin = (value: Value): Value =>
  value.node?.op === 'Reshape' ? origin(value.node.ins[0]!) : value;

/** A node that reads the size of what another gives. */
function sizeOf(graph: Graph, node: Node): Node {
  const size: Node = { op: 'Size', domain: '', ins: [node.outs[0]!], attributes: {}, outs: [] };
  size.outs = [{ ...graph.input([], 'int64'), node: size }];
  return size;
}

/** Operators that may write an output into the buffer of an input: [output, input]. */
const IN_PLACE: Record<string, [number, number][]> = {
  GroupQueryAttention: [
    [1, 3],
    [2, 4],
  ],
};

/** Pairs [result, input] of graphs whose operators write into what they are given. */
export function overwritten(
  nodes: readonly Node[],
  inputs: readonly Value[],
  results: readonly Value[],
): [number, number][] {
  return nodes.flatMap(({ op, ins, outs }) =>
    (IN_PLACE[op] ?? []).flatMap(([out, source]): [number, number][] => {
      const pair: [number, number] = [results.indexOf(outs[out]!), inputs.indexOf(ins[source]!)];
      return pair.every((i) => i >= 0) ? [pair] : [];
    }),
  );
}

/**
 * Pairs [result, input] of variables whose new value can be written over the old one: every node that
 * reads the old value runs before the one that writes. Where a Scan writes, it is made to wait for them.
 */
export function reused(
  graph: Graph,
  nodes: Node[],
  inputs: readonly Value[],
  results: readonly Value[],
  replaced: readonly [number, Value | undefined][],
): [number, number][] {
  const readers = readersOfInputs(nodes);
  const writers = replaced.flatMap(([result]) => results[result]!.node ?? []);
  const updated = reachable(nodes, writers);
  return replaced.flatMap(([result, old]): [number, number][] => {
    const writer = results[result]!.node;
    const reading = (old && readers.get(old)) ?? [];
    if (!old || !writer || reading.length === 0) return [];
    const others = reading.filter((node) => node !== writer);
    const isSafe = writer.body
      ? writesBehind(writer, results[result]!, old) && !others.some((node) => updated.has(node))
      : others.length === reading.length && reading.every((node) => comesBefore(node, writer));
    if (!isSafe) return [];
    for (const node of others) if (writer.body) waitFor(graph, nodes, node, writer);
    return [[result, inputs.indexOf(old)]];
  });
}

/** The nodes that read an input of the graph, also in another shape. */
function readersOfInputs(nodes: readonly Node[]): Map<Value, Node[]> {
  const readers = new Map<Value, Node[]>();
  for (const node of nodes) {
    if (node.op === 'Reshape') continue;
    for (const value of new Set(node.ins.map((x) => x && origin(x)))) {
      if (value && !value.node) append(readers, value, node);
    }
  }
  return readers;
}

/** Nodes that depend on one of `from`, which come in the order of dependence. */
function reachable(nodes: readonly Node[], from: readonly Node[]): Set<Node> {
  const found = new Set(from);
  for (const node of nodes) if (node.ins.some((x) => x?.node && found.has(x.node))) found.add(node);
  return found;
}

/** Whether the body of a Scan reads a block of `old` only before it writes the result. */
function writesBehind({ ins, outs, body }: Node, result: Value, old: Value): boolean {
  const at = ins.findIndex((x) => x === old || x?.node?.ins[0] === old);
  const written = body!.outs[outs.indexOf(result)]!.node!;
  const block = body!.ins[at];
  const reading = body!.nodes.filter((node) => node.ins.includes(block!));
  return reading.every((node) => comesBefore(node, written));
}

/** Whether `node` is `writer` or at most a few steps before it among what it depends on. */
function comesBefore(node: Node, writer: Node, steps = 6): boolean {
  if (node === writer) return true;
  if (steps === 0) return false;
  return writer.ins.some((value) => value?.node && comesBefore(node, value.node, steps - 1));
}

/** Makes a Scan depend on a node: its body passes on the size of what the node gives. */
function waitFor(graph: Graph, nodes: Node[], node: Node, writer: Node): void {
  const size = sizeOf(graph, node);
  const pass: Node = { op: 'Identity', domain: '', ins: [size.outs[0]!], attributes: {}, outs: [] };
  pass.outs = [{ ...graph.input([], 'int64'), node: pass }];
  nodes.push(size);
  writer.ins.push(size.outs[0]!);
  writer.body!.nodes.push(pass);
}
