import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import {
  effectiveRank,
  energyRank,
  matricesOf,
  updateRanks,
} from '../../src/eval/effective-rank.ts';
import { forgotten, measureForgetting, measureWhileTraining } from '../../src/eval/forgetting.ts';
import { runForgettingExperiment } from '../../src/eval/forgetting-experiment.ts';
import { paretoFront } from '../../src/eval/pareto.ts';
import { factsSuite, formatSuite, perplexitySuite } from '../../src/eval/suites.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { causalLMLoss } from '../../src/models/causal-lm.ts';
import { configFromJson } from '../../src/models/config.ts';
import { generate } from '../../src/models/generation.ts';
import { fromConfig, loadFolder } from '../../src/models/pretrained.ts';
import { normalInit } from '../../src/nn/init.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { SFTTrainer } from '../../src/train/sft-trainer.ts';

const peers = join(import.meta.dirname, '../peers');
const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));
const letters = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'];
const old = letters.map((x, i) => ({
  prompt: `${x} is`,
  completion: ` ${letters[(i * 3 + 1) % 8]}`,
}));
const fresh = letters.map((x, i) => ({
  prompt: `${x} was`,
  completion: ` ${letters[(i * 5 + 2) % 8]}`,
}));
const shape = JSON.parse(readFileSync(join(peers, '06_model/config.json'), 'utf8'));
const config = configFromJson({ ...shape, n_embd: 48, n_head: 4 });
const args = {
  learningRate: 0.02,
  lrSchedulerType: 'constant',
  perDeviceTrainBatchSize: 8,
  weightDecay: 0,
} as const;

