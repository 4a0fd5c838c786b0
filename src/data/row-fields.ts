// Fields of rows as people write them: text, chats of turns, and what a TypeError says of others.
import type { ChatMessage } from './chat-template.ts';

/** A row as it was read: fields of any kind. */
export type RawRow = Record<string, unknown>;

/** A turn of a user. */
export const user = (content: string): ChatMessage => ({ role: 'user', content });
/** A turn of an assistant. */
export const assistant = (content: string): ChatMessage => ({ role: 'assistant', content });

const ROLES: Record<string, string> = {
  human: 'user',
  user: 'user',
  prompter: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  model: 'assistant',
  system: 'system',
};

/** The text of a field; `place` leads its name in errors. Throws a TypeError for anything else. */
export function textField(row: RawRow, field: string, place = ''): string {
  const value = row[field];
  if (typeof value === 'string') return value;
  throw new TypeError(`${place && `${place}.`}${field} must be text, got ${shown(value)}`);
}

/** The same, and '' where the field is left out or null. */
export function optionalText(row: RawRow, field: string): string {
  return (row[field] ?? null) === null ? '' : textField(row, field);
}

/** A turn { from, value } or { role, content } as a message; throws a TypeError for an unknown role. */
export function turn(row: RawRow, [from, value]: readonly [string, string], place: string) {
  const name = textField(row, from, place);
  const role = Object.hasOwn(ROLES, name) ? ROLES[name] : undefined;
  if (role) return { role, content: textField(row, value, place) } satisfies ChatMessage;
  throw new TypeError(
    `${place} must be from one of ${Object.keys(ROLES).join(', ')}, got '${name}'`,
  );
}

/** All turns of a field. */
export function turns(row: RawRow, field: string, names: readonly [string, string]): ChatMessage[] {
  const value = row[field];
  if (!Array.isArray(value) || !value.every(isObject)) {
    throw new TypeError(`${field} must be a list of turns, got ${shown(value)}`);
  }
  return value.map((item, i) => turn(item as RawRow, names, `${field}[${i}]`));
}

/** Turns in which, after a system message, users and assistants alternate; `last` must be the last. */
export function alternating(
  all: ChatMessage[],
  field: string,
  last: 'assistant' | 'user' = 'assistant',
): ChatMessage[] {
  const spoken = all[0]?.role === 'system' ? all.slice(1) : all;
  for (const [i, { role }] of spoken.entries()) {
    const due = i % 2 === 0 ? 'user' : 'assistant';
    if (role !== due) throw new TypeError(`${field} must go on with a ${due}, got ${role}`);
  }
  if (spoken.at(-1)?.role !== last) {
    const article = last === 'user' ? 'a' : 'an';
    throw new TypeError(`${field} must end with ${article} ${last}, got ${spoken.length} turns`);
  }
  return all;
}

/** Whether a value has fields. */
export function isObject(value: unknown): value is RawRow {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A value in an error. */
export const shown = (value: unknown) => JSON.stringify(value)?.slice(0, 60) ?? 'nothing';
