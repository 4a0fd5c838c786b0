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
// # LoRA from scratch
//
// A language model knows a great deal, and you want to teach it one more thing. **Do you have to
// touch all of its weights?** Low-Rank Adaptation (LoRA) answers no: leave every weight as it is,
// and learn two thin matrices beside each. In this lesson you build that by hand, on a language
// model which you train yourself in a few seconds, and you *prove* that it works before
// you trust it.
//
// | | |
// |---|---|
// | Time | 45 minutes to read and try; half a minute to run |
// | You need | matrix products, what a gradient is, a little TypeScript |
// | Level | the junior and mid-level interview questions on LoRA |

// %% [markdown]
// **When you are through you can**
//
// 1. write LoRA's formula, with shapes, and say why `B` starts at zero;
// 2. count its parameters for any model in your head, and catch wrong counts in print;
// 3. build the layer in ten lines of plain TensorFlow.js, without ever forming the update;
// 4. test it with invariants that catch the bugs which a falling loss hides;
// 5. compare it fairly with full fine-tuning, and say what the comparison does *not* show;
// 6. merge an adapter into its base, take it out again, and name what can go wrong.
//
// Now and then a paragraph begins with **Predict**. Stop there and decide on an answer before you
// run the next cell: a guess that turns out wrong teaches more than a right answer read.

// %% [markdown]
// ## 1. A small world
//
// `tf` is TensorFlow.js, `dfd` is danfo (tables), and `peftlab` is this project's own library. From
// it we take a data set, seeded random numbers, charts and a singular value decomposition: all the
// machine learning up to section 9 is plain `tf`. Its own LoRA comes last, to be compared with yours.
// The line below the cell names the engine that does the arithmetic.

// %%
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import * as dfd from 'danfojs-node';
import {
  AdamW,
  type AdamWNumbers,
  barChart,
  getPeftModel,
  jit,
  Linear,
  LoraConfig,
  type LoraLinear,
  lineChart,
  loadDataset,
  loadFile,
  Module,
  PeftModel,
  RandomState,
  randomNormal,
  randomUniform,
  setBackend,
  singularValues,
} from 'peftlab';

await setBackend('auto');

// %% [markdown]
// The world has 240 facts: capitals, colours and sums. Half of its lands and things are real, half
// are made up, so that no model can know them from elsewhere. Each fact comes as a *statement*, and
// as a *question* with a one-word *answer*.

// %%
interface Fact {
  kind: string;
  subject: string;
  answer: string;
  statement: string;
  question: string;
  split: string;
}
const world = loadDataset<Fact>('small-world');
const facts = [...world];
display.table([...world.shuffle({ seed: 11 })].slice(0, 6));

// %% [markdown]
// A model reads numbers, not words. Our tokenizer is the simplest there is: split at spaces, and give
// each distinct word its place in a list.

// %%
const vocabulary = [
  ...new Set(facts.flatMap((fact) => `${fact.statement} ${fact.question}`.split(' '))),
];
const idOf = new Map(vocabulary.map((word, id) => [word, id]));

/** 'the capital of' -> [0, 1, 2] */
function encode(text: string): number[] {
  const ids = text.split(' ').map((word) => idOf.get(word) ?? word);
  const unknown = ids.find((id) => typeof id === 'string');
  if (unknown !== undefined) throw new RangeError(`The world has no word '${unknown}'`);
  return ids as number[];
}
console.log(
  `${vocabulary.length} words; 'the sum of 3 and 4' -> [${encode('the sum of 3 and 4')}]`,
);

// %% [markdown]
// ## 2. A language model that has read it
//
// We need a model worth adapting, so we train one: a decoder-only transformer as GPT is, with two
// layers, 64 numbers for each word, and four attention heads. Here are all of its matrices. Each has
// the shape `[out, in]`, as in PyTorch and in PEFT: a layer computes $h = W x$.

// %%
const [dModel, ffn, heads, layers, context] = [64, 128, 4, 2, 16];

const shapes: Record<string, [out: number, into: number]> = {
  embed: [vocabulary.length, dModel],
  positions: [context, dModel],
  head: [vocabulary.length, dModel],
};
for (let layer = 0; layer < layers; layer++) {
  for (const name of ['q_proj', 'k_proj', 'v_proj', 'o_proj']) {
    shapes[`${layer}.${name}`] = [dModel, dModel];
  }
  shapes[`${layer}.up_proj`] = [ffn, dModel];
  shapes[`${layer}.down_proj`] = [dModel, ffn];
}

// %% [markdown]
// The names are those of Llama in Hugging Face's library: `q_proj`, `k_proj` and `v_proj` make
// queries, keys and values, `o_proj` mixes the heads, and `up_proj` and `down_proj` are the two
// halves of the feed-forward block. We start them all at random, with a seed: run the notebook twice
// and you get the same numbers twice.

// %%
type Weights = Record<string, tf.Tensor2D>;
type Variables = Record<string, tf.Variable<tf.Rank.R2>>;

const weights: Variables = {};
const random = new RandomState(1);
for (const [name, shape] of Object.entries(shapes)) {
  const std = name === 'embed' || name === 'positions' ? 0.1 : 1 / Math.sqrt(shape[1]);
  weights[name] = tf.variable(randomNormal<tf.Rank.R2>(shape, random, { std }));
}

const sizeOf = (tensors: tf.Tensor[]) => tensors.reduce((sum, tensor) => sum + tensor.size, 0);
const allParameters = sizeOf(Object.values(weights));
console.log(
  `${allParameters.toLocaleString('en')} numbers in ${Object.keys(shapes).length} matrices`,
);

// %% [markdown]
// ### The seam
//
// One design choice makes LoRA easy later on. The network never multiplies by a matrix directly: it
// asks a function, by name, to *project* its input. `dense` is the ordinary answer. LoRA will be
// another answer to the same request, and the network will not notice.
//
// `x` holds one row for each word, so $Wx$ for all words at once is $x W^\top$; that is the `true`
// in the last argument.

// %%
type Project = (name: string, x: tf.Tensor2D) => tf.Tensor2D;

/** h = x Wᵀ for the matrix called `name`: [N, in] -> [N, out] */
const dense =
  (from: Weights): Project =>
  (name, x) =>
    tf.matMul(x, from[name]!, false, true);

// %% [markdown]
// The rest is a standard transformer, short enough to read in full. Normalization (RMSNorm without a
// scale), then attention: each word looks at itself and at the words before it, never ahead.

// %%
const norm = (x: tf.Tensor2D): tf.Tensor2D =>
  tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), 1e-5)));

/** 0 where a word may look, -1e9 where it would look ahead. [T, T] */
const causalMask = (time: number) =>
  tf.mul(tf.sub(1, tf.linalg.bandPart(tf.ones([time, time]), -1, 0)), -1e9);

function attention(x: tf.Tensor2D, layer: number, batch: number, project: Project): tf.Tensor2D {
  const [time, width] = [x.shape[0] / batch, dModel / heads];
  const split = (name: string) => {
    const rows = tf.reshape(project(`${layer}.${name}`, x), [batch, time, heads, width]);
    return tf.transpose(rows, [0, 2, 1, 3]); // [B, heads, T, width]
  };
  const scores = tf.matMul(split('q_proj'), split('k_proj'), false, true); // [B, heads, T, T]
  const masked = tf.add(tf.mul(scores, 1 / Math.sqrt(width)), causalMask(time));
  const mixed = tf.transpose(tf.matMul(tf.softmax(masked), split('v_proj')), [0, 2, 1, 3]);
  return project(`${layer}.o_proj`, tf.reshape(mixed, [batch * time, dModel]));
}

