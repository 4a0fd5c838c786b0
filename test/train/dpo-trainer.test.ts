import { join } from 'node:path';
import { expect } from 'chai';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { type DPOConfig, DPOTrainer } from '../../src/train/dpo-trainer.ts';
import { passes } from '../parity/measure.ts';
import { runCase } from '../parity.ts';

const peers = join(import.meta.dirname, '../peers');
const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));
const trainDataset = [
  { prompt: 'Hi', chosen: ' Hello!', rejected: ' go away' },
  { prompt: 'Say yes', chosen: ' yes', rejected: ' no no no' },
];
const adapted = () =>
  getPeftModel(
    loadFolder(join(peers, '06_model')),
    new LoraConfig({ r: 2, targetModules: ['c_attn'] }),
  );

function make(args: DPOConfig = {}, more = {}): DPOTrainer {
  return new DPOTrainer({
    model: adapted(),
    processingClass: tokenizer,
    trainDataset,
    args: { maxSteps: 3, learningRate: 0.01, lrSchedulerType: 'constant', ...args },
    ...more,
  });
}
const losses = async (trainer: DPOTrainer) =>
  (await trainer.train()).logHistory.map(({ loss }) => loss);

describe('DPOTrainer', () => {
  before(() => setBackend('wasm'));

  for (const name of ['hinge', 'ipo', 'sigmoid']) {
    it(`gives the losses, rewards and adapter of TRL: ${name}`, async () => {
      const measures = await runCase(join(peers, '06_dpo_run', name));
      expect(measures.filter((measure) => !passes(measure))).to.deep.equal([]);
    });
  }

  it('starts at ln 2, and the margin grows', async () => {
    const { logHistory } = await make({ beta: 0.5 }).train();
    expect(logHistory[0]!.loss).to.be.closeTo(Math.LN2, 1e-6);
    expect(logHistory[0]!.metrics['rewards/margins']).to.be.closeTo(0, 1e-6);
    expect(logHistory[2]!.metrics['rewards/margins']).to.be.above(0);
  });

  it('has one reference by four ways while the adapter is new', async () => {
    const model = adapted();
    const ways = [
      make(),
      make({ reference: 'adapter_off' }),
      make({ precomputeRefLogProbs: true }),
      make({}, { model, refModel: loadFolder(join(peers, '06_model')) }),
    ];
    const [first, ...others] = await Promise.all(ways.map(losses));
    for (const other of others) {
      for (const [i, loss] of first!.entries()) expect(other[i]).to.be.closeTo(loss, 1e-5);
    }
  });

  it('keeps a robust loss of random labels from rewarding either', async () => {
    const [plain] = await losses(make({ lossType: 'robust', labelSmoothing: 0.1 }));
    expect(plain).to.be.closeTo(Math.LN2, 1e-6);
  });

  it('evaluates pairs that it does not train on', async () => {
    const trainer = make({ evalStrategy: 'steps', evalSteps: 3 }, { evalDataset: trainDataset });
    const { evalHistory } = await trainer.train();
    expect(evalHistory).to.have.length(1);
    expect(evalHistory[0]!.loss).to.be.below(Math.LN2);
    expect(evalHistory[0]!.metrics['rewards/accuracies']).to.equal(1);
  });

  it('refuses a reference without an adapter to switch off, and prompts without room', () => {
    const model = loadFolder(join(peers, '06_model'));
    expect(() => make({ reference: 'adapter_off' }, { model })).to.throw(
      "reference 'adapter_off' needs a PeftModel, got a model without adapters",
    );
    expect(() => make({ maxLength: 1 })).to.throw(
      'must have a pair whose prompt is shorter than 1 tokens, got 2 pairs without',
    );
  });
});
