// Module: a tree of layers whose tensors have the dotted names of PyTorch's state dict.
// Properties are the tree: a tf.Variable is a parameter, a Module or a list of them children.
// Names on disk are snake_case: `selfAttn.qProj` is `self_attn.q_proj`, `ln1` is `ln_1`.
import * as tf from '@tensorflow/tfjs';

/** A layer or model: a named tree of parameters and child modules. */
export abstract class Module {
  /** True while training: dropout is on. Set by `train` and `eval`. */
  training = false;

  /** Direct children by their names on disk; the items of a list are `name.0`, `name.1`. */
  *namedChildren(): Generator<[string, Module]> {
    for (const [property, value] of Object.entries(this)) {
      if (value instanceof Module) yield [snakeCase(property), value];
      else if (Array.isArray(value)) {
        for (const [i, item] of value.entries()) {
          if (item instanceof Module) yield [`${snakeCase(property)}.${i}`, item];
        }
      }
    }
  }

  /** This module as '' and all below it by their paths, parents first. */
  *namedModules(prefix = ''): Generator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(join(prefix, name));
  }

  /** All parameters by their paths, each once: a tied one under its first name. */
  *namedParameters(): Generator<[string, tf.Variable]> {
    const seen = new Set<tf.Variable>();
    for (const [path, module] of this.namedModules()) {
      for (const [property, value] of Object.entries(module)) {
        if (!(value instanceof tf.Variable) || seen.has(value)) continue;
        seen.add(value);
        yield [join(path, snakeCase(property)), value];
      }
    }
  }

  /** All parameters, each once. */
  parameters(): tf.Variable[] {
    return [...this.namedParameters()].map(([, parameter]) => parameter);
  }

  /** The module at a path such as 'model.layers.0.mlp'; throws if there is none. */
  getSubmodule(path: string): Module {
    for (const [name, module] of this.namedModules()) if (name === path) return module;
    throw new Error(`No module named '${path}' in ${this.constructor.name}`);
  }

  /** Puts `module` in the place of the one at `path`, which is not disposed. */
  setSubmodule(path: string, module: Module): void {
    for (const [parentPath, parent] of this.namedModules()) {
      for (const [name, child] of parent.namedChildren()) {
        if (join(parentPath, name) === path) return replaceChild(parent, child, module);
      }
    }
    throw new Error(`No module named '${path}' in ${this.constructor.name}`);
  }

  /** Turns training behaviour (dropout) on or off, here and below. */
  train(mode = true): this {
    for (const [, module] of this.namedModules()) module.training = mode;
    return this;
  }

  /** `train(false)`. */
  eval(): this {
    return this.train(false);
  }

  /** Sets whether parameters are trained, here and below. */
  requiresGrad(trainable = true): this {
    for (const parameter of this.parameters()) parameter.trainable = trainable;
    return this;
  }

  /** Frees all parameters. */
  dispose(): void {
    for (const parameter of this.parameters()) parameter.dispose();
  }
}

/** A trainable tf.Variable that takes over `value`, which must not be used afterwards. */
export function parameter(value: tf.Tensor): tf.Variable {
  const variable = tf.variable(value);
  value.dispose();
  return variable;
}

/**
 * Calls `run` while the named parameters of `module` are these tensors instead, as
 * torch.func.functional_call does; gradients and traces then see tensors, not variables.
 */
export function functionalCall<T>(
  module: Module,
  parameters: Map<string, tf.Tensor>,
  run: () => T,
): T {
  const own = new Map([...module.namedParameters()].map(([name, variable]) => [variable, name]));
  const given = ({ owner, property }: ParameterSlot) =>
    parameters.get(own.get(owner[property] as tf.Variable)!);
  const slots = parameterSlots(module).filter((slot) => given(slot));
  return withParameters(
    slots,
    slots.map((slot) => given(slot)!),
    run,
  );
}

/** A property of a module that holds a parameter, or a tensor in its stead while a functional call runs. */
export interface ParameterSlot {
  owner: Record<string, unknown>;
  property: string;
}

/** Where `module` and all below it hold parameters; a tied one has several places. */
export function parameterSlots(module: Module): ParameterSlot[] {
  return [...module.namedModules()].flatMap(([, owner]) => {
    const slots = owner as unknown as Record<string, unknown>;
    return Object.keys(slots)
      .filter((property) => slots[property] instanceof tf.Variable)
      .map((property) => ({ owner: slots, property }));
  });
}

/** Calls `run` while the slots hold these tensors. */
export function withParameters<T>(
  slots: readonly ParameterSlot[],
  values: readonly tf.Tensor[],
  run: () => T,
): T {
  const before = slots.map(({ owner, property }) => owner[property]);
  const fill = (all: readonly unknown[]) => {
    for (const [i, { owner, property }] of slots.entries()) owner[property] = all[i];
  };
  fill(values);
  try {
    return run();
  } finally {
    fill(before);
  }
}

function replaceChild(parent: Module, old: Module, module: Module): void {
  const slots = parent as unknown as Record<string, unknown>;
  for (const [property, value] of Object.entries(slots)) {
    if (value === old) slots[property] = module;
    else if (Array.isArray(value) && value.includes(old)) value[value.indexOf(old)] = module;
  }
}

/** 'qProj' -> 'q_proj', 'ln1' -> 'ln_1': the field's spelling of a property's name. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]|(?<=[a-z])[0-9]+/g, (part) => `_${part.toLowerCase()}`);
}

const join = (prefix: string, name: string) => (prefix ? `${prefix}.${name}` : name);
