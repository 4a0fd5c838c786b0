// Starts a kernel: `main.ts <connection file>`. Everything that is slow to load (TypeScript, the process
// of the user's code) starts beside the sockets, so that kernel_info is answered at once.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Connection, readConnectionFile } from './connection.ts';
import { Kernel, type KernelScripts } from './kernel.ts';

const require = createRequire(import.meta.url);
const PARENT_CHECK_MS = 1000;

/** The scripts that lie beside this one, bundled or not. */
function findScripts(packageRoot: string): KernelScripts {
  const here = dirname(fileURLToPath(import.meta.url));
  const script = (name: string) => join(here, `${name}.js`);
  const { version } = JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as {
    version: string;
  };
  return {
    child: script('child'),
    helper: script('helper-thread'),
    hooks: script('module-hooks'),
    language: script('language-thread'),
    env: join(packageRoot, 'src', 'kernel', 'env.d.ts'),
    typeRoots: [dirname(dirname(require.resolve('@types/node/package.json')))],
    version,
  };
}

/** Ends the kernel when the process that started it is gone, as ipykernel does. */
function watchParent(onGone: () => void): void {
  const parent = Number(process.env.JPY_PARENT_PID ?? 0);
  if (!(parent > 1)) return;
  setInterval(() => {
    try {
      process.kill(parent, 0);
    } catch {
      onGone();
    }
  }, PARENT_CHECK_MS).unref();
}

/** Runs a kernel until it is shut down; problems at the start end it with one sentence. */
export async function main(connectionFile: string | undefined, packageRoot: string): Promise<void> {
  if (!connectionFile) throw new Error('The kernel must be given a connection file');
  const connection = new Connection(readConnectionFile(connectionFile));
  const kernel = new Kernel(connection, findScripts(packageRoot), () => process.exit(0));
  await connection.bind();
  kernel.start();
  process.on('SIGINT', () => kernel.interrupt());
  process.on('SIGTERM', () => void kernel.shutdown());
  watchParent(() => void kernel.shutdown());
}
