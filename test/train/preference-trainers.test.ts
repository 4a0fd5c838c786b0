import { join } from 'node:path';
import { expect } from 'chai';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import type { LlamaForCausalLM } from '../../src/models/llama.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { ForSequenceClassification } from '../../src/models/sequence-classification.ts';
import { advantagesOf, GRPOTrainer } from '../../src/train/grpo-trainer.ts';
import { KTOTrainer } from '../../src/train/kto-trainer.ts';
import { ORPOTrainer } from '../../src/train/orpo-trainer.ts';
import { RewardTrainer } from '../../src/train/reward-trainer.ts';

const peers = join(import.meta.dirname, '../peers');
const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));
const load = () => loadFolder(join(peers, '06_model'));
const pairs = [
  { prompt: 'Hi', chosen: ' Hello!', rejected: ' go away' },
  { prompt: 'Say yes', chosen: ' yes', rejected: ' no no no' },
];
const args = { maxSteps: 4, learningRate: 0.01, lrSchedulerType: 'constant' } as const;
const failure = (run: Promise<unknown>) => run.then(String, (error: Error) => error.message);

describe('RewardTrainer', () => {
  before(() => setBackend('wasm'));

  it('lowers -log sigmoid of the margin, and prefers what was chosen', async () => {
    const model = new ForSequenceClassification(load() as LlamaForCausalLM, { numLabels: 1 });
    const trainer = new RewardTrainer({
      model,
      processingClass: tokenizer,
      trainDataset: pairs,
      evalDataset: pairs,
      args: { ...args, maxSteps: 15 },
    });
    const { logHistory } = await trainer.train();
    // With one batch of two pairs the loss at a margin m of both is log(1 + e^-m) or below its mean.
    for (const { loss, metrics } of logHistory) {
      expect(loss).to.be.at.least(Math.log1p(Math.exp(-metrics.margin!)) - 1e-6);
    }
    const { loss, metrics } = await trainer.evaluate();
    expect(loss).to.be.below(logHistory[0]!.loss);
    expect(metrics.accuracy).to.equal(1);
  });

  it('keeps scores near 0 with a centre', async () => {
    const trainer = (centerRewardsCoefficient: number) =>
      new RewardTrainer({
        model: new ForSequenceClassification(load() as LlamaForCausalLM, {
          numLabels: 1,
          init: (shape) =>
            load()
              .parameters()[0]!
              .slice([0, 0], shape as [number, number]),
        }),
        processingClass: tokenizer,
        trainDataset: pairs,
        args: { ...args, maxSteps: 1, centerRewardsCoefficient },
      });
    const [plain, centred] = [await trainer(0).train(), await trainer(1).train()];
    expect(centred.logHistory[0]!.loss).to.be.above(plain.logHistory[0]!.loss);
  });
});

describe('ORPOTrainer and KTOTrainer', () => {
  before(() => setBackend('wasm'));

  it('move the chosen text up and the rejected one away', async () => {
    const trainer = new ORPOTrainer({
      model: load(),
      processingClass: tokenizer,
      trainDataset: pairs,
      args: { ...args, beta: 1, maxSteps: 10 },
    });
    const { logHistory } = await trainer.train();
    const [first, last] = [logHistory[0]!, logHistory.at(-1)!];
    expect(last.loss).to.be.below(first.loss);
    const margin = ({ metrics }: typeof first) =>
      metrics['logps/chosen']! - metrics['logps/rejected']!;
    expect(margin(last)).to.be.above(margin(first));
  });

  it('starts KTO at one half, where policy and reference are the same', async () => {
    const trainDataset = pairs.flatMap(({ prompt, chosen, rejected }) => [
      { prompt, completion: chosen, label: true },
      { prompt, completion: rejected, label: false },
    ]);
    const trainer = new KTOTrainer({
      model: load(),
      processingClass: tokenizer,
      trainDataset,
      args: { ...args, beta: 0.5 },
    });
    const { logHistory } = await trainer.train();
    expect(logHistory[0]!.loss).to.be.closeTo(0.5, 1e-6);
    expect(logHistory[0]!.metrics.kl).to.be.closeTo(0, 1e-6);
    expect(logHistory.at(-1)!.loss).to.be.below(0.5);
    expect(
      () =>
        new KTOTrainer({
          model: load(),
          processingClass: tokenizer,
          trainDataset,
          args: { perDeviceTrainBatchSize: 1 },
        }),
    ).to.throw('KTO needs perDeviceTrainBatchSize of at least 2, got 1');
  });
});

describe('GRPOTrainer', () => {
  before(() => setBackend('wasm'));

  it('measures each reward by its group', () => {
    const [low, high] = advantagesOf([0, 1]);
    // The deviation of a sample of 0 and 1 is sqrt(1/2).
    expect(high).to.be.closeTo(0.5 / (Math.SQRT1_2 + 1e-4), 1e-12);
    expect(low).to.equal(-high!);
    expect(advantagesOf([1, 1, 1])).to.deep.equal([0, 0, 0]);
    expect(advantagesOf([0, 4], false)).to.deep.equal([-2, 2]);
  });

  it('writes more of what is rewarded, and the same run from the same seed', async () => {
    const run = async () => {
      const trainer = new GRPOTrainer({
        model: load(),
        processingClass: tokenizer,
        trainDataset: [{ prompt: 'Hi' }, { prompt: 'Say yes' }],
        rewardFuncs: [(texts) => texts.map((text) => (text.match(/e/g)?.length ?? 0) / 4)],
        args: {
          maxSteps: 12,
          learningRate: 0.02,
          lrSchedulerType: 'constant',
          numGenerations: 8,
          maxCompletionLength: 8,
          perDeviceTrainBatchSize: 2,
          beta: 0.001,
        },
      });
      return (await trainer.train()).logHistory.map(({ metrics }) => metrics.reward!);
    };
    const rewards = await run();
    const mean = (list: number[]) => list.reduce((sum, x) => sum + x, 0) / list.length;
    expect(mean(rewards.slice(-4))).to.be.above(mean(rewards.slice(0, 4)) + 0.1);
    expect(await run()).to.deep.equal(rewards);
  });

  it('names rewards that are no numbers, and groups of one', async () => {
    const make = (numGenerations: number) =>
      new GRPOTrainer({
        model: load(),
        processingClass: tokenizer,
        trainDataset: [{ prompt: 'Hi' }],
        rewardFuncs: [(texts) => texts.map(() => Number.NaN)],
        args: { numGenerations, maxCompletionLength: 2 },
      });
    expect(() => make(1)).to.throw('numGenerations must be an integer above 1, got 1');
    expect(await failure(make(2).train())).to.equal('A reward must be a finite number, got NaN');
  });
});
