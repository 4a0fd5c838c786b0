// ModulesToSave: a module that an adapter trains as a whole, one copy an adapter beside the original.
import type * as tf from '@tensorflow/tfjs';
import { tensor as makeTensor, Variable } from '@tensorflow/tfjs';
import { Module, parameter } from '../nn/module.ts';
import type { BaseLayer } from './base-layer.ts';
import { type AdapterState, BASE_ROWS } from './tuner-layer.ts';

/** Stands in the place of a module and passes calls to the active adapter's copy of it. */
export class ModulesToSave extends Module {
  readonly originalModule: BaseLayer;
  readonly copies = new Map<string, BaseLayer>();
  private readonly state: AdapterState;

  constructor(originalModule: BaseLayer, state: AdapterState) {
    super();
    this.originalModule = originalModule;
    this.state = state;
  }

  get weight(): tf.Tensor | undefined {
    return (this.current as { weight?: tf.Tensor }).weight;
  }

  override *namedChildren(): Generator<[string, Module]> {
    yield ['original_module', this.originalModule];
    for (const [name, copy] of this.copies) yield [`modules_to_save.${name}`, copy];
  }

  /** The copy of the active adapter, or the original. */
  get current(): BaseLayer {
    const { disabled, active } = this.state;
    const found = disabled ? undefined : active.find((name) => this.copies.has(name));
    return found === undefined ? this.originalModule : this.copies.get(found)!;
  }

  forward(x: tf.Tensor): tf.Tensor {
    const { rows } = this.state;
    if (!rows) return this.current.forward(x);
    const owners = new Set(rows.filter((name) => name !== BASE_ROWS && this.copies.has(name)));
    if (owners.size === 0) return this.originalModule.forward(x);
    throw new Error(
      `adapterNames can not be used with modulesToSave, which '${[...owners][0]}' has`,
    );
  }
}

/** A module like this one whose parameters are copies, also of those that it shares with others. */
export function cloneModule<M extends Module>(module: M): M {
  const copy = Object.create(Object.getPrototypeOf(module)) as M;
  for (const [property, value] of Object.entries(module)) {
    (copy as Record<string, unknown>)[property] = cloneValue(value);
  }
  return copy;
}

function cloneValue(value: unknown): unknown {
  if (value instanceof Variable) {
    return parameter(makeTensor(value.dataSync().slice(), value.shape, value.dtype));
  }
  if (value instanceof Module) return cloneModule(value);
  return Array.isArray(value) ? value.map(cloneValue) : value;
}
