// A widget: its state lives here, and views in the front end mirror it over a comm of target
// `jupyter.widget` (Jupyter's widget messaging protocol 2.1, as ipywidgets 8 speaks it). Names are
// camelCase here and snake_case on the comm.
import { fromWire, toWire, type WireState } from './wire.ts';

/** Which model and view of the front end's libraries show a widget. */
export interface ModelNames {
  /** Name of the class, such as `FloatSlider`. */
  name: string;
  model: string;
  view: string | null;
  module: string;
  version: string;
  /** Module of the view, where it is another. */
  viewModule?: string;
  viewVersion?: string;
}

/** A property that got another value. */
export interface Change<T = unknown> {
  name: string;
  old: T;
  new: T;
  owner: Widget;
}

/** Called after a change; a promise that it gives keeps the front end from sending more. */
// biome-ignore lint/suspicious/noExplicitAny: the value's type is that of the property observed
export type Observer = (change: Change<any>) => unknown;

type State = Record<string, unknown>;

const TARGET = 'jupyter.widget';
const CONTROL_TARGET = 'jupyter.widget.control';
const PROTOCOL_VERSION = '2.1.0';
const VIEW_MIME = 'application/vnd.jupyter.widget-view+json';
const openWidgets = new Map<string, Widget>();

/** One widget; `S` is its state. */
export class Widget<S extends object = object> {
  /** Id of the model, and of its comm. */
  readonly modelId: string;
  protected readonly names: ModelNames;
  protected readonly state: State;
  private readonly comm: KernelComm;
  private readonly observers: { observer: Observer; names: readonly string[] | null }[] = [];

  constructor(names: ModelNames, state: object) {
    this.names = names;
    const { model, view, module, version, viewModule = module, viewVersion = version } = names;
    this.state = {
      ...{ _modelModule: module, _modelModuleVersion: version, _modelName: model },
      ...{ _viewModule: viewModule, _viewModuleVersion: viewVersion, _viewName: view },
      ...{ _viewCount: null, ...state },
    };
    const { state: sent, bufferPaths, buffers } = this.wireState();
    this.comm = Comm.open(
      TARGET,
      { state: sent, buffer_paths: bufferPaths },
      { metadata: { version: PROTOCOL_VERSION }, buffers },
    );
    this.modelId = this.comm.id;
    this.comm.onMessage = (event) => this.receive(event);
    this.comm.onClose = () => openWidgets.delete(this.modelId);
    openWidgets.set(this.modelId, this as Widget);
  }

  /** The value of one property. */
  get<K extends keyof S & string>(name: K): S[K] {
    return this.state[name] as S[K];
  }

  /** Changes properties here and in the front end, then calls the observers. */
  set(values: Partial<S>): void {
    const changes = this.assign(values as State);
    if (changes.length === 0) return;
    this.sendState(changes.map((change) => change.name));
    this.notify(changes);
  }

  /** Calls `observer` when one of `names` (default `value`; null: any) changes, by code or by hand. */
  observe(observer: Observer, names: string | readonly string[] | null = 'value'): void {
    this.observers.push({ observer, names: typeof names === 'string' ? [names] : names });
  }

  /** Stops calling `observer`. */
  unobserve(observer: Observer): void {
    const kept = this.observers.filter((entry) => entry.observer !== observer);
    this.observers.splice(0, this.observers.length, ...kept);
  }

  /** Removes the widget from the front end; it can't be used any more. */
  close(): void {
    openWidgets.delete(this.modelId);
    this.comm.close();
  }

  /** State as it goes over the comm: all of it, or that of `names`. */
  wireState(names: readonly string[] = Object.keys(this.state)): WireState {
    return toWire(Object.fromEntries(names.map((name) => [name, this.state[name]])), (value) =>
      value instanceof Widget ? `IPY_MODEL_${value.modelId}` : null,
    );
  }

  /** How Jupyter shows it; without widgets, as words. */
  [Symbol.for('Jupyter.display')](): Record<string, unknown> {
    const view = { version_major: 2, version_minor: 0, model_id: this.modelId };
    return { 'text/plain': this.toString(), ...(this.names.view ? { [VIEW_MIME]: view } : {}) };
  }

