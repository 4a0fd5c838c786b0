// The debug adapter: Jupyter's `debug_request` (Debug Adapter Protocol) on V8's inspector in the process of
// the user's code. Breakpoints are lines of a cell's TypeScript; they hold for every run of the same text.

import {
  cellPath,
  DebugScripts,
  FOREIGN,
  HASH_SEED,
  PATH_PREFIX,
  PATH_SUFFIX,
} from './debug-scripts.ts';
import {
  type CallFrame,
  DebugValues,
  type Inspector,
  LIVE_SCOPE,
  type RemoteObject,
} from './debug-values.ts';
import type { Json } from './message.ts';

interface Breakpoint {
  line: number;
  condition?: string;
  logMessage?: string;
}

const THREAD = 1;
const STOP_REASONS: Record<string, string> = {
  exception: 'exception',
  promiseRejection: 'exception',
};

/** Translates between the Debug Adapter Protocol and V8's inspector. */
export class Debugger {
  private readonly inspector: Inspector;
  private readonly send: (event: Json) => void;
  private readonly scripts = new DebugScripts();
  private readonly values: DebugValues;
  /** Breakpoints by path of the source, and the inspector's ids for them. */
  private readonly breakpoints = new Map<string, Breakpoint[]>();
  private readonly placed = new Map<string, string[]>();
  private frames: CallFrame[] = [];
  private isAttached = false;
  private isPaused = false;
  private isStepping = false;
  private exceptions: 'none' | 'all' = 'none';
  private seq = 0;

  /** `send` publishes a `debug_event`. */
  constructor(inspector: Inspector, send: (event: Json) => void) {
    this.inspector = inspector;
    this.send = send;
    this.values = new DebugValues(inspector);
  }

  /** The script name of a cell: the same for the same text. */
  pathOf(code: string): string {
    return cellPath(code);
  }

  /** A compiled cell that is about to run: its breakpoints can be placed now. */
  async add(path: string, cell: { label: string; source: string; map: string }): Promise<void> {
    this.scripts.addCell(path, cell);
    if (this.isAttached && this.breakpoints.has(path)) await this.place(path);
  }

  /** An interrupt must also end a paused cell. */
  interrupt(): void {
    if (this.isPaused)
      void this.inspector('Debugger.resume', { terminateOnResume: true }).catch(() => {});
  }

  /** The process was replaced: what was placed in the old one is placed in the new one. */
  reset(): void {
    this.placed.clear();
    this.resumed();
    if (this.isAttached) void this.enable().catch(() => {});
  }

  /** An event of the inspector. */
  event(method: string, params: object): void {
    if (method === 'Debugger.scriptParsed') {
      const { scriptId, url, sourceMapURL } = params as Record<
        'scriptId' | 'url' | 'sourceMapURL',
        string
      >;
      this.scripts.addScript(scriptId, url, sourceMapURL ?? '');
    } else if (method === 'Debugger.paused') {
      this.paused(params as { callFrames: CallFrame[]; reason: string; hitBreakpoints?: string[] });
    } else if (method === 'Debugger.resumed' && this.isPaused) {
      this.resumed();
      this.emit('continued', { threadId: THREAD, allThreadsContinued: true });
    }
  }

  /** Answers a request; what goes wrong is told in the answer. */
  async request(request: Json): Promise<Json> {
    const command = String(request.command);
    const answer = { type: 'response', request_seq: request.seq ?? 0, command, seq: ++this.seq };
    try {
      const body = await this.command(command, (request.arguments ?? {}) as Json);
      return { ...answer, success: true, body };
    } catch (error) {
      return { ...answer, success: false, message: (error as Error).message, body: {} };
    }
  }

  private async command(command: string, args: Json): Promise<Json> {
    switch (command) {
      case 'debugInfo':
        return this.info();
      case 'initialize':
        return CAPABILITIES;
      case 'attach':
      case 'launch':
        return this.attach();
      case 'disconnect':
      case 'terminate':
        return this.disconnect();
      case 'configurationDone':
        return {};
      case 'dumpCell':
        return { sourcePath: this.scripts.dumpCell(String(args.code ?? '')) };
      case 'setBreakpoints':
        return this.setBreakpoints(args);
      case 'setExceptionBreakpoints':
        return this.setExceptionBreakpoints(args);
      case 'source':
        return this.source(args);
      case 'threads':
        return { threads: [{ id: THREAD, name: 'main' }] };
      case 'modules':
        return { modules: [], totalModules: 0 };
      case 'stackTrace':
        return this.stackTrace();
      case 'scopes':
        return { scopes: await this.values.scopes(this.frame(args.frameId)) };
      case 'variables':
        return { variables: await this.values.variables(Number(args.variablesReference)) };
      case 'inspectVariables':
        return { variables: await this.values.notebook() };
      case 'richInspectVariables':
        return this.richInspect(args);
      case 'evaluate':
        return this.evaluate(args);
      case 'continue':
        return this.go('Debugger.resume', { allThreadsContinued: true });
      case 'next':
        return this.go('Debugger.stepOver');
      case 'stepIn':
        return this.go('Debugger.stepInto');
      case 'stepOut':
        return this.go('Debugger.stepOut');
      case 'pause':
        await this.inspector('Debugger.pause');
        return {};
      default:
        throw new Error(`The debugger has no command '${command}'`);
    }
  }

