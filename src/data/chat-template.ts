// Chat templates: Jinja programs that turn messages into the text a model was trained on.
// Rendered by @huggingface/jinja, with the variables that transformers gives them.
import { Template } from '@huggingface/jinja';

/** One turn of a chat; roles are the template's, mostly 'system', 'user' and 'assistant'. */
export interface ChatMessage {
  role: string;
  content: string;
  [field: string]: unknown;
}

/** What a template sees besides the messages. */
export interface ChatTemplateOptions {
  /** End with the opening of an assistant's turn, for generation. Default false. */
  addGenerationPrompt?: boolean;
  bosToken?: string | undefined;
  eosToken?: string | undefined;
  tools?: unknown[];
  /** Further variables under the template's own names. */
  variables?: Record<string, unknown>;
}

/** The text of a chat; throws what the template raises, such as an unexpected order of roles. */
export function applyChatTemplate(
  template: string,
  messages: readonly ChatMessage[],
  options: ChatTemplateOptions = {},
): string {
  const { addGenerationPrompt = false, bosToken = '', eosToken = '', tools, variables } = options;
  return new Template(template).render({
    messages,
    add_generation_prompt: addGenerationPrompt,
    bos_token: bosToken,
    eos_token: eosToken,
    tools: tools ?? null,
    ...variables,
  });
}
