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
// | Time | 45 minutes to read and try; about two minutes to run |
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
// ## 1. The same world
//
// A small Llama that has read 240 facts as statements, and questions without answers (lesson 02 explains these
// cells one by one).

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  barChart,
  type CausalLM,
  crossEntropy,
  fromConfig,
  getPeftModel,
  jit,
  LoraConfig,
  type LoraLinear,
  type LoraOptions,
  lineChart,
  llamaConfig,
  loadDataset,
  RandomState,
  randomNormal,
  setBackend,
  singularValues,
} from 'peftlab';

await setBackend('auto');

// %% [markdown]
// The world is the one of the first lesson: statements, questions, and their answers.

// %%
interface Fact {
  kind: string;
  answer: string;
  statement: string;
  question: string;
  split: string;
}
const world = loadDataset<Fact>('small-world');
const facts = [...world];
const vocabulary = [
  ...new Set(facts.flatMap((fact) => `${fact.statement} ${fact.question}`.split(' '))),
];
const idOf = new Map(vocabulary.map((word, id) => [word, id]));
const encode = (text: string) => text.split(' ').map((word) => idOf.get(word)!);

// %%
const firstValues = new RandomState(1);
const base = fromConfig(
  llamaConfig({
    vocabSize: vocabulary.length,
    hiddenSize: 64,
    intermediateSize: 128,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    maxPositionEmbeddings: 64,
  }),
  {
    init: (shape) => {
      const std = shape[0] === vocabulary.length ? 0.1 : 1 / Math.sqrt(shape[1]!);
      return randomNormal(shape, firstValues, { std });
    },
  },
);

// %% [markdown]
// A batch is rows of word numbers, and beside each word the one to be predicted; -100 marks what does not
// count.

// %%
interface Batch {
  ids: tf.Tensor2D;
  labels: tf.Tensor2D;
}
/** Rows of ids; in each row the last `counted` words are to be learnt. */
function toBatch(rows: number[][], counted = Number.POSITIVE_INFINITY): Batch {
  const time = Math.max(...rows.map((row) => row.length)) - 1;
  const steps = [...Array(time).keys()];
  const ids = rows.map((row) => steps.map((t) => row[t] ?? 0));
  const labels = rows.map((row) =>
    steps.map((t) => (t + 1 < row.length && t + 1 >= row.length - counted ? row[t + 1]! : -100)),
  );
  return {
    ids: tf.tensor2d(ids, undefined, 'int32'),
    labels: tf.tensor2d(labels, undefined, 'int32'),
  };
}
function lossOf(model: CausalLM, { ids, labels }: Batch): tf.Scalar {
  const flat = tf.reshape(model.forward(ids).logits, [-1, vocabulary.length]);
  return crossEntropy(flat, tf.reshape(labels, [-1])) as tf.Scalar;
}

