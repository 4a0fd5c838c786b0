// A bench for quantization: methods on one matrix or on all linear layers of a model, with bits a weight (all
// overhead counted), errors of weights and outputs, loss, divergence from what the model said before, and time.
// Calibration inputs are those of the model as it was: layers before are not rounded first.
// Left out: speed of inference.
import * as tf from '@tensorflow/tfjs';
import { type CausalLM, causalLMLoss } from '../models/causal-lm.ts';
import type { Linear } from '../nn/linear.ts';
import type { Module } from '../nn/module.ts';
import { linearLayers, watchInputs } from '../quant/calibration.ts';
import { type Chart, lineChart } from './chart.ts';
import type { QuantMethod } from './quant-methods.ts';

/** What a method does to a matrix, or to a model. */
export interface QuantRow {
  method: string;
  /** Bits of a code. */
  bits: number;
  /** Numbers that share a scale; 0 for a whole row. */
  group: number;
  /** Bits a weight, with scales and what else files hold. */
  bitsPerWeight: number;
  /** |W - Q| / |W| */
  weightError: number;
  /** |X W^T - X Q^T| / |X W^T|; undefined without inputs. */
  outputError: number | undefined;
  milliseconds: number;
}

/** The same of a model, whose errors are over all layers together. */
export interface QuantModelRow extends QuantRow, ModelScore {
  /** The loss over that of the model as it was; rounding can make an over-confident model better. */
  addedLoss: number;
}

/** What a model says of some text. */
export interface ModelScore {
  /** Nats a token. */
  loss: number;
  /** exp(loss) */
  perplexity: number;
  /** Mean sum p ln(p / q) over positions: p as the model was, q as it is. Nats a token. */
  divergence: number;
}

/** Sums of squares over layers. */
interface Sums {
  lost: number;
  whole: number;
}

/**
 * Each method on a matrix [out, in]. `inputs` [rows, in] are what methods calibrate with; output errors are
 * on `heldOut`, or on the same inputs.
 */
export function benchLayer(
  weight: tf.Tensor2D,
  methods: readonly QuantMethod[],
  { inputs, heldOut = inputs }: { inputs?: tf.Tensor2D; heldOut?: tf.Tensor2D | undefined } = {},
): QuantRow[] {
  const values = weight.dataSync() as Float32Array;
  return methods.map((method) => {
    const start = performance.now();
    const rounded = method.round(values, weight.shape, inputs);
    const milliseconds = performance.now() - start;
    const weights = weightSums(values, rounded);
    const outputs = heldOut && outputSums(method, weight, rounded, heldOut);
    const bytes = method.bytes(weight.shape);
    return rowOf(method, { bytes, size: weight.size, weights, outputs, milliseconds });
  });
}

/** How a model is benched. */
export interface ModelBenchOptions {
  /** Ids [B, T] that methods calibrate with. */
  calibration: tf.Tensor2D;
  /** Other ids [B, T], on which the model is measured. */
  test: tf.Tensor2D;
  /** Layers that stay as they are. Default `['lm_head']`. */
  skip?: readonly string[];
  /** Calibration rows of a layer that are kept. Default 512. */
  rows?: number;
  /** Told after each method. */
  onRow?: (row: QuantModelRow) => void;
}

/** Each method on all linear layers of a model, which is as it was in the end. */
export function benchModel(
  model: CausalLM,
  methods: readonly QuantMethod[],
  { calibration, test, skip = ['lm_head'], rows = 512, onRow }: ModelBenchOptions,
): QuantModelRow[] {
  const layers = linearLayers(model, skip);
  if (layers.length === 0) throw new RangeError('benchModel found no linear layer to quantize');
  const inputs = keepInputs(model, () => tf.tidy(() => void model.forward(calibration)), rows);
  const score = modelScore(model, test);
  const { loss } = score();
  const result = methods.map((method) => {
    const own = benchMethod(model, layers, { method, inputs, score });
    const row = { ...own, addedLoss: own.loss - loss };
    onRow?.(row);
    return row;
  });
  for (const kept of inputs.values()) kept.dispose();
  score.dispose();
  return result;
}

/** A function that measures a model on ids [B, T] against what it says now; to be disposed. */
export function modelScore(
  model: CausalLM,
  ids: tf.Tensor2D,
): ((other?: CausalLM) => ModelScore) & { dispose: () => void } {
  const sayings = (some: CausalLM) => tf.logSoftmax(some.forward(ids).logits) as tf.Tensor3D; // [B, T, V]
  const before = tf.tidy(() => sayings(model));
  const score = (other = model) => {
    const [loss, divergence] = tf.tidy(() => {
      const now = sayings(other);
      const terms = tf.sum(tf.mul(tf.exp(before), tf.sub(before, now)), -1); // [B, T]
      return [causalLMLoss(now, ids), tf.mean(terms)].map((value) => value.dataSync()[0]!);
    }) as [number, number];
    return { loss, perplexity: Math.exp(loss), divergence };
  };
  return Object.assign(score, { dispose: () => before.dispose() });
}

function benchMethod(
  model: Module,
  layers: readonly [string, Linear][],
  run: { method: QuantMethod; inputs: Map<string, tf.Tensor2D>; score: () => ModelScore },
): QuantRow & ModelScore {
  const { method, inputs, score } = run;
  const [weights, outputs]: [Sums, Sums] = [
    { lost: 0, whole: 0 },
    { lost: 0, whole: 0 },
  ];
  let [bytes, size, milliseconds] = [0, 0, 0];
  const undo: (() => void)[] = [];
  try {
    for (const [path, layer] of layers) {
      const weight = tf.clone(layer.weight) as tf.Tensor2D;
      const values = weight.dataSync() as Float32Array;
      const seen = inputs.get(path);
      const start = performance.now();
      const rounded = method.round(values, weight.shape, seen);
      milliseconds += performance.now() - start;
      add(weights, weightSums(values, rounded));
      if (seen) add(outputs, outputSums(method, weight, rounded, seen));
      bytes += method.bytes(weight.shape);
      size += weight.size;
      undo.push(replace(model, path, layer, { method, weight, rounded }));
    }
    const common = { bytes, size, weights, milliseconds };
    const found = rowOf(method, { ...common, outputs: outputs.whole > 0 ? outputs : undefined });
    return { ...found, ...score() };
  } finally {
    for (const step of undo) step();
  }
}

