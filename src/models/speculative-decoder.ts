// Speculative decoding: a small model guesses several tokens that the large one checks at once
// (Leviathan et al. 2023).
import * as tf from '@tensorflow/tfjs';
import type { CausalLM } from './causal-lm.ts';
import { type Decoder, rowsOf } from './decoder.ts';
import { FixedCache, rounded, type StepOutput } from './fixed-cache.ts';

/**
 * Speculative decoding of one row: `assistant` guesses `count` tokens, the
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
