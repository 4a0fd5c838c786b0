// jit(fn): a pure TensorFlow.js function, its gradients and updates included, compiled to one native
// graph that ONNX Runtime runs on all cores (after JAX's jit). Plain functions stay what one reads.
import * as tf from '@tensorflow/tfjs';
import { Compiled, type CompileOptions } from './compile.ts';
import type { GraphMemory } from './memory-analysis.ts';
import type { NativeOptions } from './native.ts';
import { nativeOptions } from './native-check.ts';
import { isTracing, TraceError, trace } from './trace.ts';

/** What a jit function takes and returns: tensors in arrays and records, and plain values. */
// biome-ignore lint/suspicious/noExplicitAny: any function of tensors can be compiled.
type AnyFunction = (...args: any[]) => any;

/** How a function is compiled and run. */
export interface JitOptions extends NativeOptions {
  /**
   * Numbers of arguments whose tensors the call uses up: they are disposed, and their buffers hold
   * later results (JAX's donate_argnums). For state that a step replaces. Default none.
   */
  donate?: number[];
  /**
   * Tensors that the function captures, its variables among them, are read once, when a graph is
   * compiled (torch.jit.freeze). The graph holds them anew, matrices packed for products: one row times
   * a matrix then takes about half the time. Default false.
   */
  freeze?: boolean;
}

/** A compiled function; it is called as the function itself. */
export type Jitted<F extends AnyFunction> = F & {
  /** How many graphs were compiled, one for each structure, shapes and plain values of arguments. */
  readonly compilations: number;
  /** Bytes that the last compiled graph takes, gives, and holds in between; undefined before and when eager. */
  readonly memory: GraphMemory | undefined;
  /** Why calls run eagerly, if they do. */
  readonly fallback: string | undefined;
  /**
   * [carry, outputs] after `count` calls of a function of a carry that returns [carry, output]; outputs
   * are stacked, [count, ...]. The calls follow each other in the native thread, and use the carry up
   * (JAX's lax.scan).
   */
  scan(carry: Parameters<F>[0], count: number): ReturnType<F>;
  /** Frees the graphs. */
  dispose(): void;
};

/** Compilations after which it is told once that plain arguments differ at each call. */
const MANY = 16;

/**
 * Compiles `fn` at its first call for the shapes that it gets, and again for each new set of shapes
 * or plain values (numbers, strings, booleans, objects of a class) among its arguments.
 *
 * `fn` must be pure but for `tf.Variable`s: those that it reads are read anew at each call, those
 * that it assigns are assigned. Its flow may not depend on the numbers in tensors, and random numbers
 * come from a seed tensor (`seededUniform`, `dropout`); else it runs eagerly, and one line says why.
 * Results are tensors at once, while the run goes on in its own thread: `await loss.data()` waits.
 */
export function jit<F extends AnyFunction>(fn: F, options: JitOptions = {}): Jitted<F> {
  const { donate = [], ...native } = options;
  const cache = new Map<string, Entry>();
  const identities = new Identities();
  let fallback: string | undefined;

  /** The graph for these arguments; undefined if the function runs eagerly. */
  const entryFor = (flat: Flat): Entry | undefined => {
    const setting = fallback === undefined ? nativeOptions() : undefined;
    if (!setting) return undefined;
    const key = identities.keyOf(flat);
    const known = cache.get(key);
    if (known) return known;
    try {
      const entry = build(fn, flat, { ...setting, ...native });
      cache.set(key, entry);
      if (cache.size === MANY) console.log(manyMessage(nameOf(fn)));
      return entry;
    } catch (error) {
      if (!(error instanceof TraceError)) throw error;
      fallback = error.message;
      console.log(`jit: ${nameOf(fn)} runs eagerly, since ${error.message}`);
      return undefined;
    }
  };

  const call = (...args: unknown[]): unknown => {
    if (isTracing()) return fn(...args);
    const flat = flatten(args);
    const entry = entryFor(flat);
    if (!entry) return eager(fn, args, donate);
    const results = entry.compiled.run(flat.tensors);
    tf.dispose(donate.map((i) => args[i]) as tf.TensorContainer);
    return unflatten(entry.output, results);
  };

  const scan = (carry: unknown, count: number): unknown => {
    const flat = flatten([carry]);
    const entry = isTracing() ? undefined : entryFor(flat);
    if (!entry) return eagerScan(fn, carry, count);
    const results = entry.compiled.scan(flat.tensors, count);
    tf.dispose(flat.tensors);
    return unflatten(entry.output, results);
  };

  const dispose = () => {
    for (const { compiled } of cache.values()) compiled.dispose();
    cache.clear();
  };
  return Object.defineProperties(call, {
    compilations: { get: () => cache.size },
    memory: { get: () => [...cache.values()].at(-1)?.compiled.memory },
    fallback: { get: () => fallback },
    scan: { value: scan },
    dispose: { value: dispose },
  }) as Jitted<F>;
}

interface Entry {
  compiled: Compiled;
  output: Structure;
}

