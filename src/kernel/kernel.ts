// The kernel: one handler per message type. Cells go to their queue (cells.ts); everything else is
// answered at once, also while a cell runs, since user code lives in another process.
import { createRequire } from 'node:module';
import { Cells } from './cells.ts';
import type { Channel, Connection } from './connection.ts';
import { Debugger } from './debugger.ts';
import { History } from './history.ts';
import { LanguageClient } from './language-client.ts';
import { type Json, type Message, PROTOCOL_VERSION } from './message.ts';
import type { CommMessage, FromChild } from './protocol.ts';
import { StreamBatch } from './stream-batch.ts';
import { codePointOffset, codeUnitOffset } from './text-offset.ts';
import { type ProcessScripts, UserProcess } from './user-process.ts';

const require = createRequire(import.meta.url);
const TYPESCRIPT_VERSION = (require('typescript/package.json') as { version: string }).version;

/** Where the kernel's parts lie. */
export interface KernelScripts extends ProcessScripts {
  language: string;
  /** Declarations of the names that cells are given. */
  env: string;
  typeRoots: string[];
  version: string;
}

const KEPT_COMM_MESSAGES = 200;

/** Answers requests from the sockets of `connection`. */
export class Kernel {
  private readonly connection: Connection;
  private readonly scripts: KernelScripts;
  private readonly language: LanguageClient;
  private readonly process: UserProcess;
  private readonly debugger: Debugger;
  private readonly history = new History();
  private readonly stream: StreamBatch;
  private readonly cells: Cells;
  private readonly inputs: { identity: string; sync: boolean }[] = [];
  private comms: Record<string, { target_name: string }> = {};
  /** Comm messages of late by the (negative) number of their run. */
  private readonly commMessages = new Map<number, Message>();
  private readonly finish: () => void;

  /** `finish` is called when the kernel has been shut down. */
  constructor(connection: Connection, scripts: KernelScripts, finish: () => void) {
    this.connection = connection;
    this.scripts = scripts;
    this.finish = finish;
    this.stream = new StreamBatch((run, name, text) =>
      this.publish('stream', { name, text }, this.messageOf(run)),
    );
    this.process = new UserProcess(scripts, {
      message: (message) => this.fromUserCode(message),
      replaced: () => this.replaced(),
      debug: (method, params) => this.debugger.event(method, params),
    });
    const { language, env, typeRoots } = scripts;
    this.language = new LanguageClient(language, { cwd: process.cwd(), env, typeRoots });
    this.debugger = new Debugger(
      (method, params) => this.process.debug(method, params),
      (event) => this.publish('debug_event', event, null),
    );
    this.cells = new Cells({
      ...{ language: this.language, process: this.process, debugger: this.debugger },
      ...{ history: this.history, stream: this.stream },
      publish: (type, content, parent) => this.publish(type, content, parent),
      reply: (message, content) => this.reply('shell', message, content),
    });
  }

  /** Takes requests until the kernel is shut down. */
  start(): void {
    this.publish('status', { execution_state: 'starting' }, null);
    this.connection.serve((channel, message) => this.receive(channel, message));
  }

  /** What Ctrl+C and an interrupt request do. */
  interrupt(): void {
    this.cells.interrupt();
  }

  private receive(channel: Channel, message: Message): void {
    const type = message.header.msg_type;
    if (channel === 'stdin') {
      if (type === 'input_reply') this.inputReply(message);
      return;
    }
    if (type === 'execute_request' && channel === 'shell') {
      return this.cells.add(message);
    }
    void this.answer(channel, message);
  }

  /** Answers any request but a cell: busy, reply, idle. */
  private async answer(channel: Channel, message: Message): Promise<void> {
    this.publish('status', { execution_state: 'busy' }, message);
    try {
      const reply = await this.handle(message);
      if (reply) this.reply(channel, message, reply);
    } catch (error) {
      const { name, message: evalue, stack } = error as Error;
      this.reply(channel, message, {
        status: 'error',
        ename: name,
        evalue,
        traceback: [stack ?? ''],
      });
    }
    this.publish('status', { execution_state: 'idle' }, message);
    // Front ends show the last status: a cell still runs, whatever was answered beside it.
    const running = this.cells.running();
    if (running) this.publish('status', { execution_state: 'busy' }, running);
    if (message.header.msg_type === 'shutdown_request') await this.shutdown();
  }

  /** The content of the reply; null for messages that have none. */
  private async handle(message: Message): Promise<Json | null> {
    const { content } = message;
    switch (message.header.msg_type) {
      case 'kernel_info_request':
        return this.info();
      case 'complete_request':
        return this.complete(content);
      case 'inspect_request':
        return this.inspect(content);
      case 'is_complete_request':
        return { ...(await this.language.call('isComplete', String(content.code ?? ''))) };
      case 'history_request':
        return { status: 'ok', history: this.history.query(content) };
      case 'comm_info_request':
        return { status: 'ok', comms: this.openComms(content) };
      case 'comm_open':
      case 'comm_msg':
      case 'comm_close':
        await this.fromFrontEnd(message);
        return null;
      case 'interrupt_request':
        this.interrupt();
        return { status: 'ok' };
      case 'shutdown_request':
        return { status: 'ok', restart: content.restart === true };
      case 'debug_request':
        return this.debugger.request(content);
      case 'create_subshell_request':
        return this.cells.createSubshell();
      case 'delete_subshell_request':
        return this.cells.deleteSubshell(String(content.subshell_id));
      case 'list_subshell_request':
        return { status: 'ok', subshell_id: this.cells.subshellIds() };
      case 'connect_request':
        return { status: 'ok' };
      default:
        process.stderr.write(`Ignored a message of unknown type '${message.header.msg_type}'\n`);
        return null;
    }
  }

