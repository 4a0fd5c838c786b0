// Keeps properties of two widgets equal: in the kernel (`link`), or in the front end alone (`jslink`), which
// also works without a kernel.
import { Widget } from './widget.ts';

/** A widget and the name of one of its properties. */
export type LinkEnd = readonly [widget: Widget, name: string];

const CONTROLS = { module: '@jupyter-widgets/controls', version: '2.0.0' };

/** Each of the two follows the other from now on; gives a function that ends it. */
export function link(source: LinkEnd, target: LinkEnd): () => void {
  const forward = dlink(source, target, (value) => value);
  const backward = follow(target, source, (value) => value);
  return () => {
    forward();
    backward();
  };
}

/** `target` follows `source`, through `transform`; gives a function that ends it. */
export function dlink(
  source: LinkEnd,
  target: LinkEnd,
  transform: (value: unknown) => unknown = (value) => value,
): () => void {
  write(target, transform(read(source)));
  return follow(source, target, transform);
}

function follow(source: LinkEnd, target: LinkEnd, transform: (value: unknown) => unknown) {
  const [widget, name] = source;
  const observer = (change: { new: unknown }): void => write(target, transform(change.new));
  widget.observe(observer, name);
  return () => widget.unobserve(observer);
}

function read([widget, name]: LinkEnd): unknown {
  return Reflect.get(widget, name);
}

function write([widget, name]: LinkEnd, value: unknown): void {
  Reflect.set(widget, name, value);
}

/** Each of the two follows the other, in the front end; `close()` ends it. */
export function jslink(source: LinkEnd, target: LinkEnd): Widget {
  const names = { name: 'Link', model: 'LinkModel', view: null, ...CONTROLS };
  return new Widget(names, { source: [...source], target: [...target] });
}
