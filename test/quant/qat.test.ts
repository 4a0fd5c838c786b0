import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { llamaConfig } from '../../src/models/config.ts';
import type { LlamaForCausalLM } from '../../src/models/llama.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { Linear } from '../../src/nn/linear.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { setQuantizationAware } from '../../src/peft/qat-lora.ts';
import { getMemoryFootprint } from '../../src/quant/bnb-config.ts';
import { inputMaxima, linearLayers } from '../../src/quant/calibration.ts';
import { pack4bit, unpack4bit } from '../../src/quant/four-bit.ts';
import { IntegerLinear } from '../../src/quant/integer-linear.ts';
import { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { quantizePtq } from '../../src/quant/ptq.ts';
import {
  convertQat,
  FakeQuantizedLinear,
  prepareQat,
  type QatConfig,
} from '../../src/quant/qat.ts';
import { smoothModel, smoothScales } from '../../src/quant/smooth-quant.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { Trainer } from '../../src/train/trainer.ts';

/** A small model whose second input channel is hot. */
function smallModel(seed = 1, vocabSize = 24): LlamaForCausalLM {
  const draws = new RandomState(seed);
  const config = {
    ...{ vocabSize, hiddenSize: 16, intermediateSize: 32, numHiddenLayers: 2 },
    ...{ numAttentionHeads: 2, maxPositionEmbeddings: 32 },
  };
  return fromConfig(llamaConfig(config), {
    init: (shape) => randomNormal(shape, draws, { std: 0.3 }),
  }) as LlamaForCausalLM;
}
const rowsOf = (seed: number, count = 24) => {
  const draws = new RandomState(seed);
  return Array.from({ length: count }, () => {
    const start = draws.randint(24);
    const inputIds = Array.from({ length: 12 }, (_, i) => (start + 5 * i) % 24);
    return { inputIds, labels: inputIds };
  });
};
const someIds = () => tf.tensor2d([[1, 5, 9, 2, 7, 3, 11, 8]], undefined, 'int32');
const logits = (model: LlamaForCausalLM) =>
  tf.tidy(() => model.forward(someIds()).logits.dataSync() as Float32Array);
const apart = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);
const args = (learningRate: number, maxSteps: number) => ({
  ...{ learningRate, maxSteps, perDeviceTrainBatchSize: 8, disableTqdm: true },
  ...{ lrSchedulerType: 'constant' as const, weightDecay: 0 },
});

describe('post-training quantization', () => {
  before(() => setBackend('auto'));

  it('puts integer layers in the place of linear ones, with grids from calibration data', () => {
    for (const method of ['min-max', 'percentile', 'mse'] as const) {
      const model = smallModel();
      const exact = logits(model);
      const before = getMemoryFootprint(model);
      quantizePtq(model, {
        activation: { method },
        calibrate: () => tf.dispose(model.forward(someIds()).logits),
      });
      expect(model.getSubmodule('model.layers.1.mlp.down_proj')).to.be.instanceOf(IntegerLinear);
      expect(model.getSubmodule('lm_head')).to.be.instanceOf(Linear);
      expect(getMemoryFootprint(model)).to.be.below(before * 0.45);
      const scale = Math.max(...exact.map(Math.abs));
      expect(apart(logits(model), exact) / scale).to.be.within(1e-6, 0.08);
    }
  });

  it('says what is missing', () => {
    expect(() => quantizePtq(smallModel(), { activation: {} })).to.throw('needs `calibrate`');
    const idle = { activation: {}, calibrate: () => {} };
    expect(() => quantizePtq(smallModel(), idle)).to.throw("must reach 'model.layers.0");
    expect(() => quantizePtq(smallModel(), { skip: ['model', 'lm_head'] })).to.throw('no linear');
  });
});

describe('SmoothQuant', () => {
  before(() => setBackend('auto'));

  it('has the scales of its formula', () => {
    const weight = tf.tensor2d([
      [1, -4, 0],
      [2, 1, 0],
    ]);
    const scales = smoothScales(Float32Array.of(8, 1, 9), [weight], 0.5);
    expect(apart(scales, [8 ** 0.5 / 2 ** 0.5, 1 / 4 ** 0.5, 3 / 1e-5 ** 0.5])).to.be.below(1e-4);
    expect([...smoothScales(Float32Array.of(8, 1, 9), [weight], 1)]).to.deep.equal([8, 1, 9]);
    expect(() => smoothScales(Float32Array.of(8, 1), [weight])).to.throw('must have 2 inputs');
    expect(() => smoothScales(Float32Array.of(1, 1, 1), [weight], 2)).to.throw('from 0 to 1');
    expect(() => smoothScales(Float32Array.of(Number.NaN, 1, 1), [weight])).to.throw('finite');
  });

  it('changes nothing but the share of rounding, which it lowers where a channel is hot', () => {
    const errors = [1, 2, 3].map((seed) => {
      const [plain, smooth] = [smallModel(seed), smallModel(seed)];
      for (const model of [plain, smooth]) {
        for (const layer of model.model.layers) {
          const hot = tf.tensor1d(Array.from({ length: 16 }, (_, i) => (i === 3 ? 60 : 1)));
          (layer.inputLayernorm.weight as tf.Variable).assign(hot);
        }
      }
      const exact = logits(plain);
      const run = () => tf.dispose(smooth.forward(someIds()).logits);
      const scales = smoothModel(smooth, inputMaxima(smooth, run));
      expect(scales.size).to.equal(4);
      const size = Math.max(...exact.map(Math.abs));
      expect(apart(logits(smooth), exact) / size).to.be.below(1e-3);
      return [plain, smooth].map((model) => {
        const calibrate = () => tf.dispose(model.forward(someIds()).logits);
        quantizePtq(model, { activation: { scheme: 'absmax' }, calibrate });
        return apart(logits(model), exact);
      });
    });
    const mean = (i: number) => errors.reduce((sum, pair) => sum + pair[i]!, 0);
    expect(mean(1)).to.be.below(mean(0) * 0.7);
  });

  it('needs maxima for every norm, and norms', () => {
    expect(() => smoothModel(smallModel(), new Map())).to.throw('needs the maxima of');
    expect(() => smoothModel(new Linear(2, 2), new Map())).to.throw('found no norm');
  });
});

