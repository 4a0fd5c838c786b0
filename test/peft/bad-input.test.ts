import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel, PeftModel } from '../../src/peft/peft-model.ts';
import { PrefixTuningConfig } from '../../src/peft/prefix-tuning.ts';
import { VeraConfig } from '../../src/peft/vera.ts';
import { loadFile, saveFile } from '../../src/tensor/safetensors.ts';

const peers = join(import.meta.dirname, '../peers/01_models');
const base = (name = 'llama') => loadFolder(join(peers, name));

describe('PEFT refuses, in one sentence and with the model as it was,', () => {
  let folder = '';
  before(() => setBackend('wasm'));
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'adapter-'));
    const model = getPeftModel(base(), new LoraConfig({ r: 4 }));
    model.savePretrained(folder);
    model.dispose();
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  const changeConfig = (change: object) => {
    const path = join(folder, 'adapter_config.json');
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), ...change }));
  };
  const changeWeights = (change: (tensors: ReturnType<typeof loadFile>) => void) => {
    const path = join(folder, 'adapter_model.safetensors');
    const tensors = loadFile(path);
    change(tensors);
    saveFile(tensors, path);
  };

  /** Expects that a folder is refused, and that logits, tensors and modules stay. */
  function expectRefused(message: RegExp | string, name = 'llama'): void {
    const model = getPeftModel(base(name), new LoraConfig({ r: 2 }));
    const state = () => [
      [...model.namedModules()].map(([path]) => path),
      [...model.namedParameters()].map(([path, { trainable }]) => [path, trainable]),
      model.activeAdapters,
      tf.tidy(() =>
        Array.from(model.forward(tf.tensor2d([[3, 5]], undefined, 'int32')).logits.dataSync()),
      ),
    ];
    const before = state();
    const { numTensors } = tf.memory();
    expect(() => model.loadAdapter(folder, 'other')).to.throw(message);
    expect(tf.memory().numTensors).to.equal(numTensors);
    expect(state()).to.deep.equal(before);
    model.dispose();
  }

  it('an adapter for other modules', () => {
    expectRefused(
      'LoraConfig.targetModules ["q_proj","v_proj"] matches no module; have wte, wpe, c_attn, c_proj, c_fc, lm_head',
      'gpt2',
    );
  });

  it('an adapter for other shapes', () => {
    expectRefused(
      /^'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight' has shape \[4,32\] in the adapter's file, and \[4,48\] fits this model$/,
      'llama_b',
    );
  });

  it('a missing tensor', () => {
    changeWeights((tensors) => void tensors.delete([...tensors.keys()][0]!));
    expectRefused(/^The adapter's file lacks 'base_model.*' of shape \[/);
  });

  it('a tensor too many', () => {
    changeWeights((tensors) => {
      const [key, raw] = [...tensors][0]!;
      tensors.set(key.replace('q_proj', 'k_proj'), raw);
    });
    expectRefused(
      /k_proj.lora_A.weight' of the adapter's file has no place in this model and config$/,
    );
  });

  it('another rank than the config says', () => {
    changeConfig({ r: 3 });
    expectRefused(/lora_A.weight' has shape \[4,32\] in the adapter's file, and \[3,32\] fits/);
  });

  it('an unknown peft_type', () => {
    changeConfig({ peft_type: 'LOHA' });
    expectRefused(/^peft_type must be LORA, .* got "LOHA"$/);
  });

  it('options that change what an adapter does and are not known', () => {
    changeConfig({ use_qalora: true });
    expectRefused('adapter_config.json has use_qalora true, which LORA does not know here');
  });

  it('a folder without an adapter', () => {
    cpSync(join(folder, 'adapter_config.json'), join(folder, 'adapter_model.safetensors'));
    rmSync(join(folder, 'adapter_config.json'));
    expectRefused(/^No adapter_config.json in /);
  });

  it('a config that is no JSON', () => {
    writeFileSync(join(folder, 'adapter_config.json'), '{ "peft_type": ');
    expectRefused(/^adapter_config.json in .* is not JSON: /);
  });

  it('layers by number beside modules by a text, and lists without numbers', () => {
    const targetModules = '.*q_proj';
    expect(() => new LoraConfig({ targetModules, layersToTransform: [0] })).to.throw(
      'LoraConfig.targetModules must be a list of names with layersToTransform, got ".*q_proj"',
    );
    expect(() => new LoraConfig({ targetModules: ['q_proj'], layersPattern: 'layers' })).to.throw(
      'LoraConfig.layersToTransform must be numbers of layers with layersPattern, got null',
    );
  });

  it('numbers out of range', () => {
    expect(() => new LoraConfig({ r: 0 })).to.throw(
      'LoraConfig.r must be a positive integer, got 0',
    );
    expect(() => new LoraConfig({ rankPattern: { q_proj: -1 } })).to.throw(
      "LoraConfig.rankPattern['q_proj'] must be a positive integer, got -1",
    );
    expect(() => new LoraConfig({ loraDropout: 1 })).to.throw(
      'LoraConfig.loraDropout must be at least 0 and below 1, got 1',
    );
    expect(() => new VeraConfig({ r: 1.5 })).to.throw('VeraConfig.r must be a positive integer');
    expect(() => new PrefixTuningConfig({ numVirtualTokens: 0 })).to.throw(
      'PrefixTuningConfig.numVirtualTokens must be a positive integer, got 0',
    );
    const init = 'zeros' as unknown as true;
    expect(() => getPeftModel(base(), new LoraConfig({ initLoraWeights: init }))).to.throw(
      "LoraConfig.initLoraWeights must be true, false, 'gaussian', 'pissa', 'pissa_niter_N' or 'loftq', got 'zeros'",
    );
  });

  it('targets that match nothing, or what can have no adapter', () => {
    expect(() => getPeftModel(base(), new LoraConfig({ targetModules: ['query'] }))).to.throw(
      'LoraConfig.targetModules ["query"] matches no module; have embed_tokens, q_proj, k_proj',
    );
    expect(() => getPeftModel(base(), new LoraConfig({ targetModules: ['norm'] }))).to.throw(
      "LoRA adapts linear layers and embeddings, and 'model.norm' is RMSNorm",
    );
    expect(() => getPeftModel(base(), new LoraConfig({ modulesToSave: ['head'] }))).not.to.throw();
    expect(() => getPeftModel(base(), new LoraConfig({ modulesToSave: ['none'] }))).to.throw(
      'LoraConfig.modulesToSave ["none"] matches no module',
    );
    expect(
      () => new IA3Config({ targetModules: ['q_proj'], feedforwardModules: ['up_proj'] }),
    ).to.throw("IA3Config.feedforwardModules must be among targetModules, got 'up_proj'");
  });

  it('names of adapters that are taken, missing or not possible', () => {
    const model = getPeftModel(base(), new LoraConfig());
    expect(() => model.addAdapter('default', new LoraConfig())).to.throw(
      "There is an adapter named 'default' already",
    );
    expect(() => model.addAdapter('a.b', new LoraConfig())).to.throw("got 'a.b'");
    model.addAdapter('chat', new LoraConfig());
    expect(() => model.setAdapter('sql')).to.throw(
      "No adapter named 'sql'; have 'default', 'chat'",
    );
    const row = tf.tensor2d([[1, 2]], undefined, 'int32');
    expect(() => model.forward(row, { adapterNames: ['sql'] })).to.throw("No adapter named 'sql'");
    expect(() => model.forward(row, { adapterNames: ['chat', 'chat'] })).to.throw(
      'adapterNames must name an adapter for each of 1 rows, got 2',
    );
    expect(() => new PeftModel(model.getBaseModel())).to.throw('has adapters already');
  });

  it('methods and biases that can not go together', () => {
    const model = getPeftModel(base(), new LoraConfig());
    const prefix = new PrefixTuningConfig({ numVirtualTokens: 2 });
    expect(() => model.addAdapter('prefix', prefix)).to.throw(
      'PREFIX_TUNING can not be combined with LORA in one model',
    );
    expect(() => model.addAdapter('bias', new LoraConfig({ bias: 'all' }))).to.throw(
      'Only a single adapter can train biases',
    );
    expect(() => getPeftModel(base(), prefix).mergeAdapter()).to.throw(
      "Virtual tokens such as 'default' can not be merged",
    );
  });

  it('to merge twice, to delete what is merged, and numbers that are not finite', () => {
    const model = getPeftModel(base(), new LoraConfig());
    model.mergeAdapter();
    expect(() => model.mergeAdapter()).to.throw(
      "Adapter 'default' is merged already; call unmergeAdapter first",
    );
    expect(() => model.deleteAdapter('default')).to.throw("Adapter 'default' is merged");
    expect(() => model.addAdapter('more', new LoraConfig())).to.throw("'default' is merged");
    model.unmergeAdapter();
    const [b] = [...model.getAdapterState()].filter(([key]) => key.includes('lora_B'));
    (b![1] as tf.Variable).assign(tf.fill(b![1].shape, Number.NaN));
    const weights = () => [...base().namedParameters()].map(([, w]) => Array.from(w.dataSync()));
    expect(() => model.mergeAdapter({ safeMerge: true })).to.throw(
      /^Merging 'default' would put numbers that are not finite into 'model.layers.0/,
    );
    expect(model.mergedAdapters).to.deep.equal([]);
    const plain = new Map(base().namedParameters());
    for (const [name, weight] of model.getBaseModel().namedParameters()) {
      const original = plain.get(name.replace('.base_layer', ''));
      if (original) expect(weight.dataSync()).to.deep.equal(original.dataSync());
    }
    expect(weights().flat().every(Number.isFinite)).to.equal(true);
  });
});
