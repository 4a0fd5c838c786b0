// The Python that suites and benches beside peers run: PEFTLAB_PEERS_PYTHON, or an environment made for
// requirements.txt.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { hasPython, pythonEnvironment } from '../jupyter/python.ts';

/** The path of a Python with what requirements.txt lists, the peers' pinned versions; undefined without Python. */
export function peersPython(): string | undefined {
  const given = process.env.PEFTLAB_PEERS_PYTHON;
  if (given) return given;
  if (!hasPython()) return undefined;
  return join(pythonEnvironment(join(import.meta.dirname, 'requirements.txt')), 'bin', 'python');
}

/** What a script beside this one prints as the last line, a JSON value. */
export function askPython(python: string, script: string, ...args: string[]): unknown {
  const options = { encoding: 'utf8', maxBuffer: 2 ** 28 } as const;
  const run = spawnSync(python, [join(import.meta.dirname, script), ...args], options);
  if (run.status !== 0)
    throw new Error(`${script} ${args[0] ?? ''} failed: ${run.stderr.slice(-2000)}`);
  return JSON.parse(run.stdout.trimEnd().split('\n').at(-1)!);
}
