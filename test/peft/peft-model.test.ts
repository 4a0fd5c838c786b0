import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { generate } from '../../src/models/generation.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { BottleneckConfig } from '../../src/peft/bottleneck.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import type { PeftConfig } from '../../src/peft/mapping.ts';
import { getPeftModel, type PeftModel } from '../../src/peft/peft-model.ts';
import { PrefixTuningConfig } from '../../src/peft/prefix-tuning.ts';
import { PromptTuningConfig } from '../../src/peft/prompt-tuning.ts';
import { VeraConfig } from '../../src/peft/vera.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const peers = join(import.meta.dirname, '../peers/01_models');
const ids = [
  [5, 17, 3, 80],
  [11, 60, 33, 7],
];
const input = () => tf.tensor2d(ids, undefined, 'int32');
const base = (name = 'llama') => loadFolder(join(peers, name));

type Model = ReturnType<typeof base>;
type Adapted = PeftModel<Model>;

const numbers = (run: () => tf.Tensor) => tf.tidy(() => Array.from(run().dataSync()));
const logits = (model: Model | Adapted, options = {}) =>
  numbers(() => model.forward(input(), options).logits);
const gap = (a: readonly number[], b: readonly number[]) =>
  Math.max(...a.map((value, i) => Math.abs(value - b[i]!)));

/** Adds random numbers to an adapter's parameters. */
function stir(model: Adapted, name: string, seed: number): void {
  const random = new RandomState(seed);
  for (const [key, tensor] of model.getAdapterState(name)) {
    if (/base_layer|vera_[AB]$/.test(key)) continue;
    const noise = randomNormal(tensor.shape, random, { std: 0.2 });
    tf.tidy(() => (tensor as tf.Variable).assign(tf.add(tensor, noise)));
    noise.dispose();
  }
}

function adapted(config: PeftConfig = new LoraConfig({ r: 4 }), name = 'llama'): Adapted {
  const model = getPeftModel(base(name), config);
  stir(model, 'default', 1);
  return model;
}

