// Gathers what a cell prints for 30 ms at a time, so that 20,000 lines become a few messages.

const WAIT_MS = 30;
const MAX_CHARACTERS = 1 << 20;

type Name = 'stdout' | 'stderr';

/** Hands on text in the order in which it came; `flush` before any message that is not text. */
export class StreamBatch {
  private readonly send: (run: number, name: Name, text: string) => void;
  private texts: string[] = [];
  private size = 0;
  private run = 0;
  private name: Name = 'stdout';
  private timer: NodeJS.Timeout | null = null;

  constructor(send: (run: number, name: Name, text: string) => void) {
    this.send = send;
  }

  /** Adds text printed by cell `run`. */
  add(run: number, name: Name, text: string): void {
    if (run !== this.run || name !== this.name) this.flush();
    this.run = run;
    this.name = name;
    this.texts.push(text);
    this.size += text.length;
    if (this.size > MAX_CHARACTERS) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), WAIT_MS);
  }

  /** Sends what has been gathered. */
  flush(): void {
    if (this.timer) clearTimeout(this.timer);
    this.timer = null;
    if (this.texts.length === 0) return;
    const text = this.texts.join('');
    this.texts = [];
    this.size = 0;
    this.send(this.run, this.name, text);
  }
}
