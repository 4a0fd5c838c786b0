import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { type CausalLM, causalLMLoss } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { Trainer, type TrainerOptions } from '../../src/train/trainer.ts';
import type { TrainingArguments } from '../../src/train/training-arguments.ts';

const peers = join(import.meta.dirname, '../peers');
const rows = Array.from({ length: 12 }, (_, row) => {
  const inputIds = Array.from({ length: 8 }, (_, i) => (row * 7 + i * 5) % 90);
  return { inputIds, labels: inputIds };
});
const load = (name: string) => loadFolder(join(peers, '01_models', name));
const failure = (run: Promise<unknown>) => run.then(String, (error: Error) => error.message);

function make(args: TrainingArguments = {}, more: Partial<TrainerOptions> = {}): Trainer {
  return new Trainer({
    ...more,
    model: more.model ?? load('gpt2'),
    trainDataset: more.trainDataset ?? rows,
    args: { learningRate: 1e-3, maxSteps: 4, perDeviceTrainBatchSize: 4, ...args },
  });
}

async function losses(trainer: Trainer): Promise<number[]> {
  return (await trainer.train()).logHistory.map(({ loss }) => loss);
}

function expectClose(actual: number[], expected: number[], tolerance: number): void {
  expect(actual).to.have.length(expected.length);
  for (const [i, value] of expected.entries()) expect(actual[i]).to.be.closeTo(value, tolerance);
}

