// @ts-check
// The thread of native runs: holds tensors by number and compiled graphs, and runs one after another
// what the main thread posts, in order. A failed run marks its outputs; who reads one gets the error.
import { parentPort } from 'node:worker_threads';
import * as ort from 'onnxruntime-node';
import { instance, runChunks } from './chunks.mjs';

/** @typedef {{ shape: number[], dtype: ort.Tensor.Type }} Spec */
/** @typedef {{ session: ort.InferenceSession, inputs: string[], outputs: (Spec & { name: string, shown: number[] })[] }} Compiled */

const ARRAYS = /** @type {const} */ ({
  float32: Float32Array,
  int32: Int32Array,
  bool: Uint8Array,
  uint8: Uint8Array,
});

/** Runs after which a buffer that nobody took again is given back. */
const KEPT_RUNS = 4;

/** @type {Map<number, ort.Tensor | Error>} */
const tensors = new Map();
/** @type {Map<number, Compiled>} */
const graphs = new Map();
/** @type {Map<string, { data: any, run: number }[]>} Buffers of freed tensors by kind and size. */
const spare = new Map();
let runs = 0;

/** @param {Spec} spec @returns {ort.Tensor} */
function allocate({ dtype, shape }) {
  const size = shape.reduce((a, b) => a * b, 1);
  const data = spare.get(`${dtype}${size}`)?.pop()?.data;
  const type = /** @type {keyof typeof ARRAYS} */ (dtype);
  return new ort.Tensor(type, data ?? newArray(type, size, shape), shape);
}

/** @param {keyof typeof ARRAYS} type @param {number} size @param {number[]} shape */
function newArray(type, size, shape) {
  try {
    return new ARRAYS[type](size);
  } catch {
    const megabytes = ((size * ARRAYS[type].BYTES_PER_ELEMENT) / 2 ** 20).toFixed(0);
    throw new Error(`Out of memory: ${megabytes} MB were wanted for a result of shape [${shape}]`);
  }
}

/** The same numbers in another shape. @param {ort.Tensor} tensor @param {number[]} shape */
function shaped(tensor, shape) {
  const isSame = tensor.dims.length === shape.length && shape.every((n, i) => n === tensor.dims[i]);
  return isSame ? tensor : new ort.Tensor(tensor.type, /** @type {any} */ (tensor.data), shape);
}

/** @param {number[]} ids */
function free(ids) {
  for (const id of ids) {
    const tensor = tensors.get(id);
    tensors.delete(id);
    if (!(tensor instanceof ort.Tensor)) continue;
    const key = `${tensor.type}${tensor.size}`;
    const list = spare.get(key) ?? [];
    list.push({ data: tensor.data, run: runs });
    spare.set(key, list);
  }
}

/** Lets buffers go that the last runs did not take. */
function trim() {
  for (const [key, list] of spare) {
    const kept = list.filter(({ run }) => run > runs - KEPT_RUNS);
    if (kept.length === 0) spare.delete(key);
    else if (kept.length < list.length) spare.set(key, kept);
  }
}

/** The first output of all models and what is said about it when a run is done: see onnx.ts. */
const SIGNAL = 'ran';
/** @param {Error} error */
function passSignal(error) {
  if (!/^Non tensor type/.test(error.message)) throw error;
}

/** @typedef {{ count: number, feedback: [number, number][], carried: number }} Loop */
/** @typedef {Record<string, ort.Tensor>} Feeds */
/** @typedef {Record<string, ort.Tensor | null>} Fetches */

/** @param {Compiled} compiled @param {Feeds} feeds @param {Fetches} fetches */
const once = ({ session }, feeds, fetches) => session.run(feeds, fetches).catch(passSignal);

/**
 * Runs again and again on what the last run gave, and keeps what each gives beside it.
 * @param {Compiled} compiled @param {Feeds} feeds @param {Fetches} fetches
 * @param {number[]} outs @param {Loop} loop
 */
async function repeat(compiled, feeds, fetches, outs, { count, feedback, carried }) {
  const { inputs, outputs } = compiled;
  const stacks = outputs
    .slice(carried)
    .map(({ dtype, shown }) => allocate({ dtype, shape: [count, ...shown] }));
  /** @type {Set<any>} */
  const own = new Set();
  for (let i = 0; i < count; i++) {
    await once(compiled, feeds, fetches);
    for (const [k, stack] of stacks.entries()) {
      const { name } = /** @type {Spec & { name: string }} */ (outputs[carried + k]);
      const { data } = /** @type {ort.Tensor} */ (fetches[name]);
      /** @type {any} */ (stack.data).set(data, i * data.length);
    }
    if (i === count - 1) break;
    for (const [from, to] of feedback) {
      const output = /** @type {Spec & { name: string, shown: number[] }} */ (outputs[from]);
      const input = /** @type {string} */ (inputs[to]);
      const before = /** @type {ort.Tensor} */ (feeds[input]);
      const made = /** @type {ort.Tensor} */ (fetches[output.name]);
      if (made.data === before.data) continue;
      feeds[input] = shaped(made, [...before.dims]);
      fetches[output.name] = own.has(before.data) ? shaped(before, output.shape) : allocate(output);
      own.add(made.data);
    }
  }
  for (const [i, { name, shown }] of outputs.entries()) {
    const id = /** @type {number} */ (outs[i]);
    const last = shaped(/** @type {ort.Tensor} */ (fetches[name]), shown);
    tensors.set(id, i < carried ? last : /** @type {ort.Tensor} */ (stacks[i - carried]));
  }
}

