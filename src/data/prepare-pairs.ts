// Repairs of prompt-completion pairs, as OpenAI's former `fine_tunes.prepare_data` proposes and makes
// them when all is accepted: empty and double rows, separators, endings, a leading space.
// Left out: reading other table formats, the split for classification.

/** A prompt and what shall follow it. */
export interface PromptCompletion {
  prompt: string;
  completion: string;
}

/** The repaired rows and one sentence for each repair. */
export interface PreparedPairs {
  rows: PromptCompletion[];
  repairs: string[];
}

type Column = keyof PromptCompletion;
type Repair = { what: string; apply: (rows: PromptCompletion[]) => PromptCompletion[] };

const SEPARATORS = [
  ' ->',
  '\n\n###\n\n',
  '\n\n===\n\n',
  '\n\n---\n\n',
  '\n\n===>\n\n',
  '\n\n--->\n\n',
];
const ENDINGS = ['\n', '.', ' END', '***', '+++', '&&&', '$$$', '@@@', '%%%'];
/** Characters of a row from which on it is called long, unless there are no prompts. */
const LONG = 10_000;

/** Rows after all repairs that apply. Throws an Error if all prompts or all completions are the same. */
export function preparePairs(rows: readonly PromptCompletion[]): PreparedPairs {
  const kept = rows.filter(({ completion }) => completion !== '');
  const repairs: Repair[] = [
    duplicates(kept),
    long(kept),
    lowerCase(kept, 'prompt'),
    lowerCase(kept, 'completion'),
    separator(kept),
    promptStart(kept),
    completionStart(kept),
    ending(kept),
    leadingSpace(kept),
  ].filter((repair) => repair !== undefined);
  const empty = rows.length - kept.length;
  return {
    rows: repairs.reduce((all, { apply }) => apply(all), kept),
    repairs: [
      ...(empty > 0 ? [`Remove ${empty} rows with empty completions`] : []),
      ...repairs.map(({ what }) => what),
    ],
  };
}

/** What the rows look like a task for. */
function taskOf(rows: PromptCompletion[]): 'generation' | 'classification' | 'conditional' {
  if (rows.every(({ prompt }) => prompt === '')) return 'generation';
  const different = new Set(rows.map(({ completion }) => completion)).size;
  return different < rows.length / 3 ? 'classification' : 'conditional';
}

function duplicates(rows: PromptCompletion[]): Repair | undefined {
  const isFirst = (row: PromptCompletion, i: number, all: PromptCompletion[]) =>
    all.findIndex((x) => x.prompt === row.prompt && x.completion === row.completion) === i;
  const double = rows.length - rows.filter(isFirst).length;
  if (double === 0) return;
  return { what: `Remove ${double} duplicate rows`, apply: (all) => all.filter(isFirst) };
}

function long(rows: PromptCompletion[]): Repair | undefined {
  if (taskOf(rows) === 'generation') return;
  const isShort = ({ prompt, completion }: PromptCompletion) =>
    Array.from(prompt).length + Array.from(completion).length <= LONG;
  const count = rows.length - rows.filter(isShort).length;
  if (count > 0)
    return { what: `Remove ${count} long examples`, apply: (all) => all.filter(isShort) };
}

function lowerCase(rows: PromptCompletion[], column: Column): Repair | undefined {
  const count = (pattern: RegExp) =>
    rows.reduce((sum, row) => sum + (row[column].match(pattern)?.length ?? 0), 0);
  if (count(/\p{Lu}/gu) * 2 <= count(/\p{Ll}/gu)) return;
  return {
    what: `Lowercase all your data in column/key \`${column}\``,
    apply: (all) => change(all, column, (text) => text.toLowerCase()),
  };
}

function separator(rows: PromptCompletion[]): Repair | undefined {
  if (taskOf(rows) === 'generation') return;
  const prompts = rows.map(({ prompt }) => prompt);
  const common = commonEnd(prompts);
  if (prompts.every((prompt) => prompt === common)) {
    throw new Error(`All prompts are identical: ${JSON.stringify(common)}`);
  }
  if (common !== '') return;
  const isMultiline = prompts.some((prompt) => prompt.includes('\n'));
  const options = isMultiline ? SEPARATORS.slice(1) : SEPARATORS;
  const added = unused(options, prompts) ?? '\n\n### =>\n\n';
  return {
    what: `Add a suffix separator \`${shown(added)}\` to all prompts`,
    apply: (all) => change(all, 'prompt', (text) => text + added),
  };
}

function promptStart(rows: PromptCompletion[]): Repair | undefined {
  const prompts = rows.map(({ prompt }) => prompt);
  const common = commonStart(prompts);
  if (common.length <= 12 || prompts.every((prompt) => prompt === common)) return;
  return {
    what: `Remove prefix \`${shown(common)}\` from all prompts`,
    apply: (all) => change(all, 'prompt', (text) => text.slice(common.length)),
  };
}

function completionStart(rows: PromptCompletion[]): Repair | undefined {
  const completions = rows.map(({ completion }) => completion);
  const common = commonStart(completions);
  if (common.length < 5 || completions.every((completion) => completion === common)) return;
  const space = common.startsWith(' ') ? ' ' : '';
  return {
    what: `Remove prefix \`${shown(common)}\` from all completions`,
    apply: (all) => change(all, 'completion', (text) => space + text.slice(common.length)),
  };
}

function ending(rows: PromptCompletion[]): Repair | undefined {
  if (taskOf(rows) !== 'conditional') return;
  const completions = rows.map(({ completion }) => completion);
  const common = commonEnd(completions);
  if (completions.every((completion) => completion === common)) {
    throw new Error(`All completions are identical: ${JSON.stringify(common)}`);
  }
  if (common !== '') return;
  const added = unused(ENDINGS, completions) ?? ' [END]';
  return {
    what: `Add a suffix ending \`${shown(added)}\` to all completions`,
    apply: (all) => change(all, 'completion', (text) => text + added),
  };
}

function leadingSpace(rows: PromptCompletion[]): Repair | undefined {
  const firsts = new Set(rows.map(({ completion }) => completion[0]));
  if (firsts.size === 1 && firsts.has(' ')) return;
  return {
    what: 'Add a whitespace character to the beginning of the completion',
    apply: (all) => change(all, 'completion', (text) => (text.startsWith(' ') ? text : ` ${text}`)),
  };
}

function change(rows: PromptCompletion[], column: Column, next: (text: string) => string) {
  return rows.map((row) => ({ ...row, [column]: next(row[column]) }));
}

const unused = (options: readonly string[], texts: readonly string[]) =>
  options.find((option) => !texts.some((text) => text.includes(option)));

const shown = (text: string) => text.replaceAll('\n', '\\n');

function commonStart(texts: readonly string[]): string {
  let common = texts[0] ?? '';
  for (const text of texts) while (!text.startsWith(common)) common = common.slice(0, -1);
  return common;
}

function commonEnd(texts: readonly string[]): string {
  let common = texts[0] ?? '';
  for (const text of texts) while (!text.endsWith(common)) common = common.slice(1);
  return common;
}
