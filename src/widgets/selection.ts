// Controls that choose among options: labels, `[label, value]` pairs, or a record of values by label. On
// the comm goes the index alone; `value` and `label` are read from it.
import { controlClass, DESCRIBED, type DescribedState } from './control.ts';
import type { StyleName } from './layout.ts';
import type { Change, Widget } from './widget.ts';

/** Labels that are the values, pairs of both, or values by label. */
export type Options<V> = readonly V[] | readonly (readonly [string, V])[] | Record<string, V>;

/** State of every control with options. */
export interface SelectionState<I> extends DescribedState {
  index: I;
  _optionsLabels: readonly string[];
}

/** Own properties of each kind. */
export interface ListState {
  rows: number;
}
export interface SelectionSliderState {
  orientation: 'horizontal' | 'vertical';
  readout: boolean;
  continuousUpdate: boolean;
  behavior: string;
}
export interface ToggleButtonsState {
  buttonStyle: '' | 'primary' | 'success' | 'info' | 'warning' | 'danger';
  icons: readonly string[];
  tooltips: readonly string[];
}

/** What can be asked of a control with options; `C` is one value or several. */
export interface Selection<V, C> extends Widget {
  value: C;
  options: Options<V>;
}

type Given<V, C, S> = { options: Options<V>; value?: C } & Partial<S & DescribedState>;

/** A class of controls that choose one option. */
export type SingleClass<S extends object> = new <V = string>(
  given: Given<V, V | null, S & { index: number | null }>,
) => Selection<V, V | null> & { index: number | null; label: string | null } & S & DescribedState;

/** A class of controls that choose any number of options. */
export type MultipleClass<S extends object> = new <V = string>(
  given: Given<V, readonly V[], S & { index: readonly number[] }>,
) => Selection<V, readonly V[]> & { index: readonly number[] } & S & DescribedState;

/** Labels and values of `options`. */
function expand<V>(options: Options<V>): { labels: string[]; values: V[] } {
  if (!Array.isArray(options)) {
    return { labels: Object.keys(options), values: Object.values(options as Record<string, V>) };
  }
  const isPair = (item: unknown): item is [string, V] =>
    Array.isArray(item) && item.length === 2 && typeof item[0] === 'string';
  const pairs = (options as unknown[]).every(isPair)
    ? (options as [string, V][])
    : (options as V[]).map((value) => [String(value), value] as const);
  return { labels: pairs.map(([label]) => label), values: pairs.map(([, value]) => value) };
}

function indexOf(
  name: string,
  values: readonly unknown[],
  labels: readonly string[],
  value: unknown,
) {
  const index = values.indexOf(value);
  if (index < 0) {
    throw new RangeError(
      `${name}.value must be one of its options, got ${String(value)}; have ${labels.join(', ')}`,
    );
  }
  return index;
}

interface Kind<S extends object> {
  name: string;
  style: StyleName;
  own: S;
}

function singleClass<S extends object>({ name, style, own }: Kind<S>): SingleClass<S> {
  const Base = controlClass<SelectionState<number | null>>({
    ...{ name, style },
    defaults: { ...DESCRIBED, ...own, _optionsLabels: [], index: null },
  });
  class Single extends Base {
    private values: readonly unknown[];
    constructor({ options, value, ...rest }: Given<unknown, unknown, { index: number | null }>) {
      const { labels, values } = expand(options ?? []);
      const first = values.length > 0 ? 0 : null;
      const chosen =
        value === null ? null : value === undefined ? first : indexOf(name, values, labels, value);
      super({ index: chosen, ...rest, _optionsLabels: labels });
      this.values = values;
    }
    get options(): Options<unknown> {
      return this.values.map(
        (value, i) => [(this.state._optionsLabels as string[])[i]!, value] as [string, unknown],
      );
    }
    set options(options: Options<unknown>) {
      const { labels, values } = expand(options);
      this.values = values;
      this.set({ _optionsLabels: labels, index: values.length > 0 ? 0 : null });
    }
    get value(): unknown {
      return this.index === null ? null : this.values[this.index];
    }
    set value(value: unknown) {
      const labels = this.state._optionsLabels as string[];
      this.set({ index: value === null ? null : indexOf(name, this.values, labels, value) });
    }
    get label(): string | null {
      return this.index === null ? null : (this.state._optionsLabels as string[])[this.index]!;
    }
    protected override changesOf(property: string, old: unknown, next: unknown): Change[] {
      const changes = super.changesOf(property, old, next);
      if (property !== 'index') return changes;
      const of = (index: unknown) => (index === null ? null : this.values[index as number]);
      return [...changes, ...super.changesOf('value', of(old), of(next))];
    }
  }
  Object.defineProperty(Single, 'name', { value: name });
  return Single as unknown as SingleClass<S>;
}

