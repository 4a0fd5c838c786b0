// Which number type each tensor of a GGUF file gets: llama.cpp's file types and mixes (llama-quant.cpp).
// Q4_K_M and Q5_K_M keep the output matrix, and in some layers v and ffn_down, in Q6_K; rows that are
// no whole blocks of 256 fall back. Left out: the other mixes, importance matrices, 70B's exception.

/** Names of `--type`: the type of most matrices, and llama.cpp's number for the file. */
const FILE_TYPES = {
  f32: { base: 'F32', code: 0 },
  f16: { base: 'F16', code: 1 },
  bf16: { base: 'BF16', code: 32 },
  q8_0: { base: 'Q8_0', code: 7 },
  q4_0: { base: 'Q4_0', code: 2 },
  q4_1: { base: 'Q4_1', code: 3 },
  q5_0: { base: 'Q5_0', code: 8 },
  q5_1: { base: 'Q5_1', code: 9 },
  q2_k: { base: 'Q2_K', code: 10 },
  q3_k: { base: 'Q3_K', code: 11 },
  q4_k: { base: 'Q4_K', code: 14 },
  q4_k_m: { base: 'Q4_K', code: 15 },
  q5_k: { base: 'Q5_K', code: 16 },
  q5_k_m: { base: 'Q5_K', code: 17 },
  q6_k: { base: 'Q6_K', code: 18 },
  iq4_nl: { base: 'IQ4_NL', code: 25 },
} as const;

/** What files can be made of. */
export type GgufFileType = keyof typeof FILE_TYPES;

/** What a K type becomes where a row is no whole number of 256. */
const FALLBACKS: Record<string, string> = {
  Q2_K: 'IQ4_NL',
  Q3_K: 'IQ4_NL',
  Q4_K: 'Q5_0',
  Q5_K: 'Q5_1',
  Q6_K: 'Q8_0',
};

/** The file type of this name, in small or capital letters. */
export function ggufFileType(name: string): GgufFileType {
  const key = name.toLowerCase();
  if (Object.hasOwn(FILE_TYPES, key)) return key as GgufFileType;
  const known = Object.keys(FILE_TYPES).join(', ');
  throw new RangeError(`The type of a GGUF file must be one of ${known}, got '${name}'`);
}

/** llama.cpp's number for the file type, `general.file_type`. */
export function ggufFileCode(type: GgufFileType): number {
  return FILE_TYPES[type].code;
}

/** The type of one tensor in a model of so many layers, whose head is its embedding if it is `tied`. */
export function tensorType(
  name: string,
  shape: readonly number[],
  file: GgufFileType,
  { layers, tied }: { layers: number; tied: boolean },
): string {
  const { base } = FILE_TYPES[file];
  if (shape.length === 1) return 'F32';
  if (/^(F32|F16|BF16)$/.test(base)) return base;
  const columns = shape.at(-1)!;
  return fitting(mixed(name, base, file, columns, layers, tied), columns);
}

/** The type that the mix gives, before rows are looked at. */
function mixed(
  name: string,
  base: string,
  file: GgufFileType,
  columns: number,
  layers: number,
  tied: boolean,
): string {
  if (name === (tied ? 'token_embd.weight' : 'output.weight')) {
    if (columns % blockOf(base) !== 0) return 'Q8_0';
    return base === 'Q8_0' ? base : 'Q6_K';
  }
  const layer = /^blk\.(\d+)\.(attn_v|ffn_down)\.weight$/.exec(name)?.[1];
  const isMix = file.endsWith('_m');
  return isMix && layer !== undefined && usesMoreBits(Number(layer), layers) ? 'Q6_K' : base;
}

/** The first and the last eighth of the layers, and every third between. */
function usesMoreBits(layer: number, layers: number): boolean {
  const eighth = Math.floor(layers / 8);
  return layer < eighth || layer >= Math.floor((7 * layers) / 8) || (layer - eighth) % 3 === 2;
}

function fitting(type: string, columns: number): string {
  if (columns % blockOf(type) === 0) return type;
  const fallback = FALLBACKS[type] ?? 'F16';
  return columns % blockOf(fallback) === 0 ? fallback : 'F16';
}

const blockOf = (type: string) => (type.endsWith('_K') ? 256 : 32);
