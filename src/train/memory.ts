// Memory of training and inference from shapes alone: weights, gradients, optimizer, activations, each
// with its formula, and shards of ZeRO (Rajbhandari et al. 2020) and FSDP. Activations follow
// Korthikanti et al. 2022, counted for Llama's and GPT-2's layers. Left out: fragmentation.
import { BottleneckConfig } from '../peft/bottleneck.ts';
import { countAdapter, countParameters } from '../peft/count.ts';
import { layerShapes, type ModelShape } from '../peft/layer-shapes.ts';
import { isPromptLearning, type PeftConfig } from '../peft/mapping.ts';
import { modelShape } from '../peft/prompt-learning.ts';

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
  /** Numbers of what is trained. Default: `dtype` for all, 'float32' for adapters, as PEFT's. */
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
  total: number;
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
  const isPaged = options.optimizer?.startsWith('paged_');
  const paged = isPaged ? (parts.find(({ name }) => name === 'optimizer')?.bytes ?? 0) : 0;
  return { parts, total, paged, [DISPLAY]: () => show(parts, total) };
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
  const copy = options.trainedDtype && isFull ? Math.max(0, size - BYTES[dtype]) : 0;
  return [
    part('adapter', isFull ? copy : size, 3, isFull ? ' (master copy)' : ''),
    part('gradients', size, 2, ''),
    part('optimizer', state, 1, optimizer === 'sgd' ? '' : ' (two averages)'),
  ];
}

/** What the forward pass keeps for the backward pass, and the scores of the vocabulary. */
function activationsPart(options: MemoryOptions): MemoryPart {
  const { model, batch = 1, dtype = 'bfloat16', checkpointing = false } = options;
  const { hiddenSize, numLayers } = modelShape(model);
  const { method = 'full', sequence = 512 } = options;
  const virtual = method !== 'full' && isPromptLearning(method) ? method.numVirtualTokens : 0;
  const tokens = batch * (sequence + virtual);
  const layer = layerNumbers(options, sequence + virtual);
  const kept = checkpointing ? numLayers * hiddenSize + layer : numLayers * layer;
  // Logits in the run's numbers, their softmax and its gradient in float32.
  const logits = model.vocabSize * (BYTES[dtype] + 8);
  const bytes = tokens * (kept * BYTES[dtype] + logits);
  const layers = checkpointing
    ? `${numLayers} x ${hiddenSize} + ${Math.round(layer)}`
    : `${numLayers} x ${Math.round(layer)}`;
  return {
    name: 'activations',
    bytes,
    formula: `${tokens} tokens x ((${layers}) x ${BYTES[dtype]} B + ${model.vocabSize} x ${BYTES[dtype] + 8} B of scores)`,
  };
}

/** Numbers that one layer keeps for a token: inputs of products that are trained, and of functions. */
function layerNumbers(options: MemoryOptions, sequence: number): number {
  const { model, method = 'full', flashAttention = true } = options;
  const { hiddenSize: h, numHeads, numKeyValueHeads, headDim } = modelShape(model);
  const [q, kv] = [numHeads * headDim, numKeyValueHeads * headDim];
  const isLlama = model.modelType === 'llama';
  const f = isLlama ? model.intermediateSize : (model.nInner ?? 4 * h);
  const adapts = (pattern: RegExp) => method === 'full' || touches(model, method, pattern);
  const scores = flashAttention ? numHeads : numHeads * sequence;
  const attention = q + 2 * kv + scores + q; // q, k, v, the scores or their sums, what they mix
  const norms = 2 * h + (adapts(/(q|k|v)_proj|c_attn/) ? h : 0) + (adapts(/gate|up|c_fc/) ? h : 0);
  const inner = isLlama ? 3 * f : 2 * f; // gate, its silu, up; or a sum and its tanh
  return norms + attention + inner + (adapts(/down_proj|mlp\.c_proj/) ? f : 0);
}

/** Whether an adapter sits on a layer whose path matches. */
function touches(model: ModelShape, config: PeftConfig, pattern: RegExp): boolean {
  if (isPromptLearning(config) || config instanceof BottleneckConfig) return false;
  const { targetModules } = config;
  const names = layerShapes(model).filter(({ path }) => pattern.test(path));
  if (targetModules === null || targetModules === undefined) {
    return names.some(({ path }) => /q_proj|v_proj|c_attn/.test(path));
  }
  if (targetModules === 'all-linear') return names.length > 0;
  const wanted = [targetModules].flat();
  return names.some(({ path }) =>
    wanted.some((name) => path.endsWith(name) || new RegExp(`^${name}$`).test(path)),
  );
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
      `<tr><th scope="row">${name}</th><td>${size}</td><td>${i < parts.length ? bar(parts[i]!.bytes) : ''}</td><td>${formula}</td></tr>`,
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
