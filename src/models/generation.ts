// Generation: one token after another, each chosen from the scores that a model gives it.
// Prompts of a batch are padded on the left; keys and values of earlier positions are kept.
// Defaults are transformers'. Left out: beam search.
import * as tf from '@tensorflow/tfjs';
import type { KeyValue } from '../nn/attention.ts';
import { RandomState } from '../tensor/random.ts';
import { type CausalLM, maskedPositions } from './causal-lm.ts';
import {
  argmax,
  type LogitsOptions,
  type LogitsProcessor,
  logitsProcessors,
  softmax,
} from './logits-processor.ts';

/** Turns ids into text; what stop strings and streams need. */
export interface TextDecoder {
  decode(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string;
}

/** How to generate; the fields of transformers' GenerationConfig. */
export interface GenerationConfig extends LogitsOptions {
  /** Tokens to add at most. Default 20. */
  maxNewTokens?: number;
  /** End of text; default the model's. An empty list never ends. */
  eosTokenId?: number | number[] | null;
  /** What prompts are padded with; default the model's, else its end of text. */
  padTokenId?: number | null;
  /** Texts after which to stop; they need `tokenizer`. */
  stopStrings?: string | string[];
  tokenizer?: TextDecoder;
  /** Seed of sampling. Default 0. */
  seed?: number;
}

/**
 * Continues each prompt (ids, at least one) and returns it with what was added, up to and with an end
 * token or stop string. Without `doSample` it takes the best token at each step.
 */
export async function generate(
  model: CausalLM,
  prompts: readonly (readonly number[])[],
  config: GenerationConfig = {},
): Promise<number[][]> {
  const rows = prompts.map((prompt) => [...prompt]);
  for await (const tokens of generateSteps(model, prompts, config)) {
    for (const [i, token] of tokens.entries()) if (token !== null) rows[i]!.push(token);
  }
  return rows;
}

/** Continues one prompt and gives each token when it is chosen. */
export async function* streamTokens(
  model: CausalLM,
  prompt: readonly number[],
  config: GenerationConfig = {},
): AsyncGenerator<number> {
  for await (const [token] of generateSteps(model, [prompt], config)) yield token as number;
}

/** Continues one prompt and gives text as soon as it can't change any more. */
export async function* streamText(
  model: CausalLM,
  prompt: readonly number[],
  config: GenerationConfig & { tokenizer: TextDecoder },
): AsyncGenerator<string> {
  const ids: number[] = [];
  let given = 0;
  for await (const token of streamTokens(model, prompt, config)) {
    ids.push(token);
    const text = config.tokenizer.decode(ids, { skipSpecialTokens: true });
    // A character whose last bytes are still to come decodes to U+FFFD.
    if (text.endsWith('\ufffd')) continue;
    if (text.length > given) yield text.slice(given);
    given = text.length;
  }
  const text = config.tokenizer.decode(ids, { skipSpecialTokens: true });
  if (text.length > given) yield text.slice(given);
}

/** One step at a time: the token of each prompt, or null where it has ended. */
async function* generateSteps(
  model: CausalLM,
  prompts: readonly (readonly number[])[],
  config: GenerationConfig,
): AsyncGenerator<(number | null)[]> {
  const { maxNewTokens = 20, seed = 0, doSample } = config;
  if (!(Number.isInteger(maxNewTokens) && maxNewTokens > 0)) {
    throw new RangeError(`maxNewTokens must be a positive integer, got ${maxNewTokens}`);
  }
  const batch = padLeft(model, prompts, config);
  const processors = logitsProcessors(config);
  const random = new RandomState(seed);
  const isEnd = ending(model, config);
  const added: number[][] = prompts.map(() => []);
  const ended = prompts.map(() => false);
  let past: KeyValue[] | undefined;
  try {
    for (let step = 0; step < maxNewTokens && !ended.every(Boolean); step++) {
      const next = forwardLast(model, batch, past);
      disposeCache(past);
      past = next.past;
      const scores = await rows(next.logits);
      const tokens = scores.map((row, i) => {
        if (ended[i]) return null;
        const token = choose(row, batch.ids[i]!, processors, doSample ? random : undefined);
        added[i]!.push(token);
        ended[i] = isEnd(added[i]!);
        return token;
      });
      for (const [i, token] of tokens.entries()) {
        batch.ids[i]!.push(token ?? batch.pad);
        batch.mask[i]!.push(1);
      }
      yield tokens;
    }
  } finally {
    disposeCache(past);
  }
}

/** Rows of equal length; `mask` is 0 on padding. */
interface Batch {
  ids: number[][];
  mask: number[][];
  pad: number;
}

function padLeft(
  model: CausalLM,
  prompts: readonly (readonly number[])[],
  config: GenerationConfig,
): Batch {
  const { vocabSize } = model.config;
  if (prompts.length === 0 || prompts.some((prompt) => prompt.length === 0)) {
    throw new RangeError('Each prompt must hold at least one token, got an empty one');
  }
  const wrong = prompts.flat().find((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  if (wrong !== undefined) {
    throw new RangeError(`Token ids must be below the vocabulary's ${vocabSize}, got ${wrong}`);
  }
  const pad = config.padTokenId ?? model.config.padTokenId ?? endTokens(model, config)[0] ?? 0;
  const length = Math.max(...prompts.map((prompt) => prompt.length));
  const before = (prompt: readonly number[], value: number) =>
    Array<number>(length - prompt.length).fill(value);
  return {
    ids: prompts.map((prompt) => [...before(prompt, pad), ...prompt]),
    mask: prompts.map((prompt) => [...before(prompt, 0), ...prompt.map(() => 1)]),
    pad,
  };
}

/** Scores of the next token [B, V], and the cache; only the positions that it lacks are computed. */
function forwardLast(
  model: CausalLM,
  { ids, mask }: Batch,
  past: KeyValue[] | undefined,
): { logits: tf.Tensor2D; past: KeyValue[] } {
  return tf.tidy(() => {
    const seen = past?.[0]?.key.shape[2] ?? 0;
    const length = ids[0]!.length;
    const padded = mask.some((row) => row[0] === 0);
    const attentionMask = tf.tensor2d(mask, undefined, 'int32'); // [B, S]
    const positionIds = tf.slice(maskedPositions(attentionMask), [0, seen], [-1, length - seen]);
    const inputIds = tf.tensor2d(
      ids.map((row) => row.slice(seen)),
      undefined,
      'int32',
    ); // [B, T]
    const output = model.forward(inputIds, {
      positionIds,
      useCache: true,
      ...(past ? { pastKeyValues: past } : {}),
      ...(padded ? { attentionMask } : {}),
    });
    const [batch, count, size] = output.logits.shape;
    const last = tf.slice(output.logits, [0, count - 1, 0], [batch, 1, size]);
    return { logits: tf.reshape(last, [batch, size]), past: output.pastKeyValues! };
  });
}

/** The numbers of logits [B, V], which are freed. */
async function rows(logits: tf.Tensor2D): Promise<Float32Array[]> {
  const [batch, size] = logits.shape;
  const values = (await logits.data()) as Float32Array;
  logits.dispose();
  return Array.from({ length: batch }, (_, i) => values.slice(i * size, (i + 1) * size));
}

/** The best token, or with `random` one drawn from softmax(scores). */
function choose(
  scores: Float32Array,
  ids: readonly number[],
  processors: LogitsProcessor[],
  random: RandomState | undefined,
): number {
  for (const process of processors) process(scores, ids);
  if (!random) return argmax(scores);
  let left = random.random();
  let last = 0;
  for (const [id, probability] of softmax(scores).entries()) {
    if (probability === 0) continue;
    last = id;
    left -= probability;
    if (left < 0) break;
  }
  return last;
}

/** Whether a list of new tokens is at its end: an end token, or a stop string in its text. */
function ending(model: CausalLM, config: GenerationConfig): (added: number[]) => boolean {
  const ends = endTokens(model, config);
  const stops = [config.stopStrings ?? []].flat();
  const { tokenizer } = config;
  if (stops.length > 0 && !tokenizer) {
    throw new RangeError('stopStrings need a tokenizer, got none');
  }
  return (added) => {
    if (ends.includes(added.at(-1)!)) return true;
    const text = stops.length > 0 ? tokenizer!.decode(added) : '';
    return stops.some((stop) => text.includes(stop));
  };
}

function endTokens(model: CausalLM, { eosTokenId }: GenerationConfig): number[] {
  return [(eosTokenId === undefined ? model.config.eosTokenId : eosTokenId) ?? []].flat();
}

function disposeCache(cache: KeyValue[] | undefined): void {
  tf.dispose(cache?.flatMap(({ key, value }) => [key, value]) ?? []);
}
