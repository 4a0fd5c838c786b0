// Functions of whole weights, to merge and to take out again: compiled, so that a weight that lives in
// the native thread stays there, and held for the shapes of the last models alone.
import { jit } from '../jit/jit.ts';

/** Shapes whose graphs are kept: those of one model and its adapters are fewer. */
const KEPT = 12;

/** `fn`, compiled for each set of shapes that it gets. */
// biome-ignore lint/suspicious/noExplicitAny: any function of tensors can be compiled.
export function weightJit<F extends (...args: any[]) => any>(fn: F): F {
  const compiled = jit(fn);
  const call = (...args: Parameters<F>): ReturnType<F> => {
    if (compiled.compilations === KEPT) compiled.dispose();
    return compiled(...args);
  };
  return call as F;
}
