import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { openCheckpoint } from '../../src/models/checkpoint.ts';
import { configFromJson, configText, configToJson, llamaConfig } from '../../src/models/config.ts';
import { fromConfig, loadFolder, savePretrained } from '../../src/models/pretrained.ts';
import { loadFile, saveFile } from '../../src/tensor/safetensors.ts';

const peers = join(import.meta.dirname, '../peers/01_models');
const ids = () => tf.tensor2d([[4, 9, 30, 7]], undefined, 'int32');
const logits = (folder: string) => [...loadFolder(folder).forward(ids()).logits.dataSync()];

describe('models in folders', () => {
  let folder: string;
  before(() => setBackend('wasm'));
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'pretrained-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  for (const name of ['gpt2', 'llama', 'llama_b', 'llama_yarn_scaled', 'llama_longrope']) {
    it(`saves ${name} so that it is the same when loaded`, () => {
      const model = loadFolder(join(peers, name));
      savePretrained(model, folder);
      expect(logits(folder)).to.deep.equal(logits(join(peers, name)));
      const again = loadFile(join(folder, 'model.safetensors'));
      const first = loadFile(join(peers, name, 'model.safetensors'));
      expect([...again.keys()].sort()).to.deep.equal([...first.keys()].sort());
    });
  }

  it('saves in shards, and in half precision', () => {
    const model = loadFolder(join(peers, 'llama_b'));
    savePretrained(model, folder, { dtype: 'float16', maxShardSize: 20_000 });
    const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));
    expect(files).to.have.length.above(2);
    const index = JSON.parse(readFileSync(join(folder, 'model.safetensors.index.json'), 'utf8'));
    expect(index.metadata.total_size).to.equal(2 * 39408);
    for (const [i, x] of logits(join(peers, 'llama_b')).entries()) {
      expect(logits(folder)[i]).to.be.closeTo(x, 0.05);
      if (i > 3) break;
    }
    savePretrained(model, folder);
    expect(readdirSync(folder).filter((name) => name.includes('0000'))).to.deep.equal([]);
    expect(logits(folder)).to.deep.equal(logits(join(peers, 'llama_b')));
  });

  it('reads the config of transformers 4 as that of 5', () => {
    for (const name of [
      'llama_b',
      'llama_yarn_scaled',
      'llama_longrope',
      'llama_linear',
      'llama',
    ]) {
      const json = JSON.parse(readFileSync(join(peers, name, 'config.json'), 'utf8'));
      const { rope_parameters: rope, dtype, ...rest } = json;
      const { rope_theta: theta, ...scaling } = rope;
      const old = { ...rest, torch_dtype: dtype, rope_theta: theta, rope_scaling: scaling };
      expect(configFromJson(old)).to.deep.equal(configFromJson(json));
      expect(configFromJson(configToJson(configFromJson(old)))).to.deep.include({
        vocabSize: json.vocab_size,
      });
    }
    const oldest = { model_type: 'llama', rope_scaling: { type: 'linear', factor: 2 } };
    expect(configFromJson(oldest)).to.have.nested.property('ropeParameters.ropeType', 'linear');
  });

  it("writes floats as Python's floats", () => {
    const text = configText(
      llamaConfig({ ropeParameters: { ropeType: 'linear', ropeTheta: 1e4, factor: 2 } }),
    );
    expect(text).to.include('"factor": 2.0').and.include('"rope_theta": 10000.0');
    expect(text).to.include('"vocab_size": 32000,');
  });

  it('names the tensor and both shapes when config and weights differ', () => {
    cpSync(join(peers, 'llama'), folder, { recursive: true });
    const change = (fields: object) => {
      const json = JSON.parse(readFileSync(join(peers, 'llama', 'config.json'), 'utf8'));
      writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...json, ...fields }));
    };
    const before = tf.memory().numTensors;
    change({ intermediate_size: 60 });
    expect(() => loadFolder(folder)).to.throw(
      "Tensor 'model.layers.0.mlp.gate_proj.weight' has shape [56,32], but config.json makes it [60,32]",
    );
    change({ num_hidden_layers: 3 });
    expect(() => loadFolder(folder)).to.throw(
      /^Tensor 'model.layers.2.\S+' of shape \[\S+\] is not in the weights/,
    );
    change({ num_hidden_layers: 1 });
    expect(() => loadFolder(folder)).to.throw(
      /^Tensor 'model.layers.1.\S+' of shape .* has no place/,
    );
    change({ num_key_value_heads: 3 });
    expect(() => loadFolder(folder)).to.throw(/num_attention_heads must be a multiple/);
    change({ vocab_size: -5 });
    expect(() => loadFolder(folder)).to.throw('vocab_size must be a positive integer, got -5');
    change({ model_type: 'mamba' });
    expect(() => loadFolder(folder)).to.throw(
      "model_type must be 'llama' or 'gpt2', got \"mamba\"",
    );
    expect(tf.memory().numTensors).to.equal(before);
  });

  it('allocates nothing by a config that asks for far more than the weights hold', () => {
    cpSync(join(peers, 'llama'), folder, { recursive: true });
    const json = JSON.parse(readFileSync(join(peers, 'llama', 'config.json'), 'utf8'));
    for (const fields of [
      { vocab_size: 1e12 },
      { intermediate_size: 1e9 },
      { num_hidden_layers: 1e9 },
    ]) {
      writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...json, ...fields }));
      expect(() => loadFolder(folder)).to.throw(
        /^config.json asks for a tensor of shape \[.*\], but all/,
      );
    }
  });

  it('reads weights of a bare model, without the prefix of its names', () => {
    cpSync(join(peers, 'gpt2'), folder, { recursive: true });
    const tensors = loadFile(join(folder, 'model.safetensors'));
    const bare = new Map(
      [...tensors].map(([name, raw]) => [name.replace('transformer.', ''), raw]),
    );
    saveFile(bare, join(folder, 'model.safetensors'));
    expect(logits(folder)).to.deep.equal(logits(join(peers, 'gpt2')));
  });

  it('refuses an index that points out of its folder, and a folder without weights', () => {
    writeFileSync(
      join(folder, 'model.safetensors.index.json'),
      '{"weight_map": {"a": "../x.safetensors"}}',
    );
    expect(() => openCheckpoint(folder)).to.throw(/names of .safetensors files beside it/);
    expect(() => openCheckpoint(peers)).to.throw(/^No weights in /);
    expect(() => loadFolder(peers)).to.throw(/^No config.json in /);
  });

  it('gives the same logits with and without the cache of keys and values', () => {
    for (const name of ['llama_b', 'gpt2', 'llama_yarn_scaled']) {
      const model = loadFolder(join(peers, name));
      const whole = model.forward(ids()).logits.dataSync();
      const first = model.forward(ids().slice([0, 0], [1, 3]), { useCache: true });
      const pastKeyValues = first.pastKeyValues!;
      const rest = model.forward(ids().slice([0, 3], [1, 1]), { pastKeyValues }).logits.dataSync();
      for (const [i, x] of [...rest].entries()) {
        expect(x).to.be.closeTo(whole[whole.length - rest.length + i]!, 1e-5);
      }
    }
  });

  it('takes vectors in the place of ids, and has gradients for every parameter', () => {
    const model = loadFolder(join(peers, 'llama'));
    const table = new Map(model.namedParameters()).get('model.embed_tokens.weight')!;
    const inputsEmbeds = tf.gather(table, ids().flatten()).expandDims(0) as tf.Tensor3D;
    const out = model.forward(null, { inputsEmbeds }).logits.dataSync();
    expect([...out]).to.deep.equal([...model.forward(ids()).logits.dataSync()]);
    const { grads } = tf.variableGrads(() =>
      tf.sum(tf.square(model.forward(ids()).logits)).asScalar(),
    );
    for (const parameter of model.parameters()) {
      const largest = tf.max(tf.abs(grads[parameter.name]!)).dataSync()[0]!;
      expect(largest, parameter.name).to.be.above(0);
    }
  });

  it('makes a model with seeded random weights', () => {
    const make = () =>
      fromConfig(
        configFromJson({ model_type: 'gpt2', n_embd: 8, n_layer: 1, n_head: 2, vocab_size: 40 }),
      );
    const run = () => [...make().forward(ids()).logits.dataSync()];
    expect(run()).to.deep.equal(run());
    expect(Math.max(...run())).to.be.above(0);
  });
});
