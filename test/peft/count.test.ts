import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { numParameters } from '../../src/models/causal-lm.ts';
import { configFromJson, gpt2Config, llamaConfig } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { BottleneckConfig } from '../../src/peft/bottleneck.ts';
import { countAdapter, countParameters } from '../../src/peft/count.ts';
import { IA3Config } from '../../src/peft/ia3.ts';
import { KNOWN_MODELS } from '../../src/peft/known-models.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { configFromJson as adapterConfig, type PeftConfig } from '../../src/peft/mapping.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { PrefixTuningConfig } from '../../src/peft/prefix-tuning.ts';
import { PromptTuningConfig } from '../../src/peft/prompt-tuning.ts';
import { VeraConfig } from '../../src/peft/vera.ts';

type Json = Record<string, unknown>;

interface PeerCount {
  name: string;
  base: Json;
  peft: Json;
  trainable: number;
  all: number;
}

const peers: PeerCount[] = JSON.parse(
  readFileSync(join(import.meta.dirname, '../peers/counts.json'), 'utf8'),
);

/** Totals on the models' pages and in their papers. */
const PUBLISHED: Record<keyof typeof KNOWN_MODELS, number> = {
  'Llama-2-7B': 6_738_415_616,
  'Llama-2-13B': 13_015_864_320,
  'Llama-2-70B': 68_976_648_192,
  'Llama-3-8B': 8_030_261_248,
  'Llama-3-70B': 70_553_706_496,
  'Llama-3.2-1B': 1_235_814_400,
  'Llama-3.2-3B': 3_212_749_824,
  'SmolLM2-135M': 134_515_008,
  'GPT-2': 124_439_808,
  'GPT-2 medium': 354_823_168,
  'GPT-2 large': 774_030_080,
  'GPT-2 XL': 1_557_611_200,
};

const small = {
  llama: llamaConfig({
    vocabSize: 50,
    hiddenSize: 24,
    intermediateSize: 40,
    numHiddenLayers: 3,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    headDim: 10,
    attentionBias: true,
  }),
  tied: llamaConfig({
    vocabSize: 50,
    hiddenSize: 32,
    intermediateSize: 24,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    mlpBias: true,
    tieWordEmbeddings: true,
  }),
  gpt2: gpt2Config({ vocabSize: 40, nEmbd: 32, nLayer: 2, nHead: 4, nPositions: 16, nInner: 48 }),
};

const adapters: Record<string, () => PeftConfig> = {
  'LoRA on its default targets': () => new LoraConfig({ r: 3 }),
  'LoRA on all linear layers': () => new LoraConfig({ r: 2, targetModules: 'all-linear' }),
  'DoRA with biases': () => new LoraConfig({ r: 2, useDora: true, bias: 'all' }),
  'LoRA with a whole module': () => new LoraConfig({ r: 2, modulesToSave: ['mlp'] }),
  'LoRA with biases of its layers': () => new LoraConfig({ bias: 'lora_only' }),
  'LoRA on one block': () =>
    new LoraConfig({
      targetModules: ['q_proj', 'up_proj', 'c_attn'],
      layersToTransform: 1,
      rankPattern: { up_proj: 5 },
    }),
  IA3: () => new IA3Config(),
  VeRA: () => new VeraConfig({ r: 7 }),
  'prefix tuning': () => new PrefixTuningConfig({ numVirtualTokens: 5 }),
  'a projected prefix': () =>
    new PrefixTuningConfig({ numVirtualTokens: 5, prefixProjection: true, encoderHiddenSize: 9 }),
  'prompt tuning': () => new PromptTuningConfig({ numVirtualTokens: 6 }),
  'Houlsby adapters': () => BottleneckConfig.houlsby({ reductionFactor: 4 }),
  'parallel adapters': () => BottleneckConfig.parallel(),
};

const targetModules = 'all-linear';
/** What README's table is about; QLoRA's and LoRA+'s counts are LoRA's. */
const README: Record<string, PeftConfig> = {
  LoRA: new LoraConfig({ r: 8, targetModules }),
  rsLoRA: new LoraConfig({ r: 8, targetModules, useRslora: true }),
  DoRA: new LoraConfig({ r: 8, targetModules, useDora: true }),
  'PiSSA, LoftQ': new LoraConfig({ targetModules, initLoraWeights: 'pissa' }),
  'LoRA+': new LoraConfig({ r: 8, targetModules }),
  QLoRA: new LoraConfig({ r: 8, targetModules }),
  VeRA: new VeraConfig({ r: 256, targetModules: ['q_proj', 'v_proj'] }),
  IA3: new IA3Config(),
  'Bottleneck adapters': BottleneckConfig.houlsby({ reductionFactor: 16 }),
  'Prefix tuning': new PrefixTuningConfig({ numVirtualTokens: 20 }),
  'Prompt tuning': new PromptTuningConfig({ numVirtualTokens: 20 }),
};

