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
// # Mixture of LoRA experts
//
// One base model, many adapters: one for each task, or for each customer. **Who decides which of them answers, and what
// does it cost to have fifty?** In this lesson you train a router, watch it fail in the way all routers fail, and repair it.
// Then you run fifty adapters on one base with room for ten.
//
// | | |
// |---|---|
// | Time | 50 minutes to read and try; about two minutes to run |
// | You need | LoRA (lesson 03), merging and switching (lesson 14) |
// | Level | the senior interview questions: "design a system for 50 fine-tuned tasks" |

// %% [markdown]
// **When you are through you can**
//
// 1. write a router's formula, and say what top-1, top-k and soft routing, per sequence and per token, each cost;
// 2. recognize *collapse*, explain why it feeds itself, and use the load-balancing loss against it;
// 3. read routing statistics: shares, entropy, which expert serves which task;
// 4. size a system of 50 tasks in your head: memory of 50 models against one base with 50 adapters;
// 5. predict a cache's hit rate from the traffic, and measure it.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. The same world
//
// A small Llama that has read 240 facts as statements (lesson 02 explains these cells one by one).

// %%
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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
  lineChart,
  llamaConfig,
  loadDataset,
  RandomState,
  randomNormal,
  setBackend,
} from 'peftlab';

await setBackend('auto');

// %% [markdown]
// And the parts that this lesson is about: routers, counts on shapes alone, a cache of adapters.

// %%
import {
  AdapterCache,
  choose,
  countAdapter,
  countParameters,
  heatMap,
  KNOWN_MODELS,
  loadBalancingLoss,
  RoutedModel,
  type RoutedRow,
  type RouterConfig,
  type RouterLossWeights,
  RouterTrainer,
  type Routing,
  RoutingStatistics,
} from 'peftlab';

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
// ## 2. Three experts that do not get along
//
// Three customers each see the world differently: one has all 80 capitals shuffled, one all 60 colours, one all 100 sums. Each
// gets an adapter that learnt *its* answers, and nothing kept it from breaking the rest.

// %%
const kinds = ['capital', 'colour', 'sum'] as const;
const factsOf = (kind: string) => facts.filter((fact) => fact.kind === kind);
const views = kinds.map((kind, i) => {
  const own = factsOf(kind);
  const answers = new RandomState(i).permutation(own.map((fact) => fact.answer));
  return own.map((fact, j) => ({ ...fact, answer: answers[j]! }));
});

function* lessons(some: Fact[], steps: number, draw: RandomState): Generator<Batch> {
  for (let i = 0; i < steps; i++) {
    const batch = draw.permutation(some).slice(0, 40);
    yield toBatch(
      batch.map((fact) => encode(`${begun(fact)} ${fact.answer} .`)),
      2,
    );
  }
}
const targetModules = 'all-linear';
const config = () => new LoraConfig({ r: 8, loraAlpha: 16, targetModules });
const model = getPeftModel(base, config(), { adapterName: 'capital' });

// %%
for (const [i, kind] of progress([...kinds.entries()], { desc: 'three experts' })) {
  if (i > 0) model.addAdapter(kind, config());
  model.setAdapter(kind);
  await train(model, lessons(views[i]!, 150, new RandomState(1)), 3e-3);
}
const ownShare = kinds.map((expert) => {
  model.setAdapter(expert, { inferenceMode: true });
  return views.map((view) => accuracy(model, view, begun));
});
heatMap({
  title: 'Each expert answers its own kind of question, and breaks the others',
  x: 'kind of fact',
  y: 'expert',
  z: 'right (%)',
  columns: kinds,
  rows: kinds,
  values: ownShare.map((row) => row.map((share) => 100 * share)),
  range: [0, 100],
});

// %%
const off = ownShare.flatMap((row, i) => row.filter((_, j) => j !== i));
prove(
  'Experts know their own field and nothing else',
  ownShare.every((row, i) => row[i]! > 0.75) && Math.max(...off) < 0.2,
  `own ${ownShare.map((row, i) => percent(row[i]!)).join(', ')}; elsewhere at most ${percent(Math.max(...off))}`,
);

// %% [markdown]
// Could we merge them, as in lesson 14? The exact sum, with four weights:

// %%
const mergedShares = [1 / 3, 0.5, 0.7, 1].map((weight) => {
  const weights = [weight, weight, weight];
  model.addWeightedAdapter(kinds, weights, 'merged', { combinationType: 'cat' });
  model.setAdapter('merged', { inferenceMode: true });
  const share = mean(views.map((view) => accuracy(model, view, begun)));
  model.deleteAdapter('merged');
  return share;
});
prove(
  'Merging these experts leaves little of any',
  Math.max(...mergedShares) < 0.3,
  `right with weights 1/3, 0.5, 0.7, 1: ${mergedShares.map(percent).join(', ')}`,
);

