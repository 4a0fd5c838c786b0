// The README.md of the base model, in the form of Hugging Face's model cards.
import { type CausalLM, numParameters } from 'peftlab';
import type { Known, Measured } from './measure.ts';

/** What the card tells. */
export interface CardFacts {
  model: CausalLM;
  measured: Measured;
  steps: number;
  tokens: number;
  /** Mean over the last 50 steps, in nats a token. */
  loss: number;
  minutes: number;
  seed: number;
}

const share = ({ known, all }: Known) =>
  `${known} of ${all} (${((100 * known) / all).toFixed(1)} %)`;

/** The card as Markdown. */
export function modelCard({
  model,
  measured,
  steps,
  tokens,
  loss,
  minutes,
  seed,
}: CardFacts): string {
  const kinds = Object.entries(measured.statements).map(
    ([kind, known]) => `| ${kind} | ${share(known)} |`,
  );
  return `---
license: apache-2.0
language: en
library_name: peftlab
pipeline_tag: text-generation
---

# world-3m

A base language model of ${numParameters(model).toLocaleString('en')} parameters that has read about a small
world: real facts such as capitals, invented lands, people and creatures, sums, stories, talk and code. The
lessons adapt it. It completes text; it was never shown an answer to a question.

| | |
|---|---|
| Architecture | Llama: 4 layers, width 256, 8 heads, feed-forward 512, rotary positions up to 256, tied embeddings |
| Tokenizer | byte-level BPE with 4096 tokens, trained on the same world; ChatML template |
| Trained on | ${(tokens / 1e6).toFixed(2)} million tokens of the generator \`datasets/world\`, ${steps} steps of 8 rows |
| Optimizer | AdamW, learning rate 2.5e-3 falling linearly, weight decay 0.05, seed ${seed} |
| Loss at the end | ${loss.toFixed(3)} nats a token |
| Made by | \`npm run pretrain\`, ${minutes.toFixed(0)} minutes on the 2 cores where it was made |
| Weights | float16 safetensors |
| Licence | Apache-2.0 |

## What it knows

Each fact's statement is cut before its answer, and completed by greedy choice; it counts as known if the
whole answer and the full stop come.

| Facts | Known |
|---|---|
| all | ${share(measured.total)} |
| real | ${share(measured.real)} |
| invented | ${share(measured.invented)} |
${kinds.join('\n')}

Asked the same as questions, it gives the answer at once for ${share(measured.questions)}: it goes on with
further questions instead, as the pages did that it read. Instruction tuning changes that.

## Limits

English of a few dozen sentence patterns. Lands and people are mostly invented; do not use it to learn
about the world. It has no safety training, and needs none for what it can say.
`;
}