/** @param {{ graph: number, ins: number[], outs: number[], inPlace: [number, number][], loop?: Loop }} message */
async function run({ graph, ins, outs, inPlace, loop }) {
  runs++;
  try {
    const compiled = /** @type {Compiled} */ (graphs.get(graph));
    /** @type {Feeds} */
    const feeds = {};
    for (const [i, name] of compiled.inputs.entries()) {
      const tensor = tensors.get(/** @type {number} */ (ins[i]));
      if (!(tensor instanceof ort.Tensor)) throw tensor ?? new Error('a freed tensor was used');
      feeds[name] = tensor;
    }
    const shared = new Map(inPlace);
    /** @type {Fetches} */
    const fetches = { [SIGNAL]: null };
    for (const [i, output] of compiled.outputs.entries()) {
      const source = shared.get(i);
      const tensor =
        source === undefined
          ? allocate(output)
          : /** @type {ort.Tensor} */ (tensors.get(/** @type {number} */ (ins[source])));
      fetches[output.name] = shaped(tensor, output.shape);
      tensors.set(/** @type {number} */ (outs[i]), shaped(tensor, output.shown));
    }
    for (const source of shared.values()) {
      const id = /** @type {number} */ (ins[source]);
      tensors.set(id, new Error('a tensor was used that an earlier call overwrote in place'));
    }
    if (loop) await repeat(compiled, feeds, fetches, outs, loop);
    else await once(compiled, feeds, fetches);
  } catch (error) {
    for (const id of outs) tensors.set(id, /** @type {Error} */ (error));
  }
  trim();
}

/** @param {any} message */
async function compile({ graph, model, options, frozen, inputs, outputs }) {
  const externalData = frozen.map((/** @type {[string, number]} */ [path, id]) => {
    const { data } = /** @type {ort.Tensor} */ (tensors.get(id));
    const { buffer, byteOffset, byteLength } = /** @type {Float32Array} */ (data);
    return { path, data: new Uint8Array(buffer, byteOffset, byteLength) };
  });
  const session = await ort.InferenceSession.create(model, { ...options, externalData });
  graphs.set(graph, { session, inputs, outputs });
}

/** @type {Map<string, import('./chunks.mjs').Kernels>} */
const kernels = new Map();

/** @param {any} message */
function chunks({ id, module, key, call, shape }) {
  runs++;
  try {
    const known = kernels.get(key) ?? instance(module);
    kernels.set(key, known);
    const tensor = allocate({ dtype: 'float32', shape });
    runChunks(known, call, /** @type {Float32Array} */ (tensor.data));
    tensors.set(id, tensor);
  } catch (error) {
    tensors.set(id, /** @type {Error} */ (error));
  }
  trim();
}

/** @param {number} id */
function read(id) {
  const tensor = tensors.get(id);
  if (tensor instanceof ort.Tensor) return /** @type {Float32Array} */ (tensor.data).slice();
  throw tensor ?? new Error('a freed tensor was read');
}

/** @param {any} message */
async function handle(message) {
  if (message.kind === 'run') return run(message);
  if (message.kind === 'put') {
    return void tensors.set(message.id, new ort.Tensor(message.dtype, message.data, message.shape));
  }
  if (message.kind === 'chunks') return chunks(message);
  if (message.kind === 'free') return free(message.ids);
  if (message.kind === 'read') return read(message.id);
  if (message.kind === 'compile') return compile(message);
  if (message.kind === 'release') {
    const compiled = graphs.get(message.graph);
    graphs.delete(message.graph);
    return compiled?.session.release();
  }
  throw new Error(`Unknown request '${message.kind}'`);
}

/** Answers go to the port that waits for them, then wake who sleeps on `signal`. */
/** @param {any} message */
async function answer(message) {
  /** @type {{ value?: any, error?: string }} */
  let reply;
  try {
    reply = { value: await handle(message) };
  } catch (error) {
    reply = { error: error instanceof Error ? error.message : String(error) };
  }
  const { port, signal, ticket } = message;
  if (ticket !== undefined) parentPort?.postMessage({ ticket, ...reply });
  if (port === undefined) return;
  port.postMessage(reply);
  Atomics.store(signal, 0, 1);
  Atomics.notify(signal, 0);
}

let last = Promise.resolve();
parentPort?.on('message', (message) => {
  last = last.then(() => answer(message));
});
