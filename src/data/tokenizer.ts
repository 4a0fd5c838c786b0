// Tokenizer: text to ids and back, from tokenizer.json. The algorithms are those of @huggingface/tokenizers;
// here are added what it lacks or does otherwise than the Python library: offsets, Unicode's white
// space, undecodable bytes, the empty text.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as hf from '@huggingface/tokenizers';
import { applyChatTemplate, type ChatMessage, type ChatTemplateOptions } from './chat-template.ts';
import { type Offset, tokenOffsets } from './offsets.ts';
import type { TokenizerJson } from './tokenizer-json.ts';

/** The fields of tokenizer_config.json that are used; others are kept when it is saved. */
export interface TokenizerConfig {
  bos_token?: string | { content: string } | null;
  eos_token?: string | { content: string } | null;
  pad_token?: string | { content: string } | null;
  unk_token?: string | { content: string } | null;
  chat_template?: string | { name: string; template: string }[] | null;
  [field: string]: unknown;
}

/** A text as ids, the tokens' own spelling, and their places in the text in code points. */
export interface Encoding {
  ids: number[];
  tokens: string[];
  offsets: Offset[];
}

/** How GPT-2 cuts text into words, with Unicode's white space rather than JavaScript's. */
export const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Text to ids and back. */
export class Tokenizer {
  readonly json: TokenizerJson;
  readonly config: TokenizerConfig;
  private readonly inner: hf.Tokenizer;
  /** Special tokens that encoding puts before and after a text. */
  private readonly around: { before: string[]; after: string[] };

