// Controls of text and of true or false, with ipywidgets' names and defaults.
import {
  type ControlClass,
  type ControlState,
  controlClass,
  DESCRIBED,
  type DescribedState,
} from './control.ts';

/** A field for text. */
export interface TextState extends DescribedState {
  value: string;
  placeholder: string;
  /** Reports each letter, not the end of the entry alone. */
  continuousUpdate: boolean;
}

/** A field of several lines. */
export interface TextareaState extends TextState {
  rows: number | null;
}

/** Text that is shown. */
export interface LabelState extends ControlState {
  value: string;
  placeholder: string;
  description: string;
  descriptionAllowHtml: boolean;
}

/** A box to tick. */
export interface CheckboxState extends DescribedState {
  value: boolean;
  indent: boolean;
}

/** A button that stays down. */
export interface ToggleButtonState extends DescribedState {
  value: boolean;
  buttonStyle: '' | 'primary' | 'success' | 'info' | 'warning' | 'danger';
  icon: string;
}

/** A tick or a cross. */
export interface ValidState extends DescribedState {
  value: boolean;
  readout: string;
}

/** A colour. */
export interface ColorPickerState extends DescribedState {
  value: string;
  concise: boolean;
}

// A space of no width: ipywidgets' default, which keeps the line's height.
const NOTHING = '\u200b';
const FIELD = { ...DESCRIBED, value: '', placeholder: NOTHING, continuousUpdate: true };
const SHOWN = { value: '', placeholder: NOTHING, description: '', descriptionAllowHtml: false };

/** A field for a line of text. */
export const Text: ControlClass<TextState> = controlClass<TextState>({
  ...{ name: 'Text', style: 'Text', defaults: FIELD },
});

/** A field for a line of text that nobody should read. */
export const Password: ControlClass<TextState> = controlClass<TextState>({
  ...{ name: 'Password', style: 'Text', defaults: FIELD },
});

/** A field for several lines of text. */
export const Textarea: ControlClass<TextareaState> = controlClass<TextareaState>({
  ...{ name: 'Textarea', style: 'Text', defaults: { ...FIELD, rows: null } },
});

/** HTML that is shown. */
export const HTML: ControlClass<LabelState> = controlClass<LabelState>({
  ...{ name: 'HTML', style: 'HTML', defaults: SHOWN },
});

/** HTML with formulas between `$`. */
export const HTMLMath: ControlClass<LabelState> = controlClass<LabelState>({
  ...{ name: 'HTMLMath', style: 'HTMLMath', defaults: SHOWN },
});

/** Text that is shown. */
export const Label: ControlClass<LabelState> = controlClass<LabelState>({
  ...{ name: 'Label', style: 'Label', defaults: SHOWN },
});

/** A box to tick. */
export const Checkbox: ControlClass<CheckboxState> = controlClass<CheckboxState>({
  ...{
    name: 'Checkbox',
    style: 'Checkbox',
    defaults: { ...DESCRIBED, value: false, indent: true },
  },
});

/** A button that stays down. */
export const ToggleButton: ControlClass<ToggleButtonState> = controlClass<ToggleButtonState>({
  ...{ name: 'ToggleButton', style: 'ToggleButton' },
  defaults: { ...DESCRIBED, value: false, buttonStyle: '', icon: '' },
});

/** A tick or a cross. */
export const Valid: ControlClass<ValidState> = controlClass<ValidState>({
  ...{ name: 'Valid', style: 'Description' },
  defaults: { ...DESCRIBED, value: false, readout: 'Invalid' },
});

/** A colour, by name or as `#rrggbb`. */
export const ColorPicker: ControlClass<ColorPickerState> = controlClass<ColorPickerState>({
  ...{ name: 'ColorPicker', style: 'Description' },
  defaults: { ...DESCRIBED, value: 'black', concise: false },
});
