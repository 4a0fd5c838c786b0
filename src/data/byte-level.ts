// The byte-level alphabet of GPT-2: a printable character for each of the 256 bytes, and back.
// Bytes that are printable in Latin-1 stand for themselves, the others for U+0100 and on.

/** The character of each byte. */
export const BYTE_TO_CHAR: readonly string[] = byteChars();

/** The byte of each of those characters. */
export const CHAR_TO_BYTE: ReadonlyMap<string, number> = new Map(
  BYTE_TO_CHAR.map((char, byte) => [char, byte]),
);

/** The UTF-8 bytes of a text in that alphabet. */
export function toByteChars(text: string): string[] {
  return Array.from(new TextEncoder().encode(text), (byte) => BYTE_TO_CHAR[byte]!);
}

function byteChars(): string[] {
  const isPrintable = (b: number) => (b > 32 && b < 127) || (b > 160 && b !== 173);
  let next = 256;
  return Array.from({ length: 256 }, (_, b) => String.fromCharCode(isPrintable(b) ? b : next++));
}
