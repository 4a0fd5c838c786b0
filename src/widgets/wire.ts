// A widget's state on its comm: snake_case names, widgets as `IPY_MODEL_<id>`, and bytes taken out into
// buffers whose places `buffer_paths` tells.

type Path = (string | number)[];

/** State ready to be sent. */
export interface WireState {
  state: Record<string, unknown>;
  bufferPaths: Path[];
  buffers: Uint8Array[];
}

/** `{ barStyle }` -> `{ bar_style }`; `reference` gives the text that stands for a widget, else null. */
export function toWire(
  state: Record<string, unknown>,
  reference: (value: unknown) => string | null,
): WireState {
  const bufferPaths: Path[] = [];
  const buffers: Uint8Array[] = [];
  const convert = (value: unknown, path: Path): unknown => {
    const text = reference(value);
    if (text !== null) return text;
    if (ArrayBuffer.isView(value)) {
      bufferPaths.push(path);
      buffers.push(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
      return null;
    }
    if (Array.isArray(value)) return value.map((item, i) => convert(item, [...path, i]));
    if (!isPlain(value)) return value;
    const entries = Object.entries(value).map(([key, item]) => [
      key,
      convert(item, [...path, key]),
    ]);
    return Object.fromEntries(entries);
  };
  const entries = Object.entries(state).map(([name, value]) => {
    const key = snakeCase(name);
    return [key, convert(value, [key])] as const;
  });
  // Bytes at the top level are left out of the state itself, as ipywidgets does.
  const sent = entries.filter(([key]) => !bufferPaths.some((p) => p.length === 1 && p[0] === key));
  return { state: Object.fromEntries(sent), bufferPaths, buffers };
}

/** The way back; `widget` finds a widget by its id. */
export function fromWire(
  state: Record<string, unknown>,
  paths: readonly Path[],
  buffers: readonly Uint8Array[],
  widget: (id: string) => unknown,
): Record<string, unknown> {
  const convert = (value: unknown): unknown => {
    if (typeof value === 'string' && value.startsWith('IPY_MODEL_')) {
      return widget(value.slice('IPY_MODEL_'.length)) ?? value;
    }
    if (Array.isArray(value)) return value.map(convert);
    if (!isPlain(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, convert(item)]));
  };
  const filled = structuredClone(state);
  for (const [i, path] of paths.entries()) put(filled, path, buffers[i]);
  return Object.fromEntries(
    Object.entries(filled).map(([key, value]) => [camelCase(key), convert(value)]),
  );
}

function put(target: unknown, path: Path, value: unknown): void {
  let at = target as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) at = at[key] as Record<string | number, unknown>;
  at[path.at(-1)!] = value;
}

function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function camelCase(name: string): string {
  return name.replace(/(?<=.)_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
