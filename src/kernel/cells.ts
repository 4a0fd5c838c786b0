// The cells of a session: each waits in the queue of its shell or subshell, is compiled, run in the process
// of the user's code, and answered; an error aborts what waits behind it.
import { randomUUID } from 'node:crypto';
import type { Debugger } from './debugger.ts';
import type { History } from './history.ts';
import type { CompileReply, CompileRequest } from './language.ts';
import type { LanguageClient } from './language-client.ts';
import type { Json, Message } from './message.ts';
import type { CellError, FromChild, MimeBundle, RunRequest } from './protocol.ts';
import type { StreamBatch } from './stream-batch.ts';
import { INTERRUPTED, type RunResult, type UserProcess } from './user-process.ts';

/** What cells need of the kernel. */
export interface CellServices {
  language: LanguageClient;
  process: UserProcess;
  debugger: Debugger;
  history: History;
  stream: StreamBatch;
  publish: (type: string, content: Json, parent: Message) => void;
  reply: (message: Message, content: Json) => void;
}

/** Cells that wait for their turn in the main shell or in a subshell. */
interface Queue {
  id: string | null;
  waiting: Message[];
  isBusy: boolean;
  running: Message | null;
}

/** One cell on its way. */
interface Turn {
  run: number;
  message: Message;
  /** Execution count, shown as `In[count]`. */
  count: number;
  /** Plain text of its result, for the history. */
  result: string;
}

/** What came of a cell. */
type Outcome = RunResult & { payload: Json[] };

const KEPT_TURNS = 200;

/** Runs cells in their order, one at a time per shell. */
export class Cells {
  private readonly services: CellServices;
  private readonly main: Queue = {
    id: null,
    waiting: [],
    isBusy: false,
    running: null,
  };
  private readonly subshells = new Map<string, Queue>();
  private readonly turns = new Map<number, Turn>();
  /** Cells that the process does not have yet: an interrupt ends them before they run. */
  private readonly starting = new Set<AbortController>();
  private executionCount = 0;
  private runs = 0;

  constructor(services: CellServices) {
    this.services = services;
  }

  /** Takes an `execute_request`. */
  add(message: Message): void {
    const id = message.header.subshell_id;
    const queue = typeof id === 'string' ? this.subshells.get(id) : this.main;
    if (!queue) return this.refuse(message, this.noSubshell(String(id)));
    queue.waiting.push(message);
    if (!queue.isBusy) void this.drain(queue);
  }

  /** Ends the cells that run, or are about to. */
  interrupt(): void {
    for (const cell of this.starting) cell.abort();
    this.services.debugger.interrupt();
    this.services.process.interrupt();
  }

  /** The cell of the main shell that runs now. */
  running(): Message | null {
    return this.main.running;
  }

  /** The request that run number `run` answers; null if it was long ago. */
  messageOf(run: number): Message | null {
    return this.turns.get(run)?.message ?? null;
  }

  /** Publishes the value of a cell. */
  result({ run, data, metadata }: FromChild & { type: 'result' }): void {
    const turn = this.turns.get(run);
    if (!turn) return;
    turn.result = String(data['text/plain'] ?? '');
    if (turn.message.content.silent === true) return;
    const content = { execution_count: turn.count, data, metadata };
    this.services.publish('execute_result', content, turn.message);
  }

  /** Opens a subshell, whose cells run beside those of the main shell. */
  createSubshell(): Json {
    const id = randomUUID();
    this.subshells.set(id, { id, waiting: [], isBusy: false, running: null });
    return { status: 'ok', subshell_id: id };
  }

  /** Closes a subshell. */
  deleteSubshell(id: string): Json {
    return this.subshells.delete(id) ? { status: 'ok' } : this.noSubshell(id);
  }

  /** Ids of all subshells. */
  subshellIds(): string[] {
    return [...this.subshells.keys()];
  }

  private noSubshell(id: string): Json {
    const evalue = `No subshell '${id}'; have ${this.subshellIds().join(', ') || 'none'}`;
    return { status: 'error', ename: 'RangeError', evalue, traceback: [] };
  }

  private async drain(queue: Queue): Promise<void> {
    queue.isBusy = true;
    for (let next = queue.waiting.shift(); next; next = queue.waiting.shift()) {
      const isOk = await this.execute(next, queue);
      if (!isOk && next.content.stop_on_error !== false) this.abort(queue);
    }
    queue.isBusy = false;
  }

  /** After an error, what was sent together with the failed cell must not run. */
  private abort(queue: Queue): void {
    for (const message of queue.waiting.splice(0)) {
      this.refuse(message, { status: 'aborted', execution_count: this.executionCount });
    }
  }

