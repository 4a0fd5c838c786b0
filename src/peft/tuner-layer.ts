// TunerLayer stands in a layer's place and adds its adapters: y = a.output(x, W a.input(x) + b).
// Several active adapters follow one another; rows of a batch may each have an adapter of their own.
import * as tf from '@tensorflow/tfjs';
import { isTracing } from '../jit/trace.ts';
import { linear } from '../nn/linear.ts';
import { Module } from '../nn/module.ts';
import {
  type BaseLayer,
  changeWeight,
  isLinear,
  isQuantized,
  type LinearLayer,
  readWeight,
  takesWeight,
  writeBias,
  writeWeight,
} from './base-layer.ts';

/** The name that stands for no adapter among `adapterNames`. */
export const BASE_ROWS = '__base__';

/** Adapters that count together, each with a weight at each position: a mixture of experts. */
export interface Mixture {
  experts: readonly string[];
  /** [B, T, E] in the order of `experts`, or [B, 1, E] for whole rows. */
  weights: tf.Tensor3D;
}

/** What is done to a merged weight and to the inputs before they are multiplied. */
export interface Rounding {
  weight: (weight: tf.Tensor) => tf.Tensor;
  input: (x: tf.Tensor) => tf.Tensor;
}

/** What all layers of a PeftModel share, so that a switch is one assignment. */
export interface AdapterState {
  active: readonly string[];
  disabled: boolean;
  /** Of each row of the batch the adapter, during a forward pass with `adapterNames`. */
  rows: readonly string[] | undefined;
  /** In the place of `active`, during a forward pass with `mixture`. */
  mixture: Mixture | undefined;
  /** How merged weights and inputs are rounded, in quantization-aware training. */
  rounding?: Rounding | undefined;
  /** Seed of dropout, a scalar int32; another one at each forward pass in training. */
  readonly seed: tf.Variable;
}

/** One pass through an adapted layer. */
export interface LayerCall {
  /** What the layer got, [..., in]. */
  x: tf.Tensor;
  /** What it gives so far, [..., out]. */
  y: tf.Tensor;
  base: BaseLayer;
  /** Seed of dropout; undefined when nothing is to be dropped. */
  seed: tf.Tensor | undefined;
}

/** What one adapter does to one layer. Its tf.Variables are its parameters. */
export abstract class LayerAdapter extends Module {
  /** The weight that the base layer is to have from now on, where its first values ask for one. */
  protected baseWeight: { value: tf.Tensor } | undefined;

  /** Whether `mergeWeight` is possible. */
  get isMergeable(): boolean {
    return true;
  }

  /** What the layer gets in the place of x. */
  input(x: tf.Tensor): tf.Tensor {
    return x;
  }

  /**
   * What layer and adapter give for x, in a graph and with no other adapter, where that takes fewer
   * reads than `input` and `output`; undefined where it does not.
   */
  alone(_x: tf.Tensor, _base: LinearLayer, _seed: tf.Tensor | undefined): tf.Tensor | undefined {
    return undefined;
  }

  /** What the layer gives in the place of y. */
  abstract output(call: LayerCall): tf.Tensor;

  /** What it adds to y. */
  update(call: LayerCall): tf.Tensor {
    return tf.sub(this.output(call), call.y);
  }

  /** The weight, in the shape of `readWeight`, that makes the layer do what both do together. */
  abstract mergeWeight(weight: tf.Tensor): tf.Tensor;

  /** The weight before `mergeWeight`, up to rounding. */
  abstract unmergeWeight(weight: tf.Tensor): tf.Tensor;

  /** The bias that goes with `mergeWeight`; undefined when it stays. */
  mergeBias(_bias: tf.Tensor): tf.Tensor | undefined {
    return undefined;
  }

  /** The bias before `mergeBias`. */
  unmergeBias(_bias: tf.Tensor): tf.Tensor | undefined {
    return undefined;
  }

  /** Gives the base layer the weight that the first values ask for. */
  prepare(base: BaseLayer): BaseLayer {
    if (!this.baseWeight) return base;
    const { value } = this.baseWeight;
    this.baseWeight = undefined;
    const next = writeWeight(base, value);
    value.dispose();
    return next;
  }

  /** Parameters by the names that PEFT's files have after the layer's path. */
  abstract state(): Record<string, tf.Tensor>;
}

/** A layer and its adapters by name. */
export class TunerLayer extends Module {
  baseLayer: BaseLayer;
  readonly adapters = new Map<string, LayerAdapter>();
  /** Adapters that are in the base layer's weight now. */
  readonly merged: string[] = [];
  private readonly state: AdapterState;

  constructor(baseLayer: BaseLayer, state: AdapterState) {
    super();
    this.baseLayer = baseLayer;
    this.state = state;
  }

  /** What code that looks for the layer's own fields finds. */
  get weight(): tf.Tensor | undefined {
    return (this.baseLayer as { weight?: tf.Tensor }).weight;
  }

  get bias(): tf.Tensor | undefined {
    return (this.baseLayer as { bias?: tf.Tensor }).bias;
  }

  override *namedChildren(): Generator<[string, Module]> {
    yield ['base_layer', this.baseLayer];
    yield* this.adapters;
  }

  /** Adds an adapter, which is used when it is active. */
  add(name: string, adapter: LayerAdapter): void {
    this.baseLayer = adapter.prepare(this.baseLayer);
    this.adapters.set(name, adapter);
  }

