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
// # DPO with LoRA
//
// Nobody can write down the one right answer to "be friendly", but anybody can say which of two answers is the
// friendlier one. **How do you train a model on "this rather than that", without a reward model and without
// reinforcement learning?** Here you derive the loss on three answers, compute it by hand, train with it, and then look
// at the two curves that most people never plot.
//
// | | |
// |---|---|
// | Time | 50 minutes to read and try; about a minute to run |
// | You need | LoRA (lesson 03); logarithms and the sigmoid |
// | Level | the senior takeaway "DPO/RLHF with PEFT", and the questions that follow it |

// %% [markdown]
// **When you are through you can**
//
// 1. draw RLHF's pipeline and say which two boxes DPO leaves out, and what it keeps;
// 2. derive DPO's loss from "the best policy under a KL penalty", and say where the reward went;
// 3. say why the loss begins at $\ln 2$, and what it means if it does not;
// 4. read margins, chosen and rejected log-probabilities *apart*, and recognize likelihood displacement;
// 5. choose $\beta$, and tell sigmoid, IPO, hinge, robust, KTO and ORPO from one another.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. From preferences to a policy: two roads
//
// ```mermaid
// graph LR
//   A[base model] --> B[SFT]
//   B --> C[pairs: chosen, rejected]
//   C --> D[reward model]
//   D --> E[RL: PPO or GRPO, with a KL penalty to the SFT model]
//   E --> F[aligned model]
//   C --> G[DPO: one supervised loss]
//   G --> F
// ```
//
// RLHF, the upper road: train a **reward model** on the pairs, then let the policy write, score what it wrote, and push it
// towards higher rewards; a **KL penalty** keeps it near the SFT model, or it would find nonsense that the reward model
// happens to like. Four models in memory: policy, reference, reward model and, in PPO, a value model.
//
// DPO, the lower road: a loss on pairs. Two models in memory, and with LoRA *one*: the reference is the same model with
// its adapter off.

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  type CausalLM,
  type DPOConfig,
  type DPOLossOptions,
  DPOTrainer,
  dpoLoss,
  ForSequenceClassification,
  generate,
  getPeftModel,
  KTOTrainer,
  type LlamaForCausalLM,
  LoraConfig,
  lineChart,
  loadDataset,
  ORPOTrainer,
  type PeftModel,
  RewardTrainer,
  SFTTrainer,
  setBackend,
  splitWithoutLeaks,
} from 'peftlab';

await setBackend('auto');

// %% [markdown]
// ## 2. Where the reward went
//
// What does the upper road aim at? The policy $\pi$ that earns most, with a penalty for leaving the reference:
//
// $$\max_\pi \; \sum_y \pi(y) \, r(y) \;-\; \beta \, \mathrm{KL}(\pi \,\|\, \pi_{ref})$$
//
// This has a solution in closed form: $\;\pi^*(y) = \tfrac1Z \, \pi_{ref}(y) \, e^{r(y)/\beta}$. Take three answers to one
// question, with their probabilities under the reference and rewards that we make up.
//
// > **Predict.** $\beta$ is the price of leaving the reference. Which $\beta$ gives nearly the reference back, a large or
// > a small one?

// %%
const reference = [0.5, 0.3, 0.2];
const reward = [0, 1, 2];
function best(beta: number): number[] {
  const raw = reference.map((p, i) => p * Math.exp(reward[i]! / beta));
  const z = raw.reduce((a, b) => a + b);
  return raw.map((value) => value / z);
}
display.table([
  { policy: 'reference', a: 0.5, b: 0.3, c: 0.2 },
  ...[10, 1, 0.2].map((beta) => {
    const [a, b, c] = best(beta).map((p) => p.toFixed(3));
    return { policy: `best for beta ${beta}`, a, b, c };
  }),
]);

