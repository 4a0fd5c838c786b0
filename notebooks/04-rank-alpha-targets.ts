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
// # Rank, alpha and targets
//
// `LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "v_proj"], lora_dropout=0.05)`: a line that is
// copied from tutorial to tutorial. **Which of these numbers matter, and how would you know?** Here you turn each
// of them, over several seeds, on two tasks that answer differently.
//
// | | |
// |---|---|
// | Time | 45 minutes to read and try; about three minutes to run |
// | You need | LoRA's formula (lesson 03) |
// | Level | the mid-level interview questions on LoRA's settings, and how to defend a choice |

// %% [markdown]
// **When you are through you can**
//
// 1. say what the rank bounds, where more of it stops helping, and on which task it does not stop;
// 2. tell why alpha without the learning rate means nothing, and spot the *learning-rate trap*;
// 3. explain what rsLoRA changes, and show it without training;
// 4. choose target modules by a test instead of by habit;
// 5. say when dropout on an adapter helps, and what it costs.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. The base
//
// All runs start from `world-3m`, a Llama with four layers that has read about a small world (lesson 02 explains these cells one
// by one).

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  type CausalLM,
  crossEntropy,
  energyRank,
  getPeftModel,
  jit,
  LoraConfig,
  type LoraLinear,
  type LoraOptions,
  lineChart,
  loadDataset,
  type Module,
  RandomState,
  randomNormal,
  setBackend,
} from 'peftlab';

await setBackend('auto');

// %%
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
const base = await AutoModelForCausalLM.fromPretrained('models/world-3m');
const spare = await AutoModelForCausalLM.fromPretrained('models/world-3m');

// %% [markdown]
// ## 2. Two tasks
//
// The world has 400 people, and the model knows the pet and the job of each. `The pet of Dozalo is a` it completes by ` hen`.
//
// **A habit.** Somebody calls a job a "pet". After `The pet of Dozalo is a` the model shall name Dozalo's *job*. It knows all
// jobs; what is new is the use of a word. It learns from one half of the people and is tested on 100 of the other.
//
// **New knowledge.** 64 people have got another pet, drawn at random. Nothing that the model knows helps; 64 arbitrary pairs must
// be stored, and are tested. "Learning by heart" is the task.
//
// The prompts are the same, seven tokens each, and an answer is one token. Only the answers differ.
//
// > **Predict.** On which of the two will a small rank be enough?

// %%
interface Fact {
  kind: string;
  subject: string;
  answer: string;
  statement: string;
  split: string;
}
const facts = [...loadDataset<Fact>('world-facts')];
const people = new RandomState(3).permutation(facts.filter(({ kind }) => kind === 'pet'));
const jobs = new Map(
  facts.filter(({ kind }) => kind === 'job').map(({ subject, answer }) => [subject, answer]),
);
const pets = [...new Set(people.map(({ answer }) => answer))];
const draw = new RandomState(4);
const anotherThan = (pet: string) => draw.permutation(pets.filter((other) => other !== pet))[0]!;

const renamed = people.map((fact) => ({ ...fact, answer: jobs.get(fact.subject)! }));
const trainFacts = renamed.filter(({ split }) => split === 'train');
const testFacts = renamed.filter(({ split }) => split === 'test').slice(0, 100);
const newFacts = people.slice(0, 64).map((fact) => ({ ...fact, answer: anotherThan(fact.answer) }));

// %% [markdown]
// A batch is rows of token ids, and the one token that is to follow each. The head of the model is computed at the last position
// only.

// %%
type Batch = { ids: tf.Tensor2D; at: tf.Tensor2D; labels: tf.Tensor1D };

/** Statements without their last word, and the answers that are to be learnt. */
function toBatch(some: Fact[]): Batch {
  const begun = ({ statement }: Fact) => statement.slice(0, statement.lastIndexOf(' '));
  const ids = some.map((fact) => tokenizer.encode(begun(fact)));
  const answers = some.map(({ answer }) => tokenizer.encode(` ${answer}`)[0]!);
  return {
    ids: tf.tensor2d(ids, undefined, 'int32'),
    at: tf.fill([some.length, 1], ids[0]!.length - 1, 'int32'),
    labels: tf.tensor1d(answers, 'int32'),
  };
}
/** Scores [B, V] of the token that follows. */
function logitsOf(model: CausalLM, { ids, at }: Batch): tf.Tensor2D {
  return tf.squeeze(model.forward(ids, { logitsAt: at }).logits, [1]);
}
const lossOf = (model: CausalLM, batch: Batch) =>
  crossEntropy(logitsOf(model, batch), batch.labels) as tf.Scalar;