  /** x [..., in] to [..., out]. */
  forward(x: tf.Tensor): tf.Tensor {
    const { rows, mixture, disabled, active } = this.state;
    if (disabled || this.merged.length > 0) return this.baseLayer.forward(x);
    if (mixture) return this.forwardMixture(mixture, x);
    return rows ? this.forwardRows(x, rows) : this.forwardWith(active, x);
  }

  /** Puts an adapter into the base layer's weight. */
  merge(name: string): void {
    const adapter = this.adapters.get(name);
    if (!adapter) return;
    this.change(
      (weight) => adapter.mergeWeight(weight),
      (bias) => adapter.mergeBias(bias),
    );
    this.merged.push(name);
  }

  /** Takes the adapter that was merged last out of the weight. */
  unmerge(): void {
    const adapter = this.adapters.get(this.merged.pop()!)!;
    this.change(
      (weight) => adapter.unmergeWeight(weight),
      (bias) => adapter.unmergeBias(bias),
    );
  }

  /** Throws unless these adapters can become part of the layer's weight. */
  checkMergeable(names: readonly string[], path: string): void {
    const adapters = this.named(names);
    const stuck = adapters.find((adapter) => !adapter.isMergeable);
    if (stuck) {
      throw new TypeError(
        `${stuck.constructor.name} on '${path}' can not be merged into its weight`,
      );
    }
    if (adapters.length === 0 || takesWeight(this.baseLayer)) return;
    const { name } = this.baseLayer.constructor;
    throw new TypeError(`'${path}' is ${name}, which takes no merged weight; dequantize it first`);
  }

  /** Whether all numbers of the weight would be finite with these adapters in it. */
  wouldBeFinite(names: readonly string[]): boolean {
    const adapters = this.named(names);
    return tf.tidy(() => {
      const weight = adapters.reduce((w, adapter) => adapter.mergeWeight(w), this.readWeight());
      return tf.all(tf.isFinite(weight)).dataSync()[0] === 1;
    });
  }

  private readWeight(): tf.Tensor {
    return readWeight(this.baseLayer);
  }

  private change(
    weight: (w: tf.Tensor) => tf.Tensor,
    bias: (b: tf.Tensor) => tf.Tensor | undefined,
  ): void {
    const { baseLayer } = this;
    tf.tidy(() => {
      const own = isLinear(baseLayer) ? baseLayer.bias : undefined;
      const nextBias = own && bias(own);
      this.baseLayer = changeWeight(baseLayer, weight);
      if (nextBias) writeBias(this.baseLayer as LinearLayer, nextBias);
    });
  }

  private named(names: readonly string[]): LayerAdapter[] {
    return names.flatMap((name) => this.adapters.get(name) ?? []);
  }

  private forwardWith(names: readonly string[], x: tf.Tensor): tf.Tensor {
    const adapters = this.named(names);
    const base = this.baseLayer;
    const { rounding } = this.state;
    if (rounding && isLinear(base)) return this.forwardMerged(adapters, rounding, x);
    const seed = this.training ? this.state.seed : undefined;
    if (adapters.length === 1 && isTracing() && isLinear(base) && !isQuantized(base)) {
      const y = adapters[0]!.alone(x, base, seed);
      if (y) return y;
    }
    const input = adapters.reduce((value, adapter) => adapter.input(value), x);
    const first = base.forward(input);
    return adapters.reduce((y, adapter) => adapter.output({ x: input, y, base, seed }), first);
  }

  /** x (W + what adapters add)^T + b, with weight and x rounded. */
  private forwardMerged(adapters: LayerAdapter[], rounding: Rounding, x: tf.Tensor): tf.Tensor {
    const own = (this.baseLayer as LinearLayer).bias;
    const weight = adapters.reduce((w, adapter) => adapter.mergeWeight(w), this.readWeight());
    const bias = own && adapters.reduce((b, adapter) => adapter.mergeBias(b) ?? b, own);
    return linear(rounding.input(x), rounding.weight(weight), bias);
  }

  /** y + sum_e w_e u_e, with u_e what expert e adds to y. */
  private forwardMixture({ experts, weights }: Mixture, x: tf.Tensor): tf.Tensor {
    const base = this.baseLayer;
    const y = base.forward(x); // [B, T, out]
    const updates = experts.flatMap((name, i) => {
      const adapter = this.adapters.get(name);
      if (!adapter) return [];
      const share = tf.slice(weights, [0, 0, i], [-1, -1, 1]); // [B, T or 1, 1]
      return [tf.mul(adapter.update({ x, y, base, seed: undefined }), share)];
    });
    return tf.addN([y, ...updates]);
  }

  private forwardRows(x: tf.Tensor, rows: readonly string[]): tf.Tensor {
    const names = [...new Set(rows)];
    const repeats = [rows.length / x.shape[0]!, ...x.shape.slice(1).map(() => 1)];
    const whole = x.shape[0] === rows.length ? x : tf.tile(x, repeats);
    const groups = names.map((name) => rows.flatMap((row, i) => (row === name ? [i] : [])));
    const parts = groups.map((group, i) => {
      const name = names[i]!;
      const part = tf.gather(whole, tf.tensor1d(group, 'int32'));
      return this.forwardWith(name === BASE_ROWS ? [] : [name], part);
    });
    const order = groups.flat();
    const back = order.map((_, row) => order.indexOf(row));
    return tf.gather(tf.concat(parts, 0), tf.tensor1d(back, 'int32'));
  }
}
