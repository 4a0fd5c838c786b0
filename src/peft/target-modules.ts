// Which modules a config means, by PEFT's rules: names that end a path, a regular expression that
// matches all of it, or 'all-linear'; layersToTransform narrows names to some blocks.
// Left out: PEFT's shortening of long lists of names.
import { Embedding } from '../nn/embedding.ts';
import type { Module } from '../nn/module.ts';
import { isLinear } from './base-layer.ts';
import { ModulesToSave } from './modules-to-save.ts';
import { TunerLayer } from './tuner-layer.ts';

/** Fields of a config that say what is adapted. */
export interface TargetFields {
  /** Ends of module paths, a regular expression, or 'all-linear'. */
  targetModules: string[] | string | null;
  excludeModules?: string[] | string | null;
  /** Indices of blocks; all when null. */
  layersToTransform?: number[] | number | null;
  /** Names of the lists that blocks are in; any when null. */
  layersPattern?: string[] | string | null;
  /** Modules that are trained and saved as a whole. */
  modulesToSave: string[] | null;
}

/** Modules by their paths without adapters: a TunerLayer has its base layer's path and children. */
export function* originalModules(root: Module, prefix = ''): Generator<[string, Module]> {
  yield [prefix, root];
  if (root instanceof ModulesToSave) return;
  const parent = root instanceof TunerLayer ? root.baseLayer : root;
  for (const [name, child] of parent.namedChildren()) {
    yield* originalModules(child, prefix ? `${prefix}.${name}` : name);
  }
}

/** The module that a TunerLayer wraps, or the module itself. */
export const unwrapped = (module: Module) =>
  module instanceof TunerLayer ? module.baseLayer : module;

/** Whether a config means the module at this path. */
export function isTarget(config: TargetFields, path: string): boolean {
  const { targetModules, excludeModules, modulesToSave } = config;
  if (excludeModules && matches(excludeModules, path)) return false;
  const inside = (name: string) => new RegExp(`(^|.*\\.)${name}($|\\..*)`).test(path);
  if (modulesToSave?.some(inside)) return false;
  if (targetModules === null) return false;
  if (typeof targetModules === 'string') return matches(targetModules, path);
  if (targetModules.includes(path)) return true;
  return matches(targetModules, path) && isInLayers(config, path);
}

/**
 * The paths that `targetModules` means in this model, with 'all-linear' spelt out: every linear layer
 * but the output head. Throws, saying what there is, when nothing matches.
 */
export function findTargets(
  root: Module,
  config: TargetFields,
  { name = 'LoraConfig', head = 'lm_head' } = {},
): [string, Module][] {
  const modules = [...originalModules(root)].filter(([path]) => path !== '');
  const isAll = String(config.targetModules).toLowerCase() === 'all-linear';
  const linear = modules.filter(([path, module]) => isLinear(unwrapped(module)) && path !== head);
  const meant = isAll ? { ...config, targetModules: linear.map(([path]) => path) } : config;
  const found = modules.filter(([path]) => isTarget(meant, path));
  if (found.length > 0) return found;
  const known = modules.filter(
    ([, module]) => isLinear(unwrapped(module)) || unwrapped(module) instanceof Embedding,
  );
  const names = [...new Set(known.map(([path]) => path.split('.').at(-1)))].join(', ');
  throw new RangeError(
    `${name}.targetModules ${JSON.stringify(config.targetModules)} matches no module; have ${names}`,
  );
}

/** The first of the patterns that matches the path's end, as rankPattern and alphaPattern do. */
export function findPattern<T>(patterns: Record<string, T>, path: string, otherwise: T): T {
  const found = Object.keys(patterns).find((pattern) =>
    pythonRegExp(`^(.*\\.)?(${pattern})$`).test(path),
  );
  return found === undefined ? otherwise : patterns[found]!;
}

/** Modules whose path ends in a name of `modulesToSave`, not only after a dot, as PEFT has it. */
export function findSaved(root: Module, names: readonly string[] | null): [string, Module][] {
  return [...originalModules(root)].filter(([path]) => names?.some((name) => path.endsWith(name)));
}

function matches(wanted: string[] | string, path: string): boolean {
  if (typeof wanted === 'string') return pythonRegExp(`^(?:${wanted})$`).test(path);
  return wanted.some((name) => path === name || path.endsWith(`.${name}`));
}

function isInLayers({ layersToTransform, layersPattern }: TargetFields, path: string): boolean {
  const layers = [layersToTransform ?? []].flat();
  if (layers.length === 0) return true;
  const patterns = [layersPattern ?? []].flat();
  const wanted =
    patterns.length === 0
      ? [/^.*?\.[^.]*\.(\d+)\./]
      : patterns.map((pattern) => pythonRegExp(`^(?:|.*?\\.)${pattern}\\.(\\d+)\\.`));
  const index = wanted.map((pattern) => pattern.exec(path)?.[1]).find((found) => found);
  return index !== undefined && layers.includes(Number(index));
}

/** A regular expression of Python's, whose named groups are spelt `(?P<name>`. */
export const pythonRegExp = (source: string) => new RegExp(source.replaceAll('(?P<', '(?<'));
