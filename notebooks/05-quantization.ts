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
// # Quantization
//
// A weight takes 32 bits, or 16. With 4 bits there are sixteen numbers to choose from, for *everything* that a layer knows.
// **What is left of a model that may only say sixteen different things?** More than one would think, if the sixteen are
// chosen well. Here you choose them: by hand, by formula, by data; you count what they really cost; and you find out when
// each choice is wrong.
//
// | | |
// |---|---|
// | Time | 55 minutes to read and try; about a minute to run |
// | You need | matrix products, mean and standard deviation |
// | Level | the junior and mid-level questions on INT8, INT4, NF4, PTQ and QAT |

// %% [markdown]
// **When you are through you can**
//
// 1. quantize eight numbers by hand, with a scale, and with a zero point;
// 2. predict the error of $b$ bits before you measure it;
// 3. say what a block size buys and what it costs, in bits a weight, with *all* overhead counted;
// 4. derive the sixteen levels of NF4, and name weights on which it loses;
// 5. explain what hot channels do to INT8, and two ways out (LLM.int8, SmoothQuant);
// 6. tell post-training quantization from quantization-aware training, and show when the second pays;
// 7. say how large a 7B model is in any format, and choose a format.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  barChart,
  benchLayer,
  benchModel,
  convertQat,
  dequantizeInteger,
  dynamic8Method,
  fakeQuantize,
  fourBitMethod,
  getFourBitType,
  ggufMethod,
  gptqMethod,
  halfMethod,
  heatMap,
  histogramChart,
  hqqMethod,
  inputMaxima,
  integerMethod,
  type Linear,
  layerShapes,
  linearLayers,
  lineChart,
  llmInt8Method,
  loadDataset,
  modelScore,
  Observer,
  pack4bit,
  prepareQat,
  type QuantMethod,
  quantChart,
  quantizeInteger,
  quantizePtq,
  RandomState,
  setBackend,
  smoothScales,
  Trainer,
  watchInputs,
} from 'peftlab';

await setBackend('auto');

// %% [markdown]
// The claims that we check go into `proven`, the finish line of this lesson.

// %%
const proven = new Map<string, string>();
function prove(claim: string, holds: boolean, evidence: string): void {
  if (!holds) throw new Error(`Not so: ${claim} (${evidence})`);
  proven.set(claim, evidence);
  console.log(`✔ ${claim}: ${evidence}`);
}
const percent = (share: number, digits = 2) => `${(100 * share).toFixed(digits)} %`;
const milli = (nats: number) => (1000 * nats).toFixed(nats < 1e-3 ? 3 : 2);
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;
const SEEDS = [1, 2, 3];

// %% [markdown]
// ## 1. A ruler with fifteen marks
//
// Lay a ruler over the numbers so that its ends reach the largest size, and write down only *which mark* is nearest. That is
// **absmax** quantization, also called symmetric:
//
// $$s = \frac{\max |x|}{2^{b-1} - 1}, \qquad q = \operatorname{round}(x / s), \qquad x' = s\,q .$$
//
// With $b = 4$ the marks are $-7 \dots 7$. (A signed 4-bit number could also be $-8$; absmax leaves it out so that the ruler is even.
// In the same way INT8 uses $-127 \dots 127$ of the $-128 \dots 127$ that the table of formats in most texts gives.) The **scale** $s$ is kept
// beside the codes, in full precision.
//
// > **Predict.** Of the eight weights below, which loses most *relative to itself*? How large can an error be at most?

// %%
const weights = [0.12, -0.83, 0.4, 0.05, -0.31, 0.77, -0.06, 0.22];
const scale = Math.max(...weights.map(Math.abs)) / 7;
const codes = weights.map((w) => Math.round(w / scale));
const back = codes.map((q) => q * scale);
display.table(
  weights.map((w, i) => ({
    weight: w,
    code: codes[i]!,
    back: back[i]!.toFixed(3),
    error: (back[i]! - w).toFixed(3),
  })),
);

// %% [markdown]
// The small ones lose most: $0.05$ becomes $0$. No error is above half a step, and that bound is all that rounding promises. The library
// does the same for whole tensors:

// %%
const byLibrary = quantizeInteger(Float32Array.from(weights), [8], { bits: 4 });
const errors = weights.map((w, i) => Math.abs(w - back[i]!));
prove(
  'By hand and by library the codes agree, and no error is above half a step',
  String([...byLibrary.codes]) === String(codes) && Math.max(...errors) <= scale / 2 + 1e-9,
  `largest error ${Math.max(...errors).toFixed(3)}, half a step ${(scale / 2).toFixed(3)}`,
);

// %% [markdown]
// ## 2. The zero point
//
// What comes out of a ReLU is never negative. An absmax ruler would spend half of its marks on numbers that do not occur. So shift it:
// a **zero point** $z$ is the code that stands for 0 (asymmetric quantization):
//
// $$s = \frac{\max - \min}{2^b - 1}, \qquad z = \operatorname{round}(-\min / s), \qquad q = \operatorname{round}(x/s) + z, \qquad x' = s\,(q - z).$$
//
// Zero keeps a code of its own, so that padding and dead neurons stay exactly zero.
//
// > **Predict.** By which factor does the error of one-sided numbers shrink? And that of weights that are even about 0?

// %%
/** |x - x'| / |x|, with one scale for all. */
function relativeError(values: Float32Array, scheme: 'absmax' | 'zeropoint', bits: number): number {
  const options = { bits, scheme, granularity: 'tensor' } as const;
  const rounded = dequantizeInteger(quantizeInteger(values, [values.length], options));
  const lost = values.map((x, i) => (x - rounded[i]!) ** 2);
  return Math.sqrt(lost.reduce((a, b) => a + b) / values.reduce((sum, x) => sum + x * x, 0));
}
const normals = (count: number, seed: number) => {
  const draws = new RandomState(seed);
  return Float32Array.from({ length: count }, () => draws.normal());
};
const afterRelu = (seed: number) => normals(4096, seed).map((x) => Math.max(0, x));
const gains = (make: (seed: number) => Float32Array) =>
  SEEDS.map(
    (seed) => relativeError(make(seed), 'absmax', 4) / relativeError(make(seed), 'zeropoint', 4),
  );

// %% [markdown]
// Three draws of each kind, 4096 numbers a draw, 4 bits.