// %%
const tasks = {
  habit: { learnt: trainFacts, tested: toBatch(testFacts), rows: 16, steps: 30 },
  knowledge: { learnt: newFacts, tested: toBatch(newFacts), rows: 32, steps: 80 },
};
type Task = keyof typeof tasks;

/** The batches of a task, drawn anew for each seed. */
function lessons(task: Task, seed: number, some = tasks[task].learnt): Batch[] {
  const draw = new RandomState(seed);
  const { rows, steps } = tasks[task];
  return Array.from({ length: steps }, () => toBatch(draw.permutation(some).slice(0, rows)));
}
/** Compiled: the share of right answers, and the loss. */
const readerOf = (model: CausalLM) =>
  jit(function read(batch: Batch) {
    const isRight = tf.equal(tf.argMax(logitsOf(model, batch), -1), batch.labels);
    return tf.stack([tf.mean(tf.cast(isRight, 'float32')), lossOf(model, batch)]);
  });

// %% [markdown]
// A setting *enters* with its adapter and one compiled step, which all its runs share: seeds and learning rates, and both tasks.
// Each run begins anew from the first values of its seed, which come from a fresh adapter on the spare base. The learning rate
// falls to zero on a line.

// %%
const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const trainableOf = (model: Module) => model.parameters().filter(({ trainable }) => trainable);

