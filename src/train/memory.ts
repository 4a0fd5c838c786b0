// Memory of training and inference from shapes alone: weights, gradients, optimizer, activations, each
// with its formula, and shards of ZeRO (Rajbhandari et al. 2020) and FSDP.
// Left out: fragmentation, buffers of communication.
import { countAdapter, countParameters } from '../peft/count.ts';
import type { ModelShape } from '../peft/layer-shapes.ts';
import { isPromptLearning, type PeftConfig } from '../peft/mapping.ts';
import { modelShape } from '../peft/prompt-learning.ts';
import { layerActivations, vocabularyActivations } from './activation-memory.ts';

const DISPLAY: unique symbol = Symbol.for('Jupyter.display') as never;

/** Bytes of a number. */
const BYTES = { float32: 4, bfloat16: 2, float16: 2 } as const;

/** What is to be estimated; a run of one step, or with `train: false` generation. */
export interface MemoryOptions {
  model: ModelShape;
  /** What is trained: all, or an adapter. Default 'full'. */
  method?: 'full' | PeftConfig;
  /** Bits of quantized linear layers: 4 as QLoRA stores NF4, 8 as LLM.int8. Default: none. */
  quantized?: 4 | 8 | undefined;
  /** Whether 4-bit scales are quantized again. Default true. */
  doubleQuantization?: boolean;
  /** Numbers of weights and activations. Default 'bfloat16'. */
  dtype?: keyof typeof BYTES;
  /**
   * Numbers of what is trained. Default: `dtype` for all, 'float32' for adapters, as PEFT's. Wider ones for
   * all are mixed precision: a master copy and averages beside weights and gradients in `dtype`.
   */
  trainedDtype?: keyof typeof BYTES;
  /** Default 'adamw'. Paged ones can move to the CPU. */
  optimizer?: 'adamw' | 'adamw_8bit' | 'paged_adamw_8bit' | 'paged_adamw_32bit' | 'sgd';
  /** Rows on one device. Default 1. */
  batch?: number;
  /** Tokens of a row. Default 512. */
  sequence?: number;
  /** Keep only the input of each layer. Default false. */
  checkpointing?: boolean;
  /** Whether the scores of attention are never kept (FlashAttention). Default true. */
  flashAttention?: boolean;
  /** Default true; false estimates generation with a cache of `sequence` positions. */
  train?: boolean;
  /** Devices that share the work. Default 1. */
  devices?: number;
  /** What is divided among devices: ZeRO's stages; FSDP is stage 3. Default 0. */
  zeroStage?: 0 | 1 | 2 | 3;
  /** What the driver and libraries hold on each device, in bytes. Default 0. */
  overhead?: number;
}

/** One part: its bytes on a device, and where they come from. */
export interface MemoryPart {
  name: 'weights' | 'adapter' | 'gradients' | 'optimizer' | 'activations' | 'kvCache' | 'overhead';
  bytes: number;
  formula: string;
}

/** Bytes on one device. */
export interface MemoryEstimate {
  parts: MemoryPart[];
  /** All parts: what a step with accumulated gradients holds at most. */
  total: number;
  /** The same for a single batch, where gradients come as activations go: without the smaller of both. */
  peak: number;
  /** Bytes that a paged optimizer can move to the CPU. */
  paged: number;
  [DISPLAY](): Record<string, string>;
}

/** The estimate; throws a RangeError for counts that are not positive. */
export function estimateMemory(options: MemoryOptions): MemoryEstimate {
  const { devices = 1, zeroStage = 0, train = true, batch = 1, sequence = 512 } = options;
  for (const [name, value] of Object.entries({ devices, batch, sequence })) {
    if (Number.isInteger(value) && value > 0) continue;
    throw new RangeError(`MemoryOptions.${name} must be a positive integer, got ${value}`);
  }
  const shard = (stage: number) => (zeroStage >= stage ? devices : 1);
  const base = weightsPart(options, shard(3));
  const added = train ? trainedParts(options, shard) : [];
  const held = train ? activationsPart(options) : kvPart(options);
  const overhead: MemoryPart = {
    name: 'overhead',
    bytes: options.overhead ?? 0,
    formula: 'driver and libraries',
  };
  const parts = [base, ...added, held, overhead].filter(({ bytes }) => bytes > 0);
  const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const bytesOf = (wanted: MemoryPart['name']) =>
    parts.find(({ name }) => name === wanted)?.bytes ?? 0;
  const peak = total - Math.min(bytesOf('gradients'), bytesOf('activations'));
  const isPaged = options.optimizer?.startsWith('paged_');
  const paged = isPaged ? bytesOf('optimizer') : 0;
  return { parts, total, peak, paged, [DISPLAY]: () => show(parts, total) };
}

/** Bytes of the weights that a model is loaded with, on each of `devices`. */
function weightsPart(options: MemoryOptions, devices: number): MemoryPart {
  const { model, quantized, doubleQuantization = true, dtype = 'bfloat16' } = options;
  const { total, linear } = countParameters(model);
  const size = BYTES[dtype];
  const per = devices > 1 ? ` / ${devices} devices` : '';
  if (!quantized) {
    const formula = `${count(total)} x ${size} B${per}`;
    return { name: 'weights', bytes: (total * size) / devices, formula };
  }
  // Scales: 32 bits for 64 numbers, or 8 with 32 more for 256 blocks; LLM.int8 has one a row.
  const scales = quantized === 8 ? 0 : doubleQuantization ? 8 / 64 + 32 / (64 * 256) : 32 / 64;
  const bits = quantized + scales;
  return {
    name: 'weights',
    bytes: ((linear * bits) / 8 + (total - linear) * size) / devices,
    formula: `${count(linear)} x ${bits.toFixed(3)} bits + ${count(total - linear)} x ${size} B${per}`,
  };
}

