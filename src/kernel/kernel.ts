// The kernel: one handler per message type. Cells wait in a queue (one per subshell); everything
// else is answered at once, also while a cell runs, since user code lives in another process.
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import type { Channel, Connection } from './connection.ts';
import { Debugger } from './debugger.ts';
import { History } from './history.ts';
import type { CompileReply, CompileRequest } from './language.ts';
import { LanguageClient } from './language-client.ts';
import { type Json, type Message, PROTOCOL_VERSION } from './message.ts';
import type { CellError, CommMessage, FromChild, MimeBundle } from './protocol.ts';
import { StreamBatch } from './stream-batch.ts';
import { codePointOffset, codeUnitOffset } from './text-offset.ts';
import { INTERRUPTED, type ProcessScripts, type RunResult, UserProcess } from './user-process.ts';

const require = createRequire(import.meta.url);
const TYPESCRIPT_VERSION = (require('typescript/package.json') as { version: string }).version;
const KEPT_RUNS = 200;

/** Where the kernel's parts lie. */
export interface KernelScripts extends ProcessScripts {
  language: string;
  /** Declarations of the names that cells are given. */
  env: string;
  typeRoots: string[];
  version: string;
}

/** Cells that wait for their turn in the main shell or in a subshell. */
interface Queue {
  id: string | null;
  waiting: Message[];
  isBusy: boolean;
}

/** Answers requests from the sockets of `connection`. */
export class Kernel {
  private readonly connection: Connection;
  private readonly scripts: KernelScripts;
  private readonly language: LanguageClient;
  private readonly process: UserProcess;
  private readonly debugger: Debugger;
  private readonly history = new History();
  private readonly stream: StreamBatch;
  private readonly main: Queue = { id: null, waiting: [], isBusy: false };
  private readonly subshells = new Map<string, Queue>();
  private readonly parents = new Map<number, Message>();
  private readonly inputs: { identity: string; sync: boolean }[] = [];
  private comms: Record<string, { target_name: string }> = {};
  /** Cells that TypeScript looks at: an interrupt ends them before they run. */
  private readonly compiling = new Set<() => void>();
  private executionCount = 0;
  private runs = 0;
  private lastResult = '';
  private readonly finish: () => void;

