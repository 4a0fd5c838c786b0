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
// # PEFT methods side by side
//
// Full fine-tuning changes every number of a model. *Parameter-efficient fine-tuning* (PEFT) changes
// few, or adds few and leaves the rest alone. There are many ways to do that, and lists of them with one
// line each are easy to find. **But which one would you take, and what does it cost?** Here you run them
// all on the same model and the same task, with the same care, and look.
//
// | | |
// |---|---|
// | Time | 50 minutes to read and try; about two minutes to run |
// | You need | what a linear layer, attention and a gradient are; lesson 03 helps, and can also come after |
// | Level | the junior and mid-level interview questions on PEFT |

// %% [markdown]
// **When you are through you can**
//
// 1. say in one formula each what LoRA, DoRA, IA3, VeRA, adapter layers, prefix tuning and prompt tuning do;
// 2. count their parameters for any model, exactly, and catch wrong counts in print;
// 3. tell which of them can be merged into the weights, and which slow a model down for ever;
// 4. compare methods fairly, and say what your comparison does *not* show;
// 5. save an adapter as Hugging Face's PEFT does, and load it again.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. One model, one task
//
// All methods get the same base model: `world-3m`, a Llama with four layers that has read about a small world, and has
// never seen an answer to a question. It has the parts and names of the large ones, so that everything below works on those
// too. The task will be to answer.

// %%
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  AutoModelForCausalLM,
  AutoTokenizer,
  BottleneckConfig,
  barChart,
  type CausalLM,
  crossEntropy,
  getPeftModel,
  IA3Config,
  jit,
  LoraConfig,
  lineChart,
  loadDataset,
  type Module,
  numParameters,
  type PeftConfig,
  PeftModel,
  PrefixTuningConfig,
  PromptTuningConfig,
  RandomState,
  setBackend,
  trainableParametersLine,
  VeraConfig,
} from 'peftlab';

await setBackend('auto');

// %%
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
const base = await AutoModelForCausalLM.fromPretrained('models/world-3m');
const baseSize = numParameters(base);
console.log(`${baseSize.toLocaleString('en')} parameters`);

// %% [markdown]
// The world has people; each has a pet, a job and an instrument. The model has read `The pet of Dozalo is a hen.` Our task is a
// **quiz**: `The pet of Dozalo is a what?` The answer is one token and a full stop.

// %%
interface Fact {
  kind: string;
  subject: string;
  answer: string;
  statement: string;
  split: string;
}
/** 'The pet of Dozalo is a' */
const begun = ({ statement }: Fact) => statement.slice(0, statement.lastIndexOf(' '));
/** 'The pet of Dozalo is a what?' */
const asked = (fact: Fact) => `${begun(fact)} what?`;

const [longest, length] = [10, 12];
const facts = [...loadDataset<Fact>('world-facts')].filter(
  (fact) =>
    ['pet', 'job', 'instrument'].includes(fact.kind) &&
    tokenizer.encode(asked(fact)).length <= longest,
);
console.log(`${facts.length} facts, such as: ${asked(facts[0]!)} ${facts[0]!.answer}.`);

// %% [markdown]
// ### Training, for every method alike
//
// A batch is rows of token ids, and of each row the two positions whose next token is learnt, with those tokens. The head of the
// model is computed at these positions only: over 4096 tokens it is a good part of a step.

// %%
type Batch = { ids: tf.Tensor2D; at: tf.Tensor2D; labels: tf.Tensor2D };

/** Prompts with their facts' answers; the answer and its full stop are to be learnt. */
function toBatch(some: Fact[], promptOf: (fact: Fact) => string): Batch {
  const prompts = some.map((fact) => tokenizer.encode(promptOf(fact)));
  const answers = some.map((fact) => tokenizer.encode(` ${fact.answer}.`));
  const table = (rows: number[][]) => tf.tensor2d(rows, undefined, 'int32');
  const texts = prompts.map((prompt, i) => [...prompt, ...answers[i]!]);
  return {
    ids: table(texts.map((text) => Array.from({ length }, (_, t) => text[t] ?? 0))),
    at: table(prompts.map((prompt) => [prompt.length - 1, prompt.length])),
    labels: table(answers),
  };
}

/** Scores [B, 2, V] of the tokens to be learnt; virtual tokens stand before the text. */
function logitsOf(model: CausalLM, { ids, at }: Batch): tf.Tensor3D {
  const logitsAt = tf.add(at, tf.scalar(model.promptLength ?? 0, 'int32')) as tf.Tensor2D;
  return model.forward(ids, { logitsAt }).logits;
}

/** Mean surprise at the tokens to be learnt, in nats. */
function lossOf(model: CausalLM, batch: Batch): tf.Scalar {
  const flat = tf.reshape(logitsOf(model, batch), [-1, base.config.vocabSize]);
  return crossEntropy(flat, tf.reshape(batch.labels, [-1])) as tf.Scalar;
}

