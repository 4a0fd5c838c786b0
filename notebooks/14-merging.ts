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
// | Time | 50 minutes to read and try; about two minutes to run |
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
// A small Llama that has read 240 facts as statements (lesson 02 explains these cells one by one).

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  barChart,
  type CausalLM,
  combineTasks,
  crossEntropy,
  fromConfig,
  getPeftModel,
  heatMap,
  jit,
  LoraConfig,
  type LoraLinear,
  lineChart,
  llamaConfig,
  loadDataset,
  mergeLora,
  mergeModels,
  RandomState,
  randomNormal,
  setBackend,
  TaskVector,
  taskMerge,
  type WeightedAdapterOptions,
} from 'peftlab';

await setBackend('auto');

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
// ## 2. Three teams, three corrections
//
// The world has changed. One team corrects 20 capitals, one 20 colours, one 20 sums (the new answers are as arbitrary
// as the old). Each trains an adapter of rank 8 on all linear layers. So that nothing else breaks, each batch
// holds 20 corrected facts and 40 old ones, whose answers stay.
//
// Three *rounds*, with other facts, other answers and another order each time, stand in for luck: what follows is
// measured in all three.

// %%
const kinds = ['capital', 'colour', 'sum'] as const;
type Kind = (typeof kinds)[number];
const rounds = [0, 1, 2];

interface Round {
  corrected: Record<Kind, Fact[]>;
  untouched: Fact[];
}
function makeRound(round: number): Round {
  const correct = (kind: Kind, i: number) => {
    const own = facts.filter((fact) => fact.kind === kind);
    const chosen = new RandomState(10 * round + i + 5).permutation(own).slice(0, 20);
    return chosen.map((fact, j) => ({ ...fact, answer: chosen[(j + 7) % 20]!.answer }));
  };
  const lists = kinds.map((kind, i) => [kind, correct(kind, i)] as const);
  const touched = new Set(lists.flatMap(([, list]) => list.map((fact) => fact.statement)));
  return {
    corrected: Object.fromEntries(lists) as Record<Kind, Fact[]>,
    untouched: facts.filter((fact) => !touched.has(fact.statement)),
  };
}
const tasks = rounds.map(makeRound);
display.table(
  kinds
    .map((kind) => tasks[0]!.corrected[kind][0]!)
    .map((fact) => ({
      statement: fact.statement,
      'corrected answer': fact.answer,
    })),
);

// %%
/** Beginnings of statements with their answers: 20 corrected ones and 40 old ones a batch. */
function* corrections(news: Fact[], old: Fact[], steps: number, seed: number): Generator<Batch> {
  const draw = new RandomState(seed);
  for (let i = 0; i < steps; i++) {
    const some = [...draw.permutation(news).slice(0, 20), ...draw.permutation(old).slice(0, 40)];
    yield toBatch(
      some.map((fact) => encode(`${begun(fact)} ${fact.answer} .`)),
      2,
    );
  }
}

// %%
const config = (r: number) => {
  const targetModules = [
    'q_proj',
    'k_proj',
    'v_proj',
    'o_proj',
    'gate_proj',
    'up_proj',
    'down_proj',
  ];
  return new LoraConfig({ r, loraAlpha: 2 * r, targetModules });
};
/** A model of its own with these weights. */
function copyOf(some: CausalLM): CausalLM {
  const copy = fromConfig(some.config);
  const from = some.parameters();
  for (const [i, parameter] of copy.parameters().entries()) parameter.assign(from[i]!);
  return copy;
}
const original = copyOf(base);
const model = getPeftModel(base, config(8), { adapterName: 'capital-0' });
const nameOf = (kind: Kind | 'joint', round: number) => `${kind}-${round}`;

// %% [markdown]
// Nine adapters (three teams, three rounds), all on one base: that is what a frozen base is for. A tenth to twelfth, `joint`, is trained on
// all three corrections at once: the model that we could have had if the teams had talked to each other.

