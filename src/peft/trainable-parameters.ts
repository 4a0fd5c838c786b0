// How many parameters are trained, and the line in which PEFT says so.
import type { Module } from '../nn/module.ts';
import { isQuantized } from './base-layer.ts';

/** Numbers of parameters: trained, and all; each packed number of a quantized layer counts. */
export function countTrainable(model: Module): [trainable: number, all: number] {
  let trainable = 0;
  let all = 0;
  for (const parameter of model.parameters()) {
    all += parameter.size;
    if (parameter.trainable) trainable += parameter.size;
  }
  for (const [, module] of model.namedModules()) {
    if (isQuantized(module)) all += module.inFeatures * module.outFeatures;
  }
  return [trainable, all];
}

/** 'trainable params: T || all params: A || trainable%: 100 T / A', as PEFT prints it. */
export function trainableParametersLine(trainable: number, all: number): string {
  const grouped = (count: number) => count.toLocaleString('en-US');
  const percent = ((100 * trainable) / all).toFixed(4);
  return `trainable params: ${grouped(trainable)} || all params: ${grouped(all)} || trainable%: ${percent}`;
}
