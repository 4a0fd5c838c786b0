// The kernel's logo, drawn here: a low-rank update, a tall and a flat matrix beside each other on a
// blue tile. As SVG, and rasterised to PNG from the same rectangles.
import { deflateSync } from 'node:zlib';

type Rectangle = readonly [x: number, y: number, width: number, height: number, colour: string];

/** On a grid of 32: the tile, the square W, the tall B and the flat A. */
const SHAPES: readonly Rectangle[] = [
  [0, 0, 32, 32, '#0554ad'],
  [4, 14, 14, 14, '#bcd4f0'],
  [20, 14, 4, 14, '#ffb454'],
  [4, 8, 14, 4, '#ffb454'],
  [20, 8, 4, 4, '#ffffff'],
];

/** The logo as SVG. */
export const LOGO_SVG: string = [
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" role="img" aria-label="peftlab">',
  ...SHAPES.map(
    ([x, y, width, height, colour]) =>
      `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${colour}"/>`,
  ),
  '</svg>\n',
].join('\n');

/** The logo as PNG, `size` a multiple of 32. */
export function logoPng(size: number): Buffer {
  const scale = size / 32;
  const row = 1 + size * 3;
  const pixels = Buffer.alloc(row * size);
  for (const [x, y, width, height, colour] of SHAPES) {
    const rgb = Buffer.from(colour.slice(1), 'hex');
    for (let py = y * scale; py < (y + height) * scale; py++) {
      for (let px = x * scale; px < (x + width) * scale; px++)
        rgb.copy(pixels, py * row + 1 + px * 3);
    }
  }
  const header = Buffer.alloc(13);
  header.writeUInt32BE(size, 0);
  header.writeUInt32BE(size, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(pixels)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const out = Buffer.alloc(body.length + 8);
  out.writeUInt32BE(data.length, 0);
  body.copy(out, 4);
  out.writeUInt32BE(crc32(body), body.length + 4);
  return out;
}

function crc32(data: Buffer): number {
  let crc = ~0;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}
