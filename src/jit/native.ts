// The native side: tensors that live in the thread of ONNX Runtime, and the graphs that run there.
// Such a tensor is an ordinary tf.Tensor; an eager op that reads it moves it to its own backend, as
// TensorFlow.js moves tensors between any two backends.
import { availableParallelism } from 'node:os';
import { MessageChannel, receiveMessageOnPort, Worker } from 'node:worker_threads';
import * as tf from '@tensorflow/tfjs';
import { graphType, markBytes } from './bytes.ts';
import type { ChunkedCall } from './chunks.mjs';
import type { OnnxGraph, OnnxValue } from './onnx.ts';
import { encodeOnnx } from './onnx.ts';

/** Name of the TensorFlow.js backend that holds native tensors. No op runs on it. */
const BACKEND = 'onnxruntime';

/** Where graphs run and on how many threads. */
export interface NativeOptions {
  /** ONNX Runtime's execution providers, tried in order. Default `['cpu']`. */
  executionProviders?: string[];
  /** Threads of the CPU provider. Default: all cores. */
  threads?: number;
}

/** What a native tensor has for numbers: its number in the thread. */
class NativeData {
  references = 1;
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }
}

type Reply = { value?: unknown; error?: string };
type Pending = { resolve: (value: unknown) => void; reject: (error: Error) => void };

/** The thread, which is started by its first use and does not keep the process alive. */
class NativeThread {
  private readonly worker = new Worker(new URL('./native-thread.mjs', import.meta.url), {
    execArgv: [],
  });
  private readonly pending = new Map<number, Pending>();
  private freed: number[] = [];
  private count = 0;

  constructor() {
    this.worker.on('message', (reply: Reply & { ticket: number }) => this.settle(reply));
    this.worker.on('error', (error) => this.fail(error));
    this.worker.unref();
  }

  /** A number that nothing else has. */
  next(): number {
    return this.count++;
  }

  /** Posts a request that needs no answer. */
  post(message: Record<string, unknown>, transfer: ArrayBuffer[] = []): void {
    this.flush();
    this.worker.postMessage(message, transfer);
  }

  /** Frees a tensor before the next request. */
  free(id: number): void {
    if (this.freed.push(id) === 1) setImmediate(() => this.flush());
  }

  /** The answer to a request. */
  ask(message: Record<string, unknown>): Promise<unknown> {
    const ticket = this.next();
    this.post({ ...message, ticket });
    this.worker.ref();
    return new Promise((resolve, reject) => this.pending.set(ticket, { resolve, reject }));
  }

  /** The answer to a request; the caller's thread sleeps until it is there. */
  askNow(message: Record<string, unknown>): unknown {
    const { port1, port2 } = new MessageChannel();
    const signal = new Int32Array(new SharedArrayBuffer(4));
    this.flush();
    this.worker.postMessage({ ...message, port: port2, signal }, [port2]);
    Atomics.wait(signal, 0, 0);
    const reply = receiveMessageOnPort(port1)?.message as Reply;
    port1.close();
    if (reply.error !== undefined) throw nativeError(reply.error);
    return reply.value;
  }

  private flush(): void {
    if (this.freed.length === 0) return;
    const ids = this.freed;
    this.freed = [];
    this.worker.postMessage({ kind: 'free', ids });
  }

  private settle({ ticket, value, error }: Reply & { ticket: number }): void {
    const pending = this.pending.get(ticket);
    this.pending.delete(ticket);
    if (this.pending.size === 0) this.worker.unref();
    if (error === undefined) pending?.resolve(value);
    else pending?.reject(nativeError(error));
  }

  private fail(error: Error): void {
    for (const { reject } of this.pending.values()) reject(error);
    this.pending.clear();
  }
}

const nativeError = (message: string) => new Error(`The native run failed: ${message}`);

/** Holds native tensors for TensorFlow.js. */
class NativeBackend extends tf.KernelBackend {
  readonly thread = new NativeThread();

  /** A new tensor's data, with numbers that the thread takes over. */
  put(values: tf.TypedArray, shape: number[], dtype: tf.DataType | 'uint8'): NativeData {
    const id = this.thread.next();
    const data = values.byteLength === values.buffer.byteLength ? values : values.slice();
    const buffer = data.buffer as ArrayBuffer;
    this.thread.post({ kind: 'put', id, dtype, shape: [...shape], data }, [buffer]);
    return new NativeData(id);
  }

