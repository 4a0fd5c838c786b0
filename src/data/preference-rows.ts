// Preference pairs: a prompt with a chosen and a rejected answer, as text or as messages, to ids as
// TRL's DPOTrainer makes them: the completion starts where prompt and prompt + completion part.
import { applyChatTemplate, type ChatMessage } from './chat-template.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A pair; without `prompt` it is what both answers start with. */
export interface PreferenceRow {
  prompt?: string | ChatMessage[];
  chosen: string | ChatMessage[];
  rejected: string | ChatMessage[];
}

/** Ids of a pair. */
export interface PreferenceIds {
  promptIds: number[];
  chosenIds: number[];
  rejectedIds: number[];
}

/** Ids of each pair; text gets the end token if it lacks it. Throws a TypeError that names the row. */
export function tokenizePreferences(
  rows: Iterable<PreferenceRow>,
  tokenizer: Tokenizer,
  { chatTemplate = tokenizer.chatTemplate }: { chatTemplate?: string | undefined } = {},
): PreferenceIds[] {
  return Array.from(rows, (row, i) => {
    const { prompt, chosen, rejected } = withPrompt(row, i);
    if (typeof prompt === 'string') {
      const whole = (answer: string) => tokenizer.encode(prompt + withEnd(answer, tokenizer));
      const ids = [whole(chosen as string), whole(rejected as string)] as const;
      return split(tokenizer.encode(prompt), ...ids);
    }
    if (chatTemplate === undefined) throw new Error('The tokenizer has no chat template');
    const { bosToken, eosToken } = tokenizer;
    const encode = (messages: ChatMessage[], addGenerationPrompt = false) => {
      const options = { addGenerationPrompt, bosToken, eosToken };
      const text = applyChatTemplate(chatTemplate, messages, options);
      return tokenizer.encode(text, { addSpecialTokens: false });
    };
    return split(
      encode(prompt, true),
      encode([...prompt, ...(chosen as ChatMessage[])]),
      encode([...prompt, ...(rejected as ChatMessage[])]),
    );
  });
}

function split(prompt: number[], chosen: number[], rejected: number[]): PreferenceIds {
  const length = Math.min(commonPrefix(prompt, chosen), commonPrefix(prompt, rejected));
  return {
    promptIds: prompt.slice(0, length),
    chosenIds: chosen.slice(length),
    rejectedIds: rejected.slice(length),
  };
}

/** A checked row with its prompt apart: the given one, or the common start of both answers. */
function withPrompt(row: PreferenceRow, i: number): Required<PreferenceRow> {
  const { prompt, chosen, rejected } = row;
  for (const field of ['chosen', 'rejected'] as const) {
    const value = row[field];
    if (typeof value !== 'string' && !Array.isArray(value)) {
      throw new TypeError(`Row ${i} must have ${field} as text or messages, got ${typeof value}`);
    }
  }
  const sorts = [prompt ?? chosen, chosen, rejected].map((x) => typeof x === 'string');
  if (new Set(sorts).size > 1) {
    throw new TypeError(`Row ${i} must have prompt, chosen and rejected all as text or messages`);
  }
  if (prompt !== undefined) return { prompt, chosen, rejected };
  if (typeof chosen === 'string' && typeof rejected === 'string') {
    let common = commonPrefix([...chosen], [...rejected]);
    if (chosen[common - 1] === ' ') common--;
    const cut = (text: string) => text.slice(common);
    return { prompt: chosen.slice(0, common), chosen: cut(chosen), rejected: cut(rejected) };
  }
  const [a, b] = [chosen as ChatMessage[], rejected as ChatMessage[]];
  const texts = [a, b].map((messages) => messages.map((message) => JSON.stringify(message)));
  const common = commonPrefix(texts[0]!, texts[1]!);
  return { prompt: a.slice(0, common), chosen: a.slice(common), rejected: b.slice(common) };
}

function withEnd(text: string, { eosToken }: Tokenizer): string {
  return eosToken === undefined || text.endsWith(eosToken) ? text : text + eosToken;
}

function commonPrefix<T>(a: readonly T[], b: readonly T[]): number {
  const end = a.findIndex((item, i) => item !== b[i]);
  return end === -1 ? a.length : end;
}
