// GRPOTrainer (Shao et al. 2024, arXiv 2402.03300), small: several completions of each prompt are
// sampled and scored; each is pushed by how much better it is than its group, as TRL's with one update
// a sample and the 'dapo' loss. Left out: servers for sampling, several updates, tools.
import * as tf from '@tensorflow/tfjs';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { generate } from '../models/generation.ts';
import { completionOptions } from './dpo-trainer.ts';
import { makeReference } from './reference.ts';
import { collateCompletions, completionWeights, tokenLogps } from './sequence-logps.ts';
import type { TrainingArguments } from './training-arguments.ts';
import { type LoopOptions, TrainingLoop } from './training-loop.ts';
import type { BatchLoss, TensorBatch } from './training-step.ts';

/** A prompt; its other fields are for the rewards. */
export interface GRPORow {
  prompt: string;
  [field: string]: unknown;
}

/** How good completions of a prompt are, one number each. */
export type RewardFunction = (completions: string[], row: GRPORow) => number[] | Promise<number[]>;

/** TRL's GRPOConfig: the learning rate is 1e-6 by default. */
export interface GRPOConfig extends TrainingArguments {
  /** Completions of a prompt; at least 2. Default 8. */
  numGenerations?: number;
  /** Default 256. */
  maxCompletionLength?: number;
  /** Default 1. */
  temperature?: number;
  /** Weight of the divergence from the reference. Default 0: no reference. */
  beta?: number;
  /** How far probabilities may move in one update. Default 0.2. */
  epsilon?: number;
  /** Divide advantages by the deviation of the group. Default true. */
  scaleRewards?: boolean;
}

/** What GRPOTrainer takes. */
export interface GRPOTrainerOptions extends Omit<LoopOptions<GRPORow>, 'evalDataset' | 'args'> {
  model: CausalLM;
  args?: GRPOConfig;
  processingClass: Tokenizer;
  /** Their sum is the reward. */
  rewardFuncs: RewardFunction[];
}

/** Trains a model on rewards of what it writes. */
export class GRPOTrainer extends TrainingLoop<GRPORow> {
  constructor({ model, args = {}, processingClass, rewardFuncs, ...rest }: GRPOTrainerOptions) {
    const { numGenerations = 8, beta = 0, epsilon = 0.2, seed = 42 } = args;
    if (!Number.isInteger(numGenerations) || numGenerations < 2) {
      throw new RangeError(`numGenerations must be an integer above 1, got ${numGenerations}`);
    }
    const collate = completionOptions(model, processingClass, args);
    const reference = beta > 0 ? makeReference(model, {}) : undefined;
    const progress = { step: () => 0 };
    super(
      {
        model,
        mean: 'items',
        dropout: false,
        collate: async (rows) => {
          const groups = [];
          for (const [i, row] of rows.entries()) {
            const sampling = { ...args, numGenerations, seed: seed + 7919 * progress.step() + i };
            groups.push(await sampleGroup(model, processingClass, { row, sampling, rewardFuncs }));
          }
          const all = groups.flatMap(({ completions }) => completions);
          const rewards = tf.tensor1d(groups.flatMap((group) => group.rewards));
          const advantages = tf.tensor1d(
            groups.flatMap((group) => advantagesOf(group.rewards, args.scaleRewards ?? true)),
          );
          return { ...collateCompletions(all, collate), advantages, rewards };
        },
        count: (_, { completionMask }) =>
          (completionMask!.dataSync() as Int32Array).reduce((sum, value) => sum + value, 0),
        tokens: ({ prompt }) => processingClass.encode(prompt).length,
        loss: (batch) => {
          const own = tokenLogps(model, batch); // [B, T-1]
          const ref = reference?.call((other) => tokenLogps(other, batch));
          return grpoLoss(own, ref, batch, { beta, epsilon });
        },
      },
      { ...rest, args: { learningRate: 1e-6, ...args } },
    );
    progress.step = () => this.state.globalStep;
  }
}

/** (r - mean) / (deviation + 1e-4), or r - mean; the deviation is that of a sample. */
export function advantagesOf(rewards: readonly number[], scale = true): number[] {
  const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
  const squares = rewards.reduce((sum, reward) => sum + (reward - mean) ** 2, 0);
  const deviation = Math.sqrt(squares / (rewards.length - 1));
  return rewards.map((reward) => (reward - mean) / (scale ? deviation + 1e-4 : 1));
}

interface Group {
  completions: { promptIds: number[]; completionIds: number[] }[];
  rewards: number[];
}

async function sampleGroup(
  model: CausalLM,
  tokenizer: Tokenizer,
  {
    row,
    sampling,
    rewardFuncs,
  }: {
    row: GRPORow;
    sampling: GRPOConfig & { numGenerations: number; seed: number };
    rewardFuncs: RewardFunction[];
  },
): Promise<Group> {
  const promptIds = tokenizer.encode(row.prompt);
  const { numGenerations, maxCompletionLength = 256, temperature = 1, seed } = sampling;
  const wasTraining = model.training;
  model.eval();
  const written = await generate(
    model,
    Array.from({ length: numGenerations }, () => promptIds),
    { doSample: true, topK: 0, maxNewTokens: maxCompletionLength, temperature, seed },
  );
  model.train(wasTraining);
  const completions = written.map((ids) => ({
    promptIds,
    completionIds: ids.slice(promptIds.length),
  }));
  const texts = completions.map(({ completionIds }) =>
    tokenizer.decode(completionIds, { skipSpecialTokens: true }),
  );
  const scores = await Promise.all(rewardFuncs.map((score) => score(texts, row)));
  const rewards = texts.map((_, i) => scores.reduce((sum, list) => sum + list[i]!, 0));
  const bad = rewards.find((reward) => !Number.isFinite(reward));
  if (bad !== undefined) throw new RangeError(`A reward must be a finite number, got ${bad}`);
  return { completions, rewards };
}

/** Sum over tokens of -min(ratio A, clip(ratio) A) + beta (e^d - d - 1), d = ref - own. */
function grpoLoss(
  own: tf.Tensor2D,
  ref: tf.Tensor2D | undefined,
  batch: TensorBatch,
  { beta, epsilon }: { beta: number; epsilon: number },
): BatchLoss {
  const weights = completionWeights(batch); // [B, T-1]
  const advantages = tf.reshape(batch.advantages!, [-1, 1]); // [B, 1]
  const ratio = tf.exp(tf.sub(own, constant(own)));
  const clipped = tf.clipByValue(ratio, 1 - epsilon, 1 + epsilon);
  const gain = tf.minimum(tf.mul(ratio, advantages), tf.mul(clipped, advantages)); // [B, T-1]
  const gap = ref && tf.sub(ref, own);
  const divergence = gap && tf.sub(tf.sub(tf.exp(gap), gap), 1);
  const losses = divergence ? tf.sub(tf.mul(divergence, beta), gain) : tf.neg(gain);
  return {
    loss: tf.sum(tf.mul(losses, weights)) as tf.Scalar,
    metrics: {
      reward: tf.mean(batch.rewards!) as tf.Scalar,
      completionLength: tf.mean(tf.sum(weights, 1)) as tf.Scalar,
    },
  };
}

/** x without a gradient. */
function constant(x: tf.Tensor): tf.Tensor {
  const stop = tf.customGrad((input) => ({
    value: tf.clone(input as tf.Tensor),
    gradFunc: (dy: tf.Tensor) => tf.zerosLike(dy),
  }));
  return stop(x);
}
