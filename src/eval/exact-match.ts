// Exact match: the share of prompts that a model continues, by greedy choice, with exactly the text
// that is wanted. One pass tells it: greedy decoding writes a text where each of its tokens is the
// likeliest one after the tokens before it.
import * as tf from '@tensorflow/tfjs';
import type { Tokenizer } from '../data/tokenizer.ts';
import { jit } from '../jit/jit.ts';
import type { CausalLM } from '../models/causal-lm.ts';

/** A prompt, and the text that should follow it. */
export interface Completion {
  prompt: string;
  completion: string;
}

/** How many rows go through the model at once (default 32), and lengths a multiple of what (default 8). */
export interface ExactMatchOptions {
  batchSize?: number;
  padToMultipleOf?: number;
}

interface Row {
  ids: number[];
  /** Where the completion begins. */
  from: number;
}

/** Of each item, whether greedy decoding of its prompt begins with its completion. */
export async function exactMatches(
  model: CausalLM,
  tokenizer: Tokenizer,
  items: readonly Completion[],
  { batchSize = 32, padToMultipleOf = 8 }: ExactMatchOptions = {},
): Promise<boolean[]> {
  const rows = items.map(({ prompt, completion }): Row => {
    const before = tokenizer.encode(prompt);
    const after = tokenizer.encode(completion, { addSpecialTokens: false });
    return { ids: [...before, ...after], from: before.length };
  });
  const likeliest = jit(function likeliest(ids: tf.Tensor2D): tf.Tensor {
    return tf.argMax(model.forward(ids).logits, -1); // [B, T]
  });
  const order = rows.map((_, i) => i).sort((a, b) => rows[a]!.ids.length - rows[b]!.ids.length);
  const matches: boolean[] = new Array(rows.length);
  for (let i = 0; i < order.length; i += batchSize) {
    const part = order.slice(i, i + batchSize);
    const longest = Math.max(...part.map((j) => rows[j]!.ids.length));
    const length = Math.ceil(longest / padToMultipleOf) * padToMultipleOf;
    const padded = Array.from({ length: batchSize }, (_, j) =>
      Array.from({ length }, (_, t) => rows[part[j] ?? -1]?.ids[t] ?? 0),
    );
    const ids = tf.tensor2d(padded, [batchSize, length], 'int32');
    const best = likeliest(ids);
    const chosen = await best.data();
    tf.dispose([ids, best]);
    for (const [j, row] of part.entries()) matches[row] = isMatch(rows[row]!, chosen, j * length);
  }
  likeliest.dispose();
  return matches;
}

/** The share of items that match, 0 to 1. */
export async function exactMatch(
  model: CausalLM,
  tokenizer: Tokenizer,
  items: readonly Completion[],
  options: ExactMatchOptions = {},
): Promise<number> {
  if (items.length === 0) throw new RangeError('exactMatch needs items, got none');
  const matches = await exactMatches(model, tokenizer, items, options);
  return matches.filter(Boolean).length / items.length;
}

function isMatch({ ids, from }: Row, chosen: ArrayLike<number>, start: number): boolean {
  return ids.every((id, t) => t < from || chosen[start + t - 1] === id);
}
