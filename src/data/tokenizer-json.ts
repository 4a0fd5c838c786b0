// tokenizer.json, the file of Hugging Face tokenizers: the parts of it that this library looks into.

/** A normalizer, pre-tokenizer, post-processor or decoder; `type` tells the other fields. */
export interface TokenizerPart {
  type: string;
  [field: string]: unknown;
}

/** A token that is matched in the text before the model sees it. */
export interface AddedTokenJson {
  id: number;
  content: string;
  special: boolean;
  normalized?: boolean;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
}

/** The whole file. */
export interface TokenizerJson {
  version?: string;
  added_tokens: AddedTokenJson[];
  normalizer: TokenizerPart | null;
  pre_tokenizer: TokenizerPart | null;
  post_processor: TokenizerPart | null;
  decoder: TokenizerPart | null;
  model: TokenizerPart;
  [field: string]: unknown;
}

/** A part and, if it is a sequence, the parts in it. */
export function flattenPart(part: TokenizerPart | null): TokenizerPart[] {
  if (!part) return [];
  if (part.type !== 'Sequence') return [part];
  const inner = part.normalizers ?? part.pretokenizers ?? part.processors ?? part.decoders ?? [];
  return (inner as TokenizerPart[]).flatMap(flattenPart);
}

/** One character of a text and the part of the original, in code points, that it came from. */
export interface AlignedChar {
  char: string;
  start: number;
  end: number;
}

/**
 * What a normalizer makes of characters, each with its place in the original: a replaced text stands
 * at its last character, a composed one at its first. Unknown types change nothing.
 */
export function alignNormalized(part: TokenizerPart | null, chars: AlignedChar[]): AlignedChar[] {
  return flattenPart(part).reduce(applyOne, chars);
}

function applyOne(chars: AlignedChar[], part: TokenizerPart): AlignedChar[] {
  switch (part.type) {
    case 'Prepend':
      return prepended(chars, part.prepend as string);
    case 'Replace':
      return replaced(chars, part.pattern as { String?: string }, part.content as string);
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return byCluster(chars, (text) => text.normalize(part.type));
    case 'Lowercase':
      return byCluster(chars, (text) => text.toLowerCase());
    case 'StripAccents':
      return chars.filter(({ char }) => !/\p{Mn}/u.test(char));
    case 'Strip': {
      const left = part.strip_left === false ? 0 : chars.findIndex(({ char }) => char.trim());
      const right =
        part.strip_right === false ? -1 : chars.findLastIndex(({ char }) => char.trim());
      return chars.slice(Math.max(left, 0), right + 1 || undefined);
    }
    default:
      return chars;
  }
}

/** `text` before all characters, in the place of the first. */
export function prepended(chars: AlignedChar[], text: string): AlignedChar[] {
  const first = chars[0];
  return first ? [...Array.from(text, (char) => ({ ...first, char })), ...chars] : chars;
}

function replaced(
  chars: AlignedChar[],
  pattern: { String?: string },
  content: string,
): AlignedChar[] {
  const wanted = Array.from(pattern.String ?? '');
  if (wanted.length === 0) return chars;
  const out: AlignedChar[] = [];
  for (let i = 0; i < chars.length; ) {
    const found = wanted.every((char, j) => chars[i + j]?.char === char);
    const at = chars[found ? i + wanted.length - 1 : i]!;
    out.push(...(found ? Array.from(content, (char) => ({ ...at, char })) : [at]));
    i += found ? wanted.length : 1;
  }
  return out;
}

/** Applies `change` to each character with the marks after it. */
function byCluster(chars: AlignedChar[], change: (text: string) => string): AlignedChar[] {
  const out: AlignedChar[] = [];
  for (let i = 0; i < chars.length; ) {
    let end = i + 1;
    while (end < chars.length && /\p{M}/u.test(chars[end]!.char)) end++;
    const cluster = chars.slice(i, end);
    const result = Array.from(change(cluster.map(({ char }) => char).join('')));
    for (const [j, char] of result.entries()) {
      out.push({ ...cluster[Math.min(j, cluster.length - 1)]!, char });
    }
    i = end;
  }
  return out;
}
