import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { llamaConfig } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig, type LoraOptions } from '../../src/peft/lora-config.ts';
import { COMBINATION_TYPES, type CombinationType } from '../../src/peft/merge-lora.ts';
import { getPeftModel, PeftModel } from '../../src/peft/peft-model.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const config = llamaConfig({
  vocabSize: 30,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
});
const base = () => fromConfig(config);
const ids = () => tf.tensor2d([[3, 7, 1, 20, 9]], undefined, 'int32');
const logits = (model: PeftModel) =>
  tf.tidy(() => Array.from(model.forward(ids()).logits.dataSync()));
const gap = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

function stir(model: PeftModel, name: string, seed: number): void {
  const random = new RandomState(seed);
  for (const tensor of model.getAdapterState(name).values()) {
    tf.tidy(() => (tensor as tf.Variable).assign(randomNormal(tensor.shape, random, { std: 0.3 })));
  }
}

function pair(first: LoraOptions = {}, second: LoraOptions = {}): PeftModel {
  const model = getPeftModel(base(), new LoraConfig({ r: 3, ...first }), { adapterName: 'one' });
  model.addAdapter('two', new LoraConfig({ r: 3, loraAlpha: 5, ...second }));
  for (const [i, name] of ['one', 'two'].entries()) stir(model, name, i);
  return model as unknown as PeftModel;
}

/** The sum of both updates of each layer with these weights. */
function weighted(model: PeftModel, w: [number, number]): Map<string, number[]> {
  return new Map(
    [...model.layers].map(([path, layer]) => {
      const delta = tf.tidy(() => {
        const zero = tf.zerosLike(layer.baseLayer.namedParameters().next().value![1]);
        const parts = ['one', 'two'].flatMap((name, i) => {
          const own = layer.adapters.get(name);
          return own ? [tf.mul(own.mergeWeight(zero), w[i]!)] : [];
        });
        return Array.from(tf.addN(parts).dataSync());
      });
      return [path, delta];
    }),
  );
}

function deltasOf(model: PeftModel, name: string): Map<string, number[]> {
  return new Map(
    [...model.layers].map(([path, layer]) => {
      const zero = () => tf.zerosLike(layer.baseLayer.namedParameters().next().value![1]);
      const own = layer.adapters.get(name)!;
      return [path, tf.tidy(() => Array.from(own.mergeWeight(zero()).dataSync()))];
    }),
  );
}