// %% [markdown]
// Now read the formula backwards. Whatever policy you have, *it is the best one for some reward*:
//
// $$r(y) = \beta \ln \frac{\pi(y)}{\pi_{ref}(y)} + \beta \ln Z$$
//
// A policy **is** a reward model. $\ln Z$ is a sum over all answers there are, and nobody can compute it. But preferences
// only need *differences* (Bradley and Terry, 1952: the chosen answer wins with probability $\sigma(r_c - r_r)$), and in a
// difference it cancels:
//
// $$\mathcal{L} = -\ln \sigma \Big( \underbrace{\beta \ln \frac{\pi(y_c)}{\pi_{ref}(y_c)} - \beta \ln
// \frac{\pi(y_r)}{\pi_{ref}(y_r)}}_{\text{the margin}} \Big)$$
//
// That is DPO (Rafailov et al. 2023). No reward model, no sampling, no $Z$.

// %%
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
const policy = best(0.5);
const implied = policy.map((p, i) => 0.5 * Math.log(p / reference[i]!));
prove(
  'The policy gives its rewards back, up to one constant',
  Math.abs(implied[2]! - implied[0]! - 2) < 1e-9 && Math.abs(implied[1]! - implied[0]! - 1) < 1e-9,
  `implied ${implied.map((r) => r.toFixed(3)).join(', ')}: differences of 1 and 2, as the rewards 0, 1, 2`,
);

// %% [markdown]
// ## 3. The loss by hand
//
// Log-probabilities of a whole answer are sums over its tokens, so they are numbers like $-12$. Three moments of a
// training run, $\beta = 0.1$:
//
// | | policy: chosen, rejected | reference | log-ratios | margin | loss |
// |---|---|---|---|---|---|
// | start | $-12$, $-10$ | $-12$, $-10$ | $0$, $0$ | $0$ | $\ln 2 = 0.693$ |
// | later | $-11.5$, $-11$ | $-12$, $-10$ | $0.5$, $-1$ | $0.15$ | ? |
// | much later | $-14$, $-20$ | $-12$, $-10$ | $-2$, $-10$ | $0.8$ | ? |
//
// The first row is why DPO begins at $\ln 2$, always: policy and reference are the same model, so the margin is 0 and
// $\sigma(0) = \tfrac12$. It does not matter that the model likes the *rejected* answer better. If your run begins
// elsewhere, your reference is not the model that you started from.
//
// > **Predict.** Compute the two missing losses. Then look at the last row again: is the model better than at the start?

// %%
const column = (values: number[]) => tf.tensor1d(values);
const lossOf = ([chosen, rejected]: number[], options: DPOLossOptions = {}) =>
  tf.tidy(() => {
    const lengths = { chosenLengths: column([10]), rejectedLengths: column([10]) };
    const ref = { refChosen: column([-12]), refRejected: column([-10]) };
    const own = { chosen: column([chosen!]), rejected: column([rejected!]) };
    return dpoLoss({ ...own, ...ref, ...lengths }, options).loss.dataSync()[0]!;
  });
const moments = [
  [-12, -10],
  [-11.5, -11],
  [-14, -20],
];
const byHand = [0, 0.15, 0.8].map((margin) => Math.log(1 + Math.exp(-margin)));
const byLibrary = moments.map((moment) => lossOf(moment));
prove(
  'By hand and by the library the losses are the same',
  byHand.every((value, i) => Math.abs(value - byLibrary[i]!) < 1e-6),
  byLibrary.map((value) => value.toFixed(4)).join(', '),
);

// %% [markdown]
// In the last row the loss is at its lowest, and the *chosen* answer has become seven times **less** likely
// ($e^{-2} \approx 0.14$). The loss only sees the difference. Keep this row in mind for section 6.
//
// **Which pairs count?** The gradient of the loss is $-\beta \, \sigma(-\text{margin})$ times (gradient of the chosen
// log-probability less that of the rejected). A pair that is still wrong pulls with almost all of $\beta$, one that is
// clearly right with almost nothing. The relatives of DPO change this one curve.