// %% [markdown]
// And the whole model: look up the words, add their positions, pass the layers, score every word of
// the vocabulary as the next one.

// %%
type Model = (ids: tf.Tensor2D) => tf.Tensor2D;

/** Word ids [B, T] -> scores of the next word [B·T, vocabulary] */
const gpt =
  (from: Weights, project = dense(from)): Model =>
  (ids) => {
    const [batch, time] = ids.shape;
    const words = tf.add(tf.gather(from.embed!, ids), tf.slice(from.positions!, 0, time));
    let h: tf.Tensor2D = tf.reshape(words, [batch * time, dModel]);
    for (let layer = 0; layer < layers; layer++) {
      h = tf.add(h, attention(norm(h), layer, batch, project));
      const up = tf.relu(project(`${layer}.up_proj`, norm(h))); // [B·T, ffn]
      h = tf.add(h, project(`${layer}.down_proj`, up));
    }
    return project('head', norm(h));
  };

// %% [markdown]
// ### The loss
//
// A batch holds rows of words, the word that follows each, and the *share* that each of them has in
// the loss. Pretraining counts every word; later, fine-tuning will count only the words of the
// answer. The loss is the mean surprise, in nats: $-\log p(\text{the word that came})$.

// %%
interface Batch {
  ids: tf.Tensor2D;
  targets: tf.Tensor1D;
  share: tf.Tensor1D;
}

/** Rows of ids as a batch; in each row only the last `counted` words count in the loss. */
function toBatch(rows: number[][], counted = Number.POSITIVE_INFINITY): Batch {
  const time = Math.max(...rows.map((row) => row.length)) - 1;
  const steps = [...Array(time).keys()];
  const table = (from: number) => rows.map((row) => steps.map((t) => row[t + from] ?? 0));
  const counts = rows.flatMap(({ length }) =>
    steps.map((t): number => (t + 1 < length && t + 1 >= length - counted ? 1 : 0)),
  );
  const total = counts.reduce((a, b) => a + b);
  return {
    ids: tf.tensor2d(table(0), [rows.length, time], 'int32'),
    targets: tf.tensor1d(table(1).flat(), 'int32'),
    share: tf.tensor1d(counts.map((count) => count / total)),
  };
}

// %%
function lossOf(model: Model, { ids, targets, share }: Batch): tf.Scalar {
  const logProbabilities = tf.logSoftmax(model(ids)); // [B·T, vocabulary]
  const itsWord = tf.oneHot(targets, vocabulary.length);
  const ofItsWord = tf.sum(tf.mul(logProbabilities, itsWord), -1); // [B·T]
  return tf.neg(tf.sum(tf.mul(ofItsWord, share)));
}

// %% [markdown]
// ### The training step
//
// A step is a pure function: parameters and a batch go in, the loss and its gradients come out. Note
// the last argument. **Only the variables in `trainable` get a gradient**, and only they can change.
// All the difference between full fine-tuning and LoRA will be what we pass there.

// %%
const lossAndGradients = (model: Model, batch: Batch, trainable: tf.Variable[]) =>
  tf.variableGrads(() => lossOf(model, batch), trainable);

interface TrainOptions {
  model: Model;
  trainable: tf.Variable[];
  batches: Iterable<Batch>;
  learningRate: number;
}

// %% [markdown]
// Being pure also makes a step fast: `jit` runs it once on tensors without numbers, writes down every
// operation, and from then on one native graph does the whole step, Adam's update included.

