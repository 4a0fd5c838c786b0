// A traced function as a native graph: which tensors go in and come out, under what names.
import type * as tf from '@tensorflow/tfjs';
import { util } from '@tensorflow/tfjs';
import { inBlocks } from './blocks.ts';
import { elements, LARGE, type Node, type Value } from './graph.ts';
import { type GraphMemory, memoryAnalysis } from './memory-analysis.ts';
import { NativeGraph, type NativeOptions } from './native.ts';
import type { OnnxGraph, OnnxValue } from './onnx.ts';
import { inOrder, marked, overwritten, reused } from './order.ts';
import { needed, optimize } from './passes.ts';
import type { Trace } from './trace.ts';

/** How a trace is compiled. */
export interface CompileOptions extends NativeOptions {
  /** Whether what the function captures is read once, now. */
  freeze?: boolean;
}

/** Runs a traced function natively. */
export class Compiled {
  readonly memory: GraphMemory;
  private readonly graph: NativeGraph;
  /** Which of the arguments the graph takes; the others don't matter to it. */
  private readonly used: number[];
  /** Tensors from outside that each run reads. */
  private readonly captured: tf.Tensor[];
  private readonly variables: tf.Variable[];
  private readonly count: number;

  /** Compiles; throws if ONNX Runtime refuses the graph. */
  constructor(trace: Trace, { freeze = false, ...options }: CompileOptions) {
    const values = [...trace.outputs, ...trace.assigned.map(({ value }) => value)];
    const fused = inBlocks(trace.graph, optimize(trace.graph.nodes, values), values);
    const results = withoutReshape(values);
    const nodes = needed(inOrder(fused, results), results);
    const read = new Set([...nodes.flatMap(({ ins }) => ins), ...results]);
    this.used = [...trace.inputs.keys()].filter((i) => read.has(trace.inputs[i]!));
    const captures = trace.captures.filter(({ value }) => read.has(value));
    const [open, frozen] = freeze ? [[], captures] : [captures, []];
    this.captured = open.map(({ tensor }) => tensor);
    this.variables = trace.assigned.map(({ variable }) => variable);
    this.count = trace.outputs.length;
    const inputs = [...this.used.map((i) => trace.inputs[i]!), ...open.map((c) => c.value)];
    const constants = frozen.map(({ value }) => value);
    this.memory = memoryAnalysis(nodes, [...inputs, ...constants], results);
    const replaced = trace.assigned.map(({ variable, value }, i): [number, Value | undefined] => [
      this.count + i,
      captures.find((c) => c.tensor === variable && c.value !== value)?.value,
    ]);
    const plan = {
      shapes: values.map(({ shape }) => shape),
      overwritten: overwritten(nodes, inputs, results),
      reused: reused(trace.graph, nodes, inputs, results, replaced),
    };
    const ordered = marked(trace.graph, inOrder(nodes, results), new Set(results));
    const graph = toOnnx(ordered.reverse(), inputs, results, constants);
    const tensors = frozen.map(({ tensor }) => tensor);
    this.graph = new NativeGraph(graph, options, plan, tensors);
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

  /**
   * Starts `count` runs: results that come first, one for each input, are the inputs of the next run,
   * and those after them are stacked, [count, ...].
   */
  scan(inputs: readonly tf.Tensor[], count: number): tf.Tensor[] {
    const given = [...this.used.map((i) => inputs[i]!), ...this.captured];
    const feedback = this.used.map((i, at): [number, number] => [i, at]);
    return this.graph.run(given, { count, feedback, carried: inputs.length });
  }

  /** Frees the graph. */
  dispose(): void {
    this.graph.dispose();
  }
}

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

/** The ONNX graph of nodes; the numbers of `frozen` constants are left open, and come first. */
function toOnnx(
  nodes: readonly Node[],
  inputs: readonly Value[],
  results: readonly Value[],
  frozen: readonly Value[],
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
    if (value.uniform !== undefined && util.sizeFromShape(value.shape) > LARGE) {
      graph.nodes.push(expansion(graph, value, name));
    } else if (value.data) graph.initializers.push({ ...edge(value, name), data: value.data });
    return name;
  };
  for (const value of frozen) graph.initializers.push(edge(value, nameOf(value)));
  for (const node of nodes) graph.nodes.push(toOnnxNode(node, nameOf));
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

/** A node by names; the body of a Scan knows the names around it. */
function toOnnxNode(
  { op, domain, ins, outs, attributes, body }: Node,
  nameOf: (value: Value | null) => string,
): OnnxGraph['nodes'][number] {
  if (!body) return { op, domain, ins: ins.map(nameOf), outs: outs.map(nameOf), attributes };
  const named = ins.map(nameOf).slice(0, body.ins.length);
  const inner: OnnxGraph = {
    nodes: body.nodes.map((node) => toOnnxNode(node, nameOf)),
    inputs: body.ins.map((value) => edge(value, nameOf(value))),
    outputs: body.outs.map((value) => edge(value, nameOf(value))),
    initializers: [],
  };
  return {
    op,
    domain,
    ins: named,
    outs: outs.map(nameOf),
    attributes: { ...attributes, body: { graph: inner } },
  };
}

/** A node that makes many equal numbers at each run, so that the model does not hold them. */
function expansion(graph: OnnxGraph, value: Value, name: string): OnnxGraph['nodes'][number] {
  const { dtype, shape, uniform } = value;
  const one = elements(dtype, 1) as Float32Array;
  const sizes = BigInt64Array.from(shape.map(BigInt));
  graph.initializers.push(
    { name: `${name}x`, dtype, shape: [], data: one.fill(uniform!) },
    { name: `${name}s`, dtype: 'int64', shape: [shape.length], data: sizes },
  );
  return { op: 'Expand', domain: '', ins: [`${name}x`, `${name}s`], outs: [name], attributes: {} };
}

const edge = ({ shape, dtype }: Value, name: string): OnnxValue => ({ name, shape, dtype });
