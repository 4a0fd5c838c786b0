// What generation asks of a model: the scores of the next token, then to go on with a token.
// Two ways: a cache that grows (any model), and one of fixed size whose step is compiled once.
import * as tf from '@tensorflow/tfjs';
import type { KeyValue } from '../nn/attention.ts';
import { type CausalLM, maskedPositions } from './causal-lm.ts';
import { FixedCache, rounded, type StepOutput } from './fixed-cache.ts';

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

const maxLength = ({ config }: CausalLM) =>
  config.modelType === 'gpt2' ? config.nPositions : Number.POSITIVE_INFINITY;

/** Greedy tokens are asked for as many at a time as take about this long, in milliseconds. */
const CHUNK_TIME = 20;
const LONGEST_CHUNK = 32;

/** Prompts padded on the right; the tokens after them are written over the padding. */
export class FixedDecoder implements Decoder {
  private readonly cache: FixedCache;
  private readonly lengths: number[];
  private readonly limit: number;
  /** How many tokens may still be asked for. */
  private left: number;
  private output: StepOutput | undefined;
  /** Greedy tokens that are known but not yet given. */
  private readonly known: number[][] = [];
  /** Greedy tokens that are being computed; `ids` are the last of them. */
  private chunk: { ids: tf.Tensor2D; outputs: tf.Tensor; count: number; start: number } | undefined;
  private chunkSize = 1;

  constructor(model: CausalLM, prompts: readonly (readonly number[])[], maxNewTokens: number) {
    const longest = Math.max(...prompts.map((prompt) => prompt.length));
    const width = rounded(longest);
    this.limit = maxLength(model);
    this.left = maxNewTokens - 1;
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
    return rowsOf(this.output!.logits);
  }

  /** The best tokens. Those after them need no word from here, and are begun before these are read. */
  async best(): Promise<number[]> {
    if (this.output) {
      const { best, logits } = this.output;
      this.output = undefined;
      const read = best.data();
      logits.dispose();
      this.begin(best);
      this.known.push(Array.from(await read));
    }
    if (this.known.length === 0) await this.receive();
    return this.known.shift()!;
  }

  push(tokens: readonly number[]): void {
    if (!this.output) {
      const isOut = this.known.length === 0 && !this.chunk;
      if (isOut) checkLength(Math.max(...this.lengths) + 1, this.limit);
      return;
    }
    checkLength(Math.max(...this.lengths) + 1, this.limit);
    const { best, logits } = this.output;
    const ids = tf.tensor2d(
      tokens.map((token) => [token]),
      undefined,
      'int32',
    );
    const zeros = this.lengths.map(() => 0);
    this.output = this.cache.run(ids, this.lengths, zeros);
    this.advance(1);
    tf.dispose([ids, best, logits]);
  }

  dispose(): void {
    if (this.output) tf.dispose([this.output.logits, this.output.best]);
    if (this.chunk) tf.dispose([this.chunk.ids, this.chunk.outputs]);
    this.cache.dispose();
  }

  /** Starts the next chunk after `ids`, which it uses up. */
  private begin(ids: tf.Tensor2D): void {
    const room = this.limit - Math.max(...this.lengths);
    const count = Math.min(this.chunkSize, this.left, room);
    this.chunk = undefined;
    if (count <= 0) return void ids.dispose();
    const run = this.cache.runGreedy(ids, this.lengths, count);
    this.chunk = { ...run, count, start: performance.now() };
    this.left -= count;
    this.advance(count);
  }

  /** Waits for the chunk, and begins the one after it. */
  private async receive(): Promise<void> {
    const { ids, outputs, count, start } = this.chunk!;
    const tokens = await outputs.data();
    const each = (performance.now() - start) / count;
    const wanted = Math.floor(CHUNK_TIME / each);
    this.chunkSize = Math.max(1, Math.min(wanted, 2 * count, LONGEST_CHUNK));
    outputs.dispose();
    this.begin(ids);
    const rows = this.lengths.length;
    for (let i = 0; i < count; i++) {
      this.known.push(Array.from(tokens.subarray(i * rows, (i + 1) * rows)));
    }
  }

  private advance(count: number): void {
    for (const i of this.lengths.keys()) this.lengths[i]! += count;
  }
}

function checkLength(length: number, limit: number): void {
  if (length <= limit) return;
  throw new RangeError(`The model has ${limit} positions, and the text needs ${length}`);
}

/** The numbers of logits [N, V], a row each. */
export async function rowsOf(logits: tf.Tensor2D): Promise<Float32Array[]> {
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
