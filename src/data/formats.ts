// Rows of the usual data sets to chats: Alpaca, Dolly, ShareGPT, OpenAI's chat JSON Lines, raw text,
// multi-task records and preference pairs, with the joins of LLaMA-Factory's converters.
// Left out: tool calls, images, rankings of more than two answers.
import type { ChatMessage } from './chat-template.ts';
import type { SftRow } from './tokenize-rows.ts';

/** A row as it was read: fields of any kind. */
export type RawRow = Record<string, unknown>;

/** Which kind of rows a file holds. */
export type RowFormat = keyof typeof CONVERTERS;

/** How rows are converted. */
export interface ConvertOptions {
  /** What errors call the rows, such as a file's name. Default 'Rows'. */
  name?: string;
  /** Leave malformed rows out and count them, in place of throwing at the first. Default false. */
  skipMalformed?: boolean;
}

/** Rows for SFT, and one sentence for each row that was left out. */
export interface ConvertedRows {
  rows: SftRow[];
  skipped: string[];
}

const CONVERTERS = {
  /** instruction, input, output, and perhaps system and history of [question, answer] pairs. */
  alpaca: (row: RawRow) => {
    const history = row.history === undefined ? [] : pairs(row);
    const question = [text(row, 'instruction'), optionalText(row, 'input')];
    return chat(row, [
      ...history.flatMap(([asked, said]) => [user(asked), assistant(said)]),
      user(question.filter(Boolean).join('\n')),
      assistant(text(row, 'output')),
    ]);
  },
  /** instruction, context, response, category. */
  dolly: (row: RawRow) => {
    const question = [text(row, 'instruction'), optionalText(row, 'context')];
    return chat(row, [user(question.filter(Boolean).join('\n')), assistant(text(row, 'response'))]);
  },
  /** conversations of { from, value }. */
  sharegpt: (row: RawRow) => {
    const turns = list(row, 'conversations').map((turn, i) => {
      const place = `conversations[${i}]`;
      return {
        role: roleOf(text(turn, 'from', place), place),
        content: text(turn, 'value', place),
      };
    });
    return chat(row, alternating(turns, 'conversations'));
  },
  /** messages of { role, content }. */
  openai: (row: RawRow) => {
    const turns = list(row, 'messages').map((turn, i) => {
      const place = `messages[${i}]`;
      return {
        role: roleOf(text(turn, 'role', place), place),
        content: text(turn, 'content', place),
      };
    });
    return chat(row, alternating(turns, 'messages'));
  },
  /** text, as it is. */
  text: (row: RawRow): SftRow => ({ text: text(row, 'text') }),
  /** task, input, output: the task's name leads the question, as in T5. */
  multitask: (row: RawRow) =>
    chat({}, [user(`${text(row, 'task')}: ${text(row, 'input')}`), assistant(text(row, 'output'))]),
  /** prompt and completion, as they are. */
  'prompt-completion': (row: RawRow): SftRow => ({
    prompt: text(row, 'prompt'),
    completion: text(row, 'completion'),
  }),
};

/** Names of the formats that `convertRows` knows. */
export const ROW_FORMATS = Object.keys(CONVERTERS) as RowFormat[];

/**
 * Rows of `format` as rows that SFT takes. A malformed row throws a TypeError that names row and
 * field, or is left out and told of in `skipped`. Throws a RangeError for an unknown format and if
 * no row is left.
 */
export function convertRows(
  rows: Iterable<object>,
  format: RowFormat,
  { name = 'Rows', skipMalformed = false }: ConvertOptions = {},
): ConvertedRows {
  if (!Object.hasOwn(CONVERTERS, format)) {
    throw new RangeError(`format must be one of ${ROW_FORMATS.join(', ')}, got '${format}'`);
  }
  const converted: ConvertedRows = { rows: [], skipped: [] };
  let number = 0;
  for (const row of rows) {
    number++;
    try {
      converted.rows.push(CONVERTERS[format](row as RawRow));
    } catch (error) {
      const sentence = `${name} row ${number}: ${(error as Error).message}`;
      if (!skipMalformed) throw new TypeError(sentence);
      converted.skipped.push(sentence);
    }
  }
  if (converted.rows.length === 0) {
    throw new RangeError(`${name} must hold at least one ${format} row, got ${number} rows`);
  }
  return converted;
}

/** A chat with the row's `system` first, if it has one. */
function chat(row: RawRow, turns: ChatMessage[]): SftRow {
  const system = optionalText(row, 'system');
  return { messages: system ? [{ role: 'system', content: system }, ...turns] : turns };
}

const user = (content: string): ChatMessage => ({ role: 'user', content });
const assistant = (content: string): ChatMessage => ({ role: 'assistant', content });

const ROLES: Record<string, string> = {
  human: 'user',
  user: 'user',
  prompter: 'user',
  gpt: 'assistant',
  assistant: 'assistant',
  model: 'assistant',
  system: 'system',
};

function roleOf(name: string, place: string): string {
  const role = Object.hasOwn(ROLES, name) ? ROLES[name] : undefined;
  if (role) return role;
  throw new TypeError(
    `${place} must be from one of ${Object.keys(ROLES).join(', ')}, got '${name}'`,
  );
}

/** Turns in which, after a system message, users and assistants alternate and an assistant is last. */
function alternating(turns: ChatMessage[], field: string): ChatMessage[] {
  const spoken = turns[0]?.role === 'system' ? turns.slice(1) : turns;
  for (const [i, { role }] of spoken.entries()) {
    const due = i % 2 === 0 ? 'user' : 'assistant';
    if (role !== due) throw new TypeError(`${field} must go on with a ${due}, got ${role}`);
  }
  if (spoken.length === 0 || spoken.length % 2 === 1) {
    throw new TypeError(`${field} must end with an assistant, got ${spoken.length} turns`);
  }
  return turns;
}

function pairs(row: RawRow): [string, string][] {
  return (Array.isArray(row.history) ? row.history : [row.history]).map((pair, i) => {
    if (Array.isArray(pair) && pair.length === 2 && pair.every((x) => typeof x === 'string')) {
      return pair as [string, string];
    }
    throw new TypeError(`history[${i}] must be [question, answer], got ${show(pair)}`);
  });
}

function list(row: RawRow, field: string): RawRow[] {
  const value = row[field];
  if (Array.isArray(value) && value.every((turn) => typeof turn === 'object' && turn !== null)) {
    return value as RawRow[];
  }
  throw new TypeError(`${field} must be a list of turns, got ${show(value)}`);
}

function text(row: RawRow, field: string, place = ''): string {
  const value = row[field];
  if (typeof value === 'string') return value;
  throw new TypeError(`${place && `${place}.`}${field} must be text, got ${show(value)}`);
}

function optionalText(row: RawRow, field: string): string {
  return row[field] === undefined || row[field] === null ? '' : text(row, field);
}

const show = (value: unknown) => JSON.stringify(value)?.slice(0, 60) ?? 'nothing';