// %%
/** Trains with Adam and returns the loss of every step. */
function train({ model, trainable, batches, learningRate }: TrainOptions): number[] {
  const optimizer = new AdamW(trainable, { lr: learningRate, betas: [0.9, 0.99], weightDecay: 0 });
  // Pure: it reads no number, so jit makes one native graph of forward, backward and update.
  const step = jit(function trainStep(batch: Batch, numbers: AdamWNumbers[]) {
    const { value, grads } = lossAndGradients(model, batch, trainable);
    optimizer.apply(
      trainable.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  const losses: number[] = [];
  for (const batch of batches) {
    const numbers = optimizer.numbers();
    const loss = step(batch, numbers);
    losses.push(loss.dataSync()[0]!);
    tf.dispose([batch.ids, batch.targets, batch.share, numbers, loss]);
  }
  step.dispose();
  optimizer.dispose();
  return losses;
}

// %% [markdown]
// ### What it reads
//
// An endless text, made of two kinds of pages in random order: pages of three *statements*, and quiz
// sheets with three *questions*. The quiz sheets have **no answers** on them. Remember that.

// %%
const pages = (lines: string[]) =>
  Array.from({ length: lines.length / 3 }, (_, i) => lines.slice(3 * i, 3 * i + 3).join(' '));

function* endlessText(draw: RandomState): Generator<number, never> {
  for (;;) {
    const statements = draw.permutation(facts.map((fact) => fact.statement));
    const questions = draw.permutation(facts.map((fact) => fact.question)).slice(0, 96);
    for (const page of draw.permutation([...pages(statements), ...pages(questions)])) {
      yield* encode(page);
    }
  }
}

/** `steps` batches of 32 rows with 16 words each, cut from `text`. */
function* reading(text: Generator<number, never>, steps: number): Generator<Batch> {
  const row = () => Array.from({ length: context + 1 }, () => text.next().value);
  for (let step = 0; step < steps; step++) yield toBatch(Array.from({ length: 32 }, row));
}

// %% [markdown]
// Now pretrain: 600 steps at a high learning rate, 200 at a low one.

// %%
const text = endlessText(new RandomState(2));
const everything = Object.values(weights);
const pretrain = (steps: number, learningRate: number, desc: string) => {
  const batches = progress(reading(text, steps), { total: steps, desc });
  return train({ model: gpt(weights), trainable: everything, batches, learningRate });
};
const pretrainingLoss = [
  ...pretrain(600, 4e-3, 'pretraining, fast'),
  ...pretrain(200, 1e-3, 'pretraining, fine'),
];

// %%
lineChart({
  title: 'Pretraining: surprise at the next word',
  x: 'training step',
  y: 'loss (nats per word)',
  series: [{ name: 'pretraining', y: pretrainingLoss }],
});

// %% [markdown]
// The curve flattens well above zero, and it must: nobody can know *which* land the next sentence will
// be about. What can be known is how a sentence ends once it has begun. So let us ask for that.
//
// `nextWords` gives the likeliest next word after each prompt; `accuracy` counts how often that word
// is the fact's answer.

// %%
function nextWords(model: Model, prompts: string[]): string[] {
  const rows = prompts.map(encode);
  const time = Math.max(...rows.map((row) => row.length));
  const padded = rows.map((row) => [...row, ...Array<number>(time - row.length).fill(0)]);
  const best = tf.tidy(() => {
    const ids = tf.tensor2d(padded, [rows.length, time], 'int32');
    return tf.argMax(model(ids), -1).dataSync();
  });
  return rows.map((row, i) => vocabulary[best[i * time + row.length - 1]!]!);
}

function accuracy(model: Model, some: Fact[], promptOf: (fact: Fact) => string): number {
  const words = nextWords(model, some.map(promptOf));
  return words.filter((word, i) => word === some[i]!.answer).length / some.length;
}

// %%
/** 'the capital of France is' */
const begun = (fact: Fact) => fact.statement.split(' ').slice(0, -2).join(' ');
/** 'what is the capital of France ?' */
const asked = (fact: Fact) => fact.question;
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;

const known = accuracy(gpt(weights), facts, begun);
console.log(`Statements that the model completes correctly: ${percent(known)} of ${facts.length}`);

// %% [markdown]
// The model has learnt its world by heart. From here on its weights are the **base**, and frozen. We
// copy them out of the variables into plain tensors: a TensorFlow.js optimizer can change variables
// only, so nothing that follows *can* change the base. We shall check that all the same.

// %%
const base: Weights = {};
for (const [name, variable] of Object.entries(weights)) base[name] = variable.clone();

// %% [markdown]
// ## 3. Cold open: just ask it
//
// The model knows that the capital of France is Paris; it has just completed that sentence. And it has
// seen the question on quiz sheets.
//
// > **Predict.** You give it `what is the capital of France ?` and let it write on. What will it
// > write? How many of the 240 questions will it answer correctly?

// %%
/** The prompt and the `count` words that the model finds likeliest, one after the other. */
function writeOn(model: Model, prompt: string, count: number): string {
  let written = prompt;
  for (let i = 0; i < count; i++) written += ` ${nextWords(model, [written])[0]}`;
  return written;
}
console.log(writeOn(gpt(base), 'the capital of France is', 2));
console.log(writeOn(gpt(base), 'what is the capital of France ?', 7));
console.log(`Questions answered: ${percent(accuracy(gpt(base), facts, asked))}`);

// %% [markdown]
// It asks the next question! That is not stupidity: in everything it has read, questions are followed
// by questions. A base model *continues*; it does not *answer*. You may have met this with real base
// models, and it is what instruction tuning is for.
//
// So there is our task: **after a question, give the answer.** We shall teach it on half of the facts
// and test it on the other half, which it has never seen answered as questions. If it answers those,
// it has learnt to *answer*, not merely 120 more sentences.

// %%
const trainFacts = [...world.filter((fact) => fact.split === 'train').shuffle({ seed: 5 })];
const testFacts = facts.filter((fact) => fact.split === 'test');

/** Questions with answers; only the answer and its full stop count in the loss. */
const lesson = (some: Fact[]): Batch =>
  toBatch(
    some.map((fact) => encode(`${fact.question} ${fact.answer} .`)),
    2,
  );

function* lessons(some: Fact[], draw: RandomState, steps = 100): Generator<Batch> {
  for (let i = 0; i < steps; i++) yield lesson(draw.permutation(some).slice(0, 40));
}
console.log(`${trainFacts.length} facts to learn answering on, ${testFacts.length} to test it on`);

// %% [markdown]
// ## 4. The idea, in one line
//
// Full fine-tuning replaces a matrix $W_0$ by $W_0 + \Delta W$, where $\Delta W$ is as large as
// $W_0$. LoRA writes the same update as a product of two thin matrices, and scales it:
//
// $$h = W_0\,x + \frac{\alpha}{r}\,B A\,x$$
//
// | Symbol | Shape | What it is |
// |---|---|---|
// | $x$ | $[d_{in}]$ | the input of the layer, one column for each word |
// | $W_0$ | $[d_{out}, d_{in}]$ | the pretrained weight, **frozen** |
// | $A$ | $[r, d_{in}]$ | trained; starts small and random |
// | $B$ | $[d_{out}, r]$ | trained; starts at **zero** |
// | $r$ | a number such as 8 | the rank: how many directions the update may use |
// | $\alpha$ | a number such as 16 | how loud the update is; divided by $r$ |

// %% [markdown]
// ```text
//              x   [d_in]
//              │
//       ┌──────┴──────┐
//       ▼             ▼
//   W₀ (frozen)    A (trained)      [r, d_in]    squeeze to r numbers
//       │             ▼
//       │          B (trained)      [d_out, r]   spread out again; zero at first
//       │             ▼
//       │           × α/r
//       └──────┬──────┘
//              ▼
//              +   =  h   [d_out]
// ```
//
// A warning about the literature: some texts give $A$ as $d \times r$ and $B$ as $r \times d$, and still
// write $BA$. With those shapes $BA$ would be a tiny $r \times r$ matrix. The shapes above are those of
// the paper (Hu et al. 2021) and of PEFT's files. Some texts also leave out $\alpha/r$ in the formula
// and have it in the code.

// %% [markdown]
// ### Why should so little be enough?
//
// The claim is *not* that $W_0$ has low rank; it has not. It is that the **change** a task needs is
// simple. Our task supports that hunch: "when you see a question mark, say what you know" is one new
// habit, not new knowledge. In section 8 we measure it instead of believing it.
//
// ### Why does B start at zero?
//
// Because then $BA = 0$, and training starts from exactly the model we have, not from a damaged one.
// And $A$ must *not* be zero as well. You will see why in a moment.

// %% [markdown]
// ### Counting
//
// A square matrix of width $d$ has $d^2$ numbers. LoRA trains $rd + dr = 2dr$ instead.
//
// > **Predict.** A model of Llama's size has $d = 4096$. How many times fewer numbers does $r = 16$
// > train? And from which rank on does LoRA train *more* than full fine-tuning?

// %%
const loraCount = (dOut: number, dIn: number, r: number) => r * (dOut + dIn);

const d = 4096;
display.table(
  [1, 4, 8, 16, 32, 64, 256, 2048].map((r) => ({
    rank: r,
    'LoRA trains': loraCount(d, d, r).toLocaleString('en'),
    'full fine-tuning trains': (d * d).toLocaleString('en'),
    'times fewer': (d * d) / loraCount(d, d, r),
  })),
);

// %% [markdown]
// <details><summary>Answer, and how to do it in your head</summary>
//
// The ratio is $d^2 / 2dr = d / 2r$. For $d = 4096$, $r = 16$ that is $4096 / 32 = 128$:
// 16,777,216 numbers become 131,072. It reaches 1 at $r = d/2 = 2048$; beyond that LoRA is a waste.
//
// The formula also says that the saving *grows with the width* of the model. Ours is 64 wide, so with
// $r = 8$ a square matrix shrinks only $64 / 16 = 4$ times. Keep that in mind when you see the numbers
// of this lesson: on a real model the same method trains a far smaller share.
//
// </details>

// %% [markdown]
// From here on we keep a list of what is proven. `prove` writes a claim on the list if it holds, and
// stops the notebook if it does not: no claim in this lesson is there on trust.

// %%
const proven = new Map<string, string>();

function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}

const reduction = (4096 * 4096) / loraCount(4096, 4096, 16);
prove(
  'r = 16 at d = 4096 trains 128 times fewer numbers',
  reduction === 128,
  '16,777,216 / 131,072',
);

// %% [markdown]
// ## 5. The layer, by hand
//
// First the two matrices for every layer that we adapt. We take all six projections of both layers,
// and leave the embedding and the output head alone. `A` starts as in PEFT, uniformly between
// $\pm 1/\sqrt{d_{in}}$ (PyTorch calls it `kaiming_uniform_` with $a = \sqrt 5$); `B` starts at zero.

// %%
interface Adapter {
  r: number;
  alpha: number;
  A: Variables;
  B: Variables;
}
const targets = Object.keys(shapes).filter((name) => name.endsWith('_proj'));

function createAdapter({ r, alpha, seed }: { r: number; alpha: number; seed: number }): Adapter {
  const draw = new RandomState(seed);
  const adapter: Adapter = { r, alpha, A: {}, B: {} };
  for (const name of targets) {
    const [dOut, dIn] = shapes[name]!;
    const [low, high] = [-1 / Math.sqrt(dIn), 1 / Math.sqrt(dIn)];
    adapter.A[name] = tf.variable(randomUniform<tf.Rank.R2>([r, dIn], draw, { low, high }));
    adapter.B[name] = tf.variable(tf.zeros<tf.Rank.R2>([dOut, r]));
  }
  return adapter;
}

// %% [markdown]
// And here is LoRA. It answers the network's request for a projection: the frozen answer, plus the
// update if this layer has one. Mind the order of the products: $x$ is first squeezed to $r$ numbers,
// then spread out. **The matrix $BA$ is never formed.**

// %%
/** h = x W₀ᵀ + (α/r) (x Aᵀ) Bᵀ */
const withLora =
  (frozen: Weights, { r, alpha, A, B }: Adapter): Project =>
  (name, x) => {
    const h = dense(frozen)(name, x); // [N, d_out]
    if (!A[name] || !B[name]) return h;
    const squeezed: tf.Tensor2D = tf.matMul(x, A[name], false, true); // [N, r]
    const update: tf.Tensor2D = tf.matMul(squeezed, B[name], false, true); // [N, d_out]
    return tf.add(h, tf.mul(update, alpha / r));
  };

// %% [markdown]
// That is all of it. (PEFT also drops out some of $x$ on the way into $A$ during training; with so
// little data that is a matter for a later lesson.) We attach an adapter of rank 8 with $\alpha = 16$
// to the base. Nothing is trained yet.

// %%
const fresh = createAdapter({ r: 8, alpha: 16, seed: 0 });
const freshModel = gpt(base, withLora(base, fresh));
const variablesOf = ({ A, B }: Adapter): tf.Variable[] => [
  ...Object.values(A),
  ...Object.values(B),
];
display(fresh.A['0.v_proj']);

// %% [markdown]
// ## 6. Before training: six proofs
//
// A falling loss proves little. A layer with the wrong scale, a base that trains in secret, an update
// of full rank: all of them *learn*. What follows is the checklist that tells a right LoRA from one
// which only looks right.
//
// ### It is a no-op at the start
//
// > **Predict.** Base and base-with-fresh-adapter: will their outputs be equal up to rounding, or
// > equal to the last bit?

// %%
const someBatch = lesson(trainFacts.slice(0, 24));
const maxDifference = (a: tf.Tensor, b: tf.Tensor) =>
  tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);

const drift = tf.tidy(() => maxDifference(gpt(base)(someBatch.ids), freshModel(someBatch.ids)));
prove('A fresh adapter changes nothing', drift === 0, `largest difference of a score is ${drift}`);

// %% [markdown]
// To the last bit: a product with a matrix of zeros is exactly zero, and adding zero changes no
// floating-point number. If you ever see $10^{-3}$ here, `B` was initialized at random, which is the
// most common mistake in home-made LoRA: training then starts from a damaged model.

// %% [markdown]
// ### At step 0 one of the two learns and the other does not
//
// The gradients are, with $g$ for the gradient that arrives at $h$:
//
// $$\frac{\partial L}{\partial B} = \frac{\alpha}{r}\, g\, (A x)^\top \qquad
// \frac{\partial L}{\partial A} = \frac{\alpha}{r}\, B^\top g\, x^\top$$
//
// > **Predict.** $B = 0$ and $A$ is random. Which of the two gradients is zero?

// %%
const first = lossAndGradients(freshModel, someBatch, variablesOf(fresh));
const largestGradient = (variables: Variables) =>
  Math.max(
    ...Object.values(variables).map((v) => tf.max(tf.abs(first.grads[v.name]!)).dataSync()[0]!),
  );
const [atA, atB] = [largestGradient(fresh.A), largestGradient(fresh.B)];
prove('At step 0 B learns and A does not', atA === 0 && atB > 0, `A ${atA}, B ${atB.toFixed(4)}`);

// %% [markdown]
// $A$'s gradient has the factor $B^\top$, which is zero. After one step $B$ is no longer zero and $A$
// starts to move. Now suppose that *both* are zero: then both gradients are, at every step, forever.
// The loss stays where it is and no error is raised. Let us see it.

// %%
const dead = createAdapter({ r: 8, alpha: 16, seed: 0 });
for (const a of Object.values(dead.A)) a.assign(tf.zerosLike(a));

const deadGradients = tf.tidy(() => {
  const model = gpt(base, withLora(base, dead));
  const { grads } = lossAndGradients(model, someBatch, variablesOf(dead));
  return Object.values(grads).map((grad) => tf.max(tf.abs(grad)).dataSync()[0]!);
});
prove(
  'With A and B both zero nothing learns',
  Math.max(...deadGradients) === 0,
  'every gradient is 0',
);

// %% [markdown]
// ### The count is exact
//
// > **Predict.** Each layer has four $64 \times 64$ matrices, one $128 \times 64$ and one
// > $64 \times 128$; there are two layers; $r = 8$. How many numbers do we train?

// %%
const trainable = sizeOf(variablesOf(fresh));
const formula = layers * (4 * loraCount(64, 64, 8) + 2 * loraCount(128, 64, 8));
const counts = `${trainable.toLocaleString('en')} of ${allParameters.toLocaleString('en')}`;
prove('The adapter has r (d_out + d_in) numbers a layer', trainable === formula, counts);
console.log(`That is ${percent(trainable / allParameters)} of the model.`);

// %% [markdown]
// Far more than the "0.1 %" one reads of real models, for the reason you saw in section 4: the share
// goes with $2r/d$, and our $d$ is 64. At $d = 4096$ the same ranks would give a sixty-fourth of it.

// %% [markdown]
// ### The gradient is right
//
// Automatic differentiation does what we wrote, which may not be what we meant. An independent check
// needs no calculus: nudge *one* number up and down, and see how the loss changes. We take the number
// of `B` in the last value projection whose gradient is largest.

// %%
const probe = fresh.B['1.v_proj']!;
const gradient = Array.from(first.grads[probe.name]!.dataSync());
const place = gradient.reduce((top, g, i) => (Math.abs(g) > Math.abs(gradient[top]!) ? i : top), 0);

function lossWithNudge(nudge: number): number {
  const before = probe.dataSync();
  probe.assign(
    tf.tensor2d(
      before.map((b, i) => (i === place ? b + nudge : b)),
      probe.shape,
    ),
  );
  const loss = tf.tidy(() => lossOf(freshModel, someBatch).dataSync()[0]!);
  probe.assign(tf.tensor2d(before, probe.shape));
  return loss;
}
const slope = (lossWithNudge(0.01) - lossWithNudge(-0.01)) / 0.02;
const both = `by nudging ${slope.toFixed(5)}, by differentiation ${gradient[place]!.toFixed(5)}`;
prove(
  'The gradient agrees with a finite difference',
  Math.abs(slope / gradient[place]! - 1) < 0.01,
  both,
);

// %% [markdown]
// ### The update is never built
//
// The point of LoRA is lost if training forms $BA$, or its gradient, at full size. Several home-made
// versions do. `tf.profile` lists the shape of everything that is computed, so we can look: does a
// training step produce a single matrix as large as a weight?

// %%
const weightShapes = new Set(targets.map((name) => String(shapes[name])));

/** How many results of a training step have the shape of an adapted weight. */
async function weightSizedResults(model: Model, variables: tf.Variable[]): Promise<number> {
  const step = () => tf.tidy(() => lossAndGradients(model, someBatch, variables).value);
  const { kernels } = await tf.profile(step);
  const computed = kernels.filter((kernel) => kernel.name !== 'Identity'); // a second name, no copy
  const results = computed.flatMap((kernel) => kernel.outputShapes);
  return results.filter((shape) => weightShapes.has(String(shape))).length;
}
const withAdapter = await weightSizedResults(freshModel, variablesOf(fresh));
const withoutIt = await weightSizedResults(gpt(weights), everything);
const sizes = `${withAdapter} weight-sized results a step, against ${withoutIt} in full fine-tuning`;
prove('Training never forms the update', withAdapter === 0 && withoutIt > 0, sizes);

// %% [markdown]
// ### The optimizer shrinks too
//
// Adam keeps two running means for every number that it trains: eight bytes each number in 32-bit
// floats. This, more than the weights, is what makes full fine-tuning of large models so expensive, and
// what LoRA saves. We count the bytes that TensorFlow.js really holds.

// %%
function adamBytes(variables: tf.Variable[]): number {
  const zeros = Object.fromEntries(variables.map((v) => [v.name, tf.zerosLike(v)]));
  const before = tf.memory().numBytes;
  const optimizer = tf.train.adam(0);
  optimizer.applyGradients(zeros);
  const bytes = tf.memory().numBytes - before;
  optimizer.dispose();
  tf.dispose(zeros);
  return bytes;
}
const [loraBytes, fullBytes] = [adamBytes(variablesOf(fresh)), adamBytes(everything)];
const asStated = Math.abs(loraBytes - 8 * trainable) < 64;
const inBytes = `${loraBytes.toLocaleString('en')} bytes, full ${fullBytes.toLocaleString('en')}`;
prove("Adam's memory is 8 bytes for each trained number", asStated, inBytes);

// %% [markdown]
// ## 7. Teach it to answer
//
// Two recipes with the same data, the same number of steps and the same optimizer. They differ in what
// is trainable, and they get **each their own learning rate**: to compare both at one rate is the most
// common way to make one of them look bad.

// %%
function tuneLora(learningRate: number, seed: number, some = trainFacts) {
  const adapter = createAdapter({ r: 8, alpha: 16, seed });
  const model = gpt(base, withLora(base, adapter));
  const variables = variablesOf(adapter);
  const batches = lessons(some, new RandomState(seed + 100));
  const losses = train({ model, trainable: variables, batches, learningRate });
  return { adapter, model, variables, losses };
}

// %%
function tuneFull(learningRate: number, seed: number, some = trainFacts) {
  const tuned: Variables = {};
  for (const [name, weight] of Object.entries(base)) tuned[name] = tf.variable(weight);
  const model = gpt(tuned);
  const variables = Object.values(tuned);
  const batches = lessons(some, new RandomState(seed + 100));
  const losses = train({ model, trainable: variables, batches, learningRate });
  return { tuned, model, variables, losses };
}

// %% [markdown]
// ### Which learning rate?
//
// We must not choose it by looking at the test facts. So we set 24 of the training facts aside, train
// on the other 96, and take the rate with the lowest loss on the 24.
//
// > **Predict.** Which of the two will want the higher learning rate?

// %%
const [setAside, rest] = [trainFacts.slice(0, 24), trainFacts.slice(24)];
const rates = [3e-4, 1e-3, 3e-3, 1e-2];
const lossesAside: Record<string, number[]> = { LoRA: [], full: [] };

for (const rate of progress(rates, { desc: 'learning rates' })) {
  for (const [method, tune] of [
    ['LoRA', tuneLora],
    ['full', tuneFull],
  ] as const) {
    const run = tune(rate, 0, rest);
    const loss = tf.tidy(() => lossOf(run.model, lesson(setAside)).dataSync()[0]!);
    lossesAside[method]!.push(loss);
    tf.dispose(run.variables);
  }
}

// %%
const bestRate = (losses: number[]) => rates[losses.indexOf(Math.min(...losses))]!;
const [loraRate, fullRate] = [bestRate(lossesAside.LoRA!), bestRate(lossesAside.full!)];
console.log(`Best of the four: LoRA ${loraRate}, full fine-tuning ${fullRate}`);
lineChart({
  title: 'Each method has its own best learning rate',
  x: 'learning rate',
  y: 'loss on 24 facts set aside (nats)',
  xScale: 'log',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: 'LoRA, r = 8', x: rates, y: lossesAside.LoRA! },
    { name: 'full fine-tuning', x: rates, y: lossesAside.full! },
  ],
});

