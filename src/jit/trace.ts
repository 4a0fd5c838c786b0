// Runs a TensorFlow.js function once on tensors without numbers: every kernel that it calls, those of
// its gradients included, becomes nodes of a graph. Variables that it reads are inputs of the graph,
// variables that it assigns are outputs.
import * as tf from '@tensorflow/tfjs';
import { graphType } from './bytes.ts';
import { type ElementArray, Graph, type Value } from './graph.ts';
import { ARRAY, NATIVE } from './kernels-array.ts';
import { ELEMENTWISE, type Lowering } from './kernels-elementwise.ts';
import { reshape } from './operators.ts';
import { RANDOM } from './random.ts';

/** Name of the TensorFlow.js backend on which functions are traced. */
const BACKEND = 'trace';

/** Constants up to this size that a function takes from outside become part of its graph. */
const SMALL = 64;

/** Why a function can't be traced; the message names what is at fault and the line. */
export class TraceError extends Error {
  override name = 'TraceError';
}

/** A function as a graph. */
export interface Trace {
  graph: Graph;
  /** One for each input tensor. */
  inputs: Value[];
  /** One for each tensor that the function returned. */
  outputs: Value[];
  /** Tensors from outside that it reads, and what stands for them. */
  captures: { tensor: tf.Tensor; value: Value }[];
  /** Variables that it assigns, and their new values. */
  assigned: { variable: tf.Variable; value: Value }[];
}

/** What a traced tensor has for numbers: a value of the graph being written. */
class Handle {
  readonly value: Value;

  constructor(value: Value) {
    this.value = value;
  }
}

/** The trace that is being made, and what it has met so far. */
class Tracer {
  readonly graph = new Graph();
  readonly captures = new Map<tf.Tensor | object, { tensor: tf.Tensor; value: Value }>();
  readonly assigned = new Map<tf.Variable, Value>();

  /** The value of a tensor, in the tensor's shape. */
  valueOf(tensor: tf.Tensor): Value {
    const handle: unknown = tensor.dataId;
    const value = handle instanceof Handle ? handle.value : this.capture(tensor);
    return reshape(this.graph, value, tensor.shape);
  }

  private capture(tensor: tf.Tensor): Value {
    const isVariable = tensor instanceof tf.Variable;
    const key = isVariable ? tensor : tensor.dataId;
    const before = this.captures.get(key);
    if (before) return before.value;
    if (tensor.isDisposed) throw new TraceError('a disposed tensor was used');
    const { shape } = tensor;
    const dtype = graphType(tensor);
    if (dtype !== 'float32' && dtype !== 'int32' && dtype !== 'bool' && dtype !== 'uint8') {
      throw new TraceError(`a tensor of dtype ${dtype} was used, which has no native form`);
    }
    const isSmall = !isVariable && tensor.size <= SMALL;
    const value = isSmall
      ? this.graph.constant((tensor.dataSync() as ElementArray).slice(), shape, dtype)
      : this.graph.input(shape, dtype);
    this.captures.set(key, { tensor, value });
    return value;
  }
}

let current: Tracer | undefined;

/** Whether a function is being traced now. */
export const isTracing = () => current !== undefined;

/** The backend of traced tensors. It holds no numbers, so that reading them is an error. */
class TraceBackend extends tf.KernelBackend {
  override write(values: tf.TypedArray, shape: number[], dtype: 'float32'): object {
    if (!current) throw new TraceError('a tensor was made on the backend of traces');
    const random = values.length > 0 ? randomOp() : undefined;
    if (random) throw new TraceError(`tf.${random} without a seed input was called`);
    return new Handle(current.graph.constant(values as ElementArray, shape, dtype));
  }

  override readSync(dataId: object): tf.TypedArray {
    const { data } = (dataId as Handle).value;
    if (data) return data as tf.TypedArray;
    throw new TraceError('the value of a traced tensor was read');
  }

  override async read(dataId: object): Promise<tf.TypedArray> {
    return this.readSync(dataId);
  }

  override move(): void {
    throw new TraceError('a tensor was moved onto the backend of traces');
  }

  override disposeData(): boolean {
    return true;
  }

  override incRef(): void {}

  override refCount(): number {
    return 1;
  }

  override numDataIds(): number {
    return 0;
  }

  override memory(): { unreliable: boolean } {
    return { unreliable: true };
  }

  override floatPrecision(): 32 {
    return 32;
  }

  override epsilon(): number {
    return 1e-7;
  }

  override timerAvailable(): boolean {
    return false;
  }

  override dispose(): void {}
}

/** Which of TensorFlow.js' random ops is on the stack, if any. */
function randomOp(): string | undefined {
  const { stackTraceLimit, prepareStackTrace } = Error;
  Error.stackTraceLimit = 40;
  Error.prepareStackTrace = (_, calls) => calls; // as text, each would be looked up in source maps
  const calls = new Error().stack as unknown as NodeJS.CallSite[];
  Object.assign(Error, { stackTraceLimit, prepareStackTrace });
  const names = calls.map((call) => RANDOM_NAME.exec(call.getFunctionName() ?? '')?.[1]);
  return names.findLast((name, i) => name && calls[i]!.getFileName()?.includes('tfjs'));
}

/** Names of TensorFlow.js' functions that draw random numbers. */
const RANDOM_NAME =
  /^(?:Object\.)?(rand|randomUniform|randomUniformInt|randomNormal|randomStandardNormal|randomGamma|truncatedNormal|dropout)_?$/;

