// Labels by the turns of a chat, as axolotl's chat_template strategy makes them: the text of trained
// roles, and the end-of-turn tokens of some turns or all. What the template writes around is masked.
import { applyChatTemplate, type ChatMessage } from './chat-template.ts';
import type { TokenRow } from './packing.ts';
import type { Tokenizer } from './tokenizer.ts';

/** What is learnt. */
export interface TurnLabelOptions {
  /** Default: the tokenizer's. */
  chatTemplate?: string;
  /** Roles whose text is learnt. Default ['assistant']. */
  rolesToTrain?: readonly string[];
  /** Which end-of-turn tokens are learnt: those of learnt turns, the last, all, none. Default 'turn'. */
  trainOnEos?: 'turn' | 'last' | 'all' | 'none';
  /** Tokens that end a turn. Default: the tokenizer's end token. */
  eotTokens?: readonly string[];
}

const MARK = '\ue0a2';

type Render = (messages: readonly ChatMessage[]) => string;

/** Ids of a chat and labels, -100 where nothing is learnt. Throws if the template changes a text. */
export function labelTurns(
  messages: readonly ChatMessage[],
  tokenizer: Tokenizer,
  options: TurnLabelOptions = {},
): TokenRow {
  const { rolesToTrain = ['assistant'], trainOnEos = 'turn' } = options;
  const { bosToken, eosToken } = tokenizer;
  const template = options.chatTemplate ?? tokenizer.chatTemplate;
  if (template === undefined) throw new Error('The tokenizer has no chat template');
  const render: Render = (chat) => applyChatTemplate(template, chat, { bosToken, eosToken });
  const { ids, offsets } = tokenizer.encodeWithOffsets(render(messages), {
    addSpecialTokens: false,
  });
  const ends = new Set(
    (options.eotTokens ?? [eosToken ?? '']).flatMap((token) =>
      token === '' ? [] : [tokenizer.encode(token, { addSpecialTokens: false }).at(-1)!],
    ),
  );
  const turns = findTurns(messages, render);
  const lastEnd = ids.findLastIndex((id) => ends.has(id));
  const labels = ids.map((id, i) => {
    const [start, end] = offsets[i]!;
    const own = turns.find((turn) => start < turn.end && end > turn.start);
    if (own) return rolesToTrain.includes(own.role) ? id : -100;
    if (!ends.has(id)) return -100;
    const before = turns.findLast((turn) => turn.end <= start);
    const isDue = {
      turn: before !== undefined && rolesToTrain.includes(before.role),
      last: i === lastEnd,
      all: before !== undefined,
      none: false,
    }[trainOnEos];
    return isDue ? id : -100;
  });
  return { inputIds: ids, labels };
}

/** Where each message's text stands, in code points: found by a chat whose texts are marks. */
function findTurns(messages: readonly ChatMessage[], render: Render) {
  const text = render(messages);
  const around = render(messages.map((message) => ({ ...message, content: MARK }))).split(MARK);
  if (around.length !== messages.length + 1) {
    throw new Error('The chat template must write the text of each message once');
  }
  let at = 0;
  return messages.map(({ role, content }, i) => {
    at += around[i]!.length;
    const [start, wanted] = [at, text.startsWith(content, at) ? content : content.trim()];
    if (!text.startsWith(wanted, at)) {
      throw new Error(`The chat template changes the text of message ${i}`);
    }
    at += wanted.length;
    const count = (end: number) => Array.from(text.slice(0, end)).length;
    return { role, start: count(start), end: count(at) };
  });
}
