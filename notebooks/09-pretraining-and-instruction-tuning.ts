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
// # Pretraining on, or tuning to instructions?
//
// A hospital wants an assistant. One colleague says: *train it on our papers*. Another says: *train it on questions and
// answers*. Both call it fine-tuning, both run the same loop with the same loss. **What does each of them change?**
// Here you do both, alone and together, on a model that has never read about medicine and never answered a question.
//
// | | |
// |---|---|
// | Time | 45 minutes to read and try; under a minute to run |
// | You need | lesson 01's loop; what a token is |
// | Level | the junior and mid-level questions on data, and the design question on domains |

// %% [markdown]
// **When you are through you can**
//
// 1. tell continued pretraining, instruction tuning, SFT and multi-task tuning apart by their *data*, and say what each
//    changes;
// 2. read Alpaca, ShareGPT, OpenAssistant, Dolly and multi-task records, and turn all of them into one form;
// 3. say which tokens a run learns from, and find the mistake in a recipe that learns from all of them;
// 4. pack short rows without letting them see each other, and prove that they do not;
// 5. say what each of the two colleagues is right about, and what neither of them gets, by a table with a control.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. Two models that we do not have
//
// | | data | rule of thumb for size | cost | changes |
// |---|---|---|---|---|
// | **continued pretraining** | raw text | billions of tokens | weeks | what it knows |
// | **instruction tuning** | instructions with answers | 10,000 to 1,000,000 rows | hours to days | how it behaves |
// | **SFT** | the same, of high quality | 1,000 to 100,000 rows | hours | how it behaves |
// | **multi-task tuning** | many tasks in one form | 100,000 rows and more | days | how widely it behaves so |
//
// The last column is the claim that this lesson tests. (The sizes are for models of billions; ours is a thousand times
// smaller and takes a thousandth of the data.)

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  alpacaPrompt,
  barChart,
  bestPaths,
  type CausalLM,
  type ChatMessage,
  convertRows,
  exactMatch,
  loadDataset,
  type OasstMessage,
  packRows,
  type RowFormat,
  type SFTConfig,
  SFTTrainer,
  type SftRow,
  setBackend,
  type TokenRow,
  tokenizeRow,
  tokenizeRows,
} from 'peftlab';

await setBackend('auto');

const BASE = 'models/world-3m';
const tokenizer = await AutoTokenizer.fromPretrained(BASE);
const base = await AutoModelForCausalLM.fromPretrained(BASE);

// %% [markdown]
// The field is invented, so that no model can have read about it: 80 illnesses, each with a part of the body, a first sign
// and a remedy. The pages tell them in changing words. We let the model read about **twenty** of the illnesses; twenty
// others are the control.

// %%
interface MedicalFact {
  subject: string;
  answer: string;
  statement: string;
  question: string;
}
const medicine = [...loadDataset<MedicalFact>('world-medicine-facts')];
const illnesses = [...new Set(medicine.map(({ subject }) => subject))];
const read = new Set(illnesses.slice(0, 20));
const pages = [...loadDataset<{ illness: string; text: string }>('world-medicine')].filter(
  ({ illness }) => read.has(illness),
);
console.log(`${pages.length} pages on ${read.size} illnesses, such as:\n${pages[0]!.text}`);

// %% [markdown]
// For the behaviour there are questions on the *world*, not on medicine: facts that the model has read, asked in a way that
// it has never seen answered.

// %%
interface Fact extends MedicalFact {
  kind: string;
  split: string;
}
const world = loadDataset<Fact>('world-facts').filter(({ kind }) => kind !== 'sum');
const half = (split: string) => [
  ...world.filter((fact) => fact.split === split).shuffle({ seed: 1 }),
];
const asked = ({ question, answer }: MedicalFact) => ({
  prompt: question,
  completion: ` ${answer}`,
});
const begun = ({ statement, answer }: MedicalFact) => ({
  prompt: statement.slice(0, -answer.length - 2),
  completion: ` ${answer}`,
});
console.log(asked(medicine[0]!), begun(medicine[0]!));

// %% [markdown]
// Four measures: statements on illnesses it has read about, the same on those it has not, questions on the former, and
// questions on the world.

