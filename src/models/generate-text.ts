// `peftlab generate MODEL PROMPT`: a model's answer as it comes.
import { AutoModelForCausalLM, AutoTokenizer } from './auto.ts';
import { type GenerationConfig, streamText } from './generation.ts';
import type { HubOptions } from './hub.ts';
import { obtainSmollm2 } from './smollm2.ts';

/**
 * The answer of a model (a folder, .gguf file, hub id, or 'smollm2') to a prompt, in pieces. The prompt
 * goes through the model's chat template as a user's turn; with `raw` it is continued as it is.
 * Greedy, and at most 256 tokens, unless told otherwise.
 */
export async function* generateText(
  source: string,
  prompt: string,
  { raw = false, ...config }: GenerationConfig & HubOptions & { raw?: boolean } = {},
): AsyncGenerator<string> {
  const path = source === 'smollm2' ? await obtainSmollm2(config) : source;
  const tokenizer = await AutoTokenizer.fromPretrained(path, config);
  if (!raw && tokenizer.chatTemplate === undefined) {
    throw new Error(`The tokenizer of '${source}' has no chat template; ask for the raw prompt`);
  }
  const chat = [{ role: 'user', content: prompt }];
  const ids = raw
    ? tokenizer.encode(prompt)
    : tokenizer.encode(tokenizer.applyChatTemplate(chat, { addGenerationPrompt: true }), {
        addSpecialTokens: false,
      });
  const model = await AutoModelForCausalLM.fromPretrained(path, config);
  try {
    yield* streamText(model, ids, { maxNewTokens: 256, ...config, tokenizer });
  } finally {
    model.dispose();
  }
}
