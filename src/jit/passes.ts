// What is done to a traced graph before it is written: drop what nothing needs, and let products
// scale and add by themselves (Gemm's alpha and C).
import { util } from '@tensorflow/tfjs';
import type { Node, Value } from './graph.ts';

/** The nodes that `outputs` need, in order, with products fused. */
export function optimize(nodes: readonly Node[], outputs: readonly Value[]): Node[] {
  const copies = copy(needed(nodes, outputs));
  const fused = addFused(scaleFused(copies, outputs), outputs);
  return needed(scatterFused(fused, outputs), outputs);
}

/** Nodes that can be changed without changing the trace. */
function copy(nodes: readonly Node[]): Node[] {
  return nodes.map((node) => {
    for (const out of node.outs) out.node = node;
    return node;
  });
}

/** Nodes on which an output depends. */
export function needed(nodes: readonly Node[], outputs: readonly Value[]): Node[] {
  const live = new Set<Value | null>(outputs);
  const kept: Node[] = [];
  for (const node of nodes.toReversed()) {
    if (!node.outs.some((out) => live.has(out))) continue;
    kept.push(node);
    for (const value of node.ins) live.add(value);
  }
  return kept.reverse();
}

/** How often each value is used. */
function countUses(nodes: readonly Node[], outputs: readonly Value[]): Map<Value, number> {
  const uses = new Map<Value, number>();
  const values = [...nodes.flatMap(({ ins }) => ins), ...outputs];
  for (const value of values) if (value) uses.set(value, (uses.get(value) ?? 0) + 1);
  return uses;
}

const isProduct = (node: Node | undefined): node is Node =>
  node?.op === 'Gemm' || node?.op === 'FusedMatMul';

/** s * (A B), with s a number, as a product with alpha = s. */
function scaleFused(nodes: Node[], outputs: readonly Value[]): Node[] {
  const uses = countUses(nodes, outputs);
  const dropped = new Set<Node>();
  for (const node of nodes) {
    if (node.op !== 'Mul') continue;
    const [a, b] = node.ins as [Value, Value];
    for (const [product, factor] of [
      [a, b],
      [b, a],
    ] as const) {
      const inner = product.node;
      if (!isProduct(inner) || inner.ins.length > 2 || dropped.has(inner)) continue;
      if (uses.get(product) !== 1 || factor.uniform === undefined || factor.shape.length) continue;
      dropped.add(inner);
      const alpha = (inner.attributes.alpha as { float: number } | undefined)?.float ?? 1;
      node.op = inner.op;
      node.domain = inner.domain;
      node.ins = inner.ins;
      node.attributes = {
        ...inner.attributes,
        alpha: { float: Math.fround(alpha * factor.uniform) },
      };
      break;
    }
  }
  return nodes.filter((node) => !dropped.has(node));
}

/** A B + C with C of the same shape or a bias row, as one Gemm. */
function addFused(nodes: Node[], outputs: readonly Value[]): Node[] {
  const uses = countUses(nodes, outputs);
  const dropped = new Set<Node>();
  for (const node of nodes) {
    if (node.op !== 'Add') continue;
    const [a, b] = node.ins as [Value, Value];
    const candidates = [
      { product: a, addend: b },
      { product: b, addend: a },
    ].filter(({ product, addend }) => {
      const inner = product.node;
      if (inner?.op !== 'Gemm' || inner.ins.length > 2 || dropped.has(inner)) return false;
      return uses.get(product) === 1 && fitsAsC(addend, product);
    });
    candidates.sort((p, q) => depth(p.product.node!) - depth(q.product.node!));
    const [chosen] = candidates;
    if (!chosen) continue;
    const inner = chosen.product.node!;
    dropped.add(inner);
    node.op = 'Gemm';
    node.ins = [...inner.ins, chosen.addend];
    node.attributes = { ...inner.attributes, beta: { float: 1 } };
  }
  return nodes.filter((node) => !dropped.has(node));
}

/** x + (zeros with rows added) as x with rows added, so that no second tensor of that size is made. */
function scatterFused(nodes: Node[], outputs: readonly Value[]): Node[] {
  const uses = countUses(nodes, outputs);
  const dropped = new Set<Node>();
  for (const node of nodes) {
    if (node.op !== 'Add') continue;
    const [a, b] = node.ins as [Value, Value];
    for (const [scattered, onto] of [
      [a, b],
      [b, a],
    ] as const) {
      const inner = beneath(scattered, uses);
      if (inner?.node?.op !== 'ScatterElements' || inner.node.ins[0]?.uniform !== 0) continue;
      if (!util.arraysEqual(inner.shape, onto.shape) || dropped.has(inner.node)) continue;
      dropped.add(inner.node);
      node.op = 'ScatterElements';
      node.ins = [onto, ...inner.node.ins.slice(1)];
      node.attributes = inner.node.attributes;
      break;
    }
  }
  return nodes.filter((node) => !dropped.has(node));
}

/** x before its change of shape; undefined if x is needed elsewhere too. */
function beneath(x: Value, uses: Map<Value, number>): Value | undefined {
  if (uses.get(x) !== 1) return undefined;
  const inner = x.node?.op === 'Reshape' ? x.node.ins[0]! : x;
  return uses.get(inner) === 1 ? inner : undefined;
}

/** Whether Gemm can broadcast `addend` over a product by itself. */
function fitsAsC(addend: Value, product: Value): boolean {
  const [, columns] = product.shape;
  return (
    util.arraysEqual(addend.shape, [columns!]) || util.arraysEqual(addend.shape, [1, columns!])
  );
}

/** The length of the sums of a product: the short one costs least when it reads C. */
function depth(gemm: Node): number {
  return gemm.ins[0]!.shape[gemm.attributes.transA ? 0 : 1]!;
}