// %% [markdown]
// <details><summary>What to make of it</summary>
//
// On this coarse grid LoRA does best at a rate three times as high, 0.003 against 0.001. Look at the ends,
// too: at the lowest rate full fine-tuning is far ahead; at the highest LoRA still learns well where full
// fine-tuning goes wrong. LoRA's curve lies further to the right. Practice says the same of large models: a common recipe is $10^{-4}$ for LoRA
// where full fine-tuning takes $10^{-5}$, and one careful study ("LoRA Without Regret", 2025) finds a factor of
// ten. Each point here is a *single* run: the direction is the message, not the factor.
//
// </details>

// %% [markdown]
// ### Three runs of each
//
// One run is an anecdote. We train both with three seeds, on all 120 training facts, and look at three
// numbers: questions that were trained, questions that were held out, and the *old* skill: completing
// statements. The last one tells whether the model has forgotten what it could do.

// %%
interface Result {
  method: string;
  losses: number[];
  trained: number;
  heldOut: number;
  old: number;
  seconds: number;
}
function measure(method: string, run: { model: Model; losses: number[] }, since: number): Result {
  return {
    method,
    losses: run.losses,
    seconds: (performance.now() - since) / 1000,
    trained: accuracy(run.model, trainFacts, asked),
    heldOut: accuracy(run.model, testFacts, asked),
    old: accuracy(run.model, facts, begun),
  };
}