// %%
for (const round of progress(rounds, { desc: 'three rounds of four adapters' })) {
  const { corrected, untouched } = tasks[round]!;
  for (const kind of kinds) {
    const name = nameOf(kind, round);
    if (!(name in model.peftConfig)) model.addAdapter(name, config(8));
    model.setAdapter(name);
    const own = new Set(corrected[kind].map((fact) => fact.statement));
    const others = facts.filter((fact) => !own.has(fact.statement));
    await train(model, corrections(corrected[kind], others, 150, round), 2e-3);
  }
  model.addAdapter(nameOf('joint', round), config(16));
  model.setAdapter(nameOf('joint', round));
  const all = kinds.flatMap((kind) => corrected[kind]);
  await train(model, corrections(all, untouched, 200, round), 2e-3);
}

// %%
interface Score extends Record<Kind, number> {
  untouched: number;
}
const columns = [...kinds, 'untouched'] as const;

/** Shares of corrected facts that are now right, and of the others that still are. */
function score(some: CausalLM, round: number): Score {
  const { corrected, untouched } = tasks[round]!;
  const shares = kinds.map((kind) => [kind, accuracy(some, corrected[kind], begun)]);
  return {
    ...(Object.fromEntries(shares) as Record<Kind, number>),
    untouched: accuracy(some, untouched, begun),
  };
}
function scoreOf(name: string, round: number): Score {
  model.setAdapter(name, { inferenceMode: true });
  return score(model, round);
}
const averageOf = (scores: Score[]): Score =>
  Object.fromEntries(
    columns.map((column) => [column, mean(scores.map((one) => one[column]))]),
  ) as unknown as Score;
const inPercent = (one: Score) =>
  Object.fromEntries(columns.map((column) => [column, percent(one[column])]));