// %%
const known = medicine.filter(({ subject }) => read.has(subject));
const unknown = medicine.filter(({ subject }) => !read.has(subject)).slice(0, known.length);
const heldOut = half('test').slice(0, 60);
const measures = {
  'medicine, read: statements': known.map(begun),
  'medicine, not read: statements': unknown.map(begun),
  'medicine, read: questions': known.map(asked),
  'world: questions': heldOut.map(asked),
};
type Measure = keyof typeof measures;
type Scores = Record<Measure, number>;
async function measure(model: CausalLM): Promise<Scores> {
  const scores: Partial<Scores> = {};
  for (const [name, items] of Object.entries(measures)) {
    scores[name as Measure] = await exactMatch(model, tokenizer, items);
  }
  return scores as Scores;
}
const before = await measure(base);
display.table([{ model: 'base', ...before }]);

// %% [markdown]
// ## 2. Before the training: data
//
// ### Five forms, one meaning
//
// Data sets come as people found them handy. Each of these rows is a question with its answer:
//
// | | origin | form |
// |---|---|---|
// | **Alpaca** | 52,000 rows written by GPT-3.5 | `instruction`, `input`, `output` |
// | **Dolly** | 15,000 rows written by people | `instruction`, `context`, `response`, `category` |
// | **ShareGPT** | shared chats with ChatGPT | `conversations` of `from` and `value` |
// | **OpenAssistant** | 161,000 *messages* of volunteers | trees of messages, answers ranked |
// | **multi-task** | built for a purpose | `task`, `input`, `output` |
//
// (OpenAssistant's 161,000 are often called conversations. They are messages, in some 66,000 conversations.)

// %%
const sets: [name: string, format: RowFormat][] = [
  ['world-instructions', 'alpaca'],
  ['world-dolly', 'dolly'],
  ['world-sharegpt', 'sharegpt'],
  ['world-tasks', 'multitask'],
];
const clip = (text: string) => (text.length > 60 ? `${text.slice(0, 57)}...` : text);
for (const [name, format] of sets) {
  const rows = [...loadDataset(name)];
  const { rows: chats } = convertRows(rows.slice(2, 3), format, { name });
  console.log(`${name} (${rows.length} rows): ${Object.keys(rows[2]!).join(', ')}`);
  for (const { role, content } of chats[0]!.messages!) console.log(`   ${role}: ${clip(content)}`);
}

// %% [markdown]
// OpenAssistant needs a choice first: where volunteers gave several answers, which one? The library takes the path of
// the best-ranked replies (`bestPaths`), all of them (`allPaths`), or makes preference pairs of a better and a worse
// answer (`rankedPairs`, for lesson 16).

// %%
const trees = [...loadDataset<OasstMessage>('world-oasst')];
const chats: ChatMessage[][] = bestPaths(trees);
console.log(`${trees.length} messages make ${chats.length} chats. The first:`);
for (const { role, content } of chats[0]!) console.log(`   ${role}: ${content}`);

// %% [markdown]
// A row that is not what it says is told by number and field, and left out only if you ask for it:

// %%
const broken = [{ instruction: 'What is 2 + 2?', output: '4' }, { instruction: 'What is 3 + 3?' }];
try {
  convertRows(broken, 'alpaca', { name: 'broken.jsonl' });
} catch (error) {
  console.log((error as Error).message);
}
console.log(convertRows(broken, 'alpaca', { skipMalformed: true }).skipped.length, 'left out');

// %% [markdown]
// ### From a chat to text
//
// A model reads one string. A **template** writes the turns into it, and it must be the same in training and in use. Two
// of them: Alpaca's prompt, and ChatML, which our tokenizer brings along.

// %%
const row = { instruction: 'What is the capital of France?', output: 'Paris' };
console.log(alpacaPrompt(row) + row.output);
console.log('-----');
console.log(
  tokenizer.applyChatTemplate([
    { role: 'user', content: row.instruction },
    { role: 'assistant', content: row.output },
  ]),
);

// %% [markdown]
// For our own rows we take the plainest template there is, the question and a space: the base has read questions like that,
// so that no step is spent on learning marks.
//
// ### Which tokens are learnt?
//
// The loss is the surprise at each token that has a **label**; -100 means "no label". Raw text has a label everywhere.
// For a question with its answer there is a choice.
//
// > **Predict.** Which of the two should a model learn to write: the question, or the answer?