// %%
const [oneSided, twoSided] = [gains(afterRelu), gains((seed) => normals(4096, seed))];
const twoDigits = (some: number[]) => some.map((x) => x.toFixed(2)).join(', ');
prove(
  'A zero point halves the error of one-sided numbers, and hardly helps even ones',
  Math.min(...oneSided) > 1.8 && Math.max(...twoSided) < 1.4,
  `absmax / zero point: after ReLU ${twoDigits(oneSided)}; normal ${twoDigits(twoSided)}`,
);

// %% [markdown]
// So the habit: absmax for weights, zero points for activations. (It is a habit, not a law: a block of 64 weights is seldom quite even, and
// there a zero point pays for itself, as section 7 will show.)
//
// ## 3. A real model
//
// The base model of these lessons: 3.7 million parameters, four layers, trained on a small world. This is one of its 28 matrices.

// %%
const tokenizer = await AutoTokenizer.fromPretrained('models/world-3m');
const load = () => AutoModelForCausalLM.fromPretrained('models/world-3m');
const model = await load();
const layers = new Map(linearLayers(model, ['lm_head']));
const weightOf = (path: string) => (layers.get(path) as Linear).weight as tf.Tensor2D;
const matrix = weightOf('model.layers.2.self_attn.q_proj');
const numbers = Float32Array.from(matrix.dataSync());
const sigma = Math.sqrt(mean([...numbers].map((w) => w * w)));
console.log(
  `${layers.size} matrices; this one is [${matrix.shape}], standard deviation ${sigma.toFixed(4)}`,
);

// %% [markdown]
// Beside it, as many numbers from a normal distribution.

// %%
histogramChart({
  title: 'Weights of a trained layer are nearly normal',
  x: 'weight, in standard deviations',
  bins: 61,
  range: [-5, 5],
  series: [
    { name: 'q_proj of layer 2', values: numbers.map((w) => w / sigma) },
    { name: 'normal numbers', values: normals(65536, 7) },
  ],
});

// %% [markdown]
// Two things to see: nearly all weights are within three standard deviations, and the few beyond decide where the ruler ends. **What error
// does that make?** Rounding leaves an error that is spread evenly over a step, and an even spread of width $s$ has the standard deviation
// $s / \sqrt{12}$. So, before we measure anything:
//
// $$\frac{|W - W'|}{|W|} \approx \frac{s}{\sqrt{12}\,\sigma} = \frac{\max|w| / \sigma}{\sqrt{12}\,(2^{b-1} - 1)} .$$
//
// One bit more, half the error.

// %%
const BITS = [3, 4, 5, 6, 7, 8];
const rowMaxima = (matrix.arraySync() as number[][]).map((row) => Math.max(...row.map(Math.abs)));
const meanSquare = Math.sqrt(mean(rowMaxima.map((m) => m * m)));
const predicted = BITS.map((b) => meanSquare / sigma / Math.sqrt(12) / (2 ** (b - 1) - 1));
const measured = benchLayer(
  matrix,
  BITS.map((bits) => integerMethod({ bits })),
).map(({ weightError }) => weightError);
lineChart({
  title: 'The error of b bits, one scale a row: predicted and measured',
  x: 'bits',
  y: 'error of the weights (%)',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: 'predicted', x: BITS, y: predicted.map((e) => 100 * e) },
    { name: 'measured', x: BITS, y: measured.map((e) => 100 * e) },
  ],
});

// %% [markdown]
// The two lines lie on one another. (At 3 bits there are seven marks, and "spread evenly over a step" is only roughly so.)

// %%
const offBy = measured.map((error, i) => Math.abs(error / predicted[i]! - 1));
const worst = Math.max(...offBy.slice(1));
prove(
  'The formula predicts the error of 4 to 8 bits',
  worst < 0.05,
  `4 bits ${percent(measured[1]!)}, 8 bits ${percent(measured[5]!)}; off by ${percent(worst, 1)} at most`,
);

// %% [markdown]
// ## 4. Blocks
//
// The formula says where to look next: at $\max|w| / \sigma$. One large weight makes the ruler long for all who share it. So let fewer share:
// a scale for the whole **tensor**, for each row (**per channel**), or for each **group** of 128, 64, 32 weights of a row.
//
// > **Predict.** A row of 256 normal weights, and one outlier of 20 standard deviations. With 4 bits: how many of the others become zero with one
// > scale a row? With groups of 64?

// %%
const withOutlier = normals(256, 5);
withOutlier[70] = 20;
const zeroed = (granularity: 'channel' | number) => {
  const options = { bits: 4, granularity };
  const rounded = dequantizeInteger(quantizeInteger(withOutlier, [1, 256], options));
  return rounded.filter((x) => x === 0).length;
};
prove(
  'One outlier silences its row, or only its group',
  zeroed('channel') > 200 && zeroed(64) < 0.5 * zeroed('channel'),
  `${zeroed('channel')} of 255 others become 0 with one scale a row, ${zeroed(64)} with groups of 64`,
);

// %% [markdown]
// But scales are numbers too, of 32 bits here. A group of $g$ weights costs
//
// $$\text{bits a weight} = b + \frac{32}{g} \qquad (+\, \tfrac{b}{g} \text{ with zero points}).$$
//
// > **Predict.** 4 bits in groups of 16 or 5 bits in groups of 256: which costs less, which loses less?

// %%
const GROUPS = [256, 128, 64, 32, 16];
const atGroups = (bits: number) =>
  benchLayer(
    matrix,
    GROUPS.map((granularity) => integerMethod({ bits, granularity })),
  );
const byBits = [3, 4, 5].map((bits) => ({ bits, rows: atGroups(bits) }));
lineChart({
  title: 'Smaller groups: less error, more bits (256, 128, 64, 32, 16 weights a scale)',
  x: 'bits a weight, scales counted',
  y: 'error of the weights (%)',
  yScale: 'log',
  mode: 'lines+markers',
  series: byBits.map(({ bits, rows }) => ({
    name: `${bits} bits`,
    x: rows.map(({ bitsPerWeight }) => bitsPerWeight),
    y: rows.map(({ weightError }) => 100 * weightError),
  })),
});

// %% [markdown]
// Going down along a line costs bits; going to the next line costs one bit. Which of the two is cheaper?

