// The tokenizer in a GGUF file's metadata, as a tokenizer.json: byte-level BPE ('gpt2'), SentencePiece's
// BPE by scores ('llama') and Unigram ('t5'). How words are cut follows llama.cpp's names for it.
// Left out: WordPiece and RWKV, and words cut by names that are not listed here.
import { Tokenizer } from './tokenizer.ts';
import type { TokenizerJson, TokenizerPart } from './tokenizer-json.ts';

/** Metadata under llama.cpp's keys. */
export type GgufMetadata = ReadonlyMap<string, unknown>;

/** Kinds of tokens in `tokenizer.ggml.token_type`. */
const CONTROL = 3;
const USER_DEFINED = 4;

const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
const LLAMA3 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const PUNCTUATION = '[\\p{P}\\$\\+<=>\\^~\\|]+';

/** The regular expressions that cut words one after another, by `tokenizer.ggml.pre`. */
const WORDS: Record<string, string[]> = {
  'gpt-2': [GPT2],
  gpt2: [GPT2],
  default: [PUNCTUATION, GPT2, '\\p{N}+', '[0-9][0-9][0-9]'],
  smollm: ['\\p{N}', GPT2],
  starcoder: ['\\p{N}', GPT2],
  'llama-bpe': [LLAMA3],
  llama3: [LLAMA3],
  'llama-v3': [LLAMA3],
  qwen2: [LLAMA3.replace('{1,3}', '')],
};

/** Builds the tokenizer; throws if its kind or its way to cut words is none of those here. */
export function tokenizerFromGguf(metadata: GgufMetadata): Tokenizer {
  const kind = metadata.get('tokenizer.ggml.model');
  const tokens = metadata.get('tokenizer.ggml.tokens') as string[] | undefined;
  if (!Array.isArray(tokens)) throw new Error('The GGUF metadata lacks tokenizer.ggml.tokens');
  const make = { gpt2: byteLevel, llama: scoredBpe, t5: unigram }[String(kind)];
  if (!make) {
    throw new RangeError(`tokenizer.ggml.model must be 'gpt2', 'llama' or 't5', got '${kind}'`);
  }
  const json = {
    added_tokens: addedTokens(metadata, tokens),
    post_processor: surroundings(metadata, tokens, kind === 'gpt2' ? 0 : 1, kind === 't5'),
    ...make(metadata, tokens),
  } as TokenizerJson;
  const token = (key: string) => tokens[metadata.get(`tokenizer.ggml.${key}_token_id`) as number];
  return new Tokenizer(json, {
    bos_token: token('bos') ?? null,
    eos_token: token('eos') ?? null,
    pad_token: token('padding') ?? null,
    unk_token: token('unknown') ?? null,
    chat_template: (metadata.get('tokenizer.chat_template') as string | undefined) ?? null,
  });
}

function byteLevel(metadata: GgufMetadata, tokens: string[]): Partial<TokenizerJson> {
  const name = (metadata.get('tokenizer.ggml.pre') as string | undefined) ?? 'default';
  const patterns = Object.hasOwn(WORDS, name) ? WORDS[name] : undefined;
  if (!patterns) {
    const known = Object.keys(WORDS).join(', ');
    throw new RangeError(`tokenizer.ggml.pre must be one of ${known}, got '${name}'`);
  }
  const splits = patterns.map((Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }));
  const bytes = {
    type: 'ByteLevel',
    add_prefix_space: false,
    trim_offsets: false,
    use_regex: false,
  };
  return {
    normalizer: name === 'qwen2' ? { type: 'NFC' } : null,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, bytes] },
    decoder: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: false },
    model: bpeModel(tokens, (metadata.get('tokenizer.ggml.merges') as string[]) ?? [], {
      ignore_merges: patterns[0] === LLAMA3,
    }),
  };
}

/** SentencePiece's BPE: of two neighbours whose join is a piece, those with the best score join first. */
function scoredBpe(metadata: GgufMetadata, tokens: string[]): Partial<TokenizerJson> {
  const scores = (metadata.get('tokenizer.ggml.scores') as number[]) ?? tokens.map((_, i) => -i);
  const unknown = tokens[(metadata.get('tokenizer.ggml.unknown_token_id') as number) ?? 0];
  return {
    ...markedSpaces(metadata),
    model: bpeModel(tokens, mergesByScore(tokens, scores), {
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
    }),
  };
}

