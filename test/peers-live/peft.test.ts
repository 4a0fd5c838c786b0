// Adapters of every method, saved here and loaded by Hugging Face's peft, and the other way round.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { ForSequenceClassification } from '../../src/models/sequence-classification.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import type { PeftConfig } from '../../src/peft/mapping.ts';
import { getPeftModel, PeftModel } from '../../src/peft/peft-model.ts';
import { PrefixTuningConfig } from '../../src/peft/prefix-tuning.ts';
import type { BaseModel } from '../../src/peft/prompt-learning.ts';
import { PromptTuningConfig } from '../../src/peft/prompt-tuning.ts';
import { VeraConfig } from '../../src/peft/vera.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { peersPython } from './python.ts';

const peers = join(import.meta.dirname, '../peers/01_models');
const ids = [
  [5, 17, 3, 80, 41, 9, 2],
  [11, 60, 33, 7, 7, 90, 25],
];

/** What is saved here and loaded there: the base model and a config. */
const ours: Record<string, [base: string, config: () => PeftConfig]> = {
  lora: ['llama', () => new LoraConfig({ r: 4 })],
  'lora all-linear': ['gpt2', () => new LoraConfig({ r: 4, targetModules: 'all-linear' })],
  'lora patterns': [
    'gpt2',
    () =>
      new LoraConfig({
        targetModules: ['c_attn', 'c_proj'],
        rankPattern: { 'mlp.c_proj': 3 },
        alphaPattern: { '^transformer.h.0.attn.c_proj': 5 },
      }),
  ],
  'lora regexp': ['llama', () => new LoraConfig({ targetModules: '.*layers.1.*(q|down)_proj' })],
  'lora embedding': [
    'llama_b',
    () => new LoraConfig({ targetModules: ['embed_tokens', 'q_proj'] }),
  ],
  'lora modulesToSave': ['llama_b', () => new LoraConfig({ modulesToSave: ['lm_head', 'norm'] })],
  'lora bias all': ['gpt2', () => new LoraConfig({ targetModules: ['c_fc'], bias: 'all' })],
  'lora bias lora_only': ['gpt2', () => new LoraConfig({ bias: 'lora_only' })],
  'lora pissa': ['llama', () => new LoraConfig({ r: 4, initLoraWeights: 'pissa' })],
  rslora: ['llama', () => new LoraConfig({ r: 4, loraAlpha: 3, useRslora: true })],
  dora: ['llama', () => new LoraConfig({ useDora: true, targetModules: ['v_proj', 'up_proj'] })],
  'dora of Conv1D': ['gpt2', () => new LoraConfig({ useDora: true })],
  ia3: ['llama', () => new IA3Config()],
  'ia3 of Conv1D': ['gpt2', () => new IA3Config()],
  vera: ['llama', () => new VeraConfig({ r: 8, targetModules: ['v_proj', 'down_proj'] })],
  'vera from its key': [
    'llama',
    () => new VeraConfig({ r: 8, saveProjection: false, projectionPrngKey: 77 }),
  ],
  prefix: ['llama', () => new PrefixTuningConfig({ numVirtualTokens: 3 })],
  'prefix with projection': [
    'gpt2',
    () => new PrefixTuningConfig({ numVirtualTokens: 3, prefixProjection: true }),
  ],
  prompt: ['llama', () => new PromptTuningConfig({ numVirtualTokens: 3 })],
  'lora on layers by number': [
    'llama',
    () => new LoraConfig({ targetModules: ['q_proj', 'up_proj'], layersToTransform: [1] }),
  ],
  'lora without some': [
    'gpt2',
    () => new LoraConfig({ targetModules: 'all-linear', excludeModules: ['mlp.c_fc'] }),
  ],
  'lora of tied embeddings': ['gpt2', () => new LoraConfig({ targetModules: ['wte', 'c_attn'] })],
  'lora bias all beside copied norms': [
    'gpt2',
    () => new LoraConfig({ bias: 'all', modulesToSave: ['ln_f', 'mlp'] }),
  ],
  'ia3 of a wide name': ['gpt2', () => new IA3Config({ targetModules: ['c_attn', 'c_proj'] })],
  'ia3 of a regular expression': [
    'llama',
    () => new IA3Config({ targetModules: '.*(v|down)_proj' }),
  ],
  'ia3 with a copied head': ['llama_b', () => new IA3Config({ modulesToSave: ['lm_head'] })],
  'prefix of grouped heads': ['llama_b', () => new PrefixTuningConfig({ numVirtualTokens: 3 })],
  'prefix of grouped heads with projection': [
    'llama_b',
    () => new PrefixTuningConfig({ numVirtualTokens: 3, prefixProjection: true }),
  ],
  'prompt from a text': [
    'gpt2',
    () =>
      new PromptTuningConfig({
        numVirtualTokens: 5,
        promptTuningInit: 'TEXT',
        promptTuningInitText: 'abc',
        tokenizerNameOrPath: 'none',
      }),
  ],
  'ia3 with a new head': ['gpt2', () => new IA3Config({ taskType: 'SEQ_CLS' })],
  'lora with a new head': ['llama', () => new LoraConfig({ taskType: 'SEQ_CLS' })],
  'lora all-linear with a new head': [
    'gpt2',
    () => new LoraConfig({ taskType: 'SEQ_CLS', targetModules: 'all-linear' }),
  ],
};

