// What can not be: names that are taken, methods that exclude each other, rows without an adapter.
// Each check throws one sentence before anything in the model has changed.
import type * as tf from '@tensorflow/tfjs';
import { isPromptLearning, type PeftConfig } from './mapping.ts';
import type { AdapterParts } from './save-load.ts';
import { BASE_ROWS } from './tuner-layer.ts';

type Parts = ReadonlyMap<string, AdapterParts>;

/** The parts of an adapter; throws a RangeError that lists what there is. */
export function partsNamed(all: Parts, name: string): AdapterParts {
  const parts = all.get(name);
  if (parts) return parts;
  const have = [...all.keys()].map((other) => `'${other}'`).join(', ') || 'none';
  throw new RangeError(`No adapter named '${name}'; have ${have}`);
}

/** Throws unless an adapter of this name and config can join the others. */
export function checkNewAdapter(
  all: Parts,
  { name, config, merged }: { name: string; config: PeftConfig; merged: readonly string[] },
): void {
  if (all.has(name)) throw new RangeError(`There is an adapter named '${name}' already`);
  if (!name || /\./.test(name) || ['base_layer', BASE_ROWS].includes(name)) {
    throw new RangeError(
      `An adapter's name must have no dot and not be 'base_layer', got '${name}'`,
    );
  }
  const others = [...all.values()].map((parts) => parts.config);
  if (others.some((other) => isPromptLearning(other) !== isPromptLearning(config))) {
    throw new TypeError(
      `${config.peftType} can not be combined with ${others[0]!.peftType} in one model`,
    );
  }
  const hasBias = (one: PeftConfig) => !isPromptLearning(one) && one.bias !== 'none';
  if (others.length > 0 && [config, ...others].some(hasBias)) {
    throw new RangeError("Only a single adapter can train biases; set bias to 'none'");
  }
  if (merged.length > 0) {
    throw new Error(`'${merged[0]}' is merged; call unmergeAdapter before adding`);
  }
}

/** Throws unless each row of a batch has an adapter that rows can have. */
export function checkAdapterRows(
  all: Parts,
  { names, ids, merged }: { names: readonly string[]; ids: tf.Tensor | null; merged: string[] },
): void {
  if (ids && ids.shape[0] !== names.length) {
    throw new RangeError(
      `adapterNames must name an adapter for each of ${ids.shape[0]} rows, got ${names.length}`,
    );
  }
  for (const name of new Set(names)) {
    if (name !== BASE_ROWS && partsNamed(all, name).encoder) {
      throw new TypeError(`adapterNames can not name virtual tokens such as '${name}'`);
    }
  }
  if (merged.length > 0) {
    throw new Error(`adapterNames can not be used while '${merged[0]}' is merged`);
  }
}

/** Throws unless these adapters can be merged, and are not yet. */
export function checkMerge(all: Parts, names: readonly string[], merged: readonly string[]): void {
  for (const name of names) {
    const { encoder } = partsNamed(all, name);
    if (encoder) throw new TypeError(`Virtual tokens such as '${name}' can not be merged`);
    if (merged.includes(name)) {
      throw new Error(`Adapter '${name}' is merged already; call unmergeAdapter first`);
    }
  }
}

/** The share of a layer's input that an adapter drops in training. */
export function dropoutRate(config: PeftConfig): number {
  if ('loraDropout' in config) return config.loraDropout;
  return 'veraDropout' in config ? config.veraDropout : 0;
}
