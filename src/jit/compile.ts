// A traced function as a native graph: which tensors go in and come out, under what names.
import type * as tf from '@tensorflow/tfjs';
import type { Node, Value } from './graph.ts';
import { NativeGraph, type NativeOptions } from './native.ts';
import type { OnnxGraph, OnnxValue } from './onnx.ts';
import { optimize } from './passes.ts';
import type { Trace } from './trace.ts';

/** Runs a traced function natively. */
export class Compiled {
  private readonly graph: NativeGraph;
  /** Which of the arguments the graph takes; the others don't matter to it. */
  private readonly used: number[];
  private readonly captured: tf.Tensor[];
  private readonly variables: tf.Variable[];
  private readonly count: number;

  /** Compiles; throws if ONNX Runtime refuses the graph. */
  constructor(trace: Trace, options: NativeOptions) {
    const results = [...trace.outputs, ...trace.assigned.map(({ value }) => value)];
    const nodes = optimize(trace.graph.nodes, results);
    const read = new Set([...nodes.flatMap(({ ins }) => ins), ...results]);
    this.used = [...trace.inputs.keys()].filter((i) => read.has(trace.inputs[i]!));
    const captures = trace.captures.filter(({ value }) => read.has(value));
    this.captured = captures.map(({ tensor }) => tensor);
    this.variables = trace.assigned.map(({ variable }) => variable);
    this.count = trace.outputs.length;
    const inputs = [...this.used.map((i) => trace.inputs[i]!), ...captures.map((c) => c.value)];
    const { graph, inPlace } = toOnnx(nodes, inputs, results);
    this.graph = new NativeGraph(graph, options, inPlace);
  }

  /** Starts a run: the function's results, and its variables with their new values. */
  run(inputs: readonly tf.Tensor[]): tf.Tensor[] {
    const given = [...this.used.map((i) => inputs[i]!), ...this.captured];
    const outputs = this.graph.run(given);
    for (const [i, variable] of this.variables.entries()) {
      takeOver(variable, outputs[this.count + i]!);
    }
    return outputs.slice(0, this.count);
  }

  /** Frees the graph. */
  dispose(): void {
    this.graph.dispose();
  }
}

/**
 * Gives a variable the numbers of `value`, which is freed with the old ones. `assign` would move them
 * to the backend of eager ops.
 */
function takeOver(variable: tf.Variable, value: tf.Tensor): void {
  const old = variable.dataId;
  variable.dataId = value.dataId;
  (value as { dataId: object }).dataId = old;
  value.dispose();
}

/** Operators that may write an output into the buffer of an input: [output, input]. */
const IN_PLACE: Record<string, [number, number][]> = {
  GroupQueryAttention: [
    [1, 3],
    [2, 4],
  ],
};

/** The ONNX graph of nodes, and which of its outputs share the buffer of an input. */
function toOnnx(
  nodes: readonly Node[],
  inputs: readonly Value[],
  results: readonly Value[],
): { graph: OnnxGraph; inPlace: [number, number][] } {
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
  return { graph, inPlace: inPlacePairs(nodes, inputs, results) };
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
