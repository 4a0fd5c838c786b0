// Training byte-level BPE: the most frequent pair of neighbours becomes a token, again and again
// (Sennrich et al. 2016). Words are cut as GPT-2 does; the vocabulary is that of tokenizers' BpeTrainer:
// special tokens, the 256 bytes, merges. Ties go to the pair with the lower ids.
import { BYTE_TO_CHAR, toByteChars } from './byte-level.ts';
import { Tokenizer, WORDS } from './tokenizer.ts';

/** How to train; defaults in brackets. */
export interface BpeTrainerOptions {
  /** Size of the vocabulary, special tokens and bytes included. */
  vocabSize: number;
  /** Tokens that get the first ids and are never split. [none] */
  specialTokens?: string[];
  /** How often a pair must occur to be merged. [2] */
  minFrequency?: number;
  /** Which of the special tokens ends a text, begins it, pads. [none] */
  eosToken?: string;
  bosToken?: string;
  padToken?: string;
}

/** A word as ids, and how often it occurs. */
interface Word {
  ids: number[];
  count: number;
}

/** Trains a tokenizer on texts; it has fewer than `vocabSize` tokens if the pairs run out. */
export function trainBpe(texts: Iterable<string>, options: BpeTrainerOptions): Tokenizer {
  const { vocabSize, specialTokens = [], minFrequency = 2 } = options;
  const bytes = [...BYTE_TO_CHAR].sort();
  const tokens = [...specialTokens, ...bytes];
  if (!Number.isInteger(vocabSize) || vocabSize < tokens.length) {
    throw new RangeError(
      `vocabSize must hold ${specialTokens.length} special tokens and 256 bytes, got ${vocabSize}`,
    );
  }
  const ids = new Map(bytes.map((char, i) => [char, specialTokens.length + i]));
  const pairs = new PairCounts(countWords(texts, ids));
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const best = pairs.best();
    if (!best || best.count < minFrequency) break;
    const merged: [string, string] = [tokens[best.left]!, tokens[best.right]!];
    merges.push(merged);
    // Two pairs can spell the same token, which keeps its first id.
    const known = ids.get(merged.join(''));
    const id = known ?? tokens.push(merged.join('')) - 1;
    ids.set(merged.join(''), id);
    pairs.merge(best.left, best.right, id);
  }
  return build(tokens, merges, options);
}

function countWords(texts: Iterable<string>, ids: Map<string, number>): Word[] {
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of text.match(WORDS) ?? []) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].map(([word, count]) => ({
    ids: toByteChars(word).map((char) => ids.get(char)!),
    count,
  }));
}

/** How often each pair of neighbours occurs, kept true while words are merged. */
class PairCounts {
  private readonly words: Word[];
  private readonly counts = new Map<number, number>();
  private readonly places = new Map<number, Set<Word>>();

  constructor(words: Word[]) {
    this.words = words;
    for (const word of this.words) this.add(word, 1);
  }

  /** The pair that occurs most, of equals the one with the lowest ids. */
  best(): { left: number; right: number; count: number } | undefined {
    let best = -1;
    let most = 0;
    for (const [pair, count] of this.counts) {
      if (count > most || (count === most && pair < best)) {
        best = pair;
        most = count;
      }
    }
    return most > 0
      ? { left: Math.floor(best / RADIX), right: best % RADIX, count: most }
      : undefined;
  }

  /** Writes `id` for `left` followed by `right` in all words. */
  merge(left: number, right: number, id: number): void {
    for (const word of [...(this.places.get(left * RADIX + right) ?? [])]) {
      this.add(word, -1);
      const merged: number[] = [];
      for (let i = 0; i < word.ids.length; i++) {
        const isPair = word.ids[i] === left && word.ids[i + 1] === right;
        merged.push(isPair ? id : word.ids[i]!);
        if (isPair) i++;
      }
      word.ids = merged;
      this.add(word, 1);
    }
  }

  private add(word: Word, sign: 1 | -1): void {
    for (let i = 1; i < word.ids.length; i++) {
      const pair = word.ids[i - 1]! * RADIX + word.ids[i]!;
      const count = (this.counts.get(pair) ?? 0) + sign * word.count;
      if (count > 0) this.counts.set(pair, count);
      else this.counts.delete(pair);
      const places = this.places.get(pair) ?? new Set();
      if (sign > 0) places.add(word);
      else places.delete(word);
      this.places.set(pair, places);
    }
  }
}

/** More than any id: a pair is left * RADIX + right. */
const RADIX = 2 ** 24;

function build(
  tokens: string[],
  merges: [string, string][],
  options: BpeTrainerOptions,
): Tokenizer {
  const { specialTokens = [], bosToken, eosToken, padToken } = options;
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return new Tokenizer(
    {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map((content, id) => ({ id, content, ...flags, special: true })),
      normalizer: null,
      pre_tokenizer: bytes,
      post_processor: null,
      decoder: bytes,
      model: {
        type: 'BPE',
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges,
      },
    },
    { bos_token: bosToken ?? null, eos_token: eosToken ?? null, pad_token: padToken ?? null },
  );
}