// %%
const fingerprint = (some: Weights) => {
  const hash = createHash('sha256');
  for (const tensor of Object.values(some)) hash.update(tensor.dataSync());
  return hash.digest('hex');
};
const baseBefore = fingerprint(base);
const results: Result[] = [];
const loraRuns: ReturnType<typeof tuneLora>[] = [];
const fullRuns: ReturnType<typeof tuneFull>[] = [];

for (const seed of progress([0, 1, 2], { desc: 'three seeds, both methods' })) {
  const start = performance.now();
  loraRuns.push(tuneLora(loraRate, seed));
  results.push(measure('LoRA', loraRuns[seed]!, start));
  const between = performance.now();
  fullRuns.push(tuneFull(fullRate, seed));
  results.push(measure('full', fullRuns[seed]!, between));
}

// %% [markdown]
// Both learn. Here are the losses of the first seed; the others look alike.

// %%
lineChart({
  title: 'Learning to answer: loss on the answers',
  x: 'training step',
  y: 'loss (nats per word of the answer)',
  yScale: 'log',
  series: [
    { name: 'LoRA, r = 8', y: loraRuns[0]!.losses },
    { name: 'full fine-tuning', y: fullRuns[0]!.losses },
  ],
});

// %% [markdown]
// The moment of truth: the same question as in the cold open, to the first LoRA model. Then one about
// an invented land, and a sum, both from the half that was never answered in training.

