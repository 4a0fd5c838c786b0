// RoutedModel: a mixture of LoRA experts. The base model alone reads the text, a router chooses by what
// it saw, and a second pass runs with the chosen experts: y = W x + sum_e w_e s_e B_e A_e x in each
// layer. Only the router is trained. Left out: routers in each layer, skipping experts of weight 0.
import * as tf from '@tensorflow/tfjs';
import { Module } from '../nn/module.ts';
import type { PeftModel } from './peft-model.ts';
import type { BaseModel, BaseOptions, BaseOutput } from './prompt-learning.ts';
import { Router, type RouterConfig, type Routing } from './router.ts';

/** A base model that can tell its hidden states. */
export interface ReadableModel extends BaseModel {
  forward(
    inputIds: tf.Tensor2D | null,
    options?: BaseOptions & { outputHiddenStates?: boolean; logitsAt?: tf.Tensor2D },
  ): BaseOutput & { hiddenStates?: tf.Tensor3D[] };
}

/** Optional inputs of a pass. */
export interface RoutedOptions {
  /** [B, T], 0 on padding. */
  attentionMask?: tf.Tensor2D;
  /** [B, T], 1 where a router of sequences may look; default `attentionMask`. */
  promptMask?: tf.Tensor2D;
  /** [B, K], the positions whose logits are computed, of a model that can pick; default: all T. */
  logitsAt?: tf.Tensor2D;
}

/** Scores of the next tokens, and what the router chose for them. */
export type RoutedOutput = { logits: tf.Tensor3D; routing: Routing };

/** A frozen PeftModel whose adapters are experts, and the router that weighs them. */
export class RoutedModel<M extends ReadableModel = ReadableModel> extends Module {
  readonly model: PeftModel<M>;
  readonly router: Router;

  /** Throws unless all experts are adapters of the model that only add to what layers give. */
  constructor(model: PeftModel<M>, config: Omit<RouterConfig, 'hiddenSize'> | Router) {
    super();
    const { experts } = config instanceof Router ? config.config : config;
    checkExperts(model as unknown as PeftModel, experts);
    const sizes = model.config as { hiddenSize?: number; nEmbd?: number };
    const hiddenSize = (sizes.hiddenSize ?? sizes.nEmbd)!;
    this.model = model;
    this.router = config instanceof Router ? config : new Router({ ...config, hiddenSize });
    if (this.router.config.hiddenSize !== hiddenSize) {
      throw new RangeError(
        `The router reads ${this.router.config.hiddenSize} numbers, the model has ${hiddenSize}`,
      );
    }
    model.requiresGrad(false);
  }

  get config(): M['config'] {
    return this.model.config;
  }

  get experts(): readonly string[] {
    return this.router.config.experts;
  }

  /** Which experts the router chooses for texts [B, T]; the base model runs, the experts do not. */
  route(inputIds: tf.Tensor2D, { attentionMask, promptMask }: RoutedOptions = {}): Routing {
    return tf.tidy(() => {
      const base: ReadableModel = this.model.getBaseModel();
      const first = tf.zeros<tf.Rank.R2>([inputIds.shape[0], 1], 'int32');
      const options = {
        ...(attentionMask && { attentionMask }),
        // Its logits are not looked at.
        ...(base.supportsStaticCache && { logitsAt: first }),
        outputHiddenStates: true,
      };
      const { hiddenStates } = this.model.disableAdapter(() => base.forward(inputIds, options));
      const states = hiddenStates!.at(this.router.config.layer);
      if (!states) {
        const { layer } = this.router.config;
        throw new RangeError(`The model has ${hiddenStates!.length} hidden states, not ${layer}`);
      }
      return this.router.forward(states, promptMask ?? attentionMask);
    });
  }

  /** Texts [B, T] to logits [B, T or K, V], with the experts that the router chooses for them. */
  forward(inputIds: tf.Tensor2D, options: RoutedOptions = {}): RoutedOutput {
    const { attentionMask, logitsAt } = options;
    const { experts, model } = this;
    const run = () => {
      const routing = this.route(inputIds, options);
      const mixture = { experts, weights: routing.weights };
      const input = {
        ...(attentionMask && { attentionMask }),
        ...(logitsAt && { logitsAt }),
        mixture,
      };
      const { logits } = (model as unknown as PeftModel).forward(inputIds, input);
      return { logits, routing };
    };
    return tf.tidy(run) as RoutedOutput;
  }

  /** The name of the likeliest expert of each text, to be served with `adapterNames`. */
  async bestExperts(inputIds: tf.Tensor2D, options: RoutedOptions = {}): Promise<string[]> {
    const best = tf.tidy(() => {
      const { probabilities } = this.route(inputIds, options); // [B, S, E]
      return tf.argMax(tf.mean(probabilities, 1), -1);
    });
    const numbers = await best.data();
    best.dispose();
    return Array.from(numbers, (i) => this.experts[i]!);
  }
}

function checkExperts(model: PeftModel, experts: readonly string[]): void {
  const { peftConfig } = model;
  for (const name of experts) {
    const config = peftConfig[name];
    if (!config) {
      const have =
        Object.keys(peftConfig)
          .map((other) => `'${other}'`)
          .join(', ') || 'none';
      throw new RangeError(`No adapter named '${name}'; have ${have}`);
    }
    const adds = config.peftType === 'LORA' || config.peftType === 'VERA';
    if (!adds || config.modulesToSave?.length) {
      const what = adds ? 'has modulesToSave' : `is ${config.peftType}`;
      throw new TypeError(`Experts must be LoRA or VeRA alone, and '${name}' ${what}`);
    }
  }
}