// %%
const [four, five] = [byBits[1]!.rows, byBits[2]!.rows];
const falls = four.every((row, i) => i === 0 || row.weightError < four[i - 1]!.weightError);
const [small, more] = [four[4]!, five[0]!];
prove(
  'Smaller groups always lose less, but one more bit is the better buy than groups of 16',
  falls && more.weightError < small.weightError && more.bitsPerWeight < small.bitsPerWeight,
  [small, more]
    .map((row) => `${row.bitsPerWeight.toFixed(2)} bits lose ${percent(row.weightError)}`)
    .join(', '),
);

// %% [markdown]
// Around 64 to 128 is where the curve bends, and that is what the tools use: bitsandbytes 64, GPTQ and AWQ 128, GGUF 32 (with scales of 16 bits,
// or of 6 in its K formats).
//
// **Double quantization** (QLoRA) makes the scales themselves small: 256 scales of 32 bits become 256 codes of 8 bits and one scale. For blocks of 64:
//
// $$\frac{8}{64} + \frac{32}{64 \cdot 256} = 0.127 \text{ bits a weight in the place of } \frac{32}{64} = 0.5 .$$

// %%
const plainState = pack4bit(numbers, matrix.shape, { quantType: 'nf4' });
const doubled = pack4bit(numbers, matrix.shape, { quantType: 'nf4', compressStatistics: true });
const bitsOf = ({ packed, quantState }: typeof plainState) =>
  (8 * (packed.length + quantState.bytes)) / numbers.length;
prove(
  'Double quantization saves 0.373 bits a weight, in real bytes',
  Math.abs(bitsOf(plainState) - bitsOf(doubled) - 0.373) < 0.001,
  `${bitsOf(plainState).toFixed(3)} bits before, ${bitsOf(doubled).toFixed(3)} after`,
);

// %% [markdown]
// ## 5. Where should sixteen levels be?
//
// A ruler's marks are evenly spaced; weights are not. Most are near zero, so there the marks should be close. **NF4** (4-bit NormalFloat, QLoRA)
// takes the *quantiles* of a normal distribution: levels between which equally many weights fall. The recipe: nine equally spaced probabilities from
// one half up to 0.9677, eight down to it on the other side (so that 0 is a level), the quantile of each, all divided by the largest.
//
// For the quantiles we need the normal distribution function, and its inverse by bisection:

// %%
/** P(x < z) of a standard normal x: Abramowitz and Stegun 7.1.26. */
function normalCdf(z: number): number {
  const t = 1 / (1 + (0.3275911 * Math.abs(z)) / Math.SQRT2);
  const series = [1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592];
  const tail = series.reduce((sum, a) => (sum + a) * t, 0) * Math.exp((-z * z) / 2);
  return z < 0 ? tail / 2 : 1 - tail / 2;
}
/** The z below which a share p lies. */
function quantile(p: number): number {
  let [low, high] = [-8, 8];
  for (let i = 0; i < 60; i++) {
    const middle = (low + high) / 2;
    if (normalCdf(middle) < p) low = middle;
    else high = middle;
  }
  return low;
}

// %% [markdown]
// Now the recipe. The seven negative levels and the eight positive ones come from differently spaced probabilities, so the table is *not* symmetric:
// 0 takes one of the sixteen codes.

// %%
const OFFSET = 0.9677083;
const spread = (count: number) =>
  Array.from({ length: count }, (_, i) => OFFSET + ((0.5 - OFFSET) * i) / count);
const positive = spread(8).map(quantile);
const negative = spread(7).map((p) => -quantile(p));
const mine = [...negative, 0, ...positive].map((z) => z / quantile(OFFSET)).sort((a, b) => a - b);
const theirs = [...getFourBitType('nf4').values].sort((a, b) => a - b);
const furthest = Math.max(...mine.map((level, i) => Math.abs(level - theirs[i]!)));
prove(
  "The quantiles are bitsandbytes' NF4 table",
  furthest < 1e-4,
  `largest difference ${furthest.toExponential(1)}`,
);

// %% [markdown]
// **FP4** is what a floating-point number of 4 bits can say: a sign, two bits of exponent, one of fraction. And for comparison the marks of INT4:

// %%
const fp4 = [...new Set([...getFourBitType('fp4').values].map((x) => x + 0))].sort((a, b) => a - b);
const int4 = Array.from({ length: 15 }, (_, i) => (i - 7) / 7);
const levels = { FP4: fp4, NF4: theirs, INT4: int4 };
lineChart({
  title: 'Sixteen levels between -1 and 1 (1 = FP4, 2 = NF4, 3 = INT4)',
  x: 'level, in units of the largest weight of the block',
  y: 'format',
  mode: 'markers',
  yRange: [0.5, 3.5],
  series: Object.entries(levels).map(([name, x], i) => ({ name, x, y: x.map(() => i + 1) })),
});

// %% [markdown]
// FP4's levels crowd next to zero (two of them closer than a hundredth), and leave a wide gap from there to $\frac16$.
//
// > **Predict.** Order the three on *normal* weights, then on the real matrix.

// %%
const competitors = [
  integerMethod({ bits: 4, granularity: 64 }),
  fourBitMethod('nf4'),
  fourBitMethod('fp4'),
];
const errorsOf = (values: Float32Array, methods: QuantMethod[]) => {
  const rows = benchLayer(tf.tensor2d(values, [values.length / 256, 256]), methods);
  return rows.map(({ weightError }) => weightError);
};
const onNormal = SEEDS.map((seed) => errorsOf(normals(65536, seed), competitors));
const onReal = [...layers.values()].map(({ weight }) =>
  errorsOf(weight.dataSync() as Float32Array, competitors),
);
const isOrdered = ([int, nf, fp]: number[]) => nf! < 0.95 * int! && int! < 0.95 * fp!;

// %% [markdown]
// The same order everywhere, with a margin of 5 % at least?

// %%
const meansOf = (all: number[][]) =>
  all[0]!.map((_, i) => percent(mean(all.map((e) => e[i]!)), 1)).join(', ');
prove(
  'At 4.5 bits NF4 beats INT4, and INT4 beats FP4: on normal numbers and on all 28 matrices',
  onNormal.every(isOrdered) && onReal.every(isOrdered),
  `INT4, NF4, FP4: normal ${meansOf(onNormal)}; real ${meansOf(onReal)}`,
);

