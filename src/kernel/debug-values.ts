// Variables for the debugger: scopes of a paused frame, the live scope of all cells, and the parts of
// a value, each under a reference that is good until the code goes on.
import type { Json } from './message.ts';

/** Calls the inspector of the user's process. */
export type Inspector = (method: string, params?: object) => Promise<Record<string, unknown>>;

/** A value as the inspector gives it. */
export interface RemoteObject {
  type: string;
  subtype?: string;
  className?: string;
  value?: unknown;
  unserializableValue?: string;
  description?: string;
  objectId?: string;
}

/** A frame of a paused script. */
export interface CallFrame {
  callFrameId: string;
  functionName: string;
  location: { scriptId: string; lineNumber: number; columnNumber?: number };
  scopeChain: { type: string; object: RemoteObject; name?: string }[];
}

interface Property {
  name: string;
  value?: RemoteObject;
  get?: RemoteObject;
  isOwn?: boolean;
}

/** Evaluates to an object of all top-level names of the cells; child.ts puts it there. */
export const LIVE_SCOPE = "globalThis[Symbol.for('peftlab.scope')]()";

const SCOPE_NAMES: Record<string, string> = {
  local: 'Locals',
  block: 'Block',
  closure: 'Closure',
  catch: 'Catch',
  module: 'Module',
};

/** Hands out references to values. */
export class DebugValues {
  private readonly inspector: Inspector;
  private readonly references = new Map<number, string>();
  private last = 0;

  constructor(inspector: Inspector) {
    this.inspector = inspector;
  }

  /** Forgets all references: the code goes on. */
  clear(): void {
    this.references.clear();
  }

  /** Scopes of a frame, innermost first, then the names of all cells. */
  async scopes(frame: CallFrame): Promise<Json[]> {
    const own = frame.scopeChain.flatMap(({ type, object }) => {
      const name = SCOPE_NAMES[type];
      return name ? [this.scope(name, object)] : [];
    });
    const { result } = await this.inspector('Runtime.evaluate', { expression: LIVE_SCOPE });
    return [...own, this.scope('Notebook', result as RemoteObject)];
  }

  private scope(name: string, object: RemoteObject): Json {
    return { name, variablesReference: this.reference(object), expensive: false };
  }

  /** The variables behind a reference; the boxes of top-level names are left out. */
  async variables(reference: number): Promise<Json[]> {
    const objectId = this.references.get(reference);
    if (objectId === undefined) return [];
    const { result } = await this.inspector('Runtime.getProperties', {
      ...{ objectId, ownProperties: true, generatePreview: false },
    });
    return (result as Property[])
      .filter(({ name, value }) => value !== undefined && !name.startsWith('__$'))
      .map(({ name, value }) => this.variable(name, value!));
  }

  /** Top-level names of all cells. */
  async notebook(): Promise<Json[]> {
    const { result } = await this.inspector('Runtime.evaluate', { expression: LIVE_SCOPE });
    return this.variables(this.reference(result as RemoteObject));
  }

  /** One variable as the Debug Adapter Protocol has it. */
  variable(name: string, value: RemoteObject): Json {
    const variablesReference = this.reference(value);
    // JupyterLab shows the type in the place of the value, where it has one: of a number, the number counts.
    const type = value.className ?? value.subtype ?? value.type;
    return {
      ...{ name, evaluateName: name, value: textOf(value), variablesReference },
      ...(variablesReference === 0 ? {} : { type }),
    };
  }

  private reference(value: RemoteObject): number {
    if (value.objectId === undefined || value.type === 'symbol') return 0;
    this.references.set(++this.last, value.objectId);
    return this.last;
  }
}

/** A value on one line. */
export function textOf(value: RemoteObject): string {
  if (value.type === 'string') return JSON.stringify(value.value);
  if (value.unserializableValue !== undefined) return value.unserializableValue;
  if (value.type === 'function') return String(value.description ?? '').split('\n')[0]!;
  if ('value' in value && value.objectId === undefined) return String(value.value);
  return value.description ?? value.className ?? value.type;
}