const nameOf = (fn: AnyFunction) => (fn.name ? `'${fn.name}'` : 'the function');

const manyMessage = (name: string) =>
  `jit: ${name} was compiled ${MANY} times; numbers that change are passed as tf.scalar(x)`;

function eager(fn: AnyFunction, args: unknown[], donate: readonly number[]): unknown {
  const results = tf.tidy(() => fn(...args));
  const kept = new Set(flatten(results).tensors);
  for (const tensor of flatten(donate.map((i) => args[i])).tensors) {
    if (!kept.has(tensor)) tensor.dispose();
  }
  return results;
}

/** `count` calls one after another, each of which uses its carry up. */
function eagerScan(fn: AnyFunction, carry: unknown, count: number): unknown {
  const outputs: tf.Tensor[][] = [];
  let structure: Structure | undefined;
  let next = carry;
  for (let i = 0; i < count; i++) {
    const [after, output] = eager(fn, [next], [0]) as [unknown, unknown];
    const flat = flatten(output);
    structure = flat.structure;
    outputs.push(flat.tensors);
    next = after;
  }
  const stacked = outputs[0]!.map((_, i) => tf.stack(outputs.map((each) => each[i]!)));
  tf.dispose(outputs.flat());
  return [next, unflatten(structure!, stacked)];
}

function build(fn: AnyFunction, flat: Flat, options: CompileOptions): Entry {
  let output: Structure | undefined;
  const traced = trace((tensors) => {
    const result = fn(...(unflatten(flat.structure, tensors) as unknown[]));
    if (result instanceof Promise) throw new TraceError('it returns a promise');
    const { structure, tensors: results } = flatten(result);
    output = structure;
    return results;
  }, flat.tensors);
  try {
    return { compiled: new Compiled(traced, options), output: output! };
  } catch (error) {
    throw new TraceError((error as Error).message, { cause: error });
  }
}

/** Arrays and records with a number in the place of each tensor. */
type Structure =
  | { kind: 'tensor'; index: number }
  | { kind: 'value'; value: unknown }
  | { kind: 'array'; items: Structure[] }
  | { kind: 'map'; items: [unknown, Structure][] }
  | { kind: 'record'; items: [string, Structure][] };

interface Flat {
  structure: Structure;
  tensors: tf.Tensor[];
}

/** A value taken apart into its tensors and what holds them. */
function flatten(value: unknown): Flat {
  const tensors: tf.Tensor[] = [];
  const walk = (x: unknown): Structure => {
    if (x instanceof tf.Tensor) return { kind: 'tensor', index: tensors.push(x) - 1 };
    if (Array.isArray(x)) return { kind: 'array', items: x.map(walk) };
    if (x instanceof Map) return { kind: 'map', items: [...x].map(([k, v]) => [k, walk(v)]) };
    if (isRecord(x)) {
      return { kind: 'record', items: Object.entries(x).map(([k, v]) => [k, walk(v)]) };
    }
    return { kind: 'value', value: x };
  };
  return { structure: walk(value), tensors };
}

function isRecord(x: unknown): x is Record<string, unknown> {
  if (typeof x !== 'object' || x === null) return false;
  const prototype: unknown = Object.getPrototypeOf(x);
  // A record made in another realm, such as a notebook's, has that realm's prototype.
  return prototype === null || Object.getPrototypeOf(prototype as object) === null;
}

/** The value again, with these tensors. */
function unflatten(structure: Structure, tensors: readonly tf.Tensor[]): unknown {
  if (structure.kind === 'tensor') return tensors[structure.index];
  if (structure.kind === 'value') return structure.value;
  if (structure.kind === 'array') return structure.items.map((item) => unflatten(item, tensors));
  const items = structure.items.map(([key, item]) => [key, unflatten(item, tensors)] as const);
  return structure.kind === 'map' ? new Map(items) : Object.fromEntries(items);
}

/** Tells apart what a function has to be compiled anew for. */
class Identities {
  private readonly numbers = new WeakMap<object, number>();
  private count = 0;

  /** Structure, shapes and plain values as text. */
  keyOf({ structure, tensors }: Flat): string {
    const shapes = tensors.map(({ dtype, shape }) => `${dtype}[${shape}]`).join();
    return `${shapes}|${this.describe(structure)}`;
  }

  private describe(structure: Structure): string {
    if (structure.kind === 'tensor') return `#${structure.index}`;
    if (structure.kind === 'value') return this.plain(structure.value);
    if (structure.kind === 'array') {
      return `[${structure.items.map((item) => this.describe(item)).join()}]`;
    }
    const items = structure.items.map(([key, item]) => `${this.plain(key)}:${this.describe(item)}`);
    return `{${items.join()}}`;
  }

  private plain(value: unknown): string {
    if ((typeof value !== 'object' && typeof value !== 'function') || value === null) {
      return typeof value === 'string' ? JSON.stringify(value) : `${typeof value}${String(value)}`;
    }
    const known = this.numbers.get(value) ?? this.count++;
    this.numbers.set(value, known);
    return `@${known}`;
  }
}