// %% [markdown]
// One function trains them all. It collects the parameters that are *trainable*, and only those get a gradient
// and AdamW's two averages. What a method trains is decided by the model that we pass, nowhere else. Its step is pure, so
// `jit` turns forward, backward and AdamW into one native graph, which all runs of a method share. The learning rate falls to
// zero on a line.

// %%
const trainableOf = (model: Module) => model.parameters().filter(({ trainable }) => trainable);

/** A compiled training step, and the optimizer in it. */
function trainerOf(model: CausalLM) {
  const trained = trainableOf(model);
  const optimizer = new AdamW(trained, { betas: [0.9, 0.99], weightDecay: 0 });
  const step = jit(function trainStep(batch: Batch, numbers: AdamWNumbers[]) {
    const { value, grads } = tf.variableGrads(() => lossOf(model, batch), trained);
    optimizer.apply(
      trained.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  return { optimizer, step };
}

// %%
/** Trains from a fresh optimizer, and returns the milliseconds of a step, the median. */
async function train({ optimizer, step }: ReturnType<typeof trainerOf>, some: Batch[], lr: number) {
  const times: number[] = [];
  optimizer.reset();
  for (const [i, batch] of some.entries()) {
    const start = performance.now();
    optimizer.paramGroups[0]!.lr = lr * (1 - i / some.length);
    const numbers = optimizer.numbers();
    const loss = step(batch, numbers);
    await loss.data();
    times.push(performance.now() - start);
    tf.dispose([loss, batch, numbers] as tf.TensorContainer);
  }
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}

// %% [markdown]
// What does it know? A question counts as answered if the answer *and* its full stop are the likeliest next tokens. Half of the
// facts are there to learn from; of these 64 are set aside for choices, and 64 of the other half are the test.

// %%
const shuffle = new RandomState(5);
const half = (split: string) => shuffle.permutation(facts.filter((fact) => fact.split === split));
const learnable = half('train');
const [aside, trainFacts] = [learnable.slice(0, 64), learnable.slice(64)];
const testFacts = half('test').slice(0, 64);
const exams = {
  aside: toBatch(aside, asked),
  heldOut: toBatch(testFacts, asked),
  old: toBatch(testFacts, begun),
};

// %% [markdown]
// An exam gives the share that is right; for choices we also want the loss, which tells more than a share.

// %%
interface Scores {
  /** Loss on the questions set aside, in nats. */
  lossAside: number;
  /** Shares of test questions answered, and of their statements completed. */
  heldOut: number;
  old: number;
}
const readerOf = (model: CausalLM) =>
  jit(function read(batch: Batch) {
    const isRight = tf.equal(tf.argMax(logitsOf(model, batch), -1), batch.labels); // [B, 2]
    const share = tf.mean(tf.cast(tf.all(isRight, 1), 'float32'));
    return tf.stack([share, lossOf(model, batch)]);
  });
async function measure(read: ReturnType<typeof readerOf>): Promise<Scores> {
  const numbersOf = async (exam: Batch) => {
    const result = read(exam);
    const numbers = await result.data();
    result.dispose();
    return numbers;
  };
  const [heldOut] = await numbersOf(exams.heldOut);
  const [old] = await numbersOf(exams.old);
  const [, lossAside] = await numbersOf(exams.aside);
  return { heldOut: heldOut!, old: old!, lossAside: lossAside! };
}

// %%
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const atFirst = await measure(readerOf(base));
console.log(`Statements completed: ${percent(atFirst.old)}`);
console.log(`Questions answered:   ${percent(atFirst.heldOut)}`);

// %% [markdown]
// It knows its world by heart and answers nothing: after a question it has only ever seen the next question. The task is a
// *habit*, then: learnt on some facts, it must hold for all the others.

// %%
const proven = new Map<string, string>();

function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
prove(
  'The base knows the facts and can not answer',
  atFirst.old > 0.95 && atFirst.heldOut < 0.05,
  `statements ${percent(atFirst.old)}, questions ${percent(atFirst.heldOut)}`,
);

// %% [markdown]
// ## 2. The methods, a formula each
//
// Let $h = W x + b$ be a layer of the base, and let everything that is not named be frozen.
//
// | Method | What it learns | Formula | Where |
// |---|---|---|---|
// | **LoRA** (2021) | $A$ $[r, d_{in}]$, $B$ $[d_{out}, r]$ | $h = W x + b + \frac{\alpha}{r} B A x$ | linear layers |
// | **DoRA** (2024) | also a length $m$ for each output | $h = m \cdot \frac{(W + \frac{\alpha}{r}BA)\,x}{\lVert W + \frac{\alpha}{r}BA \rVert} + b$ | linear layers |
// | **VeRA** (2023) | two vectors, $d$ $[r]$ and $v$ $[d_{out}]$ | $h = W x + b + v \odot B (d \odot A x)$ with $A$, $B$ random, frozen, shared | linear layers |
// | **IA3** (2022) | a factor for each number | $h = l \odot (W x + b)$ for keys and values, $W (l \odot x)$ in the MLP | 3 layers a block |
// | **Adapter layers** (Houlsby 2019) | $D$ $[k, d]$, $U$ $[d, k]$, two biases | $h + U\,\mathrm{act}(D h)$ | after attention and MLP |
// | **Prefix tuning** (2021) | keys and values of $n$ positions that no token has | attention over $[K_p; K]$, $[V_p; V]$ | every attention |
// | **Prompt tuning** (2021) | $n$ vectors before the text | $[P; x_1 \ldots x_T]$ | the input alone |
// | **QLoRA** (2023) | LoRA | as LoRA, with $W$ in 4 bits | lesson 06 |
//
// > **Predict.** Order LoRA ($r = 8$), IA3, prompt tuning and prefix tuning by how many numbers they train.

// %%
type Make = () => PeftConfig;
const methods: Record<string, Make> = {
  LoRA: () => new LoraConfig({ r: 8, loraAlpha: 16, targetModules: 'all-linear' }),
  DoRA: () => new LoraConfig({ r: 8, loraAlpha: 16, targetModules: 'all-linear', useDora: true }),
  VeRA: () => new VeraConfig({ r: 64, targetModules: 'all-linear' }),
  IA3: () => new IA3Config(),
  'adapter layers': () => BottleneckConfig.houlsby({ reductionFactor: 8 }),
  'prefix tuning': () => new PrefixTuningConfig({ numVirtualTokens: 8 }),
  'prompt tuning': () => new PromptTuningConfig({ numVirtualTokens: 8 }),
};

const counts: Record<string, number> = { 'full fine-tuning': baseSize };
for (const [name, config] of Object.entries(methods)) {
  const model = getPeftModel(base, config());
  const [trainable, all] = model.getNbTrainableParameters();
  counts[name] = trainable;
  console.log(`${name.padEnd(15)} ${trainableParametersLine(trainable, all)}`);
  model.unload();
}

// %% [markdown]
// That line is the one that PEFT's `print_trainable_parameters` prints. `unload` takes the adapter out and gives
// the base back as it was: all of these methods sit *on* the model, none changes it.
//
// ### Counting without a model
//
// An interviewer gives you a model that does not fit into your laptop. Counting needs shapes only.

// %%
interface Shape {
  hidden: number;
  inner: number;
  layers: number;
  /** Width of keys and values: fewer heads than queries (GQA) make it smaller. */
  kv: number;
}
/** The linear layers of one Llama block, [out, in]. */
const linearLayers = ({ hidden: h, inner, kv }: Shape): Record<string, [number, number]> => ({
  q_proj: [h, h],
  k_proj: [kv, h],
  v_proj: [kv, h],
  o_proj: [h, h],
  gate_proj: [inner, h],
  up_proj: [inner, h],
  down_proj: [h, inner],
});
const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
/** Sum over adapted layers of all blocks. */
const total = (shape: Shape, names: string[], each: (out: number, into: number) => number) =>
  shape.layers * names.reduce((sum, name) => sum + each(...linearLayers(shape)[name]!), 0);

// %% [markdown]
// With the shapes known, each method is one line: how many numbers it adds to a layer, or to a block.

// %%
const formulas: Record<string, (shape: Shape) => number> = {
  LoRA: (s) => total(s, ALL, (out, into) => 8 * (out + into)),
  DoRA: (s) => total(s, ALL, (out, into) => 8 * (out + into) + out),
  VeRA: (s) => total(s, ALL, (out) => out + 64),
  IA3: (s) =>
    total(s, ['k_proj', 'v_proj'], (out) => out) + total(s, ['down_proj'], (_, into) => into),
  'adapter layers': (s) => s.layers * 2 * (2 * s.hidden * (s.hidden / 8) + s.hidden / 8 + s.hidden),
  'prefix tuning': (s) => 8 * s.layers * 2 * s.kv,
  'prompt tuning': (s) => 8 * s.hidden,
};

// %%
const ours: Shape = { hidden: 256, inner: 512, layers: 4, kv: 256 };
const agree = Object.entries(formulas).every(([name, count]) => count(ours) === counts[name]);
prove('Seven formulas give the counts of seven real adapters', agree, 'compared one by one');

const llama2: Shape = { hidden: 4096, inner: 11008, layers: 32, kv: 4096 };
const llama3: Shape = { hidden: 4096, inner: 14336, layers: 32, kv: 1024 };
display.table(
  Object.entries(formulas).map(([method, count]) => ({
    method,
    'our model': count(ours).toLocaleString('en'),
    'Llama-2-7B': count(llama2).toLocaleString('en'),
    'share of 6.74 billion': `${((100 * count(llama2)) / 6_738_415_616).toFixed(4)} %`,
    'Llama-3-8B': count(llama3).toLocaleString('en'),
  })),
);

// %% [markdown]
// Note how the *share* falls with the size of the model: adapters grow with the width, weights with its square.
//
// ### Counts that are wrong in print
//
// Four numbers from a widely read text. Two minutes with the formulas above settle them.

// %%
const lora16 = 32 * 4 * 16 * (4096 + 4096);
const claims = [
  {
    claim: 'GPT-2, prompt tuning, 20 virtual tokens: 81,920',
    computed: 20 * 768,
    why: '81,920 = 20 x 4096 is that of Llama-2-7B',
  },
  {
    claim: 'Llama-2-7B, r = 16 on q, k, v, o: 4,194,304 (0.062 %)',
    computed: lora16,
    why: 'the printed line is that of r = 4',
  },
  {
    claim: 'Prefix tuning, 20 x 4096 x 32: 2.6 million',
    computed: 20 * 2 * 4096 * 32,
    why: 'keys or values only; there are both',
  },
  {
    claim: 'Adapters 4096 -> 64, two a layer, 32 layers: 33.5 million',
    computed: 32 * 2 * 2 * 4096 * 64,
    why: 'right, without the 266,240 biases',
  },
];
display.table(claims.map((row) => ({ ...row, computed: row.computed.toLocaleString('en') })));
prove(
  'r = 16 on four projections of Llama-2-7B is 0.2484 %, not 0.062 %',
  trainableParametersLine(lora16, 6_738_415_616 + lora16).endsWith('0.2484'),
  trainableParametersLine(lora16, 6_738_415_616 + lora16),
);

// %% [markdown]
// ## 3. Memory
//
// What does training need beside the activations? Weights, gradients, and AdamW's two averages. In 32-bit floats
// that is 4 bytes each: 4 for *every* parameter, and 12 more for every *trained* one.
//
// > **Predict.** Adam's averages for full fine-tuning of our model, and for IA3: how many bytes each?

// %%
/** Bytes that AdamW's averages take, measured. */
function optimizerBytes(model: Module): number {
  const before = tf.memory().numBytes;
  const optimizer = new AdamW(model.parameters().filter(({ trainable }) => trainable));
  const bytes = tf.memory().numBytes - before;
  optimizer.dispose();
  return bytes;
}

const adam: Record<string, number> = { 'full fine-tuning': optimizerBytes(base.requiresGrad()) };
const folder = mkdtempSync(join(tmpdir(), 'adapters-'));
const fileBytes: Record<string, number> = {};
for (const [name, config] of Object.entries(methods)) {
  const model = getPeftModel(base, config());
  adam[name] = optimizerBytes(model);
  const path = join(folder, name);
  model.savePretrained(path);
  const weights = readdirSync(path).find((file) => file.endsWith('.safetensors'))!;
  fileBytes[name] = statSync(join(path, weights)).size;
  model.unload();
}
prove(
  "AdamW's averages take 8 bytes for each trained number, and none for the others",
  Object.entries(adam).every(([name, bytes]) => bytes === 8 * counts[name]!),
  `${adam['full fine-tuning']!.toLocaleString('en')} bytes for full fine-tuning, ${adam.IA3!.toLocaleString('en')} for IA3`,
);

// %%
const megabytes = (bytes: number) =>
  `${(bytes / 1e6).toLocaleString('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 })} MB`;
display.table(
  ['full fine-tuning', ...Object.keys(methods)].map((method) => {
    const large = method === 'full fine-tuning' ? 6_738_415_616 : formulas[method]!(llama2);
    return {
      method,
      'Adam, our model': `${(adam[method]! / 1000).toFixed(1)} kB`,
      'file, our model': fileBytes[method] ? `${(fileBytes[method] / 1000).toFixed(1)} kB` : '',
      'Adam, Llama-2-7B': megabytes(8 * large),
      'gradients, Llama-2-7B': megabytes(4 * large),
    };
  }),
);

// %% [markdown]
// The frozen weights stay: 25 GB of them for Llama-2-7B in 32 bits, 12.6 in 16. PEFT removes the gradients and the
// averages, not the model. To shrink *that* is quantization's part (lessons 05 and 06), and activations are a third
// matter: all methods here send gradients back through the whole network.
//
// VeRA's file is larger than its count: it holds the shared random matrices, so that no generator has to make
// the same numbers again elsewhere.

// %% [markdown]
// ## 4. A fair race
//
// Comparisons are easy to rig: give one method its best learning rate and another a default. So every method
// gets the same 90 steps of 8 rows, the same batches, and a search over the *same* grid, judged on the 64 facts that are set
// aside from training. The test facts decide nothing.
//
// > **Predict.** IA3 trains 4,096 numbers and LoRA thirty-four times as many. Which of them wants the higher learning rate?

// %%
const lessons = (some: Fact[], seed: number): Batch[] => {
  const draw = new RandomState(seed);
  return Array.from({ length: 90 }, () => toBatch(draw.permutation(some).slice(0, 8), asked));
};

const spare = await AutoModelForCausalLM.fromPretrained('models/world-3m');
const pretrained = spare.parameters();
const restore = () =>
  base.parameters().forEach((parameter, i) => void parameter.assign(pretrained[i]!));

// %% [markdown]
// A method *enters* with its model and one compiled step. Each run begins anew from the first values of its seed, which come from a
// fresh adapter on a spare copy of the base.

// %%
/** Enters a method: `run` tunes the base with it from its first values, `leave` gives the base back. */
function enter(method: string) {
  const make = methods[method];
  const model: CausalLM = make ? (getPeftModel(base, make()) as CausalLM) : base.requiresGrad();
  const [trainer, read] = [trainerOf(model), readerOf(model)];
  const beginAnew = (seed: number) => {
    if (!make) return restore();
    const fresh = getPeftModel(spare, make(), { seed });
    const values = trainableOf(fresh);
    for (const [i, own] of trainableOf(model).entries()) own.assign(values[i]!);
    fresh.unload();
  };
  return {
    model,
    async run(lr: number, seed: number, some = trainFacts) {
      beginAnew(seed);
      const step = await train(trainer, lessons(some, seed), lr);
      return { step, ...(await measure(read)) };
    },
    leave() {
      trainer.step.dispose();
      trainer.optimizer.dispose();
      read.dispose();
      if (model instanceof PeftModel) model.unload();
      else restore();
    },
  };
}

// %% [markdown]
// Three rates with one seed; then the best of them with two more seeds, that is, other first values and other batches:

// %%
interface Result extends Scores {
  method: string;
  rate: number;
  seed: number;
  /** Milliseconds of a training step, the median. */
  step: number;
}
const results: Result[] = [];
const rates = [1e-3, 6e-3, 1e-1];
const names = ['full fine-tuning', ...Object.keys(methods)];
const bestRate: Record<string, number> = {};
const lossesAside = (name: string) =>
  results
    .filter(({ method, seed }) => method === name && seed === 0)
    .map(({ lossAside }) => lossAside);

// %%
const bar = progress({ total: names.length * (rates.length + 2), desc: 'runs' });
for (const method of names) {
  const { model, run, leave } = enter(method);
  const race = async (rate: number, seed: number) => {
    results.push({ method, rate, seed, ...(await run(rate, seed)) });
    bar.update();
  };
  for (const rate of rates) await race(rate, 0);
  const losses = lossesAside(method);
  const best = rates[losses.indexOf(Math.min(...losses))]!;
  for (const seed of [1, 2]) await race(best, seed);
  bestRate[method] = best;
  if (model instanceof PeftModel) model.savePretrained(join(folder, method));
  leave();
}
bar.close();

// %%
lineChart({
  title: 'Each method has its own best learning rate',
  x: 'learning rate',
  y: 'loss on 64 facts set aside (nats)',
  xScale: 'log',
  yScale: 'log',
  mode: 'lines+markers',
  series: ['full fine-tuning', 'LoRA', 'IA3', 'prefix tuning', 'prompt tuning'].map((name) => ({
    name,
    x: rates,
    y: lossesAside(name),
  })),
});

// %%
display.table(names.map((method) => ({ method, 'best learning rate': bestRate[method] })));
prove(
  'IA3 wants a higher learning rate than LoRA',
  bestRate.IA3! > bestRate.LoRA!,
  `${bestRate.IA3} against ${bestRate.LoRA}`,
);

// %% [markdown]
// The fewer numbers a method has, the further each of them has to go. A "default" learning rate of $10^{-3}$ that
// suits full fine-tuning would have shown you that IA3 and VeRA "do not work". For these two, prefix and prompt tuning the best
// rate is the last of our grid, so a higher one may be better still: look at the edges of a grid before you believe it.
//
// ### Three seeds

// %%
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
const of = (name: string, what: 'heldOut' | 'old' | 'step') =>
  results
    .filter(({ method, rate }) => method === name && rate === bestRate[name])
    .map((result) => result[what]);
const span = (values: number[]) =>
  `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;

display.table(
  names.map((method) => ({
    method,
    trains: counts[method]!.toLocaleString('en'),
    'held-out questions': span(of(method, 'heldOut')),
    'old statements': span(of(method, 'old')),
  })),
);

// %%
const series = (name: string, what: 'heldOut' | 'old') => {
  const columns = names.map((method) => of(method, what).map((share) => 100 * share));
  return {
    name,
    y: columns.map(mean),
    low: columns.map((column) => Math.min(...column)),
    high: columns.map((column) => Math.max(...column)),
  };
};
barChart({
  title: 'Accuracy after tuning: mean and range of three seeds',
  x: 'method',
  y: 'correct (%)',
  yRange: [0, 105],
  categories: names,
  series: [series('held-out questions', 'heldOut'), series('old statements', 'old')],
});

// %% [markdown]
// ### What this shows, and what it does not
//
// - **Full fine-tuning**, with twenty-six times LoRA's numbers, is the surest here, and forgets a quarter of the statements.
// - **LoRA and DoRA** forget less, and have the widest ranges: with two of three seeds they answer most held-out questions, with
//   the third they stay on a plateau, where the model guesses frequent answers. *One* seed would have told you either that LoRA is
//   as good as full fine-tuning, or that it fails.
// - **IA3 and VeRA** train the fewest numbers inside the layers, and learn much of the task. IA3 forgets most of the four. Half of
//   the table is only visible because we asked for an *old* skill.
// - **Prompt and prefix tuning** fail *here*, and forget nothing. The papers say why: prompt tuning catches up with full
//   fine-tuning at about ten billion parameters. A large model has skills to be steered to; ours has never answered anything.
// - **Adapter layers** do badly too, with twelve times the numbers of VeRA. That calls for an explanation.
// - It is one small model, one task, 90 steps and three learning rates. A ranking of methods does not follow.
//   What follows is the way to get one for *your* task: same budget, same search, several seeds, an old skill.

// %%
const meanOf = (method: string) => mean(of(method, 'heldOut'));
prove(
  'On this model LoRA beats prompt and prefix tuning, in the mean of three seeds',
  meanOf('LoRA') > Math.max(meanOf('prompt tuning'), meanOf('prefix tuning')) + 0.3,
  `${percent(meanOf('LoRA'))} against ${percent(meanOf('prompt tuning'))} and ${percent(meanOf('prefix tuning'))}`,
);

// %% [markdown]
// ### Where, not how many
//
// Why are adapter layers so weak? A hypothesis: to answer, the question mark must *look at* the subject, and that is
// decided by queries and keys. Adapter layers sit after attention and after the MLP; they can change what is made of
// what was seen, not what is looked at. If that is so, then LoRA must fail as well when it may only adapt the MLP,
// and must work with queries and values alone, though that is *fewer* numbers.
//
// > **Predict.** You see the test before its result: what would you bet?

// %%
const places: Record<string, Make> = {
  'LoRA, MLP only': () =>
    new LoraConfig({ r: 8, loraAlpha: 16, targetModules: ['gate_proj', 'up_proj', 'down_proj'] }),
  'LoRA, queries and values': () =>
    new LoraConfig({ r: 8, loraAlpha: 16, targetModules: ['q_proj', 'v_proj'] }),
};
Object.assign(methods, places);
const placed: Record<string, { heldOut: number; old: number; counts: number }[]> = {};
for (const method of Object.keys(places)) {
  const { model, run, leave } = enter(method);
  const [counted] = (model as unknown as PeftModel).getNbTrainableParameters();
  placed[method] = [];
  for (const seed of [0, 1, 2]) {
    placed[method].push({ counts: counted, ...(await run(bestRate.LoRA!, seed)) });
  }
  leave();
}

// %% [markdown]
// Three seeds of each:

// %%
const heldOutOf = (method: string) => placed[method]!.map(({ heldOut }) => heldOut);
display.table(
  Object.entries(placed).map(([method, runs]) => ({
    method,
    trains: runs[0]!.counts.toLocaleString('en'),
    'held-out questions': span(heldOutOf(method)),
    'old statements': span(runs.map(({ old }) => old)),
  })),
);
for (const method of Object.keys(places)) delete methods[method];
prove(
  'Queries and values alone beat the whole MLP with fewer numbers, in the mean of three seeds',
  mean(heldOutOf('LoRA, queries and values')) > mean(heldOutOf('LoRA, MLP only')) + 0.1,
  `${percent(mean(heldOutOf('LoRA, queries and values')))} against ${percent(mean(heldOutOf('LoRA, MLP only')))}`,
);

// %% [markdown]
// The hypothesis survived a test that could have refuted it. For *this* task, then, the place decides. For tasks that
// need other facts rather than another habit, the MLP matters more; "which layers?" has no answer without "for what?".
// Lesson 04 goes on from here.
//
// ### A control: wrong answers
//
// Does LoRA learn *to answer*, or sentences by heart? Shuffle the answers among the training facts, train the
// same way, and ask the held-out questions. If it still answered them rightly, our measure would be broken.

// %%
const shuffledAnswers = new RandomState(7).permutation(trainFacts.map((fact) => fact.answer));
const wrongFacts = trainFacts.map((fact, i) => ({ ...fact, answer: shuffledAnswers[i]! }));
const misled = enter('LoRA');
const { heldOut: afterWrong } = await misled.run(bestRate.LoRA!, 0, wrongFacts);
misled.leave();
prove(
  'With shuffled answers the held-out questions are not answered',
  afterWrong < 0.5 * of('LoRA', 'heldOut')[0]!,
  `${percent(afterWrong)} against ${percent(of('LoRA', 'heldOut')[0]!)} with the right ones, the same seed`,
);

// %% [markdown]
// ## 5. Speed
//
// ### In training
//
// > **Predict.** LoRA trains a twenty-sixth of the numbers. Is its step twenty-six times as fast?

// %%
barChart({
  title: 'Time of one training step (8 rows)',
  x: 'method',
  y: 'milliseconds, median of 90 steps',
  categories: names,
  series: [{ name: 'median over three seeds', y: names.map((name) => mean(of(name, 'step'))) }],
});

// %% [markdown]
// No. The forward pass is whole, and the gradient must pass through every layer to reach the first adapter; only
// the products that give the *weights'* gradients fall away, at most a third of the work, and AdamW's pass over the weights. And
// each adapter adds operations of its own. What you save is memory; time is saved where memory lets you take larger batches.
//
// ### In use
//
// LoRA, DoRA, VeRA and IA3 are linear in $x$, so they can be **merged**: $W$ becomes $W'$, and the model is as fast as the
// base. Adapter layers have a nonlinearity between their matrices, and a prefix or a prompt is no weight at all:
// they cost time at every word, for ever. We count operations of one forward pass, which no busy machine disturbs.

// %%
const exam = toBatch(testFacts.slice(0, 8), asked);
const operations = async (model: CausalLM) =>
  (await tf.profile(() => tf.tidy(() => logitsOf(model, exam)))).kernels.length;
const scores = (model: CausalLM) => tf.tidy(() => tf.keep(logitsOf(model, exam)));
const maxGap = (a: tf.Tensor, b: tf.Tensor) =>
  tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);
const plain = await operations(base);

const inUse: { method: string; adapted: number; merged: number | null; gap: number | null }[] = [];
for (const method of Object.keys(methods)) {
  const model = PeftModel.fromPretrained(base, join(folder, method));
  const adapted = await operations(model);
  const before = scores(model);
  let merged: number | null = null;
  let gap: number | null = null;
  try {
    model.mergeAdapter({ safeMerge: true });
  } catch (error) {
    console.log(`${method}: ${(error as Error).message}`);
  }
  if (model.mergedAdapters.length > 0) {
    merged = await operations(model);
    gap = maxGap(scores(model), before);
  }
  inUse.push({ method, adapted, merged, gap });
  model.unload();
  restore();
}

// %%
display.table(
  inUse.map(({ method, adapted, merged, gap }) => ({
    method,
    'operations more than the base': adapted - plain,
    'after merging': merged === null ? 'can not be merged' : merged - plain,
    'largest difference of a score': gap === null ? '' : gap.toExponential(1),
  })),
);
const mergeable = inUse.filter(({ merged }) => merged !== null);
prove(
  'A merged model costs what the base costs and says what the adapted one says',
  mergeable.length === 4 && mergeable.every(({ merged, gap }) => merged === plain && gap! < 1e-3),
  mergeable.map(({ method }) => method).join(', '),
);

// %% [markdown]
// We loaded those adapters from files. `savePretrained` writes `adapter_config.json` and
// `adapter_model.safetensors` exactly as PEFT does: `PeftModel.from_pretrained(base, folder)` in Python loads them,
// and `PeftModel.fromPretrained(base, folder)` here loads what Python saved. (Adapter layers are in the format of the
// `adapters` library, since PEFT has none.)
//
// ### Two adapters, one base
//
// Because the base is untouched, several adapters can live on it at once. Even in one batch: each row its own.

// %%
const shared = PeftModel.fromPretrained(base, join(folder, 'LoRA'));
shared.loadAdapter(join(folder, 'IA3'), 'frugal');
const adapterNames = ['default', 'frugal', '__base__'];
const sameFact = toBatch([testFacts[0]!, testFacts[0]!, testFacts[0]!], asked);
const answers = tf.tidy(() => {
  const { ids, at: logitsAt } = sameFact;
  const { logits } = shared.forward(ids, { adapterNames, logitsAt });
  const best = tf.argMax(logits, -1).arraySync() as number[][]; // [3, 2]
  return best.map((tokens) => tokenizer.decode(tokens));
});
console.log(asked(testFacts[0]!));
display.table(adapterNames.map((adapter, i) => ({ adapter, 'next two tokens': answers[i] })));
shared.unload();
rmSync(folder, { recursive: true });

// %% [markdown]
// (Each method's file holds its last run. LoRA's was the one on the plateau: it has the form of an answer, and the wrong
// instrument; the base goes on with a question.)
//
// ## 6. Which one?
//
// | If | then | because |
// |---|---|---|
// | you want one method that mostly works | LoRA on all linear layers | quality near full fine-tuning, merges away |
// | LoRA with a small rank falls behind | DoRA, or a larger rank | lengths and directions learnt apart |
// | memory is short | QLoRA | the *base* in 4 bits; the adapter stays small |
// | thousands of adapters must be stored | IA3, VeRA | a few kB each; try them, quality varies |
// | the model must never change, not even in memory | prompt or prefix tuning | a prompt is data; needs a large model |
// | several tasks are composed, or old systems need it | adapter layers | cost time for ever |
//
// ## 7. Now you

// %%
function judge(
  title: string,
  answer: number | undefined,
  right: number,
  slips: Record<string, number>,
): void {
  if (answer === undefined) return console.log(`… ${title}: not attempted yet`);
  if (answer === right) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => slips[name] === answer);
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer}`}`);
}

// %% [markdown]
// ### Exercise 1: IA3 on Llama-3-8B
//
// *Easy, 4 minutes.* It scales the outputs of `k_proj` and `v_proj` and the input of `down_proj`, in 32 layers.
// Keys and values are 1024 wide, the MLP 14336. How many numbers does it train?

// %%
const myIa3: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myIa3, formulas.IA3!(llama3), {
  'Keys and values are 1024 wide here, not 4096 (grouped-query attention).':
    32 * (2 * 4096 + 14336),
  'down_proj scales its input, which is 14336 wide.': 32 * (2 * 1024 + 4096),
  'You counted one layer; there are 32.': 2 * 1024 + 14336,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $32 \times (1024 + 1024 + 14336) = 524{,}288$ numbers: 0.0065 % of 8.03 billion, a file of 2 MB.
//
// </details>

// %% [markdown]
// ### Exercise 2: a prefix for a model with grouped-query attention
//
// *Medium, 5 minutes.* Prefix tuning with 20 virtual tokens trains 5,242,880 numbers on Llama-2-7B. How many on
// Llama-3-8B, whose 32 layers have keys and values of 1024?

// %%
const myPrefix: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myPrefix, 20 * 2 * 32 * 1024, {
  'That is the count for Llama-2-7B; keys and values are narrower here.': 5_242_880,
  'You counted keys or values only; there are both.': 20 * 32 * 1024,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $20 \times 2 \times 32 \times 1024 = 1{,}310{,}720$: a prefix is keys and values, so it has their width.
//
// </details>

// %% [markdown]
// ### Exercise 3: how large may the rank be?
//
// *Medium, 5 minutes.* Your phone app may download 20 MB for a new skill of Llama-2-7B (10^6 bytes a MB, 2 bytes a
// number). You adapt `q_proj` and `v_proj` in all 32 layers. What is the largest rank that fits?

// %%
const myRank: number | undefined = undefined; // your answer here

// %%
const perRank = 32 * 2 * (4096 + 4096) * 2;
judge('Exercise 3', myRank, Math.floor(20e6 / perRank), {
  'That would be right for 4 bytes a number.': Math.floor(20e6 / (2 * perRank)),
  'You counted only one of A and B.': Math.floor(20e6 / (perRank / 2)),
  'You counted one matrix a layer; there are two.': Math.floor((2 * 20e6) / perRank),
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// One unit of rank costs $32 \times 2 \times 8192 \times 2$ bytes, 1.05 MB. So $r = 19$ fits.
//
// </details>

// %% [markdown]
// ## 8. In the interview
//
// **What is PEFT, and why use it?** *(junior)* Training few parameters on a frozen base. It saves gradients and
// optimizer memory (12 of 16 bytes a parameter in 32 bits), storage (MB instead of GB a task), and lets one base serve
// many tasks. It does not shrink the base, nor make a step much faster. Proof: sections 3 and 5.
//
// **LoRA or adapter layers?** *(mid)* Both add a bottleneck. Adapter layers come after a block and have a
// nonlinearity, so they cost time for ever; LoRA is parallel to a weight and linear, so it merges. Proof: the table of
// operations.
//
// **When would you use prompt tuning?** *(mid)* With a very large model that you may not change, many tasks, and little
// storage. On small models it is weak; ours shows it. Ask how large the model is before you answer.
//
// **A colleague says method X is 10 points better than LoRA. What do you ask?** *(senior)* Was the learning rate
// searched for both? How many seeds? Same steps and data? What happened to old skills? Proof: section 4.
//
// ## 9. What to try next
//
// - Give prompt tuning a start from a text: `promptTuningInit: 'TEXT'`.
// - Add a second adapter and activate both: `model.setAdapter(['default', 'second'])`. What is added to what?
// - Try PiSSA: `initLoraWeights: 'pissa'`. Does it learn faster in the first 20 steps?
//
// **Next:** lesson 03 builds LoRA by hand; lesson 04 asks how rank, alpha and the choice of layers matter.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 9 proofs hold.`);