  override readSync(data: object): tf.TypedArray {
    return this.thread.askNow({ kind: 'read', id: idOf(data) }) as tf.TypedArray;
  }

  override async read(data: object): Promise<tf.TypedArray> {
    return (await this.thread.ask({ kind: 'read', id: idOf(data) })) as tf.TypedArray;
  }

  override disposeData(data: object, force = false): boolean {
    const own = ownData(data);
    if (!own) return true;
    own.references--;
    if (own.references > 0 && !force) return false;
    this.thread.free(own.id);
    moved.delete(data);
    return true;
  }

  override incRef(data: object): void {
    const own = ownData(data);
    if (own) own.references++;
  }

  override refCount(data: object): number {
    return ownData(data)?.references ?? 0;
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

/** Data ids of other backends whose numbers were moved here. */
const moved = new WeakMap<object, NativeData>();

const ownData = (data: object) =>
  moved.get(data) ?? (data instanceof NativeData ? data : undefined);

function idOf(data: object): number {
  const own = ownData(data);
  if (!own) throw new Error('A native tensor was used after it was freed');
  return own.id;
}

/** The backend that holds native tensors, registered by its first use. */
function nativeBackend(): NativeBackend {
  const engine = tf.engine();
  if (!engine.registryFactory[BACKEND]) {
    tf.registerBackend(BACKEND, () => new NativeBackend(), 0);
    countWhereTheyAre(engine);
  }
  return tf.findBackend(BACKEND) as NativeBackend;
}

/**
 * Lets TensorFlow.js count references on the backend that holds a tensor. Its own `incRef`, which
 * makes and assigns variables, asks the backend of eager ops, and so moves the tensor there.
 */
function countWhereTheyAre(engine: ReturnType<typeof tf.engine>): void {
  engine.incRef = (tensor, backend) => {
    engine.trackTensor(tensor, backend);
    const holder = engine.state.tensorInfo.get(tensor.dataId)?.backend ?? engine.backend;
    holder.incRef(tensor.dataId);
  };
}

/** A tensor that lives in the native thread; `values` must not be used afterwards. */
export function nativeTensor(
  values: Float32Array | Int32Array | Uint8Array,
  shape: number[],
  dtype: 'float32' | 'int32' | 'bool' | 'uint8' = 'float32',
): tf.Tensor {
  const backend = nativeBackend();
  const dataId = backend.put(values, shape, dtype);
  if (dtype !== 'uint8') {
    return tf.engine().makeTensorFromTensorInfo({ dataId, shape, dtype }, backend);
  }
  return markBytes(tf.engine().makeTensorFromTensorInfo({ dataId, shape, dtype: 'bool' }, backend));
}

/** What a WebAssembly function makes of arrays chunk by chunk, in the thread; `key` names its module. */
export function nativeChunks(
  module: WebAssembly.Module,
  key: string,
  call: ChunkedCall,
  shape: readonly number[],
): tf.Tensor {
  const backend = nativeBackend();
  const data = new NativeData(backend.thread.next());
  const own = [...shape];
  // A view would be cloned with all that lies around it.
  const inputs = call.inputs.map((input) => ({ ...input, data: input.data.slice() }));
  const transfer = inputs.map((input) => input.data.buffer as ArrayBuffer);
  const message = {
    kind: 'chunks',
    id: data.id,
    module,
    key,
    call: { ...call, inputs },
    shape: own,
  };
  backend.thread.post(message, transfer);
  const info = { dataId: data, shape: own, dtype: 'float32' as const };
  return tf.engine().makeTensorFromTensorInfo(info, backend);
}

/** The number of a tensor in the thread, to which it is moved if it lives elsewhere. */
function moveHere(tensor: tf.Tensor, backend: NativeBackend): number {
  const { dataId } = tensor;
  const own = ownData(dataId);
  const info = tf.engine().state.tensorInfo.get(dataId);
  if (!info) throw new Error('A disposed tensor was passed to a jit function');
  if (own && info.backend === backend) return own.id;
  const source = info.backend;
  const references = source.refCount(dataId);
  const numbers = source.readSync(dataId) as tf.TypedArray;
  // WASM hands out a copy; other backends may hand out the array that the user gave.
  const values = source === tf.findBackend('wasm') ? numbers : numbers.slice();
  const data = backend.put(values, tensor.shape, graphType(tensor));
  data.references = references;
  source.disposeData(dataId, true);
  info.backend = backend;
  moved.set(dataId, data);
  return data.id;
}

/** What a graph says about its outputs. */
export interface OutputPlan {
  /** Shapes of the tensors that come out, where they differ from the graph's. */
  shapes?: number[][];
  /** Pairs [output, input]: the operator writes into the buffer of the input. */
  overwritten?: [number, number][];
  /** Pairs [output, input]: the input is free when the output is written, and may become it. */
  reused?: [number, number][];
}

/** Several runs one after another. */
export interface Loop {
  count: number;
  /** Pairs [output, input]: the output is that input of the next run. */
  feedback: [number, number][];
  /** How many outputs are given as the last run leaves them; those after them are stacked. */
  carried: number;
}

/** A compiled graph. */
export class NativeGraph {
  private readonly id: number;
  private readonly outputs: OnnxValue[];
  private readonly plan: OutputPlan;

  /**
   * Compiles a graph; throws if ONNX Runtime refuses it. `frozen` are the numbers of constants that the
   * graph leaves open, in their order.
   */
  constructor(
    graph: OnnxGraph,
    options: NativeOptions = {},
    plan: OutputPlan = {},
    frozen: readonly tf.Tensor[] = [],
  ) {
    const backend = nativeBackend();
    const { thread } = backend;
    this.id = thread.next();
    this.plan = plan;
    this.outputs = graph.outputs.map((output, i) => ({
      ...output,
      shape: plan.shapes?.[i] ?? output.shape,
    }));
    const { executionProviders = ['cpu'], threads = availableParallelism() } = options;
    const open = graph.initializers.filter(({ data }) => !data);
    thread.askNow({
      kind: 'compile',
      graph: this.id,
      model: encodeOnnx(graph),
      frozen: frozen.map((tensor, i) => [open[i]!.name, moveHere(tensor, backend)]),
      inputs: graph.inputs.map(({ name }) => name),
      outputs: graph.outputs.map((output, i) => ({ ...output, shown: this.outputs[i]!.shape })),
      options: {
        executionProviders,
        intraOpNumThreads: threads,
        interOpNumThreads: 1,
        graphOptimizationLevel: 'disabled',
        enableMemPattern: false,
        executionMode: 'sequential',
        // Softmax makes e^-88 of what a mask hides: subnormal, on which some processors are very slow.
        // A graph's threads that spin after its run take the cores from the next graph's.
        extra: { session: { set_denormal_as_zero: '1', force_spinning_stop: '1' } },
      },
    });
  }

  /** Starts a run, or a loop, and returns its outputs at once; who reads one waits for the run. */
  run(inputs: readonly tf.Tensor[], loop?: Loop): tf.Tensor[] {
    const backend = nativeBackend();
    const ins = inputs.map((tensor) => moveHere(tensor, backend));
    const data = this.outputs.map(() => new NativeData(backend.thread.next()));
    const outs = data.map(({ id }) => id);
    const { overwritten = [], reused = [] } = this.plan;
    const free = reused.filter(([, i]) => ownData(inputs[i]!.dataId)?.references === 1);
    backend.thread.post({
      kind: 'run',
      graph: this.id,
      ins,
      outs,
      inPlace: [...overwritten, ...free],
      loop,
    });
    const shapeOf = (shape: readonly number[], i: number) =>
      loop && i >= loop.carried ? [loop.count, ...shape] : [...shape];
    return this.outputs.map(({ shape, dtype }, i) =>
      tf
        .engine()
        .makeTensorFromTensorInfo(
          { dataId: data[i]!, shape: shapeOf(shape, i), dtype: dtype as 'float32' },
          backend,
        ),
    );
  }

  /** Frees the graph. */
  dispose(): void {
    nativeBackend().thread.post({ kind: 'release', graph: this.id });
  }
}
