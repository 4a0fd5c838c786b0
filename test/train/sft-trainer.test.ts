import { join } from 'node:path';
import { expect } from 'chai';
import type { SftRow } from '../../src/data/tokenize-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { PeftModel } from '../../src/peft/peft-model.ts';
import { SFTTrainer } from '../../src/train/sft-trainer.ts';
import { Trainer } from '../../src/train/trainer.ts';
import { passes } from '../parity/measure.ts';
import { runCase } from '../parity.ts';

const peers = join(import.meta.dirname, '../peers');
const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));
const base = () => loadFolder(join(peers, '06_model'));
const trainDataset = [
  { prompt: '2+2=', completion: '4' },
  { prompt: 'Name a city:', completion: ' Oslo' },
];

describe('SFTTrainer', () => {
  before(() => setBackend('wasm'));

  it('gives the losses, norms and adapter of TRL', async () => {
    const bad = (await runCase(join(peers, '06_sft_run'))).filter((measure) => !passes(measure));
    expect(bad).to.deep.equal([]);
  });

  it('adapts the model first when it is given a config, and trains the adapter alone', async () => {
    const model = base();
    const before = model.parameters()[0]!.dataSync();
    const trainer = new SFTTrainer({
      model,
      processingClass: tokenizer,
      trainDataset,
      peftConfig: new LoraConfig({ r: 2, targetModules: ['c_attn'] }),
      args: { maxSteps: 3, learningRate: 0.05, lrSchedulerType: 'constant' },
    });
    const { logHistory } = await trainer.train();
    expect(trainer.model).to.be.instanceOf(PeftModel);
    expect(logHistory[2]!.loss).to.be.below(logHistory[0]!.loss);
    expect(model.parameters()[0]!.dataSync()).to.deep.equal(before);
  });

  it('learns from packed rows what it learns from each alone', async () => {
    const losses = async (packing: boolean) => {
      const trainer = new SFTTrainer({
        model: base(),
        processingClass: tokenizer,
        trainDataset,
        args: {
          maxSteps: 3,
          maxLength: 32,
          packing,
          learningRate: 0.01,
          trainSamplingStrategy: 'sequential',
        },
      });
      return (await trainer.train()).logHistory.map(({ loss }) => loss);
    };
    const [apart, packed] = [await losses(false), await losses(true)];
    for (const [i, loss] of apart.entries()) expect(packed[i]).to.be.closeTo(loss, 1e-5);
  });

  it('formats rows of other kinds by a function', async () => {
    const trainer = new SFTTrainer({
      model: base(),
      processingClass: tokenizer,
      trainDataset: [{ title: 'a city' }],
      formattingFunc: ({ title }) => `Name ${title}`,
      args: { maxSteps: 1 },
    });
    expect((await trainer.train()).numTokens).to.equal(tokenizer.encode('Name a city').length + 1);
  });

  it('logs the share of tokens that the model would have written', async () => {
    const trainer = new Trainer({
      model: base(),
      trainDataset: [{ inputIds: [1, 2, 3], labels: [-100, 2, 3] }],
      logAccuracy: true,
      args: { maxSteps: 60, learningRate: 0.05 },
    });
    const { logHistory } = await trainer.train();
    expect(logHistory.at(-1)!.metrics.meanTokenAccuracy).to.equal(1);
  });

  it('refuses rows that leave nothing to learn', () => {
    const make = (rows: SftRow[]) =>
      new SFTTrainer({ model: base(), processingClass: tokenizer, trainDataset: rows });
    expect(() => make([])).to.throw('trainDataset has no rows with anything to learn');
    expect(() => make([{ wrong: 1 }])).to.throw(
      'Row 0 must have text, messages, or prompt and completion, got wrong',
    );
  });
});
