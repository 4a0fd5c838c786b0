// Alpaca's prompt in the styles of axolotl's AlpacaPrompter and its relatives: text to the place
// where the answer starts. Left out: reflections, multiple choice, explanations.

/** An Alpaca row; `system` counts in the styles with a system message. */
export interface AlpacaRow {
  instruction: string;
  input?: string;
  output?: string;
  system?: string;
}

/** Names of the styles. */
export type PromptStyle = keyof typeof STYLES;

interface Style {
  /** Around a system message. */
  system: (text: string) => string;
  turn: (instruction: string, input: string) => string;
  /** The system message of rows with and without an input; the row's own if left out. */
  messages?: readonly [withInput: string, withoutInput: string];
}

const TASK = 'Below is an instruction that describes a task';
const ASK = 'Write a response that appropriately completes the request.';
const MESSAGES = [
  `${TASK}, paired with an input that provides further context. ${ASK}`,
  `${TASK}. ${ASK}`,
] as const;
const joined = (instruction: string, input: string) =>
  input ? `${instruction}\n${input}` : instruction;

const instruct: Style = {
  system: (text) => `${text}\n\n`,
  turn: (instruction, input) =>
    `### Instruction:\n${instruction}\n\n${input && `### Input:\n${input}\n\n`}### Response:\n`,
};
const chat: Style = {
  system: (text) => `SYSTEM: ${text}\n`,
  turn: (instruction, input) => `USER: ${joined(instruction, input)}\nASSISTANT:`,
};
const chatml: Style = {
  system: (text) => `<|im_start|>system\n${text}<|im_end|>\n`,
  turn: (instruction, input) =>
    `<|im_start|>user\n${joined(instruction, input)}<|im_end|>\n<|im_start|>assistant\n`,
};
const standard = (style: Style): Style => ({ ...style, messages: MESSAGES });
const summary = 'Summarize the following article as a TL;DR.';

const STYLES = {
  instruct: standard(instruct),
  chat: standard(chat),
  chatml: standard(chatml),
  w_system_instruct: instruct,
  w_system_chat: chat,
  w_system_chatml: chatml,
  UnpromptedPrompter: { ...instruct, messages: ['', ''] },
  JeopardyPrompter: standard(instruct),
  GPTeacherPrompter: standard(instruct),
  NomicGPT4AllPrompter: standard(instruct),
  SummarizeTLDRPrompter: {
    ...chat,
    messages: ['', ''],
    turn: (instruction, input) => `USER: ${summary}\n${joined(instruction, input)}\nASSISTANT:`,
  },
} satisfies Record<string, Style>;

/** The prompt of a row; the answer follows without a space. A RangeError for an unknown style. */
export function alpacaPrompt(row: AlpacaRow, style: PromptStyle = 'instruct'): string {
  if (!Object.hasOwn(STYLES, style)) {
    const names = Object.keys(STYLES).join(', ');
    throw new RangeError(`The prompt's style must be one of ${names}, got '${style}'`);
  }
  const { system, turn, messages }: Style = STYLES[style];
  const { instruction, input = '' } = row;
  const message = messages ? messages[input ? 0 : 1] : row.system;
  return (message ? system(message) : '') + turn(instruction, input);
}