// %%
const sample: SftRow = asked(heldOut[0]!);
const piece = (ids: number[], i: number) => tokenizer.decode([ids[i]!]);
function mark({ inputIds, labels }: TokenRow): string {
  const cells = inputIds.map((_, i) => {
    const text = piece(inputIds, i).replaceAll('<', '&lt;').replaceAll('\n', '⏎');
    const look =
      labels[i] === -100
        ? 'background:#eeeeee;color:#444444'
        : 'background:#0072B2;color:#ffffff;font-weight:bold';
    return `<span style="${look};padding:0 2px;margin:1px;display:inline-block">${text}</span>`;
  });
  return `<div style="line-height:2">${cells.join('')}</div>`;
}

// %% [markdown]
// Grey tokens are read only; blue ones (white, bold) are learnt.

// %%
const chatRow: SftRow = { messages: chats[0]! };
const ways: [string, TokenRow][] = [
  ['raw text: everything', tokenizeRow({ text: begun(known[0]!).prompt }, tokenizer)],
  ['completion only', tokenizeRow(sample, tokenizer)],
  ['the question too', tokenizeRow(sample, tokenizer, { completionOnlyLoss: false })],
  ['a chat: assistants only', tokenizeRow(chatRow, tokenizer, { assistantOnlyLoss: true })],
];
display.html(ways.map(([name, tokens]) => `<p><b>${name}</b></p>${mark(tokens)}`).join(''));
for (const [name, { labels }] of ways) {
  console.log(`${name}: ${labels.filter((id) => id !== -100).length} of ${labels.length} learnt`);
}

// %%
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
const [, only] = ways[1]!;
const [, everything] = ways[2]!;
const learnt = ({ labels }: TokenRow) => labels.filter((id) => id !== -100).length;
prove(
  'A mask changes what is learnt, not what is read',
  learnt(only) < learnt(everything) && String(only.inputIds) === String(everything.inputIds),
  `${learnt(only)} of ${only.labels.length} tokens`,
);

// %% [markdown]
// A recipe that is often copied formats Alpaca's rows as `### Instruction: ... ### Response: ...` and hands the text to a
// plain `Trainer`. It learns the third way: to write instructions as well. It also drops the column `input` (four in ten
// of Alpaca's rows have one), and pairs LoRA with a learning rate of $2 \times 10^{-5}$, which is one for full
// fine-tuning; lesson 04 shows that LoRA wants about ten times as much.
//
// ### Packing
//
// Rows differ in length, and a batch is a rectangle: the rest is padding. **Packing** puts several rows into one.

// %%
const lines = tokenizeRows(
  [...pages.map(({ text }) => ({ text })), ...half('train').slice(0, 300).map(asked)],
  tokenizer,
);
const LENGTH = 64;
const packed = packRows(lines, LENGTH);
const tokens = lines.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
const longest = Math.max(...lines.map(({ inputIds }) => inputIds.length));
const share = (part: number, whole: number) => `${((100 * part) / whole).toFixed(1)} %`;
display.table([
  {
    way: `padded to the longest (${longest})`,
    rows: lines.length,
    'filled with text': share(tokens, lines.length * longest),
  },
  {
    way: `packed into ${LENGTH}`,
    rows: packed.length,
    'filled with text': share(tokens, packed.length * LENGTH),
  },
]);
prove(
  'Packing fills rows better than padding',
  tokens / (packed.length * LENGTH) > 1.3 * (tokens / (lines.length * longest)),
  `${share(tokens, packed.length * LENGTH)} against ${share(tokens, lines.length * longest)}`,
);

// %% [markdown]
// But a model reads from left to right: would the third row not see the first two? Not if positions start anew at each
// row and a mask forbids it. That can be tested: the scores of a packed row must be those that each row gets alone.

// %%
const [first, second] = half('train')
  .slice(0, 2)
  .map((fact) => tokenizeRow(asked(fact), tokenizer));
const a = first!.inputIds.length;
const both = [...first!.inputIds, ...second!.inputIds];
const ids = (list: number[]) => tf.tensor2d([list], undefined, 'int32');
const owner = both.map((_, i) => (i < a ? 0 : 1));
const gap = (isolated: boolean) =>
  tf.tidy(() => {
    const alone = base.forward(ids(second!.inputIds)).logits; // [1, T, V]
    const positions = both.map((_, i) => (i < a ? i : i - a));
    const mask = owner.map((own) => owner.map((seen) => Number(own === seen)));
    const options = isolated
      ? { positionIds: ids(positions), attentionMask: tf.tensor3d([mask]) }
      : {};
    const inside = tf.slice(base.forward(ids(both), options).logits, [0, a, 0], [1, -1, -1]);
    return tf.max(tf.abs(tf.sub(alone, inside))).dataSync()[0]!;
  });
