// One page of the lab, with a notebook open: what a test does in it and reads from it.
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { JupyterLab } from '@jupyterlab/application';
import type { NotebookPanel } from '@jupyterlab/notebook';
import type { Page } from 'playwright-core';

declare global {
  /** The application, as JupyterLab's page has it. */
  var jupyterapp: JupyterLab;
}

/** An output as a notebook file has it. */
export interface Output {
  output_type: string;
  text?: string;
  data?: Record<string, unknown>;
  ename?: string;
  evalue?: string;
}

/** A cell as a notebook file has it. */
export interface PageCell {
  cell_type: string;
  id: string;
  source: string;
  outputs?: Output[];
  execution_count?: number | null;
}

const SCREENSHOTS = join(dirname(fileURLToPath(import.meta.url)), 'screenshots');

/** Messages of the browser that say nothing about the lab. */
const NOISE =
  /favicon|ERR_CONNECTION|ERR_INTERNET|net::|WebSocket|Failed to fetch|Connection lost/i;

/** How long to wait for anything: machines that run tests are slow at times. */
const PATIENCE = 120_000;

/** Reads again and again until `isGood`; gives what was read last. */
export async function eventually<T>(
  read: () => Promise<T>,
  isGood: (value: T) => boolean,
): Promise<T> {
  const until = Date.now() + PATIENCE;
  for (;;) {
    const value = await read();
    if (isGood(value) || Date.now() > until) return value;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A page. */
export class LabPage {
  readonly page: Page;
  /** Errors on the page's console, and exceptions. */
  readonly problems: string[] = [];

  constructor(page: Page) {
    this.page = page;
    page.setDefaultTimeout(PATIENCE);
    page.on('pageerror', (error) => this.problems.push(String(error.stack ?? error)));
    page.on('console', (message) => {
      if (message.type() === 'error' && !NOISE.test(message.text())) {
        this.problems.push(`${message.text()} ${message.location().url}`);
      }
    });
  }

  /** Waits until the notebook is there and its kernel idle. */
  async ready(): Promise<void> {
    await this.page.waitForSelector('.jp-Notebook .jp-Cell', { state: 'attached' });
    await this.waitForStatus('idle');
  }

  /** Waits until the kernel says `status`. */
  async waitForStatus(status: string): Promise<void> {
    await this.page.waitForFunction((wanted) => {
      const panel = globalThis.jupyterapp?.shell.currentWidget as NotebookPanel | null;
      return panel?.sessionContext?.session?.kernel?.status === wanted;
    }, status);
  }

  /** Runs a command of JupyterLab. */
  async command(id: string, args: Record<string, string | number | boolean> = {}): Promise<void> {
    await this.page.evaluate(
      async ([name, given]) => void (await jupyterapp.commands.execute(name, given)),
      [id, args] as const,
    );
  }

  /** All cells, as they would be saved. */
  cells(): Promise<PageCell[]> {
    return this.page.evaluate(() => {
      const panel = jupyterapp.shell.currentWidget as NotebookPanel;
      const { cells } = panel.content.model!.toJSON() as { cells: unknown };
      const joined = (text: unknown) => (Array.isArray(text) ? text.join('') : text);
      return (cells as PageCell[]).map((cell) => ({
        ...cell,
        source: joined(cell.source) as string,
        ...(cell.outputs
          ? {
              outputs: cell.outputs.map((output) => ({
                ...output,
                ...(output.text === undefined ? {} : { text: joined(output.text) as string }),
              })),
            }
          : {}),
      }));
    });
  }

  /** Runs all cells to their end. */
  async runAll(): Promise<PageCell[]> {
    await this.command('notebook:run-all-cells');
    return this.cells();
  }

  /** Makes cell `index` the active one, in command mode. */
  async select(index: number): Promise<void> {
    await this.page.evaluate((at) => {
      const { content } = jupyterapp.shell.currentWidget as NotebookPanel;
      content.activeCellIndex = at;
      content.mode = 'command';
      content.activate();
    }, index);
    await this.page.locator('.jp-Notebook:visible').first().focus();
  }

  /** Puts the cursor into the active cell. */
  async edit(): Promise<void> {
    // A cell out of sight has no editor.
    await this.page.evaluate(async () => {
      const { content } = jupyterapp.shell.currentWidget as NotebookPanel;
      await content.scrollToCell(content.activeCell!);
    });
    await this.command('notebook:enter-edit-mode');
    await this.page.waitForSelector('.jp-mod-active .cm-editor.cm-focused', { state: 'attached' });
  }

  /** Puts `code` into a new last cell; gives its index. */
  async add(code: string): Promise<number> {
    const last = (await this.cells()).length - 1;
    await this.select(last);
    await this.command('notebook:insert-cell-below');
    await this.page.evaluate((text) => {
      const { content } = jupyterapp.shell.currentWidget as NotebookPanel;
      content.activeCell!.model.sharedModel.setSource(text);
    }, code);
    return last + 1;
  }

  /** The same, with the cursor at its end. */
  async type(code: string): Promise<number> {
    const index = await this.add(code);
    await this.edit();
    await this.page.keyboard.press('Control+End');
    return index;
  }

  /** Milliseconds until completions are listed at the end of a new cell with `code`; and what is listed. */
  async complete(code: string): Promise<{ items: string[]; ms: number }> {
    await this.type(code);
    const ms = await this.page.evaluate(async () => {
      // JupyterLab drops an answer that comes late; a user asks again then.
      for (let tries = 0; tries < 20; tries++) {
        const started = performance.now();
        void jupyterapp.commands.execute('completer:invoke-notebook');
        while (performance.now() - started < 6000) {
          await new Promise((resolve) => setTimeout(resolve, 1));
          const list = document.querySelector('.jp-Completer:not(.lm-mod-hidden)');
          if (list?.querySelector('.jp-Completer-item')) return performance.now() - started;
        }
      }
      throw new Error('No completions after two minutes');
    });
    return { items: await this.page.locator('.jp-Completer-item').allTextContents(), ms };
  }

  /** Runs `code` in a new last cell, without waiting for its end; gives its index. */
  async startCell(code: string): Promise<number> {
    const index = await this.add(code);
    await this.page.evaluate(() => void jupyterapp.commands.execute('notebook:run-cell'));
    return index;
  }

  /** Runs `code` in a new last cell; gives its outputs. */
  async run(code: string): Promise<Output[]> {
    const index = await this.add(code);
    await this.command('notebook:run-cell');
    return (await this.cells())[index]!.outputs!;
  }

  /** Waits until cell `index` prints `text`. */
  async waitForText(index: number, text: string): Promise<void> {
    await this.page.waitForFunction(
      ([at, wanted]) => {
        const panel = jupyterapp.shell.currentWidget as NotebookPanel;
        return panel.content.widgets[at]?.node.textContent?.includes(wanted);
      },
      [index, text] as const,
    );
  }

  /** Saves with Ctrl+S and waits until that is done. */
  async save(): Promise<void> {
    await this.page.keyboard.press('Control+s');
    await this.page.waitForFunction(() => {
      const panel = jupyterapp.shell.currentWidget as NotebookPanel;
      return !panel.context.model.dirty;
    });
  }

  /** Brings cell `index` into view. */
  async show(index: number): Promise<void> {
    await this.page.evaluate((at) => {
      const panel = jupyterapp.shell.currentWidget as NotebookPanel;
      panel.content.widgets[at]?.node.scrollIntoView({ block: 'start' });
    }, index);
    await this.page.waitForTimeout(300);
  }

  /** Keeps a picture of the page. */
  async screenshot(name: string): Promise<void> {
    mkdirSync(SCREENSHOTS, { recursive: true });
    await this.page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
  }

  /** Moves the first slider by a key; gives the milliseconds until the first figure has another title. */
  moveSlider(): Promise<number> {
    return this.page.evaluate(async () => {
      const text = () => document.querySelector('.js-plotly-plot .gtitle')?.textContent;
      const before = text();
      const handle = document.querySelector('.noUi-handle')!;
      const started = performance.now();
      const key = { key: 'ArrowRight', keyCode: 39, bubbles: true };
      handle.dispatchEvent(new KeyboardEvent('keydown', key));
      while (text() === before && performance.now() - started < 60_000) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      return performance.now() - started;
    });
  }

  /** Closes the window. */
  async close(): Promise<void> {
    await this.page.context().close();
  }
}
