// Where in a text each token came from, as [start, end) in code points: what `tokenizers` calls offsets.
// Text is normalized with each character's origin kept; tokens then take its bytes one after another.
import { CHAR_TO_BYTE } from './byte-level.ts';
import {
  type AddedTokenJson,
  type AlignedChar,
  alignNormalized,
  flattenPart,
  prepended,
  type TokenizerJson,
  type TokenizerPart,
} from './tokenizer-json.ts';

/** [start, end) in code points. */
export type Offset = [number, number];

/** One byte of the normalized text, and the characters of the original that it came from. */
interface AlignedByte {
  byte: number;
  start: number;
  end: number;
}

/** The offsets of `tokens`, which `text` was cut into without special tokens added. */
export function tokenOffsets(json: TokenizerJson, text: string, tokens: string[]): Offset[] {
  const chars = Array.from(text);
  const added = new Map(json.added_tokens.map((token) => [token.content, token]));
  const offsets: Offset[] = [];
  let at = 0;
  for (let i = 0; i < tokens.length; ) {
    const special = added.get(tokens[i]!);
    const found = special ? indexOf(chars, special.content, at) : -1;
    if (special && found >= 0) {
      const [start, end] = widened(special, chars, found);
      offsets.push([start, end]);
      at = end;
      i++;
      continue;
    }
    const next = tokens.findIndex((token, j) => j > i && added.has(token));
    const last = next < 0 ? tokens.length : next;
    const end = next < 0 ? chars.length : segmentEnd(added.get(tokens[next]!)!, chars, at);
    const segment = chars.slice(at, end).map((char, j) => aligned(char, at + j));
    offsets.push(
      ...consume(json, alignedBytes(json, segment, at === 0), tokens.slice(i, last), at),
    );
    at = end;
    i = last;
  }
  return trimmed(json, tokens, offsets);
}

const aligned = (char: string, at: number): AlignedChar => ({ char, start: at, end: at + 1 });

function indexOf(chars: string[], content: string, from: number): number {
  const wanted = Array.from(content);
  for (let i = from; i + wanted.length <= chars.length; i++) {
    if (wanted.every((char, j) => chars[i + j] === char)) return i;
  }
  return -1;
}

/** An added token's place with the spaces that it strips. */
function widened({ content, lstrip, rstrip }: AddedTokenJson, chars: string[], at: number): Offset {
  let start = at;
  let end = at + Array.from(content).length;
  while (lstrip && start > 0 && !chars[start - 1]!.trim()) start--;
  while (rstrip && end < chars.length && !chars[end]!.trim()) end++;
  return [start, end];
}

function segmentEnd(token: AddedTokenJson, chars: string[], from: number): number {
  const found = indexOf(chars, token.content, from);
  return found < 0 ? chars.length : Math.max(widened(token, chars, found)[0], from);
}

/** The bytes that the model's tokens stand for. */
function alignedBytes(
  json: TokenizerJson,
  segment: AlignedChar[],
  isFirst: boolean,
): AlignedByte[] {
  let chars = alignNormalized(json.normalizer, segment);
  for (const part of flattenPart(json.pre_tokenizer)) chars = spaced(part, chars, isFirst);
  const encoder = new TextEncoder();
  return chars.flatMap(({ char, start, end }) =>
    Array.from(encoder.encode(char), (byte) => ({ byte, start, end })),
  );
}

/** The space that some pre-tokenizers put before a text. */
function spaced(part: TokenizerPart, chars: AlignedChar[], isFirst: boolean): AlignedChar[] {
  if (part.type === 'ByteLevel') {
    return part.add_prefix_space && chars[0]?.char !== ' ' ? prepended(chars, ' ') : chars;
  }
  if (part.type !== 'Metaspace') return chars;
  const mark = part.replacement as string;
  const scheme = part.prepend_scheme ?? (part.add_prefix_space === false ? 'never' : 'always');
  const marked = chars.map((c) => (c.char === ' ' ? { ...c, char: mark } : c));
  const needed = scheme === 'always' || (scheme === 'first' && isFirst);
  return needed && marked[0]?.char !== mark ? prepended(marked, mark) : marked;
}