  /** What `console.log` shows. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }

  toString(): string {
    const shown = ['value', 'index', 'min', 'max', 'description', 'titles'];
    const parts = shown
      .filter((name) => this.state[name] !== undefined && this.state[name] !== '')
      .map((name) => `${name}=${JSON.stringify(this.state[name])}`);
    const children = this.state.children as unknown[] | undefined;
    return `${this.names.name}(${children ? children.map(String).join(', ') : parts.join(', ')})`;
  }

  /** Values as they must be: overridden where a property has limits. */
  protected coerce(values: State): State {
    return values;
  }

  /** Changes that follow from one of a property, itself included. */
  protected changesOf(name: string, old: unknown, next: unknown): Change[] {
    return [{ name, old, new: next, owner: this as Widget }];
  }

  /** Takes an event of a view, such as a click. */
  protected receiveEvent(_content: State): unknown {
    return undefined;
  }

  private assign(values: State): { name: string; old: unknown }[] {
    const next = this.coerce(values);
    return Object.keys(next).flatMap((name) => {
      const old = this.state[name];
      if (isSame(old, next[name])) return [];
      this.state[name] = next[name];
      return [{ name, old }];
    });
  }

  private sendState(names: readonly string[]): void {
    const { state, bufferPaths, buffers } = this.wireState(names);
    this.comm.send({ method: 'update', state, buffer_paths: bufferPaths }, { buffers });
  }

  private notify(changed: readonly { name: string; old: unknown }[]): Promise<unknown> {
    const changes = changed.flatMap(({ name, old }) => this.changesOf(name, old, this.state[name]));
    const calls = changes.flatMap((change) =>
      [...this.observers]
        .filter(({ names }) => names === null || names.includes(change.name))
        .map(({ observer }) => observer(change)),
    );
    return Promise.all(calls);
  }

  private receive({ data, buffers }: KernelCommEvent): unknown {
    if (data.method === 'request_state') return this.sendState(Object.keys(this.state));
    if (data.method === 'custom') return this.receiveEvent((data.content ?? {}) as State);
    if (data.method !== 'update') return undefined;
    const { state = {}, buffer_paths: paths = [] } = data as {
      state?: State;
      buffer_paths?: (string | number)[][];
    };
    const asked = fromWire(state, paths, buffers, (id) => openWidgets.get(id));
    // Other views of the same widget, in another tab, follow; the one that moved knows that it was heard.
    this.comm.send({ method: 'echo_update', state, buffer_paths: paths }, { buffers });
    const changes = this.assign(asked);
    const corrected = Object.keys(asked).filter((name) => !isSame(asked[name], this.state[name]));
    if (corrected.length > 0) this.sendState(corrected);
    return this.notify(changes);
  }
}

function isSame(a: unknown, b: unknown): boolean {
  if (a === b || Number.isNaN(a)) return Object.is(a, b) || a === b;
  if (!Array.isArray(a) || !Array.isArray(b)) return false;
  return a.length === b.length && a.every((item, i) => isSame(item, b[i]));
}

/** A page that is loaded anew asks here for all widgets at once. */
function answerStates(comm: KernelComm, { data }: KernelCommEvent): void {
  if (data.method !== 'request_states') return;
  const states: State = {};
  const paths: (string | number)[][] = [];
  const all: Uint8Array[] = [];
  for (const [id, widget] of openWidgets) {
    const { state, bufferPaths, buffers } = widget.wireState();
    const { _model_name, _model_module, _model_module_version } = state;
    states[id] = {
      ...{ model_name: _model_name, model_module: _model_module },
      ...{ model_module_version: _model_module_version, state },
    };
    paths.push(...bufferPaths.map((path) => [id, ...path]));
    all.push(...buffers);
  }
  comm.send({ method: 'update_states', states, buffer_paths: paths }, { buffers: all });
}

Comm.registerTarget(CONTROL_TARGET, (comm) => {
  comm.onMessage = (event) => answerStates(comm, event);
});