describe('addWeightedAdapter', () => {
  before(() => setBackend('wasm'));

  it('is exact with cat and svd over adapters of other ranks, alphas and layers', () => {
    const model = pair(
      { targetModules: ['q_proj', 'v_proj'], useRslora: true },
      { r: 2, targetModules: ['v_proj', 'up_proj', 'embed_tokens'] },
    );
    const wanted = weighted(model, [0.7, -0.4]);
    model.addWeightedAdapter(['one', 'two'], [0.7, -0.4], 'cat', { combinationType: 'cat' });
    model.addWeightedAdapter(['one', 'two'], [0.7, -0.4], 'svd', { svdRank: 5 });
    for (const name of ['cat', 'svd']) {
      for (const [path, delta] of deltasOf(model, name)) {
        expect(gap(delta, wanted.get(path)!), `${name} ${path}`).to.be.below(1e-5);
      }
    }
    expect(model.peftConfig.cat).to.include({ r: 5, loraAlpha: 5 });
    expect(model.activeAdapters).to.deep.equal(['one']);
  });

  it('makes an adapter by each method that is saved and loaded as any other', () => {
    const model = pair();
    const folder = mkdtempSync(join(tmpdir(), 'peftlab-'));
    for (const combinationType of COMBINATION_TYPES) {
      const options = { combinationType, density: 0.6 };
      model.addWeightedAdapter(['one', 'two'], [1, 0.5], combinationType, options);
      model.setAdapter(combinationType);
      model.savePretrained(folder, { selectedAdapters: [combinationType] });
      const again = PeftModel.fromPretrained(base(), join(folder, combinationType));
      expect(logits(again as unknown as PeftModel), combinationType).to.deep.equal(logits(model));
      again.dispose();
    }
    rmSync(folder, { recursive: true });
  });

  it('negates a single adapter exactly, whatever the method', () => {
    const model = pair();
    model.addWeightedAdapter(['one'], [-1], 'not one', { combinationType: 'svd' });
    const own = weighted(model, [-1, 0]);
    for (const [path, delta] of deltasOf(model, 'not one')) {
      expect(gap(delta, own.get(path)!)).to.be.below(1e-6);
    }
  });

  it('draws the same masks from the same seed, and others for each layer', () => {
    const model = pair();
    const merge = (name: string, seed: number) =>
      model.addWeightedAdapter(['one', 'two'], [1, 1], name, {
        combinationType: 'dare_linear',
        density: 0.5,
        seed,
      });
    merge('a', 3);
    merge('b', 3);
    merge('c', 4);
    const [a, b, c] = ['a', 'b', 'c'].map((name) => [...deltasOf(model, name).values()].flat());
    expect(a).to.deep.equal(b);
    expect(gap(a!, c!)).to.be.above(1e-3);
    const zeros = [...model.layers.values()].map((layer) => {
      const { loraA } = layer.adapters.get('a') as unknown as { loraA: tf.Tensor };
      return Array.from(loraA.dataSync(), (x) => x === 0).join();
    });
    expect(new Set(zeros).size).to.equal(zeros.length);
  });

  it('covers the layers of adapters that are narrowed to blocks', () => {
    const model = pair({ layersToTransform: [0] }, { layersToTransform: [1] });
    model.addWeightedAdapter(['one', 'two'], [1, 1], 'both', { combinationType: 'cat' });
    const layers = [...model.layers].filter(([, layer]) => layer.adapters.has('both'));
    expect(layers).to.have.length(4);
  });

  it('says what can not be merged and leaves the model as it was', () => {
    const model = pair({}, { r: 2 });
    model.addAdapter('ia3', new IA3Config());
    model.addAdapter('dora', new LoraConfig({ useDora: true }));
    const tensors = tf.memory().numTensors;
    const merge =
      (names: string[], weights: number[], options: object = {}, name = 'new') =>
      () =>
        model.addWeightedAdapter(names, weights, name, options);
    const both = ['one', 'two'];
    expect(merge(both, [1, 1], { combinationType: 'ties', density: 0.5 })).to.throw(
      "'ties' needs adapters of one rank, got 3 and 2",
    );
    expect(merge(['one', 'three'], [1, 1])).to.throw(
      "No adapter named 'three'; have 'one', 'two', 'ia3', 'dora'",
    );
    expect(merge(both, [1])).to.throw('got 2 adapters and 1 weights');
    expect(merge([], [])).to.throw('got 0 adapters and 0 weights');
    expect(merge(both, [1, Number.NaN])).to.throw('must be a finite number, got NaN');
    expect(merge(['one', 'ia3'], [1, 1])).to.throw("and 'ia3' is IA3");
    expect(merge(['one', 'dora'], [1, 1])).to.throw("and 'dora' is DoRA");
    expect(merge(both, [1, 1], { combinationType: 'mean' })).to.throw("got 'mean'");
    expect(merge(both, [1, 1], { svdRank: 0 })).to.throw('positive integer, got 0');
    expect(merge(both, [1, 1], { combinationType: 'ties_svd' })).to.throw('needs a density');
    expect(merge(both, [1, 1], { combinationType: 'cat' as CombinationType }, 'two')).to.throw(
      "There is an adapter named 'two' already",
    );
    expect(Object.keys(model.peftConfig)).to.deep.equal(['one', 'two', 'ia3', 'dora']);
    expect(tf.memory().numTensors).to.equal(tensors);
  });
});
