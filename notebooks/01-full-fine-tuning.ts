// ---
// jupyter:
//   jupytext:
//     text_representation:
//       extension: .ts
//       format_name: percent
//       format_version: '1.3'
//   kernelspec:
//     display_name: TypeScript (peftlab)
//     language: typescript
//     name: typescript-peftlab
// ---

// %% [markdown]
// # Full fine-tuning
//
// The plain way to teach a model something new is to go on training it: **every** number may change. It is the
// yardstick that all other methods are held against. **What does it take, what changes, and what is lost?** Here you
// do it to a model of 3.7 million parameters, count every byte, and carry the sum over to 8 billion.
//
// | | |
// |---|---|
// | Time | 45 minutes to read and try; under a minute to run |
// | You need | what a gradient and a token are |
// | Level | the junior interview questions on fine-tuning, and the memory sum that every level is asked for |

// %% [markdown]
// **When you are through you can**
//
// 1. fine-tune a model in four steps, and say which of them is optional;
// 2. choose a learning rate by a sweep, and explain why it lies below that of pretraining;
// 3. tell how much of a model changes, and how far each matrix moves;
// 4. show that a model forgets while it learns, with a control that rules out an accident;
// 5. derive the memory of a run by hand, predict it to a few per cent, and find the two errors in a table that is
//    often copied.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. Why fine-tune at all?
//
// | Approach | Changes | Costs | Good for |
// |---|---|---|---|
// | a better prompt | nothing | minutes | quick wins, general tasks |
// | retrieval (RAG) | what the model reads | a search for each question | facts, above all those that change |
// | **fine-tuning** | the weights | hours of GPUs, and data | a behaviour, a style, a format, a shorter prompt |
// | pretraining | all it knows | weeks of GPUs | a new language or field |
//
// The order of the rows is the order in which to try them. Lesson 10 holds all four against the same questions; here
// we assume that a behaviour must change.
//
// Our model has read about a small world: capitals, invented people, stories. It completes statements, and was
// never shown an answer to a question.

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  type CausalLM,
  estimateMemory,
  ForSequenceClassification,
  factsSuite,
  fitGpus,
  formatBytes,
  generate,
  KNOWN_MODELS,
  type LlamaForCausalLM,
  lineChart,
  loadDataset,
  type MemoryOptions,
  matricesOf,
  measureForgetting,
  numParameters,
  perplexitySuite,
  RandomState,
  randomNormal,
  type Scores,
  SFTTrainer,
  savePretrained,
  setBackend,
  updateRanks,
} from 'peftlab';

await setBackend('auto');

// %%
const BASE = 'models/world-3m';
const tokenizer = await AutoTokenizer.fromPretrained(BASE);
const base = await AutoModelForCausalLM.fromPretrained(BASE);

async function complete(model: CausalLM, prompt: string): Promise<string> {
  const ids = tokenizer.encode(prompt);
  const [all] = await generate(model, [ids], { maxNewTokens: 14 });
  return tokenizer.decode(all!.slice(ids.length), { skipSpecialTokens: true });
}
const prompts = ['The job of Krokrolo is that of a', 'What is the job of Krokrolo?'];
for (const prompt of prompts) console.log(`${prompt} | ${await complete(base, prompt)}`);
console.log(`${numParameters(base).toLocaleString('en')} parameters`);

// %% [markdown]
// After a question comes another question: that is what its pages looked like. The behaviour that we want is to
// **answer**.
//
// ## 2. The process, in four steps
//
// 1. Load the pretrained weights.
// 2. Put a new head in the place of the old one, *if* the output is of another kind (optional).
// 3. Train on the task's data, with a learning rate below that of pretraining.
// 4. Save all weights.
//
// Step 2 is for classifiers. The layers stay, and a small matrix from the last state to the labels takes the place of
// the matrix to the vocabulary. Ours answers in words, so we keep its head; but look how little is new:

// %%
const classifier = new ForSequenceClassification(base as LlamaForCausalLM, { numLabels: 2 });
const fresh = numParameters(classifier.score);
console.log(`new: ${fresh} numbers of ${numParameters(classifier).toLocaleString('en')}`);

