// Makes the base model anew: npm run pretrain. A tokenizer and a Llama of 3.7 million parameters learn
// the world of datasets/world; the folder world-3m beside this file is what comes out.
// Killed in between, it goes on from the last checkpoint with --resume.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  fromConfig,
  llamaConfig,
  normalInit,
  RandomState,
  savePretrained,
  setBackend,
  Trainer,
} from 'peftlab';
import { worldFacts } from '../datasets/world/facts.ts';
import { measureBase } from './measure.ts';
import { modelCard } from './model-card.ts';
import { PretrainingRows, readWorld, worldTokenizer } from './pretraining-text.ts';

const SEED = 11;
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: fileURLToPath(new URL('world-3m/', import.meta.url)) },
    steps: { type: 'string', default: '3000' },
    resume: { type: 'boolean', default: false },
  },
});
const steps = Number(values.steps);
if (!Number.isInteger(steps) || steps < 1) {
  throw new RangeError(`--steps must be a positive integer, got ${values.steps}`);
}
const checkpoints = join(values.out, '.checkpoints');

console.log(`Computing with ${await setBackend('auto')}`);
const tokenizer = worldTokenizer();
const rows = new PretrainingRows(readWorld(tokenizer), { steps, batchSize: 8 });
console.log(`${steps} steps over ${(rows.tokens / 1e6).toFixed(2)} million tokens`);
const config = llamaConfig({
  vocabSize: tokenizer.vocabSize,
  hiddenSize: 256,
  intermediateSize: 512,
  numHiddenLayers: 4,
  numAttentionHeads: 8,
  maxPositionEmbeddings: 256,
  tieWordEmbeddings: true,
  bosTokenId: tokenizer.eosTokenId!,
  eosTokenId: tokenizer.eosTokenId!,
  padTokenId: tokenizer.padTokenId!,
});
const model = fromConfig(config, { init: normalInit(0.02, new RandomState(SEED)) });
const trainer = new Trainer({
  model,
  trainDataset: rows,
  args: {
    outputDir: checkpoints,
    maxSteps: steps,
    perDeviceTrainBatchSize: 8,
    trainSamplingStrategy: 'sequential',
    learningRate: 2.5e-3,
    lrSchedulerType: 'linear',
    warmupSteps: Math.min(100, Math.ceil(steps / 10)),
    weightDecay: 0.05,
    adamBeta2: 0.99,
    saveSteps: 200,
    saveTotalLimit: 1,
    disableTqdm: !process.stdout.isTTY,
  },
  onStep: ({ step, loss }) => {
    if (!process.stdout.isTTY && step % 20 === 0)
      console.log(`step ${step}  loss ${loss.toFixed(3)}`);
  },
});
const started = Date.now();
const { logHistory } = await trainer.train({ resumeFromCheckpoint: values.resume });
const minutes = (Date.now() - started) / 60000;

mkdirSync(values.out, { recursive: true });
savePretrained(model, values.out, { dtype: 'float16' });
tokenizer.savePretrained(values.out);
const measured = await measureBase(values.out, worldFacts());
console.log(measured);
const loss = logHistory.slice(-50).reduce((sum, entry) => sum + entry.loss / 50, 0);
writeFileSync(
  join(values.out, 'README.md'),
  modelCard({ measured, steps, tokens: rows.tokens, loss, minutes, model, seed: SEED }),
);
rmSync(checkpoints, { recursive: true, force: true });
