// What a model can do, measured before and after it is trained: facts that it completes, a format that
// it keeps, and how well it predicts text. A suite is a name and a function from a model to a score.
import * as tf from '@tensorflow/tfjs';
import { tokenizeRows } from '../data/tokenize-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { jit } from '../jit/jit.ts';
import type { CausalLM } from '../models/causal-lm.ts';
import { generate } from '../models/generation.ts';
import { crossEntropy } from '../nn/functional.ts';

/** One measure of a model; higher scores are better where `isBetterHigher`. */
export interface Suite {
  name: string;
  isBetterHigher: boolean;
  measure(model: CausalLM): Promise<number>;
}

/** A prompt and how it goes on. */
export interface Fact {
  prompt: string;
  answer: string;
}

/**
 * Share of facts of which the model would write the whole answer, token by token, greedily. The
 * answer follows the prompt as it is: give it its leading space.
 */
export function factsSuite(
  name: string,
  facts: readonly Fact[],
  tokenizer: Tokenizer,
  { batchSize = 32 }: { batchSize?: number } = {},
): Suite {
  const rows = facts.map(({ prompt, answer }) => {
    const whole = tokenizer.encode(prompt + answer);
    const start = commonPrefix(tokenizer.encode(prompt), whole);
    return { ids: whole, start };
  });
  checkRows(name, rows);
  const measure = async (model: CausalLM) => {
    let right = 0;
    await eachBatch(model, rows, batchSize, async (batch, guesses) => {
      const best = await guesses(({ logits }) => tf.argMax(logits, 2)); // [B, T]
      const [, length] = batch.shape;
      for (const [i, { ids, start }] of batch.rows.entries()) {
        const isRight = (id: number, at: number) => best[i * length + at - 1] === id;
        if (ids.slice(start).every((id, j) => isRight(id, start + j))) right++;
      }
    });
    return right / rows.length;
  };
  return { name, isBetterHigher: true, measure };
}

/** exp of the mean loss of all tokens but each text's first. */
export function perplexitySuite(
  name: string,
  texts: readonly string[],
  tokenizer: Tokenizer,
  { batchSize = 16, maxLength }: { batchSize?: number; maxLength?: number } = {},
): Suite {
  const sft = texts.map((text) => ({ text }));
  const rows = tokenizeRows(sft, tokenizer, maxLength === undefined ? {} : { maxLength })
    .map(({ inputIds }) => ({ ids: inputIds, start: 1 }))
    .filter(({ ids }) => ids.length > 1);
  checkRows(name, rows);
  const measure = async (model: CausalLM) => {
    let [sum, count] = [0, 0];
    await eachBatch(model, rows, batchSize, async (batch, guesses) => {
      const losses = await guesses(({ logits, labels }) => tokenLosses(logits, labels)); // [B, T-1]
      const width = batch.shape[1] - 1;
      for (const [i, { ids }] of batch.rows.entries()) {
        for (let t = 0; t < ids.length - 1; t++) sum += losses[i * width + t]!;
        count += ids.length - 1;
      }
    });
    return Math.exp(sum / count);
  };
  return { name, isBetterHigher: false, measure };
}

/** Share of prompts whose answer, written greedily, is in the format that `keeps` asks for. */
export function formatSuite(
  name: string,
  prompts: readonly string[],
  tokenizer: Tokenizer,
  keeps: (text: string) => boolean,
  { maxNewTokens = 16 }: { maxNewTokens?: number } = {},
): Suite {
  const rows = prompts.map((prompt) => ({ ids: tokenizer.encode(prompt), start: 0 }));
  checkRows(name, rows);
  const measure = async (model: CausalLM) => {
    const wasTraining = model.training;
    model.eval();
    const ids = rows.map((row) => row.ids);
    const eosTokenId = tokenizer.eosTokenId ?? null;
    const written = await generate(model, ids, { maxNewTokens, eosTokenId });
    model.train(wasTraining);
    const texts = written.map((list, i) =>
      tokenizer.decode(list.slice(ids[i]!.length), { skipSpecialTokens: true }),
    );
    return texts.filter(keeps).length / texts.length;
  };
  return { name, isBetterHigher: true, measure };
}

interface Row {
  ids: number[];
  /** The first position that counts. */
  start: number;
}

interface Batch {
  rows: Row[];
  shape: [batch: number, length: number];
}

type Read = (tensors: { logits: tf.Tensor3D; labels: tf.Tensor2D }) => tf.Tensor;

/** Runs the model over rows of like length, compiled for each shape. */
async function eachBatch(
  model: CausalLM,
  rows: readonly Row[],
  size: number,
  use: (batch: Batch, guesses: (read: Read) => Promise<tf.TypedArray>) => Promise<void>,
): Promise<void> {
  const wasTraining = model.training;
  model.eval();
  const compiled: { read?: ReturnType<typeof jit> } = {};
  const sorted = rows.toSorted((a, b) => a.ids.length - b.ids.length);
  for (let i = 0; i < sorted.length; i += size) {
    const part = sorted.slice(i, i + size);
    const length = Math.ceil(Math.max(...part.map(({ ids }) => ids.length)) / 8) * 8;
    const pad = (list: number[]) => [...list, ...Array<number>(length - list.length).fill(0)];
    const ids = tf.tensor2d(
      part.map((row) => pad(row.ids)),
      undefined,
      'int32',
    ); // [B, T]
    await use({ rows: part, shape: [part.length, length] }, async (read) => {
      compiled.read ??= jit((inputIds: tf.Tensor2D) =>
        read({ logits: model.forward(inputIds).logits, labels: inputIds }),
      );
      const result = compiled.read(ids) as tf.Tensor;
      const values = await result.data();
      result.dispose();
      return values;
    });
    ids.dispose();
  }
  compiled.read?.dispose();
  model.train(wasTraining);
}

function tokenLosses(logits: tf.Tensor3D, ids: tf.Tensor2D): tf.Tensor {
  const [batch, length, size] = logits.shape;
  const guesses = tf.slice(logits, [0, 0, 0], [batch, length - 1, size]); // [B, T-1, V]
  const targets = tf.slice(ids, [0, 1], [batch, length - 1]); // [B, T-1]
  const flat = tf.reshape(guesses, [-1, size]);
  const losses = crossEntropy(flat, tf.reshape(targets, [-1]), { reduction: 'none' });
  return tf.reshape(losses, [batch, length - 1]);
}

function checkRows(name: string, rows: readonly Row[]): void {
  if (rows.length === 0) throw new RangeError(`Suite '${name}' must have rows, got none`);
  const bad = rows.findIndex(({ ids, start }) => ids.length <= start);
  if (bad >= 0) throw new RangeError(`Row ${bad} of suite '${name}' has no token to judge`);
}

function commonPrefix(a: readonly number[], b: readonly number[]): number {
  const end = a.findIndex((id, i) => id !== b[i]);
  return end === -1 ? a.length : end;
}