describe('TrainingLoop', () => {
  let outputDir = '';
  before(() => setBackend('wasm'));
  beforeEach(() => {
    outputDir = mkdtempSync(join(tmpdir(), 'loop-'));
  });
  afterEach(() => rmSync(outputDir, { recursive: true }));

  it('accumulates micro-batches to what one batch gives', async () => {
    const whole = await losses(make({ perDeviceTrainBatchSize: 8 }));
    const parts = await losses(make({ perDeviceTrainBatchSize: 2, gradientAccumulationSteps: 4 }));
    expectClose(parts, whole, 2e-6);
  });

  it('computes layers a second time for the same losses with gradient checkpointing', async () => {
    for (const name of ['gpt2', 'llama']) {
      const plain = await losses(make({}, { model: load(name) }));
      const again = await losses(make({ gradientCheckpointing: true }, { model: load(name) }));
      expectClose(again, plain, 2e-6);
    }
    const adapted = () =>
      getPeftModel(
        load('llama'),
        new LoraConfig({ r: 4, targetModules: 'all-linear', loraDropout: 0.3 }),
      ) as unknown as CausalLM;
    for (const half of [{ bf16: true }, { fp16: true }]) {
      for (const model of [() => load('llama'), adapted]) {
        const rounded = await losses(make(half, { model: model() }));
        const again = await losses(
          make({ ...half, gradientCheckpointing: true }, { model: model() }),
        );
        expectClose(again, rounded, 2e-6);
      }
    }
    const plain = await losses(make({ learningRate: 0.02 }, { model: adapted() }));
    const again = await losses(
      make({ learningRate: 0.02, gradientCheckpointing: true }, { model: adapted() }),
    );
    expectClose(again, plain, 5e-6);
  });

  it('takes a step of SGD: p - lr (g + decay p)', async () => {
    const model = load('gpt2');
    const weight = (model as never as { transformer: { wpe: { weight: tf.Variable } } }).transformer
      .wpe.weight;
    const before = weight.arraySync() as number[][];
    const ids = tf.tensor2d([rows[0]!.inputIds], undefined, 'int32');
    const gradient = tf
      .variableGrads(() => causalLMLoss(model.forward(ids).logits, ids), [weight])
      .grads[weight.name]!.arraySync() as number[][];
    await make(
      { optim: 'sgd', maxSteps: 1, weightDecay: 0.5, learningRate: 0.1, maxGradNorm: 0 },
      { model, trainDataset: rows.slice(0, 1) },
    ).train();
    const after = weight.arraySync() as number[][];
    const expected = before[2]![3]! - 0.1 * (gradient[2]![3]! + 0.5 * before[2]![3]!);
    // The last step's rate of a linear schedule over one step is the whole rate.
    expect(after[2]![3]).to.be.closeTo(expected, 1e-6);
  });

  it('pages the averages of AdamW without changing a step', async () => {
    const plain = await losses(make({ weightDecay: 0.1 }));
    const optimArgs = { pageBytes: 8192, budget: 16384 };
    const trainer = make({ weightDecay: 0.1, optim: 'paged_adamw_32bit', optimArgs });
    expectClose(await losses(trainer), plain, 2e-5);
    const { statistics, stateBytes } = trainer.optimizer!;
    expect(statistics.residentPages).to.equal(2);
    expect(statistics.pages * 8192).to.be.at.least(stateBytes);
    // Each of 4 steps finds two pages where it begins, all others come from disk.
    expect(statistics.pagesIn).to.equal(3 * (statistics.pages - 2));
    trainer.dispose();
  });

  it('trains with averages in 8 bits, and goes on from a checkpoint with them', async () => {
    const args: TrainingArguments = { optim: 'paged_adamw_8bit', maxSteps: 6 };
    const whole = await losses(make(args));
    expectClose(whole, await losses(make({ maxSteps: 6 })), 0.02);
    const half = make({ ...args, outputDir, saveSteps: 3 }, { onStep: ({ step }) => step === 3 });
    await half.train();
    const rest = make({ ...args, outputDir, saveSteps: 3 });
    const { logHistory } = await rest.train({ resumeFromCheckpoint: true });
    expectClose(
      logHistory.map(({ loss }) => loss),
      whole,
      1e-6,
    );
  });

  it('lets lora_B learn faster with LoRA+', async () => {
    const change = async (loraplusLrRatio: number) => {
      const config = new LoraConfig({ r: 2, targetModules: ['c_attn'] });
      const model = getPeftModel(load('gpt2'), config);
      const args = { maxSteps: 1, loraplusLrRatio, lrSchedulerType: 'constant' } as const;
      await make(args, { model: model as unknown as CausalLM }).train();
      const [name] = [...model.namedParameters()].filter(([key]) => /lora_b/i.test(key))[0]!;
      const own = new Map(model.namedParameters()).get(name)!;
      return own.abs().max().dataSync()[0]!;
    };
    expect((await change(16)) / (await change(1))).to.be.closeTo(16, 1e-3);
  });

  it('warms up over a share of the steps and follows warmup_stable_decay', async () => {
    const { logHistory } = await make({
      maxSteps: 10,
      warmupSteps: 0.2,
      lrSchedulerType: 'warmup_stable_decay',
      lrSchedulerKwargs: { numDecaySteps: 4, decayType: 'linear' },
    }).train();
    const rates = logHistory.map(({ learningRate }) => learningRate * 1e3);
    expectClose(rates, [0, 0.5, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25], 1e-9);
  });

  it('evaluates to the mean over all labels, whatever the size of batches', async () => {
    const trainer = make({ perDeviceEvalBatchSize: 5 }, { evalDataset: rows });
    const { loss } = await trainer.evaluate();
    const ids = tf.tensor2d(
      rows.map(({ inputIds }) => inputIds),
      undefined,
      'int32',
    );
    const whole = tf.tidy(
      () => causalLMLoss(trainer.model.forward(ids).logits, ids).dataSync()[0]!,
    );
    expect(loss).to.be.closeTo(whole, 1e-5);
  });

  it('stops early when evaluations get no better, and ends with the best', async () => {
    const evalDataset = rows.slice(0, 3).map(({ inputIds }) => {
      const other = inputIds.map((id) => (id * 31 + 7) % 90);
      return { inputIds: other, labels: other };
    });
    const trainer = make(
      {
        outputDir,
        maxSteps: 60,
        learningRate: 3e-3,
        lrSchedulerType: 'constant',
        evalStrategy: 'steps',
        evalSteps: 2,
        earlyStoppingPatience: 2,
        loadBestModelAtEnd: true,
        saveTotalLimit: 1,
      },
      { evalDataset },
    );
    const { evalHistory, bestMetric, globalStep, bestModelCheckpoint } = await trainer.train();
    expect(globalStep).to.be.below(60);
    expect(bestMetric).to.equal(Math.min(...evalHistory.map(({ loss }) => loss)));
    expect(bestModelCheckpoint).to.equal(join(outputDir, `checkpoint-${evalHistory.at(-3)!.step}`));
    expect((await trainer.evaluate()).loss).to.be.closeTo(bestMetric!, 1e-6);
    expect(readdirSync(outputDir)).to.include(`checkpoint-${evalHistory.at(-3)!.step}`);
  });

  it('keeps the last parameters, not the best, where it is only paused', async () => {
    const trainer = make(
      { outputDir, maxSteps: 6, evalStrategy: 'steps', evalSteps: 1, loadBestModelAtEnd: true },
      {
        evalDataset: rows.slice(0, 3).map(({ inputIds }) => {
          const other = inputIds.map((id) => (id * 31 + 7) % 90);
          return { inputIds: other, labels: other };
        }),
        onStep: ({ step }) => step === 3,
      },
    );
    const { evalHistory } = await trainer.train();
    expect((await trainer.evaluate()).loss).to.equal(evalHistory.at(-1)!.loss);
  });

  it('tells callbacks of each event in order', async () => {
    const events: string[] = [];
    await make(
      { outputDir, maxSteps: 2, saveSteps: 1, evalStrategy: 'epoch' },
      {
        evalDataset: rows.slice(0, 1),
        trainDataset: rows.slice(0, 4),
        callbacks: [
          {
            onTrainBegin: () => void events.push('begin'),
            onStep: ({ step }) => void events.push(`step ${step}`),
            onEvaluate: ({ step }) => void events.push(`evaluate ${step}`),
            onSave: () => void events.push('save'),
            onTrainEnd: () => void events.push('end'),
          },
        ],
      },
    ).train();
    expect(events.join()).to.equal('begin,step 1,evaluate 1,save,step 2,evaluate 2,save,end');
  });

  it('goes on where it was stopped when it is called again', async () => {
    const whole = await losses(make());
    let stopping = true;
    const trainer = make({}, { onStep: ({ step }) => stopping && step === 2 });
    expect((await trainer.train()).globalStep).to.equal(2);
    stopping = false;
    expect(await losses(trainer)).to.deep.equal(whole);
  });

  it('takes the same steps for the same seed and others for another', async () => {
    const [a, b, c] = [await losses(make()), await losses(make()), await losses(make({ seed: 7 }))];
    expect(a).to.deep.equal(b);
    expect(a).to.not.deep.equal(c);
  });

  it('leaves no tensor behind', async () => {
    const model = load('gpt2');
    const before = tf.memory().numTensors;
    const trainer = make({ maxSteps: 2 }, { model });
    await trainer.train();
    trainer.dispose();
    expect(tf.memory().numTensors).to.equal(before);
  });

  it('names what does not go together', async () => {
    expect(() => make({ evalStrategy: 'epoch' })).to.throw(
      "evalStrategy 'epoch' needs rows in evalDataset",
    );
    expect(() => make({ fp16: true, bf16: true })).to.throw(
      'fp16 must be false where bf16 is true',
    );
    expect(() => make({ loadBestModelAtEnd: true })).to.throw(
      'TrainingArguments.outputDir must be given with loadBestModelAtEnd, got undefined',
    );
    expect(() => make({ optim: 'lion' as never })).to.throw(
      'one of adamw_torch, sgd, adamw_8bit, paged_adamw_8bit, paged_adamw_32bit, got lion',
    );
    expect(() => make({ optimArgs: { budget: 65536 } })).to.throw(
      'TrainingArguments.optimArgs must be empty without a paged optimizer, got 1',
    );
    const named = make(
      { evalStrategy: 'epoch', metricForBestModel: 'bleu' },
      { evalDataset: rows, trainDataset: rows.slice(0, 4) },
    );
    expect(await failure(named.train())).to.equal(
      "metricForBestModel must be one of loss, got 'bleu'",
    );
    expect(await failure(make().evaluate())).to.equal('evaluate needs rows, got none');
    expect(() => make().save()).to.throw('A checkpoint needs TrainingArguments.outputDir');
  });
});