/** What is made there and loaded here. */
const theirs: Record<string, [base: string, config: string, options: object]> = {
  LoRA: ['llama', 'LoraConfig', { r: 3 }],
  'LoRA with all options': [
    'gpt2',
    'LoraConfig',
    { r: 5, target_modules: 'all-linear', lora_dropout: 0.1, use_rslora: true, bias: 'all' },
  ],
  'LoRA on layers': [
    'llama',
    'LoraConfig',
    { target_modules: ['q_proj', 'up_proj'], layers_to_transform: [1], layers_pattern: 'layers' },
  ],
  'LoRA with a copied head': ['llama_b', 'LoraConfig', { modules_to_save: ['lm_head'] }],
  'LoRA of embeddings': ['llama_b', 'LoraConfig', { target_modules: ['embed_tokens', 'lm_head'] }],
  PiSSA: ['gpt2', 'LoraConfig', { r: 4, init_lora_weights: 'pissa' }],
  DoRA: ['llama', 'LoraConfig', { use_dora: true, target_modules: 'all-linear' }],
  IA3: ['llama', 'IA3Config', {}],
  VeRA: ['llama', 'VeraConfig', { r: 12, target_modules: ['q_proj', 'down_proj'] }],
  'VeRA from its key': ['gpt2', 'VeraConfig', { r: 12, save_projection: false }],
  'Prefix tuning': ['llama', 'PrefixTuningConfig', { num_virtual_tokens: 4 }],
  'Prefix tuning with projection': [
    'gpt2',
    'PrefixTuningConfig',
    { num_virtual_tokens: 4, prefix_projection: true, encoder_hidden_size: 9 },
  ],
  'Prompt tuning': ['gpt2', 'PromptTuningConfig', { num_virtual_tokens: 4 }],
  'LoRA without some': [
    'llama',
    'LoraConfig',
    { target_modules: 'all-linear', exclude_modules: '.*(o|gate)_proj' },
  ],
  'LoRA of tied embeddings': ['gpt2', 'LoraConfig', { target_modules: ['wte', 'c_attn'] }],
  'LoRA with all biases and a copied norm': [
    'gpt2',
    'LoraConfig',
    { bias: 'all', modules_to_save: ['ln_f'] },
  ],
  'DoRA of Conv1D': ['gpt2', 'LoraConfig', { use_dora: true, bias: 'lora_only' }],
  'IA3 of some inputs': [
    'llama_b',
    'IA3Config',
    { target_modules: ['q_proj', 'up_proj'], feedforward_modules: ['up_proj'] },
  ],
  'Prefix tuning of grouped heads': ['llama_b', 'PrefixTuningConfig', { num_virtual_tokens: 4 }],
  'IA3 with a new head': ['llama', 'IA3Config', { task_type: 'SEQ_CLS' }],
  'LoRA with a new head': ['gpt2', 'LoraConfig', { task_type: 'SEQ_CLS' }],
};

