// IA3 (Liu et al. 2022): learned factors. Attention layers: y = l * (W x + b), with l [out, 1];
// feed-forward layers: y = W (l * x) + b, with l [1, in]. Follows PEFT's ia3/layer.py.
import * as tf from '@tensorflow/tfjs';
import { parameter } from '../nn/module.ts';
import { type RandomState, randomNormal } from '../tensor/random.ts';
import {
  type BaseLayer,
  describeLayer,
  isLinear,
  type LinearLayer,
  readWeight,
} from './base-layer.ts';
import { type CommonOptions, commonFields, type TunerConfig } from './peft-config.ts';
import { pythonRegExp, type TargetFields } from './target-modules.ts';
import { LayerAdapter, type LayerCall } from './tuner-layer.ts';
import { weightJit } from './weight-jit.ts';

/** PEFT divides by l + 1e-8 when it takes l out of a weight. */
const EPSILON = 1e-8;

/** Factors of a layer's outputs [out, 1], or of its inputs [1, in] in a feed-forward layer. */
export class IA3Layer extends LayerAdapter {
  ia3L: tf.Tensor;
  private readonly isFeedforward: boolean;

  /** Takes over l. */
  constructor(l: tf.Tensor, isFeedforward: boolean) {
    super();
    this.ia3L = parameter(l);
    this.isFeedforward = isFeedforward;
  }

  override input(x: tf.Tensor): tf.Tensor {
    return this.isFeedforward ? tf.mul(x, this.flat) : x;
  }

  override output({ y }: LayerCall): tf.Tensor {
    return this.isFeedforward ? y : tf.mul(y, this.flat);
  }

  /**
   * The same with l inside of the weight, x (l . W)^T + l b, and the gradients written out: that of l is
   * read off the products that are there, as sum(dy y) / l or sum(x dx) / l. An l of exactly 0 gets none.
   */
  override alone(x: tf.Tensor, base: LinearLayer): tf.Tensor {
    const rows = tf.reshape(x, [-1, base.inFeatures]); // [N, in]
    const product = tf.customGrad((...inputs) => {
      const [z, l, save] = inputs as [...tf.Tensor[], tf.GradSaveFunc] as [
        tf.Tensor,
        tf.Tensor,
        tf.GradSaveFunc,
      ];
      const w = tf.mul(readWeight(base), l); // [out, in]
      const value = tf.matMul(z, w, false, true); // [N, out]
      save([z, l, w, value]);
      return { value, gradFunc: (dy: tf.Tensor, saved: tf.Tensor[]) => this.gradients(dy, saved) };
    });
    const y = product(rows, this.ia3L);
    const bias = base.bias && (this.isFeedforward ? base.bias : tf.mul(base.bias, this.flat));
    const shape = [...x.shape.slice(0, -1), base.outFeatures];
    return tf.reshape(bias ? tf.add(y, bias) : y, shape);
  }

  private gradients(dy: tf.Tensor, saved: tf.Tensor[]): tf.Tensor[] {
    const [x, l, w, y] = saved as [tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor];
    const dx = tf.matMul(dy, w); // [N, in]
    const sums = this.isFeedforward ? tf.sum(tf.mul(x, dx), 0) : tf.sum(tf.mul(dy, y), 0);
    return [dx, tf.divNoNan(tf.reshape(sums, l.shape), l)];
  }

  override mergeWeight(weight: tf.Tensor): tf.Tensor {
    return times(weight, this.ia3L); // [out, in] * [out, 1] or [1, in]
  }

  override unmergeWeight(weight: tf.Tensor): tf.Tensor {
    return without(weight, this.ia3L);
  }

  override mergeBias(bias: tf.Tensor): tf.Tensor | undefined {
    return this.isFeedforward ? undefined : tf.mul(bias, this.flat);
  }

  override unmergeBias(bias: tf.Tensor): tf.Tensor | undefined {
    return this.isFeedforward ? undefined : tf.div(bias, tf.add(this.flat, EPSILON));
  }

  override state(): Record<string, tf.Tensor> {
    return { ia3_l: this.ia3L };
  }

  private get flat(): tf.Tensor {
    return tf.reshape(this.ia3L, [-1]);
  }
}