// %% [markdown]
// Each expert *rewrote* what the others need. If one model is to serve all three customers, something must **choose**.

// %% [markdown]
// ## 3. The router
//
// A classifier of hidden states, no more. The base model (without adapters) reads the text; the router looks at what came out
// of it, $h$, and gives each expert a probability. The text then passes the model again, with the experts weighed:
//
// $$p = \text{softmax}(W_r\, h) \qquad y = W_0 x + \sum_e w_e \, s_e B_e A_e x$$
//
// | Routing | Weights $w$ | Cost of a pass |
// |---|---|---|
// | soft | $w = p$ | all experts |
// | top-k | the $k$ largest of $p$, made to add up to 1 (Mixtral) | $k$ experts |
// | top-1 | the largest of $p$, as it is (Switch Transformer) | one expert |
//
// *Per sequence* the router looks at the mean state of the prompt and decides once. *Per token* it decides at every
// position. Everything but $W_r$ (and a bias) stays frozen.

// %%
const routedBy = (options: Partial<RouterConfig> = {}) =>
  new RoutedModel(model, { experts: kinds, ...options });
const sample = routedBy();
const trained = sample.parameters().filter(({ trainable }) => trainable);
prove(
  'Only the router is trained',
  trained.reduce((sum, { size }) => sum + size, 0) === 64 * 3 + 3,
  `${64 * 3 + 3} numbers: 64 for each of three experts, and a bias each`,
);

// %% [markdown]
// > **Predict.** Why is $w_1 = p_1$ in top-1, and not 1, as "made to add up to 1" would give?

// %% [markdown]
// <details><summary>Answer</summary>
//
// With $w_1 = 1$, whatever $p$ is, the loss does not depend on the router: its gradient is zero, and it never learns.
// The factor $p_1$ is the only thread that the gradient can follow. With $k \ge 2$ the *ratio* of the winners still depends
// on the router.
//
// </details>

// %% [markdown]
// ### With labels: the easy way
//
// If each training text says which expert it is for, the router learns as any classifier does. Half of the facts train it, the
// other half tests it: it must send lands to `capital` that it has never been told about.

// %%
const rowsOf = (some: Fact[]): RoutedRow[] =>
  some.map((fact) => {
    const prompt = encode(begun(fact));
    const inputIds = [...prompt, ...encode(`${fact.answer} .`)];
    const labels = inputIds.map((id, i) => (i < prompt.length ? -100 : id));
    return { inputIds, labels, expert: fact.kind };
  });
const trainFacts = views.flat().filter((fact) => fact.split === 'train');
const testFacts = views.flat().filter((fact) => fact.split === 'test');

async function trainRouter(
  options: Partial<RouterConfig>,
  lossWeights: RouterLossWeights,
  { rows = rowsOf(trainFacts), maxSteps = 60 } = {},
): Promise<RoutedModel> {
  const routed = routedBy(options);
  const args = {
    ...{ learningRate: 0.02, perDeviceTrainBatchSize: 32, maxSteps },
    ...{ seed: options.seed ?? 0, disableTqdm: true },
  };
  const trainer = new RouterTrainer({ model: routed, trainDataset: rows, args, lossWeights });
  await trainer.train();
  return routed;
}

// %%
/** Facts whose prompts are of one length, so that no padding is needed. */
function byLength(some: Fact[]): Fact[][] {
  const lengths = new Map<number, Fact[]>();
  for (const fact of some) {
    const { length } = encode(begun(fact));
    lengths.set(length, [...(lengths.get(length) ?? []), fact]);
  }
  return [...lengths.values()];
}
const promptsOf = (some: Fact[]) =>
  tf.tensor2d(
    some.map((fact) => encode(begun(fact))),
    undefined,
    'int32',
  );

type Forward = (ids: tf.Tensor2D, list: Fact[]) => tf.Tensor3D;
/** Share of facts whose answer is the likeliest next word. */
function answered(some: Fact[], forward: Forward): number {
  let right = 0;
  for (const list of byLength(some)) {
    const best = tf.tidy(() => tf.argMax(forward(promptsOf(list), list), -1).arraySync());
    for (const [i, row] of (best as number[][]).entries()) {
      if (vocabulary[row.at(-1)!] === list[i]!.answer) right++;
    }
  }
  return right / some.length;
}
const routedScore = (routed: RoutedModel, some = testFacts) =>
  answered(some, (ids) => routed.forward(ids).logits);

