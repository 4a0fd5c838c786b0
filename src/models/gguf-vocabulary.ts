// A tokenizer as GGUF metadata: the reverse of data/gguf-tokenizer.ts. Byte-level BPE becomes 'gpt2',
// SentencePiece's BPE 'llama' (a piece's score is minus the rank of its merge), Unigram 't5'.
// Left out: WordPiece, words cut in ways that llama.cpp has no name for, and Metaspace's exception for
// texts that begin with a space.
import type { Tokenizer } from '../data/tokenizer.ts';
import { flattenPart, type TokenizerPart } from '../data/tokenizer-json.ts';
import type { GgufEntry } from './gguf-write.ts';

/** Kinds of tokens. */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const BYTE = 6;

type Entries = Map<string, GgufEntry>;

/** What a tokenizer's model says, by id. */
interface Pieces {
  kind: 'gpt2' | 'llama' | 't5';
  pieces: Map<number, string>;
  merges: string[];
  scores: Map<string, number>;
}

/**
 * Entries `tokenizer.*` with exactly `vocabSize` tokens; ids that the tokenizer lacks are unused ones.
 * Throws if it has more, or is none of the kinds above.
 */
export function vocabularyEntries(tokenizer: Tokenizer, vocabSize: number): Entries {
  const { kind, pieces, merges, scores } = piecesOf(tokenizer);
  for (const { id, content } of tokenizer.json.added_tokens) pieces.set(id, content);
  const highest = Math.max(-1, ...pieces.keys());
  if (highest >= vocabSize) {
    throw new RangeError(`A tokenizer's ids must be below vocab_size ${vocabSize}, got ${highest}`);
  }
  const ids = Array.from({ length: vocabSize }, (_, id) => id);
  const tokens = ids.map((id) => pieces.get(id) ?? `[PAD${id}]`);
  const entries: Entries = new Map<string, GgufEntry>([
    ['tokenizer.ggml.model', { type: 'string', value: kind }],
    ['tokenizer.ggml.tokens', { type: 'string[]', value: tokens }],
    ['tokenizer.ggml.token_type', { type: 'int32[]', value: tokenTypes(tokenizer, pieces, ids) }],
  ]);
  if (kind === 'gpt2') {
    entries.set('tokenizer.ggml.pre', { type: 'string', value: wordsName(tokenizer) });
    entries.set('tokenizer.ggml.merges', { type: 'string[]', value: merges });
  } else {
    const value = tokens.map((token) => scores.get(token) ?? 0);
    entries.set('tokenizer.ggml.pre', { type: 'string', value: 'default' });
    entries.set('tokenizer.ggml.scores', { type: 'float32[]', value });
    for (const entry of spaceEntries(tokenizer)) entries.set(...entry);
  }
  for (const entry of specialEntries(tokenizer)) entries.set(...entry);
  return entries;
}

function piecesOf({ json }: Tokenizer): Pieces {
  const { model } = json;
  if (model.type === 'Unigram') {
    const vocab = model.vocab as [string, number][];
    const pieces = new Map(vocab.map(([piece], id) => [id, piece]));
    return { kind: 't5', pieces, merges: [], scores: new Map(vocab) };
  }
  if (model.type !== 'BPE') {
    throw new RangeError(
      `The model of a tokenizer for GGUF must be BPE or Unigram, got ${model.type}`,
    );
  }
  const vocab = Object.entries(model.vocab as Record<string, number>);
  const pieces = new Map(vocab.map(([piece, id]) => [id, piece]));
  const pairs = ((model.merges ?? []) as (string | [string, string])[]).map((merge) =>
    typeof merge === 'string' ? merge : merge.join(' '),
  );
  const isByteLevel = flattenPart(json.decoder).some(({ type }) => type === 'ByteLevel');
  if (isByteLevel) return { kind: 'gpt2', pieces, merges: pairs, scores: new Map() };
  const scores = new Map<string, number>();
  for (const [rank, pair] of pairs.entries()) {
    const piece = pair.replace(' ', '');
    if (!scores.has(piece)) scores.set(piece, -rank);
  }
  for (const [piece] of vocab) {
    if (!scores.has(piece) && !/^<.+>$/.test(piece)) scores.set(piece, -pairs.length);
  }
  return { kind: 'llama', pieces, merges: pairs, scores };
}

function tokenTypes(tokenizer: Tokenizer, pieces: Map<number, string>, ids: number[]): number[] {
  const added = new Map(tokenizer.json.added_tokens.map((token) => [token.id, token]));
  const { unk_token: unknown, unk_id: unknownId } = tokenizer.json.model;
  return ids.map((id) => {
    const piece = pieces.get(id);
    if (piece === undefined) return UNUSED;
    if (piece === unknown || id === unknownId) return UNKNOWN;
    const token = added.get(id);
    if (token) return token.special ? CONTROL : USER_DEFINED;
    return /^<0x[0-9A-F]{2}>$/.test(piece) ? BYTE : NORMAL;
  });
}

