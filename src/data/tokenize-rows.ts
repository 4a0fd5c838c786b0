// Rows of text or chats to ids and labels: what of a row is learnt. Follows TRL's SFTTrainer:
// completion-only and assistant-only masks, the end token, truncation.
import { applyChatTemplate, type ChatMessage } from './chat-template.ts';
import type { TokenRow } from './packing.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A row for SFT: text, a prompt with its completion, or a chat; both as text or as messages. */
export interface SftRow {
  text?: string;
  prompt?: string | ChatMessage[];
  completion?: string | ChatMessage[];
  messages?: ChatMessage[];
  tools?: unknown[];
  [field: string]: unknown;
}

/** What is learnt and how long rows may be. */
export interface TokenizeOptions {
  /** Learn only completions. Default: true for rows with prompt and completion. */
  completionOnlyLoss?: boolean;
  /** Learn only what the chat template marks with `{% generation %}`. Default false. */
  assistantOnlyLoss?: boolean;
  /** A Jinja template in the place of the tokenizer's. */
  chatTemplate?: string;
  /** Longest row in tokens; rows that lose all their labels are dropped. Default: no limit. */
  maxLength?: number;
  /** Which end of a long row is kept. Default 'keep_start'. */
  truncationMode?: 'keep_start' | 'keep_end';
  /** The field of plain text. Default 'text'. */
  textField?: string;
}

const IGNORED = -100;
const [OPEN, CLOSE] = ['\ue0a0', '\ue0a1'];

/** Ids and labels (-100 where nothing is learnt) of each row that has something to learn. */
export function tokenizeRows(
  rows: Iterable<SftRow>,
  tokenizer: Tokenizer,
  options: TokenizeOptions = {},
): TokenRow[] {
  const { maxLength, truncationMode = 'keep_start' } = options;
  if (maxLength !== undefined && (!Number.isInteger(maxLength) || maxLength < 1)) {
    throw new RangeError(`maxLength must be a positive integer, got ${maxLength}`);
  }
  const all = Array.from(rows, (row, i) => tokenizeRow(row, tokenizer, options, i));
  if (maxLength === undefined) return all;
  const cut = (list: number[]) =>
    truncationMode === 'keep_start' ? list.slice(0, maxLength) : list.slice(-maxLength);
  return all
    .map(({ inputIds, labels }) => ({ inputIds: cut(inputIds), labels: cut(labels) }))
    .filter(({ labels }) => labels.some((label) => label !== IGNORED));
}

/** Ids and labels of one row; `index` is its number in errors. */
export function tokenizeRow(
  row: SftRow,
  tokenizer: Tokenizer,
  options: TokenizeOptions = {},
  index = 0,
): TokenRow {
  const { assistantOnlyLoss = false } = options;
  const completionOnly = options.completionOnlyLoss ?? row.prompt !== undefined;
  const { ids, promptLength, learnt } = readRow(row, tokenizer, options, index);
  if (assistantOnlyLoss && !learnt?.includes(true)) {
    throw new Error(
      `Row ${index} has no token of an assistant: assistantOnlyLoss needs {% generation %} in the chat template`,
    );
  }
  const labels = ids.map((id, i) =>
    (completionOnly && i < promptLength) || (learnt && !learnt[i]) ? IGNORED : id,
  );
  return { inputIds: ids, labels };
}

interface ReadRow {
  ids: number[];
  promptLength: number;
  learnt?: boolean[] | undefined;
}

function readRow(row: SftRow, tokenizer: Tokenizer, options: TokenizeOptions, i: number): ReadRow {
  const { prompt, completion, messages } = row;
  const text = row[options.textField ?? 'text'];
  if (Array.isArray(prompt) && Array.isArray(completion)) {
    const before = encodeChat(prompt, tokenizer, options, { addGenerationPrompt: true, row });
    const whole = encodeChat([...prompt, ...completion], tokenizer, options, { row });
    return { ...whole, promptLength: commonPrefix(before.ids, whole.ids) };
  }
  if (typeof prompt === 'string' && typeof completion === 'string') {
    const ids = tokenizer.encode(prompt + withEnd(completion, tokenizer));
    return { ids, promptLength: commonPrefix(tokenizer.encode(prompt), ids) };
  }
  if (Array.isArray(messages)) {
    return { ...encodeChat(messages, tokenizer, options, { row }), promptLength: 0 };
  }
  if (typeof text === 'string') {
    return { ids: tokenizer.encode(withEnd(text, tokenizer)), promptLength: 0 };
  }
  throw new TypeError(
    `Row ${i} must have text, messages, or prompt and completion, got ${Object.keys(row).join(', ') || 'no field'}`,
  );
}

/** Ids of a chat and, for assistantOnlyLoss, which of them a `{% generation %}` block wrote. */
function encodeChat(
  messages: ChatMessage[],
  tokenizer: Tokenizer,
  { chatTemplate, assistantOnlyLoss = false }: TokenizeOptions,
  { row, addGenerationPrompt = false }: { row: SftRow; addGenerationPrompt?: boolean },
): { ids: number[]; learnt?: boolean[] } {
  const template = chatTemplate ?? tokenizer.chatTemplate;
  if (template === undefined) throw new Error('The tokenizer has no chat template');
  const { bosToken, eosToken } = tokenizer;
  const tools = row.tools && { tools: row.tools };
  const options = { addGenerationPrompt, bosToken, eosToken, ...tools };
  const marked = applyChatTemplate(markGenerations(template), messages, options);
  const { text, spans } = takeMarks(marked);
  const { ids, offsets } = tokenizer.encodeWithOffsets(text, { addSpecialTokens: false });
  if (!assistantOnlyLoss) return { ids };
  const touches = ([start, end]: readonly [number, number]) =>
    spans.some((span) => start < span[1] && end > span[0]);
  return { ids, learnt: offsets.map(touches) };
}

/**
 * A template whose `{% generation %}` blocks print marks around their text, with the white space
 * that Jinja's trim_blocks and lstrip_blocks would take.
 */
export function markGenerations(template: string): string {
  return template.replace(
    /(?:^[ \t]+(?=\{%[^-]))?\{%([-+]?)\s*(generation|endgeneration)\s*(-?)%\}\n?/gm,
    (_, left: string, name: string, right: string) => {
      const mark = name === 'generation' ? OPEN : CLOSE;
      return `{{${left === '-' ? '-' : ''} '${mark}' ${right}}}`;
    },
  );
}

/** The text without marks, and where marked parts stand, in code points. */
function takeMarks(marked: string): { text: string; spans: [number, number][] } {
  const kept: string[] = [];
  const spans: [number, number][] = [];
  for (const char of marked) {
    if (char === OPEN) spans.push([kept.length, Infinity]);
    else if (char === CLOSE) spans.at(-1)![1] = kept.length;
    else kept.push(char);
  }
  return { text: kept.join(''), spans };
}

function withEnd(text: string, { eosToken }: Tokenizer): string {
  return eosToken === undefined || text.endsWith(eosToken) ? text : text + eosToken;
}

function commonPrefix(a: readonly number[], b: readonly number[]): number {
  const end = a.findIndex((id, i) => id !== b[i]);
  return end === -1 ? a.length : end;
}
