import { join } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { loraPlusGroups } from '../../src/train/lora-plus.ts';
import { AdamW } from '../../src/train/optimizers.ts';

const base = () => loadFolder(join(import.meta.dirname, '../peers/01_models/gpt2'));

describe('loraPlusGroups', () => {
  before(() => setBackend('wasm'));

  it('gives B the higher rate, embeddings their own, and biases no decay', () => {
    const config = new LoraConfig({
      targetModules: ['c_attn', 'wte'],
      bias: 'all',
      useDora: false,
    });
    const model = getPeftModel(base(), config);
    const groups = loraPlusGroups(model.namedParameters(), {
      lr: 0.5,
      loraplusLrRatio: 16,
      loraplusWeightDecay: 0.1,
    });
    const summary = groups.map(({ params, lr, weightDecay }) => [params.length, lr, weightDecay]);
    // As peft 0.21.2 groups them: 2 A, 2 parts of the embedding, 2 B, and all 13 biases.
    expect(summary).to.deep.equal([
      [2, 0.5, 0.1],
      [2, 1e-6, 0.1],
      [2, 8, 0.1],
      [13, 8, 0],
    ]);
  });

  it("puts DoRA's magnitudes with B, and leaves out what is frozen", () => {
    const model = getPeftModel(base(), new LoraConfig({ useDora: true }));
    const groups = loraPlusGroups(model.namedParameters(), { lr: 1e-3, loraplusLrRatio: 4 });
    expect(groups.map(({ params }) => params.length)).to.deep.equal([2, 4]);
    const optimizer = new AdamW(groups);
    expect(optimizer.paramGroups.map(({ lr }) => lr)).to.deep.equal([1e-3, 4e-3]);
    optimizer.dispose();
  });

  it('refuses a ratio that is not above 0', () => {
    expect(() => loraPlusGroups([], { lr: 1, loraplusLrRatio: 0 })).to.throw(
      'The loraplusLrRatio must be above 0, got 0',
    );
  });
});