// %% [markdown]
// **The published numbers** (QLoRA, table 2: mean perplexity of models from 125M to 13B at 4 bits): INT4 34.34, FP4 31.07, NF4 with double quantization 27.41.
// Direction only; there FP4 did better than INT4, here in squared error it does not.
//
// ## 6. When NF4 does not win
//
// NF4 is derived from one assumption. Take it away: weights that are **uniform**, or with **heavy tails** (Laplace, or Student's $t$ with 3 degrees of
// freedom). And two competitors that make no assumption: INT4 with a **zero point** for each block, and sixteen levels **fitted** to such
// weights by $k$-means (on other draws than those it is tested on).

// %%
type Maker = (draws: RandomState) => number;
const kinds: Record<string, Maker> = {
  normal: (draws) => draws.normal(),
  uniform: (draws) => draws.uniform(-1, 1),
  Laplace: (draws) => draws.normal() * Math.sqrt(-2 * Math.log(draws.uniform(1e-12, 1))),
  'Student t': (draws) => {
    const squares = [0, 0, 0].map(() => draws.normal() ** 2);
    return draws.normal() / Math.sqrt(mean(squares));
  },
};
const sampleOf = (make: Maker, seed: number, count = 16384) => {
  const draws = new RandomState(seed);
  return Float32Array.from({ length: count }, () => make(draws));
};

// %% [markdown]
// Fitting: divide each block by its largest size, start with NF4's levels, and repeat: every number to its nearest level, every level to the mean of
// its numbers.

// %%
const inBlocks = (values: Float32Array) => {
  const largest = Array.from({ length: values.length / 64 }, (_, b) =>
    values.subarray(64 * b, 64 * b + 64).reduce((most, x) => Math.max(most, Math.abs(x)), 0),
  );
  return { largest, scaled: values.map((x, i) => x / largest[i >> 6]!) };
};
const nearest = (table: number[], x: number) =>
  table.reduce(
    (best, level, i) => (Math.abs(level - x) < Math.abs(table[best]! - x) ? i : best),
    0,
  );

// %% [markdown]
// The two steps, twelve times:

// %%
function fitLevels(values: Float32Array): number[] {
  let table = theirs;
  const { scaled } = inBlocks(values);
  for (let round = 0; round < 12; round++) {
    const [sums, counts] = [table.map(() => 0), table.map(() => 0)];
    for (const x of scaled) {
      const i = nearest(table, x);
      sums[i]! += x;
      counts[i]!++;
    }
    table = table.map((level, i) => (counts[i]! > 0 ? sums[i]! / counts[i]! : level));
  }
  return table;
}

// %% [markdown]
// A method of the bench is a name, its bytes, and a function that rounds. So our fitted table can compete with the library's formats:

// %%
const fittedMethod = (table: number[]): QuantMethod => ({
  ...fourBitMethod('nf4'),
  name: 'fitted levels',
  round: (values) => {
    const { largest, scaled } = inBlocks(values);
    return scaled.map((x, i) => table[nearest(table, x)]! * largest[i >> 6]!);
  },
});
const grid = Object.entries(kinds).map(([kind, make]) => {
  const fitted = fittedMethod(fitLevels(sampleOf(make, 99)));
  const zeroPoint = integerMethod({ bits: 4, granularity: 64, scheme: 'zeropoint' });
  const methods = [...competitors, zeroPoint, fitted];
  return { kind, errors: SEEDS.map((seed) => errorsOf(sampleOf(make, seed), methods)) };
});

// %% [markdown]
// The lower (darker) the better. Read it row by row: who wins where?

// %%
heatMap({
  title: 'Error by format and distribution, blocks of 64 (mean of three seeds)',
  x: 'levels',
  y: 'weights are',
  z: 'error (%)',
  columns: ['INT4', 'NF4', 'FP4', 'INT4 with zero point', 'fitted'],
  rows: grid.map(({ kind }) => kind),
  values: grid.map(({ errors: all }) =>
    [0, 1, 2, 3, 4].map((i) => 100 * mean(all.map((e) => e[i]!))),
  ),
});

// %% [markdown]
// And with a margin, for each seed:

// %%
const seedsOf = (kind: string) => grid.find((row) => row.kind === kind)!.errors;
const uniformRatio = seedsOf('uniform').map(([int, nf]) => nf! / int!);
const tailRatio = seedsOf('Student t').map(([int, nf]) => nf! / int!);
const fittedWins = grid.every(({ errors: all }) =>
  all.every((e) => e[4]! < Math.min(e[0]!, e[1]!)),
);
prove(
  'INT4 beats NF4 on uniform weights, NF4 beats INT4 on heavy tails, fitted levels beat both',
  Math.min(...uniformRatio) > 1.2 && Math.max(...tailRatio) < 0.8 && fittedWins,
  `NF4 / INT4: uniform ${mean(uniformRatio).toFixed(2)}, Student t ${mean(tailRatio).toFixed(2)}`,
);

// %% [markdown]
// So NF4 is a good table, not a law. It is *not* the table of least squared error even for normal weights: equally full levels are one aim, small errors
// another. On uniform weights it loses to the plain ruler. With heavy tails it loses to levels made for them (that is the idea of SF4, *Student float*). And a zero
// point for each block, for 4/64 of a bit more, does as well on normal weights. What speaks for NF4 is that it needs nothing: no fitting, no data.
//
// ## 7. Rounding the inputs too
//
// Weights are half of a product. For *integer arithmetic* the inputs must be integers as well, and inputs are not normal. The largest size of each of the 512
// inputs of `down_proj` in layer 1, over some text:

// %%
const facts = [...loadDataset<{ statement: string; split: string }>('world-facts')];
function rowsOf(split: string, count: number, length = 64): number[][] {
  const own = facts.filter((fact) => fact.split === split).map(({ statement }) => statement);
  const ids = tokenizer.encode(new RandomState(3).permutation(own).join(' '));
  return Array.from({ length: count }, (_, i) => ids.slice(length * i, length * (i + 1)));
}
const idsOf = (rows: number[][]) => tf.tensor2d(rows, undefined, 'int32');
const [calibration, test] = [idsOf(rowsOf('train', 8)), idsOf(rowsOf('test', 12))];
const run = () => tf.tidy(() => void model.forward(calibration));
const hotPath = 'model.layers.1.mlp.down_proj';
const maxima = inputMaxima(model, run).get(hotPath)!;

// %% [markdown]
// From the hottest to the coolest:

// %%
const sorted = [...maxima].sort((a, b) => b - a);
lineChart({
  title: 'A few inputs of down_proj are thirty times as large as most',
  x: 'input, from the hottest',
  y: 'largest size',
  yScale: 'log',
  mode: 'markers',
  series: [{ name: 'largest |x| of an input', y: sorted }],
});

// %% [markdown]
// These are **hot channels**, and every large language model has them (LLM.int8's authors found them to appear at about 6.7 billion parameters; in the inputs of
// `down_proj` they show already here). With one scale for a row of inputs, a value of 180 makes steps of 1.4, and most inputs are near 1.
//
// Two ways out. **LLM.int8** multiplies the columns with a number of at least `threshold` in full precision, the rest in INT8. **SmoothQuant** divides each input by
// $s_j = \max|X_j|^\alpha / \max|W_j|^{1-\alpha}$ and multiplies the weights of that column with it: the product is the same, but the trouble moves into the weights, where a
// row's scale can bear it.
//
// > **Predict.** How many of the 512 columns must be kept in full precision to undo most of the harm?

// %%
let inputs = tf.zeros([1, 512]) as tf.Tensor2D;
watchInputs(
  model,
  (path, x) => {
    if (path === hotPath) inputs = tf.keep(tf.reshape(x, [-1, 512]) as tf.Tensor2D);
  },
  run,
);
const hotWeight = weightOf(hotPath);
const only = benchLayer(hotWeight, [integerMethod(), integerMethod({ activationBits: 8 })], {
  inputs,
});
const THRESHOLDS = [200, 80, 40, 20, 6];
const apart = benchLayer(hotWeight, THRESHOLDS.map(llmInt8Method), { inputs });
const kept = THRESHOLDS.map((t) => sorted.filter((x) => x >= t).length);

// %% [markdown]
// The first row rounds weights only, the second inputs too; then columns are taken out, the hottest first.

// %%
display.table([
  {
    'INT8 for': 'weights only',
    'columns apart': '',
    'error of the outputs': percent(only[0]!.outputError!),
  },
  {
    'INT8 for': 'weights and inputs',
    'columns apart': '',
    'error of the outputs': percent(only[1]!.outputError!),
  },
  ...apart.map((row, i) => ({
    'INT8 for': `LLM.int8, threshold ${THRESHOLDS[i]}`,
    'columns apart': `${kept[i]} of 512`,
    'error of the outputs': percent(row.outputError!),
  })),
]);
prove(
  'A few columns in full precision undo most of what rounding the inputs did',
  apart[2]!.outputError! < 0.5 * only[1]!.outputError! && kept[2]! <= 26,
  `${kept[2]} columns: ${percent(only[1]!.outputError!)} → ${percent(apart[2]!.outputError!)}`,
);

// %% [markdown]
// (bitsandbytes' default threshold is 6, made for models whose inputs are about 1. Here it would keep nearly half of the columns: a threshold is a setting of a model, not of a
// method.) Now SmoothQuant, with a scale for each row of inputs, and with one for all of them:

// %%
const ALPHAS = [0, 0.25, 0.5, 0.6, 0.75, 0.9, 1];
const smoothed = ALPHAS.map((alpha) =>
  tf.tidy(() => {
    const s = tf.tensor1d(smoothScales(maxima, [hotWeight], alpha));
    const [w, x] = [tf.mul(hotWeight, s), tf.div(inputs, s)] as [tf.Tensor2D, tf.Tensor2D];
    const byRow = integerMethod({ activationBits: 8 });
    const observer = new Observer({ scheme: 'absmax' });
    observer.observe(x);
    const layer = (rounded: tf.Tensor) =>
      tf.matMul(rounded as tf.Tensor2D, fakeQuantize(w, {}) as tf.Tensor2D, false, true);
    const y = tf.matMul(x, w, false, true);
    const lost = tf.norm(tf.sub(y, layer(fakeQuantize(x, observer.grid()))));
    const byTensor = tf.div(lost, tf.norm(y)).dataSync()[0]!;
    return { byRow: benchLayer(w, [byRow], { inputs: x })[0]!.outputError!, byTensor };
  }),
);

// %% [markdown]
// At α = 0 nothing moves, at α = 1 everything does:

// %%
lineChart({
  title: 'SmoothQuant: how much of the trouble should move into the weights?',
  x: 'α',
  y: 'error of the outputs (%)',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: 'one scale for all inputs', x: ALPHAS, y: smoothed.map((e) => 100 * e.byTensor) },
    { name: 'one scale a row of inputs', x: ALPHAS, y: smoothed.map((e) => 100 * e.byRow) },
  ],
});

// %% [markdown]
// A valley in both curves:

// %%
const middle = smoothed.slice(2, 5);
const isValley = (pick: (e: (typeof smoothed)[0]) => number) =>
  Math.min(...middle.map(pick)) < 0.7 * Math.min(pick(smoothed[0]!), pick(smoothed.at(-1)!));
prove(
  'SmoothQuant has its best α between the ends',
  isValley((e) => e.byRow) && isValley((e) => e.byTensor),
  [0, 3, 6].map((i) => `${percent(smoothed[i]!.byRow)} at α = ${ALPHAS[i]}`).join(', '),
);

// %% [markdown]
// **The published numbers** (OPT-175B, mean of seven tasks): 66.9 in 16 bits, 35.5 with plain INT8 for weights and activations, 66.8 with SmoothQuant, α about 0.5. Direction only.
//
// ## 8. PTQ: after training
//
// **Post-training quantization** takes a finished model and rounds it. Weights can be rounded at once; for inputs one needs a grid, and for a fixed grid some
// **calibration** data. An *observer* watches each layer's inputs and chooses: the whole range (`min-max`), the range of 99.9 % of them (`percentile`), or the range of least squared
// error (`mse`).
//
// How to measure a rounded *model*? By its loss, and better by how far its predictions moved: the Kullback-Leibler divergence from what it said before. The loss can fall by luck
// (an over-confident model gains from a little noise); the divergence cannot.
//
// > **Predict.** With 4 bits for the inputs: is it better to cover the hot channels, or to cut them off?