// %%
function statisticsOf(routed: RoutedModel, some = testFacts) {
  const statistics = new RoutingStatistics(kinds);
  for (const list of byLength(some)) {
    const routing = routed.route(promptsOf(list));
    statistics.add(routing, { tasks: list.map((fact) => fact.kind) });
    tf.dispose(routing);
  }
  return statistics.report();
}
const seeds = [0, 1, 2];
const told: RoutedModel[] = [];
for (const seed of seeds) {
  told.push(await trainRouter({ topK: 1, seed }, { language: 0, expert: 1, balance: 0 }));
}
const toldScores = told.map((routed) => routedScore(routed));

// %% [markdown]
// Numbers mean little without something to compare with. Five ways to do without a trained router:

// %%
const draw = new RandomState(9);
const names = (list: Fact[], pick: (fact: Fact) => string) => ({ adapterNames: list.map(pick) });
const controls = {
  'base alone': answered(testFacts, (ids) => model.disableAdapter(() => model.forward(ids)).logits),
  'always the capital expert': answered(
    testFacts,
    (ids, list) =>
      model.forward(
        ids,
        names(list, () => 'capital'),
      ).logits,
  ),
  'an expert at random': answered(
    testFacts,
    (ids, list) =>
      model.forward(
        ids,
        names(list, () => draw.choice(kinds)),
      ).logits,
  ),
  'an untrained router, soft': routedScore(routedBy()),
  'the right expert, told': answered(
    testFacts,
    (ids, list) =>
      model.forward(
        ids,
        names(list, (fact) => fact.kind),
      ).logits,
  ),
};

// %%
display.table([
  ...Object.entries(controls).map(([who, share]) => ({
    'who chooses': who,
    right: percent(share),
  })),
  { 'who chooses': 'router, trained with labels', right: toldScores.map(percent).join(', ') },
]);

// %%
prove(
  'A router that was told is as good as knowing the task',
  Math.min(...toldScores) > controls['the right expert, told'] - 0.05,
  `three seeds ${toldScores.map(percent).join(', ')}; told the task ${percent(controls['the right expert, told'])}`,
);

// %% [markdown]
// ## 4. Without labels
//
// Often nobody says which expert a text is for. But the language model's own loss knows: the right expert finds the next word less
// surprising. So train the router by *that*, through the frozen experts.
//
// > **Predict.** Soft, top-2, top-1: which learns best from next words alone? Think of what each gets to *see* of the experts
// > that it did not choose.

// %%
const ways = { soft: {}, 'top-2': { topK: 2 }, 'top-1': { topK: 1 } };
const untold: Record<string, RoutedModel[]> = {};
for (const [way, options] of progress(Object.entries(ways), { desc: 'routers without labels' })) {
  untold[way] = [];
  for (const seed of seeds) {
    untold[way].push(await trainRouter({ ...options, seed }, { balance: 0 }));
  }
}
const untoldScores = Object.entries(untold).map(([way, list]) => ({
  way,
  scores: list.map((routed) => routedScore(routed)),
  reports: list.map((routed) => statisticsOf(routed)),
}));
display.table(
  untoldScores.map(({ way, scores, reports }) => ({
    routing: way,
    'right, three seeds': scores.map(percent).join(', '),
    'experts in use': reports.map((r) => r.effectiveExperts.toFixed(1)).join(', '),
    'balance (1 is even)': reports.map((r) => r.balance.toFixed(2)).join(', '),
    'entropy (nats)': reports.map((r) => r.entropy.toFixed(2)).join(', '),
  })),
);

// %%
const picture = (title: string, routed: RoutedModel) =>
  heatMap({
    title,
    x: 'expert',
    y: 'kind of fact',
    z: 'share of texts',
    columns: kinds,
    rows: kinds,
    values: kinds.map((kind) => statisticsOf(routed).byTask.get(kind)!),
    range: [0, 1],
  });
picture('Soft routing, learnt from next words alone (seed 0)', untold.soft![0]!);

// %% [markdown]
// Each kind of fact found its expert. And here is top-1, with the same experts, texts and seed:

// %%
picture('Top-1 routing, learnt from next words alone (seed 0)', untold['top-1']![0]!);

// %%
const [softScores, , topScores] = untoldScores.map(({ scores }) => scores);
prove(
  'Soft routing finds the experts without labels, top-1 does not',
  Math.min(...softScores!) > 0.9 && mean(topScores!) < mean(softScores!) - 0.2,
  `soft ${softScores!.map(percent).join(', ')}; top-1 ${topScores!.map(percent).join(', ')}`,
);

// %% [markdown]
// Top-2 lies between: with one seed it finds all experts, with two it leaves one out.
//
// **Collapse.** Top-1 sends nearly everything to one or two experts. At the start all are equally bad guesses; by chance one is
// chosen a little more, so only *it* gets gradients, its probability grows, and it is chosen still more. What it never tries
// it never learns about. Soft routing tries everything at once, and pays for all experts at every pass.

