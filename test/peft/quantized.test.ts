import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import type { Module } from '../../src/nn/module.ts';
import { BottleneckConfig } from '../../src/peft/bottleneck.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { PrefixTuningConfig } from '../../src/peft/prefix-tuning.ts';
import { VeraConfig } from '../../src/peft/vera.ts';
import { BitsAndBytesConfig, quantizeModel } from '../../src/quant/bnb-config.ts';
import { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { Linear8bitLt } from '../../src/quant/linear-8bit.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { AdamW, type AdamWNumbers } from '../../src/train/optimizers.ts';

const folder = join(import.meta.dirname, '../peers/01_models/llama');
const numbers = (run: () => tf.Tensor) => tf.tidy(() => Array.from(run().dataSync()));
const gap = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

const quantized = (options: ConstructorParameters<typeof BitsAndBytesConfig>[0]) =>
  quantizeModel(loadFolder(folder), new BitsAndBytesConfig(options));

function stirred(base: ReturnType<typeof loadFolder>, useDora = false) {
  const model = getPeftModel(base, new LoraConfig({ r: 4, useDora, targetModules: 'all-linear' }));
  const random = new RandomState(4);
  for (const parameter of model.parameters().filter(({ trainable }) => trainable)) {
    const noise = randomNormal(parameter.shape, random, { std: 0.1 });
    tf.tidy(() => parameter.assign(tf.add(parameter, noise)));
    noise.dispose();
  }
  const ids = tf.tensor2d([[5, 17, 3, 80]], undefined, 'int32');
  return { model, logits: () => numbers(() => model.forward(ids).logits) };
}

const ids = () => tf.tensor2d([[5, 17, 3, 80]], undefined, 'int32');

/** The packed weights of a model, as they are. */
function packedBytes(model: Module): (Uint8Array | Int8Array)[] {
  return [...model.namedModules()].flatMap(([, layer]): (Uint8Array | Int8Array)[] => {
    if (layer instanceof Linear4bit) return [layer.state().packed];
    return layer instanceof Linear8bitLt ? [layer.state().codes] : [];
  });
}

describe('Adapters on quantized layers', () => {
  before(() => setBackend('auto'));

  it("count each packed number, as PEFT's line does", () => {
    const whole = getPeftModel(loadFolder(folder), new LoraConfig()).getNbTrainableParameters();
    const packed = getPeftModel(quantized({ loadIn4bit: true }), new LoraConfig());
    expect(packed.getNbTrainableParameters()).to.deep.equal(whole);
  });

  it('send gradients to the adapters alone', () => {
    const { model } = stirred(quantized({ loadIn4bit: true, bnb4bitQuantType: 'nf4' }));
    const ids = tf.tensor2d([[5, 17, 3, 80]], undefined, 'int32');
    const params = model.parameters().filter(({ trainable }) => trainable);
    const { grads } = tf.variableGrads(() => tf.mean(model.forward(ids).logits), params);
    for (const grad of Object.values(grads))
      expect(
        gap(
          [0],
          numbers(() => tf.norm(grad)),
        ),
      ).above(0);
    expect(params).to.have.length(28);
  });

  for (const [name, options, worst] of [
    [
      'NF4 with double quantization',
      { loadIn4bit: true, bnb4bitQuantType: 'nf4', bnb4bitUseDoubleQuant: true },
      2,
    ],
    ['FP4', { loadIn4bit: true }, 3],
    ['8 bits', { loadIn8bit: true }, 0.3],
  ] as const) {
    it(`merge into weights that are quantized again: ${name}`, () => {
      for (const useDora of [false, true]) {
        const { model, logits } = stirred(quantized(options), useDora);
        const before = logits();
        const path = 'model.layers.0.mlp.up_proj';
        const layer = () => model.layers.get(path)!.baseLayer as Linear4bit;
        const type = layer() instanceof Linear4bit ? layer().state().quantState.quantType : '';
        model.mergeAdapter({ safeMerge: true });
        const change = gap(logits(), before);
        expect(change).to.be.within(1e-6, worst);
        if (type) expect(layer().state().quantState.quantType).to.equal(type);
        model.unmergeAdapter();
        expect(gap(logits(), before)).to.be.below(worst);
        model.dispose();
      }
    });
  }

  const configs = {
    LoRA: new LoraConfig({ r: 4, targetModules: 'all-linear' }),
    DoRA: new LoraConfig({ r: 4, targetModules: 'all-linear', useDora: true }),
    IA3: new IA3Config(),
    VeRA: new VeraConfig({ r: 8, targetModules: ['q_proj', 'v_proj'] }),
    bottleneck: BottleneckConfig.houlsby({ reductionFactor: 4 }),
    'prefix tuning': new PrefixTuningConfig({ numVirtualTokens: 4 }),
  };
  const bases = {
    '4 bits': { loadIn4bit: true, bnb4bitQuantType: 'nf4', bnb4bitUseDoubleQuant: true },
    '8 bits': { loadIn8bit: true },
  } as const;
  for (const [method, config] of Object.entries(configs)) {
    for (const [bits, options] of Object.entries(bases)) {
      it(`train in compiled steps on a base in ${bits}, which stays as it was: ${method}`, () => {
        const base = quantized(options);
        const packed = () => packedBytes(base).map((bytes) => [...bytes]);
        const before = packed();
        const model = getPeftModel(base, config);
        const trained = model.parameters().filter(({ trainable }) => trainable);
        const optimizer = new AdamW(trained, { lr: 0.01 });
        const lossOf = () => tf.mean(tf.square(model.forward(ids()).logits)) as tf.Scalar;
        const step = jit((numbers: AdamWNumbers[]) => {
          const { value, grads } = tf.variableGrads(lossOf, trained);
          optimizer.apply(
            trained.map(({ name }) => grads[name]!),
            numbers,
          );
          return value;
        });
        const eager = numbers(lossOf)[0]!;
        const losses = Array.from({ length: 8 }, () => step(optimizer.numbers()).dataSync()[0]!);
        expect(step.fallback).to.equal(undefined);
        expect(losses[0]).to.be.closeTo(eager, 1e-4 * (1 + eager));
        expect(losses.at(-1)).to.be.below(losses[0]!);
        expect(packed()).to.deep.equal(before);
        step.dispose();
        model.dispose();
      });
    }
  }
});
