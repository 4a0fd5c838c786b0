import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { llamaConfig } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { normalInit } from '../../src/nn/init.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel, type PeftModel } from '../../src/peft/peft-model.ts';
import { type ReadableModel, RoutedModel } from '../../src/peft/routed-model.ts';
import { Router, type RouterConfig } from '../../src/peft/router.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { type RoutedRow, RouterTrainer } from '../../src/train/router-trainer.ts';

const config = llamaConfig({
  vocabSize: 24,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
});
const NAMES = ['one', 'two', 'three'];

/** A base with three random experts. */
function experts(): PeftModel<ReadableModel> {
  const base = fromConfig(config, { init: normalInit(0.2, new RandomState(3)) });
  const model = getPeftModel(base as unknown as ReadableModel, new LoraConfig(), {
    adapterName: 'one',
  });
  model.addAdapter('two', new LoraConfig({ r: 3, targetModules: ['v_proj', 'up_proj'] }));
  model.addAdapter('three', new LoraConfig({ r: 2, useDora: true }));
  for (const [seed, name] of NAMES.entries()) {
    for (const [key, tensor] of model.getAdapterState(name)) {
      if (key.includes('magnitude')) continue;
      const noise = randomNormal(tensor.shape, new RandomState(seed), { std: 0.4 });
      tf.tidy(() => (tensor as tf.Variable).assign(noise));
    }
  }
  return model;
}

const routed = (options: Partial<RouterConfig> = {}) =>
  new RoutedModel(experts(), { experts: NAMES, ...options });
const ids = () =>
  tf.tensor2d(
    [
      [3, 7, 1, 20],
      [9, 9, 2, 4],
    ],
    undefined,
    'int32',
  );
const numbers = (run: () => tf.Tensor) => tf.tidy(() => Array.from(run().dataSync()));
const gap = (a: number[], b: number[]) => Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));

/** Rows that each expert answers best: what it says itself after a random prompt. */
async function rowsOf(model: PeftModel<ReadableModel>, count: number): Promise<RoutedRow[]> {
  const random = new RandomState(8);
  return Array.from({ length: count }, (_, i) => {
    const expert = NAMES[i % 3]!;
    // The first token tells the task: 0..2.
    const prompt = [i % 3, ...Array.from({ length: 4 }, () => 3 + random.randint(20))];
    model.setAdapter(expert, { inferenceMode: true });
    const best = numbers(() => {
      const input = tf.tensor2d([prompt], undefined, 'int32');
      return tf.argMax(model.forward(input).logits, -1);
    }).at(-1)!;
    return { inputIds: [...prompt, best], labels: [...prompt.map(() => -100), best], expert };
  });
}

describe('RoutedModel', () => {
  before(() => setBackend('wasm'));

  it('with all weight on one expert is that adapter', () => {
    const model = experts();
    for (const [i, name] of NAMES.entries()) {
      const weights = tf.tile(tf.oneHot([[i]], 3).toFloat(), [2, 1, 1]) as tf.Tensor3D;
      const mixture = { experts: NAMES, weights };
      const mixed = numbers(() => model.forward(ids(), { mixture }).logits);
      model.setAdapter(name);
      expect(
        gap(
          mixed,
          numbers(() => model.forward(ids()).logits),
        ),
        name,
      ).to.be.below(1e-4);
    }
  });

  it('with weights of 1 is the adapters together, and with weights of 0 the base', () => {
    const model = experts();
    const pair = ['one', 'two'];
    const mixed = (weight: number) =>
      numbers(() => {
        const weights = tf.fill([2, 4, 2], weight) as tf.Tensor3D;
        return model.forward(ids(), { mixture: { experts: pair, weights } }).logits;
      });
    model.setAdapter(pair);
    expect(
      gap(
        mixed(1),
        numbers(() => model.forward(ids()).logits),
      ),
    ).to.be.below(1e-4);
    const plain = model.disableAdapter(() => numbers(() => model.forward(ids()).logits));
    expect(gap(mixed(0), plain)).to.be.below(1e-5);
  });

  it('gives each token its own mixture', () => {
    const model = experts();
    const weights = tf.tensor3d(
      [
        [0, 0, 1, 1],
        [1, 1, 0, 0],
      ].map((row) => row.map((i) => [i, 1 - i])),
    );
    const mixed = numbers(
      () => model.forward(ids(), { mixture: { experts: ['one', 'two'], weights } }).logits,
    );
    model.setAdapter('two');
    const two = numbers(() => model.forward(ids()).logits);
    // Tokens see only those before them: the first two of row 0 are as with 'two' alone.
    expect(gap(mixed.slice(0, 48), two.slice(0, 48))).to.be.below(1e-4);
    expect(gap(mixed.slice(48, 96), two.slice(48, 96))).to.be.above(1e-2);
  });

  it('never lets a router of tokens see what comes after them', () => {
    const model = routed({ level: 'token', topK: 2 });
    const other = tf.tensor2d(
      [
        [3, 7, 5, 2],
        [9, 9, 8, 8],
      ],
      undefined,
      'int32',
    );
    const first = (input: tf.Tensor2D) =>
      numbers(() => model.forward(input).logits.slice([0, 0], [-1, 2]));
    expect(gap(first(ids()), first(other))).to.be.below(1e-5);
  });

  it('says what can be no expert', () => {
    const model = experts();
    model.addAdapter('ia3', new IA3Config());
    const make = (names: string[]) => () => new RoutedModel(model, { experts: names });
    expect(make(['one', 'four'])).to.throw("No adapter named 'four'; have 'one'");
    expect(make(['one', 'ia3'])).to.throw("Experts must be LoRA or VeRA alone, and 'ia3' is IA3");
    const router = new Router({ experts: NAMES, hiddenSize: 8 });
    expect(() => new RoutedModel(model, router)).to.throw('reads 8 numbers, the model has 16');
  });
});

