// Figures made for paper, on a dark page: greys change places (white becomes the page's black, black the
// text's white); colours stay, since they tell series apart.

const GREY = /^#(?:([0-9a-f])\1\1|([0-9a-f]{2})\2\2)$/i;
const NAMED: Record<string, string> = { white: '#ffffff', black: '#000000' };
/** JupyterLab's dark page is #111111. */
const DARKEST = 0x11;
const LONGEST_LIST = 2000;

/** A copy of a figure's data or layout with its greys inverted: g -> 255 - g (255 - 17) / 255. */
export function darkColours<T>(value: T): T {
  if (typeof value === 'string') return darkColour(value) as T;
  if (Array.isArray(value)) {
    const isWords = typeof value[0] === 'string' || typeof value[0] === 'object';
    return (isWords && value.length <= LONGEST_LIST ? value.map(darkColours) : value) as T;
  }
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return value;
  const entries = Object.entries(value).map(([key, item]) => [
    key,
    // Words for readers may look like colours.
    key === 'text' || key === 'name' || key === 'x' || key === 'y' ? item : darkColours(item),
  ]);
  return Object.fromEntries(entries) as T;
}

function darkColour(text: string): string {
  const match = GREY.exec(NAMED[text.toLowerCase()] ?? text);
  if (!match) return text;
  const level = Number.parseInt(match[2] ?? match[1]!.repeat(2), 16);
  const inverted = Math.round(255 - (level * (255 - DARKEST)) / 255);
  return `#${inverted.toString(16).padStart(2, '0').repeat(3)}`;
}
