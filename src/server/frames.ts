// Kernel messages on a WebSocket, as Jupyter Server frames them. Protocol `v1.kernel.websocket.jupyter.org`:
// [n u64 LE][n offsets u64 LE] channel, header, parent_header, metadata, content, buffers. Without it, JSON
// text, or with buffers [n u32 BE][n offsets u32 BE] JSON, buffers.

/** The newer subprotocol's name. */
export const V1 = 'v1.kernel.websocket.jupyter.org';

/** A message of one channel: header, parent_header, metadata, content as JSON bytes, then buffers. */
export interface Framed {
  channel: string;
  parts: readonly Buffer[];
}

/** Bytes of the newer protocol. */
export function encodeV1({ channel, parts }: Framed): Buffer {
  const all = [Buffer.from(channel), ...parts];
  const count = all.length + 1;
  const head = Buffer.alloc(8 * (1 + count));
  head.writeBigUInt64LE(BigInt(count), 0);
  let offset = head.length;
  head.writeBigUInt64LE(BigInt(offset), 8);
  for (const [i, part] of all.entries()) {
    offset += part.length;
    head.writeBigUInt64LE(BigInt(offset), 16 + 8 * i);
  }
  return Buffer.concat([head, ...all]);
}

/** The way back; throws on bytes that can't be a message. */
export function decodeV1(bytes: Buffer): Framed {
  const count = bytes.length >= 8 ? Number(bytes.readBigUInt64LE(0)) : 0;
  if (count < 6 || 8 * (count + 1) > bytes.length) {
    throw new RangeError('A frame of the WebSocket must hold at least 6 offsets');
  }
  const offsets = Array.from({ length: count }, (_, i) =>
    Number(bytes.readBigUInt64LE(8 * (i + 1))),
  );
  const [channel, ...parts] = offsets.slice(1).map((end, i) => bytes.subarray(offsets[i], end));
  return { channel: channel!.toString(), parts };
}

/** Text, or bytes where there are buffers, of the older protocol. */
export function encodeLegacy({ channel, parts }: Framed): string | Buffer {
  const [header, parent_header, metadata, content] = parts
    .slice(0, 4)
    .map((part) => JSON.parse(part.toString()) as Record<string, unknown>);
  const { msg_id, msg_type } = header!;
  const message = { header, parent_header, metadata, content, channel, msg_id, msg_type };
  const buffers = parts.slice(4);
  if (buffers.length === 0) return JSON.stringify({ ...message, buffers: [] });
  const all = [Buffer.from(JSON.stringify(message)), ...buffers];
  const head = Buffer.alloc(4 * (all.length + 1));
  head.writeUInt32BE(all.length, 0);
  let offset = head.length;
  for (const [i, part] of all.entries()) {
    head.writeUInt32BE(offset, 4 * (i + 1));
    offset += part.length;
  }
  return Buffer.concat([head, ...all]);
}

/** The way back. */
export function decodeLegacy(data: Buffer, isBinary: boolean): Framed {
  let text = data;
  let buffers: Buffer[] = [];
  if (isBinary) {
    const count = data.readUInt32BE(0);
    const starts = Array.from({ length: count }, (_, i) => data.readUInt32BE(4 * (i + 1)));
    const pieces = starts.map((start, i) => data.subarray(start, starts[i + 1] ?? data.length));
    text = pieces[0]!;
    buffers = pieces.slice(1);
  }
  const message = JSON.parse(text.toString()) as Record<string, unknown>;
  const names = ['header', 'parent_header', 'metadata', 'content'];
  const json = names.map((name) => Buffer.from(JSON.stringify(message[name] ?? {})));
  return { channel: String(message.channel ?? 'shell'), parts: [...json, ...buffers] };
}
