// A button, and a player that counts up.
import {
  type ControlClass,
  type ControlState,
  controlClass,
  DESCRIBED,
  type DescribedState,
} from './control.ts';

/** A button. */
export interface ButtonState extends ControlState {
  description: string;
  disabled: boolean;
  /** Name of a Font Awesome icon, such as `play`. */
  icon: string;
  buttonStyle: '' | 'primary' | 'success' | 'info' | 'warning' | 'danger';
}

/** A player that counts from `min` to `max`, a step each `interval` ms. */
export interface PlayState extends DescribedState {
  value: number;
  min: number;
  max: number;
  step: number;
  interval: number;
  playing: boolean;
  repeat: boolean;
  showRepeat: boolean;
}

const ButtonBase: ControlClass<ButtonState> = controlClass<ButtonState>({
  ...{ name: 'Button', style: 'Button' },
  defaults: { description: '', disabled: false, icon: '', buttonStyle: '' },
});

/** A button that calls functions. */
export class Button extends ButtonBase {
  private readonly clicks: ((button: Button) => unknown)[] = [];

  /** Calls `handler` at each click. */
  onClick(handler: (button: Button) => unknown): void {
    this.clicks.push(handler);
  }

  /** Does what a click does. */
  click(): Promise<unknown> {
    return Promise.all(this.clicks.map((handler) => handler(this)));
  }

  protected override receiveEvent(content: Record<string, unknown>): unknown {
    return content.event === 'click' ? this.click() : undefined;
  }
}

/** Counts up by itself: link its `value` to a slider's. */
export const Play: ControlClass<PlayState> = controlClass<PlayState>({
  ...{ name: 'Play', style: 'Description' },
  defaults: {
    ...DESCRIBED,
    ...{ value: 0, min: 0, max: 100, step: 1, interval: 100 },
    ...{ playing: false, repeat: false, showRepeat: true },
  },
});