describe('RouterTrainer', () => {
  before(() => setBackend('auto'));

  const args = { learningRate: 0.05, maxSteps: 60, perDeviceTrainBatchSize: 12, disableTqdm: true };

  it('trains the router alone, by names of experts', async () => {
    const model = routed({ topK: 1 });
    const trainDataset = await rowsOf(model.model, 48);
    const before = [...model.model.namedParameters()].map(([, p]) => Array.from(p.dataSync()));
    const lossWeights = { language: 0, expert: 1 };
    const trainer = new RouterTrainer({ model, trainDataset, args, lossWeights });
    const state = await trainer.train();
    const prompts = tf.tensor2d(trainDataset.map((row) => row.inputIds.slice(0, 5)));
    const chosen = await model.bestExperts(tf.cast(prompts, 'int32'));
    const right = chosen.filter((name, i) => name === trainDataset[i]!.expert).length;
    expect(right).to.be.above(44);
    expect(state.globalStep).to.equal(60);
    const after = [...model.model.namedParameters()].map(([, p]) => Array.from(p.dataSync()));
    expect(after).to.deep.equal(before);
  });

  for (const topK of [1, 2, undefined]) {
    for (const level of ['sequence', 'token'] as const) {
      it(`learns from next tokens alone, ${level} level, ${topK ?? 'all'} experts`, async () => {
        const model = routed({ ...(topK ? { topK } : {}), level });
        const trainDataset = await rowsOf(model.model, 48);
        const trainer = new RouterTrainer({ model, trainDataset, evalDataset: trainDataset, args });
        const { loss: first } = await trainer.evaluate();
        await trainer.train();
        const { loss: last } = await trainer.evaluate();
        expect(last).to.be.below(first);
      });
    }
  }

  it('counts the labelled tokens alone, however many a row has', async () => {
    const rows: RoutedRow[] = [
      { inputIds: [0, 4, 5, 6, 7, 8, 9, 3], labels: [...Array(6).fill(-100), 9, 3] },
      { inputIds: [1, 6, 5, 4, 7, 8, 9, 2], labels: [...Array(7).fill(-100), 2] },
    ];
    const model = routed({ topK: 2 });
    const args = { perDeviceEvalBatchSize: 2, disableTqdm: true };
    const data = { trainDataset: rows, evalDataset: rows };
    const trainer = new RouterTrainer({ model, ...data, args, lossWeights: { balance: 0 } });
    const surprise = numbers(() => {
      const prompts = rows.map(({ labels }) => labels.map((label) => (label === -100 ? 1 : 0)));
      const input = tf.tensor2d(
        rows.map(({ inputIds }) => inputIds),
        undefined,
        'int32',
      );
      const promptMask = tf.tensor2d(prompts, undefined, 'int32');
      return tf.logSoftmax(model.forward(input, { promptMask }).logits);
    });
    const at = (row: number, t: number) =>
      -surprise[(row * 8 + t - 1) * 24 + rows[row]!.inputIds[t]!]!;
    const { loss } = await trainer.evaluate();
    expect(loss).to.be.closeTo((at(0, 6) + at(0, 7) + at(1, 7)) / 3, 1e-5);
  });

  it('says which row names no expert', () => {
    const trainDataset = [{ inputIds: [1, 2], labels: [-100, 2], expert: 'nobody' }];
    expect(() => new RouterTrainer({ model: routed(), trainDataset })).to.throw(
      "Row 0 names expert 'nobody', the router has one, two, three",
    );
  });
});
