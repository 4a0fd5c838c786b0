// The live scope that all cells share: one box per top-level name. A compiled cell reads and writes
// `box.v`, so a closure made in one cell sees what a later cell assigns.

/** Holds one top-level name. Until it has a value, reading falls back to the global object. */
export class Box {
  readonly name: string;
  /** A cell has declared this name: it no longer stands for a global. */
  isDeclared = false;

  constructor(name: string) {
    this.name = name;
  }

  /** Replaced by a plain own property at the first assignment, so that access stays fast. */
  get v(): unknown {
    if (!this.isDeclared && this.name in globalThis) return Reflect.get(globalThis, this.name);
    throw new ReferenceError(`${this.name} is not defined`);
  }

  set v(value: unknown) {
    if (!this.isDeclared && this.name in globalThis) Reflect.set(globalThis, this.name, value);
    else setOwn(this, value);
  }
}

function setOwn(box: Box, value: unknown): void {
  Object.defineProperty(box, 'v', { value, writable: true, enumerable: true, configurable: true });
}

/** All boxes of a session. */
export class Scope {
  private readonly boxes = new Map<string, Box>();

  /** The box of `name`, made at first use. */
  box(name: string): Box {
    let box = this.boxes.get(name);
    if (!box) {
      box = new Box(name);
      this.boxes.set(name, box);
    }
    return box;
  }

  /** Marks `name` as declared by a cell. */
  declare(name: string): void {
    this.box(name).isDeclared = true;
  }

  /** Makes reading `name` throw `error`, as an import that does not exist. */
  poison(name: string, error: () => Error): void {
    Object.defineProperty(this.box(name), 'v', {
      configurable: true,
      enumerable: false,
      get: () => {
        throw error();
      },
      set(this: Box, value) {
        setOwn(this, value);
      },
    });
  }

  /** Names that have a value, with it. */
  values(): [string, unknown][] {
    return [...this.boxes]
      .filter(([, box]) => Object.getOwnPropertyDescriptor(box, 'v')?.enumerable)
      .map(([name, box]) => [name, box.v]);
  }
}
