// The Python that suites beside peers run: PEFTLAB_PEERS_PYTHON, or an environment made for a
// requirements file.
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { hasPython, pythonEnvironment } from '../jupyter/python.ts';

/** The path of a Python with what `requirements` (a path from this folder) lists; undefined without Python. */
export function peersPython(requirements: string): string | undefined {
  const given = process.env.PEFTLAB_PEERS_PYTHON;
  if (given) return given;
  if (!hasPython()) return undefined;
  return join(pythonEnvironment(resolve(import.meta.dirname, requirements)), 'bin', 'python');
}

/** What a script beside this one prints as the last line, a JSON value. */
export function askPython(python: string, script: string, ...args: string[]): unknown {
  const options = { encoding: 'utf8', maxBuffer: 2 ** 28 } as const;
  const run = spawnSync(python, [join(import.meta.dirname, script), ...args], options);
  if (run.status !== 0)
    throw new Error(`${script} ${args[0] ?? ''} failed: ${run.stderr.slice(-2000)}`);
  return JSON.parse(run.stdout.trimEnd().split('\n').at(-1)!);
}
