// Writes a graph as an ONNX model: the few protobuf messages that it takes (onnx.proto, IR version
// 10, opset 21). Left out: string tensors.
import type { Attribute, ElementArray, ElementType } from './graph.ts';

/** A named tensor at the edge of a model. */
export interface OnnxValue {
  name: string;
  dtype: ElementType;
  shape: readonly number[];
}

/** A model before it is written: nodes refer to tensors by name. */
export interface OnnxGraph {
  nodes: {
    op: string;
    domain: string;
    ins: string[];
    outs: string[];
    attributes: Record<string, Attribute | { graph: OnnxGraph }>;
  }[];
  inputs: OnnxValue[];
  outputs: OnnxValue[];
  /** Constants; one without data is given its numbers when the model is loaded, under its name. */
  initializers: (OnnxValue & { data?: ElementArray })[];
}

const DATA_TYPES = { float32: 1, uint8: 2, int32: 6, int64: 7, bool: 9, uint32: 12 } as const;
const ATTRIBUTE_TYPES = { float: 1, int: 2, string: 3, graph: 5, ints: 7 } as const;
const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;
/** TensorProto.DataLocation of numbers outside of the model. */
const EXTERNAL = 1;

/** Protobuf fields one after another. */
class Message {
  length = 0;
  private buffer = Buffer.allocUnsafe(64);

  /** A field that is a whole number. */
  int(field: number, value: number): this {
    return this.varint(field * 8 + VARINT).varint(value);
  }

  /** A field that is a 32-bit float. */
  float(field: number, value: number): this {
    this.varint(field * 8 + FIXED32).reserve(4);
    this.length = this.buffer.writeFloatLE(value, this.length);
    return this;
  }

  /** A field that is text, raw bytes or a message. */
  bytes(field: number, value: string | Uint8Array | Message): this {
    const size = typeof value === 'string' ? Buffer.byteLength(value) : value.length;
    this.varint(field * 8 + BYTES)
      .varint(size)
      .reserve(size);
    if (typeof value === 'string') this.buffer.write(value, this.length);
    else this.buffer.set(value instanceof Message ? value.encode() : value, this.length);
    this.length += size;
    return this;
  }

  /** All of it, until the next field is added. */
  encode(): Uint8Array {
    return this.buffer.subarray(0, this.length);
  }

  private varint(value: number): this {
    this.reserve(10);
    let rest = value < 0 ? BigInt.asUintN(64, BigInt(value)) : 0n;
    for (; rest > 127n; rest >>= 7n) this.buffer[this.length++] = Number(rest & 127n) | 128;
    let low = value < 0 ? Number(rest) : value;
    for (; low > 127; low = Math.floor(low / 128)) this.buffer[this.length++] = (low % 128) | 128;
    this.buffer[this.length++] = low;
    return this;
  }

  /** Makes room for `size` more bytes. */
  private reserve(size: number): void {
    if (this.length + size <= this.buffer.length) return;
    const larger = Buffer.allocUnsafe(2 * (this.length + size));
    larger.set(this.buffer.subarray(0, this.length));
    this.buffer = larger;
  }
}

/** Name of an output that is no tensor, the first of each model. */
export const SIGNAL = 'ran';

/**
 * The bytes of an .onnx file. Its first output is an empty list, which onnxruntime-node can't hand over:
 * it then stops before it copies the others, whose numbers are already in the buffers given to it.
 */
export function encodeOnnx(graph: OnnxGraph): Uint8Array {
  const signal = { op: 'SequenceEmpty', domain: '', ins: [], outs: [SIGNAL], attributes: {} };
  const tensor = new Message().int(1, DATA_TYPES.float32);
  const list = new Message().bytes(1, new Message().bytes(1, tensor));
  const output = new Message().bytes(1, SIGNAL).bytes(2, new Message().bytes(4, list));
  const body = new Message().bytes(1, nodeMessage(signal)).bytes(12, output);
  const opset = (domain: string, version: number) => new Message().bytes(1, domain).int(2, version);
  return new Message()
    .int(1, 10)
    .bytes(2, 'peftlab')
    .bytes(7, graphMessage(graph, body))
    .bytes(8, opset('', 21))
    .bytes(8, opset('com.microsoft', 1))
    .encode();
}

function graphMessage(graph: OnnxGraph, body = new Message()): Message {
  for (const node of graph.nodes) body.bytes(1, nodeMessage(node));
  body.bytes(2, 'jit');
  for (const initializer of graph.initializers) body.bytes(5, tensorMessage(initializer));
  for (const input of graph.inputs) body.bytes(11, valueMessage(input));
  for (const output of graph.outputs) body.bytes(12, valueMessage(output));
  return body;
}

function nodeMessage({ op, domain, ins, outs, attributes }: OnnxGraph['nodes'][number]): Message {
  const message = new Message();
  for (const name of ins) message.bytes(1, name);
  for (const name of outs) message.bytes(2, name);
  message.bytes(3, outs[0]!).bytes(4, op);
  for (const [name, value] of Object.entries(attributes)) {
    message.bytes(5, attributeMessage(name, value));
  }
  return domain ? message.bytes(7, domain) : message;
}

function attributeMessage(name: string, value: Attribute | { graph: OnnxGraph }): Message {
  const message = new Message().bytes(1, name);
  if (typeof value === 'string') return message.bytes(4, value).int(20, ATTRIBUTE_TYPES.string);
  if (typeof value === 'number') return message.int(3, value).int(20, ATTRIBUTE_TYPES.int);
  if ('graph' in value) {
    return message.bytes(6, graphMessage(value.graph)).int(20, ATTRIBUTE_TYPES.graph);
  }
  if ('float' in value) return message.float(2, value.float).int(20, ATTRIBUTE_TYPES.float);
  for (const number of value) message.int(8, number);
  return message.int(20, ATTRIBUTE_TYPES.ints);
}

function tensorMessage({ name, dtype, shape, data }: OnnxGraph['initializers'][number]): Message {
  const message = new Message();
  for (const size of shape) message.int(1, size);
  if (!data) {
    const place = new Message().bytes(1, 'location').bytes(2, name);
    return message.int(2, DATA_TYPES[dtype]).bytes(8, name).bytes(13, place).int(14, EXTERNAL);
  }
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  return message.int(2, DATA_TYPES[dtype]).bytes(8, name).bytes(9, raw);
}

function valueMessage({ name, dtype, shape }: OnnxValue): Message {
  const dimensions = new Message();
  for (const size of shape) dimensions.bytes(1, new Message().int(1, size));
  const tensor = new Message().int(1, DATA_TYPES[dtype]).bytes(2, dimensions);
  return new Message().bytes(1, name).bytes(2, new Message().bytes(1, tensor));
}