// %%
const gaps = Array.from({ length: 61 }, (_, i) => -30 + 1.5 * i);
const relatives: Record<string, DPOLossOptions> = {
  sigmoid: { lossType: 'sigmoid' },
  hinge: { lossType: 'hinge' },
  ipo: { lossType: 'ipo', beta: 0.2 },
  'robust, 20 % wrong': { lossType: 'robust', labelSmoothing: 0.2 },
};
lineChart({
  title: 'Four losses of one pair',
  x: 'chosen log-ratio less rejected log-ratio (nats)',
  y: 'loss',
  yRange: [-1, 6],
  series: Object.entries(relatives).map(([name, options]) => ({
    name,
    x: gaps,
    y: gaps.map((gap) => lossOf([-12 + gap / 2, -10 - gap / 2], { beta: 0.1, ...options })),
  })),
});

// %% [markdown]
// The dip of IPO is its point: it wants a *certain* margin, $\frac{1}{2\beta}$ a token, and pulls back beyond it. Sigmoid always
// wants more. Hinge stops caring at a margin of 1. **Robust** knows that some labels are wrong, a share $\varepsilon$ of them:
//
// $$\frac{(1 - \varepsilon)\, \mathcal{L}(m) - \varepsilon\, \mathcal{L}(-m)}{1 - 2 \varepsilon}$$
//
// Why this? Because if a share $\varepsilon$ of the pairs is flipped, its *average* is the sigmoid loss of the clean pairs.

// %%
const flipped = (gap: number) => {
  const robust = { lossType: 'robust', labelSmoothing: 0.2 } as const;
  const asIs = lossOf([-12 + gap / 2, -10 - gap / 2], robust);
  const swapped = lossOf([-12 - gap / 2, -10 + gap / 2], robust);
  return 0.8 * asIs + 0.2 * swapped;
};
const clean = (gap: number) => lossOf([-12 + gap / 2, -10 - gap / 2]);
const worst = Math.max(...gaps.map((gap) => Math.abs(flipped(gap) - clean(gap))));
prove(
  'With 20 % of the labels flipped, the mean robust loss is the loss of clean labels',
  worst < 1e-5,
  `largest difference over ${gaps.length} margins ${worst.toExponential(1)}`,
);

// %% [markdown]
// ## 4. Pairs, and a model that can do both
//
// `world-preferences` has 600 questions, each with two answers: one that says the fact in a sentence and is kind, and one
// that is rude, or repeats itself. What is said is right in both: *only the manner differs*. 120 questions are kept for the
// test.

// %%
interface Pair {
  prompt: string;
  chosen: string;
  rejected: string;
}
const { train: trainPairs, test: testPairs } = splitWithoutLeaks(
  loadDataset<Pair>('world-preferences'),
  { testSize: 120, seed: 3, textOf: ({ prompt }) => prompt },
);
display.table([...trainPairs].slice(0, 4));

// %%
const asRow = ({ prompt, chosen, rejected }: Pair): Pair => ({
  prompt,
  chosen: ` ${chosen}`,
  rejected: ` ${rejected}`,
});
const pairs = [...trainPairs].map(asRow);
const heldOut = [...testPairs].map(asRow);
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');

// %% [markdown]
// DPO can only move probability between answers that the model *might* give, so an SFT step comes first, as on both roads. We
// let it read both answers of each pair, as a model does that has read the internet. (40 steps teach it the form of an
// answer. They do not teach it to look at the subject: what it says is often about somebody else. The manner is what we
// measure here.)

// %%
const lora = () => new LoraConfig({ r: 8, loraAlpha: 16, targetModules: 'all-linear' });
const sft = new SFTTrainer({
  model: await AutoModelForCausalLM.fromPretrained('models/world-3m'),
  processingClass: tokenizer,
  trainDataset: pairs.flatMap(({ prompt, chosen, rejected }) => [
    { prompt, completion: chosen },
    { prompt, completion: rejected },
  ]),
  peftConfig: lora(),
  args: {
    learningRate: 3e-3,
    lrSchedulerType: 'cosine',
    maxSteps: 40,
    perDeviceTrainBatchSize: 12,
    padToMultipleOf: 48,
    adamBeta2: 0.99,
    disableTqdm: true,
  },
});
await sft.train();
sft.dispose();
const start = (sft.model as unknown as PeftModel).mergeAndUnload() as CausalLM;

