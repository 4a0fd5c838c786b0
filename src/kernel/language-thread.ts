// The thread in which TypeScript lives: answers calls of `LanguageClient` one after the other.
import { parentPort, workerData } from 'node:worker_threads';
import { Language } from './language.ts';

/** A call from the kernel. */
export interface LanguageCall {
  id: number;
  method: 'compile' | 'expression' | 'complete' | 'inspect' | 'isComplete' | 'reset';
  args: unknown[];
}

const { cwd, env, typeRoots } = workerData as { cwd: string; env: string; typeRoots: string[] };
const language = new Language(cwd, env, typeRoots);

parentPort!.on('message', ({ id, method, args }: LanguageCall) => {
  try {
    const call = language[method] as (...args: unknown[]) => unknown;
    parentPort!.postMessage({ id, value: call.apply(language, args) });
  } catch (error) {
    parentPort!.postMessage({ id, error: (error as Error).stack ?? String(error) });
  }
});
language.warmUp();