const [kept, leaked] = [gap(true), gap(false)];
prove(
  'Packed rows do not see each other, and would without mask and positions',
  kept < 1e-3 && leaked > 0.1,
  `scores differ by ${kept.toExponential(0)} with them, by ${leaked.toFixed(1)} without`,
);

// %% [markdown]
// ## 3. Continued pretraining
//
// Raw text, every token learnt, packed. The loop is the one of instruction tuning; only the rows differ.

// %%
const quiet = { disableTqdm: true, warmupSteps: 5 } as const;
async function train(model: CausalLM, rows: SftRow[], args: SFTConfig): Promise<void> {
  const trainer = new SFTTrainer({
    model,
    processingClass: tokenizer,
    trainDataset: rows,
    args: { ...quiet, ...args },
  });
  await trainer.train();
  trainer.dispose();
}
const reading: SFTConfig = {
  learningRate: 1.5e-3,
  maxSteps: 80,
  perDeviceTrainBatchSize: 4,
  packing: true,
  maxLength: LENGTH,
  padToMultipleOf: LENGTH,
};
const answering: SFTConfig = {
  learningRate: 2e-3,
  maxSteps: 40,
  perDeviceTrainBatchSize: 16,
  padToMultipleOf: 12,
};
const questions = half('train').map(asked);

// %% [markdown]
// > **Predict.** After reading about 20 illnesses a few times over: will it complete statements on them? On the other 20?
// > Will it answer *questions* on them? And if it is tuned to answer afterwards?

// %%
const seeds = [0, 1, 2];
const results: Record<string, Scores[]> = { base: [before], read: [], tuned: [], both: [] };
for (const seed of progress(seeds, { desc: 'seeds' })) {
  const reader = await AutoModelForCausalLM.fromPretrained(BASE);
  await train(reader, pages, { ...reading, seed });
  results.read!.push(await measure(reader));
  await train(reader, questions, { ...answering, seed });
  results.both!.push(await measure(reader));
  reader.dispose();
  const tuned = await AutoModelForCausalLM.fromPretrained(BASE);
  await train(tuned, questions, { ...answering, seed });
  results.tuned!.push(await measure(tuned));
  tuned.dispose();
}

// %%
const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
const percent = (value: number) => `${(100 * value).toFixed(0)} %`;
const of = (model: string, name: Measure) => results[model]!.map((scores) => scores[name]);
const span = (values: number[]) =>
  values.length === 1
    ? percent(values[0]!)
    : `${percent(mean(values))} (${percent(Math.min(...values))} to ${percent(Math.max(...values))})`;
const labels: Record<string, string> = {
  base: 'base',
  read: 'read the pages',
  tuned: 'tuned to answer',
  both: 'read, then tuned',
};
const names = Object.keys(measures) as Measure[];
display.table(
  Object.entries(labels).map(([model, label]) => ({
    model: label,
    ...Object.fromEntries(names.map((name) => [name, span(of(model, name))])),
  })),
);

// %%
barChart({
  title: 'Reading gives knowledge, tuning gives behaviour',
  x: 'what is asked',
  y: 'correct (%), mean and range of three seeds',
  yRange: [0, 105],
  categories: names,
  series: Object.entries(labels).map(([model, name]) => ({
    name,
    y: names.map((what) => 100 * mean(of(model, what))),
    low: names.map((what) => 100 * Math.min(...of(model, what))),
    high: names.map((what) => 100 * Math.max(...of(model, what))),
  })),
});

// %%
const [STATED, CONTROL, ASKED, WORLD] = names as [Measure, Measure, Measure, Measure];
const least = (model: string, name: Measure) => Math.min(...of(model, name));
const most = (model: string, name: Measure) => Math.max(...of(model, name));
prove(
  'Reading gives knowledge of what was read: each seed is better on it than on the control',
  least('read', STATED) > most('read', CONTROL) + 0.04,
  `at least ${percent(least('read', STATED))}, unread at most ${percent(most('read', CONTROL))}`,
);
prove(
  'Reading changes no behaviour: questions stay unanswered',
  Math.max(most('read', ASKED), most('read', WORLD)) < 0.05,
  `at most ${percent(Math.max(most('read', ASKED), most('read', WORLD)))}`,
);
prove(
  'Tuning changes behaviour on what the model knew: questions on the world are answered',
  least('tuned', WORLD) > before[WORLD] + 0.04,
  `from ${percent(before[WORLD])} to at least ${percent(least('tuned', WORLD))}`,
);
prove(
  'Tuning gives no knowledge: statements on medicine are not completed',
  most('tuned', STATED) < least('read', STATED) - 0.04,
  `at most ${percent(most('tuned', STATED))}, after reading at least ${percent(least('read', STATED))}`,
);
prove(
  'The order has a price: tuning takes away part of what was read',
  most('both', STATED) < least('read', STATED) - 0.02,
  `at most ${percent(most('both', STATED))} are left of at least ${percent(least('read', STATED))}`,
);

