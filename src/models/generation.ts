// Generation: one token after another, each chosen from the scores that a model gives it.
// Prompts of a batch are padded on the left; keys and values of earlier positions are kept.
// Defaults are transformers'. Left out: beam search.
import { nativeOptions } from '../jit/native-check.ts';
import { RandomState } from '../tensor/random.ts';
import type { CausalLM } from './causal-lm.ts';
import { type Decoder, FixedDecoder, GrowingDecoder } from './decoder.ts';
import {
  argmax,
  type LogitsOptions,
  type LogitsProcessor,
  logitsProcessors,
  softmax,
} from './logits-processor.ts';
import { SpeculativeDecoder } from './speculative-decoder.ts';

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
  /** A small model of the same vocabulary that guesses ahead (speculative decoding). */
  assistantModel?: CausalLM;
  /** How many tokens it guesses each time. Default 5. */
  numAssistantTokens?: number;
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
  const { ids, pad } = padLeft(model, prompts, config);
  const processors = logitsProcessors(config);
  const random = doSample ? new RandomState(seed) : undefined;
  const isEnd = ending(model, config);
  const added: number[][] = prompts.map(() => []);
  const ended = prompts.map(() => false);
  const pick = (scores: Float32Array, i: number) => choose(scores, ids[i]!, processors, random);
  const isGreedy = !random && processors.length === 0;
  const decoder = makeDecoder(model, prompts, pad, { ...config, maxNewTokens });
  try {
    for (let step = 0; step < maxNewTokens && !ended.every(Boolean); step++) {
      const best = isGreedy ? await decoder.best() : undefined;
      const scores = best ? undefined : await decoder.scores();
      const tokens = prompts.map((_, i) => {
        if (ended[i]) return null;
        const token = best?.[i] ?? pick(scores![i]!, i);
        added[i]!.push(token);
        ended[i] = isEnd(added[i]!);
        return token;
      });
      const next = tokens.map((token) => token ?? pad);
      for (const [i, token] of next.entries()) ids[i]!.push(token);
      const isLast = step === maxNewTokens - 1 || ended.every(Boolean);
      if (!isLast) decoder.push(next);
      yield tokens;
    }
  } finally {
    decoder.dispose();
  }
}
/** The fastest way that the model allows. */
function makeDecoder(
  model: CausalLM,
  prompts: readonly (readonly number[])[],
  pad: number,
  config: GenerationConfig & { maxNewTokens: number },
): Decoder {
  const { assistantModel, numAssistantTokens, maxNewTokens } = config;
  if (assistantModel) {
    checkAssistant(model, assistantModel, prompts.length);
    return new SpeculativeDecoder(
      model,
      assistantModel,
      prompts[0]!,
      maxNewTokens,
      numAssistantTokens,
    );
  }
  return model.supportsStaticCache && nativeOptions()
    ? new FixedDecoder(model, prompts, maxNewTokens)
    : new GrowingDecoder(model, prompts, pad);
}

function checkAssistant(model: CausalLM, assistant: CausalLM, rows: number): void {
  const [own, other] = [model.config.vocabSize, assistant.config.vocabSize];
  if (own !== other) {
    throw new RangeError(`assistantModel must have the vocabulary of ${own} tokens, got ${other}`);
  }
  if (rows !== 1) throw new RangeError(`assistantModel helps with one prompt, got ${rows}`);
  if (!model.supportsStaticCache || !assistant.supportsStaticCache) {
    throw new TypeError('assistantModel and the model must support a cache of fixed size');
  }
}

/** Prompts padded on the left, as transformers shows them to logits processors. */
function padLeft(
  model: CausalLM,
  prompts: readonly (readonly number[])[],
  config: GenerationConfig,
): { ids: number[][]; pad: number } {
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
  const before = (prompt: readonly number[]) => Array<number>(length - prompt.length).fill(pad);
  return { ids: prompts.map((prompt) => [...before(prompt), ...prompt]), pad };
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
