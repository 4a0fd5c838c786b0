// Steps of SFTTrainer and DPOTrainer beside TRL's, on the engine bench's models A and B: the same rows,
// settings and weights on both sides. `--only sft` limits it to comparisons with this in their names.
import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  type CausalLM,
  DPOTrainer,
  fromConfig,
  getPeftModel,
  type LlamaConfig,
  LoraConfig,
  SFTTrainer,
  savePretrained,
  setBackend,
  Tokenizer,
} from 'peftlab';
import { peersPython } from '../test/peers-live/python.ts';
import { MODELS } from './engine-models.ts';
import { configOf } from './model-config.ts';
import { median, type Row, report, row } from './report.ts';

const path = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const tokenizerFolder = path('../test/peers/08_tokenizer/gpt2_bytelevel');
const python = peersPython();
if (!python) console.log('TRL is left out: no python3');
const threads = availableParallelism();
const STEPS = 12;
const BATCH = { A: 16, B: 8 };
const TARGETS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

const words = ['the', 'colour', 'of', 'a', 'space', 'is', 'blue', 'it', 'was', 'long', 'two'];
const phrase = (seed: number, count: number) =>
  Array.from({ length: count }, (_, i) => words[(seed * 7 + i * (seed + 3)) % words.length]).join(
    ' ',
  );
const rows = Array.from({ length: STEPS * 16 }, (_, i) => ({
  prompt: `Say ${phrase(i, 8)}:`,
  completion: ` ${phrase(i + 5, 6 + (i % 6))}`,
  chosen: ` ${phrase(i + 5, 6 + (i % 6))}`,
  rejected: ` ${phrase(i + 9, 6 + ((i * 3) % 6))}`,
}));
const sftRows = rows.map(({ prompt, completion }) => ({ prompt, completion }));
const dpoRows = rows.map(({ prompt, chosen, rejected }) => ({ prompt, chosen, rejected }));

/** A Llama of the bench's sizes with the tokenizer of the rows. */
function withTokenizer(name: 'A' | 'B', tokenizer: Tokenizer): LlamaConfig {
  const { bosTokenId, eosTokenId } = tokenizer;
  const ids = { bosTokenId: bosTokenId ?? 0, eosTokenId: eosTokenId ?? 0, padTokenId: null };
  return { ...configOf(MODELS[name]), ...ids };
}

interface Measured {
  times: number[];
  losses: number[];
}

function theirs(folder: string, kind: 'sft' | 'dpo', lora: boolean, batch: number): Measured {
  const file = join(folder, 'task.json');
  const args = {
    learning_rate: 1e-4,
    max_steps: STEPS,
    per_device_train_batch_size: batch,
    lr_scheduler_type: 'constant',
  };
  const own = kind === 'sft' ? sftRows : dpoRows;
  const task = { kind, lora, threads, model: folder, tokenizer: tokenizerFolder, rows: own, args };
  writeFileSync(file, JSON.stringify({ ...task, targets: TARGETS }));
  const run = spawnSync(python!, [path('./train.py'), file], { encoding: 'utf8' });
  if (run.status !== 0) throw new Error(run.stderr.slice(-2000));
  return JSON.parse(run.stdout.trimEnd().split('\n').at(-1)!) as Measured;
}

async function ours(
  model: CausalLM,
  tokenizer: Tokenizer,
  kind: 'sft' | 'dpo',
  batch: number,
): Promise<Measured> {
  const times: number[] = [];
  let last = performance.now();
  const onStep = () => {
    times.push(performance.now() - last);
    last = performance.now();
    return undefined;
  };
  const shared = {
    model,
    processingClass: tokenizer,
    onStep,
    args: {
      learningRate: 1e-4,
      maxSteps: STEPS,
      perDeviceTrainBatchSize: batch,
      lrSchedulerType: 'constant',
      trainSamplingStrategy: 'sequential',
      padToMultipleOf: 16,
    },
  } as const;
  const trainer =
    kind === 'sft'
      ? new SFTTrainer({ ...shared, trainDataset: sftRows })
      : new DPOTrainer({ ...shared, trainDataset: dpoRows });
  last = performance.now();
  const { logHistory } = await trainer.train();
  trainer.dispose();
  return { times, losses: logHistory.map(({ loss }) => loss) };
}

const { values } = parseArgs({ options: { only: { type: 'string' } }, strict: false });
const only = typeof values.only === 'string' ? values.only.split(',') : [];
await setBackend('auto');
const tokenizer = Tokenizer.fromFolder(tokenizerFolder);
const found: Row[] = [];
for (const name of ['A', 'B'] as const) {
  const folder = mkdtempSync(join(tmpdir(), 'bench-train-'));
  const base = fromConfig(withTokenizer(name, tokenizer));
  savePretrained(base, folder);
  for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
    copyFileSync(join(tokenizerFolder, file), join(folder, file));
  }
  for (const kind of ['sft', 'dpo'] as const) {
    for (const lora of [true, false]) {
      const title = `${kind} step ${name}, ${lora ? 'lora' : 'full'}`;
      if (!only.every((word) => title.includes(word))) continue;
      const { AutoModelForCausalLM } = await import('peftlab');
      const copy = await AutoModelForCausalLM.fromPretrained(folder);
      const config = new LoraConfig({ r: 8, loraAlpha: 16, targetModules: TARGETS });
      const model = (lora ? getPeftModel(copy, config) : copy) as unknown as CausalLM;
      console.log(title);
      const own = await ours(model, tokenizer, kind, BATCH[name]);
      model.dispose();
      const peer = python ? theirs(folder, kind, lora, BATCH[name]) : undefined;
      const middle = ({ times }: Measured) => median(times.slice(4));
      const figures = peer ? { theirs: middle(peer), peer: 'TRL', target: 0.5 } : {};
      found.push(row(title, 'ms', middle(own), figures));
      if (peer && !lora) {
        const gap = Math.max(...own.losses.map((loss, i) => Math.abs(loss - peer.losses[i]!)));
        found.push(row(`${title}: largest difference of losses`, '', gap, { target: 1e-3 }));
      }
    }
  }
  base.dispose();
  rmSync(folder, { recursive: true });
}
report(found);