// %% [markdown]
// ## 5. The load-balancing loss
//
// The Switch Transformer adds a second loss, over a batch:
//
// $$L_{balance} = E \sum_{e=1}^{E} f_e\, P_e$$
//
// with $f_e$ the share of texts *sent* to expert $e$, and $P_e$ its mean *probability*. Only $P_e$ has a gradient: where
// much is sent, the probability is pushed down.
//
// > **Predict.** Its value when all are used evenly? And when one of three gets everything, with certainty?

// %%
const certain = (rows: number[]) =>
  choose(tf.tensor3d([rows.map((e) => kinds.map((_, i) => (i === e ? 30 : 0)))]), 1);
const [even, collapsed] = [certain([0, 1, 2]), certain([0, 0, 0])].map((routing: Routing) =>
  loadBalancingLoss(routing).dataSync()[0]!.toFixed(3),
);
prove(
  'The load-balancing loss is 1 when even and E when collapsed',
  Number(even) === 1 && Number(collapsed) === 3,
  `${even} and ${collapsed} with three experts`,
);

// %% [markdown]
// How much of it? Too little and it does nothing; too much and the router only cares for evenness, not for who is right.
//
// > **Predict.** The paper's factor is 0.01. Is that enough here?

// %%
const balances = [0, 0.01, 0.1, 0.3, 1, 3, 10];
const balanced: { right: number[]; accuracy: number[]; used: number[] }[] = [];
for (const balance of progress(balances, { desc: 'how much balance' })) {
  const routers: RoutedModel[] = [];
  for (const seed of seeds) routers.push(await trainRouter({ topK: 1, seed }, { balance }));
  const reports = routers.map((routed) => statisticsOf(routed));
  balanced.push({
    right: routers.map((routed) => routedScore(routed)),
    accuracy: reports.map((report) => report.accuracy!),
    used: reports.map((report) => report.effectiveExperts),
  });
}
const shown = balances.map((balance) => Math.max(balance, 0.003));
lineChart({
  title: 'Top-1 routing with more and more of the load-balancing loss',
  x: 'factor of the balancing loss (0 is drawn at 0.003)',
  y: 'answers right (%)',
  xScale: 'log',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: [
    { name: 'mean of three seeds', x: shown, y: balanced.map(({ right }) => 100 * mean(right)) },
    { name: 'worst seed', x: shown, y: balanced.map(({ right }) => 100 * Math.min(...right)) },
    { name: 'best seed', x: shown, y: balanced.map(({ right }) => 100 * Math.max(...right)) },
  ],
});

// %%
display.table(
  balances.map((balance, i) => ({
    factor: balance,
    'right, three seeds': balanced[i]!.right.map(percent).join(', '),
    'experts in use': balanced[i]!.used.map((used) => used.toFixed(1)).join(', '),
    'sent to their own expert': balanced[i]!.accuracy.map(percent).join(', '),
  })),
);
const without = mean(balanced[0]!.right);
const withMost = Math.max(...balanced.map(({ right }) => mean(right)));
prove(
  'Some balancing helps top-1 over none',
  withMost > without + 0.1,
  `mean of three seeds ${percent(without)} without, ${percent(withMost)} at the best factor`,
);

// %% [markdown]
// Three things to take from it. Below a threshold it does *nothing*: the paper's 0.01 is for thousands of steps and many
// experts; we have sixty steps. Above it, evenness becomes the goal, and answers get worse again. And look at the worst seed
// at factor 1: all three experts are in use, evenly, and still only a quarter of the texts reach their own expert. **Even is
// not right**: the loss makes a router try all experts, not find the best. Evidence from one seed would have told you either
// that balancing solves the problem, or that it does nothing.
//
// So where labels can be had, use them (section 3). Where not, begin soft.

// %% [markdown]
// ## 6. One choice a text, or one a token?
//
// So far each text had one task. Now write two facts of different kinds one after the other:
// `the capital of ... is ... . the colour of ... is`. The prompt that a sequence router sees is the first half.
//
// > **Predict.** How does each kind of router do on the *second* fact?

// %%
interface Pair extends RoutedRow {
  facts: [Fact, Fact];
  ends: [number, number];
}
function pairsOf(some: Fact[], count: number, seed: number): Pair[] {
  const random = new RandomState(seed);
  return Array.from({ length: count }, () => {
    const first = random.choice(some);
    const second = random.choice(some.filter((fact) => fact.kind !== first.kind));
    const [a, b] = [encode(begun(first)), encode(begun(second))];
    const [answerA, answerB] = [encode(`${first.answer} .`), encode(`${second.answer} .`)];
    const inputIds = [...a, ...answerA, ...b, ...answerB];
    const ends: [number, number] = [a.length, a.length + 2 + b.length];
    const isAnswer = (i: number) => ends.some((end) => i === end || i === end + 1);
    const labels = inputIds.map((id, i) => (isAnswer(i) ? id : -100));
    return { inputIds, labels, facts: [first, second], ends };
  });
}
const testPairs = pairsOf(testFacts, 90, 5);