/** Puts the backend and its kernels into TensorFlow.js, once. */
function register(): void {
  if (tf.engine().registryFactory[BACKEND]) return;
  tf.registerBackend(BACKEND, () => new TraceBackend(), 0);
  const lowerings = { ...ELEMENTWISE, ...ARRAY, ...RANDOM, ...NATIVE };
  for (const [kernelName, lowering] of Object.entries(lowerings)) {
    tf.registerKernel({ kernelName, backendName: BACKEND, kernelFunc: kernel(lowering) });
  }
}

function kernel(lowering: Lowering): tf.KernelFunc {
  return ({ inputs, attrs }) => {
    const tracer = current!;
    const values: Record<string, Value> = {};
    for (const [name, tensor] of Object.entries(inputs)) {
      if (tensor) values[name] = tracer.valueOf(tensor as tf.Tensor);
    }
    const result = lowering(tracer.graph, values, attrs ?? {});
    return Array.isArray(result) ? result.map(tensorInfo) : tensorInfo(result);
  };
}

function tensorInfo(value: Value): tf.TensorInfo {
  const dtype = value.dtype === 'uint8' ? 'bool' : value.dtype; // as bytes.ts has it
  return { dataId: new Handle(value), shape: value.shape, dtype: dtype as 'float32' };
}

/**
 * Traces `fn`, which gets tensors of these shapes and returns tensors. It runs once and at once;
 * throws a TraceError if its flow depends on numbers, or if it calls what has no native form.
 */
export function trace(
  fn: (inputs: tf.Tensor[]) => tf.Tensor[],
  specs: readonly { shape: number[]; dtype: tf.DataType }[],
): Trace {
  register();
  if (current) throw new TraceError('a trace was begun within another');
  const tracer = new Tracer();
  const engine = tf.engine();
  const backend = tf.getBackend();
  const variables = new Set(Object.keys(engine.registeredVariables));
  const release = holdAssignments(tracer);
  current = tracer;
  tf.setBackend(BACKEND); // at once, since the backend starts without waiting
  engine.startScope('jit');
  try {
    const inputs = specs.map((s) => tracer.graph.input(s.shape, s.dtype as 'float32'));
    const tensors = inputs.map((value) =>
      engine.makeTensorFromTensorInfo(tensorInfo(value), engine.backend),
    );
    const results = fn(tensors);
    const outputs = results.map((tensor) => tracer.valueOf(tensor));
    refuseNewVariables(variables);
    const assigned = [...tracer.assigned].map(([variable, value]) => ({ variable, value }));
    for (const { variable } of assigned) captureOf(tracer, variable);
    const captures = [...tracer.captures.values()].filter(({ value }) => !value.data);
    return { graph: tracer.graph, inputs, outputs, captures, assigned };
  } catch (error) {
    throw explained(error);
  } finally {
    engine.endScope();
    release();
    current = undefined;
    tf.setBackend(backend);
  }
}

/** Makes sure that an assigned variable is an input too, so that its buffer is known. */
function captureOf(tracer: Tracer, variable: tf.Variable): void {
  if (!tracer.captures.has(variable)) {
    const value = tracer.graph.input(variable.shape, variable.dtype as 'float32');
    tracer.captures.set(variable, { tensor: variable, value });
  }
}

/** Lets `assign` note the new value in the trace and leave the variable's numbers alone. */
function holdAssignments(tracer: Tracer): () => void {
  const { assign } = tf.Variable.prototype;
  const before = new Map<tf.Variable, object>();
  tf.Variable.prototype.assign = function (this: tf.Variable, value: tf.Tensor): void {
    if (!tf.util.arraysEqual(value.shape, this.shape) || value.dtype !== this.dtype) {
      const [from, to] = [value, this].map(({ shape, dtype }) => `${dtype} [${shape}]`);
      throw new TraceError(`a variable of ${to} was assigned ${from}`);
    }
    const next = tracer.valueOf(value);
    if (!before.has(this)) before.set(this, this.dataId);
    tracer.assigned.set(this, next);
    this.dataId = new Handle(next);
  };
  return () => {
    tf.Variable.prototype.assign = assign;
    for (const [variable, dataId] of before) variable.dataId = dataId;
  };
}

function refuseNewVariables(before: ReadonlySet<string>): void {
  const { registeredVariables } = tf.engine();
  const made = Object.entries(registeredVariables).filter(([name]) => !before.has(name));
  if (made.length === 0) return;
  for (const [, variable] of made) variable.dispose();
  throw new TraceError('a tf.Variable was made, which must exist before the call');
}

/** The error with the op and line at fault, if tracing is what failed. */
function explained(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const missing = /^Kernel '(\w+)' not registered for backend 'trace'/.exec(error.message)?.[1];
  if (!missing && !(error instanceof TraceError)) return error;
  const what = missing ? `the op ${missing} has no native form` : error.message;
  const line = userLine(error.stack ?? '');
  return new TraceError(line ? `${what} at ${line}` : what, { cause: error });
}

/** The first line of a stack that is neither TensorFlow.js' nor of this folder. */
function userLine(stack: string): string | undefined {
  for (const line of stack.split('\n').slice(1)) {
    if (/node_modules|node:|tfjs-\w+[\\/]src[\\/]|[\\/]src[\\/]jit[\\/]|<anonymous>/.test(line))
      continue;
    const place = /(?:\(|at (?:async )?)((?:file:\/\/)?[^()]+:\d+):\d+\)?$/.exec(line)?.[1];
    if (place) return place.replace(/^file:\/\//, '');
  }
  return undefined;
}
