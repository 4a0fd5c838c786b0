// The lab beside Python's JupyterLab with tslab and with ipykernel, in Chromium: a notebook until it is there
// and until its kernel is idle, all its cells, a completion, a restart, the server's memory. All take turns.
import { type ChildProcess, spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { readNotebook } from '../src/notebook/nbformat.ts';
import { freePort, launchBrowser, type NewCell, notebookText } from '../test/browser/lab.ts';
import { eventually, LabPage } from '../test/browser/page.ts';
import { pythonEnvironment } from '../test/jupyter/python.ts';
import { median, type Row, report, row } from './report.ts';

interface Contestant {
  name: string;
  kernel: string;
  language: 'typescript' | 'python';
  /** Command of the server; `PORT` stands for its port. */
  command: readonly string[];
}

const ROUNDS = 3;
const COMPLETIONS = 5;
const TOKEN = 'bench';
const LESSON = '03-lora-from-scratch';
const OURS = 'peftlab';
const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'peftlab-bench-lab-'));

function contestants(): Contestant[] {
  const environment = pythonEnvironment(join(root, 'test', 'jupyter', 'requirements.txt'));
  const lab = ['--no-open', '--port', 'PORT', '--token', TOKEN, '--root', folder];
  const stock = [
    ...[join(environment, 'bin', 'python'), '-m', 'jupyterlab', '--no-browser', '--allow-root'],
    ...['--expose-app-in-browser', '--port=PORT', `--IdentityProvider.token=${TOKEN}`],
  ];
  const ours = { kernel: 'typescript-peftlab', language: 'typescript' } as const;
  return [
    { name: OURS, ...ours, command: [process.execPath, join(root, 'src', 'bin.mjs'), ...lab] },
    { name: 'JupyterLab, tslab', kernel: 'tslab', language: 'typescript', command: stock },
    { name: 'JupyterLab, ipykernel', kernel: 'python3', language: 'python', command: stock },
  ];
}

/** Makes tslab's kernel known to Python's JupyterLab, for this run. */
function writeTslabSpec(): void {
  const spec = join(folder, 'jupyter', 'kernels', 'tslab');
  mkdirSync(spec, { recursive: true });
  const tslab = join(root, 'node_modules', '.bin', 'tslab');
  const argv = [tslab, 'kernel', '--config-path', '{connection_file}'];
  const content = { argv, display_name: 'tslab', language: 'typescript' };
  writeFileSync(join(spec, 'kernel.json'), JSON.stringify(content));
}

/** Lesson 03's Markdown, and in the place of each code cell one that all three languages have. */
function sameShape(language: Contestant['language']): NewCell[] {
  const { cells } = readNotebook(join(root, 'notebooks', `${LESSON}.ipynb`));
  return cells.map(({ cell_type: type, source }, i) => {
    if (type !== 'code') return { markdown: source };
    return language === 'python'
      ? `def step${i}(x): return (x + ${i}) ** 0.5\ntotal${i} = 0\nfor k in range(1000): total${i} += step${i}(k)\nprint('cell ${i}', round(total${i}, 3))`
      : `function step${i}(x: number): number { return (x + ${i}) ** 0.5; }\nlet total${i} = 0;\nfor (let k = 0; k < 1000; k++) total${i} += step${i}(k);\nconsole.log('cell ${i}', total${i}.toFixed(3));`;
  });
}

/** Figures of one contestant, in milliseconds. */
class Figures {
  visible: number[] = [];
  idle: number[] = [];
  runAll: number[] = [];
  complete: number[] = [];
  restart: number[] = [];
  memory: number[] = [];
}

/** The server of a contestant. */
class Server {
  readonly contestant: Contestant;
  private port = 0;
  private process!: ChildProcess;

  constructor(contestant: Contestant) {
    this.contestant = contestant;
  }

  async start(): Promise<void> {
    this.port = await freePort();
    const [command, ...args] = this.contestant.command.map((a) =>
      a.replace('PORT', `${this.port}`),
    );
    const env = { ...process.env, JUPYTER_PATH: join(folder, 'jupyter') };
    this.process = spawn(command!, args, { cwd: folder, stdio: 'ignore', env });
    const answers = () =>
      fetch(this.url('api')).then(
        () => true,
        () => false,
      );
    if (!(await eventually(answers, Boolean))) throw new Error('The server did not start');
  }

  url(path: string): string {
    return `http://127.0.0.1:${this.port}/${path}`;
  }

  /** Resident memory of the server without its kernels, in MB; 0 where the system does not tell. */
  memory(): number {
    return process.platform === 'linux' ? residentMb(this.process.pid!) : 0;
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGTERM');
    await ended;
  }
}

