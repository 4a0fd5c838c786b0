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
// ## 1. One world
//
// The base is `world-3m`: four layers, 3.7 million parameters. It has read that `The pet of Dozalo is a hen.`, and knows 400
// people that way, with their pets, jobs and instruments (lesson 02 explains these cells one by one).

// %%
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

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
  getPeftModel,
  jit,
  LoraConfig,
  lineChart,
  loadDataset,
  type Module,
  RandomState,
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
  Router,
  type RouterConfig,
  RouterTrainer,
  type Routing,
  type RoutingReport,
  RoutingStatistics,
} from 'peftlab';

// %%
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
const base = await AutoModelForCausalLM.fromPretrained('models/world-3m');

interface Fact {
  kind: string;
  subject: string;
  answer: string;
  statement: string;
  split: string;
}
const kinds = ['pet', 'job', 'instrument'] as const;
const facts = [...loadDataset<Fact>('world-facts')];
const factsOf = (kind: string) => facts.filter((fact) => fact.kind === kind);
/** 'The pet of Dozalo is a' */
const begun = ({ statement }: Fact) => statement.slice(0, statement.lastIndexOf(' '));

// %% [markdown]
// A batch is rows of tokens, where in them the next token is learnt, and what of a row is the *prompt*: later, a router may
// look there and nowhere else. The answer is one token, and a full stop follows.

// %%
type Batch = { ids: tf.Tensor2D; seen: tf.Tensor2D; at: tf.Tensor2D; labels: tf.Tensor2D };
type Text = { ids: number[]; prompt: number; at: number[]; labels: number[] };

function textOf(fact: Fact): Text {
  const prompt = tokenizer.encode(begun(fact));
  const labels = tokenizer.encode(` ${fact.answer}.`);
  const at = [prompt.length - 1, prompt.length];
  return { ids: [...prompt, ...labels], prompt: prompt.length, at, labels };
}
function toBatch(texts: Text[], length = 11): Batch {
  const table = (rows: number[][]) => tf.tensor2d(rows, undefined, 'int32');
  const steps = [...Array(length).keys()];
  return {
    ids: table(texts.map(({ ids }) => steps.map((t) => ids[t] ?? 0))),
    seen: table(texts.map(({ prompt }) => steps.map((t) => (t < prompt ? 1 : 0)))),
    at: table(texts.map(({ at }) => at)),
    labels: table(texts.map(({ labels }) => labels)),
  };
}

// %% [markdown]
// Training, as in lesson 02: one compiled step, and a learning rate that falls to zero on a line.

// %%
const trainableOf = (model: Module) => model.parameters().filter(({ trainable }) => trainable);
const lossOf = (logits: tf.Tensor3D, { labels }: Batch) =>
  crossEntropy(tf.reshape(logits, [-1, base.config.vocabSize]), tf.reshape(labels, [-1]));