/** '240 MB', '3.3 MB', '1.6 GB'. */
function inBytes(bytes: number): string {
  const [value, unit] = bytes < 1e9 ? [bytes / 1e6, 'MB'] : [bytes / 1e9, 'GB'];
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${unit}`;
}

describe('countParameters', () => {
  before(() => setBackend('wasm'));

  it('gives the published totals of known models', () => {
    for (const [name, total] of Object.entries(PUBLISHED)) {
      const count = countParameters(KNOWN_MODELS[name as keyof typeof KNOWN_MODELS]);
      expect(count.total, name).to.equal(total);
      expect(count.embedding + count.head + count.linear + count.other, name).to.equal(total);
    }
  });

  it('counts what a model that is built has', () => {
    for (const config of Object.values(small)) {
      expect(countParameters(config).total).to.equal(numParameters(fromConfig(config)));
    }
  });

  it('takes a table that is the head too for an embedding', () => {
    const { embedding, head, linear } = countParameters(KNOWN_MODELS['GPT-2']);
    expect([embedding, head]).to.deep.equal([(50257 + 1024) * 768, 0]);
    expect(linear).to.equal(12 * 12 * 768 ** 2);
    expect(countParameters(KNOWN_MODELS['Llama-2-7B']).head).to.equal(32000 * 4096);
  });

  it('says which models it knows', () => {
    expect(() => countParameters({ modelType: 'bert' } as never)).to.throw(
      "modelType must be 'llama' or 'gpt2', got \"bert\"",
    );
  });
});

describe('countAdapter', () => {
  before(() => setBackend('wasm'));

  for (const { name, base, peft, trainable, all } of peers) {
    const { peft_type: type, task_type: _, ...options } = peft;
    it(`counts ${type} ${JSON.stringify(options)} on ${name} as peft does`, () => {
      const count = countAdapter(configFromJson(base), adapterConfig(peft));
      expect(count).to.deep.equal({ trainable, all });
    });
  }

  for (const [title, make] of Object.entries(adapters)) {
    it(`counts ${title} as the model that is adapted does`, () => {
      for (const config of Object.values(small)) {
        const count = countAdapter(config, make());
        const model = getPeftModel(fromConfig(config), make());
        expect([count.trainable, count.all]).to.deep.equal(model.getNbTrainableParameters());
        model.dispose();
      }
    });
  }

  it("holds README's table of methods to what is counted", () => {
    const readme = readFileSync(join(import.meta.dirname, '../../README.md'), 'utf8');
    const table = readme.slice(readme.indexOf('| Method | Formula |')).split('\n\n')[0]!;
    const rows = new Map(
      table
        .split('\n')
        .slice(2)
        .map((row) => row.replaceAll('\\|', '').split('|'))
        .map(([, method, , count, memory]) => [method!.trim(), [count!.trim(), memory!.trim()]]),
    );
    const found = new Map(
      Object.entries(README).map(([method, config]) => {
        const { trainable } = countAdapter(KNOWN_MODELS['Llama-2-7B'], config);
        return [method, [trainable.toLocaleString('en-US'), inBytes(12 * trainable)]];
      }),
    );
    expect(rows).to.deep.equal(found);
  });

  it('counts two bottlenecks of 64 in each layer of Llama-2-7B with their biases', () => {
    const config = BottleneckConfig.houlsby({ reductionFactor: 64 });
    expect(countAdapter(KNOWN_MODELS['Llama-2-7B'], config).trainable).to.equal(33_820_672);
  });

  it('says what there is when nothing matches', () => {
    const config = new LoraConfig({ targetModules: ['query'] });
    expect(() => countAdapter(KNOWN_MODELS['GPT-2'], config)).to.throw(
      'targetModules ["query"] matches no module; have wte, wpe, c_attn, c_proj, c_fc, lm_head',
    );
    const labels = new LoraConfig({ taskType: 'SEQ_CLS' });
    expect(() => countAdapter(KNOWN_MODELS['GPT-2'], labels)).to.throw("got 'SEQ_CLS'");
  });
});