// %% [markdown]
// The rows `read the pages` and `tuned to answer` are the claim of the first table, measured: raw text changed what the model knows and left
// it as mute as before; questions with answers changed how it behaves and taught it no medicine. The column `not read`
// keeps us honest: parts of the body and signs are few, so that a guess is right now and then. Without this control you
// would have counted those guesses as knowledge.
//
// ### Where it did not work
//
// The plan of the field is *read, then tune*, and the last row should answer questions on medicine. Look at it: it answers
// on the world, and hardly or not at all on medicine. Two reasons can be read off the table. The tuning took away nearly
// all of what had just been read: compare the statements of the two rows that have read. (The world's statements survive
// such a tuning far better, as lesson 01 measured: what was read a few times goes first.) And a habit learnt on eighteen kinds of
// questions does not carry over to three new ones in a model of this size. Models of billions do carry it over: that is
// what "instruction following" means. For ours, the tuning rows would have to hold questions of the new kinds, and old
// pages beside them. Both are the usual cures; lesson 13 measures the second.
//
// ## 4. SFT, and how much is enough
//
// **Supervised fine-tuning** is the name for what you just did in the second half: examples of good answers, and the loss
// on the answers. "Instruction tuning" says what the examples are about. The process in the field: take a base model
// (Llama 3 8B), tune it on instructions, and you have its *Instruct* version. A habit takes few examples here, as it
// does there: the paper LIMA tuned 65 billion parameters on 1000 chosen rows. Lesson 12 measures size against quality.
//
// ## 5. Many tasks at once
//
// Multi-task tuning is SFT on records of several tasks in one form, `task: input`:

// %%
interface TaskRow {
  task: string;
  input: string;
  output: string;
}
const records = [...loadDataset<TaskRow>('world-tasks').shuffle({ seed: 3 })];
const kinds = ['summarization', 'translation', 'qa', 'classification'];
const taskOf = ({ task }: TaskRow) => kinds.find((kind) => task.toLowerCase().startsWith(kind))!;
const toRow = ({ task, input, output }: TaskRow) => ({
  prompt: `${task}: ${input}\n`,
  completion: output,
});
const [testRecords, trainRecords] = [records.slice(0, 160), records.slice(160)];
for (const kind of kinds) {
  const { input, output } = records.find((record) => taskOf(record) === kind)!;
  console.log(`${kind}: ${clip(input)} | ${output}`);
}

// %% [markdown]
// > **Predict.** One model for four tasks. On which will it do best after forty steps: putting words into another
// > language of 25 words, naming what a story is about, answering, or telling praise from complaint?

// %%
const many = await AutoModelForCausalLM.fromPretrained(BASE);
await train(many, trainRecords.map(toRow), {
  learningRate: 1.5e-3,
  maxSteps: 40,
  perDeviceTrainBatchSize: 5,
  packing: true,
  maxLength: 96,
  padToMultipleOf: 96,
});
const perTask: Record<string, number | string>[] = [];
for (const kind of kinds) {
  const items = testRecords.filter((record) => taskOf(record) === kind).map(toRow);
  const score = async (model: CausalLM) => percent(await exactMatch(model, tokenizer, items));
  perTask.push({
    task: kind,
    rows: items.length,
    base: await score(base),
    tuned: await score(many),
  });
}
many.dispose();
display.table(perTask);