describe('Forgetting', () => {
  let weights: tf.Tensor[] = [];
  /** A model that was trained on the old facts. */
  const makeModel = () => {
    const model = fromConfig(config);
    for (const [i, own] of model.parameters().entries()) own.assign(weights[i]!);
    return model;
  };
  const suite = factsSuite('old', old, tokenizer);
  before(async () => {
    await setBackend('auto');
    const model = fromConfig(config, { init: normalInit(0.1) });
    const trainer = new SFTTrainer({
      model,
      processingClass: tokenizer,
      trainDataset: old,
      args: { ...args, maxSteps: 60 },
    });
    await trainer.train();
    trainer.dispose();
    weights = model.parameters().map((own) => tf.clone(own));
  });

  it('counts a fact as known when the model writes its whole answer', async () => {
    const model = makeModel();
    expect(await suite.measure(model)).to.equal(1);
    const mixed = [...old, { prompt: 'a is', completion: ' zebra' }];
    const share = await factsSuite('mixed', mixed, tokenizer, { batchSize: 4 }).measure(model);
    const written = await generate(
      model,
      mixed.map(({ prompt }) => tokenizer.encode(prompt)),
      { maxNewTokens: 6 },
    );
    const right = mixed.filter(({ prompt, completion }, i) =>
      tokenizer.decode(written[i]!).startsWith(prompt + completion),
    ).length;
    expect(share).to.equal(right / 9);
  });

  it('measures perplexity as exp of the mean loss of tokens', async () => {
    const model = makeModel();
    const texts = ['a is b and c was d', 'two'];
    const got = await perplexitySuite('text', texts, tokenizer, { batchSize: 1 }).measure(model);
    let [sum, count] = [0, 0];
    for (const text of texts) {
      const list = tokenizer.encode(text + tokenizer.eosToken);
      const ids = tf.tensor2d([list], undefined, 'int32');
      const [loss] = tf.tidy(() => causalLMLoss(model.forward(ids).logits, ids).dataSync());
      sum += loss! * (list.length - 1);
      count += list.length - 1;
    }
    expect(got).to.be.closeTo(Math.exp(sum / count), 1e-3 * got);
  });

  it('judges the format of what is written', async () => {
    const prompts = old.map(({ prompt }) => prompt);
    const letter = formatSuite('letter', prompts, tokenizer, (text) => /^ [a-h]$/.test(text), {
      maxNewTokens: 3,
    });
    const never = formatSuite('never', prompts, tokenizer, () => false, { maxNewTokens: 1 });
    expect(await measureForgetting(makeModel(), [letter, never])).to.deep.equal({
      letter: 1,
      never: 0,
    });
  });

  it('follows the fall of old facts while new ones are learnt', async () => {
    const model = makeModel();
    const suites = [suite, factsSuite('fresh', fresh, tokenizer)];
    let until = 0;
    const trainer = new SFTTrainer({
      model,
      processingClass: tokenizer,
      trainDataset: fresh,
      args: { ...args, maxSteps: 100 },
      onStep: ({ step }) => step === until,
    });
    const curve = await measureWhileTraining(model, suites, {
      steps: 100,
      every: 25,
      train: async (step) => {
        until = step;
        return (await trainer.train()).logHistory.at(-1)!;
      },
    });
    expect(curve.steps).to.deep.equal([0, 25, 50, 75, 100]);
    const [first, last] = [curve.scores[0]!, curve.scores.at(-1)!];
    expect(last.fresh).to.be.above(0.8);
    expect(forgotten(suites, first, last).old).to.be.above(0);
    expect(forgotten(suites, first, last).fresh).to.equal(first.fresh! - last.fresh!);
  });

  it('runs each setting from the same model, with controls', async () => {
    const norms = new Map<string, number>();
    const start = matricesOf(makeModel());
    const runs = await runForgettingExperiment({
      makeModel,
      tokenizer,
      taskRows: fresh,
      generalRows: old,
      pretrainingRows: old.map(({ prompt, completion }) => ({ text: prompt + completion })),
      task: factsSuite('fresh', fresh, tokenizer),
      old: [suite],
      watched: [perplexitySuite('text', ['a is b', 'c was d'], tokenizer)],
      args: { ...args, maxSteps: 100 },
      settings: [
        { name: 'plain' },
        { name: 'general', general: 0.5 },
        { name: 'replay', replay: 0.5 },
        { name: 'slow', args: (plain) => ({ ...plain, learningRate: 1e-6 }) },
        { name: 'lora', peftConfig: () => new LoraConfig({ r: 1, targetModules: ['c_attn'] }) },
        { name: 'labels', control: 'random_labels' },
        { name: 'update', control: 'random_update' },
      ],
      seeds: [0, 1],
      onRun: ({ name }, model) => {
        const [rank] = updateRanks(model, start, /wte/);
        norms.set(name, rank!.relativeNorm);
      },
    });
    const of = (name: string) => runs.filter((run) => run.name === name);
    const mean = (name: string, key: 'learning' | 'forgetting') =>
      of(name).reduce((sum, run) => sum + run[key] / 2, 0);
    expect(runs).to.have.length(14);
    for (const { before, after, learning, forgetting } of runs) {
      expect(before.old).to.equal(1);
      expect(learning).to.equal(after.fresh);
      expect(forgetting).to.equal(1 - after.old!);
      expect(after.text).to.be.above(1);
    }
    expect(mean('plain', 'learning')).to.be.above(0.8);
    expect(mean('general', 'forgetting')).to.be.below(mean('plain', 'forgetting'));
    expect(mean('replay', 'forgetting')).to.be.below(mean('plain', 'forgetting'));
    expect(mean('slow', 'forgetting')).to.equal(0);
    expect(mean('labels', 'learning')).to.be.below(mean('plain', 'learning'));
    expect(mean('update', 'learning')).to.be.below(0.75);
    expect(norms.get('update')).to.be.closeTo(norms.get('plain')!, 1e-3 * norms.get('plain')!);
    expect(norms.get('lora')).to.equal(0);
  });

  it('takes only shares for learning and forgetting', async () => {
    const text = perplexitySuite('text', ['a is b'], tokenizer);
    const experiment = { makeModel, tokenizer, taskRows: fresh, task: suite, args };
    const failure = await runForgettingExperiment({ ...experiment, old: [text] }).catch(String);
    expect(failure).to.equal("RangeError: Suite 'text' must be a share, got one that falls");
  });

  it('keeps the runs that no other beats', () => {
    const run = (name: string, learning: number, forgetting: number) => ({
      name,
      learning,
      forgetting,
    });
    const runs = [run('a', 1, 0.5), run('b', 0.9, 0.1), run('c', 0.8, 0.2), run('d', 0.2, 0)];
    expect(paretoFront(runs).map(({ name }) => name)).to.deep.equal(['d', 'b', 'a']);
  });

  it('names suites that can not be measured', async () => {
    expect(() => factsSuite('none', [], tokenizer)).to.throw(
      "Suite 'none' must have rows, got none",
    );
    expect(() => factsSuite('x', [{ prompt: 'a', completion: '' }], tokenizer)).to.throw(
      "Row 0 of suite 'x' has nothing to judge",
    );
    const failure = await measureForgetting(makeModel(), [suite, suite]).catch(String);
    expect(failure).to.equal("RangeError: Suites must have different names, got 'old'");
  });
});

