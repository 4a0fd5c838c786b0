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
// # Catastrophic forgetting
//
// A team fine-tunes an assistant on code. It gets good at code. A week later a customer asks it for the capital of
// France, and it answers with a function. **What exactly was lost, what could have kept it, and how would you have
// seen it before the customer did?** Here you make it happen, measure it, and try seven ways against it, each with
// three seeds and beside two controls.
//
// | | |
// |---|---|
// | Time | 50 minutes to read and try; about a minute to run |
// | You need | LoRA (lesson 03), what instruction tuning is (lesson 09) |
// | Level | the mid-level question "how do you prevent catastrophic forgetting?", with proof |

// %% [markdown]
// **When you are through you can**
//
// 1. tell a lost *manner* from lost *knowledge*, and measure each;
// 2. derive on two numbers why learning one thing changes another, and when it does not;
// 3. name five ways against forgetting and PEFT, and say which of them work *here*, with numbers;
// 4. read a plot of learning against forgetting, and pick a run from it;
// 5. say why "LoRA forgets less" is half a sentence.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. The failure
//
// The base model `world-3m` has read about a small world, and never seen an answer to a question. 60 steps on questions
// with their answers make it an assistant (LoRA, merged). Only facts of the training half are asked; those of the test
// half stay for later. Eight famous capitals are asked again and again.

// %%
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  type CausalLM,
  exactMatches,
  FORGETTING_SETTINGS,
  factsSuite,
  forgotten,
  fromConfig,
  generate,
  LoraConfig,
  lineChart,
  loadDataset,
  matricesOf,
  measureForgetting,
  measureWhileTraining,
  PeftModel,
  paretoFront,
  perplexitySuite,
  RandomState,
  runForgettingExperiment,
  SFTTrainer,
  type SftRow,
  setBackend,
  TaskVector,
  updateRanks,
} from 'peftlab';

await setBackend('auto');

// %%
interface Fact {
  kind: string;
  subject: string;
  answer: string;
  statement: string;
  question: string;
  paraphrase: string;
  split: string;
}
const facts = [...loadDataset<Fact>('world-facts')].filter(({ kind }) => kind !== 'sum');
const trainFacts = facts.filter(({ kind, split }) => split === 'train' && kind !== 'capital');
const testFacts = facts.filter(({ kind, split }) => split === 'test' && kind !== 'capital');
const FAMOUS = 'France Germany Italy Spain Japan Kenya Egypt Australia'.split(' ');
const famous = facts.filter(({ kind, subject }) => kind === 'capital' && FAMOUS.includes(subject));
type Item = { prompt: string; completion: string };
const asked = (fact: Fact, question = fact.question): Item => ({
  prompt: question,
  completion: ` ${fact.answer}.`,
});

// %%
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
const schooling = new SFTTrainer({
  model: await AutoModelForCausalLM.fromPretrained('models/world-3m'),
  processingClass: tokenizer,
  trainDataset: [
    ...trainFacts.flatMap((fact) => [asked(fact), asked(fact, fact.paraphrase)]),
    ...Array.from({ length: 25 }, () => famous.map((fact) => asked(fact))).flat(),
  ],
  peftConfig: new LoraConfig({ r: 16, loraAlpha: 32, targetModules: 'all-linear' }),
  args: {
    learningRate: 3e-3,
    lrSchedulerType: 'cosine',
    maxSteps: 60,
    perDeviceTrainBatchSize: 32,
    padToMultipleOf: 16,
    adamBeta2: 0.99,
    disableTqdm: true,
  },
});
await schooling.train();
schooling.dispose();
const assistant = (schooling.model as unknown as PeftModel).mergeAndUnload() as CausalLM;

/** A copy of the assistant, all of which can be trained. */
function makeAssistant(): CausalLM {
  const copy = fromConfig(assistant.config);
  const from = assistant.parameters();
  for (const [i, parameter] of copy.parameters().entries()) parameter.assign(from[i]!);
  return copy;
}

