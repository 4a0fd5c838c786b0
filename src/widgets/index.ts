// `import { FloatSlider, interact } from 'peftlab/widgets'` in a cell: ipywidgets' controls, in TypeScript.
export { Accordion, Box, GridBox, HBox, Stack, Tab, VBox } from './boxes.ts';
export { Button, Play } from './button.ts';
export { interact } from './interact.ts';
export { Layout, Style } from './layout.ts';
export { dlink, jslink, link } from './link.ts';
export {
  BoundedFloatText,
  BoundedIntText,
  FloatLogSlider,
  FloatProgress,
  FloatRangeSlider,
  FloatSlider,
  FloatText,
  IntProgress,
  IntRangeSlider,
  IntSlider,
  IntText,
} from './numbers.ts';
export { Output } from './output.ts';
export {
  Dropdown,
  RadioButtons,
  Select,
  SelectionSlider,
  SelectMultiple,
  ToggleButtons,
} from './selection.ts';
export {
  Checkbox,
  ColorPicker,
  HTML,
  HTMLMath,
  Label,
  Password,
  Text,
  Textarea,
  ToggleButton,
  Valid,
} from './text.ts';
export { type Change, Widget } from './widget.ts';
