// Installs the kernelspec `typescript-peftlab` where Jupyter, VS Code and nbclient look for kernels.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { KERNEL_ENV, LAUNCHER } from './client.ts';
import { LOGO_SVG, logoPng } from './logo.ts';

/** Name of the kernelspec. */
export const KERNEL_NAME = 'typescript-peftlab';

/** Name that people see. */
export const DISPLAY_NAME = 'TypeScript (peftlab)';

/** Where to install: `user` is the default; `sysPrefix` is that of the Python on the PATH. */
export interface KernelspecPlace {
  user?: boolean;
  prefix?: string;
  sysPrefix?: boolean;
}

/** Content of `kernel.json`. */
export function kernelspec(): Record<string, unknown> {
  return {
    argv: [process.execPath, LAUNCHER, '{connection_file}'],
    display_name: DISPLAY_NAME,
    language: 'typescript',
    interrupt_mode: 'message',
    env: KERNEL_ENV,
    metadata: { debugger: true },
  };
}

/** Jupyter's data folder of a place. */
export function dataFolder({ prefix, sysPrefix }: KernelspecPlace): string {
  if (prefix) return join(prefix, 'share', 'jupyter');
  if (sysPrefix) return join(pythonPrefix(), 'share', 'jupyter');
  if (process.env.JUPYTER_DATA_DIR) return process.env.JUPYTER_DATA_DIR;
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Jupyter');
  if (process.platform === 'win32') {
    return join(process.env.APPDATA ?? join(homedir(), 'AppData', 'Roaming'), 'jupyter');
  }
  return join(process.env.XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'jupyter');
}

function pythonPrefix(): string {
  if (process.env.VIRTUAL_ENV) return process.env.VIRTUAL_ENV;
  if (process.env.CONDA_PREFIX) return process.env.CONDA_PREFIX;
  for (const python of ['python3', 'python']) {
    try {
      return execFileSync(python, ['-c', 'import sys; print(sys.prefix)'], {
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    } catch {
      // Try the next name.
    }
  }
  throw new Error('--sys-prefix needs a Python on the PATH, found none; use --user or --prefix');
}

/** Writes the kernelspec and returns its folder; it appears whole or not at all. */
export function installKernelspec(place: KernelspecPlace = {}): string {
  const folder = join(dataFolder(place), 'kernels', KERNEL_NAME);
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  writeFileSync(join(partial, 'kernel.json'), `${JSON.stringify(kernelspec(), null, 1)}\n`);
  writeFileSync(join(partial, 'logo-svg.svg'), LOGO_SVG);
  for (const size of [32, 64] as const) {
    writeFileSync(join(partial, `logo-${size}x${size}.png`), logoPng(size));
  }
  rmSync(folder, { recursive: true, force: true });
  renameSync(partial, folder);
  return folder;
}

/** Removes the kernelspec and returns its folder; an error if it is not there. */
export function uninstallKernelspec(place: KernelspecPlace = {}): string {
  const folder = join(dataFolder(place), 'kernels', KERNEL_NAME);
  if (!existsSync(folder)) throw new Error(`No kernelspec ${KERNEL_NAME} at ${folder}`);
  rmSync(folder, { recursive: true, force: true });
  return folder;
}