  private info(): Json {
    const breakpoints = [...this.breakpoints].map(([source, list]) => ({
      source,
      breakpoints: list,
    }));
    return {
      ...{ isStarted: this.isAttached, hashMethod: 'Murmur2', hashSeed: HASH_SEED },
      ...{ tmpFilePrefix: PATH_PREFIX, tmpFileSuffix: PATH_SUFFIX, breakpoints },
      ...{ stoppedThreads: this.isPaused ? [THREAD] : [], richRendering: true },
      ...{ exceptionPaths: [], copyToGlobals: false },
    };
  }

  private async attach(): Promise<Json> {
    this.isAttached = true;
    await this.enable();
    this.emit('initialized', {});
    return {};
  }

  private async enable(): Promise<void> {
    await this.inspector('Runtime.enable');
    await this.inspector('Debugger.enable');
    await this.inspector('Debugger.setBlackboxPatterns', { patterns: FOREIGN });
    await this.inspector('Debugger.setPauseOnExceptions', { state: this.exceptions });
    for (const path of this.breakpoints.keys()) await this.place(path);
  }

  private async disconnect(): Promise<Json> {
    if (!this.isAttached) return {};
    this.isAttached = false;
    this.breakpoints.clear();
    this.placed.clear();
    this.exceptions = 'none';
    // Disabling removes breakpoints and lets paused code go on.
    await this.inspector('Debugger.disable');
    await this.inspector('Runtime.disable');
    this.resumed();
    return {};
  }

  private async setBreakpoints(args: Json): Promise<Json> {
    const path = String((args.source as Json | undefined)?.path ?? '');
    const asked = (args.breakpoints ?? []) as Breakpoint[];
    if (asked.length > 0) this.breakpoints.set(path, asked);
    else this.breakpoints.delete(path);
    const lines = this.isAttached ? await this.place(path) : asked.map(({ line }) => line);
    const source = { path };
    return { breakpoints: lines.map((line, id) => ({ id, verified: true, line, source })) };
  }

  /** Puts the breakpoints of a source into the inspector; the lines on which they came to lie. */
  private async place(path: string): Promise<number[]> {
    for (const breakpointId of this.placed.get(path) ?? []) {
      await this.inspector('Debugger.removeBreakpoint', { breakpointId }).catch(() => {});
    }
    const ids: string[] = [];
    const lines: number[] = [];
    for (const { line, condition, logMessage } of this.breakpoints.get(path) ?? []) {
      const at = this.scripts.generated(path, line);
      lines.push(at?.line ?? line);
      if (!at) continue; // The cell has not been compiled yet: `add` places it.
      const { url, lineNumber, columnNumber } = at;
      const { breakpointId } = await this.inspector('Debugger.setBreakpointByUrl', {
        ...{ url, lineNumber, columnNumber },
        ...(logMessage || condition ? { condition: breakCondition(condition, logMessage) } : {}),
      });
      ids.push(String(breakpointId));
    }
    this.placed.set(path, ids);
    return lines;
  }

  private async setExceptionBreakpoints(args: Json): Promise<Json> {
    this.exceptions = ((args.filters ?? []) as string[]).length > 0 ? 'all' : 'none';
    if (this.isAttached)
      await this.inspector('Debugger.setPauseOnExceptions', { state: this.exceptions });
    return {};
  }

  private source(args: Json): Json {
    const path = String((args.source as Json | undefined)?.path ?? '');
    const content = this.scripts.text(path);
    if (content === null) throw new Error(`There is no source '${path}'`);
    return { content, mimeType: 'text/typescript' };
  }

