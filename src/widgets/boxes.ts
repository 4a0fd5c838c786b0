// Widgets that hold others: `new VBox([slider, button])`, `new Tab([a, b], { titles: ['A', 'B'] })`.
import { type ControlState, controlClass } from './control.ts';
import type { Widget } from './widget.ts';

/** Widgets in a box. */
export interface BoxState extends Omit<ControlState, 'style'> {
  children: readonly Widget[];
  boxStyle: '' | 'success' | 'info' | 'warning' | 'danger';
}

/** Widgets of which one is shown. */
export interface PagesState extends BoxState {
  titles: readonly string[];
  /** Which child is shown; null for none. */
  selectedIndex: number | null;
}

/** A class of boxes whose state is `S`. */
export type BoxClass<S extends BoxState> = new (
  children?: readonly Widget[],
  state?: Partial<Omit<S, 'children'>>,
) => Widget<S> & S;

function boxClass<S extends BoxState>(name: string, own: object): BoxClass<S> {
  const Base = controlClass<ControlState>({
    name,
    defaults: { children: [], boxStyle: '', ...own },
  });
  class Box extends Base {
    constructor(children: readonly Widget[] = [], state: object = {}) {
      super({ ...own, ...state, children } as object);
    }
  }
  Object.defineProperty(Box, 'name', { value: name });
  return Box as unknown as BoxClass<S>;
}

const PAGES = { titles: [], selectedIndex: null };

/** Children placed by the `layout`'s flex properties. */
export const Box: BoxClass<BoxState> = boxClass('Box', {});
/** Children side by side. */
export const HBox: BoxClass<BoxState> = boxClass('HBox', {});
/** Children one below the other. */
export const VBox: BoxClass<BoxState> = boxClass('VBox', {});
/** Children placed by the `layout`'s grid properties. */
export const GridBox: BoxClass<BoxState> = boxClass('GridBox', {});
/** Children on tabs. */
export const Tab: BoxClass<PagesState> = boxClass('Tab', PAGES);
/** Children that unfold below their titles. */
export const Accordion: BoxClass<PagesState> = boxClass('Accordion', PAGES);
/** Only the child `selectedIndex`. */
export const Stack: BoxClass<PagesState> = boxClass('Stack', PAGES);
