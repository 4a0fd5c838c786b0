// Makes the class of a control from its name, its defaults and its limits: `new FloatSlider({ min: 0 })` with
// a property for each name of its state.
import { Layout, type LayoutState, Style, type StyleName } from './layout.ts';
import { type ModelNames, Widget } from './widget.ts';

/** What every control has. */
export interface ControlState {
  layout: Layout | Partial<LayoutState>;
  style: Style | Record<string, string | null>;
  tooltip: string | null;
  /** Whether the Tab key reaches it; null leaves that to the browser. */
  tabbable: boolean | null;
}

/** A control with a label before it. */
export interface DescribedState extends ControlState {
  description: string;
  descriptionAllowHtml: boolean;
  disabled: boolean;
}

/** A class of controls whose state is `S`. */
export type ControlClass<S extends object> = new (state?: Partial<S>) => Widget<S> & S;

/** How to make a class of controls. */
export interface ControlSpec<S extends object> {
  name: string;
  /** Name of the view where it is not `<name>View`. */
  view?: string;
  module?: { module: string; version: string };
  style?: StyleName;
  defaults: Omit<S, keyof ControlState>;
  /** Brings `next` within the control's limits; `now` is the state before. */
  coerce?: (next: Partial<S>, now: S) => Partial<S>;
}

/** Defaults of controls with a description. */
export const DESCRIBED = { description: '', descriptionAllowHtml: false, disabled: false };

const CONTROLS = { module: '@jupyter-widgets/controls', version: '2.0.0' };

/** The class of a control. */
export function controlClass<S extends ControlState>(spec: ControlSpec<S>): ControlClass<S> {
  const { name, view = `${name}View`, module = CONTROLS, style, defaults, coerce } = spec;
  const names: ModelNames = { name, model: `${name}Model`, view, ...module };
  class Control extends Widget<S> {
    constructor(state: Partial<S> = {}) {
      const { layout = {}, style: ownStyle = {}, ...rest } = state;
      refuseUnknown(name, rest, defaults);
      const full = { tooltip: null, tabbable: null, ...defaults, ...rest };
      super(names, {
        ...{ _domClasses: [], ...full, ...coerce?.(full as unknown as S, full as unknown as S) },
        layout: layout instanceof Layout ? layout : new Layout(layout as Partial<LayoutState>),
        ...(style ? { style: toStyle(style, ownStyle) } : {}),
      });
    }

    protected override coerce(values: Record<string, unknown>): Record<string, unknown> {
      const next = coerce?.(values as Partial<S>, this.state as S) ?? {};
      return { ...values, ...next };
    }
  }
  for (const key of [...Object.keys(defaults), 'layout', 'style', 'tooltip', 'tabbable']) {
    if (key.startsWith('_')) continue;
    Object.defineProperty(Control.prototype, key, {
      configurable: true,
      get(this: Control) {
        return this.state[key];
      },
      set(this: Control, value: unknown) {
        this.set({ [key]: value } as Partial<S>);
      },
    });
  }
  Object.defineProperty(Control, 'name', { value: name });
  return Control as unknown as ControlClass<S>;
}

function toStyle(name: StyleName, style: unknown): Style {
  return style instanceof Style ? style : new Style(name, style as Record<string, string | null>);
}

function refuseUnknown(name: string, state: object, defaults: object): void {
  const known = [...Object.keys(defaults), 'layout', 'style', 'tooltip', 'tabbable'];
  const unknown = Object.keys(state).find((key) => !known.includes(key));
  if (unknown === undefined) return;
  const shown = known.filter((key) => !key.startsWith('_')).join(', ');
  throw new TypeError(`${name} has no property '${unknown}'; have ${shown}`);
}
