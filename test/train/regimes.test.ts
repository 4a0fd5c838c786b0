import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { JsonLinesFile } from '../../src/data/json-lines-file.ts';
import { curriculum } from '../../src/data/mix-rows.ts';
import { tokenizeRow, tokenizeRows } from '../../src/data/tokenize-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import type { CausalLM } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { BitsAndBytesConfig, quantizeModel } from '../../src/quant/bnb-config.ts';
import { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { SFTTrainer } from '../../src/train/sft-trainer.ts';
import { Trainer } from '../../src/train/trainer.ts';

const peers = join(import.meta.dirname, '../peers');
const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));
const rows = ['a b', 'one two three', 'x', 'to be or not to be', 'yes'].map((text) => ({ text }));
const args = { maxSteps: 3, learningRate: 0.01, perDeviceTrainBatchSize: 2 } as const;
const lossesOf = async (trainer: Trainer) =>
  (await trainer.train()).logHistory.map(({ loss }) => loss);

describe('Regimes of training', () => {
  let folder = '';
  before(async () => {
    await setBackend('wasm');
    folder = mkdtempSync(join(tmpdir(), 'regimes-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('train from rows on disk as from rows in memory', async () => {
    const path = join(folder, 'rows.jsonl');
    writeFileSync(path, rows.map((row) => JSON.stringify(row)).join('\n'));
    const file = new JsonLinesFile<(typeof rows)[0]>(path);
    const streamed = file.map((row, i) => tokenizeRow(row, tokenizer, {}, i));
    const make = (trainDataset: typeof streamed) =>
      new Trainer({ model: loadFolder(join(peers, '06_model')), trainDataset, args });
    const inMemory = await lossesOf(make(tokenizeRows(rows, tokenizer)));
    expect(await lossesOf(make(streamed))).to.deep.equal(inMemory);
    file.close();
  });

  it('go on with pretraining: packed raw text, of which each token counts', async () => {
    const trainer = new SFTTrainer({
      model: loadFolder(join(peers, '06_model')),
      processingClass: tokenizer,
      trainDataset: rows,
      args: {
        ...args,
        packing: true,
        packingStrategy: 'wrapped',
        maxLength: 8,
        numTrainEpochs: 1,
        maxSteps: 2,
        perDeviceTrainBatchSize: 100,
      },
    });
    const tokens = tokenizeRows(rows, tokenizer).reduce((sum, row) => sum + row.inputIds.length, 0);
    expect((await trainer.train()).numTokens).to.equal(2 * tokens);
  });

  it('train LoRA on a base in 4 bits (QLoRA), whose packed weights stay', async () => {
    const options = {
      loadIn4bit: true,
      bnb4bitQuantType: 'nf4',
      bnb4bitUseDoubleQuant: true,
    } as const;
    const model = quantizeModel(
      loadFolder(join(peers, '01_models/llama')),
      new BitsAndBytesConfig(options),
    );
    const packed = () =>
      [...model.namedModules()].flatMap(([, layer]) =>
        layer instanceof Linear4bit ? [Array.from(layer.dequantize().dataSync())] : [],
      );
    const before = packed();
    const ids = Array.from({ length: 12 }, (_, i) => (i * 7) % 90);
    const trainer = new Trainer({
      model: withLora(model as CausalLM),
      trainDataset: [{ inputIds: ids, labels: ids }],
      args: { ...args, maxSteps: 6 },
    });
    const losses = await lossesOf(trainer);
    expect(losses.at(-1)).to.be.below(losses[0]! - 0.1);
    expect(before).to.have.length(14);
    expect(packed()).to.deep.equal(before);
  });

  it('see the rows of a curriculum from easy to hard', async () => {
    const seen: number[] = [];
    const trainDataset = curriculum(tokenizeRows(rows, tokenizer), (row) => row.inputIds.length, {
      stages: 5,
    });
    const trainer = new Trainer({
      model: loadFolder(join(peers, '06_model')),
      trainDataset,
      args: {
        learningRate: 0,
        numTrainEpochs: 1,
        perDeviceTrainBatchSize: 1,
        trainSamplingStrategy: 'sequential',
      },
      onStep: ({ numTokens }) => void seen.push(numTokens),
    });
    await trainer.train();
    const lengths = seen.map((total, i) => total - (seen[i - 1] ?? 0));
    expect(lengths).to.deep.equal(lengths.toSorted((a, b) => a - b));
    expect(lengths).to.have.length(5);
  });

  it('name the last good checkpoint where a loss is not finite, and go on from it', async () => {
    const outputDir = join(folder, 'run');
    const make = (onSave: (model: CausalLM, step: number) => void) => {
      const trainer: Trainer = new Trainer({
        model: loadFolder(join(peers, '06_model')),
        trainDataset: tokenizeRows(rows, tokenizer),
        args: { ...args, outputDir, saveSteps: 1, maxSteps: 4 },
        callbacks: [{ onSave: (_, { globalStep }) => onSave(trainer.model, globalStep) }],
      });
      return trainer;
    };
    const broken = make((model, step) => {
      const [first] = model.parameters();
      if (step === 2) first!.assign(first!.mul(Number.NaN));
    });
    const failure = await broken.train().catch((error: Error) => error.message);
    expect(failure).to.match(
      /^Training stopped at step 3: loss is NaN, .*; the last good checkpoint is .*checkpoint-2$/,
    );
    const { globalStep, logHistory } = await make(() => {}).train({ resumeFromCheckpoint: true });
    expect(globalStep).to.equal(4);
    expect(logHistory.map(({ loss }) => loss).every(Number.isFinite)).to.equal(true);
  });
});

function withLora(model: CausalLM): CausalLM {
  return getPeftModel(model, new LoraConfig({ r: 4, targetModules: 'all-linear' })) as never;
}
