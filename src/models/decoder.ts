// What generation asks of a model: the scores of the next token, then to go on with a token.
// Three ways: a cache that grows (any model), one of fixed size whose step is compiled once, and
// speculative decoding, where a small model guesses several tokens that the large one checks at once.
import * as tf from '@tensorflow/tfjs';
import { type Jitted, jit } from '../jit/jit.ts';
import type { KeyValue } from '../nn/attention.ts';
import { type CausalLM, maskedPositions } from './causal-lm.ts';

/** Rows of tokens that a model continues. */
export interface Decoder {
  /** Scores of the next token of each row, [V] each; to be asked once before each `push`. */
  scores(): Promise<Float32Array[]>;
  /** In the place of `scores`: the best next token of each row. */
  best(): Promise<number[]>;
  /** Adds a token to each row. */
  push(tokens: readonly number[]): void;
  dispose(): void;
}

/** Keys and values of all positions, padded on the left; each step makes a longer cache. */
export class GrowingDecoder implements Decoder {
  private readonly model: CausalLM;
  private readonly ids: number[][];
  private readonly mask: number[][];
  private past: KeyValue[] | undefined;
  private logits: tf.Tensor2D;

  constructor(model: CausalLM, prompts: readonly (readonly number[])[], pad: number) {
    const length = Math.max(...prompts.map((prompt) => prompt.length));
    const before = (prompt: readonly number[], value: number) =>
      Array<number>(length - prompt.length).fill(value);
    this.model = model;
    this.ids = prompts.map((prompt) => [...before(prompt, pad), ...prompt]);
    this.mask = prompts.map((prompt) => [...before(prompt, 0), ...prompt.map(() => 1)]);
    this.logits = this.forward();
  }

  scores(): Promise<Float32Array[]> {
    return rowsOf(this.logits);
  }

  best(): Promise<number[]> {
    return bestOf(this.logits);
  }

  push(tokens: readonly number[]): void {
    for (const [i, token] of tokens.entries()) {
      this.ids[i]!.push(token);
      this.mask[i]!.push(1);
    }
    this.logits.dispose();
    this.logits = this.forward();
  }

  dispose(): void {
    tf.dispose([this.logits, this.past ?? []] as tf.TensorContainer);
  }

  /** Logits after the last position [B, V]; only positions that the cache lacks are computed. */
  private forward(): tf.Tensor2D {
    const { model, past, ids, mask } = this;
    const [logits, next] = tf.tidy(() => {
      const seen = past?.[0]?.key.shape[2] ?? 0;
      const padded = mask.some((row) => row[0] === 0);
      const attentionMask = tf.tensor2d(mask, undefined, 'int32'); // [B, S]
      const positionIds = tf.slice(maskedPositions(attentionMask), [0, seen], [-1, -1]);
      const news = ids.map((row) => row.slice(seen));
      const output = model.forward(tf.tensor2d(news, undefined, 'int32'), {
        positionIds: positionIds as tf.Tensor2D,
        useCache: true,
        ...(past ? { pastKeyValues: past } : {}),
        ...(padded ? { attentionMask } : {}),
      });
      const [batch, count, size] = output.logits.shape;
      const last = tf.slice(output.logits, [0, count - 1, 0], [batch, 1, size]);
      return [tf.reshape(last, [batch, size]) as tf.Tensor2D, output.pastKeyValues!] as const;
    });
    tf.dispose(past as unknown as tf.TensorContainer);
    this.past = next;
    return logits;
  }
}

/** What a step over a cache of fixed size gives: logits [B, V] or [T, V], and the best ids. */
type StepOutput = { logits: tf.Tensor2D; best: tf.Tensor2D; layers: KeyValue[] };
type Step = (
  ids: tf.Tensor2D,
  lengths: tf.Tensor1D,
  at: tf.Tensor1D | null,
  layers: KeyValue[],
) => StepOutput;

/** One compiled step for each model as it stands; it holds a graph for each shape. */
const steps = new WeakMap<CausalLM, { key: string; step: Jitted<Step> }>();

function stepOf(model: CausalLM): Jitted<Step> {
  const own = model.parameters().map(({ id }) => id);
  const key = `${model.training} ${model.forwardKey ?? ''} ${own}`;
  const known = steps.get(model);
  if (known?.key === key) return known.step;
  known?.step.dispose();
  const step: Step = (ids, lengths, logitsAt, layers) => {
    const cache = { lengths, layers };
    const options = { cache, useCache: true, ...(logitsAt ? { logitsAt } : {}) };
    const { logits, pastKeyValues } = model.forward(ids, options);
    const [batch, count, size] = logits.shape;
    const best = tf.reshape(tf.argMax(logits, -1), [batch, count]) as tf.Tensor2D;
    return {
      logits: tf.reshape(logits, [batch * count, size]),
      best,
      layers: pastKeyValues!,
    };
  };
  const compiled = jit(step, { donate: [3] });
  steps.set(model, { key, step: compiled });
  return compiled;
}