// %%
/** What a model answers, by chance (temperature 1). */
async function answers(model: CausalLM, questions: string[]): Promise<string[]> {
  const ids = questions.map((question) => tokenizer.encode(question));
  const sampling = { doSample: true, topK: 0, seed: 1 };
  const all = await generate(model, ids, { maxNewTokens: 20, ...sampling });
  return all.map((row, i) =>
    tokenizer.decode(row.slice(ids[i]!.length), { skipSpecialTokens: true }).trim(),
  );
}
const asked = [...testPairs].slice(0, 16).map(({ prompt }) => prompt);
const isKind = (text: string) => text.endsWith('You are welcome.');
const atFirst = await answers(start, asked);
display.table(asked.slice(0, 6).map((question, i) => ({ question, answer: atFirst[i] })));
console.log(`kind: ${atFirst.filter(isKind).length} of ${atFirst.length}`);

// %% [markdown]
// ## 5. DPO
//
// The source text's example, as it runs here: an adapter on the SFT model, `beta` 0.1. There is no `ref_model`: the
// reference is the same model **with the adapter off**. That is what "DPO with LoRA" buys: no second copy of the weights.
// (TRL does the same when it is given a PEFT model; with an adapter that is trained already it keeps a frozen copy of it.)
//
// > **Predict.** The first logged loss, to four digits. The first margin.

// %%
const DPO: DPOConfig = {
  beta: 0.1,
  reference: 'adapter_off',
  learningRate: 2e-3,
  lrSchedulerType: 'constant',
  maxSteps: 12,
  perDeviceTrainBatchSize: 4,
  padToMultipleOf: 48,
  adamBeta2: 0.99,
  disableTqdm: true,
};

interface Run {
  /** One value a step. */
  log: Record<'loss' | 'margin' | 'chosen' | 'rejected', number[]>;
  /** On held-out pairs. */
  accuracy: number;
  chosen: number;
  rejected: number;
  /** Of 16 held-out questions, answered by chance. */
  kind: number;
  example: string;
}

// %%
/** Tunes the SFT model by DPO, measures, and takes the adapter out again. */
async function tune(args: DPOConfig = {}, rows = pairs): Promise<Run> {
  const model = getPeftModel(start, lora(), { seed: args.seed ?? 0 }) as unknown as CausalLM;
  const trainer = new DPOTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: rows,
    evalDataset: heldOut.slice(0, 32),
    args: { ...DPO, ...args },
  });
  const { logHistory } = await trainer.train();
  const { metrics } = await trainer.evaluate();
  const texts = await answers(model, asked);
  trainer.dispose();
  (model as unknown as PeftModel).unload();
  const column = (name: string) => logHistory.map((entry) => entry.metrics[name]!);
  return {
    log: {
      loss: logHistory.map(({ loss }) => loss),
      margin: column('rewards/margins'),
      chosen: column('logps/chosen'),
      rejected: column('logps/rejected'),
    },
    accuracy: metrics['rewards/accuracies']!,
    chosen: metrics['logps/chosen']!,
    rejected: metrics['logps/rejected']!,
    kind: texts.filter(isKind).length / texts.length,
    example: texts[0]!,
  };
}

// %%
const seeds = [0, 1, 2];
const main: Run[] = [];
for (const seed of progress(seeds, { desc: 'DPO with three seeds' }))
  main.push(await tune({ seed }));
const steps = main[0]!.log.loss.map((_, i) => i + 1);
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
const curveOf = (list: Run[], name: keyof Run['log']) =>
  list[0]!.log[name].map((_, i) => mean(list.map((run) => run.log[name][i]!)));
lineChart({
  title: 'DPO: the loss from ln 2, and the margin from 0',
  x: 'step',
  y: 'mean of three seeds',
  series: [
    { name: 'loss', x: steps, y: curveOf(main, 'loss') },
    { name: 'margin of rewards', x: steps, y: curveOf(main, 'margin') },
  ],
});