// %%
const score = modelScore(model, test);
const METHODS = ['min-max', 'percentile', 'mse'] as const;
const observed: { method: string; bits: number; divergence: number }[] = [];
for (const method of METHODS) {
  for (const bits of [8, 4]) {
    const rounded = await load();
    const calibrate = () => tf.tidy(() => void rounded.forward(calibration));
    quantizePtq(rounded, { activation: { method, bits }, calibrate });
    observed.push({ method, bits, divergence: score(rounded).divergence });
    rounded.dispose();
  }
}
display.table(
  observed.map(({ method, bits, divergence }) => ({
    observer: method,
    'bits of inputs': bits,
    'divergence (millinats)': milli(divergence),
  })),
);

// %%
const at = (method: string, bits: number) =>
  observed.find((row) => row.method === method && row.bits === bits)!.divergence;
prove(
  'At 8 bits cutting hot channels off does harm, at 4 bits it pays',
  at('percentile', 8) > 2 * at('min-max', 8) && at('mse', 4) < 0.8 * at('min-max', 4),
  [8, 4]
    .map((b) => `${b} bits: ${METHODS.map((m) => `${m} ${milli(at(m, b))}`).join(', ')}`)
    .join('; '),
);

// %% [markdown]
// Both errors are real: what is cut off, and how coarse the rest becomes. With 256 marks there are enough for the whole range, and the hot channels are there for a reason. With 16
// marks the rest suffers more. The observer of least squared error weighs the two, and is never far from the best.
//
// ## 9. QAT: in training
//
// **Quantization-aware training** lets the model know. In the forward pass weights are rounded (*fake quantization*: rounded, but still float32). Backward, rounding has no
// useful gradient: it is flat nearly everywhere. The trick is to look away, the **straight-through estimator**:
//
// $$\text{forward } y = Q(w)\,x, \qquad \text{backward } \frac{\partial Q}{\partial w} := 1 .$$
//
// The float32 weights move by tiny steps until, now and then, a rounded one jumps. Here the weights have **2 bits**: three levels a row. One group of models is trained with
// fake quantization. The other, the *control*, gets the same steps on the same text *without* it, and is rounded afterwards: so that we don't take training itself for the
// cause.
//
// > **Predict.** Which has the lower loss before rounding? After it?

// %%
const trainDataset = rowsOf('train', 256, 32).map((inputIds) => ({ inputIds, labels: inputIds }));
const weight = { bits: 2 } as const;
async function trained(seed: number, isAware: boolean): Promise<{ before: number; after: number }> {
  const some = await load();
  for (const parameter of some.parameters()) parameter.trainable = true;
  if (isAware) prepareQat(some, { weight });
  const steps = { maxSteps: 14, perDeviceTrainBatchSize: 8, learningRate: 1e-3 };
  const args = { ...steps, lrSchedulerType: 'constant', seed, disableTqdm: true } as const;
  await new Trainer({ model: some, trainDataset, args }).train();
  const before = score(some).loss;
  if (isAware) convertQat(some);
  else quantizePtq(some, { weight });
  const after = score(some).loss;
  some.dispose();
  return { before, after };
}

// %% [markdown]
// Six short runs, and the base model rounded as it is:

// %%
const untrained = await load();
quantizePtq(untrained, { weight });
const roundedOnly = score(untrained).loss;
untrained.dispose();
const runs: { isAware: boolean; before: number; after: number }[] = [];
const plan = SEEDS.flatMap((seed) => [true, false].map((isAware) => ({ seed, isAware })));
for (const { seed, isAware } of progress(plan, { desc: 'three runs of each' })) {
  runs.push({ isAware, ...(await trained(seed, isAware)) });
}
const [aware, control] = [runs.filter((one) => one.isAware), runs.filter((one) => !one.isAware)];

// %% [markdown]
// Left: before the weights are rounded for good. Right: after. The lines on the bars are the ranges over three seeds.

// %%
const spreadOf = (some: number[]) => ({
  y: mean(some),
  low: Math.min(...some),
  high: Math.max(...some),
});
const bars = {
  'PTQ, no training': [score().loss, roundedOnly].map((loss) => spreadOf([loss])),
  'control: trained, then PTQ': [
    spreadOf(control.map((r) => r.before)),
    spreadOf(control.map((r) => r.after)),
  ],
  QAT: [spreadOf(aware.map((r) => r.before)), spreadOf(aware.map((r) => r.after))],
};
barChart({
  title: 'Two bits: rounding after training, and rounding in training',
  x: 'the model',
  y: 'loss on held-out sentences (nats a token)',
  categories: ['before the weights are rounded for good', 'after'],
  series: Object.entries(bars).map(([name, ends]) => ({
    name,
    y: ends.map((end) => end.y),
    low: ends.map((end) => end.low),
    high: ends.map((end) => end.high),
  })),
});

// %% [markdown]
// The control learns *more* than QAT before rounding, and loses it all; what QAT has learnt, it keeps.

// %%
prove(
  'At 2 bits QAT beats the same training followed by rounding, for each seed',
  aware.every((run, i) => run.after < control[i]!.after - 0.3),
  `QAT ${twoDigits(aware.map((r) => r.after))}; control ${twoDigits(control.map((r) => r.after))}`,
);
const change = Math.max(...aware.map((r) => Math.abs(r.after - r.before)));
prove(
  'A QAT model computes after conversion what it computed in training',
  change < 1e-3,
  `the loss changes by ${change.toFixed(4)} at most`,
);

// %% [markdown]
// At 8 or 4 bits there is little to win (try it: the last section). QAT pays where rounding hurts, and it costs a training run. With LoRA one trains *through* the rounding of the merged weight
// (`setQuantizationAware`): lesson 17.
//
// ## 10. The bench
//
// All methods on all 28 matrices, with bits counted as files hold them, and the divergence of the whole model. GPTQ is lesson 07's, the K formats lesson 08's; HQQ is a zero-point search
// without data.
//
// > **Predict.** Which methods will lie on the front, the line that no other beats?

// %%
const table = benchModel(
  model,
  [
    dynamic8Method(),
    integerMethod(),
    llmInt8Method(40),
    integerMethod({ bits: 4 }),
    integerMethod({ bits: 4, granularity: 64 }),
    integerMethod({ bits: 3, granularity: 64 }),
    fourBitMethod('nf4'),
    fourBitMethod('nf4', { compressStatistics: true }),
    fourBitMethod('fp4'),
    hqqMethod(),
    gptqMethod({ groupSize: 64 }),
    gptqMethod({ bits: 3, groupSize: 64 }),
    ggufMethod('Q4_K'),
  ],
  { calibration, test, rows: 512 },
);

