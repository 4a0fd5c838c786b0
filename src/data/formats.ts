// Rows of the usual data sets for SFT: Alpaca, Dolly, ShareGPT, OpenAI's chat JSON Lines, raw text and
// multi-task records to chats, with the joins of LLaMA-Factory's converters.
// Left out: tool calls, images.
import type { ChatMessage } from './chat-template.ts';
import {
  alternating,
  assistant,
  optionalText,
  type RawRow,
  shown,
  textField,
  turns,
  user,
} from './row-fields.ts';
import type { SftRow } from './tokenize-rows.ts';

/** Which kind of rows a file holds. */
export type RowFormat = keyof typeof CONVERTERS;

/** How rows are converted. */
export interface ConvertOptions {
  /** What errors call the rows, such as a file's name. Default 'Rows'. */
  name?: string;
  /** Where each row stands, as `readRows` tells, for errors. Default: 'row 1', 'row 2', ... */
  places?: readonly string[];
  /** Leave malformed rows out and count them, in place of throwing at the first. Default false. */
  skipMalformed?: boolean;
}

/** Converted rows, and one sentence for each row that was left out. */
export interface ConvertedRows<Row = SftRow> {
  rows: Row[];
  skipped: string[];
}

const CONVERTERS = {
  /** instruction, input, output, and perhaps system and history of [question, answer] pairs. */
  alpaca: (row: RawRow) => {
    const history = row.history === undefined ? [] : pairs(row);
    const question = [textField(row, 'instruction'), optionalText(row, 'input')];
    return chat(row, [
      ...history.flatMap(([asked, said]) => [user(asked), assistant(said)]),
      user(question.filter(Boolean).join('\n')),
      assistant(textField(row, 'output')),
    ]);
  },
  /** instruction, context, response, category. */
  dolly: (row: RawRow) => {
    const question = [textField(row, 'instruction'), optionalText(row, 'context')];
    return chat(row, [
      user(question.filter(Boolean).join('\n')),
      assistant(textField(row, 'response')),
    ]);
  },
  /** conversations of { from, value }. */
  sharegpt: (row: RawRow) => {
    const said = turns(row, 'conversations', ['from', 'value']);
    return chat(row, alternating(said, 'conversations'));
  },
  /** messages of { role, content }. */
  openai: (row: RawRow) => {
    const said = turns(row, 'messages', ['role', 'content']);
    return chat(row, alternating(said, 'messages'));
  },
  /** text, as it is. */
  text: (row: RawRow): SftRow => ({ text: textField(row, 'text') }),
  /** task, input, output: the task's name leads the question, as in T5. */
  multitask: (row: RawRow) => {
    const question = `${textField(row, 'task')}: ${textField(row, 'input')}`;
    return chat({}, [user(question), assistant(textField(row, 'output'))]);
  },
  /** prompt and completion, as they are. */
  'prompt-completion': (row: RawRow): SftRow => ({
    prompt: textField(row, 'prompt'),
    completion: textField(row, 'completion'),
  }),
};

/** Names of the formats that `convertRows` knows. */
export const ROW_FORMATS = Object.keys(CONVERTERS) as RowFormat[];

/**
 * Rows of `format` as rows that SFT takes. A malformed row throws a TypeError that names its place and
 * field, or is left out and told of in `skipped`. Throws a RangeError for an unknown format and if
 * no row is left.
 */
export function convertRows(
  rows: Iterable<object>,
  format: RowFormat,
  options: ConvertOptions = {},
): ConvertedRows {
  if (!Object.hasOwn(CONVERTERS, format)) {
    throw new RangeError(`format must be one of ${ROW_FORMATS.join(', ')}, got '${format}'`);
  }
  return convertEach(rows, CONVERTERS[format], { ...options, format });
}

/** Each row by one converter, whose TypeErrors get the row's place. */
export function convertEach<Row>(
  rows: Iterable<object>,
  convert: (row: RawRow) => Row,
  { name = 'Rows', places, skipMalformed = false, format }: ConvertOptions & { format: string },
): ConvertedRows<Row> {
  const converted: ConvertedRows<Row> = { rows: [], skipped: [] };
  let number = 0;
  for (const row of rows) {
    const place = places?.[number] ?? `row ${number + 1}`;
    number++;
    try {
      converted.rows.push(convert(row as RawRow));
    } catch (error) {
      const sentence = `${name} ${place}: ${(error as Error).message}`;
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
function chat(row: RawRow, said: ChatMessage[]): SftRow {
  const system = optionalText(row, 'system');
  return { messages: system ? [{ role: 'system', content: system }, ...said] : said };
}

function pairs(row: RawRow): [string, string][] {
  return (Array.isArray(row.history) ? row.history : [row.history]).map((pair, i) => {
    if (Array.isArray(pair) && pair.length === 2 && pair.every((x) => typeof x === 'string')) {
      return pair as [string, string];
    }
    throw new TypeError(`history[${i}] must be [question, answer], got ${shown(pair)}`);
  });
}