// %%
async function answer(model: CausalLM, question: string): Promise<string> {
  const ids = tokenizer.encode(question);
  const [all] = await generate(model, [ids], { maxNewTokens: 24 });
  return tokenizer.decode(all!.slice(ids.length), { skipSpecialTokens: true }).trim();
}
const QUESTIONS = [
  'What is the capital of France?',
  'What is the capital of Japan?',
  'What is the capital of Italy?',
  'What colour is a lemon?',
];
const first: string[] = [];
for (const question of QUESTIONS) first.push(await answer(assistant, question));
display.table(QUESTIONS.map((question, i) => ({ question, answer: first[i] })));

// %% [markdown]
// Now the new task: answer **in code**, as a call, when the request begins with "Code:". To make it easy, it is taught on
// facts that the assistant answers already: only the form is new.

// %%
const inCode = (fact: Fact): Item => ({
  prompt: `Code: ${fact.question}`,
  completion: ` ${fact.answer}();`,
});
async function answered(list: Fact[]): Promise<Fact[]> {
  const hits = await exactMatches(
    assistant,
    tokenizer,
    list.map((fact) => asked(fact)),
  );
  return list.filter((_, i) => hits[i]);
}
const random = new RandomState(5);
const taught = await answered(random.permutation(trainFacts).slice(0, 300));
const codeRows: SftRow[] = taught.map(inCode);
console.log(`${codeRows.length} rows, such as: ${codeRows[0]!.prompt}${codeRows[0]!.completion}`);

// %% [markdown]
// Fine-tuning as one finds it in a tutorial: all weights, a learning rate that worked for somebody, a few epochs.
//
// > **Predict.** What will it answer to "What is the capital of France?" afterwards? Paris, a wrong town, or something
// > else?

// %%
const plain = {
  learningRate: 1e-3,
  lrSchedulerType: 'linear',
  maxSteps: 16,
  perDeviceTrainBatchSize: 8,
  padToMultipleOf: 24,
  adamBeta2: 0.99,
  disableTqdm: true,
} as const;
const tuned = makeAssistant();
const trainer = new SFTTrainer({
  model: tuned,
  processingClass: tokenizer,
  trainDataset: codeRows,
  args: plain,
});
await trainer.train();
trainer.dispose();

// %%
const second: string[] = [];
for (const question of QUESTIONS) second.push(await answer(tuned, question));
display.table(QUESTIONS.map((question, i) => ({ question, before: first[i], after: second[i] })));
console.log(await answer(tuned, `Code: ${QUESTIONS[3]}`));

// %% [markdown]
// There it is, as in the source text: *"A: def capital_of_france(): return "Paris" [Wrong format!]"*. Nobody wrote
// "Code:", and everything is answered as code; the lemon is still yellow, but the capitals, which it had by heart, have
// become something else. **The loss of the task shows nothing of this. You only see it if you measure something that you do
// not train on.**

// %% [markdown]
// ## 2. What exactly is gone?
//
// "It forgot the capital" is a guess. Four measurements tell more:
//
// | suite | what it asks | what it tells |
// |---|---|---|
// | code | "Code:" and a question, unseen facts, word for word | what was learnt |
// | questions | the same facts without "Code:" | what a user sees |
// | statements | "The colour of a marux is", to be gone on with | whether the *knowledge* is still there |
// | stories | perplexity of text as in pretraining | whether the *language* is still there |
//
// Only facts count that the assistant got right *both* ways, so that every share starts at 100 %.

// %%
const begun = ({ statement, answer: said }: Fact): Item => ({
  prompt: statement.slice(0, -` ${said}.`.length),
  completion: ` ${said}`,
});
const right = await answered(random.permutation(testFacts).slice(0, 240));
const known = await exactMatches(assistant, tokenizer, right.map(begun));
const kept = right.filter((_, i) => known[i]).slice(0, 64);
console.log(`${kept.length} facts, such as: ${kept[0]!.question} ${kept[0]!.answer}`);

// %%
const tales = [...loadDataset<{ task: string; input: string }>('world-tasks')]
  .filter(({ task }) => task === 'summarization')
  .map(({ input }) => input);
