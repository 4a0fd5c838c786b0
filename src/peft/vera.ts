// VeRA (Kopiczko et al. 2024): y = W x + b . (B (d . (A x))), with A [r, in] and B [out, r] random,
// frozen and shared by all layers (each takes the part that fits), and vectors d [r], b [out] learned.
// Follows PEFT's vera/model.py; the shared matrices are those that torch draws from projectionPrngKey.
import * as tf from '@tensorflow/tfjs';
import { dropout } from '../nn/functional.ts';
import { parameter } from '../nn/module.ts';
import { RandomState } from '../tensor/random.ts';
import { type BaseLayer, describeLayer, isLinear, type LinearLayer } from './base-layer.ts';
import { type CommonOptions, commonFields, require, type TunerConfig } from './peft-config.ts';
import type { TargetFields } from './target-modules.ts';
import { LayerAdapter, type LayerCall } from './tuner-layer.ts';
import { weightJit } from './weight-jit.ts';

/** A [r, widest in] and B [widest out, r]; variables, but no parameters of any layer. */
export interface VeraProjection {
  veraA: tf.Variable;
  veraB: tf.Variable;
}

/** The vectors of one layer: `veraLambdaD` [r] and `veraLambdaB` [out]. */
export class VeraLinear extends LayerAdapter {
  veraLambdaB: tf.Tensor;
  veraLambdaD: tf.Tensor;
  readonly projection: VeraProjection;
  private readonly inFeatures: number;
  private readonly dropout: number;

  constructor(layer: LinearLayer, projection: VeraProjection, config: VeraConfig) {
    super();
    this.projection = projection;
    this.inFeatures = layer.inFeatures;
    this.dropout = config.veraDropout;
    this.veraLambdaB = parameter(tf.zeros([layer.outFeatures]));
    this.veraLambdaD = parameter(tf.fill([config.r], config.dInitial));
  }

  override output({ x, y, seed }: LayerCall): tf.Tensor {
    const input = seed && this.dropout > 0 ? dropout(x, this.dropout, seed) : x;
    const rows = tf.reshape(input, [-1, this.inFeatures]); // [N, in]
    const inner = tf.mul(tf.matMul(rows, this.a, false, true), this.veraLambdaD); // [N, r]
    const update = tf.mul(tf.matMul(inner, this.b, false, true), this.veraLambdaB); // [N, out]
    return tf.add(y, tf.reshape(update, y.shape));
  }

  override mergeWeight(weight: tf.Tensor): tf.Tensor {
    return addVera(weight, this.parts, tf.scalar(1));
  }

  override unmergeWeight(weight: tf.Tensor): tf.Tensor {
    return addVera(weight, this.parts, tf.scalar(-1));
  }

  override state(): Record<string, tf.Tensor> {
    return { vera_lambda_b: this.veraLambdaB, vera_lambda_d: this.veraLambdaD };
  }

  /** Frees the shared matrices too: all layers of an adapter go together. */
  override dispose(): void {
    super.dispose();
    for (const shared of Object.values(this.projection) as tf.Variable[]) {
      if (!shared.isDisposed) shared.dispose();
    }
  }

  private get parts() {
    return { ...this.projection, b: this.veraLambdaB, d: this.veraLambdaD };
  }

  private get a(): tf.Tensor {
    return tf.slice(this.projection.veraA, [0, 0], [-1, this.inFeatures]); // [r, in]
  }

  private get b(): tf.Tensor {
    return tf.slice(this.projection.veraB, [0, 0], [this.veraLambdaB.shape[0]!, -1]); // [out, r]
  }
}

/** weight + sign (b . B) (d . A), [out, in], of the parts of A and B that fit. */
const addVera = weightJit(function addVera(
  weight: tf.Tensor,
  { veraA, veraB, b, d }: VeraProjection & { b: tf.Tensor; d: tf.Tensor },
  sign: tf.Scalar,
): tf.Tensor {
  const [out, width] = weight.shape as [number, number];
  const left = tf.mul(tf.slice(veraB, [0, 0], [out, -1]), tf.expandDims(b, 1)); // [out, r]
  const right = tf.mul(tf.slice(veraA, [0, 0], [-1, width]), tf.expandDims(tf.mul(d, sign), 1)); // [r, in]
  return tf.add(weight, tf.matMul(left, right));
});

