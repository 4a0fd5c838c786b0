// The thread in which TypeScript lives: answers calls of `LanguageClient` one after the other, and
// collects garbage when nothing is asked for, since each check leaves a whole program behind.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parentPort, workerData } from 'node:worker_threads';
import { Language } from './language.ts';

/** A call from the kernel. */
export interface LanguageCall {
  id: number;
  method: 'compile' | 'expression' | 'complete' | 'inspect' | 'isComplete' | 'reset';
  args: unknown[];
}

const IDLE_MS = 100;
const CALLS_BETWEEN_COLLECTIONS = 8;

const { cwd, env, typeRoots } = workerData as { cwd: string; env: string; typeRoots: string[] };
const language = new Language(cwd, env, typeRoots);
setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
let calls = 0;
let isIndexing = false;
let hasIndexed = false;

/** What is done when nothing is asked for: names for completion first, then garbage. */
const idle = setTimeout(() => {
  if (isIndexing && language.indexNext()) return void idle.refresh();
  isIndexing = false;
  if (calls < CALLS_BETWEEN_COLLECTIONS) return;
  calls = 0;
  collectGarbage();
}, IDLE_MS);

parentPort!.on('message', ({ id, method, args }: LanguageCall) => {
  try {
    const call = language[method] as (...args: unknown[]) => unknown;
    parentPort!.postMessage({ id, value: call.apply(language, args) });
  } catch (error) {
    parentPort!.postMessage({ id, error: (error as Error).stack ?? String(error) });
  }
  calls++;
  if (method === 'complete' && !hasIndexed) {
    hasIndexed = true;
    isIndexing = true;
  }
  idle.refresh();
});
language.warmUp();