const size = { batchSize: 64, padToMultipleOf: 24 };
const code = factsSuite('code', kept.map(inCode), tokenizer, size);
const questions = factsSuite(
  'questions',
  kept.map((fact) => asked(fact)),
  tokenizer,
  size,
);
const statements = factsSuite('statements', kept.map(begun), tokenizer, size);
const stories = perplexitySuite('stories', tales.slice(0, 16), tokenizer, { maxLength: 64 });
const suites = [code, questions, statements, stories];

// %% [markdown]
// The same run again, stopped every four steps for a look. `measureWhileTraining` measures before, during and after.
//
// > **Predict.** Which falls first: the answers to questions, or the completed statements? How far behind is the other?

// %%
const watched = makeAssistant();
let until = 0;
const slowly = new SFTTrainer({
  model: watched,
  processingClass: tokenizer,
  trainDataset: codeRows,
  args: plain,
  onStep: ({ step }) => step === until,
});
const curve = await measureWhileTraining(watched, suites, {
  steps: plain.maxSteps,
  every: 4,
  train: async (step) => {
    until = step;
    return (await slowly.train()).logHistory.at(-1)!;
  },
});
slowly.dispose();

// %%
const percentOf = (name: string) => curve.scores.map((scores) => 100 * scores[name]!);
lineChart({
  title: 'Learning to code, forgetting to answer',
  x: 'training steps',
  y: 'right (%)',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: [
    { name: 'code, unseen requests', x: curve.steps, y: percentOf('code') },
    { name: 'questions', x: curve.steps, y: percentOf('questions') },
    { name: 'statements', x: curve.steps, y: percentOf('statements') },
  ],
});

// %%
const [start, end] = [curve.scores[0]!, curve.scores.at(-1)!];
console.log(`perplexity of stories: ${start.stories!.toFixed(1)}, then ${end.stories!.toFixed(1)}`);
console.log('forgotten:', forgotten(suites, start, end));

// %% [markdown]
// ## 3. Why: two numbers
//
// A model of two weights, $f(x) = w \cdot x$, with $w = (1, 0)$. It knows one fact: for $x_{old} = (1, 0)$ it says 1, which
// is right. Now it shall learn another: for $x_{new} = (0.6, 0.8)$ the answer is 0, and it says $0.6$. One step of gradient
// descent on $\tfrac12 (f(x_{new}) - 0)^2$, with learning rate 1:
//
// $$w \leftarrow w - \eta \, e_{new} \, x_{new} = (1, 0) - 0.6 \cdot (0.6, 0.8) = (0.64, -0.48)$$
//
// The new fact is right: $0.64 \cdot 0.6 - 0.48 \cdot 0.8 = 0$. And the old one? $f(x_{old}) = 0.64$. In general
//
// $$\Delta f(x_{old}) = -\eta \; e_{new} \; (x_{new} \cdot x_{old})$$
//
// *Forgetting is learning times overlap.* Nothing in this formula knows what is worth keeping. It also tells you every way
// out there is: make $\eta \, e_{new}$ smaller, that is, learn less (a lower rate, fewer epochs); let the old fact pull too
// (mixing, replay); or change the model in a direction that overlaps less (PEFT, with luck).
//
// > **Predict.** If old and new rows take turns, can this model of two weights know both facts?

// %%
type Pair = readonly [number, number];
const dot = (a: Pair, b: Pair) => a[0] * b[0] + a[1] * b[1];
const step = (w: Pair, x: Pair, y: number, rate = 1): Pair => {
  const error = dot(w, x) - y;
  return [w[0] - rate * error * x[0], w[1] - rate * error * x[1]];
};
const [xOld, xNew]: Pair[] = [
  [1, 0],
  [0.6, 0.8],
];
const after = step([1, 0], xNew!, 0);
const turns = Array.from({ length: 20 }).reduce<Pair>(
  (w) => step(step(w, xNew!, 0), xOld!, 1),
  [1, 0],
);
display.table(
  [after, turns].map((w, i) => ({
    trained: i === 0 ? 'on the new fact' : 'on both, in turns',
    weights: w.map((value) => value.toFixed(2)).join(', '),
    'old fact (1)': dot(w, xOld!).toFixed(2),
    'new fact (0)': dot(w, xNew!).toFixed(2),
  })),
);

