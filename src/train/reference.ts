// The reference of preference training: the model as it was before, by one of three ways that TRL has
// too: a model of its own, a frozen copy of what is trained, or the adapter switched off.
import * as tf from '@tensorflow/tfjs';
import type { CausalLM } from '../models/causal-lm.ts';
import { functionalCall } from '../nn/module.ts';
import { PeftModel } from '../peft/peft-model.ts';

/** Which reference. */
export type ReferenceKind = 'frozen_copy' | 'adapter_off';

/** Runs functions as the reference would. */
export interface Reference {
  /** What `run` gives when `model` is the reference; it must only read the model it is given. */
  call<T>(run: (model: CausalLM) => T): T;
  dispose(): void;
}

/** The reference of `model`; `refModel` is used as it is. */
export function makeReference(
  model: CausalLM,
  { refModel, kind = 'frozen_copy' }: { refModel?: CausalLM | undefined; kind?: ReferenceKind },
): Reference {
  if (refModel) return { call: (run) => run(refModel), dispose: () => {} };
  if (kind === 'adapter_off') {
    if (!(model instanceof PeftModel)) {
      throw new TypeError(
        "reference 'adapter_off' needs a PeftModel, got a model without adapters",
      );
    }
    return { call: (run) => model.disableAdapter(() => run(model as CausalLM)), dispose: () => {} };
  }
  const trained = [...model.namedParameters()].filter(([, { trainable }]) => trainable);
  const copies = new Map(
    trained.map(([name, own]) => [name, tf.tidy(() => tf.variable(tf.clone(own), false))]),
  );
  return {
    call: (run) => functionalCall(model, copies, () => run(model)),
    dispose: () => tf.dispose([...copies.values()]),
  };
}