describe('quantization-aware training', () => {
  before(() => setBackend('auto'));

  const configs: QatConfig[] = [
    { weight: { bits: 4, granularity: 8 }, activation: { bits: 8, scheme: 'zeropoint' } },
    { weight: { bits: 3, scheme: 'zeropoint' } },
    { weight: { quantType: 'nf4', blocksize: 32 } },
  ];
  for (const config of configs) {
    it(`computes what the converted model will: ${JSON.stringify(config)}`, () => {
      const model = prepareQat(smallModel(), config);
      expect(model.getSubmodule('model.layers.0.mlp.up_proj')).to.be.instanceOf(
        FakeQuantizedLinear,
      );
      const trained = logits(model);
      convertQat(model);
      expect(apart(logits(model), trained)).to.be.below(1e-4);
      const layer = model.getSubmodule('model.layers.0.mlp.up_proj');
      const isFourBit = 'quantType' in config.weight!;
      expect(layer).to.be.instanceOf(isFourBit ? Linear4bit : IntegerLinear);
    });
  }

  it('beats rounding after training, at 2 bits, for each of three seeds', async () => {
    for (const seed of [1, 2, 3]) {
      const weight = { bits: 2, granularity: 8 } as const;
      const rows = rowsOf(seed);
      const data = { trainDataset: rows, evalDataset: rows };
      const model = smallModel(seed);
      await new Trainer({ model, trainDataset: rows, args: args(5e-3, 150) }).train();
      const lossOf = async () =>
        (await new Trainer({ model, ...data, args: args(1e-3, 1) }).evaluate()).loss;
      const full = await lossOf();
      prepareQat(model, { weight });
      const ptq = await lossOf();
      const trainer = new Trainer({ model, trainDataset: rows, args: args(3e-3, 100) });
      await trainer.train();
      const qat = await lossOf();
      convertQat(model);
      for (const parameter of model.parameters()) parameter.trainable = true;
      expect(await lossOf()).to.be.closeTo(qat, 1e-3);
      expect(qat - full).to.be.below(0.5 * (ptq - full));
    }
  });

  it('trains LoRA for the weight that merging and rounding leave', async () => {
    const weight = { quantType: 'nf4', blocksize: 32 } as const;
    const model = smallModel();
    const peft = getPeftModel(model, new LoraConfig({ r: 4, targetModules: 'all-linear' }));
    setQuantizationAware(peft, { weight });
    const trainer = new Trainer({
      model: peft as never,
      trainDataset: rowsOf(1),
      args: args(1e-2, 30),
    });
    await trainer.train();
    const { logHistory } = trainer.state;
    expect(logHistory.at(-1)!.loss).to.be.below(logHistory[0]!.loss * 0.8);
    const trained = tf.tidy(() => peft.forward(someIds()).logits.dataSync());
    setQuantizationAware(peft);
    const merged = peft.mergeAndUnload() as unknown as LlamaForCausalLM;
    for (const [, layer] of linearLayers(merged, ['lm_head'])) {
      const { packed, quantState } = pack4bit(
        layer.weight.dataSync() as Float32Array,
        layer.weight.shape,
        weight,
      );
      (layer.weight as tf.Variable).assign(
        tf.tensor(unpack4bit(packed, quantState), layer.weight.shape),
      );
    }
    expect(apart(logits(merged), trained)).to.be.below(1e-4);
  });

  it('merges LoRA into integer layers and keeps their format', () => {
    const model = quantizePtq(smallModel(), { weight: { bits: 4, granularity: 8 } });
    const peft = getPeftModel(model, new LoraConfig({ r: 2, targetModules: ['up_proj'] }));
    const merged = peft.mergeAndUnload() as unknown as LlamaForCausalLM;
    const layer = merged.getSubmodule('model.layers.0.mlp.up_proj') as IntegerLinear;
    expect(layer).to.be.instanceOf(IntegerLinear);
    expect(layer.state().bits).to.equal(4);
  });

  it('refuses models without linear layers, or not prepared', () => {
    expect(() => prepareQat(new Linear(2, 2), { skip: [''] })).to.throw('no linear layer');
    expect(() => convertQat(smallModel())).to.throw('prepareQat prepared');
    const both = { weight: { quantType: 'nf4' }, activation: { bits: 8 } } as const;
    expect(() => prepareQat(smallModel(), both)).to.throw('integer weights only');
  });
});
