// What a model can do, measured before and after it is trained: facts that it completes, a format that
// it keeps, and how well it predicts text. A suite is a name and a function from a model to a score.
import * as tf from '@tensorflow/tfjs';
import { collate } from '../data/collator.ts';
import { tokenizeRows } from '../data/tokenize-rows.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import { jit } from '../jit/jit.ts';
import { type CausalLM, causalLMLoss } from '../models/causal-lm.ts';
import { generate } from '../models/generation.ts';
import { type Completion, type ExactMatchOptions, exactMatch } from './exact-match.ts';

/** One measure of a model; higher scores are better where `isBetterHigher`. */
export interface Suite {
  name: string;
  isBetterHigher: boolean;
  measure(model: CausalLM): Promise<number>;
}

/**
 * Share of facts of which the model would write the whole completion greedily. It follows the prompt as
 * it is: give it its leading space. Throws a RangeError for no facts, or one with nothing to complete.
 */
export function factsSuite(
  name: string,
  facts: readonly Completion[],
  tokenizer: Tokenizer,
  options: ExactMatchOptions = {},
): Suite {
  checkRows(
    name,
    facts.map(({ completion }) => completion.length),
  );
  const measure = (model: CausalLM) =>
    inference(model, () => exactMatch(model, tokenizer, facts, options));
  return { name, isBetterHigher: true, measure };
}

/** exp of the mean loss of all tokens but each text's first. Throws a RangeError for no texts. */
export function perplexitySuite(
  name: string,
  texts: readonly string[],
  tokenizer: Tokenizer,
  { batchSize = 16, maxLength }: { batchSize?: number; maxLength?: number } = {},
): Suite {
  const sft = texts.map((text) => ({ text }));
  const rows = tokenizeRows(sft, tokenizer, maxLength === undefined ? {} : { maxLength })
    .filter(({ inputIds }) => inputIds.length > 1)
    .sort((a, b) => a.inputIds.length - b.inputIds.length);
  checkRows(
    name,
    rows.map(({ inputIds }) => inputIds.length),
  );
  const measure = async (model: CausalLM) => {
    const read = jit((ids: tf.Tensor2D, labels: tf.Tensor2D) =>
      causalLMLoss(model.forward(ids).logits, labels),
    );
    let [sum, count] = [0, 0];
    for (let i = 0; i < rows.length; i += batchSize) {
      const part = rows.slice(i, i + batchSize);
      const batch = collate(part, { padTokenId: 0, padToMultipleOf: 8 });
      const ids = tf.tensor2d(batch.inputIds, undefined, 'int32'); // [B, T]
      const labels = tf.tensor2d(batch.labels, undefined, 'int32'); // [B, T]
      const loss = read(ids, labels);
      const predicted = part.reduce((all, { inputIds }) => all + inputIds.length - 1, 0);
      sum += (await loss.data())[0]! * predicted;
      count += predicted;
      tf.dispose([ids, labels, loss]);
    }
    read.dispose();
    return Math.exp(sum / count);
  };
  return {
    name,
    isBetterHigher: false,
    measure: (model) => inference(model, () => measure(model)),
  };
}

/**
 * Share of prompts whose answer, written greedily, is in the format that `keeps` asks for: up to
 * `eosTokenId` (default: the tokenizer's), at most `maxNewTokens` (default 16). Throws a RangeError for
 * no prompts.
 */
export function formatSuite(
  name: string,
  prompts: readonly string[],
  tokenizer: Tokenizer,
  keeps: (text: string) => boolean,
  {
    maxNewTokens = 16,
    eosTokenId = tokenizer.eosTokenId ?? null,
  }: { maxNewTokens?: number; eosTokenId?: number | null } = {},
): Suite {
  const rows = prompts.map((prompt) => tokenizer.encode(prompt));
  checkRows(
    name,
    rows.map(({ length }) => length),
  );
  const measure = async (model: CausalLM) => {
    const written = await generate(model, rows, { maxNewTokens, eosTokenId });
    const texts = written.map((ids, i) =>
      tokenizer.decode(ids.slice(rows[i]!.length), { skipSpecialTokens: true }),
    );
    return texts.filter(keeps).length / texts.length;
  };
  return { name, isBetterHigher: true, measure: (model) => inference(model, () => measure(model)) };
}

/** What `run` gives while dropout is off. */
async function inference<T>(model: CausalLM, run: () => Promise<T>): Promise<T> {
  const wasTraining = model.training;
  model.eval();
  try {
    return await run();
  } finally {
    model.train(wasTraining);
  }
}

function checkRows(name: string, lengths: readonly number[]): void {
  if (lengths.length === 0) throw new RangeError(`Suite '${name}' must have rows, got none`);
  const bad = lengths.indexOf(0);
  if (bad >= 0) throw new RangeError(`Row ${bad} of suite '${name}' has nothing to judge`);
}