// %%
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const shares = (list: Run[], name: 'accuracy' | 'kind') =>
  list.map((run) => percent(run[name])).join(', ');
prove(
  'The loss begins at ln 2 with margin 0, with every seed',
  main.every(
    ({ log }) => Math.abs(log.loss[0]! - Math.LN2) < 1e-4 && Math.abs(log.margin[0]!) < 1e-3,
  ),
  main.map(({ log }) => log.loss[0]!.toFixed(4)).join(', '),
);
prove(
  'DPO ranks unseen pairs right, with every seed',
  main.every(({ accuracy }) => accuracy > 0.8),
  `${shares(main, 'accuracy')} of 32 pairs; kind answers ${shares(main, 'kind')}`,
);
console.log(`${asked[0]} ${main[0]!.example}`);

// %% [markdown]
// ## 6. The two curves apart
//
// The margin grew. There are three ways for a difference to grow: chosen up, rejected down, or *both down, rejected faster*.
// TRL logs `logps/chosen` and `logps/rejected`; few people look.
//
// > **Predict.** Sketch the two curves, from their start, before you run the cell.

// %%
const since = (values: number[]) => values.map((value) => value - values[0]!);
const chosenChange = since(curveOf(main, 'chosen'));
const rejectedChange = since(curveOf(main, 'rejected'));
lineChart({
  title: 'What the margin is made of',
  x: 'step',
  y: 'log-probability, change since the start (nats)',
  series: [
    { name: 'chosen answers', x: steps, y: chosenChange },
    { name: 'rejected answers', x: steps, y: rejectedChange },
  ],
});

// %%
const moved = (run: Run, name: 'chosen' | 'rejected') => run.log[name].at(-1)! - run.log[name][0]!;
prove(
  'More of the margin comes from rejected answers falling than from chosen ones rising, with every seed',
  main.every((run) => -moved(run, 'rejected') > Math.abs(moved(run, 'chosen'))),
  main
    .map((run) => `${moved(run, 'chosen').toFixed(1)} and ${moved(run, 'rejected').toFixed(1)}`)
    .join('; '),
);

// %% [markdown]
// The rejected curve falls by about twenty nats, the chosen one rises by about three. Most of the margin is made by making
// rejected answers impossible. The probability has to go somewhere, and nothing in the loss says that it must go to the
// chosen answers: it can go to answers that are in no pair. When the chosen curve falls as well, that is **likelihood
// displacement**, and the loss, the margin and the accuracy of pairs look perfect all the while. Here it rises, still; you
// will see it fall in section 8. Log the two apart, and stop when the chosen curve turns down.

// %% [markdown]
// ## 7. Beta
//
// $\beta$ is the price of leaving the reference. In the loss it stands in front of the log-ratios, so a *small* $\beta$ asks for
// *large* log-ratios before it is content.
//
// > **Predict.** After the same steps at the same rate: for which $\beta$ has the model moved farthest from its reference?

// %%
const betas = [0.02, 0.1, 0.5];
const byBeta: Run[][] = [];
for (const beta of progress(betas, { desc: 'beta' })) {
  const list: Run[] = beta === 0.1 ? main : [];
  if (beta !== 0.1) for (const seed of seeds) list.push(await tune({ beta, seed }));
  byBeta.push(list);
}
const gapOf = ({ chosen, rejected }: Run) => chosen - rejected;
display.table(
  byBeta.map((list, i) => ({
    beta: betas[i],
    'pairs ranked right': percent(mean(list.map((run) => run.accuracy))),
    'chosen less rejected (nats)': mean(list.map(gapOf)).toFixed(1),
    'last margin': mean(list.map(({ log }) => log.margin.at(-1)!)).toFixed(2),
    'last loss': mean(list.map(({ log }) => log.loss.at(-1)!)).toFixed(3),
    kind: percent(mean(list.map((run) => run.kind))),
  })),
);
prove(
  'A smaller beta moves farther, each seed against each',
  Math.min(...byBeta[0]!.map(gapOf)) > Math.max(...byBeta[2]!.map(gapOf)),
  `${Math.min(...byBeta[0]!.map(gapOf)).toFixed(1)} nats at least, ${Math.max(...byBeta[2]!.map(gapOf)).toFixed(1)} at most`,
);