function residentMb(pid: number): number {
  const file = (name: string) => readFileSync(`/proc/${pid}/${name}`, 'utf8');
  if (/kernel[^\0]*\.json/.test(file('cmdline'))) return 0;
  const own = Number(/VmRSS:\s+(\d+)/.exec(file('status'))?.[1] ?? 0) / 1024;
  const children = readdirSync(`/proc/${pid}/task`).flatMap((task) =>
    file(`task/${task}/children`).trim().split(' ').filter(Boolean),
  );
  return own + children.reduce((sum, child) => sum + residentMb(Number(child)), 0);
}

/** Opens a notebook in a window without a cache. */
async function open(browser: Browser, server: Server, path: string) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  await context.addInitScript('globalThis.__name = (value) => value');
  const page = new LabPage(await context.newPage());
  const started = performance.now();
  await page.page.goto(server.url(`lab/tree/${path}?token=${TOKEN}&reset`));
  await page.page.waitForSelector('.jp-Notebook .jp-Cell .jp-RenderedMarkdown h1');
  const visible = performance.now() - started;
  await page.waitForStatus('idle');
  return { page, visible, idle: performance.now() - started };
}

async function timed(task: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await task();
  return performance.now() - started;
}

/** One round of a contestant, in a notebook of its own. */
async function round(browser: Browser, server: Server, figures: Figures, n: number): Promise<void> {
  const { kernel, language } = server.contestant;
  const path = `${kernel}-${n}.ipynb`;
  writeFileSync(join(folder, path), notebookText(sameShape(language), { kernel, language }));
  const { page, visible, idle } = await open(browser, server, path);
  figures.visible.push(visible);
  figures.idle.push(idle);
  figures.runAll.push(await timed(() => page.runAll()));
  const code = language === 'python' ? 'str.' : 'Math.';
  for (let i = 0; i < COMPLETIONS; i++) {
    figures.complete.push((await page.complete(code)).ms);
    await page.page.keyboard.press('Escape');
    await page.page.keyboard.press('Escape');
  }
  await page.startCell(language === 'python' ? 'while True: pass' : 'while (true) {}');
  await page.waitForStatus('busy');
  const restart = async () => {
    await page.page.evaluate(async () => {
      const panel = jupyterapp.shell.currentWidget as never as {
        sessionContext: { session: { kernel: { restart(): Promise<void> } } };
      };
      await panel.sessionContext.session.kernel.restart();
    });
    await page.waitForStatus('idle');
  };
  figures.restart.push(await timed(restart));
  figures.memory.push(server.memory());
  await page.close();
}

/** Seconds that all cells of the lesson itself take in the lab. */
async function runLesson(browser: Browser, server: Server): Promise<number> {
  cpSync(join(root, 'notebooks', `${LESSON}.ipynb`), join(folder, `${LESSON}.ipynb`));
  const { page } = await open(browser, server, `${LESSON}.ipynb`);
  return (await timed(() => page.runAll())) / 1000;
}

function rows(all: ReadonlyMap<string, Figures>, lesson: number): Row[] {
  const ours = all.get(OURS)!;
  const out: Row[] = [];
  for (const [peer, theirs] of all) {
    if (peer === OURS) continue;
    for (const [name, unit, key] of [
      ['notebook visible', 'ms', 'visible'],
      ['kernel idle', 'ms', 'idle'],
      ["run all of a notebook of lesson 03's shape", 'ms', 'runAll'],
      ['completion popup', 'ms', 'complete'],
      ['restart of a stuck kernel', 'ms', 'restart'],
      ['memory of the server', 'MB', 'memory'],
    ] as const) {
      const options = { theirs: median(theirs[key]), peer, target: 1 };
      out.push(row(name, unit, median(ours[key]), options));
    }
  }
  return [...out, row('run all of lesson 03 itself', 's', lesson)];
}

const servers: Server[] = [];
let browser: Browser | undefined;
try {
  writeTslabSpec();
  browser = await launchBrowser();
  const figures = new Map<string, Figures>();
  for (const contestant of contestants()) {
    const server = new Server(contestant);
    await server.start();
    servers.push(server);
    figures.set(contestant.name, new Figures());
  }
  // The first round fills the caches of the disk: it does not count.
  for (let n = 0; n <= ROUNDS; n++) {
    for (const server of servers) {
      const { name } = server.contestant;
      await round(browser, server, n === 0 ? new Figures() : figures.get(name)!, n);
    }
  }
  report(rows(figures, await runLesson(browser, servers[0]!)));
} finally {
  await browser?.close();
  for (const server of servers) await server.stop();
  rmSync(folder, { recursive: true, force: true });
}
