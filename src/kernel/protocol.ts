// What the kernel and the process of the user's code (child.ts) say to each other, as frames over
// pipes: fd 3 child -> kernel, fd 4 kernel <-> the child's helper thread, which hands on to the child.

/** File descriptors of the child. */
export const FROM_CHILD = 3;
export const TO_HELPER = 4;

/** A MIME bundle: MIME type -> text, JSON, or base64 for binary types. */
export type MimeBundle = Record<string, unknown>;

/** The error of a cell, as Jupyter's `error` message wants it. */
export interface CellError {
  ename: string;
  evalue: string;
  traceback: string[];
}

/** A compiled cell, ready to run. */
export interface RunRequest {
  type: 'run';
  /** Number of this run; every output of it carries it back. */
  run: number;
  /** Label in stack traces: `In[3]`. */
  label: string;
  /** Name of the script, also the debugger's path. */
  path: string;
  source: string;
  js: string;
  map: string;
  boxes: string[];
  /** Names that this cell declares at its top level. */
  declares: string[];
  /** `user_expressions`: key -> compiled expression, or why it can't be compiled. */
  expressions: Record<string, { js: string; boxes: string[] } | CellError>;
  /** Runs beside other cells, in a subshell. */
  isSubshell: boolean;
  allowStdin: boolean;
  /** Id of the `execute_request`. */
  messageId: string;
}

/** Kernel -> helper thread -> child. */
export type ToChild =
  | RunRequest
  | { type: 'comm'; run: number; messageId: string; message: CommMessage }
  | { type: 'input'; value: string | null };

/** A message for the child, numbered from 1: the child takes each number once, in their order. */
export interface Delivery {
  number: number;
  message: ToChild;
}

/** A comm message in either direction. */
export interface CommMessage {
  kind: 'comm_open' | 'comm_msg' | 'comm_close';
  content: Record<string, unknown>;
  metadata: Record<string, unknown>;
  buffers: Uint8Array[];
}

/** Child -> kernel; `run` says which cell it belongs to. */
export type FromChild =
  | { type: 'ready' }
  | { type: 'stream'; run: number; name: 'stdout' | 'stderr'; text: string }
  | {
      type: 'display';
      run: number;
      data: MimeBundle;
      metadata: Record<string, unknown>;
      id?: string;
      update?: boolean;
    }
  | { type: 'result'; run: number; data: MimeBundle; metadata: Record<string, unknown> }
  | { type: 'clear'; run: number; wait: boolean }
  | { type: 'comm'; run: number; message: CommMessage }
  /** The comm message that came as `run` has been dealt with. */
  | { type: 'handled'; run: number }
  | { type: 'comms'; comms: Record<string, { target_name: string }> }
  | { type: 'input'; run: number; prompt: string; password: boolean; sync: boolean }
  | { type: 'done'; run: number; error: CellError | null; expressions: Record<string, unknown> };

/** Kernel -> helper thread. */
export type ToHelper =
  | ToChild
  | { type: 'interrupt' }
  /** Input for code that waits for it synchronously. */
  | { type: 'input-sync'; value: string | null }
  | { type: 'cdp'; id: number; method: string; params: object };

/** Helper thread -> kernel: the Chrome DevTools protocol, for the debugger. */
export type FromHelper =
  | { type: 'cdp'; id: number; result?: object; error?: string }
  | { type: 'event'; method: string; params: object };

/** Written to fd 1 and 2 at the end of a cell: all output before it has arrived. */
export function endMark(run: number): string {
  return `\0peftlab:${run}\0`;
}

/** Finds an end mark in captured output. */
export const END_MARK = /\0peftlab:(\d+)\0/;