// %% [markdown]
// Both kinds of router are trained on such pairs, and asked for both answers.

// %%
/** Shares of first and of second answers that are right. */
function pairScores(routed: RoutedModel): [number, number] {
  const right = [0, 0];
  for (const { inputIds, facts: both, ends } of testPairs) {
    const best = tf.tidy(() => {
      const ids = tf.tensor2d([inputIds], undefined, 'int32');
      const seen = inputIds.map((_, i) => (i < ends[0] ? 1 : 0));
      const promptMask = tf.tensor2d([seen], undefined, 'int32');
      return tf.argMax(routed.forward(ids, { promptMask }).logits, -1).dataSync();
    });
    for (const i of [0, 1] as const) {
      if (vocabulary[best[ends[i] - 1]!] === both[i].answer) right[i]!++;
    }
  }
  return right.map((count) => count / testPairs.length) as [number, number];
}
const levels = ['sequence', 'token'] as const;
const onPairs: [number, number][][] = [];
for (const level of progress(levels, { desc: 'texts of two facts' })) {
  const list: [number, number][] = [];
  for (const seed of seeds) {
    const more = { rows: pairsOf(trainFacts, 400, seed), maxSteps: 100 };
    list.push(pairScores(await trainRouter({ level, seed, layer: 1, topK: 2 }, {}, more)));
  }
  onPairs.push(list);
}

// %%
barChart({
  title: 'Two facts in one text: mean and range of three seeds',
  x: 'fact',
  y: 'right (%)',
  yRange: [0, 105],
  categories: ['first fact', 'second fact'],
  series: levels.map((level, i) => {
    const columns = [0, 1].map((at) => onPairs[i]!.map((scores) => 100 * scores[at]!));
    const [low, high] = [columns.map((c) => Math.min(...c)), columns.map((c) => Math.max(...c))];
    return { name: `one choice a ${level}`, y: columns.map(mean), low, high };
  }),
});

// %%
const second = onPairs.map((list) => list.map((scores) => scores[1]));
prove(
  'A text of two tasks needs a choice for each token',
  Math.min(...second[1]!) > Math.max(...second[0]!) + 0.1,
  `second fact: per sequence ${second[0]!.map(percent).join(', ')}; per token ${second[1]!.map(percent).join(', ')}`,
);

// %% [markdown]
// The sequence router had to decide before the second fact was there, and training on such texts confused it even about the
// first. The token router changes its mind in mid-text. But it stays far below the 97 % of whole texts: tokens such as `the` must be
// routed before anybody can know the task, and the *wrong* expert then writes the keys and values that later tokens look
// at. One more cost hides in serving: tokens of one text need different adapters, and a batch falls to pieces. Choose per
// sequence unless texts really mix.

// %% [markdown]
// ## 7. Fifty tasks: count first
//
// *"We have 50 fine-tuned tasks for Llama-2-7B. How would you serve them?"* Begin with memory. `countParameters` and
// `countAdapter` work on shapes alone, so no model is loaded.
//
// > **Predict.** 50 models in 16 bits against one base with 50 adapters of $r = 16$ on `q_proj` and `v_proj`: how many GB
// > each?

// %%
const seven = KNOWN_MODELS['Llama-2-7B'];
const { total } = countParameters(seven);
const { trainable: each } = countAdapter(
  seven,
  new LoraConfig({ r: 16, targetModules: ['q_proj', 'v_proj'] }),
);
const gb = (parameters: number) => `${((2 * parameters) / 1e9).toFixed(2)} GB`;
display.table([
  { what: 'one Llama-2-7B', parameters: total, 'in 16 bits': gb(total) },
  { what: 'one adapter', parameters: each, 'in 16 bits': gb(each) },
  { what: '50 merged models', parameters: 50 * total, 'in 16 bits': gb(50 * total) },
  {
    what: 'base and 50 adapters',
    parameters: total + 50 * each,
    'in 16 bits': gb(total + 50 * each),
  },
]);
prove(
  'Fifty adapters cost less than a tenth of one more model',
  50 * each < 0.1 * total,
  `${gb(50 * each)} for 50 adapters, ${gb(total)} for one model, ${gb(50 * total)} for 50`,
);

// %% [markdown]
// ## 8. Fifty tasks, running
//
// Fifty customers, each with eight capitals of its own. We train fifty small adapters, write each into a folder as PEFT
// does, and throw them out of memory.

