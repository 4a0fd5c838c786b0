// `npm start`: builds the page if need be, serves a folder, and opens the browser at its first notebook.
import { spawn } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { join, relative, resolve, sep } from 'node:path';
import { buildLab } from '../lab/bundle.ts';
import { Hub } from './hub.ts';
import { startServer } from './server.ts';

/** Options of `runLab`, as the command line gives them. */
export interface LabOptions {
  port?: number;
  /** Opens the browser. */
  open?: boolean;
  root?: string;
  token?: string;
}

/** Serves until the process is told to end. */
export async function runLab(options: LabOptions = {}): Promise<void> {
  const { port, open = true, root = process.cwd(), token = process.env.JUPYTER_TOKEN } = options;
  const folder = resolve(root);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw new Error(`--root must be a folder, got ${root}`);
  }
  const bundle = await buildWithWords();
  const hub = process.env.JUPYTERHUB_SERVICE_PREFIX ? new Hub(process.env) : undefined;
  const server = await startServer({
    ...{ root: folder, bundle },
    ...(port === undefined ? {} : { port }),
    ...(token ? { token } : {}),
    ...(hub ? { hub } : {}),
  });
  const first = firstNotebook(folder);
  const url = first ? server.url.replace('/lab?', `/lab/tree/${first}?`) : server.url;
  console.log(hub ? 'The lab is ready' : `The lab is at\n\n    ${url}\n\nCtrl+C ends it.`);
  if (open && !hub) openBrowser(url);
  await new Promise<void>((end) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => end());
  });
  await server.close();
}

/** Builds the page, saying so only if there is something to build. */
async function buildWithWords(): Promise<string> {
  const started = Date.now();
  const isTerminal = process.stdout.isTTY === true;
  let isBuilding = false;
  const folder = await buildLab({
    onProgress: (files) => {
      if (!isBuilding) console.log('Building JupyterLab from its packages, this first time');
      isBuilding = true;
      if (isTerminal) process.stdout.write(`\r\x1b[2K${files} files`);
    },
  });
  if (isBuilding) {
    if (isTerminal) process.stdout.write('\r\x1b[2K');
    console.log(`Built in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  }
  return folder;
}

/** The first notebook in `notebooks/` or in the folder itself, as a path of the address. */
function firstNotebook(root: string): string | null {
  for (const folder of [join(root, 'notebooks'), root]) {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) continue;
    const name = readdirSync(folder)
      .filter((file) => file.endsWith('.ipynb'))
      .sort()[0];
    if (!name) continue;
    return relative(root, join(folder, name)).split(sep).map(encodeURIComponent).join('/');
  }
  return null;
}

/** Opens the user's browser; where there is none, the address was printed. */
function openBrowser(url: string): void {
  const { platform, env } = process;
  if (platform === 'linux' && !env.DISPLAY && !env.WAYLAND_DISPLAY) return;
  const [command, ...args] =
    platform === 'darwin'
      ? ['open', url]
      : platform === 'win32'
        ? ['cmd', '/c', 'start', '', url.replaceAll('&', '^&')]
        : ['xdg-open', url];
  const child = spawn(command!, args, { stdio: 'ignore', detached: true });
  child.on('error', () => {});
  child.unref();
}