/** The base model, or its layers with a head of three classes. */
function baseFor(name: string, isClassifier: boolean): BaseModel {
  const model = loadFolder(join(peers, name));
  if (!isClassifier) return model as unknown as BaseModel;
  Object.assign(model.config, { padTokenId: 2 });
  const causal = model as ConstructorParameters<typeof ForSequenceClassification>[0];
  return new ForSequenceClassification(causal, { numLabels: 3 }) as unknown as BaseModel;
}

const logitsOf = (model: PeftModel) =>
  tf.tidy(() => Array.from(model.forward(tf.tensor2d(ids, undefined, 'int32')).logits.dataSync()));

/** Gives an adapter random numbers and saves it. */
function saveRandom(base: string, config: PeftConfig, folder: string): number[] {
  const tokenizer = { encode: (text: string) => [...text].map((c) => c.charCodeAt(0) % 30) };
  const isClassifier = config.taskType === 'SEQ_CLS';
  const model = getPeftModel(baseFor(base, isClassifier), config, { seed: 3, tokenizer });
  const random = new RandomState(8);
  for (const parameter of model.parameters().filter(({ trainable }) => trainable)) {
    const noise = randomNormal(parameter.shape, random, { std: 0.1 });
    tf.tidy(() => parameter.assign(tf.add(parameter, noise)));
    noise.dispose();
  }
  model.savePretrained(folder);
  const logits = logitsOf(model);
  model.dispose();
  return logits;
}

function expectClose(actual: readonly number[], expected: readonly number[]): void {
  expect(actual).to.have.length(expected.length);
  const worst = Math.max(...actual.map((value, i) => Math.abs(value - expected[i]!)));
  expect(worst).to.be.below(2e-4);
}

describe("Hugging Face's peft and this library", () => {
  const folder = mkdtempSync(join(tmpdir(), 'peft-live-'));
  const mine = new Map<string, number[]>();
  let logits: Record<string, number[]> = {};

  before(async function () {
    this.timeout(600000);
    await setBackend('wasm');
    const path = (name: string) => join(folder, name.replaceAll(' ', '_'));
    const loads = Object.entries(ours).map(([name, [base, config]]) => {
      mine.set(name, saveRandom(base, config(), path(name)));
      const options = { task_type: config().taskType };
      return { kind: 'load', name, base: join(peers, base), adapter: path(name), ids, options };
    });
    const makes = Object.entries(theirs).map(([name, [base, config, options]]) => ({
      ...{ kind: 'make', name, base: join(peers, base), adapter: path(`peft ${name}`), ids },
      ...{ config, options },
    }));
    writeFileSync(join(folder, 'tasks.json'), JSON.stringify([...loads, ...makes]));
    const python = peersPython();
    if (!python) throw new Error('No python3 with venv here');
    const script = join(import.meta.dirname, 'run_peft.py');
    const { status, stderr } = spawnSync(python, [script, folder], { encoding: 'utf8' });
    if (status !== 0) throw new Error(stderr);
    logits = JSON.parse(readFileSync(join(folder, 'logits.json'), 'utf8'));
  });

  after(() => rmSync(folder, { recursive: true }));

  for (const name of Object.keys(ours)) {
    it(`agree on ${name}, saved here and loaded there`, () => {
      expectClose(mine.get(name)!, logits[name]!);
    });
  }

  for (const [name, [base, , options]] of Object.entries(theirs)) {
    it(`agree on ${name}, saved there and loaded here`, () => {
      const saved = join(folder, `peft ${name}`.replaceAll(' ', '_'));
      const model = PeftModel.fromPretrained(baseFor(base, 'task_type' in options), saved);
      expectClose(logitsOf(model), logits[name]!);
      model.dispose();
    });
  }
});
