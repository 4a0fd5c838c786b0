import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { gpt2Config } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { normalInit } from '../../src/nn/init.ts';
import type { Module } from '../../src/nn/module.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { type MergeRecipe, mergeModels, TaskVector } from '../../src/peft/merge-models.ts';
import { taskMerge } from '../../src/peft/mergekit.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { RandomState } from '../../src/tensor/random.ts';

const config = gpt2Config({ vocabSize: 12, nEmbd: 8, nLayer: 1, nHead: 2, nPositions: 6 });
const model = (seed: number) =>
  fromConfig(config, { init: normalInit(0.1, new RandomState(seed)) });

const numbers = (module: Module) =>
  module.parameters().flatMap((parameter) => Array.from(parameter.dataSync()));
const gap = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

describe('TaskVector', () => {
  before(() => setBackend('wasm'));

  it('brings a base to the tuned model, half way, or away from it', () => {
    const [base, tuned] = [model(1), model(2)];
    const vector = TaskVector.between(base, tuned);
    for (const factor of [1, 0.5, -1]) {
      const other = model(1);
      vector.applyTo(other, factor);
      const wanted = numbers(base).map((x, i) => x + factor * (numbers(tuned)[i]! - x));
      expect(gap(numbers(other), wanted)).to.be.below(1e-6);
    }
  });

  it('adds, scales and negates', () => {
    const [base, one, two] = [model(1), model(2), model(3)];
    const [first, second] = [TaskVector.between(base, one), TaskVector.between(base, two)];
    const sum = first.scale(2).add(second.negate());
    const moved = model(1);
    sum.applyTo(moved);
    const [b, x, y] = [numbers(base), numbers(one), numbers(two)];
    const wanted = b.map((value, i) => value + 2 * (x[i]! - value) - (y[i]! - value));
    expect(gap(numbers(moved), wanted)).to.be.below(1e-6);
    expect(first.negate().cosine(first)).to.be.closeTo(-1, 1e-6);
    expect(first.scale(3).norm()).to.be.closeTo(3 * first.norm(), 1e-4);
  });

  it('of a merged adapter is its update alone', () => {
    const adapted = getPeftModel(model(1), new LoraConfig({ r: 2, initLoraWeights: false }));
    const merged = adapted.mergeAndUnload();
    const { deltas } = TaskVector.between(model(1), merged);
    const changed = [...deltas].filter(([, delta]) => tf.max(tf.abs(delta)).dataSync()[0]! > 0);
    expect(changed.map(([name]) => name)).to.deep.equal(['transformer.h.0.attn.c_attn.weight']);
  });

  it('says which parameter differs', () => {
    const other = fromConfig({ ...config, nPositions: 7 });
    expect(() => TaskVector.between(model(1), other)).to.throw(
      "Models to merge must have one shape, got [6,8] and [7,8] for 'transformer.wpe.weight'",
    );
    const deeper = fromConfig({ ...config, nLayer: 2 });
    expect(() => TaskVector.between(model(1), deeper)).to.throw('no such parameter');
    const vector = TaskVector.between(model(1), model(2));
    expect(() => vector.scale(Number.NaN)).to.throw('must be a finite number, got NaN');
  });
});

describe('mergeModels', () => {
  before(() => setBackend('wasm'));

  const merge = (recipe: MergeRecipe, models = [model(2), model(3)]) => {
    const into = model(1);
    mergeModels(into, models, recipe);
    return numbers(into);
  };

  it('averages with linear and ends at either model with slerp', () => {
    const [x, y] = [numbers(model(2)), numbers(model(3))];
    const mean = x.map((value, i) => (3 * value + y[i]!) / 4);
    expect(gap(merge({ mergeMethod: 'linear', weights: [3, 1] }), mean)).to.be.below(1e-6);
    for (const [t, end] of [
      [0, x],
      [1, y],
    ] as const) {
      const recipe = { mergeMethod: 'slerp', base: model(2), t } as const;
      expect(gap(merge(recipe, [model(3)]), end)).to.be.below(1e-6);
    }
  });

  it('applies a method to each parameter', () => {
    const recipe = { base: model(1), weights: [0.5, 1], densities: [0.4, 0.6] };
    const merged = merge({ mergeMethod: 'ties', ...recipe });
    const each = model(1)
      .parameters()
      .flatMap((base, i) => {
        const tensors = [model(2), model(3)].map((one) => one.parameters()[i]!);
        return Array.from(taskMerge('ties', base, tensors, recipe).dataSync());
      });
    expect(gap(merged, each)).to.equal(0);
  });

  it('draws the masks of a seed', () => {
    const dare = (seed: number) =>
      merge({ mergeMethod: 'dare_linear', base: model(1), densities: [0.5, 0.5], seed });
    expect(dare(1)).to.deep.equal(dare(1));
    expect(gap(dare(1), dare(2))).to.be.above(1e-3);
  });

  it('says what is missing and changes nothing', () => {
    const into = model(1);
    const tensors = tf.memory().numTensors;
    const run =
      (recipe: object, models = [into]) =>
      () =>
        mergeModels(into, models, recipe as MergeRecipe);
    expect(run({ mergeMethod: 'ties' })).to.throw("mergeMethod 'ties' needs a base");
    expect(run({ mergeMethod: 'linear', base: into })).to.throw("'linear' takes no base");
    expect(run({ mergeMethod: 'slerp', base: into })).to.throw('needs t, a number, got undefined');
    expect(run({ mergeMethod: 'mean' })).to.throw('dare_linear, dare_ties, got "mean"');
    expect(run({ mergeMethod: 'linear' }, [])).to.throw('at least one model, got none');
    expect(run({ mergeMethod: 'ties', base: into, densities: [2] })).to.throw('from 0 to 1, got 2');
    expect(run({ mergeMethod: 'ties', base: into, weights: [1, 2] })).to.throw('need 1 weights');
    expect(tf.memory().numTensors).to.equal(tensors);
    expect(numbers(into)).to.deep.equal(numbers(model(1)));
  });
});