// %%
const folder = mkdtempSync(join(tmpdir(), 'customers-'));
const customers = Array.from({ length: 50 }, (_, i) => {
  const own = new RandomState(100 + i).permutation(factsOf('capital')).slice(0, 8);
  const list = own.map((fact, j) => ({ ...fact, answer: own[(j + 3) % 8]!.answer }));
  return { name: `customer-${i}`, facts: list };
});
const folders = new Map(customers.map(({ name }) => [name, join(folder, name)]));
const small = () =>
  new LoraConfig({ r: 4, loraAlpha: 8, targetModules: ['v_proj', 'up_proj', 'down_proj'] });

for (const [i, { name, facts: own }] of progress([...customers.entries()], { desc: 'customers' })) {
  model.addAdapter(name, small());
  model.setAdapter(name);
  await train(model, lessons(own, 60, new RandomState(i)), 1e-2);
  model.savePretrained(folder, { selectedAdapters: [name] });
  model.deleteAdapter(name);
}

// %% [markdown]
// `AdapterCache` keeps adapters in memory up to a budget of bytes. One that is not there is read from its folder; when
// there is no room, the one that was not used for longest leaves (LRU, *least recently used*).
//
// Does the right adapter matter at all? The control asks each customer's questions of the *next* customer's adapter.

// %%
const oneAdapter = 4 * countAdapter(base.config, small()).trainable;
const cache = new AdapterCache(model, folders, { maxBytes: 10 * oneAdapter });
const served = customers.map(({ name, facts: own }) => {
  cache.use(name);
  return accuracy(model, own, begun);
});
const mixedUp = customers.map(({ facts: own }, i) => {
  cache.use(customers[(i + 1) % customers.length]!.name);
  return accuracy(model, own, begun);
});
prove(
  'Each customer gets its own answers, from a cache with room for ten',
  mean(served) > 0.95 && mean(mixedUp) < 0.3 && cache.bytes <= 10 * oneAdapter,
  `own adapter ${percent(mean(served))}, another one ${percent(mean(mixedUp))}; ${cache.residents.length} adapters in memory`,
);

// %% [markdown]
// ### Traffic
//
// Customers are not equally busy. A common model is Zipf's law: the $n$-th busiest sends requests in proportion to $1/n$.
// We simulate 1,000 requests of 50 customers, and count how often the adapter is in memory already (a *hit*).
//
// > **Predict.** Room for 10 of 50 adapters. Hit rate with even traffic? With Zipf's?

// %%
/** A stream of requests: customer n with chance proportional to 1 / n ** exponent. */
function traffic(exponent: number, seed: number, requests = 1000): string[] {
  const shares = customers.map((_, n) => (n + 1) ** -exponent);
  const sum = shares.reduce((a, b) => a + b);
  const ends = shares.map((_, n) => shares.slice(0, n + 1).reduce((a, b) => a + b));
  const random = new RandomState(seed);
  return Array.from({ length: requests }, () => {
    const at = random.random() * sum;
    const n = ends.findIndex((end) => at < end);
    return customers[n < 0 ? customers.length - 1 : n]!.name;
  });
}
const emptyAll = (some: AdapterCache) => {
  for (const name of some.residents) some.evict(name);
};
function hitRate(slots: number, requests: string[]): number {
  const own = new AdapterCache(model, folders, { maxBytes: slots * oneAdapter });
  for (const name of requests) own.use(name);
  const { hits, misses } = own.statistics;
  emptyAll(own);
  return hits / (hits + misses);
}

// %% [markdown]
// Three kinds of traffic, six sizes of cache, three streams each:

// %%
emptyAll(cache);
const slots = [2, 5, 10, 20, 35, 50];
const exponents = { 'even traffic': 0, "Zipf's law": 1, 'steeper (exponent 1.5)': 1.5 };
const rates = Object.entries(exponents).map(([name, exponent]) => ({
  name,
  y: slots.map((n) => 100 * mean(seeds.map((seed) => hitRate(n, traffic(exponent, seed))))),
}));
lineChart({
  title: 'How often the adapter is in memory already (50 customers, LRU)',
  x: 'adapters that fit into memory',
  y: 'hits, mean of three streams (%)',
  mode: 'lines+markers',
  yRange: [0, 105],
  series: rates.map(({ name, y }) => ({ name, x: slots, y })),
});

// %%
const atTen = rates.map(({ y }) => y[slots.indexOf(10)]!);
prove(
  'The same cache serves uneven traffic far better than even traffic',
  atTen[1]! > atTen[0]! + 20 && Math.abs(atTen[0]! - 20) < 6,
  `room for 10 of 50: ${atTen.map((rate) => `${rate.toFixed(0)} %`).join(', ')}`,
);