  /** `json` is the content of tokenizer.json, `config` that of tokenizer_config.json. */
  constructor(json: TokenizerJson, config: TokenizerConfig = {}) {
    this.json = json;
    this.config = config;
    const missing = ['model', 'added_tokens'].find((field) => !json?.[field]);
    if (missing) throw new Error(`tokenizer.json must have the field ${missing}, got none`);
    const empty = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };
    // Fields of tokenizer_config.json would change ids that tokenizer.json alone decides in Python.
    this.inner = new hf.Tokenizer({ ...empty, ...json }, {});
    correctWhiteSpace(this.inner.pre_tokenizer as InnerPart | null);
    correctByteFallback(this.inner.decoder as InnerPart | null);
    const processed = this.inner.post_processor?.([''], null, true).tokens ?? [''];
    const at = processed.indexOf('');
    this.around = { before: processed.slice(0, at), after: processed.slice(at + 1) };
  }

  /** Reads tokenizer.json, and tokenizer_config.json and chat_template.jinja if they are there. */
  static fromFolder(folder: string): Tokenizer {
    const read = (name: string) =>
      existsSync(join(folder, name)) ? readFileSync(join(folder, name), 'utf8') : undefined;
    const json = read('tokenizer.json');
    if (json === undefined) throw new Error(`No tokenizer.json in ${folder}`);
    const config = JSON.parse(read('tokenizer_config.json') ?? '{}') as TokenizerConfig;
    const template = read('chat_template.jinja');
    if (template !== undefined) config.chat_template = template;
    return new Tokenizer(JSON.parse(json), config);
  }

  /** Ids of a text; `addSpecialTokens` (default true) adds what the tokenizer puts around texts. */
  encode(text: string, { addSpecialTokens = true } = {}): number[] {
    return this.spell(text, addSpecialTokens).map((token) => this.known(token));
  }

  /** Ids, tokens and offsets of a text; tokens put around it stand at [0, 0]. */
  encodeWithOffsets(text: string, { addSpecialTokens = true } = {}): Encoding {
    const spelled = this.spell(text, false);
    const offsets = tokenOffsets(this.json, text, spelled);
    const tokens = this.withStripped(text, spelled, offsets);
    const { before, after } = addSpecialTokens ? this.around : { before: [], after: [] };
    const nowhere = (list: string[]) => list.map((): Offset => [0, 0]);
    return {
      ids: [...before, ...spelled, ...after].map((token) => this.known(token)),
      tokens: [...before, ...tokens, ...after],
      offsets: [...nowhere(before), ...offsets, ...nowhere(after)],
    };
  }

  /** The text of ids; `skipSpecialTokens` (default false) leaves special tokens out. */
  decode(ids: readonly number[], { skipSpecialTokens = false } = {}): string {
    if (ids.length === 0) return '';
    return this.inner.decode([...ids], {
      skip_special_tokens: skipSpecialTokens,
      clean_up_tokenization_spaces: false,
    });
  }

  /** The id of a token's own spelling, or undefined. */
  tokenToId(token: string): number | undefined {
    return this.inner.token_to_id(token);
  }

  /** The spelling of an id, or undefined. */
  idToToken(id: number): string | undefined {
    return this.inner.id_to_token(id);
  }

  /** Number of ids, added tokens included. */
  get vocabSize(): number {
    return this.inner.get_vocab(true).size;
  }

  /** Beginning of text, or undefined if the tokenizer has none; so for the other three. */
  get bosToken(): string | undefined {
    return content(this.config.bos_token);
  }

  get eosToken(): string | undefined {
    return content(this.config.eos_token);
  }

  get padToken(): string | undefined {
    return content(this.config.pad_token);
  }

  get bosTokenId(): number | undefined {
    return this.idOf(this.bosToken);
  }

  get eosTokenId(): number | undefined {
    return this.idOf(this.eosToken);
  }

  get padTokenId(): number | undefined {
    return this.idOf(this.padToken);
  }

  /** The Jinja template of chats: of several the one named 'default'. Undefined if there is none. */
  get chatTemplate(): string | undefined {
    const template = this.config.chat_template ?? undefined;
    if (!Array.isArray(template)) return template;
    return template.find(({ name }) => name === 'default')?.template;
  }

  /** A chat as the model was trained to see it, by its template; throws if it has none. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatTemplateOptions = {}): string {
    const { chatTemplate } = this;
    if (chatTemplate === undefined) throw new Error('The tokenizer has no chat template');
    const tokens = { bosToken: this.bosToken, eosToken: this.eosToken };
    return applyChatTemplate(chatTemplate, messages, { ...tokens, ...options });
  }

  /** Writes tokenizer.json, tokenizer_config.json and chat_template.jinja, as transformers reads them. */
  savePretrained(folder: string): void {
    mkdirSync(folder, { recursive: true });
    const { chat_template: _, tokenizer_class: name, ...config } = this.config;
    // transformers 5 has another name for it, which 4 does not know; both know this one.
    const isGeneric = name === undefined || name === 'TokenizersBackend';
    const named = { tokenizer_class: isGeneric ? 'PreTrainedTokenizerFast' : name, ...config };
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(this.json, null, 2));
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(named, null, 2));
    if (this.chatTemplate !== undefined) {
      writeFileSync(join(folder, 'chat_template.jinja'), this.chatTemplate);
    }
  }

  private spell(text: string, addSpecialTokens: boolean): string[] {
    const tokens = text === '' ? [] : this.inBytes(this.inner.tokenize(text));
    const { before, after } = this.around;
    return addSpecialTokens ? [...before, ...tokens, ...after] : tokens;
  }

  /** Unigram's unknown tokens, which carry their text, as tokens of bytes where the model has them. */
  private inBytes(tokens: string[]): string[] {
    const { type, byte_fallback: fallback } = this.json.model;
    if (type !== 'Unigram' || !fallback) return tokens;
    return tokens.flatMap((token) => {
      if (this.tokenToId(token) !== undefined) return [token];
      const bytes = Array.from(new TextEncoder().encode(token), byteToken);
      return bytes.every((byte) => this.tokenToId(byte) !== undefined) ? bytes : [token];
    });
  }

  /** Added tokens that swallow the spaces beside them are given as the text that they took. */
  private withStripped(text: string, tokens: string[], offsets: Offset[]): string[] {
    const greedy = this.json.added_tokens.filter(({ lstrip, rstrip }) => lstrip || rstrip);
    if (greedy.length === 0) return tokens;
    const chars = Array.from(text);
    const contents = new Set(greedy.map((token) => token.content));
    return tokens.map((token, i) =>
      contents.has(token) ? chars.slice(...offsets[i]!).join('') : token,
    );
  }

  private known(token: string): number {
    const { unk_id: unknownId, unk_token: unknown } = this.json.model;
    const id = this.tokenToId(token) ?? unknownId ?? this.tokenToId(unknown as string);
    if (id === undefined) throw new Error(`Token '${token}' is not in the vocabulary`);
    return id as number;
  }

  private idOf(token: string | undefined): number | undefined {
    return token === undefined ? undefined : this.tokenToId(token);
  }
}

const byteToken = (byte: number) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

function content(token: string | { content: string } | null | undefined): string | undefined {
  return typeof token === 'object' ? token?.content : token;
}

/** What is reached into of the algorithms' own objects. */
interface InnerPart {
  config?: { type?: string };
  tokenizers?: InnerPart[];
  decoders?: InnerPart[];
  pattern?: RegExp;
  decode_chain?: (tokens: string[]) => string[];
}

function correctWhiteSpace(part: InnerPart | null): void {
  if (part?.config?.type === 'ByteLevel') part.pattern = WORDS;
  part?.tokenizers?.forEach(correctWhiteSpace);
}

function correctByteFallback(part: InnerPart | null): void {
  if (part?.config?.type === 'ByteFallback') part.decode_chain = decodeByteFallback;
  part?.decoders?.forEach(correctByteFallback);
}

/** Joins runs of tokens like `<0xE2>` to text; a run that is not UTF-8 gives U+FFFD for each byte. */
function decodeByteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let run: number[] = [];
  const flush = () => {
    if (run.length > 0) out.push(strictUtf8(run));
    run = [];
  };
  for (const token of tokens) {
    const hex = /^<0x([0-9a-f]{2})>$/i.exec(token);
    if (hex) run.push(Number.parseInt(hex[1]!, 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
}

function strictUtf8(bytes: number[]): string {
  try {
    const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
    return decoder.decode(Uint8Array.from(bytes));
  } catch {
    return '\ufffd'.repeat(bytes.length);
  }
}
