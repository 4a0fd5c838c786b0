// `npm run test:jupyter`: the kernel under Jupyter's own tools, installed like any kernel into a Python
// virtual environment (jupyter_kernel_test, more protocol tests, nbclient, papermill); the lab's server for
// clients in Python and below JupyterHub; widgets and figures in Python's JupyterLab, in Chromium.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { browserPath } from '../browser/lab.ts';
import { hasPython, pythonEnvironment } from './python.ts';

if (!hasPython()) {
  console.error('test:jupyter needs python3 with venv and pip, found none: nothing was tested');
  process.exit(1);
}
const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const environment = pythonEnvironment(join(here, 'requirements.txt'));
const data = mkdtempSync(join(tmpdir(), 'peftlab-jupyter-'));
try {
  const install = [join(root, 'src', 'bin.mjs'), 'install', '--prefix', environment];
  install.push('--labextension');
  const installed = spawnSync(process.execPath, install, { stdio: 'inherit' });
  if (installed.status !== 0) process.exit(installed.status ?? 1);
  const { status } = spawnSync(
    join(environment, 'bin', 'python'),
    ['-m', 'pytest', '-q', '-p', 'no:cacheprovider', here, ...process.argv.slice(2)],
    {
      stdio: 'inherit',
      env: { ...process.env, PEFTLAB_DATA_DIR: data, JUPYTER_PLATFORM_DIRS: '1' },
    },
  );
  process.exitCode = status ?? 1;
  if (browserPath()) {
    const mocha = join(root, 'node_modules', 'mocha', 'bin', 'mocha.js');
    const options = ['--no-package', '--import=tsx', '--timeout', '600000'];
    const tested = spawnSync(
      process.execPath,
      [mocha, ...options, join(here, 'jupyterlab.spec.ts')],
      { stdio: 'inherit', cwd: root, env: { ...process.env, PEFTLAB_DATA_DIR: data } },
    );
    process.exitCode ||= tested.status ?? 1;
  } else console.log("Left out: Python's JupyterLab in a browser (no Chromium here)");
} finally {
  rmSync(data, { recursive: true, force: true });
}
