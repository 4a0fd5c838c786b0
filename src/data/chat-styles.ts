// LLaMA-Factory's chat templates by name: a chat as pairs of prompt and response, and their labels.
// A slot is text that is encoded on its own, or the token of the text's start or end.
// Left out: templates of other models, tools, images, thoughts.
import type { ChatMessage } from './chat-template.ts';
import type { TokenRow } from './packing.ts';
import type { Tokenizer } from './tokenizer.ts';

type Slot = string | { token: 'bos' | 'eos' };
type Format = (content: string) => Slot[];

interface Style {
  user: Format;
  assistant: Format;
  system: Format;
  prefix: Slot[];
  /** The system message of a chat that has none. */
  defaultSystem: string;
  /** The system message stands inside the first user's turn, as Llama 2 has it. */
  systemInUser: boolean;
}

/** Names of the styles. */
export type ChatStyle = keyof typeof STYLES;

const BOS: Slot = { token: 'bos' };
const EOS: Slot = { token: 'eos' };

const style = (own: Partial<Style> & Pick<Style, 'user'>): Style => ({
  assistant: (content) => [content, EOS],
  system: (content) => [content],
  prefix: [],
  defaultSystem: '',
  systemInUser: false,
  ...own,
});
const tagged = (open: (role: string) => string, close: string, assistantRole = 'assistant') => ({
  user: (content: string) => [`${open('user')}${content}${close}${open(assistantRole)}`],
  system: (content: string) => [`${open('system')}${content}${close}`],
  assistant: (content: string) => [`${content}${close}`],
});

const chatml = tagged((role) => `<|im_start|>${role}\n`, '<|im_end|>\n');
const paragraph = (content: string): Slot[] => [`${content}\n\n`];

const STYLES = {
  alpaca: style({
    user: (content) => [`### Instruction:\n${content}\n\n### Response:\n`],
    assistant: (content) => [content, EOS, '\n\n'],
    defaultSystem:
      'Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n',
  }),
  default: style({
    user: (content) => [`Human: ${content}`, EOS, '\nAssistant:'],
    assistant: (content) => [content, EOS, '\n'],
    system: (content) => [`System: ${content}`, EOS, '\n'],
  }),
  vicuna: style({
    user: (content) => [`USER: ${content} ASSISTANT:`],
    defaultSystem:
      "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user's questions.",
  }),
  llama2: style({
    user: (content) => [BOS, `[INST] ${content} [/INST]`],
    system: (content) => [`<<SYS>>\n${content}\n<</SYS>>\n\n`],
    systemInUser: true,
  }),
  llama3: style({
    ...tagged((role) => `<|start_header_id|>${role}<|end_header_id|>\n\n`, '<|eot_id|>'),
    prefix: [BOS],
  }),
  chatml: style(chatml),
  qwen: style({
    ...chatml,
    defaultSystem: 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.',
  }),
  mistral: style({
    user: (content) => [`[INST] ${content}[/INST]`],
    assistant: (content) => [` ${content}`, EOS],
    system: paragraph,
    prefix: [BOS],
    systemInUser: true,
  }),
  gemma: style({
    ...tagged((role) => `<start_of_turn>${role}\n`, '<end_of_turn>\n', 'model'),
    system: paragraph,
    prefix: [BOS],
    systemInUser: true,
  }),
  phi: style(tagged((role) => `<|${role}|>\n`, '<|end|>\n')),
  zephyr: style({
    user: (content) => [`<|user|>\n${content}`, EOS, '<|assistant|>\n'],
    system: (content) => [`<|system|>\n${content}`, EOS],
    defaultSystem: 'You are Zephyr, a helpful assistant.',
  }),
  deepseek: style({
    user: (content) => [`User: ${content}\n\nAssistant:`],
    system: paragraph,
    prefix: [BOS],
  }),
  empty: style({ user: (content) => [content], assistant: (content) => [content] }),
};

/** The system message that a style has by default. */
export function defaultSystem(name: ChatStyle): string {
  return styleOf(name).defaultSystem;
}

/** A chat as pairs [prompt, response] of text in this style; `tokens` are the text's bos and eos. */
export function chatTurns(
  messages: readonly ChatMessage[],
  name: ChatStyle,
  tokens: { bosToken?: string | undefined; eosToken?: string | undefined },
): [prompt: string, response: string][] {
  const spell = (slot: Slot) =>
    typeof slot === 'string'
      ? slot
      : (tokens[slot.token === 'bos' ? 'bosToken' : 'eosToken'] ?? '');
  const text = (slots: Slot[]) => slots.map(spell).join('');
  return slotsOf(messages, styleOf(name)).map(([asked, said]) => [text(asked), text(said)]);
}

/**
 * Ids and labels of a chat: responses are learnt, with `maskHistory` only the last one. Each slot
 * is encoded on its own.
 */
export function encodeChatTurns(
  messages: readonly ChatMessage[],
  name: ChatStyle,
  tokenizer: Tokenizer,
  { maskHistory = false }: { maskHistory?: boolean } = {},
): TokenRow {
  const encode = (slot: Slot): number[] => {
    if (typeof slot === 'string') {
      return slot === '' ? [] : tokenizer.encode(slot, { addSpecialTokens: false });
    }
    const token = tokenizer[slot.token === 'bos' ? 'bosToken' : 'eosToken'];
    return token === undefined ? [] : tokenizer.encode(token, { addSpecialTokens: false });
  };
  const turns = slotsOf(messages, styleOf(name));
  const row: TokenRow = { inputIds: [], labels: [] };
  for (const [i, [asked, said]] of turns.entries()) {
    const [prompt, response] = [asked.flatMap(encode), said.flatMap(encode)];
    const isLearnt = !maskHistory || i === turns.length - 1;
    row.inputIds.push(...prompt, ...response);
    row.labels.push(...prompt.map(() => -100), ...response.map((id) => (isLearnt ? id : -100)));
  }
  return row;
}

function slotsOf(messages: readonly ChatMessage[], own: Style): [Slot[], Slot[]][] {
  const given = messages[0]?.role === 'system' ? messages[0].content : undefined;
  const spoken = given === undefined ? messages : messages.slice(1);
  const system = given ?? own.defaultSystem;
  return Array.from({ length: Math.floor(spoken.length / 2) }, (_, i) => {
    const [{ content: asked }, { content: said }] = spoken.slice(2 * i, 2 * i + 2) as [
      ChatMessage,
      ChatMessage,
    ];
    const first = i === 0 && system !== '' ? own.system(system) : [];
    const prefix = i === 0 ? own.prefix : [];
    const prompt = own.systemInUser
      ? [...prefix, ...own.user(first.join('') + asked)]
      : [...prefix, ...first, ...own.user(asked)];
    return [prompt, own.assistant(said)];
  });
}

function styleOf(name: ChatStyle): Style {
  if (Object.hasOwn(STYLES, name)) return STYLES[name];
  throw new RangeError(
    `The chat's style must be one of ${Object.keys(STYLES).join(', ')}, got '${name}'`,
  );
}