// %% [markdown]
// Weights, outputs and predictions are three different things to ask about. Compare the columns: GPTQ has the largest error of the weights among its peers,
// and the smallest of the outputs.

// %%
display.table(
  table.map((row) => ({
    method: row.method,
    bits: row.bits,
    group: row.group || 'row',
    'bits a weight': row.bitsPerWeight.toFixed(2),
    weights: percent(row.weightError),
    outputs: percent(row.outputError!),
    'divergence (millinats)': milli(row.divergence),
    perplexity: row.perplexity.toFixed(3),
  })),
);

// %% [markdown]
// The line joins the rows that no other beats.

// %%
const familyOf = ({ method }: { method: string }) => {
  if (method.startsWith('INT')) return 'INT, absmax';
  return /NF4|FP4|LLM|dynamic/.test(method) ? 'bitsandbytes' : method;
};
quantChart(table, {
  title: "Bits against what they cost: the model's divergence",
  y: 'divergence (nats a token)',
  error: (row) => row.divergence,
  group: familyOf,
});

// %% [markdown]
// Bitsandbytes' dynamic 8-bit levels are no better than plain INT8 here: they were made for optimizer states, whose sizes differ by powers of ten.

// %%
const find = (method: string, bits: number, group = 64) =>
  table.find((row) => row.method === method && row.bits === bits && row.group === group)!;
const chosen = {
  INT8: find('INT8', 8, 0).divergence,
  INT4: find('INT4', 4).divergence,
  NF4: find('NF4', 4).divergence,
  GPTQ: find('GPTQ', 4).divergence,
};
prove(
  'INT8 costs next to nothing; at 4 bits looking at data (GPTQ) beats better levels (NF4)',
  chosen.INT8 < 0.2 * chosen.NF4 && chosen.GPTQ < 0.5 * chosen.NF4,
  Object.entries(chosen)
    .map(([name, nats]) => `${name} ${milli(nats)}`)
    .join(', '),
);

// %% [markdown]
// ## 11. How large is a 7B model?
//
// > **Predict.** Llama-2-7B has 6.74 billion parameters. Texts say 7.0 GB in 8 bits and 3.5 GB in 4 bits. Are the real ones above or below?
//
// From shapes alone: linear layers in the format, embeddings, head and norms in 16 bits.

// %%
const llama7B = {
  modelType: 'llama',
  vocabSize: 32000,
  hiddenSize: 4096,
  intermediateSize: 11008,
  numHiddenLayers: 32,
  numAttentionHeads: 32,
} as const;
const parts = layerShapes(llama7B).map((part) => ({
  ...part,
  isInside: part.kind === 'linear' && part.path !== 'lm_head',
}));
const countOf = (part: (typeof parts)[0]) => (part.kind === 'norm' ? part.in : part.in * part.out);
const gigabytes = (method: QuantMethod) =>
  parts.reduce(
    (sum, part) => sum + (part.isInside ? method.bytes([part.out, part.in]) : 2 * countOf(part)),
    0,
  ) / 1e9;

// %% [markdown]
// Eight formats:

// %%
const sizes = [
  halfMethod('BF16'),
  llmInt8Method(),
  integerMethod({ bits: 4, granularity: 64 }),
  fourBitMethod('nf4'),
  fourBitMethod('nf4', { compressStatistics: true }),
  gptqMethod(),
  ggufMethod('Q4_0'),
  gptqMethod({ bits: 3 }),
].map((method) => ({ method, size: gigabytes(method) }));
display.table(
  sizes.map(({ method, size }) => ({
    format: method.name,
    bits: method.bits,
    group: method.group > 1 ? method.group : 'row',
    '7B': `${size.toFixed(2)} GB`,
    'times smaller than float32': (26.95 / size).toFixed(1),
  })),
);

// %%
const sizeOf = (i: number) => sizes[i]!.size;
prove(
  'A real 7B model in 4 bits is 3.8 to 4.2 GB, not 3.5: 6.4 to 7 times smaller, not 8',
  [2, 3, 4, 5, 6].every((i) => sizeOf(i) > 3.8 && sizeOf(i) < 4.2),
  `NF4 ${sizeOf(3).toFixed(2)} GB, doubly ${sizeOf(4).toFixed(2)}; 8 bits ${sizeOf(1).toFixed(2)}`,
);

// %% [markdown]
// What texts say, and what we found:
//
// | said | verdict |
// |---|---|
// | 8 bits: 4 times smaller than float32, 2 times than 16 bits | 4.0 and 2.0 for the matrices; 3.8 and 1.9 for the model, whose embeddings stay |
// | 4 bits: 8 times smaller, 4 times than 16 bits | 7.1 for matrices at 4.5 bits; 6.5 to 7.0, and 3.2 to 3.5, for a model |
// | INT8 holds -128 to 127 | the type does; absmax uses -127 to 127 |
// | INT4: "more aggressive, higher accuracy loss" | yes: 18 times the error of 8 bits, 127 / 7, as the formula says (section 3) |
// | NF4: better quality than uniform INT4 | on normal weights yes; on uniform ones no; no better than INT4 with zero points (section 6) |
// | "faster inference (sometimes)" | where memory is the limit (a token at a time) or kernels are integer; never by itself |
//
// GGUF's table (Q4_0 3.5 GB, Q4_K_M 4.1, Q5_K_M 4.6, Q8_0 7.0, FP16 13) is checked in lesson 08.
//
// ## 12. Which one?
//
// | Method | for | Bits | Needs data | Quality | Speed |
// |---|---|---|---|---|---|
// | bitsandbytes NF4, INT8 | training (QLoRA), loading at once | 4, 8 | no | good | fair: unpacks before each product |
// | GPTQ | inference on GPUs | 2, 3, 4, 8 | yes | great | fast kernels |
// | AWQ | inference on GPUs | 4 | yes, little | great where channels are hot | fast kernels |
// | GGUF | inference on CPUs, laptops | 2 to 8 | optional | good to great | medium, runs anywhere |
// | SmoothQuant, LLM.int8 | integer products (W8A8) | 8 | yes / no | nearly lossless | fast with batches / slower |
// | HQQ | a quick look at few bits | 1 to 8 | no | good | seconds to make |
// | QAT | the last bit, edge devices | 2 to 8 | a training run | best | as its format |
//
// ```mermaid
// flowchart TD
//   A[Will you train it further?] -->|yes| B[bitsandbytes NF4: QLoRA, lesson 06]
//   A -->|no, inference only| C[A GPU?]
//   C -->|no| D[GGUF, Q4_K_M to begin with: lesson 08]
//   C -->|yes| E[What is the limit?]
//   E -->|memory| F[4 bits: AWQ or GPTQ, lesson 07]
//   E -->|throughput of large batches| G[8 bits for weights and inputs: SmoothQuant]
//   F --> H[Below 4 bits: GPTQ, then QAT]
// ```