// %%
/** Trains what is trainable with AdamW, in compiled steps; the loss of each step. */
async function train(model: CausalLM, batches: Iterable<Batch>, lr: number): Promise<number[]> {
  const trained = model.parameters().filter(({ trainable }) => trainable);
  const optimizer = new AdamW(trained, { lr, betas: [0.9, 0.99], weightDecay: 0 });
  const step = jit((batch: Batch, numbers: AdamWNumbers[]) => {
    const { value, grads } = tf.variableGrads(() => lossOf(model, batch), trained);
    optimizer.apply(
      trained.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  const losses: number[] = [];
  model.train();
  for (const batch of batches) {
    const numbers = optimizer.numbers();
    const loss = step(batch, numbers);
    losses.push((await loss.data())[0]!);
    tf.dispose([loss, batch.ids, batch.labels]);
    tf.dispose(numbers);
  }
  model.eval();
  step.dispose();
  optimizer.dispose();
  return losses;
}

// %%
const pages = (lines: string[]) =>
  Array.from({ length: lines.length / 3 }, (_, i) => lines.slice(3 * i, 3 * i + 3).join(' '));

/** Pages of statements and pages of questions, in random order, for ever. */
function* endlessText(draw: RandomState): Generator<number, never> {
  for (;;) {
    const statements = draw.permutation(facts.map((fact) => fact.statement));
    const questions = draw.permutation(facts.map((fact) => fact.question)).slice(0, 96);
    for (const page of draw.permutation([...pages(statements), ...pages(questions)])) {
      yield* encode(page);
    }
  }
}
function* reading(text: Generator<number, never>, steps: number): Generator<Batch> {
  const row = () => Array.from({ length: 17 }, () => text.next().value);
  for (let step = 0; step < steps; step++) yield toBatch(Array.from({ length: 32 }, row));
}
const text = endlessText(new RandomState(2));
const fast = progress(reading(text, 600), { total: 600, desc: 'pretraining, fast' });
const fine = progress(reading(text, 200), { total: 200, desc: 'pretraining, fine' });
const pretraining = [...(await train(base, fast, 4e-3)), ...(await train(base, fine, 1e-3))];
console.log(`loss ${pretraining.at(-1)!.toFixed(3)} after ${pretraining.length} steps`);

// %%
function accuracy(model: CausalLM, some: Fact[], promptOf: (fact: Fact) => string): number {
  const rows = some.map((fact) => encode(promptOf(fact)));
  const time = Math.max(...rows.map((row) => row.length));
  const padded = rows.map((row) => [...row, ...Array<number>(time - row.length).fill(0)]);
  const best = tf.tidy(() =>
    tf.argMax(model.forward(tf.tensor2d(padded, undefined, 'int32')).logits, -1).dataSync(),
  );
  const words = rows.map((row, i) => vocabulary[best[i * time + row.length - 1]!]);
  return words.filter((word, i) => word === some[i]!.answer).length / some.length;
}
const begun = (fact: Fact) => fact.statement.split(' ').slice(0, -2).join(' ');
const asked = (fact: Fact) => fact.question;
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;

const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
prove(
  'The base completes its statements and answers no question',
  accuracy(base, facts, begun) > 0.95 && accuracy(base, facts, asked) < 0.05,
  `${percent(accuracy(base, facts, begun))} and ${percent(accuracy(base, facts, asked))}`,
);

// %% [markdown]
// ## 2. Two tasks
//
// **A habit.** After a question, give the answer. The model knows all answers; it learns to give them on 120 facts
// and is tested on the other 120.
//
// **New knowledge.** The world was wrong: all 80 capitals are shuffled among the lands. `the capital of France is` must
// now be completed by another town. Nothing that the model knows helps; 80 arbitrary pairs must be stored, and are
// tested. "Learning by heart" is the task.
//
// > **Predict.** On which of the two will a small rank be enough?

// %%
const trainFacts = [...world.filter((fact) => fact.split === 'train').shuffle({ seed: 5 })];
const testFacts = facts.filter((fact) => fact.split === 'test');
const capitals = facts.filter((fact) => fact.kind === 'capital');
const towns = new RandomState(3).permutation(capitals.map((fact) => fact.answer));
const newFacts = capitals.map((fact, i) => ({ ...fact, answer: towns[i]! }));

const tasks = {
  habit: { learnt: trainFacts, tested: testFacts, promptOf: asked },
  knowledge: { learnt: newFacts, tested: newFacts, promptOf: begun },
};
type Task = keyof typeof tasks;

// %% [markdown]
// The two tasks are trained by the same code; only facts and prompts differ.

// %%
/** Prompts with answers; only the answer and its full stop count in the loss. */
function* lessons({
  task,
  some,
  steps,
  draw,
}: {
  task: Task;
  some: Fact[];
  steps: number;
  draw: RandomState;
}): Generator<Batch> {
  const { promptOf } = tasks[task];
  for (let i = 0; i < steps; i++) {
    const batch = draw.permutation(some).slice(0, 40);
    yield toBatch(
      batch.map((fact) => encode(`${promptOf(fact)} ${fact.answer} .`)),
      2,
    );
  }
}

// %%
interface Run {
  accuracy: number;
  loss: number;
  parameters: number;
}
const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

/** Tunes the base with LoRA on a task, measures, and takes the adapter out again. */
async function tune(
  task: Task,
  options: LoraOptions,
  { lr = 1e-3, seed = 0, some = tasks[task].learnt } = {},
): Promise<Run> {
  const { tested, promptOf } = tasks[task];
  const model = getPeftModel(base, new LoraConfig({ targetModules: ALL, ...options }), { seed });
  const losses = await train(
    model,
    lessons({ task, some, steps: 200, draw: new RandomState(seed) }),
    lr,
  );
  const run = {
    accuracy: accuracy(model, tested, promptOf),
    loss: mean(losses.slice(-20)),
    parameters: model.getNbTrainableParameters()[0],
  };
  model.unload();
  return run;
}
const seeds = [0, 1, 2];

// %% [markdown]
// ## 3. Rank
//
// $BA$ passes through $r$ numbers, so the update can act in $r$ directions at most. The cost is linear: $r (d_{in} +
// d_{out})$ a matrix. Alpha goes with the rank here, $\alpha = 2r$, so that the factor $\alpha / r$ stays 2; section 4
// is about that.
//
// The habit may use all linear layers. The new capitals must go into **one** matrix, the last block's `down_proj`: then
// its rank is the only room there is. They get the better of two learning rates at every rank; in a moment you will see
// why that is only fair.

// %%
const ranks = [1, 2, 4, 8, 16, 64];
const oneMatrix: LoraOptions = { targetModules: ['down_proj'], layersToTransform: [1] };
const byRank: Record<Task, Run[][]> = { habit: [], knowledge: [] };
for (const r of progress(ranks, { desc: 'ranks' })) {
  const [habit, knowledge]: [Run[], Run[]] = [[], []];
  for (const seed of seeds) {
    habit.push(await tune('habit', { r, loraAlpha: 2 * r }, { seed }));
    const slow = await tune('knowledge', { ...oneMatrix, r, loraAlpha: 2 * r }, { seed, lr: 3e-3 });
    const quick = await tune(
      'knowledge',
      { ...oneMatrix, r, loraAlpha: 2 * r },
      { seed, lr: 1e-2 },
    );
    knowledge.push(slow.accuracy > quick.accuracy ? slow : quick);
  }
  byRank.habit.push(habit);
  byRank.knowledge.push(knowledge);
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
    'habit: held-out questions': rangeOf(byRank.habit[i]!),
    'knowledge trains': byRank.knowledge[i]![0]!.parameters.toLocaleString('en'),
    'knowledge: new capitals': rangeOf(byRank.knowledge[i]!),
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
    { name: 'a habit (held-out questions)', x: ranks, y: accuracies('habit') },
    { name: 'new knowledge (80 new capitals)', x: ranks, y: accuracies('knowledge') },
  ],
});

// %% [markdown]
// For the habit there is a **plateau**: a small rank does all there is to do, and more numbers bring nothing, or a
// little harm. The new capitals go from none to all between rank 1 and rank 16: one direction cannot tell 80 lands apart.
// "Start with r = 8 or 16, and go up only if the training loss does not fall" is good advice *because* most fine-tuning is
// a habit: a format, a tone, a task. Papers that find rank 1 enough and papers that find 256 too few can both be
// right, about different tasks. (Spread over *all* matrices, even rank 1 stores most of the capitals here: fourteen
// matrices are fourteen directions. Try it.)

// %%
const habitAt = (r: number) => byRank.habit[ranks.indexOf(r)]!.map((run) => run.accuracy);
const knowledgeAt = (r: number) => byRank.knowledge[ranks.indexOf(r)]!.map((run) => run.accuracy);
prove(
  'The habit has a plateau: rank 64 is not better than rank 4',
  mean(habitAt(64)) < mean(habitAt(4)) + 0.02,
  `${percent(mean(habitAt(4)))} at rank 4, ${percent(mean(habitAt(64)))} at rank 64`,
);
prove(
  'New knowledge in one matrix needs rank: each seed of rank 16 beats each of rank 4 and of rank 1',
  Math.min(...knowledgeAt(16)) > Math.max(...knowledgeAt(4), ...knowledgeAt(1)) + 0.3,
  `worst ${percent(Math.min(...knowledgeAt(16)))}, best ${percent(Math.max(...knowledgeAt(4), ...knowledgeAt(1)))}`,
);

// %% [markdown]
// ### Was it the rank, or the learning rate?
//
// At rank 64 the habit may have got *worse*. Before you write "large ranks overfit" in a report, turn the other knob.
// This is the **learning-rate trap**: a sweep over one setting at a fixed learning rate measures, for some of its
// points, a bad learning rate.
//
// > **Predict.** Will rank 64 do better with a third of the learning rate, with three times it, or is 0.001 best?

// %%
const rates = [3e-4, 1e-3, 3e-3, 1e-2];
const trap: Record<number, number[]> = { 2: [], 64: [] };
for (const r of [2, 64]) {
  for (const lr of progress(rates, { desc: `learning rates at rank ${r}` })) {
    const runs: number[] = [];
    for (const seed of seeds) {
      runs.push((await tune('habit', { r, loraAlpha: 2 * r }, { lr, seed })).accuracy);
    }
    trap[r]!.push(mean(runs));
  }
}

// %%
lineChart({
  title: 'The learning-rate trap: each rank has its own best rate',
  x: 'learning rate',
  y: 'held-out questions (%), mean of three seeds',
  xScale: 'log',
  yRange: [0, 105],
  mode: 'lines+markers',
  series: [2, 64].map((r) => ({
    name: `rank ${r}`,
    x: rates,
    y: trap[r]!.map((share) => 100 * share),
  })),
});

// %% [markdown]
// Each rank at its own best rate, and rank 64 at one that is too high for it:

// %%
const bestOf = (r: number) => Math.max(...trap[r]!);
const rateOf = (r: number) => rates[trap[r]!.indexOf(bestOf(r))]!;
console.log(`rank 2: best ${percent(bestOf(2))} at ${rateOf(2)}`);
console.log(`rank 64: best ${percent(bestOf(64))} at ${rateOf(64)}`);
const at = (r: number, lr: number) => trap[r]![rates.indexOf(lr)]!;
prove(
  'At 0.01 rank 64 looks useless, and at its own rate it is as good as rank 2',
  at(64, 1e-2) < 0.6 && bestOf(64) > bestOf(2) - 0.05,
  `${percent(at(64, 1e-2))} and ${percent(bestOf(64))}, rank 2 ${percent(bestOf(2))}`,
);

// %% [markdown]
// ## 4. Alpha
//
// The update counts $\alpha / r$ times. What does it mean to double $\alpha$? The same $A$ and $B$ act twice as loudly, and
// the gradients of both are doubled too. AdamW divides gradients by their size, so its steps stay the same, and each
// step now changes the *update* twice as much: **like a doubled learning rate**, nearly.
//
// > **Predict.** Take $\alpha = 64$ and a learning rate of 0.0005 in the place of $\alpha = 16$ and 0.002. Same result?

// %%
const alphas = [2, 8, 32, 128];
const alphaRates = [2.5e-4, 1e-3, 4e-3, 1.6e-2];
const grid: number[][] = [];
for (const alpha of progress(alphas, { desc: 'alpha' })) {
  const row: number[] = [];
  for (const lr of alphaRates)
    row.push((await tune('habit', { r: 8, loraAlpha: alpha }, { lr })).accuracy);
  grid.push(row);
}

// %%
display.table(
  alphas.map((alpha, i) => ({
    alpha,
    ...Object.fromEntries(alphaRates.map((lr, j) => [`rate ${lr}`, percent(grid[i]![j]!)])),
  })),
);
lineChart({
  title: 'Alpha moves the best learning rate',
  x: 'learning rate',
  y: 'held-out questions (%)',
  xScale: 'log',
  yRange: [0, 105],
  mode: 'lines+markers',
  series: alphas.map((alpha, i) => ({
    name: `alpha ${alpha}`,
    x: alphaRates,
    y: grid[i]!.map((share) => 100 * share),
  })),
});

// %% [markdown]
// Where is the top of each curve?

// %%
const bestRateFor = (i: number) => alphaRates[grid[i]!.indexOf(Math.max(...grid[i]!))]!;
prove(
  'A louder alpha wants a lower learning rate',
  bestRateFor(0) > bestRateFor(3),
  `alpha 2: ${bestRateFor(0)}, alpha 128: ${bestRateFor(3)}`,
);

// %% [markdown]
// The curves are one curve, shifted. So there is little to be won by tuning *both*: fix $\alpha$ by a rule ($\alpha = r$,
// or $\alpha = 2r$) and tune the learning rate. And never compare two values of alpha at one learning rate: that is the trap
// again. Each point here is a single run.
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
  const x = randomNormal<tf.Rank.R2>([200, 64], new RandomState(6));
  const change = tf.tidy(() => {
    const before = layer.forward(x);
    // Gradients of a step that wants another output: dL/dB = s dL/dy^T (x A^T), of which Adam keeps the signs.
    const wanted = randomNormal<tf.Rank.R2>([200, 128], new RandomState(8));
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
// layers*. We give each choice about the same number of parameters, so that only the *place* differs. The learning rate is
// 0.001 for both tasks, at which the new capitals are not all learnt in time: at 0.003 every place gets all of them, and a
// ceiling hides differences.

// %%
const places: Record<string, LoraOptions> = {
  'queries and values': { r: 16, targetModules: ['q_proj', 'v_proj'] },
  'all of attention': { r: 8, targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj'] },
  'MLP only': { r: 7, targetModules: ['gate_proj', 'up_proj', 'down_proj'] },
  'all linear layers': { r: 4, targetModules: ALL },
  'block 0 only': { r: 8, targetModules: ALL, layersToTransform: [0] },
  'block 1 only': { r: 8, targetModules: ALL, layersToTransform: [1] },
};
const byPlace: Record<string, Record<Task, Run[]>> = {};
for (const [place, options] of progress(Object.entries(places), { desc: 'targets' })) {
  const [habit, knowledge]: [Run[], Run[]] = [[], []];
  for (const seed of seeds) {
    const own = { ...options, loraAlpha: 2 * options.r! };
    habit.push(await tune('habit', own, { seed }));
    knowledge.push(await tune('knowledge', own, { seed }));
  }
  byPlace[place] = { habit, knowledge };
}

// %%
display.table(
  Object.entries(byPlace).map(([place, { habit, knowledge }]) => ({
    place,
    trains: habit[0]!.parameters.toLocaleString('en'),
    'habit: held-out questions': rangeOf(habit),
    'knowledge: new capitals': rangeOf(knowledge),
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
  x: 'adapted layers',
  y: 'correct (%), mean and range of three seeds',
  yRange: [0, 105],
  categories: Object.keys(places),
  series: [bars('a habit', 'habit'), bars('new knowledge', 'knowledge')],
});

// %%
const habitIn = (place: string) => byPlace[place]!.habit.map((run) => run.accuracy);
prove(
  'For the habit, attention beats the MLP at equal numbers, each seed against each',
  Math.min(...habitIn('all of attention')) > Math.max(...habitIn('MLP only')) + 0.3,
  `worst ${percent(Math.min(...habitIn('all of attention')))}, best ${percent(Math.max(...habitIn('MLP only')))}`,
);
prove(
  'The first block alone is enough, and the last alone is not',
  Math.min(...habitIn('block 0 only')) > Math.max(...habitIn('block 1 only')) + 0.3,
  `worst ${percent(Math.min(...habitIn('block 0 only')))}, best ${percent(Math.max(...habitIn('block 1 only')))}`,
);

const knowledgeIn = (place: string) => byPlace[place]!.knowledge.map((run) => run.accuracy);
prove(
  'For the new capitals the MLP beats queries and values, each seed against each',
  Math.min(...knowledgeIn('MLP only')) > Math.max(...knowledgeIn('queries and values')) + 0.2,
  `worst ${percent(Math.min(...knowledgeIn('MLP only')))}, best ${percent(Math.max(...knowledgeIn('queries and values')))}`,
);

// %% [markdown]
// The same two places, the opposite order. To answer, the question mark has to *look at* the subject; that is queries
// and keys, early enough for the rest to act on: the MLP and the last block are useless for it. To store a new capital,
// the sentence has found its subject already; the MLP does that best, and attention alone gets a third of them in the same
// steps. So "which layers?" has no answer without "for what?". If you can, run this cell on *your* task. If you cannot,
// take all linear layers with a small rank, which are best or second here on either.
//
// PEFT's ways to say *where*: names (`['q_proj', 'v_proj']` match the end of a path), a regular expression that matches a
// whole path, `'all-linear'`, and `layers_to_transform`. `rank_pattern` gives some layers another rank.

// %% [markdown]
// ## 7. Dropout
//
// `lora_dropout` zeroes a share of the adapter's *input* while training; the base sees everything. It fights learning by
// heart. With 120 examples of a habit there is something to fight; we take few examples to see more of it.

// %%
const dropouts = [0, 0.2, 0.6];
const few = trainFacts.slice(0, 24);
const byDropout: Run[][] = [];
for (const loraDropout of progress(dropouts, { desc: 'dropout' })) {
  const runs: Run[] = [];
  for (const seed of seeds) {
    runs.push(await tune('habit', { r: 8, loraAlpha: 16, loraDropout }, { seed, some: few }));
  }
  byDropout.push(runs);
}

// %%
display.table(
  dropouts.map((dropout, i) => ({
    dropout,
    'training loss': mean(byDropout[i]!.map((run) => run.loss)).toFixed(4),
    'held-out questions': rangeOf(byDropout[i]!),
  })),
);
const lossAt = (i: number) => byDropout[i]!.map((run) => run.loss);
prove(
  'Dropout makes the training loss higher, each seed against each',
  Math.min(...lossAt(2)) > Math.max(...lossAt(0)),
  `lowest ${Math.min(...lossAt(2)).toFixed(3)} with 0.6, highest ${Math.max(...lossAt(0)).toFixed(3)} without`,
);

// %% [markdown]
// That the training loss rises is certain; whether the held-out answers gain, read off the ranges. When they overlap, say
// "no difference seen", not "dropout helps". With large data sets and one pass over them, most recipes leave it at 0 or 0.05.

// %% [markdown]
// ## 8. How much rank was used?
//
// A last look inside: of the directions that rank 64 was given, how many did the habit use? The *effective rank* is the
// number of singular values that hold 99 % of the squared sum.

// %%
const wide = getPeftModel(base, new LoraConfig({ r: 64, loraAlpha: 128, targetModules: ALL }));
const habit = { task: 'habit' as const, some: trainFacts, steps: 200, draw: new RandomState(0) };
await train(wide, lessons(habit), 3e-4);
const effective = [...wide.layers].map(([path, layer]) => {
  const { loraA, loraB } = layer.adapters.get('default') as LoraLinear;
  const values = tf.tidy(() => singularValues(tf.matMul(loraB, loraA) as tf.Tensor2D));
  const energy = values.map((value) => value ** 2);
  const whole = energy.reduce((a, b) => a + b);
  const upTo = energy.map((_, i) => energy.slice(0, i + 1).reduce((a, b) => a + b));
  const used = 1 + upTo.findIndex((sum) => sum > 0.99 * whole);
  return { layer: path.replace('model.layers.', ''), used };
});
wide.unload();
barChart({
  title: 'Directions that hold 99 % of a rank-64 update',
  x: 'adapted layer',
  y: 'directions used',
  yRange: [0, 64],
  categories: effective.map(({ layer }) => layer),
  series: [{ name: 'used, of 64', y: effective.map(({ used }) => used) }],
});

// %% [markdown]
// The bars stay below the ceiling of 64:

// %%
const mostUsed = Math.max(...effective.map(({ used }) => used));
prove('No layer used all of its 64 directions', mostUsed < 56, `at most ${mostUsed}`);

// %% [markdown]
// ## 9. Common mistakes
//
// | Mistake | What you see | What to do |
// |---|---|---|
// | sweep the rank at one learning rate | "large ranks overfit" | sweep the learning rate at each end |
// | raise the rank, keep alpha | the update gets quieter; "no gain from rank" | alpha = 2r, or rsLoRA |
// | raise alpha, keep the learning rate | diverges, or "alpha is magic" | it *is* the learning rate |
// | copy `q_proj, v_proj` | fails where another place is needed | all linear layers, small rank |
// | one seed | a difference that is gone tomorrow | three, and ranges |
// | judge a habit by the training loss | rank 64 wins | held-out questions |

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
// **Which modules would you target?** *(mid)* All linear layers with a small rank unless I can test; a few places can fail
// completely on some tasks. Proof: section 6.
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
console.log(`${proven.size} of 11 proofs hold.`);
