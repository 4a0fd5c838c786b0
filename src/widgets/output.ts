// A widget that takes up what is printed and displayed: the front end sends all output whose request is
// `msgId` to it.
import { type ControlClass, type ControlState, controlClass } from './control.ts';

/** What an output widget shows, as a notebook's `outputs`. */
export interface OutputState extends Omit<ControlState, 'style'> {
  msgId: string;
  outputs: readonly object[];
}

const OutputBase: ControlClass<OutputState & ControlState> = controlClass<
  OutputState & ControlState
>({
  name: 'Output',
  module: { module: '@jupyter-widgets/output', version: '1.0.0' },
  defaults: { msgId: '', outputs: [] },
});

/** Takes up output. */
export class Output extends OutputBase {
  /** Runs `run` (it may be asynchronous) with all its output in this widget; `clear` empties it before. */
  capture<T>(run: () => T, { clear = false }: { clear?: boolean } = {}): T {
    this.set({ msgId: Comm.parentId() });
    if (clear) clearOutput(true);
    let result: T;
    try {
      result = run();
    } catch (error) {
      this.set({ msgId: '' });
      throw error;
    }
    if (!(result instanceof Promise)) {
      this.set({ msgId: '' });
      return result;
    }
    return result.finally(() => this.set({ msgId: '' })) as T;
  }

  /** Removes what is shown. */
  clearOutput(): void {
    this.set({ outputs: [] });
  }

  /** Adds printed text. */
  appendStdout(text: string): void {
    this.append({ output_type: 'stream', name: 'stdout', text });
  }

  /** Adds a MIME bundle, such as `{ 'text/html': '<b>x</b>' }`. */
  appendDisplayData(data: Record<string, unknown>): void {
    this.append({ output_type: 'display_data', data, metadata: {} });
  }

  private append(output: object): void {
    this.set({ outputs: [...this.outputs, output] });
  }
}