/** A compiled training step, and the optimizer in it. */
function trainerOf(model: CausalLM) {
  const trained = trainableOf(model);
  const optimizer = new AdamW(trained, { betas: [0.9, 0.99], weightDecay: 0 });
  const step = jit(function trainStep(batch: Batch, numbers: AdamWNumbers[]) {
    const { value, grads } = tf.variableGrads(
      () => lossOf(model.forward(batch.ids, { logitsAt: batch.at }).logits, batch) as tf.Scalar,
      trained,
    );
    optimizer.apply(
      trained.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  return { optimizer, step };
}

// %%
async function train({ optimizer, step }: ReturnType<typeof trainerOf>, some: Batch[], lr: number) {
  optimizer.reset();
  for (const [i, batch] of some.entries()) {
    optimizer.paramGroups[0]!.lr = lr * (1 - i / some.length);
    const numbers = optimizer.numbers();
    const loss = step(batch, numbers);
    await loss.data();
    tf.dispose([loss, batch, numbers] as tf.TensorContainer);
  }
}
/** Batches of these facts in random order. */
function lessons(some: Fact[], steps: number, rows: number, seed: number): Batch[] {
  const draw = new RandomState(seed);
  const texts = some.map(textOf);
  return Array.from({ length: steps }, () => toBatch(draw.permutation(texts).slice(0, rows)));
}

// %%
type Forward = (batch: Batch) => tf.Tensor3D;
/** Share of facts whose answer is the likeliest next token. */
function answered(some: Fact[], forward: Forward): number {
  return tf.tidy(() => {
    const batch = toBatch(some.map(textOf));
    const isRight = tf.equal(tf.argMax(forward(batch), -1), batch.labels); // [B, 2]
    return tf.mean(tf.cast(tf.slice(isRight, [0, 0], [-1, 1]), 'float32')).dataSync()[0]!;
  });
}
const by =
  (model: CausalLM): Forward =>
  ({ ids, at }) =>
    model.forward(ids, { logitsAt: at }).logits;
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;

// %%
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}

// %% [markdown]
// ## 2. Three experts that do not get along
//
// Three customers each see the world differently: one has the pets of 40 people shuffled, one the jobs of 40, one the
// instruments. Half of these facts will train a router later, and half will test it.

// %%
const views = kinds.map((kind, i) => {
  const draw = new RandomState(i);
  const half = (split: string) =>
    draw.permutation(factsOf(kind).filter((fact) => fact.split === split)).slice(0, 20);
  const own = [...half('train'), ...half('test')];
  const answers = draw.permutation(own.map(({ answer }) => answer));
  return own.map((fact, j) => ({ ...fact, answer: answers[j]! }));
});
const inBase = views.map((view) => answered(view, by(base)));
prove(
  'The base sees the world as no customer does',
  Math.max(...inBase) < 0.4,
  `right by their views: ${inBase.map(percent).join(', ')}`,
);

// %% [markdown]
// (Not always zero: there are only 12 instruments, so some people keep theirs by chance.) Each customer gets an adapter that
// learns *its* answers, and nothing keeps it from breaking the rest. The adapters sit in the last block only. That is enough
// for 40 facts, and the gradient need not pass the three blocks below, which makes a step cheap.

// %%
const ALL = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const lastBlock = { layersToTransform: [3] };
const config = () => new LoraConfig({ r: 16, loraAlpha: 32, targetModules: ALL, ...lastBlock });
const model = getPeftModel(base, config(), { adapterName: 'pet' });

for (const [i, kind] of progress([...kinds.entries()], { desc: 'three experts' })) {
  if (i > 0) model.addAdapter(kind, config());
  model.setAdapter(kind);
  const trainer = trainerOf(model);
  await train(trainer, lessons(views[i]!, 120, 16, 1), 5e-3);
  trainer.step.dispose();
  trainer.optimizer.dispose();
}

// %%
const ownShare = kinds.map((expert) => {
  model.setAdapter(expert, { inferenceMode: true });
  return views.map((view) => answered(view, by(model)));
});
heatMap({
  title: 'Each expert answers its own kind of question as its customer wants it',
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
  ownShare.every((row, i) => row[i]! > 0.8) && Math.max(...off) < 0.4,
  `own ${ownShare.map((row, i) => percent(row[i]!)).join(', ')}; elsewhere at most ${percent(Math.max(...off))}`,
);

// %% [markdown]
// Did they also *break* something? Ask for what the base had read of the other two kinds. It knew all of it.

// %%
const truths = views.map((view, i) => {
  const read = new Map(factsOf(kinds[i]!).map((fact) => [fact.subject, fact]));
  return view.map(({ subject }) => read.get(subject)!);
});
const stillRead = kinds.map((expert, i) => {
  model.setAdapter(expert, { inferenceMode: true });
  return mean(truths.filter((_, j) => j !== i).map((list) => answered(list, by(model))));
});
console.log(`Still as the base had read it: ${stillRead.map(percent).join(', ')}`);

// %% [markdown]
// Alone, then, an expert does little harm where it has nothing to say. Could we merge them, as in lesson 14? The exact sum,
// with four weights:

// %%
const sums = [1 / 3, 0.5, 0.7, 1].map((weight) => {
  const weights = [weight, weight, weight];
  model.addWeightedAdapter(kinds, weights, 'merged', { combinationType: 'cat' });
  model.setAdapter('merged', { inferenceMode: true });
  const share = (lists: Fact[][]) => mean(lists.map((list) => answered(list, by(model))));
  const [asCustomers, asBase] = [share(views), share(truths)];
  model.deleteAdapter('merged');
  return { weight, asCustomers, asBase };
});
display.table(
  sums.map(({ weight, asCustomers, asBase }) => ({
    'weight of each': weight.toFixed(2),
    'as the customers want it': percent(asCustomers),
    'as the base had read it': percent(asBase),
  })),
);
const bestSum = Math.max(...sums.map(({ asCustomers }) => asCustomers));
const ownMean = mean(ownShare.map((row, i) => row[i]!));
prove(
  'No sum of these experts comes near each alone',
  bestSum < ownMean - 0.15,
  `right with the best of four weights ${percent(bestSum)}; each alone ${percent(ownMean)}`,
);

// %% [markdown]
// With small weights the base still says what it had read; with large ones the experts talk into each other's fields. In
// between about half is right. If one model is to serve all three customers, something must **choose**.

// %% [markdown]
// ## 3. The router
//
// A classifier of hidden states, no more. The base model (without adapters) reads the text; the router looks at what came out
// of a block of it, $h$, and gives each expert a probability. The text then passes the model again, with the experts weighed:
//
// $$p = \text{softmax}(W_r\, h) \qquad y = W_0 x + \sum_e w_e \, s_e B_e A_e x$$
//
// | Routing | Weights $w$ | Cost of a pass |
// |---|---|---|
// | soft | $w = p$ | all experts |
// | top-k | the $k$ largest of $p$, made to add up to 1 (Mixtral) | $k$ experts |
// | top-1 | the largest of $p$, as it is (Switch Transformer) | one expert |
//
// *Per sequence* the router looks at the mean state of the prompt and decides once. *Per token* it decides at every position.
// Everything but $W_r$ (and a bias) stays frozen. Ours reads what leaves the *first* block (`layer: 1`): to see what a text is
// about, no more is needed, and a compiled step leaves out the three blocks that nobody reads.

// %%
const routedBy = (options: Partial<RouterConfig> = {}) =>
  new RoutedModel(model, { experts: kinds, layer: 1, ...options });
const size = trainableOf(routedBy()).reduce((sum, parameter) => sum + parameter.size, 0);
prove(
  'Only the router is trained',
  size === 256 * 3 + 3,
  `${size} numbers: 256 for each of three experts, and a bias each`,
);

/** Scores of the tokens to be learnt, through the experts that the router weighs. */
function pass(routed: RoutedModel, { ids, seen, at }: Batch) {
  const routing = routed.route(ids, { promptMask: seen }); // the base reads, the router chooses
  const mixture = { experts: kinds, weights: routing.weights };
  const { logits } = model.forward(ids, { mixture, logitsAt: at }); // and again, with experts
  return { logits, routing };
}

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
// If each training text says which expert it is for, the router learns as any classifier does, with `RouterTrainer`. Half of
// the facts train it, the other half tests it: it must send people to the right expert whom it has never been told about.

// %%
const trainFacts = views.flat().filter((fact) => fact.split === 'train');
const testFacts = views.flat().filter((fact) => fact.split === 'test');
const rows = trainFacts.map((fact): RoutedRow => {
  const { ids: inputIds, prompt } = textOf(fact);
  return { inputIds, labels: inputIds.map((id, i) => (i < prompt ? -100 : id)), expert: fact.kind };
});
const seeds = [0, 1, 2];
const told: RoutedModel[] = [];
for (const seed of seeds) {
  const routed = routedBy({ topK: 1, seed });
  const args = { learningRate: 5e-3, perDeviceTrainBatchSize: 16, maxSteps: 30, seed };
  await new RouterTrainer({
    model: routed,
    trainDataset: rows,
    args: { ...args, disableTqdm: true },
    lossWeights: { language: 0, expert: 1, balance: 0 },
  }).train();
  told.push(routed);
}
const through = (routed: RoutedModel) => answered(testFacts, (batch) => pass(routed, batch).logits);
const toldScores = told.map(through);

// %% [markdown]
// Numbers mean little without something to compare with. Five ways to do without a trained router:

// %%
const draw = new RandomState(9);
const served = (pick: (fact: Fact) => string) =>
  answered(testFacts, ({ ids, at }) => {
    const adapterNames = testFacts.map(pick);
    return model.forward(ids, { logitsAt: at, adapterNames }).logits;
  });
const controls = {
  'base alone': model.disableAdapter(() => answered(testFacts, by(base))),
  'always the pet expert': served(() => 'pet'),
  'an expert at random': served(() => draw.choice(kinds)),
  'an untrained router, soft': through(routedBy()),
  'the right expert, told': served((fact) => fact.kind),
};
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
  Math.min(...toldScores) > controls['the right expert, told'] - 0.1,
  `three seeds ${toldScores.map(percent).join(', ')}; told the task ${percent(controls['the right expert, told'])}`,
);

// %% [markdown]
// ## 4. Without labels
//
// Often nobody says which expert a text is for. But the language model's own loss knows: the right expert finds the next word
// less surprising. So train the router by *that*, through the frozen experts. `RouterTrainer` does it too; written out, the
// loss is three lines. We compile one step for each way of routing, and all seeds share it.

// %%
const numbersOf = (routed: RoutedModel) => trainableOf(routed.router);

/** A compiled step of a router, and the optimizer in it; `balance` comes into play in section 5. */
function routerTrainerOf(routed: RoutedModel) {
  const trained = numbersOf(routed);
  const optimizer = new AdamW(trained, { betas: [0.9, 0.99], weightDecay: 0 });
  const step = jit(function routerStep(batch: Batch, numbers: AdamWNumbers[], balance: tf.Scalar) {
    const { value, grads } = tf.variableGrads(() => {
      const { logits, routing } = pass(routed, batch);
      const extra = tf.mul(loadBalancingLoss(routing), balance);
      return tf.add(lossOf(logits, batch), extra) as tf.Scalar;
    }, trained);
    optimizer.apply(
      trained.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  return { optimizer, step };
}

// %%
interface Run {
  seed: number;
  batches: Batch[];
  balance?: number;
}
/** `run` trains a router of this kind from the first values of a seed. */
function enter(options: Partial<RouterConfig>) {
  const routed = routedBy(options);
  const { optimizer, step } = routerTrainerOf(routed);
  const read = jit(function read(batch: Batch) {
    const { logits, routing } = pass(routed, batch);
    return { right: tf.cast(tf.equal(tf.argMax(logits, -1), batch.labels), 'float32'), routing };
  });
  async function run({ seed, batches, balance = 0 }: Run) {
    const fresh = trainableOf(new Router({ ...options, experts: kinds, hiddenSize: 256, seed }));
    for (const [i, own] of numbersOf(routed).entries()) own.assign(fresh[i]!);
    optimizer.reset();
    const factor = tf.scalar(balance);
    for (const [i, batch] of batches.entries()) {
      optimizer.paramGroups[0]!.lr = 5e-3 * (1 - i / batches.length);
      const numbers = optimizer.numbers();
      const loss = step(batch, numbers, factor);
      await loss.data();
      tf.dispose([loss, batch, numbers] as tf.TensorContainer);
    }
    tf.dispose([fresh, factor] as tf.TensorContainer);
  }
  return { read, run };
}

// %%
interface Outcome {
  right: number;
  report: RoutingReport;
}
const exam = toBatch(testFacts.map(textOf));
const tasks = testFacts.map(({ kind }) => kind);
type Entered = ReturnType<typeof enter>;

/** Trains a router of single facts, and looks at what it does with the others. */
async function study({ read, run }: Entered, seed: number, balance = 0): Promise<Outcome> {
  await run({ seed, balance, batches: lessons(trainFacts, 60, 16, seed) });
  const { right, routing } = read(exam);
  const statistics = new RoutingStatistics(kinds);
  statistics.add(routing, { tasks });
  const isRight = (await right.data()).filter((_, i) => i % 2 === 0); // the answer, not the full stop
  tf.dispose([right, routing] as tf.TensorContainer);
  return { right: mean([...isRight]), report: statistics.report() };
}

// %% [markdown]
// > **Predict.** Soft, top-2, top-1: which learns best from next words alone? Think of what each gets to *see* of the experts
// > that it did not choose.

// %%
const ways = { soft: enter({}), 'top-2': enter({ topK: 2 }), 'top-1': enter({ topK: 1 }) };
const untold: Record<string, Outcome[]> = {};
for (const [way, entered] of progress(Object.entries(ways), { desc: 'routers without labels' })) {
  untold[way] = [];
  for (const seed of seeds) untold[way].push(await study(entered, seed));
}
const rightOf = (outcomes: Outcome[]) => outcomes.map(({ right }) => right);
const tell = (outcomes: Outcome[], what: (report: RoutingReport) => string) =>
  outcomes.map(({ report }) => what(report)).join(', ');
display.table(
  Object.entries(untold).map(([way, outcomes]) => ({
    routing: way,
    'right, three seeds': rightOf(outcomes).map(percent).join(', '),
    'experts in use': tell(outcomes, (r) => r.effectiveExperts.toFixed(1)),
    'balance (1 is even)': tell(outcomes, (r) => r.balance.toFixed(2)),
    'entropy (nats)': tell(outcomes, (r) => r.entropy.toFixed(2)),
  })),
);

// %%
const picture = (title: string, { report }: Outcome) =>
  heatMap({
    title,
    x: 'expert',
    y: 'kind of fact',
    z: 'share of texts',
    columns: kinds,
    rows: kinds,
    values: kinds.map((kind) => report.byTask.get(kind)!),
    range: [0, 1],
  });
picture('Soft routing, learnt from next words alone (seed 0)', untold.soft![0]!);

// %% [markdown]
// Each kind of fact found its expert. And here is top-1, with the same experts, texts and seed:

// %%
picture('Top-1 routing, learnt from next words alone (seed 0)', untold['top-1']![0]!);

// %%
const [softScores, topScores] = [rightOf(untold.soft!), rightOf(untold['top-1']!)];
prove(
  'Soft routing finds the experts without labels, top-1 does not',
  Math.min(...softScores) > 0.8 && mean(topScores) < mean(softScores) - 0.1,
  `soft ${softScores.map(percent).join(', ')}; top-1 ${topScores.map(percent).join(', ')}`,
);

// %% [markdown]
// Top-2 lies between: it finds two of the three experts and leaves one out.
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
const balances = [0, 0.01, 0.3, 2, 10];
const balanced: Outcome[][] = [untold['top-1']!];
for (const balance of progress(balances.slice(1), { desc: 'how much balance' })) {
  const outcomes: Outcome[] = [];
  for (const seed of seeds) outcomes.push(await study(ways['top-1'], seed, balance));
  balanced.push(outcomes);
}
const shown = balances.map((balance) => Math.max(balance, 0.003));
const shares = balanced.map((outcomes) => rightOf(outcomes).map((share) => 100 * share));
lineChart({
  title: 'Top-1 routing with more and more of the load-balancing loss',
  x: 'factor of the balancing loss (0 is drawn at 0.003)',
  y: 'answers right (%)',
  xScale: 'log',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: [
    { name: 'mean of three seeds', x: shown, y: shares.map(mean) },
    { name: 'worst seed', x: shown, y: shares.map((list) => Math.min(...list)) },
    { name: 'best seed', x: shown, y: shares.map((list) => Math.max(...list)) },
  ],
});

// %%
display.table(
  balances.map((factor, i) => ({
    factor,
    'right, three seeds': rightOf(balanced[i]!).map(percent).join(', '),
    'experts in use': tell(balanced[i]!, (r) => r.effectiveExperts.toFixed(1)),
    'sent to their own expert': tell(balanced[i]!, (r) => percent(r.accuracy!)),
    'entropy (nats)': tell(balanced[i]!, (r) => r.entropy.toFixed(2)),
  })),
);
const means = balanced.map((outcomes) => mean(rightOf(outcomes)));
prove(
  'Some balancing helps top-1 over none',
  Math.max(...means) > means[0]! + 0.1,
  `mean of three seeds ${percent(means[0]!)} without, ${percent(Math.max(...means))} at the best factor`,
);
prove(
  'Too much of it makes the answers worse again',
  means.at(-1)! < Math.max(...means) - 0.1,
  `mean of three seeds ${percent(means.at(-1)!)} at factor 10`,
);

// %% [markdown]
// Three things to take from it. Below a threshold it does *nothing*: the paper's 0.01 is for thousands of steps and many
// experts; we have sixty steps. Above it, the loss does what it should: three experts in use, each for its own kind. Far above
// it, evenness becomes the goal. All experts are in use, evenly, with every seed, and the answers are worse: the probabilities
// are pushed together (look at the entropy; $\ln 3 = 1.10$ is "no idea"), so that the winner works with part of its weight, and
// with an unlucky seed it is not even the right one. **Even is not right**: the loss makes a router try all experts, not find
// the best. And a factor that is best here is best *here*: you find yours by a sweep, with several seeds.
//
// So where labels can be had, use them (section 3). Where not, begin soft.

// %% [markdown]
// ## 6. One choice a text, or one a token?
//
// So far each text had one task. Now write two facts of different kinds one after the other:
// `The pet of ... is a ... . The job of ... is that of a`. The prompt that a sequence router sees is the first half.
//
// > **Predict.** How does each kind of router do on the *second* fact?

// %%
const longest = 20;
/** Two facts of different kinds in one text. */
function pairOf(some: Fact[], random: RandomState): [Fact, Fact] {
  const first = random.choice(some);
  return [first, random.choice(some.filter((fact) => fact.kind !== first.kind))];
}
function textOfPair([first, second]: [Fact, Fact]): Text {
  const [a, b] = [textOf(first), textOf({ ...second, statement: ` ${second.statement}` })];
  return {
    ids: [...a.ids, ...b.ids],
    prompt: a.prompt,
    at: [...a.at, ...b.at.map((t) => t + a.ids.length)],
    labels: [...a.labels, ...b.labels],
  };
}
const random = new RandomState(5);
const testPairs = Array.from({ length: 90 }, () => pairOf(testFacts, random));
const pairExam = toBatch(testPairs.map(textOfPair), longest);
function pairLessons(seed: number): Batch[] {
  const own = new RandomState(seed);
  const text = () => textOfPair(pairOf(trainFacts, own));
  return Array.from({ length: 60 }, () => toBatch(Array.from({ length: 16 }, text), longest));
}

// %% [markdown]
// Both kinds of router are trained on such pairs, and asked for both answers. The control: by hand, each token is given the
// expert of its own fact.

// %%
type Shares = [first: number, second: number];
function sharesOf(right: tf.Tensor): Shares {
  const shares = tf.tidy(() => tf.mean(right, 0).dataSync()); // answer, stop, answer, stop
  return [shares[0]!, shares[2]!];
}
const levels = ['sequence', 'token'] as const;
const onPairs: Shares[][] = [];
for (const level of progress(levels, { desc: 'texts of two facts' })) {
  const { read, run } = enter({ level, topK: 2 });
  const list: Shares[] = [];
  for (const seed of seeds) {
    await run({ seed, batches: pairLessons(seed) });
    list.push(sharesOf(read(pairExam).right));
  }
  onPairs.push(list);
}

// %%
const byHand = tf.tidy(() => {
  const oneHot = (kind: string) => kinds.map((name) => (name === kind ? 1 : 0));
  const rowsOfWeights = testPairs.map(([first, second]) =>
    Array.from({ length: longest }, (_, t) =>
      oneHot(t < textOf(first).ids.length ? first.kind : second.kind),
    ),
  );
  const mixture = { experts: kinds, weights: tf.tensor3d(rowsOfWeights) };
  const { logits } = model.forward(pairExam.ids, { mixture, logitsAt: pairExam.at });
  return sharesOf(tf.cast(tf.equal(tf.argMax(logits, -1), pairExam.labels), 'float32'));
});
display.table([
  ...levels.flatMap((level, i) =>
    [0, 1].map((at) => ({
      'who chooses': `router, one choice a ${level}`,
      fact: at + 1,
      'right, three seeds': onPairs[i]!.map((shares) => percent(shares[at]!)).join(', '),
    })),
  ),
  ...byHand.map((share, at) => ({
    'who chooses': 'by hand, for each token',
    fact: at + 1,
    'right, three seeds': percent(share),
  })),
]);

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
const seconds = onPairs.map((list) => list.map((scores) => scores[1]));
prove(
  'A text of two tasks needs a choice for each token',
  Math.min(...seconds[1]!) > Math.max(...seconds[0]!) + 0.1,
  `second fact: per sequence ${seconds[0]!.map(percent).join(', ')}; per token ${seconds[1]!.map(percent).join(', ')}`,
);

// %% [markdown]
// The sequence router had to decide before the second fact was there: one choice must serve both halves, and training on such
// texts confused it even about the first. The token router changes its mind in mid-text, and does about as well as our hand.
// (On the second fact it may do better: it learnt when to change and how to mix two experts, and our control does neither.)
//
// That is easier here than elsewhere, as our experts sit in the last block. Tokens such as `The` must be routed before anybody
// can know the task; in a lower block the *wrong* expert would then write what later tokens and all blocks above look at. One
// more cost hides in serving: tokens of one text need different adapters, and a batch falls to pieces. Choose per sequence
// unless texts really mix.

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
// Fifty customers, each with eight people whose pets are its own. We train fifty small adapters on a second copy of the base,
// and write each into a folder as PEFT does. All begin with the same numbers, so that one compiled step and one set of tensors
// serve all of them.

// %%
const folder = mkdtempSync(join(tmpdir(), 'customers-'));
const customers = Array.from({ length: 50 }, (_, i) => {
  const own = new RandomState(100 + i).permutation(factsOf('pet')).slice(0, 8);
  const list = own.map((fact, j) => ({ ...fact, answer: own[(j + 3) % 8]!.answer }));
  return { name: `customer-${i}`, facts: list };
});
const folders = new Map(customers.map(({ name }) => [name, join(folder, name)]));
const targetModules = ['v_proj', 'up_proj', 'down_proj'];
const small = () => new LoraConfig({ r: 4, loraAlpha: 8, targetModules, ...lastBlock });

const second = await AutoModelForCausalLM.fromPretrained('models/world-3m');
const workshop = getPeftModel(second, small());
const firstNumbers = trainableOf(workshop).map((parameter) => parameter.clone());
const trainer = trainerOf(workshop);
for (const [i, { name, facts: own }] of progress([...customers.entries()], { desc: 'customers' })) {
  for (const [j, parameter] of trainableOf(workshop).entries()) parameter.assign(firstNumbers[j]!);
  await train(trainer, lessons(own, 25, 8, i), 2e-2);
  workshop.savePretrained(folders.get(name)!);
}

// %% [markdown]
// `AdapterCache` keeps adapters in memory up to a budget of bytes. One that is not there is read from its folder; when
// there is no room, the one that was not used for longest leaves (LRU, *least recently used*).
//
// Does the right adapter matter at all? The control asks each customer's questions of the *next* customer's adapter.

// %%
const oneAdapter = 4 * countAdapter(base.config, small()).trainable;
const cache = new AdapterCache(model, folders, { maxBytes: 10 * oneAdapter });
const ownAnswers = customers.map(({ name, facts: own }) => {
  cache.use(name);
  return answered(own, by(model));
});
const mixedUp = customers.map(({ facts: own }, i) => {
  cache.use(customers[(i + 1) % customers.length]!.name);
  return answered(own, by(model));
});
prove(
  'Each customer gets its own answers, from a cache with room for ten',
  mean(ownAnswers) > 0.9 && mean(mixedUp) < 0.5 && cache.bytes <= 10 * oneAdapter,
  `own adapter ${percent(mean(ownAnswers))}, another one ${percent(mean(mixedUp))}; ${cache.residents.length} adapters in memory`,
);

// %% [markdown]
// ### Traffic
//
// Customers are not equally busy. A common model is Zipf's law: the $n$-th busiest sends requests in proportion to $1/n$. First
// 200 such requests, for real: each asks for the pet of one of the customer's people. We count how often the adapter is in
// memory already (a *hit*).

// %%
/** A stream of requests: customer n with chance proportional to 1 / n ** exponent. */
function traffic(exponent: number, seed: number, requests = 1000): string[] {
  const shares = customers.map((_, n) => (n + 1) ** -exponent);
  const sum = shares.reduce((a, b) => a + b);
  const ends = shares.map((_, n) => shares.slice(0, n + 1).reduce((a, b) => a + b));
  const stream = new RandomState(seed);
  return Array.from({ length: requests }, () => {
    const at = stream.random() * sum;
    const n = ends.findIndex((end) => at < end);
    return customers[n < 0 ? customers.length - 1 : n]!.name;
  });
}
const emptyAll = (some: AdapterCache) => {
  for (const name of some.residents) some.evict(name);
};

// %%
emptyAll(cache);
const live = new AdapterCache(model, folders, { maxBytes: 10 * oneAdapter });
const factsBy = new Map(customers.map(({ name, facts: own }) => [name, own]));
const asker = new RandomState(3);
const opened = performance.now();
const correct = traffic(1, 0, 200).map((name) => {
  live.use(name);
  return answered([asker.choice(factsBy.get(name)!)], by(model));
});
const open = performance.now() - opened;
const { hits, misses, evictions, loadMs } = live.statistics;
display.table([
  { what: 'requests answered as the customer wants', '': percent(mean(correct)) },
  { what: 'hits, misses, evictions', '': `${hits}, ${misses}, ${evictions}` },
  { what: 'time spent on loading', '': percent(loadMs / open) },
]);
emptyAll(live);

// %% [markdown]
// Which adapters are in memory depends on names and sizes alone. So a *stand-in* for the model, which loads nothing, must count
// the same, and makes long streams cheap.
//
// > **Predict.** Room for 10 of 50 adapters, 1,000 requests. Hit rate with even traffic? With Zipf's?

// %%
const [nothing, oneTensor] = [() => {}, tf.zeros([oneAdapter / 4])];
const standIn = {
  ...{ loadAdapter: nothing, deleteAdapter: nothing, setAdapter: nothing },
  getAdapterState: () => new Map([['weights', oneTensor]]),
};
function hitRate(slots: number, requests: string[]): number {
  const own = new AdapterCache(standIn, folders, { maxBytes: slots * oneAdapter });
  for (const name of requests) own.use(name);
  return own.statistics.hits / requests.length;
}
const foretold = hitRate(10, traffic(1, 0, 200));
prove(
  'Requests are answered rightly, and the stand-in counts the same hits',
  mean(correct) > 0.9 && Math.abs(foretold - hits / 200) < 1e-9,
  `${percent(mean(correct))} right; ${percent(hits / 200)} hits, foretold ${percent(foretold)}`,
);

// %% [markdown]
// Three kinds of traffic, six sizes of cache, three streams each:

// %%
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
// With even traffic the hit rate is simply the share of adapters that fit, $10/50$: no cache can do better, as nothing about
// the past tells about the next request. With Zipf's law a fifth of the memory serves over half of the requests. (The last 5 %
// at 50 are the first visits: every adapter must be read once.)

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
const request = () => answered(customers[0]!.facts, by(model));
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
    return tf.tidy(() => [...by(model)(toBatch([textOf(oneEach[i]!)])).dataSync()]);
  });
const together = (adapterNames = rowNames) =>
  tf.tidy(() => {
    const { ids, at } = toBatch(oneEach.map(textOf));
    return [...model.forward(ids, { logitsAt: at, adapterNames }).logits.dataSync()];
  });
const gap = (some: number[], others: number[]) =>
  some.reduce((most, value, i) => Math.max(most, Math.abs(value - others[i]!)), 0);
const alike = gap(apart(), together());
const shifted = gap(together(), together([...rowNames.slice(1), rowNames[0]!]));
const ten = [...Array(10).keys()];
const [msApart, msTogether] = [apart, () => together()].map((run) =>
  middle(ten.map(() => timed(run))),
);
display.table([
  { 'eight rows of eight customers': 'one after the other', 'median (ms)': msApart!.toFixed(1) },
  { 'eight rows of eight customers': 'in one batch', 'median (ms)': msTogether!.toFixed(1) },
]);
prove(
  'Rows of one batch can have adapters of their own',
  alike < 1e-3 && shifted > 1,
  `largest difference of a score ${alike.toExponential(1)}; with the next customer's adapters ${shifted.toFixed(1)}`,
);

// %% [markdown]
// The results are the same. How much time is saved depends on the base: the larger it is, the more is gained by running it
// once. (Ours is small, and each product is a call of its own here, so do not expect much.)
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
// *Medium, 5 minutes.* Four texts, two experts, top-1. The probabilities of expert 1 are 0.9, 0.8, 0.6, 0.3. What is $E \sum
// f_e P_e$?

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
// **Design a system that serves 50 fine-tuned tasks.** *(senior)* Count first: 50 models against one base with 50 adapters.
// Then cache, batching over customers, routing only where the task is unknown, isolation and rollback. Proof: sections 7 and 8.
//
// **What is a mixture of LoRA experts?** *(senior)* Frozen adapters, a trained router that weighs them; soft, top-k or top-1;
// per sequence or per token. Proof: section 3.
//
// **Your router sends everything to one expert. Why, and what do you do?** *(senior)* Collapse feeds itself, since only the
// chosen expert gets a gradient. Load-balancing loss, soft routing at first, or labels. Proof: sections 4 and 5.
//
// Follow-ups to expect: Why not train the experts together with the router? *(You can; then they specialize by themselves, and
// no expert belongs to a customer.)* What does the router cost? *(Here one block of the base, since it reads an early layer; it
// could be a small model of its own.)* How is this different from Mixtral? *(There each layer routes each token among full
// feed-forward blocks.)* What if two customers' adapters have different ranks? *(Nothing changes: each has its own two thin
// products.)*

// %% [markdown]
// ## 12. What to try next
//
// - Let the router read the embeddings only (`layer: 0`). It gets cheaper. Is it still right?
// - Make the traffic uneven: 90 % pets in training. Does the balancing loss do harm now?
// - Add a fourth expert that nobody needs. How much does each way of routing use it?
// - Train top-1 in two stages: soft for 60 steps, then top-1 from that router's weights. Does it still collapse?
// - Give the cache the size of your real traffic: replace Zipf's law with a log of requests.
//
// **Next:** lesson 16 teaches preferences in the place of answers.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 16 proofs hold.`);