  private info(): Json {
    return {
      status: 'ok',
      protocol_version: PROTOCOL_VERSION,
      implementation: 'peftlab',
      implementation_version: this.scripts.version,
      language_info: {
        name: 'typescript',
        version: TYPESCRIPT_VERSION,
        mimetype: 'text/typescript',
        file_extension: '.ts',
        pygments_lexer: 'typescript',
        codemirror_mode: { name: 'typescript' },
        nbconvert_exporter: 'script',
      },
      banner: `peftlab ${this.scripts.version}: TypeScript ${TYPESCRIPT_VERSION} on Node ${process.version}`,
      help_links: [
        { text: 'TypeScript', url: 'https://www.typescriptlang.org/docs/' },
        { text: 'TensorFlow.js', url: 'https://js.tensorflow.org/api/latest/' },
      ],
      debugger: true,
      supported_features: ['debugger', 'kernel subshells'],
    };
  }

  private async complete(content: Json): Promise<Json> {
    const code = String(content.code ?? '');
    const cursor = Number(content.cursor_pos ?? code.length);
    const { matches, start, end, items } = await this.language.call(
      'complete',
      code,
      codeUnitOffset(code, cursor),
    );
    const at = { start: codePointOffset(code, start), end: codePointOffset(code, end) };
    return {
      status: 'ok',
      matches,
      cursor_start: at.start,
      cursor_end: at.end,
      metadata: { _jupyter_types_experimental: items.map((item) => ({ ...item, ...at })) },
    };
  }

  private async inspect(content: Json): Promise<Json> {
    const code = String(content.code ?? '');
    const offset = codeUnitOffset(code, Number(content.cursor_pos ?? code.length));
    const { found, data } = await this.language.call('inspect', code, offset);
    return { status: 'ok', found, data, metadata: {} };
  }

  private openComms(content: Json): Json {
    const target = content.target_name;
    const open = Object.entries(this.comms).filter(
      ([, comm]) => !target || comm.target_name === target,
    );
    return Object.fromEntries(open);
  }

  private fromFrontEnd(message: Message): Promise<void> {
    const kind = message.header.msg_type as CommMessage['kind'];
    const { content, metadata, buffers } = message;
    const id = String(message.header.msg_id);
    return this.process.receive(id, { kind, content, metadata, buffers }, (run) => {
      this.commMessages.set(run, message);
      this.commMessages.delete(run + KEPT_COMM_MESSAGES);
    });
  }

  // ---- what user code sends

  /** The request that run number `run` answers; null if it was long ago. */
  private messageOf(run: number): Message | null {
    return run < 0 ? (this.commMessages.get(run) ?? null) : this.cells.messageOf(run);
  }

  private fromUserCode(message: FromChild): void {
    if (message.type === 'stream') return this.stream.add(message.run, message.name, message.text);
    this.stream.flush();
    if (message.type === 'comms') this.comms = message.comms;
    else if ('run' in message && message.type !== 'handled')
      this.forward(message, this.messageOf(message.run));
  }

  private forward(
    message: Exclude<FromChild, { type: 'ready' | 'comms' | 'handled' }>,
    parent: Message | null,
  ): void {
    if (message.type === 'display') {
      const { data, metadata, id, update } = message;
      const transient = id ? { display_id: id } : {};
      this.publish(
        update ? 'update_display_data' : 'display_data',
        { data, metadata, transient },
        parent,
      );
    } else if (message.type === 'result') {
      this.cells.result(message);
    } else if (message.type === 'clear') {
      this.publish('clear_output', { wait: message.wait }, parent);
    } else if (message.type === 'comm') {
      const { kind, content, metadata, buffers } = message.message;
      this.publish(kind, content, parent, {
        metadata,
        buffers: buffers.map((b) => Buffer.from(b)),
      });
    } else if (message.type === 'input' && parent) this.requestInput(message, parent);
  }

  private requestInput(message: FromChild & { type: 'input' }, parent: Message): void {
    const { prompt, password, sync } = message;
    this.inputs.push({ identity: parent.identities[0]?.toString('hex') ?? '', sync });
    const request = this.connection.wire.message('input_request', { prompt, password }, parent, {
      identities: parent.identities,
    });
    void this.connection.send('stdin', request);
  }

  private inputReply(message: Message): void {
    const from = message.identities[0]?.toString('hex');
    const at = this.inputs.findIndex((input) => input.identity === from);
    const [input] = this.inputs.splice(Math.max(0, at), 1);
    if (input) this.process.giveInput(String(message.content.value ?? ''), input.sync);
  }

  private replaced(): void {
    this.comms = {};
    this.inputs.length = 0;
    this.debugger.reset();
    void this.language.reset();
  }

  // ---- answers

  private reply(channel: Channel, parent: Message, content: Json): void {
    const type = parent.header.msg_type.replace(/_request$/, '_reply');
    const { identities } = parent;
    void this.connection.send(
      channel,
      this.connection.wire.message(type, content, parent, { identities }),
    );
  }

  private publish(
    type: string,
    content: Json,
    parent: Message | null,
    options: { metadata?: Json; buffers?: Buffer[] } = {},
  ): void {
    void this.connection.publish(type, content, parent, options);
  }

  /** Ends everything. */
  async shutdown(): Promise<void> {
    this.process.close();
    await this.language.close();
    await this.connection.close();
    this.finish();
  }
}
