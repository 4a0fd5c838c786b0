// How scores of the next token are changed before one is chosen, as transformers does and in its order:
// repetition penalty, then, when sampling, temperature, top-k, top-p. Scores are rows of float32.
// Left out: n-gram bans, min-p, typical sampling, forced and suppressed tokens.

/** Changes one row of scores [V] in place. */
export type LogitsProcessor = (scores: Float32Array, ids: readonly number[]) => void;

/** What the processors are made from; each is left out at its default. */
export interface LogitsOptions {
  doSample?: boolean;
  temperature?: number;
  topK?: number;
  topP?: number;
  repetitionPenalty?: number;
}

/** The processors of `options` in transformers' order; `topK` is 50 unless given. */
export function logitsProcessors(options: LogitsOptions): LogitsProcessor[] {
  const { doSample, temperature = 1, topK = 50, topP = 1, repetitionPenalty = 1 } = options;
  const list: LogitsProcessor[] = [];
  if (repetitionPenalty !== 1) list.push(repetition(repetitionPenalty));
  if (!doSample) return list;
  if (temperature !== 1) list.push(temper(temperature));
  if (topK !== 0) list.push(keepTopK(topK));
  if (topP < 1) list.push(keepTopP(topP));
  return list;
}

/** Scores of tokens that occur in `ids`: divided by `penalty` if positive, else multiplied. */
function repetition(penalty: number): LogitsProcessor {
  positive('repetitionPenalty', penalty);
  return (scores, ids) => {
    for (const id of new Set(ids)) {
      const score = scores[id]!;
      scores[id] = score < 0 ? score * penalty : score / penalty;
    }
  };
}

/** scores / temperature. */
function temper(temperature: number): LogitsProcessor {
  positive('temperature', temperature);
  return (scores) => {
    for (let i = 0; i < scores.length; i++) scores[i] = scores[i]! / temperature;
  };
}

/** Drops what is below the k-th highest score; equals of it stay. */
function keepTopK(k: number): LogitsProcessor {
  if (!Number.isInteger(k) || k < 1) {
    throw new RangeError(`topK must be a positive integer, or 0 for all, got ${k}`);
  }
  return (scores) => {
    if (k >= scores.length) return;
    const lowest = scores.toSorted()[scores.length - k]!;
    for (let i = 0; i < scores.length; i++) if (scores[i]! < lowest) scores[i] = -Infinity;
  };
}

/** Keeps the fewest best tokens whose probabilities pass p; at least one. */
function keepTopP(p: number): LogitsProcessor {
  if (!(p > 0)) throw new RangeError(`topP must be above 0 and at most 1, got ${p}`);
  return (scores) => {
    const order = [...scores.keys()].sort((a, b) => scores[a]! - scores[b]!);
    const probabilities = softmax(scores);
    let sum = 0;
    for (const id of order.slice(0, -1)) {
      sum += probabilities[id]!;
      if (sum > 1 - p) break;
      scores[id] = -Infinity;
    }
  };
}

/** exp(score) over their sum, [V]. */
export function softmax(scores: Float32Array): Float64Array {
  let highest = -Infinity;
  for (const score of scores) if (score > highest) highest = score;
  const exps = Float64Array.from(scores, (score) => Math.exp(score - highest));
  let sum = 0;
  for (const value of exps) sum += value;
  return exps.map((value) => value / sum);
}

/** Index of the highest score, the first of equals. */
export function argmax(scores: Float32Array): number {
  let best = 0;
  for (let i = 1; i < scores.length; i++) if (scores[i]! > scores[best]!) best = i;
  return best;
}

function positive(name: string, value: number): void {
  if (!(value > 0)) throw new RangeError(`${name} must be above 0, got ${value}`);
}
