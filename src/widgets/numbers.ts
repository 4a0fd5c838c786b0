// Controls of numbers, with ipywidgets' names and defaults: sliders, ranges, progress bars, number fields.
// A value outside of `min` and `max` becomes the nearer of them.
import { type ControlClass, controlClass, DESCRIBED, type DescribedState } from './control.ts';

/** A number between two others. */
export interface BoundedState extends DescribedState {
  value: number;
  min: number;
  max: number;
}

/** A slider. */
export interface SliderState extends BoundedState {
  step: number;
  orientation: 'horizontal' | 'vertical';
  /** Shows the value beside the slider, written as `readoutFormat` (d3-format) says. */
  readout: boolean;
  readoutFormat: string;
  /** Reports each step of a drag, not its end alone. */
  continuousUpdate: boolean;
  behavior: string;
}

/** A slider whose value is `base ** x`, `x` between `min` and `max`. */
export interface LogSliderState extends SliderState {
  base: number;
}

/** A slider with two handles. */
export interface RangeSliderState extends Omit<SliderState, 'value'> {
  value: [number, number];
}

/** A progress bar. */
export interface ProgressState extends Omit<BoundedState, 'disabled'> {
  barStyle: '' | 'success' | 'info' | 'warning' | 'danger';
  orientation: 'horizontal' | 'vertical';
}

/** A field for a number. */
export interface NumberTextState extends DescribedState {
  value: number;
  step: number | null;
  continuousUpdate: boolean;
}

/** A field for a number between two others. */
export interface BoundedTextState extends NumberTextState {
  min: number;
  max: number;
}

const { disabled: _disabled, ...LABELLED } = DESCRIBED;
const SLIDER = {
  ...DESCRIBED,
  min: 0,
  max: 100,
  orientation: 'horizontal',
  readout: true,
  continuousUpdate: true,
  behavior: 'drag-tap',
} as const;
const BAR = {
  ...LABELLED,
  value: 0,
  min: 0,
  max: 100,
  barStyle: '',
  orientation: 'horizontal',
} as const;
const FIELD = { ...DESCRIBED, value: 0, continuousUpdate: false };

/** Keeps `value` between `min` and `max`. */
function bounded<S extends { value: number; min: number; max: number }>(
  next: Partial<S>,
  now: S,
): Partial<S> {
  const { value, min, max } = { ...now, ...next };
  if (min > max) throw new RangeError(`min must not be above max, got ${min} and ${max}`);
  return { value: Math.min(Math.max(value, min), max) } as Partial<S>;
}

/** Keeps `value` among the powers of the base. */
function boundedPower(next: Partial<LogSliderState>, now: LogSliderState) {
  const { value, min, max, base } = { ...now, ...next };
  if (min > max) throw new RangeError(`min must not be above max, got ${min} and ${max}`);
  return { value: Math.min(Math.max(value, base ** min), base ** max) };
}

/** Keeps both ends of `value` between `min` and `max`, the lower one first. */
function boundedRange(next: Partial<RangeSliderState>, now: RangeSliderState) {
  const { value, min, max } = { ...now, ...next };
  const clamp = (x: number) => Math.min(Math.max(x, min), max);
  const [low, high] = value;
  return { value: [clamp(Math.min(low, high)), clamp(Math.max(low, high))] as [number, number] };
}

/** A slider of whole numbers. */
export const IntSlider: ControlClass<SliderState> = controlClass<SliderState>({
  name: 'IntSlider',
  style: 'Slider',
  defaults: { ...SLIDER, value: 0, step: 1, readoutFormat: 'd' },
  coerce: bounded,
});

/** A slider of numbers. */
export const FloatSlider: ControlClass<SliderState> = controlClass<SliderState>({
  name: 'FloatSlider',
  style: 'Slider',
  defaults: { ...SLIDER, value: 0, step: 0.1, readoutFormat: '.2f' },
  coerce: bounded,
});

/** A slider of powers: `new FloatLogSlider({ min: -5, max: -1 })` for learning rates. */
export const FloatLogSlider: ControlClass<LogSliderState> = controlClass<LogSliderState>({
  name: 'FloatLogSlider',
  style: 'Slider',
  defaults: {
    ...SLIDER,
    ...{ value: 1, min: 0, max: 4, base: 10, step: 0.1, readoutFormat: '.3g' },
  },
  coerce: boundedPower,
});

/** A range of whole numbers. */
export const IntRangeSlider: ControlClass<RangeSliderState> = controlClass<RangeSliderState>({
  name: 'IntRangeSlider',
  style: 'Slider',
  defaults: { ...SLIDER, value: [25, 75], step: 1, readoutFormat: 'd' },
  coerce: boundedRange,
});

/** A range of numbers. */
export const FloatRangeSlider: ControlClass<RangeSliderState> = controlClass<RangeSliderState>({
  name: 'FloatRangeSlider',
  style: 'Slider',
  defaults: { ...SLIDER, value: [25, 75], step: 0.1, readoutFormat: '.2f' },
  coerce: boundedRange,
});

/** A progress bar of whole steps. */
export const IntProgress: ControlClass<ProgressState> = controlClass<ProgressState>({
  ...{ name: 'IntProgress', view: 'ProgressView', style: 'Progress' },
  defaults: BAR,
  coerce: bounded,
});

/** A progress bar. */
export const FloatProgress: ControlClass<ProgressState> = controlClass<ProgressState>({
  ...{ name: 'FloatProgress', view: 'ProgressView', style: 'Progress' },
  defaults: BAR,
  coerce: bounded,
});

/** A field for a whole number. */
export const IntText: ControlClass<NumberTextState> = controlClass<NumberTextState>({
  ...{ name: 'IntText', style: 'Description' },
  defaults: { ...FIELD, step: 1 },
});

/** A field for a number. */
export const FloatText: ControlClass<NumberTextState> = controlClass<NumberTextState>({
  ...{ name: 'FloatText', style: 'Description' },
  defaults: { ...FIELD, step: null },
});

/** A field for a whole number between two others. */
export const BoundedIntText: ControlClass<BoundedTextState> = controlClass<BoundedTextState>({
  ...{ name: 'BoundedIntText', view: 'IntTextView', style: 'Description' },
  defaults: { ...FIELD, min: 0, max: 100, step: 1 },
  coerce: bounded,
});

/** A field for a number between two others. */
export const BoundedFloatText: ControlClass<BoundedTextState> = controlClass<BoundedTextState>({
  ...{ name: 'BoundedFloatText', view: 'FloatTextView', style: 'Description' },
  defaults: { ...FIELD, min: 0, max: 100, step: null },
  coerce: bounded,
});