  /** Answers a cell that is not run. */
  private refuse(message: Message, reply: Json): void {
    this.services.publish('status', { execution_state: 'busy' }, message);
    this.services.reply(message, reply);
    this.services.publish('status', { execution_state: 'idle' }, message);
  }

  private async execute(message: Message, queue: Queue): Promise<boolean> {
    const { history, publish, reply, stream } = this.services;
    const code = String(message.content.code ?? '');
    const silent = message.content.silent === true;
    const stored = message.content.store_history !== false && !silent && code.trim() !== '';
    if (stored) this.executionCount++;
    const turn: Turn = { run: ++this.runs, message, count: this.executionCount, result: '' };
    this.turns.set(turn.run, turn);
    this.turns.delete(turn.run - KEPT_TURNS);
    queue.running = message;
    publish('status', { execution_state: 'busy' }, message);
    if (!silent) publish('execute_input', { code, execution_count: turn.count }, message);
    const { error, expressions, payload } = await this.run(turn, queue);
    stream.flush();
    if (error && !silent) publish('error', { ...error }, message);
    // Requests that came in the same breath are in the queue before the outcome is known.
    if (error) await aMoment();
    reply(message, {
      status: error ? 'error' : 'ok',
      execution_count: turn.count,
      ...(error ?? { user_expressions: expressions }),
      payload,
    });
    queue.running = null;
    publish('status', { execution_state: 'idle' }, message);
    if (stored) history.add(turn.count, code, turn.result);
    return error === null;
  }

  private async run(turn: Turn, queue: Queue): Promise<Outcome> {
    const cell = new AbortController();
    this.starting.add(cell);
    const prepared = this.prepare(turn, queue, cell.signal);
    const request = await prepared.finally(() => this.starting.delete(cell));
    if (!('type' in request)) return request;
    return { ...(await this.services.process.run(request)), payload: [] };
  }

  /** What the process is to run; or what came of a cell that it need not, or may not. */
  private async prepare(
    turn: Turn,
    queue: Queue,
    signal: AbortSignal,
  ): Promise<RunRequest | Outcome> {
    const { run, message, count } = turn;
    const { content, metadata } = message;
    const code = String(content.code ?? '');
    const label = `In[${count || run}]`;
    const path = this.services.debugger.pathOf(code);
    const asked = { code, label, path, isTest: isTestCell(metadata) };
    const compiled = await this.compile(asked, signal);
    if (compiled.status === 'blocked') {
      return { error: compiled.error, expressions: {}, payload: [] };
    }
    if (compiled.status === 'page') {
      return { error: null, expressions: {}, payload: [page(compiled.data)] };
    }
    const { js, map, boxes, declares, warnings } = compiled;
    if (warnings) {
      this.services.publish('stream', { name: 'stdout', text: `${warnings}\n` }, message);
    }
    await this.services.debugger.add(path, { label, source: code, map });
    const expressions = await this.expressions(content.user_expressions);
    if (signal.aborted) return { error: INTERRUPTED, expressions: {}, payload: [] };
    return {
      type: 'run',
      ...{ run, label, path, source: code, js, map, boxes, declares },
      expressions,
      isSubshell: queue.id !== null,
      allowStdin: content.allow_stdin === true,
      messageId: String(message.header.msg_id),
    };
  }

  /** Compiles a cell; an interrupt ends the wait. */
  private compile(request: CompileRequest, signal: AbortSignal): Promise<CompileReply> {
    const { language } = this.services;
    const interrupted = new Promise<CompileReply>((resolve) => {
      signal.addEventListener('abort', () => resolve({ status: 'blocked', error: INTERRUPTED }));
    });
    // A language thread that ran out of memory is replaced by a larger one: it is asked again.
    const compiled = language
      .compile(request)
      .catch(() => language.compile(request))
      .catch((error: Error): CompileReply => ({ status: 'blocked', error: internalError(error) }));
    return Promise.race([compiled, interrupted]);
  }

  private async expressions(asked: unknown) {
    const { language } = this.services;
    const compiled: Record<string, { js: string; boxes: string[] } | CellError> = {};
    for (const [key, code] of Object.entries((asked ?? {}) as Record<string, string>)) {
      compiled[key] = await language.call('expression', String(code)).catch(internalError);
    }
    return compiled;
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
  const isGraded = nbgrader?.grade === true && nbgrader.solution !== true;
  return isGraded || (tags?.includes('test') ?? false);
}

function aMoment(): Promise<void> {
  return new Promise((resolve) => setTimeout(() => setImmediate(resolve), 5));
}