// %% [markdown]
// Step 3 needs data. The world's facts come in halves: we train on questions of one half and test on questions of the
// other, whose *answers* the model has read but whose *questions* it has never seen answered. That is the difference
// between learning to answer and learning answers by heart.

// %%
interface Fact {
  kind: string;
  answer: string;
  statement: string;
  question: string;
  split: string;
}
const facts = loadDataset<Fact>('world-facts').filter(({ kind }) => kind !== 'sum');
const half = (split: string) => [
  ...facts.filter((fact) => fact.split === split).shuffle({ seed: 1 }),
];
const asked = ({ question, answer }: Fact) => ({ prompt: question, completion: ` ${answer}` });
const begun = ({ statement, answer }: Fact, end = '') => ({
  prompt: statement.slice(0, -answer.length - 2),
  completion: ` ${answer}${end}`,
});
const trainRows = half('train').map(asked);
const tested = half('test').slice(0, 64);
console.log(trainRows.length, 'questions to learn from, such as', trainRows[0]);

// %% [markdown]
// What do we measure? The task, and three things that nobody asked to change: the statements that it could complete, the
// full stop after them, and its prediction of stories. A *suite* is a name and a score.

// %%
const stories = [...loadDataset<{ task: string; input: string }>('world-tasks')]
  .filter(({ task }) => task === 'summarization')
  .map(({ input }) => input);
const suites = [
  factsSuite('questions', tested.map(asked), tokenizer),
  factsSuite(
    'statements',
    tested.map((fact) => begun(fact)),
    tokenizer,
  ),
  factsSuite(
    'sentences',
    tested.map((fact) => begun(fact, '.')),
    tokenizer,
  ),
  perplexitySuite('stories', stories.slice(0, 12), tokenizer),
];
const before = await measureForgetting(base, suites);
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const shown = ({ questions, statements, sentences, stories: told }: Scores) => ({
  'held-out questions': percent(questions!),
  'statements completed': percent(statements!),
  'with the full stop': percent(sentences!),
  'perplexity of stories': told!.toFixed(2),
});
display.table([{ model: 'base', ...shown(before) }]);

// %% [markdown]
// Now the training. `SFTTrainer` takes prompts with completions and counts the loss on completions only. Its settings are
// transformers' `TrainingArguments`, in camelCase.

// %%
interface Run {
  model: CausalLM;
  losses: number[];
  scores: Scores;
}
/** Full fine-tuning of a fresh copy of the base. */
async function tune(learningRate: number, seed: number, steps = 40): Promise<Run> {
  const model = await AutoModelForCausalLM.fromPretrained(BASE);
  const trainer = new SFTTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: trainRows,
    args: {
      learningRate,
      seed,
      maxSteps: steps,
      perDeviceTrainBatchSize: 16,
      padToMultipleOf: 12,
      warmupSteps: 5,
      disableTqdm: true,
    },
  });
  const { logHistory } = await trainer.train();
  trainer.dispose();
  const losses = logHistory.map(({ loss }) => loss);
  return { model, losses, scores: await measureForgetting(model, suites) };
}

// %% [markdown]
// > **Predict.** Forty steps of 16 questions each: 640 examples, each seen once. How many of the
// > held-out questions will it answer? And will it still complete the statement?

// %%
const tuned = await tune(1e-3, 0);
for (const prompt of prompts) console.log(`${prompt} | ${await complete(tuned.model, prompt)}`);
display.table([
  { model: 'base', ...shown(before) },
  { model: 'fine-tuned', ...shown(tuned.scores) },
]);
lineChart({
  title: 'Loss of the fine-tuning run',
  x: 'step (16 questions each)',
  y: 'loss (nats a token of the answer)',
  series: [{ name: 'loss', y: tuned.losses }],
});

// %% [markdown]
// Right or wrong, it now gives an answer of the right kind, a job to a question about a job, and stops. Being *right* on
// facts that were never asked in training comes more slowly: the table counts that.
//
// Step 4 saves *everything*: a full fine-tuned model is a whole new model.

// %%
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const folder = mkdtempSync(join(tmpdir(), 'lesson-01-'));
savePretrained(tuned.model, folder, { dtype: 'float16' });
const size = statSync(join(folder, 'model.safetensors')).size;
const again = await AutoModelForCausalLM.fromPretrained(folder);
console.log(`${formatBytes(size)}; it says again:${await complete(again, prompts[1]!)}`);
again.dispose();
rmSync(folder, { recursive: true });