// %% [markdown]
// ## 13. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | one scale for a tensor with outliers | most weights become 0 | section 4: count the zeros |
// | bits without overhead | "4 bits" of 4.5 against "4 bits" of 4.13 | bytes of the file |
// | an asymmetric grid without 0 on it | padding becomes noise | 0 must come back as 0 |
// | clipping activations by percentile | fine on average, wrong where channels are hot | divergence, section 8 |
// | judging by loss alone | rounding "improves" a model | divergence from the model as it was |
// | QAT compared with an untrained model | training takes the credit | a control with the same steps |
// | NF4 for everything | embeddings, uniform or sparse matrices suffer | a histogram first |

// %% [markdown]
// ## 14. Now you
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
    other.every(
      (value, i) => Math.abs(value - answer[i]!) <= 0.005 * Math.max(0.1, Math.abs(value)),
    );
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer.slice(0, 4).join(', ')}`}`);
}

// %% [markdown]
// ### Exercise 1: by hand
//
// *Easy, 4 minutes.* Quantize `[0, 1, 2, 5]` with a **zero point** to 2 bits, and give the four numbers that come back. (Halves round to even.)

// %%
const myNumbers: Numbers | undefined = undefined; // [.., .., .., ..]

// %%
judge('Exercise 1', myNumbers, [0, 5 / 3, 5 / 3, 5], {
  'Those are the codes; multiply by the scale again.': [0, 1, 1, 3],
  'You took absmax: its marks are -5, 0 and 5.': [0, 0, 0, 5],
  'You divided by 4; there are 4 marks but 3 steps.': [0, 1.25, 2.5, 5],
});

// %% [markdown]
// <details><summary>Hint</summary>
//
// The lowest number is 0, so the zero point is 0. The scale is (5 - 0) / 3.
//
// </details>
// <details><summary>Solution</summary>
//
// $s = 5/3$: codes $0,\ 0.6 \to 1,\ 1.2 \to 1,\ 3$; back $0,\ 5/3,\ 5/3,\ 5$.
//
// </details>

// %% [markdown]
// ### Exercise 2: bits a weight
//
// *Easy, 4 minutes.* INT4 in groups of 32, a scale of **16** bits and a zero point of 4 bits for each group. Bits a weight?

// %%
const myBits: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myBits === undefined ? undefined : [myBits], [4 + 20 / 32], {
  'You left out the zero point.': [4.5],
  'Scales have 16 bits here, not 32.': [4 + 36 / 32],
  'That is without any overhead.': [4],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $4 + (16 + 4)/32 = 4.625$.
//
// </details>

// %% [markdown]
// ### Exercise 3: straight through
//
// *Medium, 8 minutes.* A fixed grid: scale 0.5, codes from -3 to 3. For `x = [0.6, -2, 1.5, 9]` and a gradient `dy = [1, 1, 1, 1]`, what is `dx` by the straight-through rule
// *with clipping*: numbers that the grid cuts off get no gradient?

// %%
const myGradient: Numbers | undefined = undefined; // [.., .., .., ..]

// %%
judge('Exercise 3', myGradient, [1, 0, 1, 0], {
  'That is without clipping; which numbers does the grid cut off?': [1, 1, 1, 1],
  'True of the rounding itself, but then nothing could be learnt.': [0, 0, 0, 0],
  '1.5 is the last mark, and not cut off.': [1, 0, 0, 0],
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// The grid reaches from -1.5 to 1.5. -2 and 9 are cut off: moving them changes nothing, so they get 0. Check it:
// `tf.grad((x) => fakeQuantize(x, { scale: 0.5, zero: 0, low: -3, high: 3 }))(tf.tensor1d([0.6, -2, 1.5, 9]))`.
//
// </details>

// %% [markdown]
// ## 15. In the interview
//
// **What is quantization, and why do it?** *(junior)* Store numbers as small integers and a scale. Four to eight times less memory, less to move from memory for each token, integer kernels. The price
// is a rounding error of half a step at most. Proof: sections 1 and 3.
//
// **INT8, INT4 or NF4?** *(junior)* INT8 costs next to nothing; INT4 has 18 times its error; NF4 puts the same sixteen levels where normal weights are. Proof: sections 5 and 10.
//
// **What does the group size trade?** *(mid)* Error against overhead: 32 bits of scale over 64 weights are half a bit. Outliers harm only their group. Proof: section 4.
//
// **PTQ or QAT?** *(mid)* PTQ first: minutes, no training. QAT when few bits hurt: rounding in the forward pass, straight-through backward. Always with a control. Proof: section 9.
//
// **Why is INT8 inference hard, if INT8 weights are easy?** *(mid)* Activations have hot channels. Keep those columns apart (LLM.int8) or move them into the weights (SmoothQuant). Proof: section 7.
//
// **When would you not use NF4?** *(senior)* When weights are not normal (section 6), when calibration data is at hand (GPTQ), when kernels want even steps. Show a histogram and a measurement.
//
// Follow-ups to expect: What is a zero point for? *(Section 2.)* What is double quantization? *(Section 4.)* Does a 4-bit model run twice as fast as an 8-bit one? *(Only if memory traffic is the
// limit.)* Why can perplexity fall after rounding? *(Luck on an over-confident model; look at the divergence.)*
//
// ## 16. What to try next
//
// - QAT at 3 and 4 bits: how much is left to win? And with 4-bit inputs (`activation: { bits: 4, granularity: 'channel' }`)?
// - Fit sixteen levels to the real matrices (section 6). How far below NF4 do you get, and does the divergence follow?
// - Quantize the embeddings too (`skip: []` in `quantizePtq`). What does it save, what does it cost?
// - Which of the 28 matrices is the most sensitive? Round one at a time.
//
// **Next:** lesson 06 trains on a base of 4 bits.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 16 proofs hold.`);