// %% [markdown]
// Note what you can *not* compare here: losses and margins. They have $\beta$ inside. A run with $\beta = 0.02$ shows a small
// margin and a high loss and has moved the most. Compare log-ratios in nats, accuracies, or what the model writes.
//
// ## 8. Too much of it
//
// The margin has no end; there is always a lower loss. So what happens if you go on, or take a rate that is too high?

// %%
const tooMuch: Run[] = [];
for (const seed of progress(seeds, { desc: 'too much' })) {
  tooMuch.push(await tune({ seed, learningRate: 1e-2 }));
}
display.table(
  [main, tooMuch].map((list, i) => ({
    run: i === 0 ? 'as before' : 'too much',
    'last loss': mean(list.map(({ log }) => log.loss.at(-1)!)).toFixed(4),
    'pairs ranked right': percent(mean(list.map((run) => run.accuracy))),
    kind: percent(mean(list.map((run) => run.kind))),
    'an answer': list[0]!.example,
  })),
);
lineChart({
  title: 'Over-training: the loss is perfect',
  x: 'step',
  y: 'log-probability of chosen answers (nats), mean of three seeds',
  series: [
    { name: 'learning rate 0.002', x: steps, y: curveOf(main, 'chosen') },
    { name: 'learning rate 0.01', x: steps, y: curveOf(tooMuch, 'chosen') },
  ],
});

// %%
prove(
  'Too much DPO: pairs ranked right, chosen answers far less likely than at the start, with every seed',
  tooMuch.every(({ accuracy, log }) => accuracy > 0.6 && log.chosen.at(-1)! < log.chosen[0]! - 5),
  `chosen fell by ${tooMuch.map(({ log }) => (log.chosen[0]! - log.chosen.at(-1)!).toFixed(0)).join(', ')} nats`,
);

// %% [markdown]
// Five times the rate, the same pairs, the same steps. The loss is as low and the pairs are ranked as well, and the chosen
// answers have become impossible too. What the model writes now is in no pair at all. So: TRL's default rate for DPO is
// 1e-6, a twentieth of SFT's; few epochs; a larger $\beta$; and a look at what it writes.

// %% [markdown]
// ## 9. Relatives: IPO, KTO, ORPO
//
// | | needs | reference | loss, in short |
// |---|---|---|---|
// | DPO | pairs | yes | $-\ln \sigma(\beta \Delta)$ |
// | IPO | pairs | yes | $(\Delta/\text{token} - \frac{1}{2\beta})^2$: a margin with an end |
// | KTO | single answers with a thumb up or down | yes | $1 - \sigma(\pm \beta(\text{log-ratio} - \mathrm{KL}))$ |
// | ORPO | pairs | **no** | SFT loss of the chosen $- \beta \ln \sigma(\ln \text{odds ratio})$ |
//
// KTO is what you can train on the thumbs of your chat window: nobody has to see two answers to one question. ORPO does SFT
// and preference in one run.

// %%
const relativesRows: Record<string, string>[] = [];
async function compare(name: string, train: (model: CausalLM) => Promise<unknown>) {
  const model = getPeftModel(start, lora()) as unknown as CausalLM;
  await train(model);
  const judge = new DPOTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: pairs.slice(0, 1),
    evalDataset: heldOut.slice(0, 32),
    args: DPO,
  });
  const { metrics } = await judge.evaluate();
  const texts = await answers(model, asked);
  judge.dispose();
  (model as unknown as PeftModel).unload();
  relativesRows.push({
    method: name,
    kind: percent(texts.filter(isKind).length / texts.length),
    'chosen (nats)': metrics['logps/chosen']!.toFixed(1),
    'rejected (nats)': metrics['logps/rejected']!.toFixed(1),
    'an answer': texts[0]!,
  });
}

