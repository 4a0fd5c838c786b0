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
// # Merging
//
// Three teams have each trained an adapter on the same base. You are asked for **one** model that can do all three
// things. Can you simply add them up? Average them? And if one of the three turns out to be a mistake, can you
// subtract it again, from a model that was never trained apart? Here you do all of it, with controls.
//
// | | |
// |---|---|
// | Time | 50 minutes to read and try; about three minutes to run |
// | You need | LoRA's formula and merging one adapter (lesson 03) |
// | Level | the mid-level and senior interview questions on merging, TIES, DARE and task arithmetic |

// %% [markdown]
// **When you are through you can**
//
// 1. merge one adapter, take it out, or switch between several, and say what each costs;
// 2. tell the exact ways to join adapters (`cat`, `svd`) from the rough one (`linear`), and show the cross terms that
//    make it rough;
// 3. explain TIES and DARE by hand on four numbers, and say what they can and can not repair;
// 4. do arithmetic with task vectors: add, scale, negate, and prove with a random vector that it is no accident;
// 5. name three places where PEFT's and mergekit's "same" method differ.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. The same world
//
// The base is `world-3m`, a Llama with four layers that has read about a small world. (Lesson 02 explains these cells one by
// one.)

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  type CausalLM,
  type CombineMethod,
  combineTasks,
  crossEntropy,
  fromConfig,
  getPeftModel,
  heatMap,
  jit,
  LoraConfig,
  type LoraLinear,
  lineChart,
  loadDataset,
  type MaskSource,
  mergeLora,
  mergeModels,
  numParameters,
  RandomState,
  randomNormal,
  seededMasks,
  setBackend,
  TaskVector,
  taskMerge,
  type WeightedAdapterOptions,
} from 'peftlab';

await setBackend('auto');
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
const base = await AutoModelForCausalLM.fromPretrained('models/world-3m');

// %% [markdown]
// It knows 400 people by heart, with their pets, jobs and instruments: `The pet of Dozalo is a hen.` Every answer is one token.

// %%
const kinds = ['pet', 'job', 'instrument'] as const;
type Kind = (typeof kinds)[number];

interface Fact {
  kind: Kind;
  answer: string;
  statement: string;
}
const facts = [...loadDataset<Fact>('world-facts')].filter(({ kind }) => kinds.includes(kind));
/** 'The pet of Dozalo is a' */
const begun = ({ statement }: Fact) => statement.slice(0, statement.lastIndexOf(' '));
const length = Math.max(...facts.map((fact) => tokenizer.encode(begun(fact)).length));
console.log(`${facts.length} facts of at most ${length} tokens, such as: ${facts[0]!.statement}`);

// %% [markdown]
// A batch is rows of token ids, and of each row the position whose next token counts. The head of the model is computed there
// only.

// %%
type Batch = { ids: tf.Tensor2D; at: tf.Tensor2D; labels: tf.Tensor2D };

/** Beginnings of statements; the answer is what counts. */
function toBatch(some: Fact[]): Batch {
  const table = (rows: number[][]) => tf.tensor2d(rows, undefined, 'int32');
  const rows = some.map((fact) => tokenizer.encode(begun(fact)));
  return {
    ids: table(rows.map((row) => Array.from({ length }, (_, t) => row[t] ?? 0))),
    at: table(rows.map((row) => [row.length - 1])),
    labels: table(some.map(({ answer }) => tokenizer.encode(` ${answer}`))),
  };
}
const logitsOf = (model: CausalLM, { ids, at }: Batch) =>
  model.forward(ids, { logitsAt: at }).logits; // [B, 1, V]
const lossOf = (model: CausalLM, batch: Batch) =>
  crossEntropy(tf.squeeze(logitsOf(model, batch), [1]), tf.squeeze(batch.labels, [1])) as tf.Scalar;