// %%
const apart = [...kinds, 'joint' as const].map((kind) => ({
  adapter: kind,
  scores: rounds.map((round) => scoreOf(nameOf(kind, round), round)),
}));
heatMap({
  title: 'Each adapter knows its own corrections only (mean of three rounds)',
  x: 'what is asked',
  y: 'adapter',
  z: 'right (%)',
  columns: ['corrected capitals', 'corrected colours', 'corrected sums', 'untouched facts'],
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
// (A few colours and sums of other teams come out "right" by chance: there are only ten colours, and some new answers
// equal the old.)

// %% [markdown]
// ## 3. One adapter: merge, unload, switch
//
// Three ways to serve an adapter. **Merge** it, and the model is as fast as the base, but it is one thing only.
// Keep it **beside** the weights, and you can switch. `mergeAndUnload` is the first with no way back.
//
// > **Predict.** A switch between adapters in memory: how long does it take for a model of 7 billion parameters?

// %%
const someIds = toBatch(facts.slice(0, 40).map((fact) => encode(begun(fact)))).ids;
const scores = (some: CausalLM) => tf.tidy(() => some.forward(someIds).logits.dataSync());
const apartBy = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

model.setAdapter('capital-0', { inferenceMode: true });
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
/** Merges the three adapters of each round in one way, and measures. */
function tryMerge(weight: number, options: WeightedAdapterOptions): Score[] {
  return rounds.map((round) => {
    const names = kinds.map((kind) => nameOf(kind, round));
    model.addWeightedAdapter(names, [weight, weight, weight], 'trial', { seed: round, ...options });
    const result = scoreOf('trial', round);
    model.deleteAdapter('trial');
    return result;
  });
}
const news = (scores: Score[]) => scores.map((one) => mean(kinds.map((kind) => one[kind])));
const factors = [0.2, 1 / 3, 0.5, 0.65, 0.8, 1, 1.25, 1.5];
const byFactor = factors.map((weight) => tryMerge(weight, { combinationType: 'cat' }));
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
// fall, and beyond $w = 1$ everything does. There is a best weight, and it must be looked for **on data**; here it lies
// between 0.8 and 1.
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
const factorsOf = (name: string, path: string) => {
  const layer = model.layers.get(path)!.adapters.get(name) as LoraLinear;
  const [a, b] = [layer.loraA, layer.loraB] as [tf.Tensor2D, tf.Tensor2D];
  return { a, b, scaling: layer.scaling };
};
const path = 'model.layers.0.mlp.up_proj';
const three = kinds.map((kind) => factorsOf(nameOf(kind, 0), path));
const product = ({ a, b, scaling }: (typeof three)[number]) =>
  tf.mul(tf.matMul(b, a), scaling) as tf.Tensor2D;
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
  'svd, rank 8': tryMerge(1, { combinationType: 'svd', svdRank: 8 }),
  linear: tryMerge(1, { combinationType: 'linear' }),
};
display.table(
  Object.entries(joined).map(([name, list]) => ({ method: name, ...inPercent(averageOf(list)) })),
);
prove(
  'Adding factor by factor is worse than adding the updates',
  rounds.every((i) => joined.linear[i]!.untouched < joined.cat[i]!.untouched - 0.1) &&
    mean(news(joined.linear)) < mean(news(joined.cat)) - 0.1,
  `untouched facts ${percent(averageOf(joined.linear).untouched)} against ${percent(averageOf(joined.cat).untouched)}`,
);

// %% [markdown]
// `svd` cut to rank 8, the size of *one* adapter, keeps the strongest 8 of 24 directions. It drops a third of the update's
// length and some of the corrections with it, but the untouched facts are the better for it. `cat` and `svd` are the ones to
// try first; `svd` is PEFT's default.

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
const deltas = kinds.map((kind) => product(factorsOf(nameOf(kind, 0), path)));
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
// > **Predict.** Ours is a tiny model, whose every entry matters. At which density does it break?

// %%
const densities = [0.9, 0.7, 0.5, 0.3, 0.2, 0.1, 0.05];
/** The base with an adapter in its weights, as a model of its own. */
function tunedCopy(name: string): CausalLM {
  const copy = copyOf(original);
  for (const [layerPath] of model.layers) {
    const { a, b, scaling } = factorsOf(name, layerPath);
    const weight = (copy.getSubmodule(layerPath) as unknown as { weight: tf.Variable }).weight;
    tf.tidy(() => weight.assign(tf.add(weight, tf.mul(tf.matMul(b, a), scaling))));
  }
  return copy;
}

// %%
const tuned = rounds.map((round) => tunedCopy(nameOf('capital', round)));
const ways = {
  DARE: { mergeMethod: 'dare_linear' },
  'drop without rescaling': { mergeMethod: 'dare_linear', rescale: false },
  'keep the largest': { mergeMethod: 'ties' },
} as const;
const drops = Object.entries(ways).map(([name, way]) => ({
  name,
  shares: densities.map((density) =>
    rounds.map((round) => {
      const pruned = copyOf(original);
      const recipe = { ...way, base: original, densities: [density], seed: round };
      mergeModels(pruned, [tuned[round]!], recipe);
      const right = score(pruned, round).capital;
      pruned.dispose();
      return right;
    }),
  ),
}));

// %%
lineChart({
  title: 'What is left of the corrected capitals when entries of the update are dropped',
  x: 'density: share of the entries that is kept',
  y: 'right, mean of three rounds (%)',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: drops.map(({ name, shares }) => ({
    name,
    x: densities,
    y: shares.map((list) => 100 * mean(list)),
  })),
});

// %%
const atDensity = (name: string, density: number) =>
  drops.find((way) => way.name === name)!.shares[densities.indexOf(density)]!;
const [dared, dropped, largest] = Object.keys(ways).map((name) => atDensity(name, 0.5));
prove(
  'Dropped entries must be made up for',
  mean(dared!) > mean(dropped!) + 0.1,
  `half dropped: rescaled ${percent(mean(dared!))}, not rescaled ${percent(mean(dropped!))}, the largest half ${percent(mean(largest!))}`,
);

// %% [markdown]
// Rescaling is what makes dropping bearable: without it, half the entries are half the push, and that is not enough. With
// it, even this tiny model stands the loss of four entries in five. The paper's "90 %, even 99 % can go" it does **not** stand:
// that is about *large* models. Dropping at random adds noise that grows as $\sqrt{(1-p)/p}$, and 64 numbers
// a layer can average out only so much of it.
//
// Keeping the largest half does as well as DARE, without any rescaling: the large entries carry most of the push. Below a
// fifth it fails sooner. Treat any "drop $x$ %" as a number to be measured on *your* model.

// %% [markdown]
// ## 8. All methods, one table
//
// The methods that prune want their merge in full size first (`*_svd`); on factors alone they have the cross terms of
// `linear` on top. Numbers after a name are weights other than 1; TIES, DARE-TIES and magnitude pruning keep half of the
// entries, DARE 80 %; `joint` is the model that was trained on all corrections at once.

// %%
const big = { svdRank: 64 };
const contest: Record<string, Score[]> = {
  'cat 0.8': byFactor[4]!,
  'cat 1': summed,
  'svd r = 8': joined['svd, rank 8'],
  linear: joined.linear,
  magnitude: tryMerge(1, {
    ...{ combinationType: 'magnitude_prune_svd', density: 0.5, ...big },
  }),
  DARE: tryMerge(1, {
    ...{ combinationType: 'dare_linear_svd', density: 0.8, ...big },
  }),
  TIES: tryMerge(1, { combinationType: 'ties_svd', density: 0.5, ...big }),
  'TIES 1.5': tryMerge(1.5, { combinationType: 'ties_svd', density: 0.5, ...big }),
  'DARE-TIES': tryMerge(1, { combinationType: 'dare_ties_svd', density: 0.5, ...big }),
  joint: rounds.map((round) => scoreOf(nameOf('joint', round), round)),
};
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
// - A plain, exact sum with a tuned weight is hard to beat here. TIES protects the untouched facts best, and pays with
//   corrections; that is a trade, not a victory. With adapters that *conflict* in sign, or with many of them, TIES has
//   more to repair.
// - DARE at 80 % harms the untouched facts more than it helps: what one adapter alone stands, three together need not.
// - Merging costs no training and no data, and it loses to training together. It is for when the data can not be
//   brought together, or the teams can not.
// - Every weight, density and rank here was read off the same facts that judge it. With real work you need facts
//   set aside for that choice.

// %% [markdown]
// ## 9. Task arithmetic: take a skill out again
//
// A *task vector* is $\tau = \theta_{tuned} - \theta_{base}$ (Ilharco et al. 2023). It adds, scales, and can be **negated**. Now
// the surprising part. The `joint` model learnt all three corrections at once. Suppose the corrected capitals are withdrawn.
// The capital team's vector was trained *by itself*, from another start. Subtract it from the joint model:
//
// $$\theta = \theta_{joint} - \lambda\, \tau_{capital}$$
//
// > **Predict.** The joint model never saw this vector. Does it forget the corrected capitals, and only them? And what would
// > a random vector of the same length do?

// %%
/** An adapter of random directions whose update is as long in each layer as that of `name`. */
function addRandomLike(name: string, seed: number): string {
  const draw = new RandomState(seed + 77);
  model.addAdapter('random', config(8));
  for (const layerPath of model.layers.keys()) {
    const like = factorsOf(name, layerPath);
    const own = factorsOf('random', layerPath);
    tf.tidy(() => {
      const [a, b] = [randomNormal(own.a.shape, draw), randomNormal(own.b.shape, draw)];
      const ratio = tf.div(
        tf.norm(product(like)),
        tf.norm(product({ ...own, a, b } as typeof own)),
      );
      (own.a as unknown as tf.Variable).assign(a);
      (own.b as unknown as tf.Variable).assign(tf.mul(b, ratio));
    });
  }
  return 'random';
}

// %%
const lambdas = [0, 0.25, 0.5, 0.75, 1, 1.5];
function subtract(round: number, other: string): Score[] {
  return lambdas.map((lambda) => {
    const names = [nameOf('joint', round), other];
    model.addWeightedAdapter(names, [1, -lambda], 'less', { combinationType: 'cat' });
    const result = scoreOf('less', round);
    model.deleteAdapter('less');
    return result;
  });
}
const negated: Score[][] = [];
const control: Score[][] = [];
for (const round of rounds) {
  negated.push(subtract(round, nameOf('capital', round)));
  control.push(subtract(round, addRandomLike(nameOf('capital', round), round)));
  model.deleteAdapter('random');
}

// %%
const curve = (list: Score[][], pick: (one: Score) => number) =>
  lambdas.map((_, i) => 100 * mean(list.map((scores) => pick(scores[i]!))));
const others = (one: Score) => (one.colour + one.sum) / 2;
lineChart({
  title: 'The joint model less λ times a vector',
  x: 'λ',
  y: 'right, mean of three rounds (%)',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: [
    { name: 'capitals, less the capital vector', x: lambdas, y: curve(negated, (s) => s.capital) },
    { name: 'colours and sums, less the capital vector', x: lambdas, y: curve(negated, others) },
    { name: 'capitals, less a random vector', x: lambdas, y: curve(control, (s) => s.capital) },
    {
      name: 'untouched, less the capital vector',
      x: lambdas,
      y: curve(negated, (s) => s.untouched),
    },
  ],
});

// %%
const half = lambdas.indexOf(0.5);
const forgotten = negated.map((list) => list[half]!);
const unharmed = control.map((list) => list[half]!);
prove(
  'Half of the vector, subtracted, takes out its task and nothing else',
  forgotten.every((one) => one.capital < 0.6 && others(one) > 0.9 && one.untouched > 0.9),
  `capitals ${percent(mean(forgotten.map((s) => s.capital)))}, colours and sums ${percent(mean(forgotten.map(others)))}`,
);
prove(
  'A random vector of the same length takes out nothing',
  unharmed.every((one) => one.capital > 0.9),
  `capitals ${percent(mean(unharmed.map((one) => one.capital)))}`,
);

// %% [markdown]
// Do the old capitals come back? They were overwritten in training, not deleted:

// %%
const oldCapitals = (name: string, round: number) => {
  const corrected = tasks[round]!.corrected.capital.map((fact) => fact.statement);
  const old = facts.filter((fact) => corrected.includes(fact.statement));
  model.setAdapter(name, { inferenceMode: true });
  return accuracy(model, old, begun);
};
const comeBack = rounds.map((round) => {
  const before = oldCapitals(nameOf('joint', round), round);
  const names = [nameOf('joint', round), nameOf('capital', round)];
  model.addWeightedAdapter(names, [1, -0.75], 'less', { combinationType: 'cat' });
  const after = oldCapitals('less', round);
  model.deleteAdapter('less');
  return {
    round,
    'old capitals, joint model': percent(before),
    'less 0.75 τ': percent(after),
    after,
  };
});
display.table(comeBack.map(({ after: _, ...row }) => row));

// %% [markdown]
// **Without adapters.** The same arithmetic works on whole weights, whatever made them: `TaskVector.between(base, tuned)`, then
// `scale`, `add`, `negate`, `applyTo`. For LoRA it is the same thing to the last rounding:

// %%
const vectors = kinds.map((kind) => TaskVector.between(original, tunedCopy(nameOf(kind, 0))));
const all = vectors.reduce((sum, vector) => sum.add(vector));
const summedWeights = copyOf(original);
all.scale(0.8).applyTo(summedWeights);
const names = kinds.map((kind) => nameOf(kind, 0));
model.addWeightedAdapter(names, [0.8, 0.8, 0.8], 'sum', { combinationType: 'cat' });
model.setAdapter('sum', { inferenceMode: true });
prove(
  'Task vectors on weights and weighted adapters are one arithmetic',
  apartBy(scores(summedWeights), scores(model)) < 1e-3,
  `largest difference of a score ${apartBy(scores(summedWeights), scores(model)).toExponential(1)}`,
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
const [capitalModel, colourModel] = [tunedCopy('capital-0'), tunedCopy('colour-0')];
const between = [0, 0.25, 0.5, 0.75, 1].map((t) => {
  const [arc, line] = [copyOf(original), copyOf(original)];
  mergeModels(arc, [colourModel], { mergeMethod: 'slerp', base: capitalModel, t });
  mergeModels(line, [capitalModel, colourModel], { mergeMethod: 'linear', weights: [1 - t, t] });
  const [onArc, onLine] = [score(arc, 0), score(line, 0)];
  return {
    t,
    'slerp: capitals': percent(onArc.capital),
    'slerp: colours': percent(onArc.colour),
    'linear: capitals': percent(onLine.capital),
    'linear: colours': percent(onLine.colour),
  };
});
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
const [A1, B1, A2, B2] = [three[0]!.a, three[0]!.b, three[1]!.a, three[1]!.b];
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
// orthogonal, so they hardly disturb each other. Proof: *half of the vector takes out its task*, with the random control.
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
// - Subtract the colour vector from the *base*. What happens at $\lambda = 2$, and what does the random vector do there?
//
// **Next:** lesson 15 keeps the adapters apart and lets a router choose.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 13 proofs hold.`);
