import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { loadFile } from '../../src/tensor/safetensors.ts';
import { Trainer } from '../../src/train/trainer.ts';
import type { TrainingArguments } from '../../src/train/training-arguments.ts';

const peers = join(import.meta.dirname, '../peers');
const failure = (run: Promise<unknown>) => run.then(String, (error: Error) => error.message);

const rows = Array.from({ length: 12 }, (_, row) => {
  const inputIds = Array.from({ length: 6 + (row % 3) }, (_, i) => (row * 7 + i * 5) % 90);
  return { inputIds, labels: inputIds };
});

function make(args: TrainingArguments = {}, more = {}): Trainer {
  return new Trainer({
    model: loadFolder(join(peers, '01_models/gpt2')),
    trainDataset: rows,
    args: { learningRate: 1e-3, maxSteps: 6, perDeviceTrainBatchSize: 4, ...args },
    ...more,
  });
}

describe('Trainer', () => {
  let folder = '';
  before(() => setBackend('wasm'));
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'trainer-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  for (const name of ['gpt2_full_cosine', 'llama_full_linear_ga']) {
    it(`trains as torch and transformers do: ${name}`, async () => {
      const { default: manifest } = await import(`../peers/training/${name}/case.json`, {
        with: { type: 'json' },
      });
      const { config, expected } = manifest;
      const { data, shape } = loadFile(join(peers, 'training', name, 'expected.safetensors')).get(
        'batches',
      )!;
      const width = shape.at(-1)!;
      const ids = Array.from(data as Int32Array);
      const trainDataset = Array.from({ length: ids.length / width }, (_, i) => {
        const inputIds = ids.slice(i * width, (i + 1) * width);
        return { inputIds, labels: inputIds };
      });
      const trainer = new Trainer({
        model: loadFolder(join(peers, 'training', name, manifest.base_model)),
        trainDataset,
        args: {
          learningRate: config.lr,
          weightDecay: config.weight_decay,
          decayParameter: () => true,
          lrSchedulerType: config.schedule,
          warmupSteps: config.num_warmup_steps,
          maxSteps: config.num_training_steps,
          maxGradNorm: config.max_grad_norm,
          perDeviceTrainBatchSize: shape[1]!,
          gradientAccumulationSteps: config.gradient_accumulation,
          trainSamplingStrategy: 'sequential',
        },
        onStep: ({ step }) => step === config.steps,
      });
      const { logHistory } = await trainer.train();
      for (const [i, { loss, gradNorm, learningRate }] of logHistory.entries()) {
        expect(loss).to.be.closeTo(expected.losses[i], 1e-4);
        expect(gradNorm).to.be.closeTo(expected.grad_norms_before_clip[i], 1e-3);
        expect(learningRate).to.be.closeTo(expected.lrs[i], 1e-12);
      }
      expect(logHistory).to.have.length(config.steps);
    });
  }

  it('gives the same losses bit for bit when it was stopped and resumed', async () => {
    const losses = (trainer: Trainer) => trainer.state.logHistory.map(({ loss }) => loss);
    const whole = make();
    await whole.train();
    const args = { outputDir: folder, saveSteps: 2, saveTotalLimit: 1 };
    await make(args, { onStep: ({ step }: { step: number }) => step === 4 }).train();
    expect(readdirSync(folder)).to.deep.equal(['checkpoint-4']);
    const resumed = make(args);
    await resumed.train({ resumeFromCheckpoint: true });
    expect(losses(resumed)).to.deep.equal(losses(whole));
  });

  it('refuses the checkpoint of another run, and none', async () => {
    await make({ outputDir: folder, saveSteps: 6 }).train();
    const other = make({ outputDir: folder, seed: 1 });
    expect(await failure(other.train({ resumeFromCheckpoint: true }))).to.match(
      /checkpoint-6 is of another run: .*seed 42 instead of .*seed 1$/,
    );
    const none = make().train({ resumeFromCheckpoint: true });
    expect(await failure(none)).to.equal('No checkpoint to resume from in no outputDir');
  });

  it('stops at a loss that is not finite and keeps the parameters from before', async () => {
    const trainer = make({ learningRate: 1e30, maxGradNorm: 0 });
    expect(await failure(trainer.train())).to.match(/^Training stopped at step \d: loss is/);
    for (const parameter of trainer.model.parameters()) {
      expect(parameter.dataSync().every(Number.isFinite)).to.equal(true);
    }
  });

  it('stops after the step in which it is interrupted', async () => {
    const control = new AbortController();
    const trainer = make({}, { signal: control.signal, onStep: () => void control.abort() });
    expect((await trainer.train()).globalStep).to.equal(1);
  });

  it('names what cannot be trained', async () => {
    expect(() => make({ gradientAccumulationSteps: 0 })).to.throw(
      'TrainingArguments.gradientAccumulationSteps must be a positive integer, got 0',
    );
    expect(() => make({}, { trainDataset: [] })).to.throw('trainDataset has no rows');
    const long = Array<number>(5000).fill(1);
    expect(() => make({}, { trainDataset: [{ inputIds: long, labels: long }] })).to.throw(
      /^Row 0 has 5000 tokens, the model takes \d+$/,
    );
    const masked = rows.map(({ inputIds }) => ({ inputIds, labels: inputIds.map(() => -100) }));
    expect(await failure(make({}, { trainDataset: masked }).train())).to.equal(
      'Error: Step 1 has no label to learn: all its rows are masked'.slice(7),
    );
  });
});