// %%
/** Trains what is trainable with AdamW, in compiled steps; the last loss. */
async function train(model: CausalLM, batches: Iterable<Batch>, lr: number): Promise<number> {
  const trained = model.parameters().filter(({ trainable }) => trainable);
  const optimizer = new AdamW(trained, { lr, betas: [0.9, 0.99], weightDecay: 0 });
  const step = jit(function trainStep(batch: Batch, numbers: AdamWNumbers[]) {
    const { value, grads } = tf.variableGrads(() => lossOf(model, batch), trained);
    optimizer.apply(
      trained.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  let last = Number.NaN;
  for (const batch of batches) {
    const numbers = optimizer.numbers();
    const loss = step(batch, numbers);
    last = (await loss.data())[0]!;
    tf.dispose([loss, batch, numbers] as tf.TensorContainer);
  }
  step.dispose();
  optimizer.dispose();
  return last;
}

// %% [markdown]
// Merging changes the *numbers* in the weights and nothing else. So one compiled reader is enough for all the merged models of
// this lesson: each is put onto the `stage`, a copy of the base, and read there. `original` is another copy, which stays as it is.

// %%
/** A model of its own with these weights. */
function copyOf(some: CausalLM): CausalLM {
  const copy = fromConfig(some.config);
  const from = some.parameters();
  for (const [i, parameter] of copy.parameters().entries()) parameter.assign(from[i]!);
  return copy;
}
const [original, stage] = [copyOf(base), copyOf(base)];
const likeliest = jit(function likeliest(batch: Batch): tf.Tensor {
  return tf.argMax(logitsOf(stage, batch), -1);
});

/** What the model on the stage says next. */
async function read(batch: Batch): Promise<string[]> {
  const tokens = likeliest(batch);
  const words = Array.from(await tokens.data(), (token) => tokenizer.decode([token]).trim());
  tokens.dispose();
  return words;
}

// %%
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;

const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
const everyFourth = facts.filter((_, i) => i % 4 === 0);
const first = await read(toBatch(everyFourth));
const known = mean(everyFourth.map(({ answer }, i) => (answer === first[i] ? 1 : 0)));
prove(
  'The base knows its people',
  known > 0.97,
  `${percent(known)} of ${everyFourth.length} facts`,
);

// %% [markdown]
// ## 2. Three teams, three corrections
//
// The world has changed. One team corrects 20 pets, one 20 jobs, one 20 instruments; the new answers are as arbitrary
// as the old. Each trains an adapter of rank 8 on all linear layers. So that nothing else breaks, each batch
// holds 12 corrected facts and 20 old ones, whose answers stay. Another 80 facts are in no batch of any team: they show what
// breaks *unseen*.
//
// Three *rounds*, with other facts, other answers and another order each time, stand in for luck: what follows is
// measured in all three.

// %%
const rounds = [0, 1, 2];
interface Correction extends Fact {
  formerly: string;
}
interface Round {
  corrected: Record<Kind, Correction[]>;
  untouched: Fact[];
}
const factsOf = (kind: Kind) => facts.filter((fact) => fact.kind === kind);
/** Twenty facts of a kind, each with another answer. */
function correct(kind: Kind, draw: RandomState): Correction[] {
  const answers = [...new Set(factsOf(kind).map(({ answer }) => answer))];
  return draw
    .permutation(factsOf(kind))
    .slice(0, 20)
    .map((fact) => {
      const answer = draw.permutation(answers.filter((other) => other !== fact.answer))[0]!;
      return { ...fact, answer, formerly: fact.answer };
    });
}
const without = (some: Fact[]) => {
  const gone = new Set(some.map(({ statement }) => statement));
  return facts.filter(({ statement }) => !gone.has(statement));
};

// %%
const tasks = rounds.map((round): Round => {
  const draw = new RandomState(10 * round + 5);
  const corrected = Object.fromEntries(kinds.map((kind) => [kind, correct(kind, draw)])) as Record<
    Kind,
    Correction[]
  >;
  const others = without(kinds.flatMap((kind) => corrected[kind]));
  return { corrected, untouched: draw.permutation(others).slice(0, 80) };
});
display.table(
  kinds
    .map((kind) => tasks[0]!.corrected[kind][0]!)
    .map(({ statement, answer }) => ({ statement, 'corrected answer': answer })),
);

// %%
/** Batches of 32 rows: some corrected facts, and old ones, which stay. */
function* corrections(news: Fact[], untouched: Fact[], steps: number, share: number, seed: number) {
  const draw = new RandomState(seed);
  const old = without([...news, ...untouched]);
  for (let i = 0; i < steps; i++) {
    const some = draw.permutation(news).slice(0, share);
    yield toBatch([...some, ...draw.permutation(old).slice(0, 32 - share)]);
  }
}
const config = (r: number) => new LoraConfig({ r, loraAlpha: 2 * r, targetModules: 'all-linear' });
const model = getPeftModel(base, config(8), { adapterName: 'pet-0' });
const nameOf = (kind: Kind | 'joint', round: number) => `${kind}-${round}`;

// %% [markdown]
// Nine adapters (three teams, three rounds), all on one base: that is what a frozen base is for. A tenth to twelfth, `joint`,
// is trained on all three corrections at once: the model that we could have had if the teams had talked to each other.

// %%
async function teach(name: string, r: number, batches: Iterable<Batch>): Promise<void> {
  if (!(name in model.peftConfig)) model.addAdapter(name, config(r));
  model.setAdapter(name);
  await train(model, batches, 2e-3);
}
for (const round of progress(rounds, { desc: 'three rounds of four adapters' })) {
  const { corrected, untouched } = tasks[round]!;
  for (const kind of kinds) {
    const batches = corrections(corrected[kind], untouched, 100, 12, round);
    await teach(nameOf(kind, round), 8, batches);
  }
  const all = kinds.flatMap((kind) => corrected[kind]);
  await teach(nameOf('joint', round), 16, corrections(all, untouched, 140, 16, round));
}

// %% [markdown]
// To measure an adapter, put $W + \Delta W$ with $\Delta W = s B A$ onto the stage, and read.

// %%
const factorsOf = (name: string, path: string) => {
  const layer = model.layers.get(path)!.adapters.get(name) as LoraLinear;
  const [a, b] = [layer.loraA, layer.loraB] as [tf.Tensor2D, tf.Tensor2D];
  return { a, b, scaling: layer.scaling };
};
const product = ({ a, b, scaling }: ReturnType<typeof factorsOf>) =>
  tf.mul(tf.matMul(b, a), scaling) as tf.Tensor2D;

/** The update of a layer, by its path. */
type Update = (path: string) => tf.Tensor;
const updateOf =
  (name: string): Update =>
  (path) =>
    product(factorsOf(name, path));

const weightOf = (some: CausalLM, path: string) =>
  (some.getSubmodule(path) as unknown as { weight: tf.Variable }).weight;
/** Makes the model on the stage, or another copy, the original with this update. */
function put(update: Update, on = stage): CausalLM {
  for (const path of model.layers.keys()) {
    tf.tidy(() => weightOf(on, path).assign(tf.add(weightOf(original, path), update(path))));
  }
  return on;
}

// %%
interface Score extends Record<Kind, number> {
  untouched: number;
}
const columns = [...kinds, 'untouched'] as const;
const exams = tasks.map(({ corrected, untouched }) => {
  const lists = { ...corrected, untouched };
  return { lists, batch: toBatch(columns.flatMap((column): Fact[] => lists[column])) };
});
/** Of the model on the stage: shares of corrected facts that are right, and of untouched ones. */
async function score(round: number): Promise<Score> {
  const { lists, batch } = exams[round]!;
  const words = await read(batch);
  const shares = columns.map((column) => {
    const right = lists[column].map(({ answer }) => answer === words.shift());
    return [column, mean(right.map(Number))];
  });
  return Object.fromEntries(shares);
}
async function scoreOf(name: string, round: number): Promise<Score> {
  put(updateOf(name));
  return await score(round);
}

// %%
const averageOf = (scores: Score[]): Score =>
  Object.fromEntries(
    columns.map((column) => [column, mean(scores.map((one) => one[column]))]),
  ) as unknown as Score;
const inPercent = (one: Score) =>
  Object.fromEntries(columns.map((column) => [column, percent(one[column])]));
/** What `measure` gives in each round. */
async function inRounds<T>(measure: (round: number) => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (const round of rounds) results.push(await measure(round));
  return results;
}

// %%
const apart: { adapter: string; scores: Score[] }[] = [];
for (const kind of [...kinds, 'joint' as const]) {
  const scores = await inRounds((round) => scoreOf(nameOf(kind, round), round));
  apart.push({ adapter: kind, scores });
}
heatMap({
  title: 'Each adapter knows its own corrections only (mean of three rounds)',
  x: 'what is asked',
  y: 'adapter',
  z: 'right (%)',
  columns: ['corrected pets', 'corrected jobs', 'corrected instruments', 'untouched facts'],
  rows: apart.map(({ adapter }) => adapter),
  values: apart.map(({ scores }) => columns.map((c) => 100 * averageOf(scores)[c])),
  range: [0, 100],
});

// %%
const diagonal = kinds.flatMap((kind, i) => apart[i]!.scores.map((one) => one[kind]));
const elsewhere = kinds.flatMap((kind, i) =>
  kinds.filter((other) => other !== kind).flatMap((other) => apart[i]!.scores.map((s) => s[other])),
);
prove(
  'Each adapter learns its own corrections and none of the others',
  Math.min(...diagonal) > 0.9 && mean(elsewhere) < 0.2,
  `own at least ${percent(Math.min(...diagonal))}, others ${percent(mean(elsewhere))} on average`,
);

// %% [markdown]
// ## 3. One adapter: merge, unload, switch
//
// Three ways to serve an adapter. **Merge** it, and the model is as fast as the base, but it is one thing only.
// Keep it **beside** the weights, and you can switch. `mergeAndUnload` is the first with no way back (section 10).
//
// > **Predict.** A switch between adapters in memory: how long does it take for a model of 7 billion parameters?

// %%
const someFacts = toBatch(facts.slice(0, 40));
const scores = (some: CausalLM) => tf.tidy(() => logitsOf(some, someFacts).dataSync());
const apartBy = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

model.setAdapter('pet-0', { inferenceMode: true });
const beside = scores(model);
model.mergeAdapter();
const inside = scores(model);
model.unmergeAdapter();
const outside = scores(model);
prove(
  'Merged, an adapter gives what it gave beside the weights',
  apartBy(beside, inside) < 1e-3 && apartBy(beside, outside) < 1e-3,
  `largest difference of a score ${apartBy(beside, inside).toExponential(1)}, unmerged again ${apartBy(beside, outside).toExponential(1)}`,
);

// %%
const switches = Array.from({ length: 300 }, (_, i) => {
  const start = performance.now();
  model.setAdapter(nameOf(kinds[i % 3]!, i % 2), { inferenceMode: true });
  return performance.now() - start;
}).sort((a, b) => a - b);
const median = switches[150]!;
prove(
  'A switch costs less than a token',
  median < 5,
  `${median < 1 ? 'under 1' : Math.ceil(median)} ms, the median of 300 switches among six adapters`,
);

// %% [markdown]
// The answer to the prediction: as long as here. A switch changes *which* matrices are used; no weight moves, so
// it does not depend on the size of the base. Merging does: it rewrites every adapted weight.

// %% [markdown]
// ## 4. Add them up, or average them?
//
// $\Delta W = \sum_i w_i\, s_i B_i A_i$. With all $w_i = 1/3$ that is the average, with all $w_i = 1$ the sum.
//
// > **Predict.** Each team's update is what its corrections need. The average holds a third of each. How many corrections
// > does the averaged model know?

// %%
const namesIn = (round: number) => kinds.map((kind) => nameOf(kind, round));
/** Merges the three adapters of each round in one way, and measures. */
const tryMerge = (weight: number, options: WeightedAdapterOptions): Promise<Score[]> =>
  inRounds(async (round) => {
    model.addWeightedAdapter(namesIn(round), [weight, weight, weight], 'trial', options);
    const result = await scoreOf('trial', round);
    model.deleteAdapter('trial');
    return result;
  });
const news = (scores: Score[]) => scores.map((one) => mean(kinds.map((kind) => one[kind])));
const factors = [0.2, 1 / 3, 0.5, 0.65, 0.8, 1, 1.25, 1.5];
const byFactor: Score[][] = [];
for (const weight of factors) byFactor.push(await tryMerge(weight, { combinationType: 'cat' }));
lineChart({
  title: 'The exact sum of three adapters, each counted w times',
  x: 'weight w of each adapter (1/3 is the average, 1 the sum)',
  y: 'right, mean of three rounds (%)',
  mode: 'lines+markers',
  yRange: [0, 105],
  series: [
    { name: 'all corrections', x: factors, y: byFactor.map((s) => 100 * mean(news(s))) },
    { name: 'untouched facts', x: factors, y: byFactor.map((s) => 100 * averageOf(s).untouched) },
  ],
});

// %%
const [averaged, summed] = [byFactor[1]!, byFactor[5]!];
prove(
  'Averaging forgets the corrections that adding keeps',
  rounds.every((i) => news(averaged)[i]! < news(summed)[i]! - 0.3),
  `average ${news(averaged).map(percent).join(', ')}; sum ${news(summed).map(percent).join(', ')}`,
);

// %% [markdown]
// New knowledge does not survive being divided by three: a correction must *beat* the old answer, and a third of a push
// does not. The sum pushes hard enough, but the three updates also disturb each other: untouched facts begin to
// fall, and beyond $w = 1$ the corrections follow. No weight has all of both: at 0.8 nearly all untouched facts are right, and
// about half of the corrections; at 1 it is about four fifths of either. What you want must be decided **on data**.
//
// Averaging is not always wrong. Adapters that learnt the *same* habit in different ways can be averaged well, because
// they push in one direction. Ask what your adapters have in common before you divide.

// %% [markdown]
// ## 5. Exact and rough
//
// | `combinationType` | What it does with $A_i$, $B_i$ | Exact? | Rank of the result |
// |---|---|---|---|
// | `cat` | stacks them: $[B_1 B_2]\,[A_1; A_2]$ | yes | $r_1 + r_2$ |
// | `svd` | forms the sum, cuts it by a singular value decomposition | if the rank is enough | you choose |
// | `linear` | adds the $A$s, adds the $B$s | **no** | $r$ |
//
// `linear` looks harmless. But $(B_1 + B_2)(A_1 + A_2) = B_1 A_1 + B_2 A_2 + \underbrace{B_1 A_2 + B_2 A_1}_{\text{nobody trained
// these}}$.

// %%
const path = 'model.layers.0.mlp.up_proj';
const three = kinds.map((kind) => factorsOf(nameOf(kind, 0), path));
const exact = tf.addN(three.map(product));
const errors = [
  ['cat', mergeLora('cat', three, [1, 1, 1])],
  ['svd to rank 24', mergeLora('svd', three, [1, 1, 1], { svdRank: 24 })],
  ['svd to rank 8', mergeLora('svd', three, [1, 1, 1], { svdRank: 8 })],
  ['linear', mergeLora('linear', three, [1, 1, 1])],
] as const;
const relativeError = (lora: (typeof errors)[number][1]) =>
  tf.tidy(() => tf.div(tf.norm(tf.sub(product(lora), exact)), tf.norm(exact)).dataSync()[0]!);
display.table(
  errors.map(([name, lora]) => ({
    method: name,
    rank: lora.a.shape[0],
    'error against the sum': percent(relativeError(lora)),
  })),
);

// %% [markdown]
// > **Predict.** The cross terms are about as large as the terms that we want. What will the answers be like?

// %%
const joined = {
  cat: summed,
  'svd, rank 8': await tryMerge(1, { combinationType: 'svd', svdRank: 8 }),
  linear: await tryMerge(1, { combinationType: 'linear' }),
};
display.table(
  Object.entries(joined).map(([name, list]) => ({ method: name, ...inPercent(averageOf(list)) })),
);
prove(
  'Adding factor by factor is worse than adding the updates',
  rounds.every((i) => news(joined.linear)[i]! < news(joined.cat)[i]! - 0.15) &&
    averageOf(joined.linear).untouched < averageOf(joined.cat).untouched - 0.05,
  `corrections ${percent(mean(news(joined.linear)))} against ${percent(mean(news(joined.cat)))}, untouched facts ${percent(averageOf(joined.linear).untouched)} against ${percent(averageOf(joined.cat).untouched)}`,
);

// %% [markdown]
// `svd` cut to rank 8, the size of *one* adapter, keeps the strongest 8 of 24 directions. That is off by a fifth of the update's
// length in the layer above, and loses some of the corrections, but the untouched facts are the better for it. `cat` and `svd` are
// the ones to try first; `svd` is PEFT's default.

// %% [markdown]
// ## 6. TIES, by hand
//
// TIES (Yadav et al. 2023) says: updates spoil each other where they *disagree in sign*. So: **trim** each to its largest
// entries, **elect** a sign for each entry, **merge** only those that agree, divided by how many they are. Take four entries
// of two updates:
//
// | | entry 1 | entry 2 | entry 3 | entry 4 |
// |---|---|---|---|---|
// | update 1 | 3 | -2 | 0.1 | 1 |
// | update 2 | 1 | 4 | -0.2 | 2 |
//
// > **Predict.** Trim away the smallest entry of each (density 0.75), then elect and merge. What comes out?

// %%
const [one, two] = [tf.tensor1d([3, -2, 0.1, 1]), tf.tensor1d([1, 4, -0.2, 2])];
const byHand = [(3 + 1) / 2, 4 / 1, 0, (1 + 2) / 2];
const tied = Array.from(combineTasks('ties', [one, two], [1, 1], { density: 0.75 }).dataSync());
prove('TIES is trim, elect, merge', apartBy(tied, byHand) < 1e-6, `[${tied.join(', ')}]`);

// %% [markdown]
// Entry 2: the signs differ, 4 outweighs -2, so -2 is dropped and 4 stays *alone*. Note that TIES **averages** what agrees:
// with three updates that hardly overlap it gives each entry in full, and where all agree their mean. That is why its
// weight may go above 1.
//
// How much do our three adapters disagree?

// %%
const deltas = three.map(product);
const signs = tf.stack(deltas.map((delta) => tf.sign(delta)));
const agree = tf.mean(tf.cast(tf.equal(tf.abs(tf.sum(signs, 0)), 3), 'float32')).dataSync()[0]!;
console.log(`Entries of ${path} where all three signs agree: ${percent(agree)}; by chance 25 %.`);

// %% [markdown]
// Practically chance: these teams changed unrelated things. There is no quarrel that an election of signs could settle,
// only random overlap.

// %% [markdown]
// ## 7. DARE: drop and rescale
//
// DARE (Yu et al. 2024) throws entries of the update away *at random* and divides the rest by what is left: $\Delta W
// \to \frac{m \odot \Delta W}{p}$ with $m \sim \text{Bernoulli}(p)$. The expected output stays. The paper drops 90 % and
// even 99 % from large models without harm. Two controls: the same masks **without** the division, and keeping the
// *largest* entries (magnitude pruning).
//
// > **Predict.** Ours is a small model, whose every entry may matter. At which density does it break?

// %%
const densities = [0.5, 0.3, 0.1, 0.05, 0.02, 0.01];
type Drop = (update: tf.Tensor, density: number, masks: MaskSource) => tf.Tensor;
const ways: Record<string, Drop> = {
  DARE: (update, density, masks) => combineTasks('dare_linear', [update], [1], { density, masks }),
  // A weight of p takes the division by p back.
  'drop without rescaling': (update, density, masks) =>
    combineTasks('dare_linear', [update], [density], { density, masks }),
  'keep the largest': (update, density) =>
    combineTasks('magnitude_prune', [update], [1], { density }),
};

// %%
const drops: { name: string; scores: Score[][] }[] = [];
for (const [name, drop] of Object.entries(ways)) {
  const scores: Score[][] = [];
  for (const density of densities) {
    const inEach = await inRounds((round) => {
      const [update, masks] = [updateOf(nameOf('pet', round)), seededMasks(round)];
      put((path) => drop(update(path), density, masks));
      return score(round);
    });
    scores.push(inEach);
  }
  drops.push({ name, scores });
}

// %%
const lineOf = (name: string, { scores }: (typeof drops)[number], column: keyof Score) => ({
  name,
  x: densities,
  y: scores.map((list) => 100 * averageOf(list)[column]),
});
lineChart({
  title: "The pet team's adapter when entries of its update are dropped",
  x: 'density: share of the entries that is kept',
  y: 'right, mean of three rounds (%)',
  mode: 'lines+markers',
  xScale: 'log',
  yRange: [-3, 105],
  series: [
    ...drops.map((way) => lineOf(`${way.name}: pets`, way, 'pet')),
    lineOf('DARE: untouched facts', drops[0]!, 'untouched'),
  ],
});

// %%
const atDensity = (name: string, density: number) =>
  drops.find((way) => way.name === name)!.scores[densities.indexOf(density)]!.map(({ pet }) => pet);
const [dared, dropped, largest] = Object.keys(ways).map((name) => atDensity(name, 0.5));
prove(
  'Dropped entries must be made up for',
  mean(dared!) > mean(dropped!) + 0.5,
  `half dropped: rescaled ${percent(mean(dared!))}, not rescaled ${percent(mean(dropped!))}, the largest half ${percent(mean(largest!))}`,
);
const [anyTenth, , largestTenth] = Object.keys(ways).map((name) => atDensity(name, 0.1));
prove(
  'Any tenth, rescaled, does what the largest tenth as it is does not',
  mean(anyTenth!) > mean(largestTenth!) + 0.4,
  `DARE ${percent(mean(anyTenth!))}, the largest ${percent(mean(largestTenth!))}`,
);

// %% [markdown]
// Rescaling is what makes dropping bearable: without it, half the entries are half the push, and that is not enough. With
// it, this small model stands the loss of nine entries in ten, as the paper says, and the untouched facts hardly notice. The
// paper's 99 % it does **not** stand: there everything is gone, old facts too. Dropping at random adds noise that grows as
// $\sqrt{(1-p)/p}$: three times the update at 10 %, ten times at 1 %. A layer of ours averages it out over a few hundred inputs;
// *large* models have thousands.
//
// Keeping the largest half does as well, without any rescaling: the large entries carry most of the push. The largest tenth
// does not: what it has is too little, and nothing makes up for the rest. Treat any "drop $x$ %" as a number to be measured on
// *your* model, with the untouched facts beside it.

// %% [markdown]
// ## 8. All methods, one table
//
// The methods that prune want the updates in full size, $s B A$; on factors alone they have the cross terms of
// `linear` on top. PEFT's `ties_svd`, `dare_linear_svd` and so on do that, and cut the result back to a rank; pruning spreads
// an update over all ranks, so we leave it whole. Numbers after a name are weights other than 1; TIES, DARE-TIES and magnitude
// pruning keep half of the entries, DARE 80 %; `joint` is the model that was trained on all corrections at once.

// %%
const tryPruned = (method: CombineMethod, density: number, weight = 1): Promise<Score[]> =>
  inRounds((round) => {
    const [updates, masks] = [namesIn(round).map(updateOf), seededMasks(round)];
    const weights = [weight, weight, weight];
    put((path) => {
      const all = updates.map((update) => update(path));
      return combineTasks(method, all, weights, { density, masks });
    });
    return score(round);
  });
const contest: Record<string, Score[]> = {
  'cat 0.8': byFactor[4]!,
  'cat 1': summed,
  'svd r=8': joined['svd, rank 8'],
  linear: joined.linear,
  magnitude: await tryPruned('magnitude_prune', 0.5),
  DARE: await tryPruned('dare_linear', 0.8),
  TIES: await tryPruned('ties', 0.5),
  'TIES 1.5': await tryPruned('ties', 0.5, 1.5),
  'DARE-TIES': await tryPruned('dare_ties', 0.5),
  joint: apart.at(-1)!.scores,
};

// %%
const spread = (values: number[]) =>
  `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
display.table(
  Object.entries(contest).map(([method, list]) => ({
    method,
    'all corrections': spread(news(list)),
    'untouched facts': spread(list.map((one) => one.untouched)),
  })),
);

// %%
const methods = Object.keys(contest);
const barsOf = (name: string, pick: (list: Score[]) => number[]) => {
  const values = methods.map((method) => pick(contest[method]!).map((share) => 100 * share));
  const [low, high] = [values.map((v) => Math.min(...v)), values.map((v) => Math.max(...v))];
  return { name, y: values.map(mean), low, high };
};
barChart({
  title: 'Three adapters in one: mean and range of three rounds',
  x: 'method',
  y: 'right (%)',
  yRange: [0, 105],
  categories: methods,
  series: [
    barsOf('all corrections', news),
    barsOf('untouched facts', (list) => list.map((one) => one.untouched)),
  ],
});

// %%
const best = Math.max(...methods.filter((m) => m !== 'joint').map((m) => mean(news(contest[m]!))));
const jointly = mean(news(contest.joint!));
prove(
  'No merge reaches what joint training does',
  jointly > best + 0.1,
  `corrections known: joint ${percent(jointly)}, best merge ${percent(best)}`,
);

// %% [markdown]
// ### What this shows, and what it does not
//
// - A plain, exact sum with a tuned weight is hard to beat here. Dropping the smaller half (magnitude) or a random fifth (DARE)
//   changes little: what differs is less than the range of three rounds.
// - TIES protects the untouched facts best, and pays with corrections; so does a smaller weight. That is a trade, not a victory.
//   With adapters that *conflict* in sign, or with many of them, TIES has more to repair.
// - What one adapter alone stands, nine entries in ten dropped, is no promise for three together: the noise of each falls on all.
// - Merging costs no training and no data, and it loses to training together. It is for when the data can not be
//   brought together, or the teams can not.
// - Every weight, density and rank here was read off the same facts that judge it. With real work you need facts
//   set aside for that choice.

// %% [markdown]
// ## 9. Task arithmetic: take a skill out again
//
// A *task vector* is $\tau = \theta_{tuned} - \theta_{base}$ (Ilharco et al. 2023). It adds, scales, and can be **negated**. Now
// the surprising part. The `joint` model learnt all three corrections at once. Suppose the corrected pets are withdrawn.
// The pet team's vector was trained *by itself*, from another start. Subtract it from the joint model:
//
// $$\theta = \theta_{joint} - \lambda\, \tau_{pet}$$
//
// > **Predict.** The joint model never saw this vector. Does it forget the corrected pets, and only them? And what would
// > a random vector of the same length do?

// %%
/** An update of rank 8 in random directions, as long in each layer as `like`. */
function randomLike(like: Update, seed: number): Update {
  const draw = new RandomState(seed + 77);
  return (path) => {
    const [out, into] = weightOf(original, path).shape as [number, number];
    const [b, a] = [randomNormal([out, 8], draw), randomNormal([8, into], draw)];
    const update = tf.matMul(b as tf.Tensor2D, a as tf.Tensor2D);
    return tf.mul(update, tf.div(tf.norm(like(path)), tf.norm(update)));
  };
}
const lambdas = [0, 0.25, 0.5, 0.75, 1, 1.5];
/** The joint model less λ times an update, for each λ. */
async function subtract(round: number, makeOther: () => Update): Promise<Score[]> {
  const results: Score[] = [];
  const joint = updateOf(nameOf('joint', round));
  for (const lambda of lambdas) {
    const other = makeOther();
    put((path) => tf.sub(joint(path), tf.mul(other(path), lambda)));
    results.push(await score(round));
  }
  return results;
}

// %%
const petOf = (round: number) => updateOf(nameOf('pet', round));
const negated = await inRounds((round) => subtract(round, () => petOf(round)));
const control = await inRounds((round) => subtract(round, () => randomLike(petOf(round), round)));

// %%
const curve = (list: Score[][], pick: (one: Score) => number) =>
  lambdas.map((_, i) => 100 * mean(list.map((scores) => pick(scores[i]!))));
const others = (one: Score) => (one.job + one.instrument) / 2;
lineChart({
  title: 'The joint model less λ times a vector',
  x: 'λ',
  y: 'right, mean of three rounds (%)',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: [
    { name: 'pets, less the pet vector', x: lambdas, y: curve(negated, (s) => s.pet) },
    { name: 'jobs and instruments, less the pet vector', x: lambdas, y: curve(negated, others) },
    { name: 'pets, less a random vector', x: lambdas, y: curve(control, (s) => s.pet) },
    { name: 'untouched, less the pet vector', x: lambdas, y: curve(negated, (s) => s.untouched) },
  ],
});

// %%
const chosen = lambdas.indexOf(0.75);
const forgotten = negated.map((list) => list[chosen]!);
const unharmed = control.map((list) => list[chosen]!);
const fall = (pick: (one: Score) => number) =>
  negated.map((list) => pick(list[0]!) - pick(list[chosen]!));
prove(
  'Three quarters of the vector, subtracted, take out its task and little else',
  forgotten.every((one) => one.pet < 0.4) &&
    mean(fall(others)) < 0.15 &&
    mean(fall((one) => one.untouched)) < 0.15,
  `pets ${percent(mean(forgotten.map((s) => s.pet)))}, jobs and instruments ${percent(mean(forgotten.map(others)))}, untouched ${percent(averageOf(forgotten).untouched)}`,
);
prove(
  'A random vector of the same length takes out nothing',
  unharmed.every((one) => one.pet > 0.8),
  `pets ${percent(mean(unharmed.map((one) => one.pet)))}`,
);

// %% [markdown]
// Do the old pets come back? They were overwritten in training, not deleted. This time the library subtracts: a merge may have
// negative weights.

// %%
async function oldPets(name: string, round: number): Promise<number> {
  put(updateOf(name));
  const words = await read(exams[round]!.batch);
  const { pet } = exams[round]!.lists;
  return mean(pet.map(({ formerly }, i) => Number(formerly === words[i])));
}
const comeBack = await inRounds(async (round) => {
  const joint = nameOf('joint', round);
  const before = await oldPets(joint, round);
  const options = { combinationType: 'cat' } as const;
  model.addWeightedAdapter([joint, nameOf('pet', round)], [1, -0.75], 'less', options);
  const after = await oldPets('less', round);
  model.deleteAdapter('less');
  return { round, 'old pets, joint model': percent(before), 'less 0.75 τ': percent(after) };
});
display.table(comeBack);

// %% [markdown]
// **Without adapters.** The same arithmetic works on whole weights, whatever made them: `TaskVector.between(base, tuned)`, then
// `scale`, `add`, `negate`, `applyTo`. For LoRA it is the same thing to the last rounding:

// %%
const tunedCopy = (name: string) => put(updateOf(name), copyOf(original));
const copies = namesIn(0).map(tunedCopy);
const vectors = copies.map((copy) => TaskVector.between(original, copy));
const summedWeights = copyOf(original);
for (const vector of vectors) vector.scale(0.8).applyTo(summedWeights);
model.addWeightedAdapter(namesIn(0), [0.8, 0.8, 0.8], 'sum', { combinationType: 'cat' });
model.setAdapter('sum', { inferenceMode: true });
const [byVectors, byAdapter] = [scores(summedWeights), scores(model)];
prove(
  'Task vectors on weights and weighted adapters are one arithmetic',
  apartBy(byVectors, byAdapter) < 1e-3,
  `largest difference of a score ${apartBy(byVectors, byAdapter).toExponential(1)}`,
);
display.table(
  kinds.map((kind, i) => ({
    'cosine between': kind,
    ...Object.fromEntries(kinds.map((other, j) => [other, vectors[i]!.cosine(vectors[j]!)])),
  })),
);

// %% [markdown]
// The vectors are nearly orthogonal: unrelated tasks move the weights in unrelated directions. That is why adding and
// subtracting them works at all.

// %% [markdown]
// ## 10. Merging whole models, and the fine print
//
// mergekit merges whole checkpoints. Its `linear` averages weights, its `slerp` goes from one model to the other on an arc:
//
// $$\frac{\sin((1-t)\,\omega)}{\sin \omega}\,\theta_0 + \frac{\sin(t\,\omega)}{\sin \omega}\,\theta_1, \qquad \cos \omega =
// \frac{\theta_0 \cdot \theta_1}{|\theta_0||\theta_1|}$$
//
// > **Predict.** Two models tuned from one base: how large is the angle $\omega$? So what does slerp change?

// %%
const [petModel, jobModel] = copies as [CausalLM, CausalLM, CausalLM];
const between: Record<string, string | number>[] = [];
for (const t of [0, 0.25, 0.5, 0.75, 1]) {
  mergeModels(stage, [jobModel], { mergeMethod: 'slerp', base: petModel, t });
  const arc = await score(0);
  mergeModels(stage, [petModel, jobModel], { mergeMethod: 'linear', weights: [1 - t, t] });
  const line = await score(0);
  between.push({
    t,
    'slerp: pets': percent(arc.pet),
    'slerp: jobs': percent(arc.job),
    'linear: pets': percent(line.pet),
    'linear: jobs': percent(line.job),
  });
}
display.table(between);

// %% [markdown]
// Nothing to see between the two: a fine-tuned model is still *almost* its base, and so almost parallel to any sister.
// And half way, both have lost most corrections, as the average in section 4. Slerp has its place between models that
// are far apart.

// %% [markdown]
// **The fine print.** The same name is not the same method. Take the two updates of section 6 again, with weights 1 and 0.5:

// %%
const nothing = tf.zeros([4]);
const settings = { weights: [1, 0.5], densities: [0.75, 0.75] };
const byPeft = combineTasks('ties', [one, two], [1, 0.5], { density: 0.75 });
const byMergekit = taskMerge('ties', nothing, [one, two], settings);
const rounded = (tensor: tf.Tensor) => Array.from(tensor.dataSync(), (x) => Number(x.toFixed(3)));
display.table([
  { ties: 'PEFT', result: rounded(byPeft).join(', ') },
  { ties: 'mergekit', result: rounded(byMergekit).join(', ') },
]);

// %% [markdown]
// | | PEFT | mergekit |
// |---|---|---|
// | TIES elects signs | before the weighting | after it |
// | TIES divides by | how many agree | the weights that agree (`normalize`) |
// | DARE rescales | by $1/p$ | to the L1 norm it had |
// | works on | $A$ and $B$, or their product (`_svd`) | whole weights |
//
// So a recipe that was tuned with one of them is a different recipe in the other. Write down the tool with the numbers.

// %%
prove(
  "PEFT's TIES and mergekit's are not the same",
  apartBy(byPeft.dataSync(), byMergekit.dataSync()) > 0.1,
  `[${rounded(byPeft)}] and [${rounded(byMergekit)}]`,
);

// %% [markdown]
// **For good.** When the merge is chosen, `mergeAndUnload` writes it into the weights and takes the adapters out. What is left is
// a plain model, which needs no PEFT to be loaded, and has no way back.

// %%
const single = model.mergeAndUnload() as CausalLM;
const spoken = scores(single);
prove(
  'Merged and unloaded, it is a plain model that says what the adapter said',
  apartBy(spoken, byAdapter) < 1e-3 && numParameters(single) === numParameters(original),
  `${numParameters(single).toLocaleString('en')} parameters, largest difference of a score ${apartBy(spoken, byAdapter).toExponential(1)}`,
);

// %% [markdown]
// ## 11. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | averaging adapters that hold different knowledge | each task at its old level | accuracy task by task, not their mean |
// | `linear` on factors because it is fast | everything worse, also the old facts | error against the sum (section 5) |
// | different ranks with `linear` or `ties` | an error | `cat`, or `svd` |
// | merging an adapter that is merged already | a worse model | PEFT refuses; so does this library |
// | weights and densities chosen on the test set | results that do not come back | facts set aside |
// | no untouched facts in the test | a merge that looks good and has broken the model | always measure what was *not* trained |
// | "DARE drops 99 %" taken as a law | noise | a sweep of densities |

// %% [markdown]
// ## 12. Now you
//
// Write your answer where it says so, run the cell, then the one below it.

// %%
type Numbers = readonly number[];

function judge(
  title: string,
  answer: Numbers | undefined,
  right: Numbers,
  slips: Record<string, Numbers>,
) {
  if (answer === undefined) return console.log(`… ${title}: not attempted yet`);
  const isLike = (other: Numbers) =>
    other.length === answer.length &&
    other.every((value, i) => Math.abs(value - answer[i]!) <= 1e-5 * Math.max(1, Math.abs(value)));
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer.slice(0, 4).join(', ')}`}`);
}

// %% [markdown]
// ### Exercise 1: how large is the merge?
//
// *Easy, 3 minutes.* Five adapters of rank 16 on `q_proj` and `v_proj` of Llama-2-7B (32 layers, both $4096 \times 4096$)
// are joined with `cat`. How many parameters has the result?

// %%
const mySize: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', mySize === undefined ? undefined : [mySize], [32 * 2 * 80 * 8192], {
  'That is one adapter; cat stacks all five ranks.': [32 * 2 * 16 * 8192],
  'You counted only one of A and B.': [32 * 2 * 80 * 4096],
  'You counted one matrix a layer; there are two.': [32 * 80 * 8192],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// The ranks add up to 80: $32 \times 2 \times 80 \times 8192 = 41{,}943{,}040$, five times one adapter. Nothing is saved by `cat`
// but the five separate products; that is the price of being exact. `svd` back to rank 16 is five times smaller, and an
// approximation.
//
// </details>

// %% [markdown]
// ### Exercise 2: TIES
//
// *Medium, 7 minutes.* Updates `[2, -3, 1, 0.5]`, `[-1, -1, 4, 0.1]`, `[3, 2, 1, -2]`, all weights 1, density 1 (nothing is
// trimmed), PEFT's convention. What comes out?

// %%
const myTies: Numbers | undefined = undefined; // [.., .., .., ..]

// %%
judge('Exercise 2', myTies, [2.5, -2, 2, -2], {
  'You summed what agrees; TIES divides by how many agree.': [5, -4, 6, -2],
  'You averaged all three: elect a sign first.': [4 / 3, -2 / 3, 2, -1.4 / 3],
  'You divided by 3; divide by the number that agrees.': [5 / 3, -4 / 3, 2, -2 / 3],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// Sums: 4, -2, 6, -1.4, so the signs are +, -, +, -. Those that agree: (2, 3), (-3, -1), (1, 4, 1), (-2). Their means:
// 2.5, -2, 2, -2.
//
// </details>

// %% [markdown]
// ### Exercise 3: the cross terms
//
// *Medium, 7 minutes.* For two adapters, `linear` with weights 1 and scalings 1 gives $(B_1 + B_2)(A_1 + A_2)$. Write a
// function that returns what it has *too much*. You need `tf.matMul` and `tf.add`.

// %%
type CrossTerms = (A1: tf.Tensor2D, B1: tf.Tensor2D, A2: tf.Tensor2D, B2: tf.Tensor2D) => tf.Tensor;

const myCrossTerms: CrossTerms | undefined = undefined; // (A1, B1, A2, B2) => ...

// %%
const small = new RandomState(3);
const [A1, A2] = [randomNormal<tf.Rank.R2>([2, 4], small), randomNormal<tf.Rank.R2>([2, 4], small)];
const [B1, B2] = [randomNormal<tf.Rank.R2>([3, 2], small), randomNormal<tf.Rank.R2>([3, 2], small)];
const tryCross = (cross: CrossTerms | undefined) => cross && [...cross(A1, B1, A2, B2).dataSync()];
const times = (b: tf.Tensor2D, a: tf.Tensor2D) => tf.matMul(b, a);
const flat = (tensor: tf.Tensor) => [...tensor.dataSync()];
judge('Exercise 3', tryCross(myCrossTerms), flat(tf.add(times(B1, A2), times(B2, A1))), {
  'That is the exact sum; what does linear add to it?': flat(tf.add(times(B1, A1), times(B2, A2))),
  'Only one of the two cross terms.': flat(times(B1, A2)),
  'Only one of the two cross terms ': flat(times(B2, A1)),
  'That is all of linear; take the exact sum away.': flat(
    times(tf.add(B1, B2) as tf.Tensor2D, tf.add(A1, A2) as tf.Tensor2D),
  ),
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// ```ts
// const myCrossTerms: CrossTerms = (A1, B1, A2, B2) => tf.add(tf.matMul(B1, A2), tf.matMul(B2, A1));
// ```
//
// </details>

// %% [markdown]
// ## 13. In the interview
//
// **How do you combine several LoRA adapters?** *(mid)* Switch, run side by side, or merge. Merge exactly with `cat`, or `svd`
// with enough rank; `linear` on factors has cross terms. Choose weights on held-out data, task by task. Proof: sections 4
// and 5.
//
// **What is task arithmetic?** *(mid)* Differences of weights add, scale and negate; unrelated tasks are nearly
// orthogonal, so they hardly disturb each other. Proof: *three quarters of the vector take out its task*, with the random control.
//
// **TIES or DARE: when?** *(senior)* TIES when updates conflict in sign; DARE when they are redundant (large models), to make
// room before adding. Neither replaces tuning the weights. Say what you would measure: every task, and what was not
// trained. Proof: sections 6 to 8.
//
// **Merge, or keep adapters apart?** *(senior)* Apart: switching costs nothing, adapters can be updated and billed alone, batches
// can mix them. Merged: no overhead a token, one file, but one behaviour. Proof: section 3; lesson 15 for many.
//
// Follow-ups to expect: Why does averaging work for "model soups" and not here? *(Those models learnt the same task.)* What
// limits the number of adapters one can add? *(Interference grows with their number and length.)* Can you merge adapters of
// different bases? *(No: a task vector is a difference from* its *base.)*

// %% [markdown]
// ## 14. What to try next
//
// - Give two teams the *same* facts with different answers. Now signs conflict: does TIES help?
// - Correct 5 facts a team in place of 20. How many teams can be added before the untouched facts fall below 95 %?
// - Train three adapters on the same corrections with different seeds and average them. Does averaging work now?
// - Rescale "keep the largest" too (`rescale: true`). Is it DARE's masks or DARE's rescaling that helps at 10 %?
// - Subtract the job vector from the *base*. What happens at $\lambda = 2$, and what does the random vector do there?
//
// **Next:** lesson 15 keeps the adapters apart and lets a router choose.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 15 proofs hold.`);
