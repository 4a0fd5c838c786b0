// Preference pairs of the usual data sets: TRL's with or without a prompt, and LLaMA-Factory's Alpaca
// and ShareGPT forms with a chosen and a rejected answer. Left out: rankings of more than two answers.
import type { ChatMessage } from './chat-template.ts';
import { type ConvertedRows, type ConvertOptions, convertEach } from './formats.ts';
import type { PreferenceRow } from './preference-rows.ts';
import {
  alternating,
  assistant,
  isObject,
  optionalText,
  type RawRow,
  shown,
  textField,
  turn,
  turns,
  user,
} from './row-fields.ts';

/** Which kind of pairs a file holds. */
export type PreferenceFormat = keyof typeof CONVERTERS;

const CONVERTERS = {
  /** prompt (or none: what both answers begin with), chosen and rejected, as text or as messages. */
  trl: (row: RawRow): PreferenceRow => {
    const prompt = row.prompt === undefined ? undefined : answer(row, 'prompt');
    const pair = { chosen: answer(row, 'chosen'), rejected: answer(row, 'rejected') };
    const all = { ...(prompt !== undefined && { prompt }), ...pair };
    const isChat = Array.isArray(pair.chosen);
    const other = Object.entries(all).find(([, value]) => Array.isArray(value) !== isChat);
    if (!other) return all as PreferenceRow;
    const kind = isChat ? 'messages' : 'text';
    throw new TypeError(`${other[0]} must be ${kind} as chosen is, got ${shown(other[1])}`);
  },
  /** instruction, input, chosen, rejected. */
  alpaca: (row: RawRow): PreferenceRow => {
    const question = [textField(row, 'instruction'), optionalText(row, 'input')];
    const system = optionalText(row, 'system');
    const prompt = [user(question.filter(Boolean).join('\n'))];
    return {
      prompt: system ? [{ role: 'system', content: system }, ...prompt] : prompt,
      chosen: [assistant(textField(row, 'chosen'))],
      rejected: [assistant(textField(row, 'rejected'))],
    };
  },
  /** conversations that end with a user; chosen and rejected are one turn { from, value } each. */
  sharegpt: (row: RawRow): PreferenceRow => ({
    prompt: alternating(turns(row, 'conversations', ['from', 'value']), 'conversations', 'user'),
    chosen: [reply(row, 'chosen')],
    rejected: [reply(row, 'rejected')],
  }),
};

/** Names of the formats that `convertPreferences` knows. */
export const PREFERENCE_FORMATS = Object.keys(CONVERTERS) as PreferenceFormat[];

/**
 * Rows of `format` as pairs that preference trainers take; malformed ones as in `convertRows`. A pair of
 * equal answers is malformed: nothing can be learnt from it.
 */
export function convertPreferences(
  rows: Iterable<object>,
  format: PreferenceFormat,
  options: ConvertOptions = {},
): ConvertedRows<PreferenceRow> {
  if (!Object.hasOwn(CONVERTERS, format)) {
    const names = PREFERENCE_FORMATS.join(', ');
    throw new RangeError(`format must be one of ${names}, got '${format}'`);
  }
  const convert = (row: RawRow) => {
    const pair = CONVERTERS[format](row);
    if (JSON.stringify(pair.chosen) !== JSON.stringify(pair.rejected)) return pair;
    throw new TypeError(`chosen and rejected must differ, got ${shown(row.chosen)} twice`);
  };
  return convertEach(rows, convert, { ...options, format });
}

/** Text, or a list of messages. */
function answer(row: RawRow, field: string): string | ChatMessage[] {
  const value = row[field];
  if (typeof value === 'string') return value;
  if (Array.isArray(value)) return turns(row, field, ['role', 'content']);
  throw new TypeError(`${field} must be text or messages, got ${shown(value)}`);
}

/** One turn of an assistant. */
function reply(row: RawRow, field: string): ChatMessage {
  const value = row[field];
  if (!isObject(value)) throw new TypeError(`${field} must be a turn, got ${shown(value)}`);
  const message = turn(value, ['from', 'value'], field);
  if (message.role === 'assistant') return message;
  throw new TypeError(`${field} must be from an assistant, got ${message.role}`);
}