/** Gives each token the next bytes that spell it; an unknown token takes what the next one leaves. */
function consume(
  json: TokenizerJson,
  bytes: AlignedByte[],
  tokens: string[],
  from: number,
): Offset[] {
  const spell = speller(json);
  let at = 0;
  return tokens.map((token, i) => {
    const wanted = spell(token);
    const start = wanted ? find(bytes, wanted, at) : at;
    if (wanted && start >= 0) {
      at = start + wanted.length;
      return span(bytes, start, at, from);
    }
    const next = tokens.slice(i + 1).map(spell);
    const following = next[0] ? find(bytes, next[0], at + 1) : -1;
    const stop =
      following >= 0 ? following : next.length === 0 ? bytes.length : afterChar(bytes, at);
    const taken = span(bytes, at, stop, from);
    at = stop;
    return taken;
  });
}

/** The bytes that a token stands for, or undefined for the unknown token. */
function speller(json: TokenizerJson): (token: string) => Uint8Array | undefined {
  const isByteLevel = flattenPart(json.pre_tokenizer).some(({ type }) => type === 'ByteLevel');
  const { unk_token: unknown, byte_fallback: fallback, type } = json.model;
  const encoder = new TextEncoder();
  return (token) => {
    if (token === unknown) return undefined;
    if (isByteLevel) return Uint8Array.from(token, (char) => CHAR_TO_BYTE.get(char) ?? 0);
    const hex = fallback ? /^<0x([0-9A-F]{2})>$/i.exec(token) : null;
    if (hex) return Uint8Array.of(Number.parseInt(hex[1]!, 16));
    return encoder.encode(type === 'WordPiece' ? token.replace(/^##/, '') : token);
  };
}

function find(bytes: AlignedByte[], wanted: Uint8Array, from: number): number {
  for (let i = from; i + wanted.length <= bytes.length; i++) {
    if (wanted.every((byte, j) => bytes[i + j]!.byte === byte)) return i;
  }
  return -1;
}

function afterChar(bytes: AlignedByte[], at: number): number {
  let next = at + 1;
  while (next < bytes.length && bytes[next]!.byte >> 6 === 2) next++;
  return Math.min(next, bytes.length);
}

function span(bytes: AlignedByte[], start: number, end: number, from: number): Offset {
  if (start >= end) {
    const here = bytes[start]?.start ?? bytes.at(-1)?.end ?? from;
    return [here, here];
  }
  return [bytes[start]!.start, bytes[end - 1]!.end];
}

/** Takes the spaces off both ends where the byte-level post-processor asks for it. */
function trimmed(json: TokenizerJson, tokens: string[], offsets: Offset[]): Offset[] {
  const part = flattenPart(json.post_processor).find(({ type }) => type === 'ByteLevel');
  if (!part || part.trim_offsets === false) return offsets;
  const isSpace = (char: string) => char === BLANK || /\s/.test(char);
  return offsets.map(([start, end], i) => {
    const chars = Array.from(tokens[i]!);
    const first = chars.findIndex((char) => !isSpace(char));
    const leading = first < 0 ? chars.length : first;
    const trailing =
      first < 0 ? chars.length : chars.length - 1 - chars.findLastIndex((c) => !isSpace(c));
    // One space at the start is taken for the one that add_prefix_space put there.
    const keeps = (i === 0 || start === 0) && part.add_prefix_space !== false && leading === 1;
    const left = leading > 0 && !keeps ? Math.min(start + leading, end) : start;
    return [left, trailing > 0 && end >= trailing ? Math.max(end - trailing, left) : end];
  });
}

const BLANK = '\u0120';
