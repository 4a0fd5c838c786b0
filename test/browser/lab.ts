// The lab as a user has it: `npm start` in a folder of its own, and Chromium with its page.
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium } from 'playwright-core';
import { LabPage } from './page.ts';

/** Folder of the package. */
export const PACKAGE: string = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

const COMMAND = join(PACKAGE, 'src', 'bin.mjs');
const START_MS = 180_000;

const BROWSERS = [
  process.env.CHROMIUM_PATH,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
  'C:\\Program Files\\Google\\Chrome\\Application\\chrome.exe',
];

/** A cell of a notebook to be made: code, or Markdown. */
export type NewCell = string | { markdown: string };

/** The text of a notebook with these cells, for our kernel or another. */
export function notebookText(
  cells: readonly NewCell[],
  { kernel = 'typescript-peftlab', language = 'typescript' } = {},
): string {
  const kernelspec = { name: kernel, display_name: kernel, language };
  return JSON.stringify({
    cells: cells.map((cell, i) =>
      typeof cell === 'string'
        ? {
            cell_type: 'code',
            id: `c${i}`,
            metadata: {},
            source: cell,
            outputs: [],
            execution_count: null,
          }
        : { cell_type: 'markdown', id: `m${i}`, metadata: {}, source: cell.markdown },
    ),
    metadata: { kernelspec, language_info: { name: language } },
    nbformat: 4,
    nbformat_minor: 5,
  });
}

/** Path of Chromium; undefined if there is none. */
export function browserPath(): string | undefined {
  return BROWSERS.find((path) => path && existsSync(path));
}

/** Starts Chromium. */
export function launchBrowser(): Promise<Browser> {
  const executablePath = browserPath();
  if (!executablePath) {
    throw new Error('The browser tests need Chromium; set CHROMIUM_PATH to where it is');
  }
  return chromium.launch({ executablePath, args: ['--no-sandbox'] });
}

/** Opens the address of a notebook in a window of its own, and waits until its kernel is ready. */
export async function openPage(browser: Browser, url: string): Promise<LabPage> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  // tsx wraps functions in a helper of its own, which functions evaluated in the page then need.
  await context.addInitScript('globalThis.__name = (value) => value');
  const page = new LabPage(await context.newPage());
  await page.page.goto(url);
  await page.ready();
  return page;
}

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Options of a lab. */
export interface LabOptions {
  /** Folder to serve; default: a new one. */
  root?: string;
  /** User and group that run the server. */
  user?: number;
  env?: Record<string, string>;
}

/** A server and a browser. */
export class Lab {
  readonly root: string;
  readonly token: string = randomBytes(16).toString('hex');
  port = 0;
  browser!: Browser;
  private readonly data = mkdtempSync(join(tmpdir(), 'peftlab data '));
  private readonly options: LabOptions;
  private server: ChildProcess | null = null;
  private log = '';

  constructor(options: LabOptions = {}) {
    this.options = options;
    this.root = options.root ?? mkdtempSync(join(tmpdir(), 'peftlab lab '));
  }

  /** Starts both. */
  async start(): Promise<this> {
    this.port = await freePort();
    await this.serve();
    this.browser = await launchBrowser();
    return this;
  }

  /** Starts the server, always at the same address. */
  async serve(): Promise<void> {
    const args = [
      '--port',
      `${this.port}`,
      '--no-open',
      '--root',
      this.root,
      '--token',
      this.token,
    ];
    const { user, env } = this.options;
    const server = spawn(process.execPath, [COMMAND, ...args], {
      cwd: this.root,
      // The settings of whoever runs the tests stay as they are.
      env: { ...process.env, PEFTLAB_DATA_DIR: this.data, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(user === undefined ? {} : { uid: user, gid: user }),
    });
    this.server = server;
    for (const stream of [server.stdout, server.stderr]) {
      stream.on('data', (data: Buffer) => {
        this.log += data;
      });
    }
    const until = Date.now() + START_MS;
    while (!(await this.answers())) {
      if (Date.now() > until || server.exitCode !== null) {
        throw new Error(`The server did not start: ${this.log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** Ends the server as a crash would. */
  async kill(): Promise<void> {
    const { server } = this;
    if (!server) return;
    this.server = null;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGKILL');
    await ended;
  }

  /** Ends both, and removes the folder. */
  async stop(): Promise<void> {
    await this.browser?.close();
    const { server } = this;
    if (server) {
      const ended = new Promise((resolve) => server.once('exit', resolve));
      server.kill('SIGTERM');
      const late = setTimeout(() => server.kill('SIGKILL'), 5000);
      await ended;
      clearTimeout(late);
    }
    rmSync(this.data, { recursive: true, force: true });
    if (!this.options.root) rmSync(this.root, { recursive: true, force: true });
  }

  /** Writes a notebook, with code and Markdown cells. */
  write(path: string, cells: readonly NewCell[]): void {
    this.writeText(path, notebookText(cells));
  }

  writeText(path: string, text: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text);
  }

  /** What is on disk. */
  read(path: string): string {
    return readFileSync(join(this.root, path), 'utf8');
  }

  /** Copies a folder of the package. */
  copy(folder: string): void {
    cpSync(join(PACKAGE, folder), join(this.root, folder), { recursive: true });
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  /** Opens a notebook in a browser window of its own, and waits until its kernel is ready. */
  async open(path: string): Promise<LabPage> {
    const place = path.split('/').map(encodeURIComponent).join('/');
    const workspace = `auto-${randomBytes(3).toString('hex')}`;
    const url = this.url(`/lab/workspaces/${workspace}/tree/${place}?token=${this.token}`);
    return openPage(this.browser, url);
  }

  /** Ends all kernels. */
  async endKernels(): Promise<void> {
    const kernels = (await (await this.ask('GET', '/api/kernels')).json()) as { id: string }[];
    for (const { id } of kernels) await this.ask('DELETE', `/api/kernels/${id}`);
  }

  private ask(method: string, path: string): Promise<Response> {
    const headers = { Authorization: `token ${this.token}` };
    return fetch(this.url(path), { method, headers });
  }

  private async answers(): Promise<boolean> {
    try {
      return (await this.ask('GET', '/api/status')).ok;
    } catch {
      return false;
    }
  }
}