  /** `finish` is called when the kernel has been shut down. */
  constructor(connection: Connection, scripts: KernelScripts, finish: () => void) {
    this.connection = connection;
    this.scripts = scripts;
    this.finish = finish;
    this.stream = new StreamBatch((run, name, text) =>
      this.publish('stream', { name, text }, this.parents.get(run) ?? null),
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
  }

  /** Takes requests until the kernel is shut down. */
  start(): void {
    this.publish('status', { execution_state: 'starting' }, null);
    this.connection.serve((channel, message) => this.receive(channel, message));
  }

  /** What Ctrl+C and an interrupt request do. */
  interrupt(): void {
    for (const stop of this.compiling) stop();
    this.process.interrupt();
  }

  private receive(channel: Channel, message: Message): void {
    const type = message.header.msg_type;
    if (channel === 'stdin') {
      if (type === 'input_reply') this.inputReply(message);
      return;
    }
    if (type === 'execute_request' && channel === 'shell') return this.enqueue(message);
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
        this.fromFrontEnd(message);
        return null;
      case 'interrupt_request':
        this.interrupt();
        return { status: 'ok' };
      case 'shutdown_request':
        return { status: 'ok', restart: content.restart === true };
      case 'debug_request':
        return this.debugger.request(content);
      case 'create_subshell_request':
        return this.createSubshell();
      case 'delete_subshell_request':
        return this.deleteSubshell(String(content.subshell_id));
      case 'list_subshell_request':
        return { status: 'ok', subshell_id: [...this.subshells.keys()] };
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

  private fromFrontEnd(message: Message): void {
    const kind = message.header.msg_type as CommMessage['kind'];
    const { content, metadata, buffers } = message;
    this.process.send({ type: 'comm', message: { kind, content, metadata, buffers } });
  }

  private createSubshell(): Json {
    const id = randomUUID();
    this.subshells.set(id, { id, waiting: [], isBusy: false });
    return { status: 'ok', subshell_id: id };
  }

  private deleteSubshell(id: string): Json {
    if (this.subshells.delete(id)) return { status: 'ok' };
    const evalue = `No subshell '${id}'; have ${[...this.subshells.keys()].join(', ') || 'none'}`;
    return { status: 'error', ename: 'RangeError', evalue, traceback: [] };
  }

  // ---- cells

  private enqueue(message: Message): void {
    const id = message.header.subshell_id;
    const queue = typeof id === 'string' ? this.subshells.get(id) : this.main;
    if (!queue) {
      const evalue = `No subshell '${id}'`;
      this.reply('shell', message, { status: 'error', ename: 'RangeError', evalue, traceback: [] });
      return;
    }
    queue.waiting.push(message);
    if (!queue.isBusy) void this.drain(queue);
  }

  private async drain(queue: Queue): Promise<void> {
    queue.isBusy = true;
    for (let next = queue.waiting.shift(); next; next = queue.waiting.shift()) {
      const isOk = await this.execute(next, queue);
      if (!isOk && next.content.stop_on_error !== false) await this.abortWaiting(queue);
    }
    queue.isBusy = false;
  }

  /** After an error, what was sent together with the failed cell must not run. */
  private async abortWaiting(queue: Queue): Promise<void> {
    for (const message of queue.waiting.splice(0)) {
      this.publish('status', { execution_state: 'busy' }, message);
      this.reply('shell', message, { status: 'aborted', execution_count: this.executionCount });
      this.publish('status', { execution_state: 'idle' }, message);
    }
  }

  private async execute(message: Message, queue: Queue): Promise<boolean> {
    const { content } = message;
    const code = String(content.code ?? '');
    const silent = content.silent === true;
    const store = content.store_history !== false && !silent;
    if (store && code.trim() !== '') this.executionCount++;
    const count = this.executionCount;
    this.publish('status', { execution_state: 'busy' }, message);
    if (!silent) this.publish('execute_input', { code, execution_count: count }, message);
    const run = ++this.runs;
    this.parents.set(run, message);
    this.parents.delete(run - KEPT_RUNS);
    const outcome = await this.runCell(message, run, queue, count);
    this.stream.flush();
    if (outcome.error && !silent) this.publish('error', { ...outcome.error }, message);
    // Requests that came in the same breath are in the queue before the outcome is known.
    if (outcome.error) await twoTurns();
    this.reply('shell', message, {
      status: outcome.error ? 'error' : 'ok',
      execution_count: count,
      ...(outcome.error ?? { user_expressions: outcome.expressions }),
      payload: outcome.payload,
    });
    this.publish('status', { execution_state: 'idle' }, message);
    if (store && code.trim() !== '') this.history.add(count, code, this.lastResult);
    this.lastResult = '';
    return outcome.error === null;
  }

  private async runCell(
    message: Message,
    run: number,
    queue: Queue,
    count: number,
  ): Promise<RunResult & { payload: Json[] }> {
    const { content, metadata } = message;
    const code = String(content.code ?? '');
    const label = `In[${count || run}]`;
    const path = this.debugger.pathOf(code);
    const request = { code, label, path, isTest: isTestCell(metadata) };
    const compiled = await this.compile(request);
    if (compiled.status === 'blocked')
      return { error: compiled.error, expressions: {}, payload: [] };
    if (compiled.status === 'page') {
      return { error: null, expressions: {}, payload: [page(compiled.data)] };
    }
    if (compiled.warnings)
      this.publish('stream', { name: 'stdout', text: `${compiled.warnings}\n` }, message);
    const { js, map, boxes, declares } = compiled;
    const result = await this.process.run({
      type: 'run',
      ...{ run, label, path, source: code, js, map, boxes, declares },
      expressions: await this.expressions(content.user_expressions),
      isSubshell: queue.id !== null,
      allowStdin: content.allow_stdin === true,
    });
    return { ...result, payload: [] };
  }

  /** Compiles a cell; an interrupt ends the wait. */
  private async compile(request: CompileRequest): Promise<CompileReply> {
    let stop = () => {};
    const interrupted = new Promise<CompileReply>((resolve) => {
      stop = () => resolve({ status: 'blocked', error: INTERRUPTED });
    });
    this.compiling.add(stop);
    // A language thread that ran out of memory is replaced by a larger one: it is asked again.
    const compiled = this.language
      .compile(request)
      .catch(() => this.language.compile(request))
      .catch((error: Error): CompileReply => ({ status: 'blocked', error: internalError(error) }));
    try {
      return await Promise.race([compiled, interrupted]);
    } finally {
      this.compiling.delete(stop);
    }
  }

  private async expressions(asked: unknown) {
    const compiled: Record<string, { js: string; boxes: string[] } | CellError> = {};
    for (const [key, code] of Object.entries((asked ?? {}) as Record<string, string>)) {
      compiled[key] = await this.language.call('expression', String(code)).catch(internalError);
    }
    return compiled;
  }

  // ---- what user code sends

  private fromUserCode(message: FromChild): void {
    if (message.type === 'stream') return this.stream.add(message.run, message.name, message.text);
    this.stream.flush();
    if (message.type === 'comms') this.comms = message.comms;
    else if ('run' in message) this.forward(message, this.parents.get(message.run) ?? null);
  }

  private forward(
    message: Exclude<FromChild, { type: 'ready' | 'comms' }>,
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
      const { data, metadata } = message;
      this.lastResult = String(data['text/plain'] ?? '');
      if (parent?.content.silent === true) return;
      this.publish(
        'execute_result',
        { execution_count: this.executionCount, data, metadata },
        parent,
      );
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

function internalError(error: Error): CellError {
  const evalue = `TypeScript could not compile this cell: ${error.message.split('\n')[0]}`;
  return { ename: 'InternalError', evalue, traceback: [evalue] };
}

function page(data: MimeBundle): Json {
  return { source: 'page', data, start: 0 };
}

/** nbgrader's test cells, and cells tagged `test`, where a missing name is the student's, not the author's. */
function isTestCell(metadata: Json): boolean {
  const { nbgrader, tags } = metadata as { nbgrader?: Json; tags?: unknown[] };
  return (
    (nbgrader?.grade === true && nbgrader.solution !== true) || (tags?.includes('test') ?? false)
  );
}

function twoTurns(): Promise<void> {
  return new Promise((resolve) => setTimeout(() => setImmediate(resolve), 5));
}
