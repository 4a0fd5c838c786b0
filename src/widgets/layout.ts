// Size, place and colours: `layout` takes CSS (`{ width: '50%' }`), `style` what ipywidgets' style of that
// widget takes (`{ descriptionWidth: '8em' }`). Defaults are those of ipywidgets 8.1.
import { type ModelNames, Widget } from './widget.ts';

const BASE = { module: '@jupyter-widgets/base', version: '2.0.0' };
const CONTROLS = { module: '@jupyter-widgets/controls', version: '2.0.0' };

const LAYOUT_KEYS = [
  ...['alignContent', 'alignItems', 'alignSelf', 'borderBottom', 'borderLeft', 'borderRight'],
  ...['borderTop', 'bottom', 'display', 'flex', 'flexFlow', 'gridArea', 'gridAutoColumns'],
  ...['gridAutoFlow', 'gridAutoRows', 'gridColumn', 'gridGap', 'gridRow', 'gridTemplateAreas'],
  ...['gridTemplateColumns', 'gridTemplateRows', 'height', 'justifyContent', 'justifyItems'],
  ...['left', 'margin', 'maxHeight', 'maxWidth', 'minHeight', 'minWidth', 'objectFit'],
  ...['objectPosition', 'order', 'overflow', 'padding', 'right', 'top', 'visibility', 'width'],
] as const;

/** CSS of a widget's box. */
export type LayoutState = Record<(typeof LAYOUT_KEYS)[number], string | null>;

/** A layout that several widgets can share. */
export class Layout extends Widget<LayoutState> {
  constructor(state: Partial<LayoutState> = {}) {
    const names = { name: 'Layout', model: 'LayoutModel', view: 'LayoutView', ...BASE };
    super(names, { ...nulls(LAYOUT_KEYS), ...state });
  }
}

const FONT = ['fontFamily', 'fontSize', 'fontStyle', 'fontVariant', 'fontWeight'];
const TEXT = nulls([...FONT, 'textColor', 'textDecoration']);
const SMALL_TEXT = nulls(['background', 'fontSize', 'textColor']);

/** Styles by name, with their defaults. */
const STYLES = {
  Description: {},
  Slider: { handleColor: null },
  Progress: { barColor: null },
  Text: SMALL_TEXT,
  HTML: SMALL_TEXT,
  HTMLMath: SMALL_TEXT,
  Label: { ...TEXT, background: null },
  Checkbox: { background: null },
  ToggleButton: TEXT,
  ToggleButtons: { buttonWidth: '', fontWeight: '' },
  Button: { ...TEXT, buttonColor: null },
} as const satisfies Record<string, object>;

/** Name of a style. */
export type StyleName = keyof typeof STYLES;

/** Colours and fonts of a widget, by the names of its style. */
export class Style extends Widget<Record<string, string | null>> {
  constructor(style: StyleName, state: Record<string, string | null> = {}) {
    const names: ModelNames = {
      ...{ name: `${style}Style`, model: `${style}StyleModel`, view: 'StyleView', ...CONTROLS },
      ...{ viewModule: BASE.module, viewVersion: BASE.version },
    };
    const width = style === 'Button' ? {} : { descriptionWidth: '' };
    super(names, { ...width, ...STYLES[style], ...state });
  }
}

function nulls<K extends string>(keys: readonly K[]): Record<K, null> {
  return Object.fromEntries(keys.map((key) => [key, null])) as Record<K, null>;
}