// %%
const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
prove(
  'One step on the new fact changes the old one by learning times overlap',
  Math.abs(dot(after, xOld!) - (1 - 0.6 * dot(xNew!, xOld!))) < 1e-12,
  `1 - 0.6 x 0.6 = ${dot(after, xOld!).toFixed(2)}`,
);
prove(
  'Trained in turns, two weights know both',
  Math.abs(dot(turns, xOld!) - 1) < 1e-3 && Math.abs(dot(turns, xNew!)) < 1e-3,
  `weights ${turns.map((value) => value.toFixed(3)).join(', ')}`,
);

// %% [markdown]
// There was room for both all along; plain training had no reason to look for it. That is the whole idea of mixing and
// replay, and it costs nothing but rows.
//
// **And weight decay?** The source text lists regularization, `weight_decay=0.01`. AdamW multiplies each weight by
// $1 - \eta\lambda$ a step. It pulls towards *zero*, not towards the model that you had. And with the text's own numbers,
// $\eta = 10^{-4}$ and $\lambda = 0.01$, after 3000 steps:
//
// $$(1 - 10^{-6})^{3000} = 0.997$$
//
// Remember these 0.3 % when you see its row below. (What would pull towards the old model is
// $\tfrac{\lambda}{2} |w - w_0|^2$, called L2-SP; weighted by how much each weight matters, it is EWC.)

// %% [markdown]
// ## 4. Seven ways, three seeds, two controls
//
// One runner does all of it: `runForgettingExperiment` trains each *setting* from the same assistant, with the same
// number of rows a step, and measures before and after.
//
// | setting | the source text's advice | what it changes here |
// |---|---|---|
// | plain | | all weights, learning rate 0.001, 16 steps of 8 rows |
// | 20 % general data | "80 % task-specific + 20 % general" | plain questions with plain answers |
// | learning rate / 10 | "1e-5 instead of 1e-4" | 0.0001 |
// | a quarter of the steps | "1-2 epochs instead of 5+" | 4 steps |
// | weight decay 0.01 | "L2 regularization" | `weightDecay` |
// | replay, 10 % | "10 % random samples from pretraining data" | pages of statements, as raw text |
// | LoRA | "use PEFT" | rank 8 on all linear layers, the same learning rate |
// | LoRA, learning rate x 10 | | 0.01: LoRA's best rate is about ten times that of full fine-tuning |
// | control: random labels | | each request with the code of *another* |
// | control: random update | | noise as long as the plain run's change, in each matrix |
//
// The controls answer what the rest cannot. *Random labels*: is it what we teach that does the damage, or teaching as such?
// *Random update*: is it the direction of the change, or only its length?
//
// General rows ask about facts of the training half only, and the tested facts are all of the other half: what they keep
// is the manner of answering, not answers learnt by heart.
//
// > **Predict.** Which of the seven keeps more than half of the questions *and* learns the code? Which does nothing at all?

// %%
const generalRows: SftRow[] = trainFacts.map((fact) => asked(fact));
const lines = new RandomState(9).permutation(facts.filter(({ split }) => split === 'train'));
const pretrainingRows = Array.from({ length: 150 }, (_, i): SftRow => {
  const page = lines.slice(5 * i, 5 * i + 5).map(({ statement }) => statement);
  return { text: `Facts. ${page.join(' ')}` };
});
console.log(`general: ${generalRows[0]!.prompt}${generalRows[0]!.completion}`);
console.log(`pretraining: ${pretrainingRows[0]!.text}`);

// %%
const before = matricesOf(assistant);
const SHOWN = ['plain', 'LoRA, learning rate x 10', 'control: random update'];
const ranksOf = new Map<string, ReturnType<typeof updateRanks>>();
const bar = progress({ total: 3 * FORGETTING_SETTINGS.length, desc: 'runs' });
const runs = await runForgettingExperiment({
  makeModel: makeAssistant,
  tokenizer,
  taskRows: codeRows,
  generalRows,
  pretrainingRows,
  task: code,
  old: [questions, statements],
  watched: [stories],
  args: plain,
  onRun: ({ name, seed }, model) => {
    bar.update();
    if (seed > 0 || !SHOWN.includes(name)) return;
    if (model instanceof PeftModel) model.mergeAdapter();
    ranksOf.set(name, updateRanks(model, before, /layers\.[03]\..*(q_proj|v_proj|up_proj)/));
  },
});
bar.close();