// %% [markdown]
// One run, so we prove nothing by it; read it as a picture. The tasks learn at different speeds: a label out of two is quick,
// a story's subject must be found, and a language must be learnt word by word. Forty steps of a mixture of four are ten for
// each; section 3 gave all forty to answering alone. So "one model for many tasks" is not free: a mixture by number of rows
// starves the slow ones, which is why large mixtures train longer and set a share for each task (`mixRows`). Of the other
// benefits that are claimed, "generalizes better" needs tasks that were held out, and "forgets less" needs lesson 13's
// controls.
//
// ## 6. The table again
//
// | | data here | changed | did not change |
// |---|---|---|---|
// | continued pretraining | 120 pages of raw text | statements on what was read | it answers nothing |
// | instruction tuning / SFT | 640 questions with answers | it answers on the world | what it knows |
// | both, in this order | both | it answers, and most of what it read is lost again | questions of kinds that tuning had none of |
// | multi-task | 640 records of four tasks | the quickest task is done | the others, in so few steps |
//
// "Changes knowledge, not behaviour" holds here in both directions. Two cautions. Tuning to *facts* is possible, too: new
// answers can be trained into a model, and lesson 10 shows why that is the wrong tool for facts that change. And a
// model that reads one field only forgets others; real runs mix old pages in.
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
// ### Exercise 1: count the labels
//
// *Easy, 3 minutes.* A chat has four turns: user 10 tokens, assistant 6, user 8, assistant 5. Each turn has 4 further
// tokens of marks around it, of which the last one, the end of the turn, counts as the assistant's where an assistant
// speaks. How many labels has the row with `assistantOnlyLoss`?

// %%
const myLabels: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myLabels, 6 + 5 + 2, {
  'The end of each turn is learnt too, or the model would never stop.': 11,
  'The opening marks are the template, not the assistant.': 6 + 5 + 8,
  'Only assistants are learnt.': 10 + 6 + 8 + 5 + 16,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $6 + 5$ tokens of text and one end each: 13.
//
// </details>

// %% [markdown]
// ### Exercise 2: what packing saves
//
// *Medium, 4 minutes.* 1000 rows of 40 tokens on average, the longest 200. You train in batches of 8 rows of 200 tokens.
// Packed without a gap, how many rows of 200 are left to run?

// %%
const myRows: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myRows, 200, {
  'That is the number of batches of 8.': 25,
  'That is the number of tokens.': 40_000,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $1000 \cdot 40 = 40{,}000$ tokens fill 200 rows of 200: a fifth of the work. Real packing leaves small gaps.
//
// </details>

// %% [markdown]
// ### Exercise 3: who needs what?
//
// *Medium, 3 minutes.* Which is right for each? 1 continued pretraining, 2 instruction tuning, 3 neither. (a) The model
// shall answer in JSON. (b) It shall read and write Icelandic. (c) It shall know today's prices. Write the three digits as
// one number.

// %%
const myChoice: number | undefined = undefined; // your answer here

// %%
judge('Exercise 3', myChoice, 213, {
  'Prices change every day: retrieval, not training.': 212,
  'Prices change: raw text is stale tomorrow.': 211,
  'A new language is knowledge, and much of it.': 223,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// 213: a format is a behaviour, a language is knowledge in bulk, and prices belong into a prompt (lesson 10).
//
// </details>

// %% [markdown]
// ## 8. In the interview
//
// **What is the difference between continued pretraining and instruction tuning?** *(junior)* The same loss on other data: raw
// text changes what a model knows, instructions with answers change how it behaves. Proof: section 3.
//
// **Which tokens does SFT learn from?** *(mid)* The completions; prompts are read and masked with -100. With chats, what the
// assistant says and the ends of its turns. Proof: section 2.
//
// **Why is packing not a leak?** *(mid)* Because positions start anew and a mask keeps rows apart; without both it is one. Proof:
// section 2.
//
// **Build an assistant for a hospital.** *(senior)* Ask what changes: terms and background (continued pretraining, mixed with old
// pages), the way of answering (SFT, with questions of the field among its rows), facts on patients and drugs (retrieval,
// never weights). Measure each apart, with unread illnesses as the control. Proof: the table of section 3.
//
// ## 9. What to try next
//
// - Put questions on ten of the twenty illnesses into the tuning. Does it answer on the other ten?
// - Give the mixture of section 5 ten times as many steps. Which task comes next?
// - Turn the order around: tune first, read after. Does it still answer?
// - Take `completionOnlyLoss: false` for the questions. Does it answer fewer?
// - Mix the pages and the questions into one run by `mixRows`. Is one run as good as two?
//
// **Next:** lesson 10 asks when all of this should be left alone.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 8 proofs hold.`);