/** Adapter, gradients and optimizer. */
function trainedParts(options: MemoryOptions, shard: (stage: number) => number): MemoryPart[] {
  const { model, method = 'full', dtype = 'bfloat16', optimizer = 'adamw' } = options;
  const isFull = method === 'full';
  const trained = isFull ? countParameters(model).total : countAdapter(model, method).trainable;
  const size = BYTES[options.trainedDtype ?? (isFull ? dtype : 'float32')];
  // Mixed precision: gradients come in the numbers of the run, the master copy stays with the averages.
  const copy = isFull && size > BYTES[dtype] ? size : 0;
  const part = (name: MemoryPart['name'], each: number, stage: number, what: string) => {
    const devices = shard(stage);
    const per = devices > 1 ? ` / ${devices} devices` : '';
    const formula = `${count(trained)} x ${each.toFixed(2).replace(/\.?0+$/, '')} B${what}${per}`;
    return { name, bytes: (trained * each) / devices, formula };
  };
  const state = {
    adamw: 2 * size,
    adamw_8bit: 2 * (1 + 4 / 256),
    paged_adamw_8bit: 2 * (1 + 4 / 256),
    paged_adamw_32bit: 8,
    sgd: 0,
  }[optimizer];
  const held = [copy > 0 && 'master copy', state > 0 && 'two averages'].filter(Boolean).join(', ');
  return [
    part('adapter', isFull ? 0 : size, 3, ''),
    part('gradients', copy > 0 ? BYTES[dtype] : size, 2, ''),
    part('optimizer', state + copy, 1, held && ` (${held})`),
  ];
}

/** What the forward pass keeps for the backward pass, and the scores of the vocabulary. */
function activationsPart(options: MemoryOptions): MemoryPart {
  const { model, method = 'full', batch = 1, dtype = 'bfloat16', checkpointing = false } = options;
  const { hiddenSize, numLayers } = modelShape(model);
  const { sequence = 512, flashAttention = true } = options;
  const size = BYTES[dtype];
  const adapterSize = BYTES[options.trainedDtype ?? 'float32'];
  const virtual = method !== 'full' && isPromptLearning(method) ? method.numVirtualTokens : 0;
  const rows = { model, method, size, adapterSize, flashAttention, sequence: sequence + virtual };
  const layer = layerActivations(rows) / numLayers;
  const inputs = numLayers * hiddenSize * size;
  const kept = checkpointing ? inputs + layer : numLayers * layer;
  const scores = vocabularyActivations(model, size);
  const tokens = batch * (sequence + virtual);
  const layers = checkpointing
    ? `${numLayers} x ${count(hiddenSize * size)} B of inputs + ${count(Math.round(layer))} B of one layer`
    : `${numLayers} layers x ${count(Math.round(layer))} B`;
  return {
    name: 'activations',
    bytes: tokens * (kept + scores),
    formula: `${count(tokens)} tokens x (${layers} + ${count(scores)} B of scores)`,
  };
}

function kvPart({
  model,
  batch = 1,
  sequence = 512,
  dtype = 'bfloat16',
}: MemoryOptions): MemoryPart {
  const { numLayers, numKeyValueHeads, headDim } = modelShape(model);
  const each = 2 * numLayers * numKeyValueHeads * headDim * BYTES[dtype];
  return {
    name: 'kvCache',
    bytes: batch * sequence * each,
    formula: `${batch} x ${sequence} tokens x 2 x ${numLayers} layers x ${numKeyValueHeads} heads x ${headDim} x ${BYTES[dtype]} B`,
  };
}

const count = (n: number) => n.toLocaleString('en-US');

/** Bytes as people read them: 1 GB = 10^9 bytes. */
export function formatBytes(bytes: number): string {
  const unit = [
    ['TB', 1e12],
    ['GB', 1e9],
    ['MB', 1e6],
    ['kB', 1e3],
  ] as const;
  const [name, size] = unit.find(([, least]) => bytes >= least) ?? (['B', 1] as const);
  return `${Number((bytes / size).toPrecision(3))} ${name}`;
}

function show(parts: readonly MemoryPart[], total: number): Record<string, string> {
  const rows = parts.map(
    ({ name, bytes, formula }) => [name, formatBytes(bytes), formula] as const,
  );
  const all = [...rows, ['total', formatBytes(total), ''] as const];
  const bar = (bytes: number) =>
    `<div style="background:#0072B2;height:0.7em;width:${((150 * bytes) / total).toFixed(0)}px"></div>`;
  const html = all.map(
    ([name, size, formula], i) =>
      `<tr><th scope="row">${name}</th><td style="white-space:nowrap">${size}</td><td>${i < parts.length ? bar(parts[i]!.bytes) : ''}</td><td>${formula}</td></tr>`,
  );
  return {
    'text/html': `<table><caption>Memory of one device</caption>${html.join('')}</table>`,
    'text/plain': all
      .map(([name, size, formula]) =>
        `${name.padEnd(12)} ${size.padStart(9)}  ${formula}`.trimEnd(),
      )
      .join('\n'),
  };
}