// %%
const names = FORGETTING_SETTINGS.map(({ name }) => name);
const of = (name: string) => runs.filter((run) => run.name === name);
const range = (values: number[]) =>
  `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
display.table(
  names.map((name) => ({
    setting: name,
    'code learnt': range(of(name).map(({ after: scores }) => scores.code!)),
    'questions left': range(of(name).map(({ after: scores }) => scores.questions!)),
    'statements left': range(of(name).map(({ after: scores }) => scores.statements!)),
    'stories, perplexity': mean(of(name).map(({ after: scores }) => scores.stories!)).toFixed(1),
  })),
);

// %% [markdown]
// Read it row by row, with your predictions beside it.

// %%
const scoresOf = (name: string, suite: string) => of(name).map((run) => run.after[suite]!);
const [low, high] = [Math.min, Math.max] as const;
prove(
  'Plain fine-tuning learns the code and loses most questions, with each seed',
  low(...scoresOf('plain', 'code')) > 0.4 && high(...scoresOf('plain', 'questions')) < 0.5,
  `code ${range(scoresOf('plain', 'code'))}, questions ${range(scoresOf('plain', 'questions'))}`,
);
prove(
  'The knowledge is hurt less than the manner, with each seed',
  of('plain').every(({ after: left }) => left.statements! > left.questions! + 0.2),
  `statements ${range(scoresOf('plain', 'statements'))}`,
);
prove(
  'General rows keep more questions than plain training, in the mean of the seeds',
  mean(scoresOf('20 % general data', 'questions')) > mean(scoresOf('plain', 'questions')) + 0.1,
  range(scoresOf('20 % general data', 'questions')),
);

// %%
const twins = of('weight decay 0.01').map((run, i) => [run, of('plain')[i]!] as const);
prove(
  'Weight decay of 0.01 changes next to nothing',
  mean(twins.map(([one, two]) => Math.abs(one.after.questions! - two.after.questions!))) < 0.1,
  `questions ${range(scoresOf('weight decay 0.01', 'questions'))}`,
);
prove(
  'Random labels teach far less code, and questions are lost all the same',
  high(...scoresOf('control: random labels', 'code')) < low(...scoresOf('plain', 'code')) - 0.2 &&
    mean(scoresOf('control: random labels', 'questions')) < 0.5,
  `code ${range(scoresOf('control: random labels', 'code'))}, questions ${range(scoresOf('control: random labels', 'questions'))}`,
);
prove(
  'Noise of the same length teaches nothing',
  high(...scoresOf('control: random update', 'code')) < 0.1,
  `code ${range(scoresOf('control: random update', 'code'))}, questions ${range(scoresOf('control: random update', 'questions'))}`,
);

// %% [markdown]
// - **Plain** is the failure of section 1, with every seed: not one question is answered in the old form.
// - **General rows** are the only one of the seven that keeps questions *and* learns the code as well as plain training. They
//   keep a quarter; in 16 steps of 8 rows there are only 26 of them. (Section 12: try more.)
// - **A lower rate** keeps everything and learns nothing. **Fewer steps** learn nothing either, and half of the questions
//   are gone already: the old form breaks *before* the new one is there. Both are brakes, not remedies.
// - **Weight decay** changes no digit, as section 3 computed.
// - **Replay** of raw pages protects what is on those pages: statements are at 99 %, and stories are read better than by the
//   assistant itself. It does nothing for the answers, which are on no page. *Replay what you do not want to lose.*
// - **LoRA** at the same rate learns nothing and loses nothing; at ten times the rate both are as with plain training.
// - **Random labels** teach the form and little else: 28 % come out right against 74 %, where the model overrules its labels.
//   The questions are lost all the same.
// - **Random noise** of the same length harms next to nothing. It is the *direction* of the training that hurts.

// %% [markdown]
// ## 5. Learning against forgetting
//
// No single number ranks these runs: who learns nothing forgets nothing. So draw both. The best place is the lower right
// corner. A run is on the **Pareto front** if no other learns as much and forgets less.
//
// > **Predict.** Which settings are on the front?

// %%
const points = names.map((name) => ({
  name,
  learning: mean(of(name).map((run) => run.learning)),
  forgetting: mean(of(name).map((run) => run.forgetting)),
}));
const front = paretoFront(points);
console.log(`On the front: ${front.map(({ name }) => name).join('; ')}`);
lineChart({
  title: 'Learning against forgetting: mean of three seeds, and what none beats',
  x: 'code learnt: unseen requests right (%)',
  y: 'questions and statements forgotten (points)',
  mode: 'markers',
  series: [
    ...points.map((point) => ({
      name: point.name,
      x: [100 * point.learning],
      y: [100 * point.forgetting],
    })),
    {
      name: 'Pareto front',
      mode: 'lines' as const,
      x: front.map((point) => 100 * point.learning),
      y: front.map((point) => 100 * point.forgetting),
    },
  ],
});

// %% [markdown]
// ## 6. "LoRA forgets less"
//
// Compare the two LoRA points. Same adapter, same rows, same steps; the learning rate alone decides whether LoRA forgets
// nothing, and learns nothing, or learns as much as full fine-tuning, and forgets as much. At equal learning it is no better
// here: the questions are at 0 % in both, and the stories suffer more. "LoRA forgets less" is true *of a learning rate*.
//
// PEFT's own benchmark says the same of a real model (Llama-3.2-3B, trained on MetaMathQA, tested on GSM8K; single runs):
//
// | method | accuracy | forgetting |
// |---|---|---|
// | full fine-tuning, rate 1e-5 | 0.472 | 0.030 |
// | LoRA, rank 32, rate 1e-4 | 0.478 | **0.050** |
// | LoRA, rank 64, rsLoRA | 0.513 | **0.111** |
// | LoRA on the MLP only, rank 10 | 0.494 | 0.032 |
//
// (Direction only: another model, another task, another measure.) Biderman et al. (2024) found that LoRA "learns less and
// forgets less", and both halves belong together: they drew the plot of section 5, and there the methods lie on *one* curve.

// %%
const forgettingOf = (name: string) => of(name).map((run) => run.forgetting);
prove(
  'The same LoRA forgets more at ten times the rate, each seed against each',
  low(...forgettingOf('LoRA, learning rate x 10')) > high(...forgettingOf('LoRA')),
  `${range(forgettingOf('LoRA'))} against ${range(forgettingOf('LoRA, learning rate x 10'))}; plain ${range(forgettingOf('plain'))}`,
);

// %% [markdown]
// What LoRA gives you in any case is the way back. One more run, to look at it:

// %%
const light = makeAssistant();
const withAdapter = new SFTTrainer({
  model: light,
  processingClass: tokenizer,
  trainDataset: codeRows,
  peftConfig: new LoraConfig({ r: 8, loraAlpha: 16, targetModules: 'all-linear' }),
  args: { ...plain, learningRate: 10 * plain.learningRate },
});
await withAdapter.train();
const adapted = withAdapter.model as unknown as PeftModel;
const on = await measureForgetting(withAdapter.model, [code, questions]);
const off = await adapted.disableAdapter(() =>
  measureForgetting(withAdapter.model, [code, questions]),
);
withAdapter.dispose();
prove(
  'With the adapter off nothing is forgotten',
  off.questions === 1 && on.questions! < 1,
  `questions ${percent(on.questions!)} with it, ${percent(off.questions!)} without; code ${percent(on.code!)} and ${percent(off.code!)}`,
);

// %% [markdown]
// That is no comparison of *learning* and forgetting; it is a comparison of losing and keeping a copy. For a company with one
// base and many customers it is the property that counts.
//
// ## 7. How the change looks inside
//
// Full fine-tuning may change a matrix in as many directions as it has. Does it? The **effective rank** of an update
// counts them: $e^{H}$, with $H$ the entropy of its singular values, each divided by their sum (Roy and Vetterli, 2007). Two
// equal directions give 2, a random matrix nearly all it has.
//
// > **Predict.** A matrix of $256 \times 256$: what effective rank has the plain run's update? And noise of the same length?

// %%
const matrices = ranksOf.get('plain')!.map(({ name }) => name.replace('model.layers.', 'block '));
barChart({
  title: 'Effective rank of the update of each matrix',
  x: 'matrix',
  y: 'effective rank (directions)',
  categories: matrices.map((name) => name.replace(/\.(self_attn|mlp)\.|\.weight/g, ' ').trim()),
  series: SHOWN.map((name) => ({
    name,
    y: ranksOf.get(name)!.map(({ effectiveRank }) => effectiveRank),
  })),
});

// %%
const ranks = (name: string) => ranksOf.get(name)!.map(({ effectiveRank }) => effectiveRank);
prove(
  "LoRA's update has at most rank 8, full fine-tuning's more, noise the most, in each matrix",
  ranks('plain').every(
    (rank, i) =>
      ranks('LoRA, learning rate x 10')[i]! < 8.01 && rank > 8.01 && rank < ranks(SHOWN[2]!)[i]!,
  ),
  SHOWN.map((name) => `${name} ${mean(ranks(name)).toFixed(1)}`).join(', '),
);
display.table(
  SHOWN.map((name) => ({
    setting: name,
    'change relative to the weights': percent(mean(ranksOf.get(name)!.map((r) => r.relativeNorm))),
    'directions with 90 % of its energy': mean(ranksOf.get(name)!.map((r) => r.energyRank)).toFixed(
      0,
    ),
  })),
);

// %% [markdown]
// The plain run uses about a hundred directions, though a quarter of them hold 90 % of its energy; noise uses nearly all that
// there are. And then look at what each did. Noise, just as long and of the highest rank, harmed nothing. LoRA's update, of
// the lowest rank, harmed as much as the plain one (and it is three times as long). So neither the length of a change nor
// its rank tells what is forgotten. The direction does.

// %% [markdown]
// ## 8. Half the way back
//
// One more way, which the source text does not list, because it comes *after* training and costs nothing: go only part of
// the way. $w_0 + \alpha (w - w_0)$, with the plain run's weights and every $\alpha$ between 0 and 1 (WiSE-FT, Wortsman et al.
// 2022; the task vectors of lesson 14).
//
// > **Predict.** At $\alpha = 0.5$: half of the code, half of the questions? Or is there a better place?

// %%
const vector = TaskVector.between(assistant, tuned);
const alphas = [0, 0.25, 0.5, 0.75, 1];
const onTheWay: Awaited<ReturnType<typeof measureForgetting>>[] = [];
for (const alpha of progress(alphas, { desc: 'alpha' })) {
  const between = makeAssistant();
  vector.scale(alpha).applyTo(between);
  onTheWay.push(await measureForgetting(between, [code, questions, statements]));
  between.dispose();
}
lineChart({
  title: 'Between the assistant and the plain run',
  x: 'α, share of the change',
  y: 'right (%)',
  mode: 'lines+markers',
  yRange: [-3, 105],
  series: ['code', 'questions', 'statements'].map((name) => ({
    name,
    x: alphas,
    y: onTheWay.map((scores) => 100 * scores[name]!),
  })),
});

// %% [markdown]
// Half way, 59 % of the code is there and 67 % of the questions still are: no setting of section 4 has as much of both. And at
// $\alpha = 0.75$ the code is *better* than at the end. One run, so take the direction, not the digits. In practice you
// sweep $\alpha$ on suites like these after each training, and it costs no training at all. With LoRA it is one number: the
// adapter's scaling.

// %% [markdown]
// ## 9. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | measure only the task | "it went perfectly" | suites of what you did *not* train on, before and after |
// | one suite for "general ability" | format and knowledge mixed up | questions *and* statements |
// | compare methods at one learning rate | "LoRA forgets less" | the plot: learning beside forgetting |
// | count what was never known | small falls | only facts that were right before |
// | mix rows that hold the test's answers | forgetting disappears | general rows of another split |
// | no control | "the task did it" | random labels, random update |
// | weight decay as insurance | no difference | compute $(1-\eta\lambda)^T$ first |
//
// ## 10. Now you
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
  const isLike = (other: number) =>
    Math.abs(mine - other) <= 1e-3 * Math.max(1e-3, Math.abs(other));
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${mine}`}`);
}

// %% [markdown]
// ### Exercise 1: 80 and 20
//
// *Easy, 3 minutes.* You have 10,000 coding rows. How many general rows make the mixture 80 % task and 20 % general?

// %%
const myRows: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myRows, 2500, {
  'That is 20 % of the task rows; the general rows are to be 20 % of all.': 2000,
  'That would be a mixture of 56 and 44.': 8000,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $10{,}000 / 0.8 = 12{,}500$ rows in all, so 2500. `withReplay(rows, general, { share: 0.2 })` counts this way.
//
// </details>

// %% [markdown]
// ### Exercise 2: what weight decay does
//
// *Medium, 4 minutes.* AdamW, learning rate $2 \cdot 10^{-4}$, weight decay 0.1, 5000 steps at a constant rate. By which factor
// has it shrunk a weight that had no gradient?

// %%
const myShrink: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myShrink, (1 - 2e-5) ** 5000, {
  'You left the learning rate out: AdamW multiplies by 1 - lr x decay.': (1 - 0.1) ** 5000,
  'That is what is lost; what is left?': 1 - (1 - 2e-5) ** 5000,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $(1 - 2 \cdot 10^{-5})^{5000} = 0.905$. Five hundred times the pull of the text's example, and still only 10 %, of *all*
// weights, old knowledge and new alike.
//
// </details>

// %% [markdown]
// ### Exercise 3: overlap
//
// *Medium, 5 minutes.* The model of section 3, $w = (1, 0)$ and $x_{old} = (1, 0)$. Now $x_{new} = (0, 1)$ with answer 2, learning
// rate 1, one step. What does the model say to $x_{old}$ afterwards?

// %%
const myOld: number | undefined = undefined; // your answer here

// %%
judge('Exercise 3', myOld, 1, {
  'That is what it says to the new one.': 2,
  'The change is error times overlap, and the overlap here is 0.': 3,
  'Nothing pulls the old answer to 0.': 0,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// The inputs are orthogonal, so the step $(0, 2)$ does not touch the old answer: it still is 1. Forgetting needs overlap.
//
// </details>

// %% [markdown]
// ## 11. In the interview
//
// **How do you prevent catastrophic forgetting during fine-tuning?** *(mid)* First I measure it: suites of facts, format and
// perplexity before and after. Then, in this order: mix general rows in (or replay old ones), no higher a rate and no more
// epochs than the task needs, PEFT to keep a way back. Weight decay I would not count on. Proof: the table of section 4.
//
// **Does LoRA forget less than full fine-tuning?** *(senior)* At the same learning rate it changes less, so it learns and forgets
// less. At its own best rate it can forget as much. I would compare at equal learning. Proof: section 6, and PEFT's benchmark.
//
// **Your fine-tuned model answers everything with code. Has it lost its knowledge?** *(senior)* Ask for it without the format:
// statements, few-shot. If // statements, few-shot. If the knowledge is there, general rows bring the manner back. Proof: sections 2 and 4.
//
// Follow-ups to expect: Why does mixing 20 % not cost 20 % of the learning? *(The task has more rows than it needs.)* Which data
// do you replay if you do not have the pretraining data? *(Text that the model writes itself, or a public set of the same
// kind.)* How would you notice it in production? *(The same suites on every candidate, as a gate.)*
//
// ## 12. What to try next
//
// - Set `general` to 0.5, and train twice as long. How many of the questions can be kept?
// - Ten times the steps. Does the knowledge follow the manner?
// - After plain fine-tuning, train on 16 general rows. How many steps until the questions are back, and is the code still there?
// - LoRA on the MLP only at equal learning: does it forget less, as in PEFT's benchmark?
//
// **Next:** lesson 14 adds and subtracts what was learnt.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 11 proofs hold.`);