// %%
const { beta: _, reference: __, ...common } = DPO;
const shared = { processingClass: tokenizer };
const thumbs = pairs.flatMap(({ prompt, chosen, rejected }) => [
  { prompt, completion: chosen, label: true },
  { prompt, completion: rejected, label: false },
]);
await compare('the SFT model', async () => {});
await compare('KTO', (model) =>
  new KTOTrainer({
    ...shared,
    model,
    trainDataset: thumbs,
    args: { ...common, beta: 0.1, reference: 'adapter_off', perDeviceTrainBatchSize: 8 },
  }).train(),
);
await compare('ORPO', (model) =>
  new ORPOTrainer({
    ...shared,
    model,
    trainDataset: pairs,
    args: { ...common, beta: 0.5 },
  }).train(),
);
display.table(relativesRows);

// %% [markdown]
// Read the two columns in nats, not the losses, which are not comparable. All of them raise the chosen answers a little and push
// the rejected ones far down; at these settings the relatives are at least as kind as DPO. One seed each: no ranking
// should be read into it. (IPO's and hinge's curves are in section 3; `lossType` trains with them.)

// %% [markdown]
// ## 10. The upper road, its first box
//
// For comparison, a reward model: the SFT model with a head of one number, on the same pairs, loss
// $-\ln \sigma(r_c - r_r)$. It is the same loss with another $r$. The next box would let the policy write, score what it
// wrote, and push it towards what scores above the mean of its group: that is GRPO, `GRPOTrainer` here.
//
// > **Predict.** Which ranks unseen pairs better: the reward model, or the reward that is implied in the DPO policy?

// %%
const withHead = new ForSequenceClassification(start as LlamaForCausalLM, { numLabels: 1 });
const scorer = getPeftModel(
  withHead as never,
  new LoraConfig({
    taskType: 'SEQ_CLS',
    r: 8,
    loraAlpha: 16,
    targetModules: ['q_proj', 'v_proj', 'up_proj', 'down_proj'],
    modulesToSave: ['score'],
  }),
);
// %%
const rewardTrainer = new RewardTrainer({
  model: scorer as never,
  processingClass: tokenizer,
  trainDataset: pairs,
  evalDataset: heldOut.slice(0, 32),
  args: common,
});
await rewardTrainer.train();
const { metrics: judged } = await rewardTrainer.evaluate();
display.table([
  { reward: 'reward model', 'unseen pairs ranked right': percent(judged.accuracy!) },
  ...main.map(({ accuracy }, i) => ({
    reward: `implied by the DPO policy, seed ${i}`,
    'unseen pairs ranked right': percent(accuracy),
  })),
]);
prove(
  'A reward model learns the same preference from the same pairs',
  judged.accuracy! > 0.8,
  `${percent(judged.accuracy!)} of unseen pairs ranked right`,
);

// %% [markdown]
// The same preference, learnt twice: once as a number, once as a policy. The reward model can also judge what *neither* side
// wrote, and that is what the upper road is for: it scores fresh answers of the policy, where DPO only ever sees the pairs
// that you collected.

// %% [markdown]
// ## 11. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | the reference is not the start (another checkpoint, dropout on) | a first loss that is not 0.693 | look at step 1 |
// | only the margin is logged | "it works", and answers get worse | `logps/chosen`, apart |
// | losses of different $\beta$ compared | the largest $\beta$ "wins" | nats, accuracy, answers |
// | an SFT learning rate | collapse in a few steps | TRL's default is 1e-6 for full models; ten times that with LoRA |
// | no SFT on such answers first | chosen answers that the model never writes | sample before you train |
// | chosen answers are longer | a model that rambles | compare lengths of both sides |
// | the same question in train and test | a perfect accuracy | `splitWithoutLeaks` by prompt |
//
// ## 12. Now you
//
// Write your answer where it says so, run the cell, then the one below it.