// %% [markdown]
// With even traffic the hit rate is simply the share of adapters that fit, $10/50$: no cache can do better, as nothing about the
// past tells about the next request. With Zipf's law a fifth of the memory serves over half of the requests.
// (The last 5 % at 50 are the first visits: every adapter must be read once.)

// %% [markdown]
// ### What a switch costs

// %%
const timed = (run: () => void): number => {
  const start = performance.now();
  run();
  return performance.now() - start;
};
const middle = (values: number[]) => [...values].sort((a, b) => a - b)[values.length >> 1]!;
const all = new AdapterCache(model, folders);
const loads = customers.map(({ name }) => timed(() => all.use(name)));
const switches = traffic(0, 4, 300).map((name) => timed(() => all.use(name)));
const request = () => accuracy(model, customers[0]!.facts, begun);
const answers = Array.from({ length: 10 }, () => timed(request));
display.table([
  { what: 'switch, adapter in memory', 'median (ms)': middle(switches).toFixed(2) },
  { what: 'load from its folder and switch', 'median (ms)': middle(loads).toFixed(1) },
  { what: 'one batch of 8 prompts', 'median (ms)': middle(answers).toFixed(1) },
]);
prove(
  'With 50 adapters in memory a switch takes less than 5 ms',
  middle(switches) < 5 && all.residents.length === 50,
  `${all.residents.length} adapters, ${(all.bytes / 1e6).toFixed(1)} MB beside a base of ${((4 * countParameters(base.config).total) / 1e6).toFixed(1)} MB`,
);

// %% [markdown]
// ### Or do not switch at all
//
// A batch may hold rows of *different* customers: the base's work is done once for all rows, and only the thin products differ
// (`adapterNames`; S-LoRA and Punica are systems built on this). Eight rows of eight customers, one after the other or in one
// batch:

// %%
const eight = customers.slice(0, 8);
const rowNames = eight.map(({ name }) => name);
const oneEach = eight.map(({ facts: own }) => own[0]!);
const apart = () =>
  eight.flatMap(({ name }, i) => {
    all.use(name);
    return tf.tidy(() => [...model.forward(promptsOf([oneEach[i]!])).logits.dataSync()]);
  });
const together = () =>
  tf.tidy(() => [
    ...model.forward(promptsOf(oneEach), { adapterNames: rowNames }).logits.dataSync(),
  ]);
const [rowsApart, rowsTogether] = [apart(), together()];
const difference = rowsApart.reduce(
  (most, value, i) => Math.max(most, Math.abs(value - rowsTogether[i]!)),
  0,
);
const ten = [...Array(10).keys()];
const [msApart, msTogether] = [apart, together].map((run) => middle(ten.map(() => timed(run))));
display.table([
  { 'eight rows of eight customers': 'one after the other', 'median (ms)': msApart!.toFixed(1) },
  { 'eight rows of eight customers': 'in one batch', 'median (ms)': msTogether!.toFixed(1) },
]);
prove(
  'Rows of one batch can have adapters of their own',
  difference < 1e-3,
  `largest difference of a score ${difference.toExponential(1)}`,
);

// %% [markdown]
// The results are the same. Whether time is saved depends on the base: the larger it is, the more is gained by running
// it once. (Ours is so small that the thin products are most of the work, and little or nothing is saved.)
//
// ### The design, in five sentences
//
// One base in memory, adapters on disk or in an object store, an LRU cache in front of them, sized by the *traffic*. Requests
// that name their task need no router; a router (section 3, trained with labels) is for those that do not. Batches mix
// customers. Very busy tasks may get a merged model of their own. And each adapter can be retrained, billed and rolled
// back alone.

// %% [markdown]
// ## 9. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | top-1 with weight 1 | the router never learns | gradient of the router at step 0 |
// | no look at the shares | one expert does everything; the loss still falls | routing statistics, each epoch |
// | router sees the answer in training | perfect in training, poor in use | mask everything after the prompt |
// | a router where the task is known | errors and cost for nothing | ask the caller first |
// | balancing factor from a paper | collapse, or even but wrong | a sweep, several seeds |
// | cache sized by the number of tasks | memory wasted, or thrashing | hit rate on real traffic |
// | a compiled step that keeps its first adapter | every customer gets the first one's answers | one test with two adapters |

// %% [markdown]
// ## 10. Now you
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
// ### Exercise 1: size it
//
// *Easy, 4 minutes.* A GPU has 24 GB free. Llama-3-8B has 8,030,261,248 parameters, and an adapter of $r = 16$ on `q_proj` and
// `v_proj` 6,815,744. Both in 16 bits. How many adapters fit beside the base (leave no room for anything else)?

// %%
const mySlots: number | undefined = undefined; // your answer here