/** Frees the compiled steps of a model. */
export function disposeSteps(model: CausalLM): void {
  steps.get(model)?.step.dispose();
  steps.delete(model);
}

/** Keys and values in buffers of fixed size, and how far each row fills them. */
class FixedCache {
  private readonly step: Jitted<Step>;
  private layers: KeyValue[];

  constructor(model: CausalLM, batch: number, capacity: number) {
    this.step = stepOf(model);
    const { layers, heads, size } = cacheShape(model);
    const zeros = () => tf.zeros([batch, heads, capacity, size]) as tf.Tensor4D;
    this.layers = Array.from({ length: layers }, () => ({ key: zeros(), value: zeros() }));
  }

  /** Runs ids [B, T] at `lengths`; with `at`, the logits are those of that one position. */
  run(ids: tf.Tensor2D, lengths: readonly number[], at: readonly number[] | null): StepOutput {
    const integers = (x: readonly number[]) => tf.tensor1d([...x], 'int32');
    const inputs = [integers(lengths), at && integers(at)] as const;
    const output = this.step(ids, ...inputs, this.layers);
    tf.dispose(inputs as unknown as tf.TensorContainer);
    this.layers = output.layers;
    return output;
  }

  dispose(): void {
    tf.dispose(this.layers as unknown as tf.TensorContainer);
  }
}

/** Layers, heads and head size of a model's keys. */
function cacheShape({ config }: CausalLM): { layers: number; heads: number; size: number } {
  if (config.modelType === 'gpt2') {
    const { nLayer, nHead, nEmbd } = config;
    return { layers: nLayer, heads: nHead, size: nEmbd / nHead };
  }
  const { numHiddenLayers, numKeyValueHeads, headDim } = config;
  return { layers: numHiddenLayers, heads: numKeyValueHeads, size: headDim };
}

const maxLength = ({ config }: CausalLM) =>
  config.modelType === 'gpt2' ? config.nPositions : Number.POSITIVE_INFINITY;

/** Up to 64 a power of two, above a multiple of 64, so that few graphs serve all lengths. */
function rounded(length: number): number {
  if (length > 64) return Math.ceil(length / 64) * 64;
  return 2 ** Math.max(4, Math.ceil(Math.log2(length)));
}

/** Prompts padded on the right; the tokens after them are written over the padding. */
export class FixedDecoder implements Decoder {
  private readonly cache: FixedCache;
  private readonly lengths: number[];
  private readonly limit: number;
  private output: StepOutput;
  /** Whether `output` is already one step further, begun with the best tokens. */
  private isAhead = false;

  constructor(model: CausalLM, prompts: readonly (readonly number[])[], maxNewTokens: number) {
    const longest = Math.max(...prompts.map((prompt) => prompt.length));
    const width = rounded(longest);
    this.limit = maxLength(model);
    this.lengths = prompts.map((prompt) => prompt.length);
    checkLength(longest, this.limit);
    this.cache = new FixedCache(
      model,
      prompts.length,
      rounded(Math.max(longest + maxNewTokens, width)),
    );
    const rows = prompts.map((prompt) => [
      ...prompt,
      ...Array<number>(width - prompt.length).fill(0),
    ]);
    const zeros = prompts.map(() => 0);
    const ids = tf.tensor2d(rows, undefined, 'int32');
    const last = prompts.map((prompt) => prompt.length - 1);
    this.output = this.cache.run(ids, zeros, last);
    ids.dispose();
  }

  scores(): Promise<Float32Array[]> {
    return rowsOf(this.output.logits);
  }

  /** The best tokens; the next step is begun before they are read, since it needs no word from here. */
  async best(): Promise<number[]> {
    const { best, logits } = this.output;
    this.isAhead = Math.max(...this.lengths) < this.limit;
    if (this.isAhead) this.advance(best);
    const tokens = Array.from((await best.data()) as Int32Array);
    if (this.isAhead) tf.dispose([best, logits]);
    return tokens;
  }

  push(tokens: readonly number[]): void {
    if (this.isAhead) {
      this.isAhead = false;
      return;
    }
    checkLength(Math.max(...this.lengths) + 1, this.limit);
    const { best, logits } = this.output;
    const ids = tf.tensor2d(
      tokens.map((token) => [token]),
      undefined,
      'int32',
    );
    this.advance(ids);
    tf.dispose([ids, best, logits]);
  }