// %%
function judge(
  title: string,
  mine: number | undefined,
  right: number,
  slips: Record<string, number>,
): void {
  if (mine === undefined) return console.log(`… ${title}: not attempted yet`);
  const isLike = (other: number) => Math.abs(mine - other) <= 2e-3 * Math.max(1, Math.abs(other));
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${mine}`}`);
}

// %% [markdown]
// ### Exercise 1: a margin
//
// *Easy, 4 minutes.* Policy: chosen $-20$, rejected $-35$. Reference: chosen $-22$, rejected $-30$. $\beta = 0.2$. The margin?

// %%
const myMargin: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myMargin, 1.4, {
  'You forgot beta.': 7,
  'You left the reference out.': 3,
  'Chosen less rejected: the signs of the two ratios differ.': -0.6,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// Log-ratios $2$ and $-5$, their difference $7$, times $0.2$: $1.4$.
//
// </details>

// %% [markdown]
// ### Exercise 2: the weight of a pair
//
// *Medium, 4 minutes.* With $\beta = 0.1$, how much does that pair's gradient weigh at margin 0, and how many times as much as
// at margin 4? Give the ratio.

// %%
const myRatio: number | undefined = undefined; // your answer here

// %%
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
judge('Exercise 2', myRatio, sigmoid(0) / sigmoid(-4), {
  'That is the ratio of the losses; the weight is sigma(-margin).':
    Math.LN2 / Math.log(1 + Math.exp(-4)),
  'sigma(-margin), not sigma(margin).': sigmoid(0) / sigmoid(4),
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $\beta\,\sigma(-m)$: $0.05$ at 0 and $0.0018$ at 4, so 27.8 times. DPO works on what is still wrong.
//
// </details>

// %% [markdown]
// ### Exercise 3: memory
//
// *Medium, 5 minutes.* A model of 8 billion parameters in bfloat16, DPO with LoRA. How many GB of weights are in memory with a
// separate reference model, less with the adapter switched off as the reference? (Give the saving; leave the adapter out.)

// %%
const mySaving: number | undefined = undefined; // your answer here

// %%
judge('Exercise 3', mySaving, 16, {
  'That is all of it with two models; what is saved?': 32,
  'Two bytes a parameter.': 8,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// One copy of 16 GB in place of two. With `precompute_ref_log_probs` even a full fine-tune needs no second copy while it
// trains: the reference is asked once, before.
//
// </details>

// %% [markdown]
// ## 13. In the interview
//
// **Explain DPO.** *(senior)* The best policy under a KL penalty is the reference times $e^{r/\beta}$; so each policy implies a
// reward, and in the preference of a pair the unknown constant cancels. That leaves a logistic loss on the difference of two
// log-ratios. Proof: section 2.
//
// **DPO or RLHF?** *(senior)* DPO: simple, stable, offline, two forward passes. RLHF: learns from what the policy writes *now*, can
// use rewards that are no pairs (tests that pass, rules), can go on improving; more parts, more memory, more to go wrong.
//
// **Your margins grow and answers get worse. Why?** *(senior)* Likelihood displacement or over-training: look at chosen
// log-probabilities apart, lower the rate, stop earlier, raise $\beta$, or add an SFT term on the chosen. Proof: sections 6, 8.
//
// **Why LoRA with DPO?** *(mid)* The reference is free: adapter off. And an adapter can be taken off again. Proof: section 5.
//
// Follow-ups to expect: Why does it start at $\ln 2$? What if labels are noisy? *(Robust, or label smoothing.)* What if you only
// have thumbs? *(KTO.)* What does $\beta \to 0$ do? *(No price for leaving the reference.)*
//
// ## 14. What to try next
//
// - Flip 30 % of the pairs, and compare sigmoid with robust (`labelSmoothing: 0.3`).
// - `GRPOTrainer` with `isKind` as its reward. How many samples until it is as kind as DPO?
// - Skip the SFT step. What do the two curves do now?
// - A pair whose answers differ in one word only. Which tokens carry the gradient?
//
// **Next:** lesson 17 trains adapters for a model that will be rounded.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 9 proofs hold.`);