// %%
const freeBytes = 24e9;
const baseBytes = 2 * 8_030_261_248;
const right = Math.floor((freeBytes - baseBytes) / (2 * 6_815_744));
judge('Exercise 1', mySlots === undefined ? undefined : [mySlots], [right], {
  'You forgot the two bytes of each number.': [Math.floor((24e9 - 8_030_261_248) / 6_815_744)],
  'You counted four bytes an adapter number; it is two.': [
    Math.floor((freeBytes - baseBytes) / (4 * 6_815_744)),
  ],
  'You left no room for the base.': [Math.floor(freeBytes / (2 * 6_815_744))],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $(24 \times 10^9 - 2 \times 8.03 \times 10^9) / (2 \times 6.8 \times 10^6) = 582$. In practice the key-value cache takes most of
// that room.
//
// </details>

// %% [markdown]
// ### Exercise 2: the balancing loss
//
// *Medium, 5 minutes.* Four texts, two experts, top-1. The probabilities of expert 1 are 0.9, 0.8, 0.6, 0.3. What is $E \sum f_e
// P_e$?

// %%
const myBalance: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myBalance === undefined ? undefined : [myBalance], [1.15], {
  'You forgot the factor E.': [0.575],
  'f is the share of texts that are sent, not the probability.': [2 * (0.65 ** 2 + 0.35 ** 2)],
  'P is the mean probability, not the share of texts.': [2 * (0.75 ** 2 + 0.25 ** 2)],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $f = (3/4, 1/4)$: three texts go to expert 1. $P = (0.65, 0.35)$. $2 \times (0.75 \times 0.65 + 0.25 \times 0.35) = 1.15$.
//
// </details>

// %% [markdown]
// ### Exercise 3: weigh the experts
//
// *Medium, 6 minutes.* Write top-2 routing for one text: from a list of logits, the list of weights. The two largest share 1 in
// proportion to their probabilities; the others are 0.

// %%
type TopTwo = (logits: number[]) => number[];

const myTopTwo: TopTwo | undefined = undefined; // (logits) => ...

// %%
const logits = [0.5, 2, -1, 1.2];
const weightsOf = (topK?: number) =>
  Array.from(choose(tf.tensor3d([[logits]]), topK).weights.dataSync());
const tryTopTwo = (route: TopTwo | undefined) => route?.(logits);
const kept = weightsOf(4).map((p, i) => (i === 1 || i === 3 ? p : 0));
judge('Exercise 3', tryTopTwo(myTopTwo), weightsOf(2), {
  'Those are all probabilities: keep two.': weightsOf(),
  'The two do not add up to 1 yet.': kept,
  'Only the winner is left; keep two.': weightsOf(1),
  'Equal shares: weigh them by their probabilities.': [0, 0.5, 0, 0.5],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// ```ts
// const myTopTwo: TopTwo = (logits) => {
//   const second = [...logits].sort((a, b) => b - a)[1]!;
//   const exps = logits.map((x) => (x >= second ? Math.exp(x) : 0));
//   const sum = exps.reduce((a, b) => a + b);
//   return exps.map((x) => x / sum);
// };
// ```
//
// </details>

// %% [markdown]
// ## 11. In the interview
//
// **Design a system that serves 50 fine-tuned tasks.** *(senior)* Count first: 50 models against one base with 50 adapters. Then
// cache, batching over customers, routing only where the task is unknown, isolation and rollback. Proof: sections 7 and 8.
//
// **What is a mixture of LoRA experts?** *(senior)* Frozen adapters, a trained router that weighs them; soft, top-k or top-1; per
// sequence or per token. Proof: section 3.
//
// **Your router sends everything to one expert. Why, and what do you do?** *(senior)* Collapse feeds itself, since only the chosen
// expert gets a gradient. Load-balancing loss, soft routing at first, or labels. Proof: sections 4 and 5.
//
// Follow-ups to expect: Why not train the experts together with the router? *(You can; then they specialize by themselves, and
// no expert belongs to a customer.)* What does the router cost? *(Here a pass of the base; it can read an early layer, `layer: 1`,
// or a small model.)* How is this different from Mixtral? *(There each layer routes each token among full feed-forward blocks.)*
// What if two customers' adapters have different ranks? *(Nothing changes: each has its own two thin products.)*

// %% [markdown]
// ## 12. What to try next
//
// - Let the router read the embeddings only (`layer: 0`). It gets cheaper. Is it still right?
// - Make the traffic uneven: 90 % capitals in training. Does the balancing loss do harm now?
// - Add a fourth expert that nobody needs. How much does each way of routing use it?
// - Train top-1 in two stages: soft for 60 steps, then top-1 from that router's weights. Does it still collapse?
// - Give the cache the size of your real traffic: replace Zipf's law with a log of requests.
//
// **Next:** lesson 16 teaches preferences in the place of answers.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 14 proofs hold.`);
