// TRL's SFT and DPO beside ours: 20 steps from the same weights on the same rows, all losses.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import type { CausalLM } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { PeftModel } from '../../src/peft/peft-model.ts';
import { DPOTrainer } from '../../src/train/dpo-trainer.ts';
import { SFTTrainer } from '../../src/train/sft-trainer.ts';
import { askPython, peersPython } from './python.ts';

const peers = join(import.meta.dirname, '../peers');
const tokenizerFolder = join(peers, '08_tokenizer/gpt2_bytelevel');
const words = ['the', 'colour', 'of', 'a', 'space', 'is', 'blue', 'it', 'was', 'long', 'two'];
const phrase = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => words[(seed * 7 + i * (seed + 3)) % words.length]).join(
    ' ',
  );
const sftRows = Array.from({ length: 24 }, (_, i) => ({
  prompt: `Say ${phrase(i, 2 + (i % 4))}:`,
  completion: ` ${phrase(i + 5, 1 + (i % 5))}`,
}));
const dpoRows = sftRows.map(({ prompt, completion }, i) => ({
  prompt,
  chosen: completion,
  rejected: ` ${phrase(i + 9, 1 + ((i * 3) % 6))}`,
}));
/** In Python's names. */
const common = {
  learning_rate: 3e-3,
  lr_scheduler_type: 'cosine',
  warmup_steps: 3,
  max_steps: 20,
  per_device_train_batch_size: 2,
  gradient_accumulation_steps: 2,
  weight_decay: 0.01,
  max_grad_norm: 0.5,
};
const shared = {
  learningRate: 3e-3,
  lrSchedulerType: 'cosine',
  warmupSteps: 3,
  maxSteps: 20,
  perDeviceTrainBatchSize: 2,
  gradientAccumulationSteps: 2,
  weightDecay: 0.01,
  maxGradNorm: 0.5,
  trainSamplingStrategy: 'sequential',
} as const;

describe('Training beside TRL', () => {
  const python = peersPython();
  let folder = '';
  before(async function () {
    if (!python) this.skip();
    await setBackend('auto');
    folder = mkdtempSync(join(tmpdir(), 'trl-'));
  });
  after(() => folder && rmSync(folder, { recursive: true }));

  const theirs = (task: object) => {
    const file = join(folder, 'task.json');
    writeFileSync(file, JSON.stringify({ tokenizer: tokenizerFolder, ...task }));
    return askPython(python!, 'run_train.py', file) as number[];
  };
  const expectSame = (ours: number[], losses: number[]) => {
    expect(ours).to.have.length(20);
    for (const [i, loss] of losses.entries())
      expect(ours[i], `step ${i + 1}`).to.be.closeTo(loss, 1e-4);
  };
  const tokenizer = Tokenizer.fromFolder(tokenizerFolder);
  const model = join(peers, '06_model');
  const adapter = join(peers, '06_dpo_run/sigmoid/adapter_init');
  const adapted = () =>
    PeftModel.fromPretrained(loadFolder(model), adapter, {
      isTrainable: true,
    }) as unknown as CausalLM;

  for (const [name, isFull, extra, own] of [
    ['full fine-tuning', true, {}, {}],
    ['LoRA', false, {}, {}],
    ['loss of prompts too', true, { completion_only_loss: false }, { completionOnlyLoss: false }],
  ] as const) {
    it(`gives the losses of SFT: ${name}`, async () => {
      const rows = sftRows;
      const losses = theirs({
        kind: 'sft',
        model,
        adapter: isFull ? null : adapter,
        rows,
        args: { ...common, ...extra },
      });
      const trainer = new SFTTrainer({
        model: isFull ? loadFolder(model) : adapted(),
        processingClass: tokenizer,
        trainDataset: rows,
        args: { ...shared, ...own },
      });
      expectSame(
        (await trainer.train()).logHistory.map(({ loss }) => loss),
        losses,
      );
    });
  }

  for (const [name, isFull, extra, own] of [
    ['sigmoid with LoRA', false, { loss_type: ['sigmoid'], beta: 0.3 }, { beta: 0.3 }],
    ['ipo with LoRA', false, { loss_type: ['ipo'] }, { lossType: 'ipo' }],
    [
      'robust with full fine-tuning',
      true,
      { loss_type: ['robust'], label_smoothing: 0.1 },
      { lossType: 'robust', labelSmoothing: 0.1 },
    ],
    [
      'references asked before',
      true,
      { precompute_ref_log_probs: true },
      { precomputeRefLogProbs: true },
    ],
  ] as const) {
    it(`gives the losses of DPO: ${name}`, async () => {
      const losses = theirs({
        kind: 'dpo',
        model,
        adapter: isFull ? null : adapter,
        rows: dpoRows,
        args: { ...common, ...extra },
      });
      const trainer = new DPOTrainer({
        model: isFull ? loadFolder(model) : adapted(),
        processingClass: tokenizer,
        trainDataset: dpoRows,
        args: { ...shared, ...own },
      });
      expectSame(
        (await trainer.train()).logHistory.map(({ loss }) => loss),
        losses,
      );
    });
  }
});
