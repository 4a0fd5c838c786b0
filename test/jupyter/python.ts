// A Python virtual environment in the cache, with exactly the packages of a requirements file: made once
// per content of that file, used by the suites and benchmarks that compare with Python's tools.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const CACHE = fileURLToPath(new URL('../../node_modules/.cache/peftlab/', import.meta.url));

/** True if a Python 3 with venv is on the PATH. */
export function hasPython(): boolean {
  return spawnSync('python3', ['-c', 'import venv, ensurepip'], { stdio: 'ignore' }).status === 0;
}

/** The folder of an environment that holds what `requirements` lists. */
export function pythonEnvironment(requirements: string): string {
  const text = readFileSync(requirements, 'utf8');
  const folder = join(
    CACHE,
    `venv-${createHash('sha256').update(text).digest('hex').slice(0, 12)}`,
  );
  const ready = `${folder}.ready`;
  if (existsSync(ready)) return folder;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(CACHE, { recursive: true });
  run('python3', ['-m', 'venv', folder]);
  run(join(folder, 'bin', 'python'), ['-m', 'pip', 'install', '-q', '-r', requirements]);
  mkdirSync(`${ready}.tmp`);
  renameSync(`${ready}.tmp`, ready);
  return folder;
}

function run(command: string, args: readonly string[]): void {
  const { status } = spawnSync(command, args, { stdio: 'inherit' });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed with exit code ${status}`);
}