/** A list that opens. */
export const Dropdown: SingleClass<object> = singleClass({
  ...{ name: 'Dropdown', style: 'Description', own: {} },
});

/** Round buttons of which one is on. */
export const RadioButtons: SingleClass<{ orientation: 'horizontal' | 'vertical' }> = singleClass<{
  orientation: 'horizontal' | 'vertical';
}>({
  ...{ name: 'RadioButtons', style: 'Description', own: { orientation: 'vertical' } },
});

/** A list of `rows` lines. */
export const Select: SingleClass<ListState> = singleClass({
  ...{ name: 'Select', style: 'Description', own: { rows: 5 } },
});

/** A slider over options. */
export const SelectionSlider: SingleClass<SelectionSliderState> = singleClass<SelectionSliderState>(
  {
    ...{ name: 'SelectionSlider', style: 'Slider' },
    own: {
      ...{ orientation: 'horizontal', readout: true },
      ...{ continuousUpdate: true, behavior: 'drag-tap' },
    },
  },
);

/** Buttons of which one is down. */
export const ToggleButtons: SingleClass<ToggleButtonsState> = singleClass<ToggleButtonsState>({
  ...{ name: 'ToggleButtons', style: 'ToggleButtons' },
  own: { buttonStyle: '', icons: [], tooltips: [] },
});

const MultipleBase = controlClass<SelectionState<readonly number[]> & ListState>({
  ...{ name: 'SelectMultiple', style: 'Description' },
  defaults: { ...DESCRIBED, rows: 5, _optionsLabels: [], index: [] },
});

class Multiple extends MultipleBase {
  private values: readonly unknown[];
  constructor({ options, value, ...rest }: Given<unknown, readonly unknown[], ListState>) {
    const { labels, values } = expand(options);
    const index = (value ?? []).map((one) => indexOf('SelectMultiple', values, labels, one));
    super({ index, ...rest, _optionsLabels: labels });
    this.values = values;
  }
  get options(): Options<unknown> {
    return this.values.map(
      (value, i) => [(this.state._optionsLabels as string[])[i]!, value] as [string, unknown],
    );
  }
  set options(options: Options<unknown>) {
    const { labels, values } = expand(options);
    this.values = values;
    this.set({ _optionsLabels: labels, index: [] });
  }
  get value(): readonly unknown[] {
    return this.index.map((i) => this.values[i]);
  }
  set value(value: readonly unknown[]) {
    const labels = this.state._optionsLabels as string[];
    this.set({ index: value.map((one) => indexOf('SelectMultiple', this.values, labels, one)) });
  }
  protected override changesOf(property: string, old: unknown, next: unknown): Change[] {
    const changes = super.changesOf(property, old, next);
    if (property !== 'index') return changes;
    const of = (index: unknown) => (index as number[]).map((i) => this.values[i]);
    return [...changes, ...super.changesOf('value', of(old), of(next))];
  }
}

/** A list of `rows` lines of which any number are chosen. */
export const SelectMultiple: MultipleClass<ListState> =
  Multiple as unknown as MultipleClass<ListState>;
