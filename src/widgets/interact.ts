// `interact(draw, { rank: 8, scale: { min: 0, max: 1 } })`: controls for the arguments of a function, which
// runs anew at each change and whose value takes the place of the last, as in ipywidgets.
import { VBox } from './boxes.ts';
import { FloatSlider, IntSlider } from './numbers.ts';
import { Output } from './output.ts';
import { Dropdown } from './selection.ts';
import { Checkbox, Text } from './text.ts';
import { Widget } from './widget.ts';

/** A control, or what stands for one. */
export type Abbreviation =
  | Widget
  | number
  | boolean
  | string
  | readonly unknown[]
  | { min: number; max: number; step?: number; value?: number };

/** The values that the controls give. */
export type ValuesOf<C> = {
  [K in keyof C]: C[K] extends { value: infer V }
    ? V extends number | undefined
      ? number
      : V
    : C[K] extends readonly (infer V)[]
      ? V
      : C[K] extends { min: number }
        ? number
        : C[K] extends number
          ? number
          : C[K] extends boolean
            ? boolean
            : string;
};

interface Valued extends Widget {
  value: unknown;
}

/** Shows a control for each argument and what `run` gives for their values; gives the controls. */
export function interact<const C extends Record<string, Abbreviation>>(
  run: (values: ValuesOf<C>) => unknown,
  controls: C,
): Record<keyof C & string, Widget> {
  const made = Object.entries(controls).map(
    ([name, given]) => [name, control(name, given)] as const,
  );
  const printed = new Output();
  const values = () =>
    Object.fromEntries(made.map(([name, widget]) => [name, widget.value])) as ValuesOf<C>;
  display(new VBox([...made.map(([, widget]) => widget), printed]));
  let handle: DisplayHandle | null = null;
  const show = (value: unknown): void => {
    if (value === undefined) return;
    if (handle) handle.update(value);
    else handle = display(value);
  };
  const update = (): unknown => {
    const value = printed.capture(() => run(values()), { clear: true });
    return value instanceof Promise ? value.then(show) : show(value);
  };
  for (const [, widget] of made) widget.observe(update);
  update();
  // As the value of a cell the controls show nothing: they are on the page already.
  const shownAlready = { value: () => ({}), enumerable: false };
  const byName = Object.fromEntries(made) as unknown as Record<keyof C & string, Widget>;
  return Object.defineProperty(byName, Symbol.for('Jupyter.display'), shownAlready);
}

/** ipywidgets' rules: a number is a slider from its negative to its triple. */
function control(name: string, given: Abbreviation): Valued {
  if (given instanceof Widget) return given as Valued;
  const description = name;
  if (typeof given === 'boolean') return new Checkbox({ value: given, description });
  if (typeof given === 'string') return new Text({ value: given, description });
  if (Array.isArray(given))
    return new Dropdown({ options: given as unknown[], description }) as Valued;
  if (typeof given === 'number') {
    const [min, max] = given === 0 ? [0, 1] : [-given, 3 * given].sort((a, b) => a - b);
    return slider({ min: min!, max: max!, value: given }, description);
  }
  return slider(given as { min: number; max: number }, description);
}

function slider(
  range: { min: number; max: number; step?: number; value?: number },
  description: string,
): Valued {
  const { min, max, step, value } = range;
  const isWhole = [min, max, step ?? 1, value ?? min].every(Number.isInteger);
  const middle = min + (max - min) / 2;
  if (isWhole) {
    const start = value ?? Math.floor(middle);
    return new IntSlider({ min, max, value: start, description, ...(step ? { step } : {}) });
  }
  return new FloatSlider({
    ...{ min, max, description, value: value ?? middle },
    step: step ?? (max - min) / 100,
  });
}