  dispose(): void {
    tf.dispose([this.output.logits, this.output.best]);
    this.cache.dispose();
  }

  private advance(ids: tf.Tensor2D): void {
    const zeros = this.lengths.map(() => 0);
    this.output = this.cache.run(ids, this.lengths, zeros);
    for (const i of this.lengths.keys()) this.lengths[i]!++;
  }
}

/**
 * Speculative decoding of one row (Leviathan et al. 2023): `assistant` guesses `count` tokens, the
 * model scores them all in one step, and its own choices decide how many stand. What is chosen is
 * what the model alone would choose.
 */
export class SpeculativeDecoder implements Decoder {
  private readonly target: FixedCache;
  private readonly draft: FixedCache;
  private readonly count: number;
  /** All tokens so far; the target's cache holds all but those that `push` has yet to bring. */
  private readonly ids: number[];
  /** How many tokens the assistant has seen. */
  private drafted = 0;
  /** The guesses after `ids`, and the scores before and after each of them. */
  private guesses: number[] = [];
  private known: Float32Array[] = [];
  private pending: Promise<void>;

  constructor(
    model: CausalLM,
    assistant: CausalLM,
    prompt: readonly number[],
    maxNewTokens: number,
    count = 5,
  ) {
    const capacity = rounded(prompt.length + maxNewTokens + count + 1 + rounded(prompt.length));
    this.ids = [...prompt];
    this.count = count;
    this.target = new FixedCache(model, 1, capacity);
    this.draft = new FixedCache(assistant, 1, capacity);
    this.pending = this.begin();
  }

  async scores(): Promise<Float32Array[]> {
    await this.pending;
    return [this.known[0]!];
  }

  async best(): Promise<number[]> {
    const [scores] = await this.scores();
    return [scores!.indexOf(scores!.reduce((a, b) => Math.max(a, b)))];
  }

  push([token]: readonly number[]): void {
    this.ids.push(token!);
    this.known.shift();
    if (this.guesses.shift() === token && this.known.length > 0) return;
    this.pending = this.speculate();
  }

  dispose(): void {
    const free = () => {
      this.target.dispose();
      this.draft.dispose();
    };
    this.pending.then(free, free);
  }

  /** Scores after the prompt. */
  private async begin(): Promise<void> {
    const { length } = this.ids;
    const padded = [...this.ids, ...Array<number>(rounded(length) - length).fill(0)];
    for (const cache of [this.target, this.draft]) {
      const output = this.step(cache, padded, 0, [length - 1]);
      if (cache === this.target) this.known = await rowsOf(output.logits);
      tf.dispose([output.logits, output.best]);
    }
    this.drafted = length;
  }

  /** Lets the assistant guess on from `ids`, and the model score the guesses. */
  private async speculate(): Promise<void> {
    const guesses: number[] = [];
    const seen = this.ids.length - 1;
    let from = Math.min(this.drafted, seen);
    while (guesses.length < this.count) {
      const all = [...this.ids, ...guesses];
      const output = this.step(this.draft, [all[from]!], from, [0]);
      from++;
      if (from === all.length) guesses.push((await output.best.data())[0]!);
      tf.dispose([output.logits, output.best]);
    }
    this.drafted = from;
    const output = this.step(this.target, [this.ids[seen]!, ...guesses], seen, null);
    this.known = await rowsOf(output.logits);
    tf.dispose([output.logits, output.best]);
    this.guesses = guesses;
  }

  private step(
    cache: FixedCache,
    tokens: readonly number[],
    at: number,
    wanted: number[] | null,
  ): StepOutput {
    const ids = tf.tensor2d([[...tokens]], undefined, 'int32');
    const output = cache.run(ids, [at], wanted);
    ids.dispose();
    return output;
  }
}

function checkLength(length: number, limit: number): void {
  if (length <= limit) return;
  throw new RangeError(`The model has ${limit} positions, and the text needs ${length}`);
}

/** The numbers of logits [N, V], a row each. */
async function rowsOf(logits: tf.Tensor2D): Promise<Float32Array[]> {
  const [count, size] = logits.shape;
  const values = (await logits.data()) as Float32Array;
  return Array.from({ length: count }, (_, i) => values.slice(i * size, (i + 1) * size));
}

async function bestOf(logits: tf.Tensor2D): Promise<number[]> {
  const best = tf.argMax(logits, -1);
  const tokens = Array.from(await best.data());
  best.dispose();
  return tokens;
}