describe('effectiveRank', () => {
  before(() => setBackend('wasm'));

  it('is n for n equal singular values, and 1 for an outer product', () => {
    expect(effectiveRank(tf.eye(5) as tf.Tensor2D)).to.be.closeTo(5, 1e-4);
    const outer = tf.outerProduct(tf.tensor1d([1, 2, 3]), tf.tensor1d([4, 5])) as tf.Tensor2D;
    expect(effectiveRank(outer)).to.be.closeTo(1, 1e-2);
    expect(effectiveRank(tf.zeros([3, 3]))).to.equal(0);
    // Shares 3/4 and 1/4: exp(0.75 ln(4/3) + 0.25 ln 4).
    const two = tf.tensor2d([
      [3, 0],
      [0, 1],
    ]);
    expect(effectiveRank(two)).to.be.closeTo(
      Math.exp(0.75 * Math.log(4 / 3) + Math.log(4) / 4),
      1e-5,
    );
    expect(energyRank(two, 0.9)).to.equal(1);
    expect(energyRank(two, 0.95)).to.equal(2);
  });

  it("finds an update's rank: at most r for B A", () => {
    const model = loadFolder(join(peers, '06_model'));
    const before = matricesOf(model);
    const [name, own] = [...model.namedParameters()].find(([key]) => /c_attn\.weight/.test(key))!;
    const [rows, columns] = own.shape as [number, number];
    const change = tf.matMul(
      randomNormal([rows, 2], new RandomState(1)) as tf.Tensor2D,
      randomNormal([2, columns], new RandomState(2)) as tf.Tensor2D,
    );
    own.assign(tf.add(own, change));
    const ranks = updateRanks(model, before, /c_attn\.weight/);
    expect(ranks[0]!.name).to.equal(name);
    expect(ranks[0]!.effectiveRank).to.be.within(1, 2.1);
    expect(ranks[0]!.energyRank).to.be.at.most(2);
  });

  it("measures an adapter's update once it is merged, under the base model's names", () => {
    const base = loadFolder(join(peers, '06_model'));
    const before = matricesOf(base);
    const model = getPeftModel(base, new LoraConfig({ r: 2, targetModules: ['c_attn'] }));
    for (const [name, own] of model.namedParameters()) {
      if (name.endsWith('lora_b'))
        own.assign(randomNormal(own.shape, new RandomState(3)) as tf.Tensor);
    }
    const apart = updateRanks(model, before, /c_attn\.weight/);
    model.mergeAdapter();
    const merged = updateRanks(model, before, /c_attn\.weight/);
    expect(merged.map(({ name }) => name)).to.deep.equal(apart.map(({ name }) => name));
    expect(merged).to.have.length.above(0);
    for (const { relativeNorm } of apart) expect(relativeNorm).to.equal(0);
    for (const { effectiveRank } of merged) expect(effectiveRank).to.be.within(1, 2.1);
  });
});