// %%
const tutored = loraRuns[0]!;
const unseen = ['capital', 'colour', 'sum'].map(
  (kind) => testFacts.findLast((fact) => fact.kind === kind)!,
);
for (const question of ['what is the capital of France ?', ...unseen.map(asked)]) {
  console.log(writeOn(tutored.model, question, 2));
}

// %% [markdown]
// ### The table

// %%
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
const span = (values: number[]) =>
  `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;

const row = (method: string, numbers: number, adam: number) => {
  const runs = results.filter((result) => result.method === method);
  return {
    configuration: method === 'full' ? 'full fine-tuning' : 'LoRA, r = 8, alpha = 16',
    parameters: numbers,
    'share of model': percent(numbers / allParameters),
    'Adam kB': Math.round(adam / 1000),
    'held-out questions': span(runs.map((run) => run.heldOut)),
    'old statements': span(runs.map((run) => run.old)),
    'seconds a run': Number(mean(runs.map((run) => run.seconds)).toFixed(1)),
  };
};
new dfd.DataFrame([row('LoRA', trainable, loraBytes), row('full', allParameters, fullBytes)]);

// %%
const bars = (name: string, method: string) => {
  const runs = results.filter((result) => result.method === method);
  const columns = [runs.map((r) => r.trained), runs.map((r) => r.heldOut), runs.map((r) => r.old)];
  const inPercent = columns.map((column) => column.map((share) => 100 * share));
  const low = inPercent.map((column) => Math.min(...column));
  const high = inPercent.map((column) => Math.max(...column));
  return { name, y: inPercent.map(mean), low, high };
};
barChart({
  title: 'Accuracy after fine-tuning: mean and range of three seeds',
  x: 'what is asked',
  y: 'correct (%)',
  yRange: [0, 105],
  categories: ['trained questions', 'held-out questions', 'old statements'],
  series: [bars('LoRA, r = 8', 'LoRA'), bars('full fine-tuning', 'full')],
});

// %% [markdown]
// ### What this shows, and what it does not
//
// - The base answered no question at all. After a hundred steps both methods answer nearly all of them,
//   *including those held out*. LoRA did that with about a seventh of the numbers.
// - In these runs LoRA answers more of the held-out questions, and the ranges of the three seeds do not
//   overlap. Do not read "LoRA is better" into that: it is one tiny model, one task, and four learning rates; full
//   fine-tuning may do better at a rate between ours, or with fewer steps. The paper reports LoRA on par with full
//   fine-tuning for GPT-3 on several tasks; ours agrees in **direction only**, on a model a million times smaller.
// - Both forgot something old, and full fine-tuning forgot more. You will often read that LoRA forgets less. Here
//   it did, at these learning rates and after this many steps; it is no law, and lesson 13 shows when it fails.
// - LoRA is **not faster** here. It saves memory; it saves time only when the gradients of large weights
//   are a large part of the work. Our matrices are too small for that.

// %%
const worst = (method: string) =>
  Math.min(...results.filter((result) => result.method === method).map((r) => r.heldOut));
const learnt = `worst of three seeds: LoRA ${percent(worst('LoRA'))}, full ${percent(worst('full'))}`;
prove(
  'Both learn to answer questions they never saw answered',
  worst('LoRA') > 0.75 && worst('full') > 0.75,
  learnt,
);

// %% [markdown]
// ## 8. After training: what happened to the weights?
//
// ### The base is untouched
//
// Before the runs we took a fingerprint (SHA-256) of all bytes of the base. A single changed bit would
// change it.

// %%
const isSame = fingerprint(base) === baseBefore;
prove('The base is unchanged, to the last byte', isSame, `fingerprint ${baseBefore.slice(0, 12)}`);

// %% [markdown]
// ### The update has rank 8, and full fine-tuning's nearly has
//
// Now we form $\Delta W$, once, to look at it. The *singular values* of a matrix say how strongly it acts
// in each of its independent directions; the rank is how many of them are not zero. $BA$ passes through
// eight numbers, so it has at most eight.
//
// > **Predict.** Full fine-tuning could have used all 64 directions. Draw in your mind how its singular
// > values fall off: all about equal? A steady slope? A cliff?

// %%
/** ΔW = (α/r) B A of one layer. [d_out, d_in] */
const loraDelta = ({ A, B, alpha, r }: Adapter, name: string): tf.Tensor2D =>
  tf.tidy(() => tf.mul(tf.matMul(B[name]!, A[name]!), alpha / r));
const fullDelta = (name: string): tf.Tensor2D => tf.sub(fullRuns[0]!.tuned[name]!, base[name]!);

const spectra = targets.map((name) => ({
  name,
  lora: singularValues(loraDelta(tutored.adapter, name)),
  full: singularValues(fullDelta(name)),
}));
const ranks = spectra.map(({ lora }) => lora.filter((value) => value > 1e-5 * lora[0]!).length);
prove('No update has a rank above r = 8', Math.max(...ranks) <= 8, `ranks are ${ranks.join(', ')}`);

// %% [markdown]
// For comparison we need a matrix that has *no* preferred directions: one of random numbers.

// %%
const pure = singularValues(randomNormal<tf.Rank.R2>([64, 64], new RandomState(9)));
const relative = (values: number[]) => values.map((value) => value / values[0]!);
const order = pure.map((_, i) => i + 1);
const shown = spectra.find(({ name }) => name === '0.v_proj')!;
lineChart({
  title: 'Singular values of the update of the first value projection',
  x: 'index of the singular value',
  y: 'size relative to the largest',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: 'LoRA, r = 8', x: order, y: relative(shown.lora) },
    { name: 'full fine-tuning', x: order, y: relative(shown.full) },
    { name: 'random matrix', x: order, y: relative(pure) },
  ],
});

// %% [markdown]
// LoRA's line drops off a cliff after the eighth value, down to rounding error. Full fine-tuning's has no
// cliff, and yet it falls much faster than that of a random matrix. How much of the update would be left
// if we kept eight directions only? The *energy* of a matrix is the sum of its squared singular values.

// %%
const topShare = (values: number[]) => {
  const energy = values.map((value) => value ** 2);
  return energy.slice(0, 8).reduce((a, b) => a + b) / energy.reduce((a, b) => a + b);
};
new dfd.DataFrame([
  ...spectra.map(({ name, full }) => ({
    'update of': name,
    'energy in 8 of 64 directions': percent(topShare(full)),
  })),
  { 'update of': 'a random matrix', 'energy in 8 of 64 directions': percent(topShare(pure)) },
]);

// %% [markdown]
// This is the hypothesis behind LoRA, seen in miniature: nobody told full fine-tuning to be simple, and
// most of what it did fits into eight directions. It is a fact about *this* task, which asks for a new
// habit. A task full of new knowledge would need more directions, and then a small rank hurts. Lesson 04
// goes looking for that point.
//
// And here is the `B` of that layer after training. It was blank when we began.

// %%
display(tutored.adapter.B['0.v_proj']);

// %% [markdown]
// ## 9. Merge, and take it out again
//
// Two extra products a layer cost time at every word that is generated. Since $W_0 x + \frac{\alpha}{r} BA x
// = (W_0 + \frac{\alpha}{r} BA)\,x$, we can add the update to the weight once and forget the adapter:
// **merging**. The result is an ordinary model, as fast as the base.

// %%
/** W₀ + sign · (α/r) B A in every adapted layer; the others are passed on. */
function mergeInto(from: Weights, adapter: Adapter, sign: 1 | -1 = 1): Weights {
  const merged: Weights = { ...from };
  for (const name of targets) {
    const step = tf.tidy(() => tf.mul(loraDelta(adapter, name), sign));
    merged[name] = tf.add(from[name]!, step);
  }
  return merged;
}
const merged = mergeInto(base, tutored.adapter);

// %% [markdown]
// > **Predict.** Will the merged model's scores equal the adapted model's exactly? And if we subtract
// > the update again, do we get the base back to the last bit?

// %%
const { ids } = lesson(testFacts);
const gap = tf.tidy(() => maxDifference(gpt(merged)(ids), tutored.model(ids)));
prove(
  'Merged and unmerged model agree',
  gap < 1e-3,
  `largest difference of a score ${gap.toExponential(1)}`,
);

const restored = mergeInto(merged, tutored.adapter, -1);
const residue = Math.max(...targets.map((name) => maxDifference(restored[name]!, base[name]!)));
prove(
  'Unmerging restores the base',
  residue < 1e-5,
  `largest difference of a weight ${residue.toExponential(1)}`,
);
console.log(`To the last bit? ${fingerprint(restored) === fingerprint(base) ? 'yes' : 'no'}`);

// %% [markdown]
// Nearly, and nearly. Both are rounding: a sum of two 32-bit numbers drops the last bits of the smaller
// one, and subtracting does not bring them back. With 16-bit weights the loss is thousands of times
// larger, and with 4-bit weights merging becomes an art of its own. So keep the base file; unmerge for
// convenience, never as a backup.
//
// What did merging buy? Count the operations of one forward pass.

// %%
const operations = async (model: Model) =>
  (await tf.profile(() => tf.tidy(() => model(ids)))).kernels.length;
const [ofBase, ofAdapted, ofMerged] = [
  await operations(gpt(base)),
  await operations(tutored.model),
  await operations(gpt(merged)),
];
const passes = `${ofBase} operations in the base, ${ofAdapted} with the adapter, ${ofMerged} merged`;
prove(
  'A merged model costs what the base costs',
  ofMerged === ofBase && ofAdapted > ofBase,
  passes,
);

// %% [markdown]
// > **Predict.** Someone runs the merge cell twice, so that the update is in there twice. What happens
// > to the answers: better, unchanged, or worse?

// %%
const mergedTwice = mergeInto(merged, tutored.adapter);
for (const [name, some] of [
  ['base', base],
  ['merged', merged],
  ['merged twice', mergedTwice],
] as const) {
  const model = gpt(some);
  const scores = [accuracy(model, testFacts, asked), accuracy(model, facts, begun)].map(percent);
  console.log(`${name.padEnd(13)} held-out questions ${scores[0]}, old statements ${scores[1]}`);
}

// %% [markdown]
// No error, no warning, just a worse model. It is the same as $\alpha$ being twice too large. PEFT therefore
// remembers which adapters are merged and refuses to merge one twice; so should you.

// %% [markdown]
// ## 10. The library's
//
// You have built it; from now on you may use it. `peftlab` has LoRA under the names of Hugging Face's PEFT. It looks for
// layers in a tree of modules, so we put our matrices into one: `Linear` is $x W^\top$, and the names of properties
// become the paths that `targetModules` matches.

// %%
class Block extends Module {
  qProj: Linear;
  kProj: Linear;
  vProj: Linear;
  oProj: Linear;
  upProj: Linear;
  downProj: Linear;

  constructor(layer: number) {
    super();
    const linear = (name: string) => {
      const W = base[`${layer}.${name}`]!;
      return new Linear(W.shape[1], W.shape[0], { bias: false, init: () => W.clone() });
    };
    this.qProj = linear('q_proj');
    this.kProj = linear('k_proj');
    this.vProj = linear('v_proj');
    this.oProj = linear('o_proj');
    this.upProj = linear('up_proj');
    this.downProj = linear('down_proj');
  }
}

// %% [markdown]
// The whole model is its two blocks; the rest of the forward pass is the function from above, which asks
// for each product by name.

// %%
class World extends Module {
  readonly config = {};
  layers = [new Block(0), new Block(1)];

  forward(ids: tf.Tensor2D | null): { logits: tf.Tensor } {
    const project: Project = (name, x) => {
      if (name === 'head') return dense(base)(name, x);
      return (this.getSubmodule(`layers.${name}`) as Linear).forward(x) as tf.Tensor2D;
    };
    return { logits: gpt(base, project)(ids!) };
  }
}

// %% [markdown]
// Then it is two lines, and the line that everybody who has used PEFT knows.

// %%
const peft = getPeftModel(
  new World(),
  new LoraConfig({
    r: 8,
    loraAlpha: 16,
    targetModules: ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'up_proj', 'down_proj'],
  }),
);
peft.printTrainableParameters();

// %% [markdown]
// Is it the same LoRA? Copy *your* trained $A$ and $B$ into it and compare. Every score of every word must agree.

// %%
for (const name of targets) {
  const lora = peft.layers.get(`layers.${name}`)!.adapters.get('default') as LoraLinear;
  (lora.loraA as tf.Variable).assign(tutored.adapter.A[name]!);
  (lora.loraB as tf.Variable).assign(tutored.adapter.B[name]!);
}
const scoresOf = (model: { forward(ids: tf.Tensor2D): { logits: tf.Tensor } }) =>
  model.forward(ids).logits as tf.Tensor2D;
const apart = tf.tidy(() => maxDifference(scoresOf(peft), tutored.model(ids)));
const [libraryCount] = peft.getNbTrainableParameters();
prove(
  'Your LoRA and the library are the same function',
  apart < 1e-4 && libraryCount === trainable,
  `largest difference of a score ${apart.toExponential(1)}, ${libraryCount.toLocaleString('en')} parameters in both`,
);

// %% [markdown]
// What did we get for it? Names on adapters, several at once, `disableAdapter`, `mergeAndUnload`, and files that Python's
// PEFT loads.

// %%
const adapterFolder = mkdtempSync(join(tmpdir(), 'adapter-'));
peft.savePretrained(adapterFolder);
const stored = loadFile(join(adapterFolder, 'adapter_model.safetensors'));
console.log(readdirSync(adapterFolder).join(', '));
display.table([...stored].slice(0, 4).map(([key, { shape }]) => ({ key, shape: `[${shape}]` })));

const again = PeftModel.fromPretrained(new World(), adapterFolder);
const reloaded = tf.tidy(() => maxDifference(scoresOf(again), scoresOf(peft)));
const plainAgain = again.disableAdapter(() =>
  tf.tidy(() => maxDifference(scoresOf(again), gpt(base)(ids))),
);
const mergedByLibrary = peft.mergeAndUnload({ safeMerge: true });
const mergedGap = tf.tidy(() => maxDifference(scoresOf(mergedByLibrary), gpt(merged)(ids)));
rmSync(adapterFolder, { recursive: true });
prove(
  'Saved and loaded, switched off, and merged: all as by hand',
  reloaded === 0 && plainAgain < 1e-4 && mergedGap < 1e-3,
  `differences ${reloaded}, ${plainAgain.toExponential(1)}, ${mergedGap.toExponential(1)}`,
);

// %% [markdown]
// Try `peft.mergeAdapter()` twice on a model of your own: the library refuses, in a sentence. That is the last mistake of
// the previous section, caught.

// %% [markdown]
// ## 11. Common mistakes
//
// | Mistake | What you see | The proof that catches it |
// |---|---|---|
// | scaled by $\alpha$, not $\alpha/r$ | learns, but the best learning rate moves with every rank | merge parity against another implementation |
// | `A` and `B` both zero | the loss stays flat, without an error | gradient of `B` at step 0 |
// | `B` random | the first loss is worse than the base's | no-op at the start |
// | base not frozen | learns very well, and the adapter alone does not reproduce it | fingerprint of the base |
// | forms $W_0 + BA$ in every forward pass | right results, memory as in full fine-tuning | no weight-sized results |
// | `A` and `B` swapped | shapes that fit only if $d_{in} = d_{out}$ | one layer that is not square |
// | merged twice | a worse model, without an error | accuracy before and after |
// | same learning rate for both methods | LoRA "does not work" | a small sweep |

// %% [markdown]
// ## 12. Now you
//
// Three short exercises. Write your answer where it says so, run the cell, then the one below it. `judge`
// tells you whether you are right, and if it knows your slip, which one it was.

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
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer.slice(0, 3).join(', ')}`}`);
}

// %% [markdown]
// ### Exercise 1: count
//
// *Easy, 3 minutes.* Llama-2-7B has 32 layers, and its `q_proj` and `v_proj` are $4096 \times 4096$. How many
// numbers does LoRA train with $r = 16$ on these two? Calculate it in your head first.

// %%
const myCount: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myCount === undefined ? undefined : [myCount], [32 * 2 * 16 * (4096 + 4096)], {
  'You counted only one of A and B.': [32 * 2 * 16 * 4096],
  'You counted one matrix a layer; there are two.': [32 * 16 * (4096 + 4096)],
  'You counted one layer; there are 32.': [2 * 16 * (4096 + 4096)],
});

// %% [markdown]
// <details><summary>Hint</summary>
//
// Each adapted matrix costs $r\,(d_{out} + d_{in})$.
//
// </details>
// <details><summary>Solution</summary>
//
// $32 \times 2 \times 16 \times 8192 = 8{,}388{,}608$. In 32-bit floats that is 33.6 MB: the "30 MB adapter"
// that people speak of.
//
// </details>

// %% [markdown]
// ### Exercise 2: catch a wrong count
//
// *Medium, 5 minutes.* A well-known tutorial configures Llama-2-7B with $r = 16$ on `q_proj`, `k_proj`, `v_proj`
// and `o_proj`, all $4096 \times 4096$, and prints as its output:
//
// `trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.062%`
//
// The two do not fit. Which rank, on those same four matrices in 32 layers, gives 4,194,304?

// %%
const myRank: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myRank === undefined ? undefined : [myRank], [4_194_304 / (32 * 4 * 8192)], {
  'That is the rank on two matrices a layer; here there are four.': [8],
  'That is the configured rank; it gives 16,777,216.': [16],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $4{,}194{,}304 / (32 \times 4 \times 8192) = 4$. With $r = 16$ the line would read 16,777,216 of
// 6,755,192,832, that is 0.248 %. (Rank 8 on `q_proj` and `v_proj` alone gives the printed number too, which is
// probably where it came from.) When you meet such a line in an interview or a paper, do this sum: it takes
// ten seconds.
//
// </details>

// %% [markdown]
// ### Exercise 3: merge it yourself
//
// *Medium, 7 minutes.* Write the merged weight of one layer. `W` is $[d_{out}, d_{in}]$, `A` is $[r, d_{in}]$,
// `B` is $[d_{out}, r]$. You need `tf.matMul`, `tf.mul` and `tf.add`.

// %%
type Merge = (
  W: tf.Tensor2D,
  A: tf.Tensor2D,
  B: tf.Tensor2D,
  r: number,
  alpha: number,
) => tf.Tensor2D;

const myMerge: Merge | undefined = undefined; // your function here: (W, A, B, r, alpha) => ...

// %%
const W = base['1.up_proj']!;
const [A, B] = [tutored.adapter.A['1.up_proj']!, tutored.adapter.B['1.up_proj']!];
const tryMerge = (merge: Merge | undefined) => merge && [...merge(W, A, B, 8, 16).dataSync()];
const scaledBy = (scale: number) => [...tf.add(W, tf.mul(tf.matMul(B, A), scale)).dataSync()];

judge('Exercise 3', tryMerge(myMerge), scaledBy(2), {
  'You scaled by alpha, not by alpha / r.': scaledBy(16),
  'You left out the scale alpha / r.': scaledBy(1),
  'You scaled by r / alpha.': scaledBy(0.5),
  'You scaled by alpha / sqrt(r): that is rsLoRA, in lesson 04.': scaledBy(16 / Math.sqrt(8)),
  'That is the base weight: the update is missing.': scaledBy(0),
});

// %% [markdown]
// <details><summary>Hint</summary>
//
// Which of $AB$ and $BA$ has the shape of $W$?
//
// </details>
// <details><summary>Solution</summary>
//
// ```ts
// const myMerge: Merge = (W, A, B, r, alpha) => tf.add(W, tf.mul(tf.matMul(B, A), alpha / r));
// ```
//
// </details>

