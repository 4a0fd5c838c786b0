// Kind 09_formats: prompts, chats, ids and labels as axolotl, LLaMA-Factory, transformers and
// OpenAI's prepare_data make them, exactly.
import { join } from 'node:path';
import {
  type ChatStyle,
  chatTurns,
  defaultSystem,
  encodeChatTurns,
} from '../../src/data/chat-styles.ts';
import { applyChatTemplate, type ChatMessage } from '../../src/data/chat-template.ts';
import { convertRows, type RowFormat } from '../../src/data/formats.ts';
import { bestPaths, type OasstMessage } from '../../src/data/oasst.ts';
import { type PromptCompletion, preparePairs } from '../../src/data/prepare-pairs.ts';
import { type AlpacaRow, alpacaPrompt, type PromptStyle } from '../../src/data/prompt-styles.ts';
import { tokenizeRow } from '../../src/data/tokenize-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { labelTurns, type TurnLabelOptions } from '../../src/data/turn-labels.ts';
import { type Check, type Measure, same } from './measure.ts';

interface AlpacaCase {
  style: PromptStyle;
  example: AlpacaRow;
  prompt: string;
  full?: string;
  input_ids?: number[];
  labels?: number[];
  labels_train_on_inputs?: number[];
}

interface TemplateCase {
  template: string;
  chat: number;
  add_generation_prompt: boolean;
  text?: string;
  error?: string;
}

interface LabelCase {
  chat: number;
  roles_to_train: string[];
  train_on_eos: NonNullable<TurnLabelOptions['trainOnEos']>;
  eot_tokens: string[];
  input_ids: number[];
  labels: number[];
}

interface FactoryCase {
  format: string;
  example: object;
  converted: { _prompt: ChatMessage[]; _response: ChatMessage[]; _system: string };
  templates: Record<
    string,
    {
      turns: [string, string][];
      default_system: string;
      input_ids?: number[];
      labels?: number[];
      labels_mask_history?: number[];
    }
  >;
}

interface Results {
  axolotl_alpaca?: AlpacaCase[];
  axolotl_chat_templates?: TemplateCase[];
  axolotl_chat_template_labels?: LabelCase[];
  llamafactory?: FactoryCase[];
  oasst?: { rows: OasstMessage[]; messages_best_path: ChatMessage[] };
  openai_prepare_data?: { input: PromptCompletion[]; outputs: Record<string, PromptCompletion[]> };
}

/** Compares every group of results that the case has. */
export const checkFormats: Check = async (folder, manifest) => {
  const tokenizer = Tokenizer.fromFolder(join(folder, manifest.tokenizer as string));
  const results = manifest.results as Results;
  const chats = manifest.chats as ChatMessage[][];
  const templates = manifest.jinja_templates as Record<string, string>;
  const { oasst, openai_prepare_data: prepared } = results;
  return [
    ...(results.axolotl_alpaca ?? []).flatMap((own) => alpaca(own, tokenizer)),
    ...(results.axolotl_chat_templates ?? []).map((own) => template(own, chats, templates)),
    ...(results.axolotl_chat_template_labels ?? []).flatMap((own) => {
      const row = labelTurns(chats[own.chat]!, tokenizer, {
        chatTemplate: templates.chatml!,
        rolesToTrain: own.roles_to_train,
        trainOnEos: own.train_on_eos,
        eotTokens: own.eot_tokens,
      });
      const name = `turns of chat ${own.chat}, ${own.roles_to_train}, ${own.train_on_eos}`;
      return [
        same(`ids of ${name}`, row.inputIds, own.input_ids),
        same(`labels of ${name}`, row.labels, own.labels),
      ];
    }),
    ...(results.llamafactory ?? []).flatMap((own, i) => factory(own, i, tokenizer)),
    ...(oasst ? [same('oasst', bestPaths(oasst.rows)[0], oasst.messages_best_path)] : []),
    ...(prepared
      ? Object.values(prepared.outputs).map((rows) =>
          same('prepare_data', preparePairs(prepared.input).rows, rows),
        )
      : []),
  ];
};

function alpaca({ style, example, ...expected }: AlpacaCase, tokenizer: Tokenizer): Measure[] {
  const name = `${style} ${JSON.stringify(example.instruction)}`;
  const prompt = alpacaPrompt(example, style);
  const measures = [same(`prompt of ${name}`, prompt, expected.prompt)];
  if (expected.full !== undefined) {
    measures.push(same(`text of ${name}`, prompt + (example.output ?? ''), expected.full));
  }
  if (expected.input_ids) {
    const row = { prompt, completion: example.output ?? '' };
    const got = tokenizeRow(row, tokenizer);
    measures.push(same(`ids of ${name}`, got.inputIds, expected.input_ids));
    measures.push(same(`labels of ${name}`, got.labels, expected.labels));
    const all = tokenizeRow(row, tokenizer, { completionOnlyLoss: false });
    measures.push(same(`all labels of ${name}`, all.labels, expected.labels_train_on_inputs));
  }
  return measures;
}

function template(
  own: TemplateCase,
  chats: ChatMessage[][],
  templates: Record<string, string>,
): Measure {
  const name = `template ${own.template} of chat ${own.chat}`;
  // The case's generation prompts stand where the last answer would start.
  const chat = chats[own.chat]!.slice(0, own.add_generation_prompt ? -1 : undefined);
  const render = () =>
    applyChatTemplate(templates[own.template]!, chat, {
      addGenerationPrompt: own.add_generation_prompt,
      bosToken: '<s>',
      eosToken: '</s>',
      variables: { unk_token: '<unk>', pad_token: '<pad>' },
    });
  if (own.text !== undefined) return same(name, render(), own.text);
  try {
    return same(`${name} must throw`, render(), undefined);
  } catch {
    return same(name, 'error', 'error');
  }
}

const FORMATS: Record<string, RowFormat> = { alpaca_sys_history: 'alpaca' };

function factory(own: FactoryCase, i: number, tokenizer: Tokenizer): Measure[] {
  const format = FORMATS[own.format] ?? (own.format as RowFormat);
  const [row] = convertRows([own.example], format).rows;
  const messages = row!.messages!;
  const { _prompt, _response, _system } = own.converted;
  const system = _system ? [{ role: 'system', content: _system }] : [];
  const name = `row ${i} of LLaMA-Factory`;
  const tokens = { bosToken: '<|endoftext|>', eosToken: '<|im_end|>' };
  return [
    same(name, messages, [...system, ..._prompt, ..._response]),
    ...Object.entries(own.templates).flatMap(([style, expected]) => {
      const key = style as ChatStyle;
      const measures = [
        same(`${name} as ${style}`, chatTurns(messages, key, tokens), expected.turns),
        same(`system of ${style}`, defaultSystem(key), expected.default_system),
      ];
      if (!expected.input_ids) return measures;
      const encoder = withTokens(tokenizer, tokens);
      const got = encodeChatTurns(messages, key, encoder);
      const last = encodeChatTurns(messages, key, encoder, { maskHistory: true });
      return [
        ...measures,
        same(`ids of ${name} as ${style}`, got.inputIds, expected.input_ids),
        same(`labels of ${name} as ${style}`, got.labels, expected.labels),
        same(`last labels of ${name} as ${style}`, last.labels, expected.labels_mask_history),
      ];
    }),
  ];
}

/** The tokenizer with other names for its start and end. */
function withTokens(tokenizer: Tokenizer, tokens: { bosToken: string; eosToken: string }) {
  return Object.create(tokenizer, {
    bosToken: { value: tokens.bosToken },
    eosToken: { value: tokens.eosToken },
  }) as Tokenizer;
}