/** Options of VeraConfig; what is left out has PEFT's default. */
export interface VeraOptions extends CommonOptions, Partial<TargetFields> {
  /** Rank of the shared matrices. Default 256. */
  r?: number;
  /** Seed of the shared matrices. Default 0. */
  projectionPrngKey?: number;
  /** Save them too, so that loading needs no generator. Default true. */
  saveProjection?: boolean;
  veraDropout?: number;
  /** First value of d. Default 0.1. */
  dInitial?: number;
}

/** What VeRA is set to. Throws a RangeError for a value out of range. */
export class VeraConfig implements TunerConfig {
  readonly peftType = 'VERA';
  readonly taskType: Required<CommonOptions>['taskType'];
  baseModelNameOrPath: string | null;
  inferenceMode: boolean;
  targetModules: string[] | string | null;
  modulesToSave: string[] | null;
  readonly layersToTransform: number[] | number | null;
  readonly layersPattern: string[] | string | null;
  readonly r: number;
  readonly projectionPrngKey: number;
  readonly saveProjection: boolean;
  readonly veraDropout: number;
  readonly dInitial: number;

  constructor(options: VeraOptions = {}) {
    const { taskType, baseModelNameOrPath, inferenceMode } = commonFields(options);
    this.taskType = taskType;
    this.baseModelNameOrPath = baseModelNameOrPath;
    this.inferenceMode = inferenceMode;
    this.targetModules = options.targetModules ?? null;
    this.modulesToSave = options.modulesToSave ?? null;
    this.layersToTransform = options.layersToTransform ?? null;
    this.layersPattern = options.layersPattern ?? null;
    this.r = options.r ?? 256;
    this.projectionPrngKey = options.projectionPrngKey ?? 0;
    this.saveProjection = options.saveProjection ?? true;
    this.veraDropout = options.veraDropout ?? 0;
    this.dInitial = options.dInitial ?? 0.1;
    require(Number.isInteger(this.r) && this.r > 0, 'VeraConfig.r', 'a positive integer', this.r);
    const { veraDropout: drop } = this;
    require(drop >= 0 && drop < 1, 'VeraConfig.veraDropout', 'at least 0 and below 1', drop);
  }

  get bias(): string {
    return 'none';
  }

  get defaultTargets(): Record<string, string[]> {
    return { gpt2: ['c_attn'], llama: ['q_proj', 'v_proj'] };
  }

  createAdapters(layers: readonly [string, BaseLayer][]): LayerAdapter[] {
    const linear = layers.map(([path, layer]) => {
      if (isLinear(layer)) return layer;
      throw new TypeError(`VeRA adapts linear layers, and '${path}' is ${describeLayer(layer)}`);
    });
    const widest = (size: 'inFeatures' | 'outFeatures') =>
      Math.max(...linear.map((layer) => layer[size]));
    const random = new RandomState(this.projectionPrngKey);
    const projection = {
      veraA: frozen(kaimingUniform([this.r, widest('inFeatures')], random)),
      veraB: frozen(kaimingUniform([widest('outFeatures'), this.r], random)),
    };
    return linear.map((layer) => new VeraLinear(layer, projection, this));
  }

  sharedState([first]: readonly LayerAdapter[]): Record<string, tf.Tensor> {
    if (!this.saveProjection) return {};
    const { veraA, veraB } = (first as VeraLinear).projection;
    return { 'base_model.vera_A': veraA, 'base_model.vera_B': veraB };
  }
}

/** torch's uniform numbers in +-sqrt(6 / columns): the low 24 bits of each word of its generator. */
function kaimingUniform(shape: [number, number], random: RandomState): tf.Tensor {
  const bound = Math.fround(Math.sqrt(3) * (Math.SQRT2 / Math.sqrt(shape[1])));
  const width = Math.fround(bound + bound);
  const draw = () => Math.fround((random.randint(2 ** 32) & 0xffffff) / 2 ** 24);
  const values = Float32Array.from({ length: shape[0] * shape[1] }, () =>
    Math.fround(Math.fround(draw() * width) - bound),
  );
  return tf.tensor2d(values, shape);
}

function frozen(value: tf.Tensor): tf.Variable {
  const variable = parameter(value);
  variable.trainable = false;
  return variable;
}
