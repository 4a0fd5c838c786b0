// A traced function as a native graph: which tensors go in and come out, under what names.
import type * as tf from '@tensorflow/tfjs';
import type { Node, Value } from './graph.ts';
import { type GraphMemory, memoryAnalysis } from './memory-analysis.ts';
import { NativeGraph, type NativeOptions } from './native.ts';
import type { OnnxGraph, OnnxValue } from './onnx.ts';
import { optimize } from './passes.ts';
import type { Trace } from './trace.ts';

/** Runs a traced function natively. */
export class Compiled {
  readonly memory: GraphMemory;
  private readonly graph: NativeGraph;
  /** Which of the arguments the graph takes; the others don't matter to it. */
  private readonly used: number[];
  private readonly captured: tf.Tensor[];
  private readonly variables: tf.Variable[];
  private readonly count: number;

  /** Compiles; throws if ONNX Runtime refuses the graph. */
  constructor(trace: Trace, options: NativeOptions) {
    const values = [...trace.outputs, ...trace.assigned.map(({ value }) => value)];
    const results = withoutReshape(values);
    const nodes = optimize(trace.graph.nodes, results);
    const read = new Set([...nodes.flatMap(({ ins }) => ins), ...results]);
    this.used = [...trace.inputs.keys()].filter((i) => read.has(trace.inputs[i]!));
    const captures = trace.captures.filter(({ value }) => read.has(value));
    this.captured = captures.map(({ tensor }) => tensor);
    this.variables = trace.assigned.map(({ variable }) => variable);
    this.count = trace.outputs.length;
    const inputs = [...this.used.map((i) => trace.inputs[i]!), ...captures.map((c) => c.value)];
    this.memory = memoryAnalysis(nodes, inputs, results);
    const graph = toOnnx(nodes, inputs, results);
    const replaced = trace.assigned.map(({ variable, value }, i): [number, Value | undefined] => [
      this.count + i,
      captures.find((c) => c.tensor === variable && c.value !== value)?.value,
    ]);
    this.graph = new NativeGraph(graph, options, {
      shapes: values.map(({ shape }) => shape),
      overwritten: inPlacePairs(nodes, inputs, results),
      reused: safePairs(nodes, inputs, results, replaced),
    });
  }

  /** Starts a run: the function's results, and its variables with their new values. */
  run(inputs: readonly tf.Tensor[]): tf.Tensor[] {
    const given = [...this.used.map((i) => inputs[i]!), ...this.captured];
    const outputs = this.graph.run(given);
    for (const [i, variable] of this.variables.entries()) {
      variable.assign(outputs[this.count + i]!);
      outputs[this.count + i]!.dispose();
    }
    return outputs.slice(0, this.count);
  }

  /** Frees the graph. */
  dispose(): void {
    this.graph.dispose();
  }
}

/** Operators that may write an output into the buffer of an input: [output, input]. */
const IN_PLACE: Record<string, [number, number][]> = {
  GroupQueryAttention: [
    [1, 3],
    [2, 4],
  ],
};

/** Values, or what they were before their last change of shape if nothing else is written there. */
function withoutReshape(values: readonly Value[]): Value[] {
  const taken = new Set(values);
  return values.map((value) => {
    const inner = value.node?.op === 'Reshape' ? value.node.ins[0]! : value;
    if (!inner.node || inner === value || taken.has(inner)) return value;
    taken.add(inner);
    return inner;
  });
}

/** The ONNX graph of nodes. */
function toOnnx(
  nodes: readonly Node[],
  inputs: readonly Value[],
  results: readonly Value[],
): OnnxGraph {
  const graph: OnnxGraph = { nodes: [], inputs: [], outputs: [], initializers: [] };
  const names = new Map<Value, string>();
  for (const value of inputs) {
    names.set(value, `i${value.id}`);
    graph.inputs.push(edge(value, names.get(value)!));
  }
  // A result is written by its node itself, unless it comes twice, from outside or by a mere move.
  const moves: [Value, string][] = [];
  for (const [i, value] of results.entries()) {
    const name = `o${i}`;
    graph.outputs.push(edge(value, name));
    if (value.node && value.node.op !== 'Reshape' && !names.has(value)) names.set(value, name);
    else moves.push([value, name]);
  }
  const nameOf = (value: Value | null): string => {
    if (!value) return '';
    const known = names.get(value);
    if (known) return known;
    const name = `v${value.id}`;
    names.set(value, name);
    if (value.data) graph.initializers.push({ ...edge(value, name), data: value.data });
    return name;
  };
  for (const { op, domain, ins, outs, attributes } of nodes) {
    graph.nodes.push({ op, domain, ins: ins.map(nameOf), outs: outs.map(nameOf), attributes });
  }
  for (const [value, name] of moves) {
    graph.nodes.push({
      op: 'Identity',
      domain: '',
      ins: [nameOf(value)],
      outs: [name],
      attributes: {},
    });
  }
  return graph;
}

const edge = ({ shape, dtype }: Value, name: string): OnnxValue => ({ name, shape, dtype });

function inPlacePairs(
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
 * reads the old value comes before the one that writes, whatever the order of execution.
 */
function safePairs(
  nodes: readonly Node[],
  inputs: readonly Value[],
  results: readonly Value[],
  replaced: readonly [number, Value | undefined][],
): [number, number][] {
  const readers = new Map<Value, Node[]>();
  for (const node of nodes) {
    for (const value of node.ins) {
      if (value && !value.node) readers.set(value, [...(readers.get(value) ?? []), node]);
    }
  }
  return replaced.flatMap(([result, old]): [number, number][] => {
    const writer = results[result]!.node;
    const reading = (old && readers.get(old)) ?? [];
    if (!old || !writer || reading.length === 0 || reading.length > 2) return [];
    const isFirst = (node: Node) => node !== writer && comesBefore(node, writer);
    return reading.every(isFirst) ? [[result, inputs.indexOf(old)]] : [];
  });
}

/** Whether `node` is at most a few steps before `writer` among what it depends on. */
function comesBefore(node: Node, writer: Node, steps = 6): boolean {
  if (node === writer) return true;
  if (steps === 0) return false;
  return writer.ins.some((value) => value?.node && comesBefore(node, value.node, steps - 1));
}
