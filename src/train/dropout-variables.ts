// The seed of a PeftModel's dropout, which changes at each forward pass: a checkpoint has to keep it
// so that a resumed run drops what the whole run would have dropped.
import type * as tf from '@tensorflow/tfjs';
import type { Module } from '../nn/module.ts';
import { PeftModel } from '../peft/peft-model.ts';

/** The seed by the name that it has in checkpoints; nothing for models without adapters. */
export function* dropoutVariables(model: Module): Generator<[string, tf.Variable]> {
  if (model instanceof PeftModel) yield ['dropout_seed', model.dropoutSeed];
}
