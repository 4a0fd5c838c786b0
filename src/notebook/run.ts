// Executes a notebook in a kernel process of its own and keeps the outputs, as nbclient does: text of
// one stream is joined, `update_display_data` changes earlier outputs, `clear_output` removes them.
import { dirname, resolve } from 'node:path';
import { KernelClient } from '../kernel/client.ts';
import type { Message } from '../kernel/message.ts';
import {
  type Cell,
  type Json,
  KERNELSPEC,
  type Notebook,
  NotebookError,
  type Output,
} from './nbformat.ts';

/** The first error of a run: which cell (counted from 1, all kinds) and which line failed. */
export interface Failure {
  cell: number;
  /** Line in the cell, where the error tells one. */
  line: number | null;
  ename: string;
  evalue: string;
  traceback: string[];
}

/** How to run a notebook. */
export interface RunOptions {
  /** Path of the notebook: its folder is where the cells run. */
  path: string;
  /** Go on after errors. Default false. */
  allowErrors?: boolean;
  /** Milliseconds for each cell. Default: no limit. */
  timeout?: number;
  /** Called before each code cell: its number among the code cells, counted from 1, and how many there are. */
  onCell?: (cell: number, total: number) => void;
  /** Ends the run: the running cell is interrupted. */
  signal?: AbortSignal;
}

/** Runs all code cells in place; the outputs are in `notebook` even when a cell fails. */
export async function runNotebook(
  notebook: Notebook,
  options: RunOptions,
): Promise<Failure | null> {
  checkKernel(notebook, options.path);
  const { allowErrors = false, signal, onCell } = options;
  const codeCells = notebook.cells.filter((cell) => cell.cell_type === 'code');
  for (const cell of codeCells) Object.assign(cell, { outputs: [], execution_count: null });
  const kernel = await KernelClient.start({ cwd: dirname(resolve(options.path)) });
  const interrupt = () => void kernel.interrupt().catch(() => {});
  signal?.addEventListener('abort', interrupt);
  const outputs = new Outputs();
  let first: Failure | null = null;
  try {
    notebook.metadata.language_info = languageInfo(kernel.info);
    for (const [index, cell] of notebook.cells.entries()) {
      if (cell.cell_type !== 'code' || cell.source.trim() === '') continue;
      if (signal?.aborted) break;
      onCell?.(codeCells.indexOf(cell) + 1, codeCells.length);
      const failure = await runCell(kernel, cell, index + 1, outputs, options);
      first ??= failure;
      if (failure && !allowErrors) break;
    }
  } finally {
    signal?.removeEventListener('abort', interrupt);
    await kernel.shutdown();
  }
  return first;
}

async function runCell(
  kernel: KernelClient,
  cell: Cell,
  number: number,
  outputs: Outputs,
  { timeout }: RunOptions,
): Promise<Failure | null> {
  const timer = timeout ? setTimeout(() => void kernel.interrupt(), timeout) : undefined;
  outputs.begin(cell);
  try {
    const { reply } = await kernel.execute(cell.source, {
      metadata: cell.metadata,
      onMessage: (message) => outputs.add(message),
    });
    cell.execution_count = Number(reply.execution_count ?? 0) || null;
    const tags = Array.isArray(cell.metadata.tags) ? cell.metadata.tags : [];
    if (reply.status === 'ok' || tags.includes('raises-exception')) return null;
    const { ename, evalue, traceback } = reply as {
      ename: string;
      evalue: string;
      traceback: string[];
    };
    return { cell: number, line: failingLine(cell, traceback), ename, evalue, traceback };
  } finally {
    clearTimeout(timer);
  }
}

/** The line of `In[n]:line:column` that belongs to this cell. */
function failingLine(cell: Cell, traceback: readonly string[]): number | null {
  const own = new RegExp(`In\\[${cell.execution_count}\\]:(\\d+)`).exec(traceback.join('\n'));
  return own ? Number(own[1]) : null;
}

function checkKernel(notebook: Notebook, path: string): void {
  const spec = notebook.metadata.kernelspec as { name?: string; language?: string } | undefined;
  const isOurs =
    spec === undefined || spec.name === KERNELSPEC.name || spec.language === KERNELSPEC.language;
  if (isOurs) return;
  throw new NotebookError(`${path} must name the kernel ${KERNELSPEC.name}, got '${spec.name}'`);
}

function languageInfo(info: Json): Json {
  const { version: _changes, ...rest } = (info.language_info ?? {}) as Json;
  return rest;
}

/** Collects the outputs of one cell after the other. */
class Outputs {
  private cell: Cell | null = null;
  private clearNext = false;
  /** Outputs by display id, in all cells, for updates. */
  private readonly displays = new Map<string, { data: Json; metadata: Json }[]>();

  begin(cell: Cell): void {
    this.cell = cell;
    this.clearNext = false;
  }

  add(message: Message): void {
    const { content } = message;
    const type = message.header.msg_type;
    if (type === 'update_display_data') return this.update(content);
    if (type === 'clear_output') {
      if (content.wait === true) this.clearNext = true;
      else this.clear();
      return;
    }
    const output = toOutput(type, content);
    if (!output) return;
    if (this.clearNext) this.clear();
    this.push(output, content);
  }

  private clear(): void {
    this.clearNext = false;
    if (this.cell) this.cell.outputs = [];
  }

  private push(output: Output, content: Json): void {
    const outputs = this.cell?.outputs;
    if (!outputs) return;
    const last = outputs.at(-1);
    if (
      output.output_type === 'stream' &&
      last?.output_type === 'stream' &&
      last.name === output.name
    ) {
      last.text += output.text;
      return;
    }
    outputs.push(output);
    const id = (content.transient as { display_id?: string } | undefined)?.display_id;
    if (id && output.output_type === 'display_data') {
      this.displays.set(id, [...(this.displays.get(id) ?? []), output]);
    }
  }

  private update(content: Json): void {
    const id = (content.transient as { display_id?: string } | undefined)?.display_id ?? '';
    for (const output of this.displays.get(id) ?? []) {
      output.data = content.data as Json;
      output.metadata = content.metadata as Json;
    }
  }
}

function toOutput(type: string, content: Json): Output | null {
  const {
    data,
    metadata,
    execution_count: count,
  } = content as {
    data: Json;
    metadata: Json;
    execution_count: number;
  };
  if (type === 'stream') {
    return { output_type: 'stream', name: content.name as 'stdout', text: String(content.text) };
  }
  if (type === 'display_data') return { output_type: 'display_data', data, metadata };
  if (type === 'execute_result') {
    return { output_type: 'execute_result', data, metadata, execution_count: count };
  }
  if (type !== 'error') return null;
  const { ename, evalue, traceback } = content as {
    ename: string;
    evalue: string;
    traceback: string[];
  };
  return { output_type: 'error', ename, evalue, traceback };
}