// %% [markdown]
// Fifty tasks are fifty such files. A LoRA of rank 8 on the queries and values of the same model takes a hundredth of it.
//
// ## 3. The learning rate
//
// This model was pretrained at 0.0025. Tutorials take $5 \times 10^{-5}$ for GPT-2 against $10^{-4}$ in pretraining. Why lower?
// The weights are good already: a large step destroys more than it teaches.
//
// > **Predict.** Three rates, below, near and above that of pretraining, three seeds each. Which is best for the task? Is
// > it also the best one for the rest?

// %%
const rates = [1e-3, 2e-3, 1e-2];
const seeds = [0, 1, 2];
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
const byRate: Scores[][] = [];
for (const rate of progress(rates, { desc: 'learning rates' })) {
  const scores: Scores[] = [];
  for (const seed of seeds) {
    const run = rate === 1e-3 && seed === 0 ? tuned : await tune(rate, seed);
    scores.push(run.scores);
    if (run !== tuned) run.model.dispose();
  }
  byRate.push(scores);
}

// %%
const of = (i: number, name: string) => byRate[i]!.map((scores) => scores[name]!);
const span = (values: number[]) =>
  `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
display.table(
  rates.map((rate, i) => ({
    'learning rate': rate,
    'held-out questions': span(of(i, 'questions')),
    'statements completed': span(of(i, 'statements')),
    'with the full stop': span(of(i, 'sentences')),
    'perplexity of stories': mean(of(i, 'stories')).toFixed(2),
  })),
);
const line = (name: string, suite: string) => ({
  name,
  x: rates,
  y: rates.map((_, i) => 100 * mean(of(i, suite))),
});
lineChart({
  title: 'What a learning rate teaches, and what it costs',
  x: 'learning rate',
  y: 'correct (%), mean of three seeds',
  xScale: 'log',
  yRange: [0, 105],
  mode: 'lines+markers',
  series: [
    line('held-out questions', 'questions'),
    line('statements completed', 'statements'),
    line('with the full stop', 'sentences'),
  ],
});

// %%
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}

// %% [markdown]
// Read all curves. The highest rate tears down what was there, and with it the knowledge that the answers come from: it
// teaches less, and the stories are lost beyond words. Between the other two there is a bargain: the higher one teaches a
// little more on average, or not, depending on the seed, and takes more of the rest. A report that shows the task alone
// would hide that.

// %%
const least = (i: number, name: string) => Math.min(...of(i, name));
const most = (i: number, name: string) => Math.max(...of(i, name));
prove(
  'A rate of 0.001 teaches to answer, with every seed',
  least(0, 'questions') > before.questions! + 0.04,
  `from ${percent(before.questions!)} to at least ${percent(least(0, 'questions'))}`,
);
prove(
  'A rate of 0.001 keeps more statements than 0.002, on average over the seeds',
  mean(of(0, 'statements')) > mean(of(1, 'statements')) + 0.05,
  `${percent(mean(of(0, 'statements')))} against ${percent(mean(of(1, 'statements')))}`,
);
prove(
  'Four times the rate of pretraining destroys what was there',
  most(2, 'statements') < least(0, 'statements') - 0.4,
  `at most ${percent(most(2, 'statements'))}, at least ${percent(least(0, 'statements'))}`,
);

// %% [markdown]
// ## 4. What changes?
//
// "All parameters" is meant literally. We subtract the base from the tuned model, matrix by matrix.
//
// > **Predict.** The model was shown some hundred names. Its table has 4096 tokens. How many numbers of the table stay
// > exactly as they were? (The head *is* the table here: each step compares the state with every token.)

// %%
const old = matricesOf(base);
const now = matricesOf(tuned.model);
let [same, all] = [0, 0];
for (const [name, values] of now) {
  const from = old.get(name)!;
  all += values.length;
  same += values.filter((value, i) => value === from[i]).length;
}
console.log(`${same.toLocaleString('en')} of ${all.toLocaleString('en')} numbers stayed the same`);
prove('Nearly every number changed', same < 0.01 * all, percent(1 - same / all));

// %% [markdown]
// All move, but not far. Beside each matrix its change $\Delta W$: the relative length $\|\Delta W\| / \|W\|$, and
// the number of directions that hold 90 % of it.

// %%
const moved = updateRanks(tuned.model, old, /layers\.[03]\./);
const short = (name: string) =>
  name
    .replace('model.layers.', '')
    .replace(/(self_attn|mlp)\./, '')
    .replace('_proj.weight', '');
display.table(
  moved.map(({ name, relativeNorm, energyRank }) => ({
    matrix: short(name),
    'relative change': percent(relativeNorm),
    'directions for 90 %': energyRank,
  })),
);
barChart({
  title: 'How far full fine-tuning moved the first block and the last',
  x: 'block and matrix',
  y: 'length of the change, in % of the matrix',
  categories: moved.map(({ name }) => short(name)),
  series: [{ name: 'relative change', y: moved.map(({ relativeNorm }) => 100 * relativeNorm) }],
});

// %% [markdown]
// About a tenth of its length, and in more directions than a rank of 8 has: that a rank is *low* is a restriction that LoRA
// adds, not something that full fine-tuning does by itself. (The paper on LoRA that learns less and forgets less,
// arXiv 2405.09673, found full fine-tuning's updates 10 to 100 times higher in rank than LoRA's. Direction only: ours is
// one tiny model and one short run.)

// %%
const directions = mean(moved.map(({ energyRank }) => energyRank));
const farthest = Math.max(...moved.map(({ relativeNorm }) => relativeNorm));
prove(
  'These changes need more directions than a LoRA of rank 8 has, on average',
  directions > 8,
  `${directions.toFixed(1)} for 90 %`,
);
prove('No matrix moved by its own length', farthest < 1, `at most ${percent(farthest)}`);

// %% [markdown]
// ## 5. What is lost: a first look
//
// The table of section 3 shows that statements are completed less often after training than before, though no one
// taught the model anything about statements. Is that *forgetting*, or does any change of this size do it? A control
// tells: change every matrix by a **random** matrix of the same length.
//
// > **Predict.** Will a random change of the same length hurt more, or less, than training did?

// %%
/** A copy of the base, each matrix changed by noise of the length of the tuned model's change. */
async function randomChange(seed: number): Promise<CausalLM> {
  const model = await AutoModelForCausalLM.fromPretrained(BASE);
  const random = new RandomState(seed);
  const goals = new Map(tuned.model.namedParameters());
  for (const [name, own] of model.namedParameters()) {
    tf.tidy(() => {
      const noise = randomNormal(own.shape, random);
      const length = tf.norm(tf.sub(goals.get(name)!, own));
      own.assign(tf.add(own, tf.mul(noise, tf.div(length, tf.norm(noise)))));
    });
  }
  return model;
}
const controls: Scores[] = [];
for (const seed of seeds) {
  const model = await randomChange(seed);
  controls.push(await measureForgetting(model, suites));
  model.dispose();
}

// %%
display.table([
  { model: 'base', ...shown(before) },
  { model: 'fine-tuned at 0.001, first seed', ...shown(tuned.scores) },
  ...controls.map((scores, i) => ({ model: `random change ${i + 1}`, ...shown(scores) })),
]);
const answeredByNoise = Math.max(...controls.map(({ questions }) => questions!));
prove(
  'Random changes of the same length teach no answers',
  answeredByNoise < 0.02 && least(0, 'questions') > answeredByNoise + 0.03,
  `at most ${percent(answeredByNoise)}, trained at least ${percent(least(0, 'questions'))}`,
);
prove(
  'Full fine-tuning at 0.001 forgets a habit, with every seed: the full stop',
  most(0, 'sentences') < before.sentences! - 0.3,
  `from ${percent(before.sentences!)} to at most ${percent(most(0, 'sentences'))}`,
);

// %% [markdown]
// Did you expect that? A random change of the same length teaches nothing **and harms nothing**: statements, full stops and
// stories stay as they were. So it is not the *size* of a change that forgets but its *direction*: the answers of the
// training rows end without a full stop, and what makes answers come makes full stops go, in sentences that nobody asked
// to change. The facts themselves are mostly still there. Measure one of the two alone, and you report "all forgotten" or
// "hardly anything". Lesson 13 measures the ways against it.
//
// ## 6. Memory, by hand
//
// What must a GPU hold while it trains? For **each parameter**, with AdamW:
//
// | | all in 16 bits | mixed precision | all in 32 bits |
// |---|---:|---:|---:|
// | weight | 2 | 2 | 4 |
// | gradient | 2 | 2 | 4 |
// | AdamW: average of the gradient | 2 | 4 | 4 |
// | AdamW: average of its square | 2 | 4 | 4 |
// | master copy of the weight in 32 bits | | 4 | |
// | **bytes a parameter** | **8** | **16** | **16** |
//
// A billion parameters at one byte each are 1 GB, so a column is also the GB for each billion. To this come the
// **activations**: what the forward pass must keep for the backward pass. They grow with tokens, layers and width, *not*
// with parameters as such.
//
// Now two statements that are often copied, and that were in the text this lesson began from:
//
// > *For each billion: weights 2 GB, gradients 2 GB, optimizer 8 GB, activations 4 to 8 GB: about 16 GB.*
// >
// > *LLaMA 3 8B: weights 16 GB, gradients 16 GB, optimizer 32 GB, activations 10 GB: about 74 GB.*
//
// > **Predict.** Eight times 16 is not 74. Which of the two is wrong? Find the row in which they differ before you run
// > the next cell.

// %%
const billions = 8;
const parts = ['weights', 'gradients', 'optimizer', 'activations'];
const perBillion = [2, 2, 8, 4];
const for8B = [16, 16, 32, 10];
display.table(
  parts.map((part, i) => ({
    part,
    'GB a billion, first statement': perBillion[i],
    'GB a billion, from the second': for8B[i]! / billions,
  })),
);
const sum = (values: number[]) => values.reduce((a, b) => a + b);
console.log(`${sum(perBillion) * billions} GB against ${sum(for8B)} GB`);

// %% [markdown]
// Two rows differ. The **optimizer**: 8 bytes a parameter are two averages in 32 bits, 4 are two in 16 bits. Both exist;
// they are different runs, and one text must not use both. ("Adam: 2x gradients" is right either way, if averages and
// gradients have the same width.) The **activations**: 4 to 8 GB a billion would be 32 to 64 GB for 8B, where the
// second statement has 10. Neither follows from the parameters.
//
// The library takes the widths as arguments, and the exact count of parameters from the shape of the model.

// %%
const llama8b = KNOWN_MODELS['Llama-3-8B'];
const settings: Record<string, Partial<MemoryOptions>> = {
  'all in 16 bits': { dtype: 'bfloat16' },
  'mixed precision': { dtype: 'bfloat16', trainedDtype: 'float32' },
  'all in 32 bits': { dtype: 'float32' },
};
for (const [name, setting] of Object.entries(settings)) {
  const { total } = estimateMemory({ model: llama8b, sequence: 1200, ...setting });
  console.log(`${name}: ${formatBytes(total)}`);
}
estimateMemory({ model: llama8b, sequence: 1200 });

// %% [markdown]
// So "about 74 GB" is right for a run that is 16 bits throughout, with one row of about 1200 tokens; "16 GB a billion"
// is right for mixed precision without its activations. And a third trap: `fp16=True` in `TrainingArguments` does not
// make the first column. It is mixed precision over weights that were *loaded* in 32 bits: 4 + 4 + 8 bytes.
//
// ### Where do activations come from?
//
// > **Predict.** Twice the tokens: what happens to each part?

// %%
const lengths = [512, 1024, 2048, 4096, 8192];
const heldAt = (sequence: number, checkpointing: boolean) => {
  const found = estimateMemory({ model: llama8b, sequence, checkpointing }).parts;
  return found.find(({ name }) => name === 'activations')!.bytes / 1e9;
};
lineChart({
  title: 'Activations of Llama-3-8B: they follow the tokens, not the parameters',
  x: 'tokens in the batch',
  y: 'activations (GB)',
  mode: 'lines+markers',
  series: [false, true].map((checkpointing) => ({
    name: checkpointing ? 'with gradient checkpointing' : 'all kept',
    x: lengths,
    y: lengths.map((length) => heldAt(length, checkpointing)),
  })),
});

// %% [markdown]
// *Gradient checkpointing* keeps only what enters each layer and computes the rest a second time: a third more work for a
// fraction of the memory. That is why nobody can say what "the activations of an 8B model" are: ask for the batch, the
// length and this switch.
//
// ## 7. Predicted against measured
//
// A formula that was never held against a real run is a guess. Our model is small enough to measure each part: tensors by
// their sizes, and the activations by what the compiled step has alive at one time.

// %%
const rowsOf = (count: number) => trainRows.slice(0, count);
async function measureStep(batch: number, gradientCheckpointing: boolean) {
  const model = await AutoModelForCausalLM.fromPretrained(BASE);
  const args = { maxSteps: 1, perDeviceTrainBatchSize: batch, padToMultipleOf: 12 };
  const trainer = new SFTTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: rowsOf(batch),
    args: { ...args, gradientCheckpointing, disableTqdm: true },
  });
  await trainer.train();
  const { arguments: read, temporaries } = trainer.stepMemory!;
  trainer.dispose();
  model.dispose();
  return { read, held: read + temporaries };
}
const predict = (batch: number, checkpointing: boolean) =>
  estimateMemory({
    model: base.config,
    dtype: 'float32',
    batch,
    sequence: 12,
    checkpointing,
    flashAttention: false,
  });

// %%
const measured: { run: string; predicted: number; held: number; read: number }[] = [];
for (const [batch, checkpointing] of [
  [16, false],
  [64, false],
  [64, true],
] as const) {
  const { read, held } = await measureStep(batch, checkpointing);
  const run = `${batch} rows${checkpointing ? ', checkpointing' : ''}`;
  measured.push({ run, predicted: predict(batch, checkpointing).peak, held, read });
}
display.table(
  measured.map(({ run, predicted, held }) => ({
    run,
    predicted: formatBytes(predicted),
    measured: formatBytes(held),
    error: percent(predicted / held - 1),
  })),
);
predict(16, false);

// %%
const weights = 4 * numParameters(base);
prove(
  'Weights and two averages in 32 bits are 12 bytes a parameter, as measured',
  Math.abs(measured[0]!.read / (3 * weights) - 1) < 5e-3,
  `${formatBytes(measured[0]!.read)} of ${numParameters(base).toLocaleString('en')} parameters`,
);
const worst = Math.max(...measured.map(({ predicted, held }) => Math.abs(predicted / held - 1)));
prove('The prediction is within 30 % of each measured step', worst < 0.3, percent(worst));

// %% [markdown]
// The estimate counts scores of the vocabulary for every token; a trainer that skips tokens without a label holds fewer.
// What a process takes beside its tensors (the driver, libraries, rounding up) is not in there: on a GPU count another
// half to one GB, and some per cent. The same formulas give 33.6 GiB for full fine-tuning of Llama-3.2-3B with the
// settings of PEFT's public benchmark, which measured 36.2.
//
// ## 8. Does it fit?

// %%
const fits = fitGpus({ model: llama8b, sequence: 1200 });
display.table(
  fits.map(({ gpu, fits: ok, left }) => ({
    GPU: gpu.name,
    'full fine-tuning of 8B': ok ? 'fits' : `${formatBytes(Math.max(0, -left))} missing`,
  })),
);
const consumer = fits.filter(({ gpu }) => gpu.memory <= 24 * 2 ** 30);
prove(
  'No GPU of 24 GB takes full fine-tuning of 8B, however small the batch',
  consumer.every(({ batch }) => batch === 0),
  `${consumer.length} GPUs asked`,
);

// %% [markdown]
// Several GPUs can share the load: ZeRO's stage 1 divides the optimizer, stage 2 the gradients too, stage 3 (FSDP) also the
// weights. Activations are not divided: each device has rows of its own.

// %%
const shared = ([1, 2, 3] as const).map((zeroStage) => {
  const { parts: own, total } = estimateMemory({
    model: llama8b,
    trainedDtype: 'float32',
    sequence: 1200,
    devices: 8,
    zeroStage,
  });
  const bytes = Object.fromEntries(own.map(({ name, bytes: b }) => [name, formatBytes(b)]));
  return { 'ZeRO stage': zeroStage, ...bytes, total: formatBytes(total) };
});
display.table(shared);

// %% [markdown]
// Eight GPUs of 40 GB are enough at stage 2 or 3. Or train less than everything: that is what lessons 02 to 06 are about.
//
// ## 9. When, then?
//
// | Full fine-tuning if | rather not if |
// |---|---|
// | the field shifts far (another language, code) and there is much data (100,000 examples and more) | fewer than 10,000 examples: it learns them by heart |
// | the last per cent counts, and GPUs are there | one consumer GPU |
// | one task, one model | many tasks: each would be a whole copy |
// | | only a habit or a format must change: an adapter does that |
//
// The numbers of examples are rules of thumb for models of billions; ours learns its habit from fewer than a thousand.
//
// ## 10. Now you

// %%
function judge(
  title: string,
  answer: number | undefined,
  right: number,
  slips: Record<string, number>,
): void {
  if (answer === undefined) return console.log(`… ${title}: not attempted yet`);
  const isLike = (other: number) => Math.abs(answer - other) <= 0.02 * Math.abs(other);
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer}`}`);
}

// %% [markdown]
// ### Exercise 1: a sum in your head
//
// *Easy, 3 minutes.* Full fine-tuning of Mistral-7B (7.24 billion parameters), 16 bits throughout, AdamW. How many GB
// before activations?

// %%
const mySum: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', mySum, 8 * 7.24, {
  'That has averages in 32 bits: 12 bytes a parameter.': 12 * 7.24,
  'That is mixed precision: 16 bytes a parameter.': 16 * 7.24,
  'AdamW keeps two averages, not one.': 6 * 7.24,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $2 + 2 + 4 = 8$ bytes a parameter, so 57.9 GB.
//
// </details>

// %% [markdown]
// ### Exercise 2: plain SGD
//
// *Easy, 2 minutes.* The same model, with plain SGD in the place of AdamW. How many GB before activations?

// %%
const mySgd: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', mySgd, 4 * 7.24, {
  'SGD without momentum keeps nothing; that counts one average.': 6 * 7.24,
  'The gradients are still there.': 2 * 7.24,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// Weights and gradients: 4 bytes a parameter, 29.0 GB. Not under 24 GB either; and it trains language models badly.
//
// </details>

// %% [markdown]
// ### Exercise 3: a share of eight
//
// *Medium, 5 minutes.* A model of 70 billion parameters, mixed precision (16 bytes a parameter), ZeRO stage 3 over 16
// devices. How many GB on each, before activations?

// %%
const myShare: number | undefined = undefined; // your answer here

// %%
judge('Exercise 3', myShare, (70 * 16) / 16, {
  'Stage 2 leaves the 2 bytes of the weights whole on each device.': 70 * 2 + (70 * 14) / 16,
  'Stage 1 divides the optimizer alone.': 70 * 4 + (70 * 12) / 16,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// Stage 3 divides everything: $70 \cdot 16 / 16 = 70$ GB. 80 GB devices leave 10 GB for activations.
//
// </details>

// %% [markdown]
// ## 11. In the interview
//
// **What is the difference between full fine-tuning and LoRA?** *(junior)* Full fine-tuning changes all weights and needs
// gradients and optimizer state for each of them: 8 to 16 bytes a parameter. LoRA trains small matrices beside frozen
// ones: the base stays at 2 bytes or less. Proof: sections 4 and 6.
//
// **How much memory does full fine-tuning of an 8B model take?** *(junior)* Ask: which precision, how many tokens? 64 GB in
// 16 bits or 128 GB in mixed precision, and activations by the batch. Proof: section 6.
//
// **Why a low learning rate?** *(mid)* Because the weights are good already. A sweep shows the price of each rate in
// what is forgotten. Proof: section 3.
//
// **A colleague reports 95 % on the task after full fine-tuning. What do you ask?** *(senior)* What happened to everything
// else, over how many seeds, and against which control? Proof: section 5.
//
// ## 12. What to try next
//
// - A rate of 0.0001 in section 3, and three times the steps: does patience do what a high rate does, at a lower price?
// - `optim: 'sgd'` in section 2: which learning rate does it need, and what does it forget?
// - `lrSchedulerType: 'constant'`: is the last step of a falling rate the reason for the calm end?
// - Mix a few statements into `trainRows`. How few bring them back? (Lesson 13.)
//
// **Next:** lesson 02 trains less than everything, in eight ways.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 11 proofs hold.`);
