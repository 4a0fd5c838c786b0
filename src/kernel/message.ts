// Jupyter's messages on the wire (messaging protocol 5.5): a multipart ZeroMQ message is
// [identities..., '<IDS|MSG>', hmac, header, parent_header, metadata, content, buffers...],
// hmac = hex(HMAC-SHA256(key, header + parent_header + metadata + content)).
import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto';

/** Version of the messaging protocol that this kernel speaks. */
export const PROTOCOL_VERSION = '5.5';

const DELIMITER = Buffer.from('<IDS|MSG>');

/** A JSON object as it travels in a message. */
export type Json = Record<string, unknown>;

/** `header` of a message; `subshell_id` names the subshell a shell request is for. */
export interface Header extends Json {
  msg_id: string;
  msg_type: string;
  session?: string;
  username?: string;
  date?: string;
  version?: string;
  subshell_id?: string | null;
}

/** One message; `identities` are ZeroMQ routing frames (or the topic on iopub). */
export interface Message {
  identities: Buffer[];
  header: Header;
  parent_header: Partial<Header>;
  metadata: Json;
  content: Json;
  buffers: Buffer[];
}

/** A message that does not follow the protocol or was signed with another key. */
export class MessageError extends Error {
  override name = 'MessageError';
}

/** Signs, encodes and decodes messages with one connection's key and session. */
export class Wire {
  private readonly key: string;
  readonly session: string;
  readonly username: string;

  /** An empty `key` means unsigned messages, as the protocol allows. */
  constructor(key: string, session: string = randomUUID(), username = 'kernel') {
    this.key = key;
    this.session = session;
    this.username = username;
  }

  /** Makes a message of `type`, answering `parent` where one is given. */
  message(
    type: string,
    content: Json,
    parent?: Message | null,
    options: { identities?: Buffer[]; metadata?: Json; buffers?: Buffer[] } = {},
  ): Message {
    const { identities = [], metadata = {}, buffers = [] } = options;
    const header: Header = {
      msg_id: randomUUID(),
      msg_type: type,
      session: this.session,
      username: this.username,
      date: new Date().toISOString(),
      version: PROTOCOL_VERSION,
    };
    return {
      identities,
      header,
      parent_header: parent?.header ?? {},
      metadata,
      content,
      buffers,
    };
  }

  /** The multipart frames of `message`. */
  encode(message: Message): Buffer[] {
    const parts = [message.header, message.parent_header, message.metadata, message.content].map(
      (part) => Buffer.from(JSON.stringify(part)),
    );
    return [
      ...message.identities,
      DELIMITER,
      Buffer.from(this.sign(parts)),
      ...parts,
      ...message.buffers,
    ];
  }

  /** Frames for JSON parts (and buffers) that another wire has encoded: delimiter and signature are added. */
  seal(parts: readonly Buffer[]): Buffer[] {
    return [DELIMITER, Buffer.from(this.sign(parts.slice(0, 4))), ...parts];
  }

  /** Reads multipart `frames`; throws `MessageError` on a wrong signature or shape. */
  decode(frames: readonly Buffer[]): Message {
    const at = frames.findIndex((frame) => frame.equals(DELIMITER));
    if (at < 0) throw new MessageError('A message must hold the delimiter <IDS|MSG>');
    const parts = frames.slice(at + 2, at + 6);
    const signature = frames[at + 1];
    if (!signature || parts.length < 4) {
      throw new MessageError(
        `A message must hold a signature and 4 JSON frames after the delimiter, got ${frames.length - at - 1} frames`,
      );
    }
    if (!this.verify(signature, parts)) {
      throw new MessageError('The signature of a message does not fit the connection key');
    }
    const [header, parent, metadata, content] = parts.map(parseObject);
    if (typeof header?.msg_id !== 'string' || typeof header.msg_type !== 'string') {
      throw new MessageError('The header of a message must hold msg_id and msg_type as strings');
    }
    return {
      identities: frames.slice(0, at) as Buffer[],
      header: header as Header,
      parent_header: parent ?? {},
      metadata: metadata ?? {},
      content: content ?? {},
      buffers: frames.slice(at + 6) as Buffer[],
    };
  }

  private sign(parts: readonly Buffer[]): string {
    if (this.key === '') return '';
    const hmac = createHmac('sha256', this.key);
    for (const part of parts) hmac.update(part);
    return hmac.digest('hex');
  }

  private verify(signature: Buffer, parts: readonly Buffer[]): boolean {
    const expected = Buffer.from(this.sign(parts));
    return signature.length === expected.length && timingSafeEqual(signature, expected);
  }
}

function parseObject(frame: Buffer): Json {
  let value: unknown;
  try {
    value = JSON.parse(frame.toString('utf8'));
  } catch {
    throw new MessageError('A frame of a message must be JSON');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new MessageError('A frame of a message must be a JSON object');
  }
  return value as Json;
}
