// Questions to a chat model: each is a chat of its own, put through the tokenizer's chat template.
import type { ChatMessage } from '../data/chat-template.ts';
import type { Tokenizer } from '../data/tokenizer.ts';
import type { CausalLM } from './causal-lm.ts';
import { type GenerationConfig, generate } from './generation.ts';

/** The ids of a chat up to where the answer begins. Throws if the tokenizer has no chat template. */
export function chatPrompt(tokenizer: Tokenizer, messages: ChatMessage[]): number[] {
  const text = tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true });
  return tokenizer.encode(text, { addSpecialTokens: false });
}

/**
 * The model's answer to each question, a user's turn; `batchSize` (default 16) of like length are
 * answered at once. Greedy, and at most 20 tokens, unless told otherwise.
 */
export async function chatAnswers(
  model: CausalLM,
  tokenizer: Tokenizer,
  questions: readonly string[],
  { batchSize = 16, ...config }: GenerationConfig & { batchSize?: number } = {},
): Promise<string[]> {
  const prompts = questions.map((content) => chatPrompt(tokenizer, [{ role: 'user', content }]));
  const order = prompts.map((_, i) => i).sort((a, b) => prompts[a]!.length - prompts[b]!.length);
  const answers = Array<string>(questions.length).fill('');
  for (let i = 0; i < order.length; i += batchSize) {
    const part = order.slice(i, i + batchSize);
    const written = await generate(
      model,
      part.map((j) => prompts[j]!),
      config,
    );
    for (const [k, j] of part.entries()) {
      const own = written[k]!.slice(prompts[j]!.length);
      answers[j] = tokenizer.decode(own, { skipSpecialTokens: true });
    }
  }
  return answers;
}