/** Puts the rounded layer in a model's place; returns what takes it out again. */
function replace(
  model: Module,
  path: string,
  layer: Linear,
  { method, weight, rounded }: { method: QuantMethod; weight: tf.Tensor2D; rounded: Float32Array },
): () => void {
  const variable = layer.weight as tf.Variable;
  const instead = method.layer?.(weight, layer.bias);
  if (instead) model.setSubmodule(path, instead);
  else tf.tidy(() => variable.assign(tf.tensor2d(rounded, weight.shape)));
  return () => {
    if (instead) {
      model.setSubmodule(path, layer);
      (instead as { bias?: tf.Tensor | undefined }).bias = undefined;
      instead.dispose();
    } else variable.assign(weight);
    weight.dispose();
  };
}

/** At most so many rows of what enters each linear layer, evenly chosen. */
function keepInputs(model: Module, run: () => void, most: number): Map<string, tf.Tensor2D> {
  const seen = new Map<string, tf.Tensor2D[]>();
  const see = (path: string, x: tf.Tensor) => {
    const flat = tf.keep(tf.reshape(tf.clone(x), [-1, x.shape.at(-1)!]) as tf.Tensor2D);
    seen.set(path, [...(seen.get(path) ?? []), flat]);
  };
  watchInputs(model, see, run);
  const chosen = ([path, parts]: [string, tf.Tensor2D[]]) => {
    const kept = tf.tidy(() => {
      const all = tf.concat(parts, 0);
      const step = Math.max(1, Math.ceil(all.shape[0] / most));
      return tf.stridedSlice(all, [0, 0], all.shape, [step, 1]) as tf.Tensor2D;
    });
    tf.dispose(parts);
    return [path, kept] as const;
  };
  return new Map([...seen].map(chosen));
}

function rowOf(
  { name, bits, group }: QuantMethod,
  sums: {
    bytes: number;
    size: number;
    weights: Sums;
    outputs: Sums | undefined;
    milliseconds: number;
  },
): QuantRow {
  const { bytes, size, weights, outputs, milliseconds } = sums;
  return {
    ...{ method: name, bits, group, milliseconds },
    bitsPerWeight: (8 * bytes) / size,
    weightError: Math.sqrt(weights.lost / weights.whole),
    outputError: outputs && Math.sqrt(outputs.lost / outputs.whole),
  };
}

function weightSums(values: Float32Array, rounded: Float32Array): Sums {
  let [lost, whole] = [0, 0];
  for (let i = 0; i < values.length; i++) {
    lost += (values[i]! - rounded[i]!) ** 2;
    whole += values[i]! ** 2;
  }
  return { lost, whole };
}

function outputSums(
  method: QuantMethod,
  weight: tf.Tensor2D,
  rounded: Float32Array,
  x: tf.Tensor2D,
): Sums {
  const layer = method.layer?.(weight, undefined);
  const [lost, whole] = tf.tidy(() => {
    const y = tf.matMul(x, weight, false, true);
    const q = layer
      ? layer.forward(x)
      : tf.matMul(x, tf.tensor2d(rounded, weight.shape), false, true);
    return [tf.sum(tf.square(tf.sub(y, q))), tf.sum(tf.square(y))].map((sum) => sum.dataSync()[0]!);
  }) as [number, number];
  layer?.dispose();
  return { lost, whole };
}

function add(sums: Sums, { lost, whole }: Sums): void {
  sums.lost += lost;
  sums.whole += whole;
}

/** The rows that no other beats: none takes fewer bits and has less of `error`. */
export function paretoRows<Row extends QuantRow>(
  rows: readonly Row[],
  error: (row: Row) => number,
): Row[] {
  const sorted = [...rows].sort((a, b) => a.bitsPerWeight - b.bitsPerWeight || error(a) - error(b));
  let least = Infinity;
  return sorted.filter((row) => {
    const isBetter = error(row) < least;
    least = Math.min(least, error(row));
    return isBetter;
  });
}

/**
 * Bits a weight against an error, one series for each `group` (default: a method), and a line through the
 * rows that no other beats.
 */
export function quantChart<Row extends QuantRow>(
  rows: readonly Row[],
  options: {
    title: string;
    y: string;
    error: (row: Row) => number;
    group?: (row: Row) => string;
  },
): Chart {
  const { title, y, error, group = ({ method }) => method } = options;
  const points = (name: string, some: readonly Row[]) => {
    const sorted = [...some].sort((a, b) => a.bitsPerWeight - b.bitsPerWeight);
    return { name, x: sorted.map((row) => row.bitsPerWeight), y: sorted.map(error) };
  };
  const names = [...new Set(rows.map(group))];
  const series = names.map((name) =>
    points(
      name,
      rows.filter((row) => group(row) === name),
    ),
  );
  const front = points('no other beats these', paretoRows(rows, error));
  const chart = lineChart({
    ...{ title, x: 'bits a weight, all counted', y, yScale: 'log', mode: 'markers' },
    series: [...series, front],
  });
  Object.assign(chart.data[series.length]!, { mode: 'lines' });
  return chart;
}