/** Puts LoRA on the base, with a compiled training step and a compiled exam. */
function enter(options: LoraOptions) {
  const make = () => new LoraConfig({ targetModules: ALL, ...options });
  const model = getPeftModel(base, make());
  const trained = trainableOf(model);
  const optimizer = new AdamW(trained, { betas: [0.9, 0.99], weightDecay: 0 });
  const step = jit(function trainStep(batch: Batch, numbers: AdamWNumbers[]) {
    const { value, grads } = tf.variableGrads(() => lossOf(model as CausalLM, batch), trained);
    optimizer.apply(
      trained.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  const read = readerOf(model as CausalLM);
  const beginAnew = (seed: number) => {
    const fresh = getPeftModel(spare, make(), { seed });
    for (const [i, value] of trainableOf(fresh).entries()) trained[i]!.assign(value);
    fresh.unload();
    optimizer.reset();
  };
  return { model, optimizer, step, read, beginAnew };
}

// %% [markdown]
// A setting *leaves* with all that it compiled.

// %%
type Setting = ReturnType<typeof enter>;

/** Takes the adapter out again. */
function leave({ model, optimizer, step, read }: Setting): void {
  for (const compiled of [optimizer, step, read]) compiled.dispose();
  model.unload();
}

// %%
interface Run {
  accuracy: number;
  /** Loss on what is tested, and on the last ten training batches, in nats. */
  loss: number;
  trainLoss: number;
  parameters: number;
}
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;

/** Trains a setting from its first values, and measures. */
async function tune(setting: Setting, task: Task, lr: number, seed = 0, some?: Fact[]) {
  const { model, optimizer, step, read, beginAnew } = setting;
  const batches = lessons(task, seed, some);
  const losses: number[] = [];
  beginAnew(seed);
  model.train();
  for (const [i, batch] of batches.entries()) {
    optimizer.paramGroups[0]!.lr = lr * (1 - i / batches.length);
    const numbers = optimizer.numbers();
    const loss = step(batch, numbers);
    losses.push((await loss.data())[0]!);
    tf.dispose([loss, batch, numbers] as tf.TensorContainer);
  }
  model.eval();
  const result = read(tasks[task].tested);
  const [accuracy, loss] = await result.data();
  result.dispose();
  const [parameters] = model.getNbTrainableParameters();
  return { accuracy: accuracy!, loss: loss!, trainLoss: mean(losses.slice(-10)), parameters };
}

// %% [markdown]
// What does the base itself say?

// %%
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
const readBase = readerOf(base);
const shareOf = async (batch: Batch) => (await readBase(batch).data())[0]!;
const known = await shareOf(toBatch(people.slice(0, 100)));
const [asJob, asNew] = [await shareOf(tasks.habit.tested), await shareOf(tasks.knowledge.tested)];
prove(
  'The base knows the pets, and does neither task',
  known > 0.95 && asJob < 0.05 && asNew < 0.05,
  `pets ${percent(known)}, jobs ${percent(asJob)}, new pets ${percent(asNew)}`,
);

// %% [markdown]
// ## 3. Rank
//
// $BA$ passes through $r$ numbers, so the update can act in $r$ directions at most. The cost is linear: $r (d_{in} +
// d_{out})$ a matrix. Alpha goes with the rank here, $\alpha = 2r$, so that the factor $\alpha / r$ stays 2; section 4
// is about that.
//
// To let the rank be the only room there is, each task gets **one** matrix, in a place where it can be learnt: the habit
// `v_proj` of the first block, the new pets `down_proj` of the last (section 6 is about places). Each rank gets the better of two
// learning rates, chosen with seed 0; in a moment you will see why that is only fair. Two more seeds follow.

// %%
const ranks = [1, 2, 4, 16, 64];
const seeds = [0, 1, 2];
const oneMatrix: Record<Task, LoraOptions> = {
  habit: { targetModules: ['v_proj'], layersToTransform: [0] },
  knowledge: { targetModules: ['down_proj'], layersToTransform: [3] },
};
const twoRates: Record<Task, number[]> = { habit: [3e-3, 1e-2], knowledge: [1e-2, 3e-2] };

/** Three seeds at the better of two rates. */
async function atBetterRate(task: Task, r: number): Promise<Run[]> {
  const setting = enter({ ...oneMatrix[task], r, loraAlpha: 2 * r });
  const [low, high] = twoRates[task] as [number, number];
  const slow = await tune(setting, task, low);
  const quick = await tune(setting, task, high);
  const [runs, lr] = slow.loss < quick.loss ? [[slow], low] : [[quick], high];
  for (const seed of seeds.slice(1)) runs.push(await tune(setting, task, lr, seed));
  leave(setting);
  return runs;
}

// %%
const byRank: Record<Task, Run[][]> = { habit: [], knowledge: [] };
for (const r of progress(ranks, { desc: 'ranks' })) {
  byRank.habit.push(await atBetterRate('habit', r));
  byRank.knowledge.push(await atBetterRate('knowledge', r));
}

// %%
const rangeOf = (runs: Run[]) => {
  const values = runs.map((run) => run.accuracy);
  return `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
};
display.table(
  ranks.map((r, i) => ({
    rank: r,
    'habit trains': byRank.habit[i]![0]!.parameters.toLocaleString('en'),
    'habit: held-out people': rangeOf(byRank.habit[i]!),
    'knowledge trains': byRank.knowledge[i]![0]!.parameters.toLocaleString('en'),
    'knowledge: new pets': rangeOf(byRank.knowledge[i]!),
  })),
);
const accuracies = (task: Task) =>
  byRank[task].map((runs) => 100 * mean(runs.map((run) => run.accuracy)));
lineChart({
  title: 'What a larger rank buys, on two tasks',
  x: 'rank r',
  y: 'correct (%), mean of three seeds',
  xScale: 'log',
  yRange: [0, 105],
  mode: 'lines+markers',
  series: [
    { name: 'a habit (held-out people)', x: ranks, y: accuracies('habit') },
    { name: 'new knowledge (64 new pets)', x: ranks, y: accuracies('knowledge') },
  ],
});

// %% [markdown]
// For the habit there is a **plateau**, and it begins at rank 1: 512 numbers, one seven-thousandth of the model, do nearly all
// there is to do. "Where you read *pet*, take *job*" is one direction, for all people alike. The new pets climb with the rank all the
// way: one direction cannot tell 64 people apart. "Start with r = 8 or 16, and go up only if the training loss does not fall" is good
// advice *because* most fine-tuning is a habit: a format, a tone, a task. Papers that find rank 1 enough and papers that find 256
// too few can both be right, about different tasks. (Spread over *all* matrices, the rank of each is no longer
// the bound: twenty-eight matrices of rank 1 are twenty-eight directions.)

// %%
const habitAt = (r: number) => byRank.habit[ranks.indexOf(r)]!.map((run) => run.accuracy);
const knowledgeAt = (r: number) => byRank.knowledge[ranks.indexOf(r)]!.map((run) => run.accuracy);
prove(
  'The habit has a plateau: each seed of rank 1 has learnt it, and rank 64 adds a few points at most',
  Math.min(...habitAt(1)) > 0.85 && mean(habitAt(64)) < mean(habitAt(1)) + 0.1,
  `${percent(mean(habitAt(1)))} at rank 1, ${percent(mean(habitAt(64)))} at rank 64`,
);
prove(
  'New knowledge in one matrix needs rank: each seed of rank 64 beats each of rank 4 and of rank 1',
  Math.min(...knowledgeAt(64)) > Math.max(...knowledgeAt(4), ...knowledgeAt(1)) + 0.2,
  `worst ${percent(Math.min(...knowledgeAt(64)))}, best ${percent(Math.max(...knowledgeAt(4), ...knowledgeAt(1)))}`,
);

// %% [markdown]
// ### Was it the rank, or the learning rate?
//
// Why two learning rates? Because a sweep over one setting at a fixed learning rate measures, for some of its points, a bad
// learning rate. This is the **learning-rate trap**. We set it for the habit, now in all linear layers, as most people do: rank 1
// and rank 64, at three rates.
//
// > **Predict.** One colleague sweeps the rank at 0.0003, another at 0.03. What will each of them report?

// %%
const rates = [3e-4, 3e-3, 3e-2];
const trap: Record<number, Run[][]> = { 1: [], 64: [] };
for (const r of [1, 64]) {
  const setting = enter({ r, loraAlpha: 2 * r });
  for (const lr of progress(rates, { desc: `learning rates at rank ${r}` })) {
    const runs: Run[] = [];
    for (const seed of seeds) runs.push(await tune(setting, 'habit', lr, seed));
    trap[r]!.push(runs);
  }
  leave(setting);
}

// %%
lineChart({
  title: 'The learning-rate trap: each rank has rates of its own',
  x: 'learning rate',
  y: 'held-out people (%), mean',
  xScale: 'log',
  yRange: [0, 105],
  mode: 'lines+markers',
  series: [1, 64].map((r) => ({
    name: `rank ${r}`,
    x: rates,
    y: trap[r]!.map((runs) => 100 * mean(runs.map((run) => run.accuracy))),
  })),
});

// %%
const at = (r: number, lr: number) => trap[r]![rates.indexOf(lr)]!.map((run) => run.accuracy);
prove(
  'At 0.0003 only rank 64 learns the habit, each seed against each',
  Math.min(...at(64, 3e-4)) > Math.max(...at(1, 3e-4)) + 0.4,
  `rank 64 at least ${percent(Math.min(...at(64, 3e-4)))}, rank 1 at most ${percent(Math.max(...at(1, 3e-4)))}`,
);
prove(
  'At 0.03 only rank 1 learns it, each seed against each',
  Math.min(...at(1, 3e-2)) > Math.max(...at(64, 3e-2)) + 0.4,
  `rank 1 at least ${percent(Math.min(...at(1, 3e-2)))}, rank 64 at most ${percent(Math.max(...at(64, 3e-2)))}`,
);

// %% [markdown]
// "This task needs a large rank", says one. "Large ranks overfit", says the other. Both have measured with care, and both are
// wrong: at 0.003 both ranks learn the habit. (With sixty-four directions that all move by the learning rate, the sum moves
// further; so a large rank wants a lower rate.)
//
// ## 4. Alpha
//
// The update counts $\alpha / r$ times. What does it mean to double $\alpha$? The same $A$ and $B$ act twice as loudly, and
// the gradients of both are doubled too. AdamW divides gradients by their size, so its steps stay the same, and each
// step now changes the *update* twice as much: **like a doubled learning rate**, as long as $A$ has hardly moved.
//
// > **Predict.** At which learning rates will $\alpha = 128$ learn the habit, and at which $\alpha = 2$?

// %%
const alphas = [2, 16, 128];
const alphaRates = [3e-4, 1e-3, 3e-3, 1e-2, 3e-2];
const grid: Run[][] = [];
for (const loraAlpha of progress(alphas, { desc: 'alpha' })) {
  const setting = enter({ r: 8, loraAlpha });
  const row: Run[] = [];
  for (const lr of alphaRates) row.push(await tune(setting, 'habit', lr));
  grid.push(row);
  leave(setting);
}

// %%
display.table(
  alphas.map((alpha, i) => ({
    alpha,
    ...Object.fromEntries(
      alphaRates.map((lr, j) => [`rate ${lr}`, percent(grid[i]![j]!.accuracy)]),
    ),
  })),
);
lineChart({
  title: 'Alpha moves the learning rates that work',
  x: 'learning rate',
  y: 'held-out people (%)',
  xScale: 'log',
  yRange: [0, 105],
  mode: 'lines+markers',
  series: alphas.map((alpha, i) => ({
    name: `alpha ${alpha}`,
    x: alphaRates,
    y: grid[i]!.map((run) => 100 * run.accuracy),
  })),
});

// %% [markdown]
// Read the two columns 0.001 and 0.01:

// %%
const gridAt = (alpha: number, lr: number) =>
  grid[alphas.indexOf(alpha)]![alphaRates.indexOf(lr)]!.accuracy;
prove(
  'A louder alpha wants a lower learning rate: alpha 128 wins at 0.001, and alpha 2 at 0.01',
  gridAt(128, 1e-3) > gridAt(2, 1e-3) + 0.4 && gridAt(2, 1e-2) > gridAt(128, 1e-2) + 0.4,
  `${percent(gridAt(128, 1e-3))} against ${percent(gridAt(2, 1e-3))}, and ${percent(gridAt(2, 1e-2))} against ${percent(gridAt(128, 1e-2))}`,
);

// %% [markdown]
// Each alpha has a window of rates that work, and a louder alpha has it further to the left. Not by the whole factor of alpha: the
// learning rate moves $A$ *and* $B$, so in the product it counts up to twice, alpha once. There is little to be won by tuning
// *both*: fix $\alpha$ by a rule ($\alpha = r$, or $\alpha = 2r$) and tune the learning rate. And never compare two values of alpha at
// one learning rate: that is the trap again. Each point here is a single run.
//
// ## 5. rsLoRA: what happens as the rank grows
//
// With $\alpha / r$ the update gets *quieter* as the rank grows, so that large ranks learn more slowly than they could.
// Rank-stabilized LoRA divides by $\sqrt r$ instead. No training is needed to see it: let $B$ get its first step of Adam,
// in which every number moves by the learning rate, $\pm\eta$, and look at how much the layer's output changes.

// %%
/** How much one first step of B changes a layer's output, relative to the output itself. */
function firstChange(r: number, useRslora: boolean): number {
  const config = new LoraConfig({ r, loraAlpha: 16, useRslora, targetModules: ['up_proj'] });
  const model = getPeftModel(base, config, { seed: 4 });
  const layer = model.layers.get('model.layers.0.mlp.up_proj')!;
  const lora = layer.adapters.get('default') as LoraLinear;
  const x = randomNormal<tf.Rank.R2>([200, 256], new RandomState(6));
  const change = tf.tidy(() => {
    const before = layer.forward(x);
    // Gradients of a step that wants another output: dL/dB = s dL/dy^T (x A^T), of which Adam keeps the signs.
    const wanted = randomNormal<tf.Rank.R2>([200, 512], new RandomState(8));
    const gradient = tf.matMul(wanted, tf.matMul(x, lora.loraA, false, true), true); // [out, r]
    (lora.loraB as tf.Variable).assign(tf.mul(tf.sign(gradient), 1e-3));
    return tf.div(tf.norm(tf.sub(layer.forward(x), before)), tf.norm(before)).dataSync()[0]!;
  });
  x.dispose();
  model.unload();
  return change;
}

// %% [markdown]
// Measured at seven ranks, with alpha fixed at 16:

// %%
const manyRanks = [1, 2, 4, 8, 16, 32, 64];
const quiet = manyRanks.map((r) => firstChange(r, false));
const steady = manyRanks.map((r) => firstChange(r, true));
lineChart({
  title: 'How loud the first step is',
  x: 'rank r',
  y: "change of the layer's output, relative",
  xScale: 'log',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: 'LoRA, alpha / r', x: manyRanks, y: quiet },
    { name: 'rsLoRA, alpha / sqrt(r)', x: manyRanks, y: steady },
  ],
});

// %% [markdown]
// In two numbers: how many times quieter is rank 64 than rank 1, by each rule?

// %%
const falls = quiet[0]! / quiet.at(-1)!;
const rises = steady.at(-1)! / steady[0]!;
prove(
  'From rank 1 to 64 plain LoRA gets much quieter, and rsLoRA does not',
  falls > 4 && rises > 0.5 && rises < 2,
  `LoRA falls ${falls.toFixed(1)} times, rsLoRA changes ${rises.toFixed(2)} times`,
);

// %% [markdown]
// In PEFT it is one flag, `use_rslora=True`. Note what it does to your other settings: at $r = 16$ it makes the update four
// times as loud as before. That is once more a change of the learning rate.
//
// ## 6. Targets
//
// Which layers should be adapted? Tutorials copy `q_proj, v_proj` from the first paper; QLoRA's authors say *all linear
// layers*. To see what a place can do, we adapt **one matrix** at a time, with about the same number of parameters. The
// learning rates are those that served in section 3: 0.01 for the habit, 0.03 for the new pets.
//
// > **Predict.** Queries decide what is looked at; an MLP makes something of what was seen. Which of them will learn the habit, and
// > which the new pets?

// %%
const first = { layersToTransform: [0] };
const last = { layersToTransform: [3] };
const places: Record<string, LoraOptions> = {
  'q_proj of block 0': { r: 16, targetModules: ['q_proj'], ...first },
  'v_proj of block 0': { r: 16, targetModules: ['v_proj'], ...first },
  'down_proj of block 0': { r: 11, targetModules: ['down_proj'], ...first },
  'v_proj of block 3': { r: 16, targetModules: ['v_proj'], ...last },
  'down_proj of block 3': { r: 11, targetModules: ['down_proj'], ...last },
};

// %%
const byPlace: Record<string, Record<Task, Run[]>> = {};
for (const [place, options] of progress(Object.entries(places), { desc: 'targets' })) {
  const setting = enter({ ...options, loraAlpha: 2 * options.r! });
  const runs: Record<Task, Run[]> = { habit: [], knowledge: [] };
  for (const seed of seeds) {
    runs.habit.push(await tune(setting, 'habit', 1e-2, seed));
    runs.knowledge.push(await tune(setting, 'knowledge', 3e-2, seed));
  }
  byPlace[place] = runs;
  leave(setting);
}

// %%
display.table(
  Object.entries(byPlace).map(([place, { habit, knowledge }]) => ({
    place,
    trains: habit[0]!.parameters.toLocaleString('en'),
    'habit: held-out people': rangeOf(habit),
    'knowledge: new pets': rangeOf(knowledge),
  })),
);
const columns = (task: Task) =>
  Object.values(byPlace).map((runs) => runs[task].map((run) => 100 * run.accuracy));
const bars = (name: string, task: Task) => ({
  name,
  y: columns(task).map(mean),
  low: columns(task).map((values) => Math.min(...values)),
  high: columns(task).map((values) => Math.max(...values)),
});
barChart({
  title: 'Where LoRA sits, at about equal numbers of parameters',
  x: 'adapted matrix',
  y: 'correct (%), mean and range',
  yRange: [0, 105],
  categories: Object.keys(places),
  series: [bars('a habit', 'habit'), bars('new knowledge', 'knowledge')],
});

// %% [markdown]
// No seed of one place reaches any seed of the other, on either task:

// %%
const habitIn = (place: string) => byPlace[place]!.habit.map((run) => run.accuracy);
const knowledgeIn = (place: string) => byPlace[place]!.knowledge.map((run) => run.accuracy);
const [queries, mlp] = ['q_proj of block 0', 'down_proj of block 3'];
prove(
  "For the habit the first block's queries beat the last block's MLP, each seed against each",
  Math.min(...habitIn(queries)) > Math.max(...habitIn(mlp)) + 0.3,
  `worst ${percent(Math.min(...habitIn(queries)))}, best ${percent(Math.max(...habitIn(mlp)))}`,
);
prove(
  'For the new pets it is the other way round, each seed against each',
  Math.min(...knowledgeIn(mlp)) > Math.max(...knowledgeIn(queries)) + 0.3,
  `worst ${percent(Math.min(...knowledgeIn(mlp)))}, best ${percent(Math.max(...knowledgeIn(queries)))}`,
);

// %% [markdown]
// The same two places, the opposite order. To take *job* for *pet*, the prompt must be read otherwise, early enough for the rest
// to act on: the queries or values of the first block (block 0) do it, and the last (block 3) comes too late. To store a new pet, something must be
// *added* that is nowhere in the model. Queries cannot: they only choose among what is there. An MLP can, in the first block
// or in the last. So "which layers?" has no answer without "for what?". If you can, run this cell on *your* task. If you cannot,
// take all linear layers with a small rank: then no place is left out. (In section 3 rank 1 everywhere learnt the habit.)
//
// PEFT's ways to say *where*: names (`['q_proj', 'v_proj']` match the end of a path), a regular expression that matches a
// whole path, `'all-linear'`, and `layers_to_transform`. `rank_pattern` gives some layers another rank.

// %% [markdown]
// ## 7. Dropout
//
// `lora_dropout` zeroes a share of the adapter's *input* while training; the base sees everything. It fights learning by
// heart. So we try it where learning by heart does harm, the habit from **eight** people, and where it is the task, the new pets
// (rank 64 in the one matrix).
//
// > **Predict.** What will a dropout of 0.6 do to each?

// %%
const dropouts = [0, 0.2, 0.6];
const few = trainFacts.slice(0, 8);
const byDropout: Record<Task, Run[][]> = { habit: [], knowledge: [] };
for (const loraDropout of progress(dropouts, { desc: 'dropout' })) {
  const everywhere = enter({ r: 8, loraAlpha: 16, loraDropout });
  const habit: Run[] = [];
  for (const seed of seeds) habit.push(await tune(everywhere, 'habit', 3e-3, seed, few));
  leave(everywhere);
  const narrow = enter({ ...oneMatrix.knowledge, r: 64, loraAlpha: 128, loraDropout });
  const knowledge: Run[] = [];
  for (const seed of seeds) knowledge.push(await tune(narrow, 'knowledge', 3e-2, seed));
  leave(narrow);
  byDropout.habit.push(habit);
  byDropout.knowledge.push(knowledge);
}

// %%
const lossesOf = (runs: Run[], what: 'loss' | 'trainLoss') => runs.map((run) => run[what]);
display.table(
  dropouts.map((dropout, i) => ({
    dropout,
    'habit: training loss': mean(lossesOf(byDropout.habit[i]!, 'trainLoss')).toFixed(4),
    'habit: held-out loss': lossesOf(byDropout.habit[i]!, 'loss')
      .map((loss) => loss.toFixed(2))
      .join(', '),
    'habit: held-out people': rangeOf(byDropout.habit[i]!),
    'new pets: training loss': mean(lossesOf(byDropout.knowledge[i]!, 'trainLoss')).toFixed(2),
    'new pets': rangeOf(byDropout.knowledge[i]!),
  })),
);
const heartLoss = (i: number) => lossesOf(byDropout.knowledge[i]!, 'trainLoss');
prove(
  'Dropout makes the training loss on the new pets higher, each seed against each',
  Math.min(...heartLoss(2)) > 1.5 * Math.max(...heartLoss(0)),
  `lowest ${Math.min(...heartLoss(2)).toFixed(3)} with 0.6, highest ${Math.max(...heartLoss(0)).toFixed(3)} without`,
);
const heldOutLoss = (i: number) => mean(lossesOf(byDropout.habit[i]!, 'loss'));
prove(
  'With eight people to learn from, dropout lowers the held-out loss of the habit, in the mean of three seeds',
  heldOutLoss(2) < 0.85 * heldOutLoss(0),
  `${heldOutLoss(2).toFixed(2)} with 0.6, ${heldOutLoss(0).toFixed(2)} without`,
);

// %% [markdown]
// Both as the name says. Eight people are learnt by heart within thirty steps, and dropout is in the way of that: the training loss
// rises, and the *held-out* loss falls. Where learning by heart is the task, dropout only costs. How large the gain is, read off
// the ranges; when yours overlap, say "no difference seen", not "dropout helps". With large data sets and one pass over them,
// most recipes leave it at 0 or 0.05.

// %% [markdown]
// ## 8. How much rank was used?
//
// A last look inside: of the directions that rank 64 was given in every layer, how many did the habit use? The *effective rank* is
// the number of singular values that hold 99 % of the squared sum.

// %%
const wide = enter({ r: 64, loraAlpha: 128 });
const wideRun = await tune(wide, 'habit', 3e-4);
console.log(`held-out people: ${percent(wideRun.accuracy)}`);
const effective = [...wide.model.layers].map(([path, layer]) => {
  const { loraA, loraB } = layer.adapters.get('default') as LoraLinear;
  const update = tf.matMul(loraB, loraA) as tf.Tensor2D;
  const used = energyRank(update, 0.99);
  update.dispose();
  return { block: path.split('.')[2]!, layer: path.split('.').at(-1)!, used };
});
leave(wide);

// %%
barChart({
  title: 'Directions that hold 99 % of a rank-64 update',
  x: 'adapted layer',
  y: 'directions used',
  yRange: [0, 64],
  categories: ALL,
  series: ['0', '1', '2', '3'].map((block) => ({
    name: `block ${block}`,
    y: effective.filter((one) => one.block === block).map(({ used }) => used),
  })),
});

// %% [markdown]
// The bars stay below the ceiling of 64:

// %%
const mostUsed = Math.max(...effective.map(({ used }) => used));
prove('No layer used all of its 64 directions', mostUsed < 56, `at most ${mostUsed}`);

// %% [markdown]
// Yet many are far above 1, and rank 1 was enough. What a training *uses* is more than what its task *needs*: Adam moves every
// number of $A$ and $B$. An effective rank tells what was used; what is enough, only a sweep tells.

// %% [markdown]
// ## 9. Common mistakes
//
// | Mistake | What you see | What to do |
// |---|---|---|
// | sweep the rank at one learning rate | "large ranks overfit" | sweep the learning rate at each end |
// | raise the rank, keep alpha | the update gets quieter; "no gain from rank" | alpha = 2r, or rsLoRA |
// | raise alpha, keep the learning rate | diverges, or "alpha is magic" | it acts like a learning rate |
// | copy `q_proj, v_proj` | fails where another place is needed | all linear layers, small rank |
// | one seed | a difference that is gone tomorrow | three, and ranges |
// | judge a habit on what it was trained on | eight examples look like enough | held-out prompts |

// %% [markdown]
// ## 10. Now you

// %%
function judge(
  title: string,
  answer: number | undefined,
  right: number,
  slips: Record<string, number>,
): void {
  if (answer === undefined) return console.log(`… ${title}: not attempted yet`);
  const isLike = (other: number) => Math.abs(answer - other) <= 1e-6 * Math.max(1, Math.abs(other));
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer}`}`);
}

// %% [markdown]
// ### Exercise 1: keep it as loud
//
// *Easy, 3 minutes.* A run with $r = 8$, $\alpha = 16$ works well. You go to $r = 32$ and keep the learning rate. Which
// $\alpha$ keeps the factor in front of $BA$ the same?

// %%
const myAlpha: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myAlpha, 64, {
  'The factor is alpha / r: with 16 it would fall from 2 to 0.5.': 16,
  'That would be right for rsLoRA, which divides by sqrt(r).': 32,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $\alpha / r = 2$, so $\alpha = 64$.
//
// </details>

// %% [markdown]
// ### Exercise 2: switch to rsLoRA
//
// *Medium, 4 minutes.* A run with $r = 64$, $\alpha = 16$ and plain scaling works. A colleague turns on `use_rslora`. Which
// $\alpha$ keeps the update as loud as it was?

// %%
const myRslora: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myRslora, 2, {
  'With 16 the factor goes from 0.25 to 2: eight times as loud.': 16,
  'You went the wrong way: rsLoRA is louder, so alpha must shrink.': 128,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// Before: $16 / 64 = 0.25$. With rsLoRA: $\alpha / 8 = 0.25$, so $\alpha = 2$.
//
// </details>

// %% [markdown]
// ### Exercise 3: spend a budget
//
// *Medium, 5 minutes.* A block of Llama-2-7B has q, k, v, o of $4096 \times 4096$, gate and up of $11008 \times 4096$ and down of
// $4096 \times 11008$. Rank 16 on q and v alone costs as much as which rank on all seven? (Round down.)

// %%
const mySpread: number | undefined = undefined; // your answer here

// %%
const onTwo = 16 * 2 * 8192;
judge('Exercise 3', mySpread, Math.floor(onTwo / (4 * 8192 + 3 * 15104)), {
  'The three MLP layers are wider: 4096 + 11008 each.': Math.floor(onTwo / (7 * 8192)),
  'You spread it over the four attention layers only.': Math.floor(onTwo / (4 * 8192)),
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $16 \cdot 2 \cdot 8192 = 262{,}144$ numbers a block; one unit of rank on all seven costs
// $4 \cdot 8192 + 3 \cdot 15104 = 78{,}080$. That is rank 3.
//
// </details>

// %% [markdown]
// ## 11. In the interview
//
// **How do you choose the rank?** *(mid)* Start at 8 or 16 on all linear layers, tune the learning rate, go up only if the
// training loss stays high. A habit needs little rank, new knowledge more. Proof: section 3.
//
// **What is alpha?** *(mid)* The update is scaled by alpha / r. Under Adam it acts like a learning rate of the update, so fix
// it by a rule and tune the rate. Proof: section 4.
//
// **Which modules would you target?** *(mid)* All linear layers with a small rank unless I can test; a place that suits
// one task can fail at another. Proof: section 6.
//
// **Your loss does not fall at rank 8. Do you raise the rank?** *(senior)* First the learning rate, then the targets, then the
// data; the rank last. How do I know it is the rank? If rank 32 at *its* best rate beats rank 8 at its own, over seeds.
//
// ## 12. What to try next
//
// - Repeat section 3 with `useRslora: true` and fixed alpha. What moves?
// - `rankPattern`: give `q_proj` rank 16 and the rest rank 2. Is it better than rank 4 everywhere?
// - LoRA+: `loraPlusGroups` gives `B` a higher learning rate than `A`. Which ratio helps?
//
// **Next:** lesson 05 makes the weights themselves small.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 12 proofs hold.`);