const times = weightJit(function times(weight: tf.Tensor, l: tf.Tensor): tf.Tensor {
  return tf.mul(weight, l);
});

const without = weightJit(function without(weight: tf.Tensor, l: tf.Tensor): tf.Tensor {
  return tf.div(weight, tf.add(l, EPSILON));
});

/** Options of IA3Config; what is left out has PEFT's default. */
export interface IA3Options extends CommonOptions {
  targetModules?: string[] | string | null;
  excludeModules?: string[] | string | null;
  modulesToSave?: string[] | null;
  /** Ends of paths, or a regular expression, of targets whose inputs are scaled. */
  feedforwardModules?: string[] | string | null;
  /** Begin with ones, so that nothing changes at first. Default true. */
  initIa3Weights?: boolean;
}

/** What IA3 is set to. */
export class IA3Config implements TunerConfig {
  readonly peftType = 'IA3';
  readonly taskType: Required<CommonOptions>['taskType'];
  baseModelNameOrPath: string | null;
  inferenceMode: boolean;
  targetModules: TargetFields['targetModules'];
  readonly excludeModules: string[] | string | null;
  modulesToSave: string[] | null;
  feedforwardModules: string[] | string | null;
  readonly initIa3Weights: boolean;

  constructor(options: IA3Options = {}) {
    const { taskType, baseModelNameOrPath, inferenceMode } = commonFields(options);
    this.taskType = taskType;
    this.baseModelNameOrPath = baseModelNameOrPath;
    this.inferenceMode = inferenceMode;
    this.targetModules = options.targetModules ?? null;
    this.excludeModules = options.excludeModules ?? null;
    this.modulesToSave = options.modulesToSave ?? null;
    this.feedforwardModules = options.feedforwardModules ?? null;
    this.initIa3Weights = options.initIa3Weights ?? true;
    const { targetModules: targets, feedforwardModules: inner } = this;
    const extra =
      Array.isArray(targets) &&
      Array.isArray(inner) &&
      inner.find((name) => !targets.includes(name));
    if (extra) {
      throw new RangeError(
        `IA3Config.feedforwardModules must be among targetModules, got '${extra}'`,
      );
    }
  }

  get bias(): string {
    return 'none';
  }

  get defaultTargets(): Record<string, string[]> {
    return { gpt2: ['c_attn', 'mlp.c_proj'], llama: ['k_proj', 'v_proj', 'down_proj'] };
  }

  createAdapters(
    layers: readonly [string, BaseLayer][],
    random: RandomState | undefined,
  ): LayerAdapter[] {
    this.feedforwardModules ??= defaultFeedforward(this.targetModules);
    return layers.map(([path, layer]) => {
      if (!isLinear(layer)) {
        throw new TypeError(`IA3 adapts linear layers, and '${path}' is ${describeLayer(layer)}`);
      }
      const isFeedforward = isFeedforwardPath(this.feedforwardModules!, path);
      const shape: [number, number] = isFeedforward
        ? [1, layer.inFeatures]
        : [layer.outFeatures, 1];
      const l =
        this.initIa3Weights || !random ? tf.ones(shape) : randomNormal<tf.Rank.R2>(shape, random);
      return new IA3Layer(l, isFeedforward);
    });
  }
}

/** The last layers of MLPs, by PEFT's names for GPT-2 and Llama. */
const LAST = ['mlp.c_proj', 'down_proj'];

/**
 * The targets whose inputs are scaled when no others are named: those that end an MLP. As PEFT loads only
 * what is among the targets' names, a regular expression tells it where those mean other layers too.
 */
export function defaultFeedforward(targets: TargetFields['targetModules']): string[] | string {
  const names = [targets ?? []].flat();
  const isWider = (name: string) => LAST.some((last) => last.endsWith(`.${name}`));
  if (typeof targets === 'string' || names.some(isWider)) return '.*(mlp\\.c_proj|down_proj)';
  return names.filter((name) => LAST.some((last) => name.endsWith(last)));
}

/** Whether IA3 scales the inputs of the layer at a path. */
export function isFeedforwardPath(feedforward: string[] | string, path: string): boolean {
  if (typeof feedforward === 'string') return pythonRegExp(`^(?:${feedforward})$`).test(path);
  return feedforward.some((name) => path.endsWith(name));
}