  private paused(params: {
    callFrames: CallFrame[];
    reason: string;
    hitBreakpoints?: string[];
  }): void {
    const isUser =
      params.callFrames.length > 0 && this.scripts.isUser(params.callFrames[0]!.location.scriptId);
    if (!isUser) {
      // Node or a package: go on to where the user's code is again.
      const method = this.isStepping ? 'Debugger.stepOut' : 'Debugger.resume';
      void this.inspector(method).catch(() => {});
      return;
    }
    this.isPaused = true;
    this.frames = params.callFrames;
    const reason =
      STOP_REASONS[params.reason] ??
      (params.hitBreakpoints?.length ? 'breakpoint' : this.isStepping ? 'step' : 'pause');
    this.isStepping = false;
    this.emit('stopped', { reason, threadId: THREAD, allThreadsStopped: true });
  }

  private resumed(): void {
    this.isPaused = false;
    this.frames = [];
    this.values.clear();
  }

  private async go(method: string, body: Json = {}): Promise<Json> {
    this.isStepping = method !== 'Debugger.resume';
    await this.inspector(method);
    return body;
  }

  private stackTrace(): Json {
    const stackFrames = this.frames.flatMap((frame, index) => {
      const { scriptId, lineNumber, columnNumber = 0 } = frame.location;
      const place = this.scripts.place(scriptId, { lineNumber, columnNumber });
      if (!place) return [];
      const { name, path, line, column } = place;
      return [
        { id: index + 1, name: frame.functionName || name, source: { name, path }, line, column },
      ];
    });
    return { stackFrames, totalFrames: stackFrames.length };
  }

  private frame(id: unknown): CallFrame {
    const frame = this.frames[Number(id) - 1];
    if (!frame)
      throw new Error(
        `There is no frame ${id}; the code is ${this.isPaused ? 'paused' : 'not paused'}`,
      );
    return frame;
  }

  /** Evaluates in a frame, or outside; a name that is unknown there is looked for in the live scope. */
  private async evaluate(args: Json): Promise<Json> {
    const value = await this.value(String(args.expression ?? ''), args.frameId);
    const { value: result, type, variablesReference } = this.values.variable('', value);
    return { result, type, variablesReference };
  }

  private async value(expression: string, frameId: unknown): Promise<RemoteObject> {
    const frame = this.frames.length > 0 && frameId ? this.frame(frameId) : null;
    let text = expression;
    for (;;) {
      const { result, exceptionDetails } = (await (frame
        ? this.inspector('Debugger.evaluateOnCallFrame', {
            callFrameId: frame.callFrameId,
            expression: text,
          })
        : this.inspector('Runtime.evaluate', { expression: text }))) as {
        result: RemoteObject;
        exceptionDetails?: { text: string; exception?: RemoteObject };
      };
      if (!exceptionDetails) return result;
      const message = exceptionDetails.exception?.description ?? exceptionDetails.text;
      const unknown = /^ReferenceError: ([\w$]+) is not defined/.exec(message)?.[1];
      const next = unknown ? throughLiveScope(text, unknown) : text;
      if (next === text) throw new Error(message.split('\n')[0]);
      text = next;
    }
  }

  private async richInspect(args: Json): Promise<Json> {
    const name = String(args.variableName);
    const value = await this.value(name, args.frameId);
    const data = value.objectId
      ? await this.inspector('Runtime.callFunctionOn', {
          ...{ objectId: value.objectId, returnByValue: true },
          functionDeclaration:
            "function () { return globalThis[Symbol.for('peftlab.bundle')](this); }",
        })
      : { result: { value: { 'text/plain': String(value.value ?? value.description) } } };
    return { data: (data.result as RemoteObject).value, metadata: {} };
  }

  private emit(event: string, body: Json): void {
    this.send({ type: 'event', seq: ++this.seq, event, body });
  }
}

/** The same expression with `name` read from the cells' live scope. */
function throughLiveScope(expression: string, name: string): string {
  const word = new RegExp(`(?<![\\w$.'"\`])${name.replaceAll('$', '\\$')}(?![\\w$:])`, 'g');
  return expression.replace(word, () => `${LIVE_SCOPE}.${name}`);
}

/** A log message prints `{expressions}` and never stops. */
function breakCondition(condition = 'true', logMessage?: string): string {
  if (!logMessage) return condition;
  const parts = logMessage
    .split(/\{([^}]*)\}/)
    .map((part, i) => (i % 2 ? `(${part})` : JSON.stringify(part)));
  return `((${condition}) && console.log([${parts.join(', ')}].join('')), false)`;
}

const CAPABILITIES: Json = {
  supportsConfigurationDoneRequest: true,
  supportsConditionalBreakpoints: true,
  supportsLogPoints: true,
  supportsEvaluateForHovers: true,
  supportsTerminateRequest: true,
  exceptionBreakpointFilters: [
    {
      filter: 'raised',
      label: 'Raised exceptions',
      default: false,
      description: 'Stops wherever a cell throws',
    },
  ],
};