/** SentencePiece's Unigram: of all splits into pieces the one with the highest sum of scores. */
function unigram(metadata: GgufMetadata, tokens: string[]): Partial<TokenizerJson> {
  const scores = (metadata.get('tokenizer.ggml.scores') as number[]) ?? [];
  return {
    ...markedSpaces(metadata),
    model: {
      type: 'Unigram',
      unk_id: (metadata.get('tokenizer.ggml.unknown_token_id') as number) ?? 0,
      vocab: tokens.map((token, i) => [token, scores[i] ?? 0]),
      byte_fallback: tokens.includes('<0x00>'),
    },
  };
}

/** Spaces as SentencePiece writes them: '▁' in their place and, unless told not to, one in front. */
function markedSpaces(metadata: GgufMetadata): Partial<TokenizerJson> {
  const isSet = (key: string) => metadata.get(`tokenizer.ggml.${key}`) === true;
  const charsmap = metadata.get('tokenizer.ggml.precompiled_charsmap') as number[] | undefined;
  const normalizers: TokenizerPart[] = [];
  const decoders: TokenizerPart[] = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ];
  if (charsmap) {
    const precompiled_charsmap = Buffer.from(charsmap).toString('base64');
    normalizers.push({ type: 'Precompiled', precompiled_charsmap });
  }
  if (isSet('remove_extra_whitespaces')) {
    normalizers.push({ type: 'Strip', strip_left: true, strip_right: true });
    normalizers.push({ type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' });
  }
  if (metadata.get('tokenizer.ggml.add_space_prefix') !== false) {
    normalizers.push({ type: 'Prepend', prepend: '▁' });
    decoders.push({ type: 'Strip', content: ' ', start: 1, stop: 0 });
  }
  normalizers.push({ type: 'Replace', pattern: { String: ' ' }, content: '▁' });
  return {
    normalizer: { type: 'Sequence', normalizers },
    pre_tokenizer: null,
    decoder: { type: 'Sequence', decoders },
  };
}

function bpeModel(tokens: string[], merges: string[] | string[][], options: object): TokenizerPart {
  return {
    type: 'BPE',
    dropout: null,
    unk_token: null,
    continuing_subword_prefix: null,
    end_of_word_suffix: null,
    fuse_unk: false,
    byte_fallback: false,
    vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
    merges,
    ...options,
  };
}

/** Every way to join two pieces to a third, best score first; equals in the order of their ids. */
function mergesByScore(tokens: string[], scores: number[]): string[][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const order = [...tokens.keys()].sort((a, b) => scores[b]! - scores[a]! || a - b);
  return order.flatMap((id) => {
    const chars = Array.from(tokens[id]!);
    const splits = chars.slice(1).map((_, i) => [chars.slice(0, i + 1), chars.slice(i + 1)]);
    const pairs = splits.map((split) => split.map((part) => part.join('')));
    return pairs.filter((pair) => pair.every((part) => ids.has(part)));
  });
}

function addedTokens(metadata: GgufMetadata, tokens: string[]): TokenizerJson['added_tokens'] {
  const types = (metadata.get('tokenizer.ggml.token_type') as number[]) ?? [];
  return tokens.flatMap((content, id) => {
    const type = types[id];
    if (type !== CONTROL && type !== USER_DEFINED) return [];
    const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    return [{ id, content, ...flags, special: type === CONTROL }];
  });
}

/** Beginning and end of text around each text, where the metadata or the kind asks for them. */
function surroundings(
  metadata: GgufMetadata,
  tokens: string[],
  startsByDefault: number,
  endsByDefault: boolean,
): TokenizerPart | null {
  const wanted = (which: string, byDefault: boolean) => {
    const add = (metadata.get(`tokenizer.ggml.add_${which}_token`) as boolean) ?? byDefault;
    const id = metadata.get(`tokenizer.ggml.${which}_token_id`) as number | undefined;
    return add && id !== undefined && tokens[id] !== undefined ? [{ id, token: tokens[id] }] : [];
  };
  const before = wanted('bos', startsByDefault === 1 && !endsByDefault);
  const after = wanted('eos', endsByDefault);
  if (before.length + after.length === 0) return null;
  const special = ({ token }: { token: string }) => ({ SpecialToken: { id: token, type_id: 0 } });
  const single = [
    ...before.map(special),
    { Sequence: { id: 'A', type_id: 0 } },
    ...after.map(special),
  ];
  const named = [...before, ...after].map(({ id, token }) => [
    token,
    { id: token, ids: [id], tokens: [token] },
  ]);
  return {
    type: 'TemplateProcessing',
    single,
    pair: [],
    special_tokens: Object.fromEntries(named),
  };
}
