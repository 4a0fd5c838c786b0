import { join } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { BottleneckConfig } from '../../src/peft/bottleneck.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import type { PeftConfig } from '../../src/peft/mapping.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { PrefixTuningConfig } from '../../src/peft/prefix-tuning.ts';
import { PromptTuningConfig } from '../../src/peft/prompt-tuning.ts';
import { VeraConfig } from '../../src/peft/vera.ts';
import { Trainer } from '../../src/train/trainer.ts';

const base = () => loadFolder(join(import.meta.dirname, '../peers/01_models/llama'));
const trainDataset = Array.from({ length: 8 }, (_, row) => {
  const inputIds = Array.from({ length: 6 + (row % 2) }, (_, i) => (row * 7 + i * 5) % 90);
  return { inputIds, labels: inputIds };
});

const methods: Record<string, () => PeftConfig> = {
  LoRA: () => new LoraConfig({ r: 4, loraDropout: 0.1 }),
  DoRA: () => new LoraConfig({ r: 4, useDora: true }),
  'LoRA of the embedding': () => new LoraConfig({ r: 4, targetModules: ['embed_tokens'] }),
  'a copied head': () => new LoraConfig({ r: 4, modulesToSave: ['lm_head'] }),
  IA3: () => new IA3Config(),
  VeRA: () => new VeraConfig({ r: 16 }),
  'bottleneck adapters': () => BottleneckConfig.houlsby({ reductionFactor: 4 }),
  'prefix tuning': () => new PrefixTuningConfig({ numVirtualTokens: 4 }),
  'prefix tuning with projection': () =>
    new PrefixTuningConfig({ numVirtualTokens: 4, prefixProjection: true }),
  'prompt tuning': () => new PromptTuningConfig({ numVirtualTokens: 4 }),
};

describe('Trainer with adapters', () => {
  before(() => setBackend('auto'));

  for (const [name, config] of Object.entries(methods)) {
    it(`lowers the loss by ${name} and leaves the base as it was`, async () => {
      const model = getPeftModel(base(), config());
      const trained = new Set(model.parameters().filter(({ trainable }) => trainable));
      const frozen = model.parameters().filter((parameter) => !trained.has(parameter));
      const before = frozen.map((parameter) => parameter.dataSync().slice());
      const trainer = new Trainer({
        model,
        trainDataset,
        args: { learningRate: 0.03, maxSteps: 12, perDeviceTrainBatchSize: 8 },
      });
      const { logHistory } = await trainer.train();
      expect(logHistory.at(-1)!.loss).to.be.below(logHistory[0]!.loss! - 0.05);
      for (const [i, parameter] of frozen.entries()) {
        expect(parameter.dataSync()).to.deep.equal(before[i]);
      }
      trainer.dispose();
      model.dispose();
    });
  }
});