/** llama.cpp's name for how a byte-level tokenizer cuts words. */
function wordsName({ json }: Tokenizer): string {
  const parts = flattenPart(json.pre_tokenizer);
  const cuts = parts.filter((part) => part.type !== 'ByteLevel' || part.use_regex !== false);
  const [first, second] = cuts;
  const regex = (first?.pattern as { Regex?: string } | undefined)?.Regex ?? '';
  const isGpt2 = (part: TokenizerPart | undefined) =>
    part?.type === 'ByteLevel' || /^'s\|'t\|/.test(patternOf(part));
  if (cuts.length === 1 && isGpt2(first)) return 'gpt-2';
  const isDigits = first?.type === 'Digits' ? first.individual_digits === true : regex === '\\p{N}';
  if (cuts.length === 2 && isDigits && isGpt2(second)) return 'smollm';
  if (cuts.length === 1 && regex.includes('(?i:')) {
    if (regex.includes('\\p{N}{1,3}')) return 'llama-bpe';
    if (regex.includes('|\\p{N}|')) return 'qwen2';
  }
  const names = cuts.map(({ type }) => type).join(', ') || 'nothing';
  throw new RangeError(
    `Words must be cut as gpt-2, smollm, llama-bpe or qwen2 do to be written as GGUF, got ${names}`,
  );
}

const patternOf = (part: TokenizerPart | undefined) =>
  (part?.pattern as { Regex?: string } | undefined)?.Regex ?? '';

/** How SentencePiece's spaces are made. */
function spaceEntries({ json }: Tokenizer): [string, GgufEntry][] {
  const parts = [...flattenPart(json.normalizer), ...flattenPart(json.pre_tokenizer)];
  const hasPrefix = parts.some(
    ({ type, prepend_scheme: scheme, add_prefix_space: add }) =>
      type === 'Prepend' || (type === 'Metaspace' && scheme !== 'never' && add !== false),
  );
  const charsmap = parts.find(({ type }) => type === 'Precompiled')?.precompiled_charsmap;
  const prefix = 'tokenizer.ggml.';
  const entries: [string, GgufEntry][] = [
    [`${prefix}add_space_prefix`, { type: 'bool', value: hasPrefix }],
    [
      `${prefix}remove_extra_whitespaces`,
      { type: 'bool', value: parts.some(({ type }) => type === 'Strip') },
    ],
  ];
  if (typeof charsmap === 'string') {
    const value = [...Buffer.from(charsmap, 'base64')];
    entries.push([`${prefix}precompiled_charsmap`, { type: 'uint8[]', value }]);
  }
  return entries;
}

/** Ids of special tokens, which of them stand around each text, and the chat template. */
function specialEntries(tokenizer: Tokenizer): [string, GgufEntry][] {
  const { unk_token: unknown, unk_id: unknownId } = tokenizer.json.model;
  const unk = typeof unknown === 'string' ? tokenizer.tokenToId(unknown) : unknownId;
  const { before, after } = surroundings(tokenizer);
  const bos = tokenizer.bosTokenId ?? before[0];
  const eos = tokenizer.eosTokenId ?? after[0];
  if (before.some((id) => id !== bos) || after.some((id) => id !== eos)) {
    throw new RangeError(
      `Texts must stand between bos and eos, or nothing, to be written as GGUF, got ids ${before} ... ${after}`,
    );
  }
  const prefix = 'tokenizer.ggml.';
  const ids = { bos, eos, padding: tokenizer.padTokenId, unknown: unk };
  const entries = Object.entries(ids).flatMap(([name, id]): [string, GgufEntry][] =>
    typeof id === 'number' ? [[`${prefix}${name}_token_id`, { type: 'uint32', value: id }]] : [],
  );
  entries.push([`${prefix}add_bos_token`, { type: 'bool', value: before.length > 0 }]);
  entries.push([`${prefix}add_eos_token`, { type: 'bool', value: after.length > 0 }]);
  if (tokenizer.chatTemplate !== undefined) {
    const value = tokenizer.chatTemplate;
    entries.push(['tokenizer.chat_template', { type: 'string', value }]);
  }
  return entries;
}

/** Ids that stand before and after each text. */
function surroundings(tokenizer: Tokenizer): { before: number[]; after: number[] } {
  const whole = tokenizer.encode('a');
  const inner = tokenizer.encode('a', { addSpecialTokens: false });
  const size = whole.length - inner.length;
  const isAt = (k: number) => inner.every((id, i) => whole[k + i] === id);
  const begin = Array.from({ length: size + 1 }, (_, k) => k).find(isAt) ?? size;
  return { before: whole.slice(0, begin), after: whole.slice(begin + inner.length) };
}