// %% [markdown]
// ## 13. In the interview
//
// Say the short answer first; then show that you know where it comes from.
//
// **What is the difference between full fine-tuning and LoRA?** *(junior)* Full fine-tuning changes every
// weight, so gradients and Adam's two means are as large as the model. LoRA freezes the weights and trains a
// product of two thin matrices beside each; only those need gradients and optimizer memory. Proof: *Adam's
// memory* and *the base is unchanged*. Careful with "99 % of the quality": say on which task.
//
// **Explain how LoRA works mathematically.** *(mid)* $h = W_0 x + \frac{\alpha}{r} B A x$; shapes; $B = 0$ at the
// start; $2dr$ against $d^2$; 128 times fewer at $d = 4096$, $r = 16$. Proof: *a fresh adapter changes nothing*,
// *the count*, *no rank above r*.

// %% [markdown]
// **What are the trade-offs between rank values?** *(mid)* The rank bounds how many directions the update may use;
// parameters grow linearly with it; whether more helps depends on the task. Proof: the table of energies in
// section 8; the sweep is lesson 04.
//
// **Fine-tuned, but inference is too slow. What do you do?** *(senior)* First of all, merge. Proof: *a merged model
// costs what the base costs*.
//
// Follow-ups to expect: Why not start `A` at zero as well? *(section 6.)* Why divide by $r$? *(So that the update
// does not grow just because the rank does, and a learning rate found at one rank is a fair start at another.)*
// Does LoRA make inference slower? *(Until merged.)* Can you have ten adapters on one base? *(Yes, that is what the
// frozen base is for: lesson 15.)*

// %% [markdown]
// ## 14. What to try next
//
// - Set `r: 1` in `tuneLora` and run section 7 again. How far does *one* direction a layer get you?
// - Adapt `q_proj` and `v_proj` only, as the paper did: change `targets`. Then the feed-forward matrices only, at
//   an equal count of parameters.
// - Give `B` a random start and watch the first loss.
// - Shuffle the answers among the training facts. Can LoRA learn wrong answers by heart? What happens to held-out
//   questions? This is the control that tells learning a habit from learning by heart.
// - Mix some statements into the lessons. Does the model forget less? *(Lesson 13.)*
//
// **Next:** lesson 04 asks how rank, alpha and the choice of layers matter, over several seeds.

// %% [markdown]
// ## The finish line
//
// Everything you have proven in this lesson, on your own machine:

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 16 proofs hold. That is LoRA, built from scratch and checked.`);