describe('PeftModel', () => {
  before(() => setBackend('wasm'));

  it('changes nothing before it is trained', () => {
    const plain = logits(base());
    for (const config of [
      new LoraConfig({ targetModules: 'all-linear' }),
      new LoraConfig({ useDora: true }),
      new IA3Config(),
      new VeraConfig({ r: 4 }),
      BottleneckConfig.parallel(),
      new LoraConfig({ initLoraWeights: 'pissa', r: 3 }),
    ]) {
      expect(gap(logits(getPeftModel(base(), config)), plain)).to.be.below(1e-5);
    }
  });

  it('trains adapters alone', () => {
    const model = adapted();
    const trained = [...model.namedParameters()].filter(([, { trainable }]) => trainable);
    expect(trained.map(([name]) => name)).to.include(
      'base_model.model.model.layers.0.self_attn.q_proj.default.lora_a',
    );
    expect(trained).to.have.length(8);
  });

  it('combines several active adapters by adding their updates', () => {
    const model = adapted();
    model.addAdapter('other', new LoraConfig({ r: 2, targetModules: ['v_proj'] }));
    stir(model, 'other', 2);
    const layer = model.layers.get('model.layers.0.self_attn.v_proj')!;
    const x = randomNormal<tf.Rank.R2>([3, 32], new RandomState(5));
    const outputs = (names: string[]) => {
      model.setAdapter(names);
      return numbers(() => layer.forward(x));
    };
    const [one, two, both] = [
      outputs(['default']),
      outputs(['other']),
      outputs(['default', 'other']),
    ];
    const plain = model.disableAdapter(() => numbers(() => layer.forward(x)));
    expect(
      gap(
        both,
        one.map((value, i) => value + two[i]! - plain[i]!),
      ),
    ).to.be.below(1e-5);
    expect(model.activeAdapters).to.deep.equal(['default', 'other']);
  });

  it('gives each row of a batch its own adapter, or none', () => {
    const model = adapted();
    model.addAdapter('ia3', new IA3Config());
    stir(model, 'ia3', 4);
    const half = ids[0]!.length * 96;
    const first = logits(model).slice(0, half);
    const mixed = logits(model, { adapterNames: ['default', '__base__'] });
    expect(gap(mixed.slice(0, half), first)).to.be.below(1e-5);
    const plain = model.disableAdapter(() => logits(model));
    expect(gap(mixed.slice(half), plain.slice(half))).to.be.below(1e-5);
    const swapped = logits(model, { adapterNames: ['ia3', 'default'] });
    model.setAdapter('ia3');
    expect(gap(swapped.slice(0, half), logits(model).slice(0, half))).to.be.below(1e-5);
  });

  it('merges into weights and takes itself out again', () => {
    for (const [name, config] of [
      ['llama', new LoraConfig({ r: 4, targetModules: 'all-linear' })],
      ['gpt2', new LoraConfig({ r: 4, targetModules: ['c_attn', 'c_fc'] })],
      ['llama', new LoraConfig({ useDora: true })],
      ['llama_b', new LoraConfig({ targetModules: ['embed_tokens'] })],
      ['gpt2', new IA3Config()],
      ['gpt2', new VeraConfig({ r: 4 })],
    ] as [string, PeftConfig][]) {
      const model = adapted(config, name);
      const before = logits(model);
      const plain = model.disableAdapter(() => logits(model));
      model.mergeAdapter({ safeMerge: true });
      expect(gap(logits(model), before), config.peftType).to.be.below(2e-4);
      expect(model.mergedAdapters).to.deep.equal(['default']);
      expect(
        gap(
          model.disableAdapter(() => logits(model)),
          plain,
        ),
      ).to.be.below(2e-4);
      model.unmergeAdapter();
      expect(model.mergedAdapters).to.deep.equal([]);
      expect(gap(logits(model), before)).to.be.below(2e-4);
      const merged = model.mergeAndUnload();
      expect(gap(logits(merged), before)).to.be.below(2e-4);
      const wrappers = [...merged.namedModules()].map(([, module]) => module.constructor.name);
      expect(wrappers).not.to.include('TunerLayer');
    }
  });

  it('unloads into the model that it was', () => {
    const plain = logits(base());
    const model = adapted();
    model.mergeAdapter();
    expect(gap(logits(model.unload()), plain)).to.be.below(1e-5);
  });

  it('deletes adapters and goes on with the first that is left', () => {
    const model = adapted();
    model.addAdapter('other', new LoraConfig({ r: 2 }));
    const { numTensors } = tf.memory();
    model.deleteAdapter('default');
    expect(tf.memory().numTensors).to.equal(numTensors - 8);
    expect(model.activeAdapter).to.equal('other');
    expect(Object.keys(model.peftConfig)).to.deep.equal(['other']);
  });

  it('saves the default adapter into the folder and others into folders of their own', () => {
    const folder = mkdtempSync(join(tmpdir(), 'peft-'));
    const model = adapted();
    model.addAdapter('sql', new LoraConfig({ r: 2 }));
    stir(model, 'sql', 9);
    model.savePretrained(folder);
    expect(existsSync(join(folder, 'adapter_model.safetensors'))).to.equal(true);
    const again = getPeftModel(base(), new LoraConfig());
    again.loadAdapter(join(folder, 'sql'), 'copy');
    again.setAdapter('copy');
    model.setAdapter('sql');
    expect(logits(again)).to.deep.equal(logits(model));
    rmSync(folder, { recursive: true });
  });

  it('draws other dropout at each step of training, and none in use', () => {
    const model = adapted(new LoraConfig({ loraDropout: 0.5 }));
    const still = logits(model);
    model.train();
    const [one, two] = [logits(model), logits(model)];
    expect(gap(one, two)).to.be.above(1e-3);
    const step = jit((x: tf.Tensor2D) => model.forward(x).logits);
    const compiled = [1, 2].map(() => numbers(() => step(input())));
    expect(gap(compiled[0]!, compiled[1]!)).to.be.above(1e-3);
    step.dispose();
    expect(logits(model.eval())).to.deep.equal(still);
  });

  it('generates with each method what its logits say', async () => {
    for (const config of [
      new LoraConfig({ r: 4 }),
      new PrefixTuningConfig({ numVirtualTokens: 3 }),
      new PromptTuningConfig({ numVirtualTokens: 3 }),
      BottleneckConfig.houlsby({ reductionFactor: 4 }),
    ]) {
      const model = adapted(config);
      const options = { maxNewTokens: 4, eosTokenId: null };
      const [whole] = await generate(model, [ids[0]!], options);
      const text = [...ids[0]!];
      for (let i = 0; i < 4; i++) {
        const next = tf.tidy(() => {
          const { logits: all } = model.forward(tf.tensor2d([text], undefined, 'int32'));
          return tf.argMax(tf.slice(all, [0, all.shape[1] - 1, 0], [1, 1, -1]), 2).dataSync()[0]!;
        });
        text.push(next);
      }
      expect(whole, config.peftType).to.deep.equal(text);
      const padded = await generate(model, [ids[0]!, [9, 8]], options);
      expect(padded[0], `${config.peftType} in a batch`).to.deep.equal(text);
    }
  });

  it('keeps the head that modulesToSave copies, also where it was tied', () => {
    const model = getPeftModel(base('gpt2'), new LoraConfig({ modulesToSave: ['lm_head'] }));
    const plain = model.disableAdapter(() => logits(model));
    const copy = model.wrappers.get('lm_head')!.copies.get('default')!;
    tf.tidy(() => {
      const weight = (copy as unknown as { weight: tf.Variable }).weight;
      weight.assign(tf.mul(weight, 2));
    });
    expect(
      gap(
        logits(model),
        plain.map((value) => 2 * value),
      ),
    ).to.be.below(1e-4);
    expect(
      gap(
        model.disableAdapter(() => logits(model)),
        plain,
      ),
    ).to.equal(0);
  });

  it('begins a prompt with the vectors of a text', () => {
    const config = new PromptTuningConfig({
      numVirtualTokens: 3,
      promptTuningInit: 'TEXT',
      promptTuningInitText: 'sum up',
    });
    const model = getPeftModel(base(), config, { tokenizer: { encode: () => [7, 9] } });
    const rows = model.getAdapterState().get('prompt_embeddings')!.arraySync() as number[][];
    const table = model.getBaseModel().getSubmodule('model.embed_tokens') as unknown as {
      weight: tf.Tensor;
    };
    const words = table.weight.arraySync() as number[][];
    expect(rows).to.deep.equal([words[7], words[9], words[7]]);
  });
});
