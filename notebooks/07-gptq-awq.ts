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
// # GPTQ and AWQ: rounding that looks at the data
//
// Rounding a weight to 4 bits makes an error; that cannot be helped. **But which error?** GPTQ lets later weights make up for what earlier
// ones lost. AWQ makes the weights that matter larger before it rounds. Both look at the *inputs* of a layer, which plain rounding
// never does. Here you build both by hand, and you find the inputs on which they gain nothing.
//
// | | |
// |---|---|
// | Time | 55 minutes to read and try; about two minutes to run |
// | You need | scale and zero point (lesson 05), matrix products, what an inverse is |
// | Level | the mid-level questions on quantization methods, the senior one on choosing one |

// %% [markdown]
// **When you are through you can**
//
// 1. write the error that counts, and say why it is not the weights' error;
// 2. derive GPTQ's update for two weights, and run it for a whole layer in twenty lines;
// 3. name the inputs for which GPTQ is no better than rounding, and prove it;
// 4. say how much calibration data is enough, and what too little does;
// 5. explain AWQ's trick, and why it is *not* mixed precision;
// 6. read and write the packed tensors of AutoGPTQ and AutoAWQ;
// 7. defend a choice of method with a table that you measured.
//
// Where a paragraph begins with **Predict**, stop and decide on an answer before you run the next cell.

// %% [markdown]
// ## 1. One layer, two kinds of inputs
//
// A layer computes $y = x W^\top$. We draw a matrix $W$ of 48 × 64, and inputs of two kinds: **white**, where each of the 64 numbers is
// drawn by itself, and **correlated**, where all are mixed from 8 hidden causes, plus a little noise. Inside a language model inputs are
// of the second kind: what one neuron says can be told in part from the others.

// %%
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  barChart,
  type CausalLM,
  crossEntropy,
  dequantizeAwq,
  dequantizeGptq,
  fromConfig,
  GptqHessian,
  type GptqOptions,
  heatMap,
  jit,
  lineChart,
  llamaConfig,
  loadDataset,
  packAwq,
  packGptq,
  pseudoQuantize,
  quantizeAwq,
  quantizeGptq,
  RandomState,
  randomNormal,
  searchAwqScales,
  setBackend,
  unpackGptq,
} from 'peftlab';

await setBackend('auto');

// %%
const [outs, ins] = [48, 64];
const normal = (shape: [number, number], seed: number) =>
  randomNormal<tf.Rank.R2>(shape, new RandomState(seed), { std: 1 });

const white = (rows: number, seed: number) => normal([rows, ins], seed);
/** Eight causes, mixed by a matrix that is always the same, and noise. */
const correlated = (rows: number, seed: number) =>
  tf.tidy(() => {
    const mixed = tf.matMul(normal([rows, 8], seed), normal([8, ins], 77));
    return tf.add(tf.mul(mixed, 0.35), tf.mul(normal([rows, ins], seed + 500), 0.2)) as tf.Tensor2D;
  });

const W = normal([outs, ins], 1);
const inputs = { white: white(1024, 2), correlated: correlated(1024, 3) };

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
const number = (tensor: tf.Tensor) => {
  const [value] = tensor.dataSync();
  tensor.dispose();
  return value!;
};

// %% [markdown]
// ## 2. The error that counts
//
// Let $\Delta = W - Q$ be what rounding takes away. Nobody looks at weights; what the next layer sees is $x \Delta^\top$. Summed over all
// inputs (rows of $X$) and outputs,
//
// $$\lVert X \Delta^\top \rVert^2 = \operatorname{tr}(\Delta\, H\, \Delta^\top), \qquad H = X^\top X .$$
//
// So a single matrix $H$, of the size *inputs × inputs*, tells all there is to know about the data. It is the **Hessian** of the
// layer's squared error (up to a factor 2), and it does not depend on the weights.

// %%
/** |X (W - Q)ᵀ|² / |X Wᵀ|² */
const outputError = (x: tf.Tensor2D, q: tf.Tensor2D, w = W) =>
  number(
    tf.tidy(() => {
      const lost = tf.sum(tf.square(tf.matMul(x, tf.sub(w, q) as tf.Tensor2D, false, true)));
      return tf.div(lost, tf.sum(tf.square(tf.matMul(x, w, false, true))));
    }),
  );
/** |W - Q|² / |W|² */
const weightError = (q: tf.Tensor2D, w = W) =>
  number(tf.tidy(() => tf.div(tf.sum(tf.square(tf.sub(w, q))), tf.sum(tf.square(w)))));

// %% [markdown]
// Check it, on any $\Delta$:

// %%
const someDelta = tf.mul(normal([outs, ins], 9), 0.1) as tf.Tensor2D;
const [direct, byHessian] = tf
  .tidy(() => {
    const x = inputs.correlated;
    const h = tf.matMul(x, x, true);
    const trace = tf.sum(tf.mul(tf.matMul(someDelta, h), someDelta));
    return [tf.sum(tf.square(tf.matMul(x, someDelta, false, true))), trace];
  })
  .map(number) as [number, number];
prove(
  'The output error is tr(Δ H Δᵀ)',
  Math.abs(direct / byHessian - 1) < 1e-4,
  `${direct.toFixed(2)} and ${byHessian.toFixed(2)}`,
);

// %% [markdown]
// The plain way is **round to nearest** (RTN): each row has a scale and a zero point, each weight goes to the nearest of $2^b$ levels. That
// minimizes every single weight's error. It minimizes the outputs' error too, *if $H$ is diagonal*: if inputs have nothing to do with each
// other. We keep to one grid a row for all methods, so that only the choice of level differs.

// %%
interface Grid {
  scale: number;
  zero: number;
  top: number;
}
const matrixOf = (tensor: tf.Tensor2D) => tensor.arraySync() as number[][];

function gridOf(row: number[], bits: number): Grid {
  const [low, high, top] = [Math.min(0, ...row), Math.max(0, ...row), 2 ** bits - 1];
  const scale = (high - low) / top;
  return { scale, zero: Math.round(-low / scale), top };
}
/** The level nearest to x. */
function snap(x: number, { scale, zero, top }: Grid): number {
  const code = Math.round(x / scale) + zero;
  return scale * (Math.min(top, Math.max(0, code)) - zero);
}
const roundToNearest = (w: tf.Tensor2D, bits: number) =>
  tf.tensor2d(matrixOf(w).map((row) => row.map((x) => snap(x, gridOf(row, bits)))));

// %% [markdown]
// ## 3. Two weights
//
// The whole of GPTQ is in this picture. A layer with two inputs that often rise together: $H = \begin{pmatrix} 1 & 0.9 \\ 0.9 & 1 \end{pmatrix}$.
// The first weight must be rounded, and that makes an error $e_1 = q_1 - w_1$. The second is still free. **Where should it go?**
//
// The error is $e_1^2 H_{11} + 2 e_1 e_2 H_{12} + e_2^2 H_{22}$. Its derivative by $e_2$ is zero at
//
// $$e_2 = -\frac{H_{12}}{H_{22}}\, e_1 .$$
//
// > **Predict.** The first weight was rounded *up*. Does the second go up or down? How much of the error is left?

// %%
const lossAt = (e1: number, e2: number) => e1 * e1 + 2 * 0.9 * e1 * e2 + e2 * e2;
const e1 = 0.4;
const moves = Array.from({ length: 81 }, (_, i) => -0.8 + 0.02 * i);
const best = moves.reduce((a, b) => (lossAt(e1, b) < lossAt(e1, a) ? b : a));
prove(
  'The second weight makes up for the first: by -H₁₂/H₂₂ of its error',
  Math.abs(best + 0.9 * e1) < 0.011,
  `best move ${best.toFixed(2)}; error ${lossAt(e1, 0).toFixed(3)} → ${lossAt(e1, best).toFixed(3)}`,
);

// %% [markdown]
// In a picture, beside the same weights with white inputs:

// %%
lineChart({
  title: 'The first weight was rounded up by 0.4: where does the second go?',
  x: 'move of the second weight',
  y: 'output error',
  series: [
    {
      name: 'inputs that rise together (H₁₂ = 0.9)',
      x: moves,
      y: moves.map((e2) => lossAt(e1, e2)),
    },
    { name: 'white inputs (H₁₂ = 0)', x: moves, y: moves.map((e2) => e1 * e1 + e2 * e2) },
  ],
});

// %% [markdown]
// Four fifths of the error are gone, though *both* weights are now off. With white inputs the best move is none.
//
// ## 4. GPTQ by hand
//
// With 64 weights: round the first, move all others by the best amount, go on with the second. The best move of the rest, when weight $i$ has
// been rounded, comes from the **inverse** Hessian of the weights that are still free:
//
// $$w_j \leftarrow w_j - \frac{w_i - q_i}{[H^{-1}]_{ii}}\, [H^{-1}]_{ij} \qquad (j > i)$$
//
// After that weight $i$ is out of the game, so it is taken out of the inverse: one step of Gaussian elimination. First a small matrix inverse.

// %%
/** The inverse of a symmetric positive definite matrix, by Gauss and Jordan. */
function invert(matrix: number[][]): number[][] {
  const n = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let i = 0; i < n; i++) {
    const pivot = rows[i]!.map((x) => x / rows[i]![i]!);
    for (let k = 0; k < n; k++) {
      const factor = rows[k]![i]!;
      rows[k] = k === i ? pivot : rows[k]!.map((x, j) => x - factor * pivot[j]!);
    }
  }
  return rows.map((row) => row.slice(n));
}

// %% [markdown]
// And the method. A little of the mean diagonal is added to $H$ first (*damping*), so that the inverse exists even where inputs were never seen.

// %%
function gptqByHand(w: tf.Tensor2D, x: tf.Tensor2D, bits: number): tf.Tensor2D {
  const h = matrixOf(tf.tidy(() => tf.matMul(x, x, true)));
  const damping = (0.01 * h.reduce((sum, row, i) => sum + row[i]!, 0)) / h.length;
  const inverse = invert(h.map((row, i) => row.map((value, j) => value + (i === j ? damping : 0))));
  const rows = matrixOf(w);
  const grids = rows.map((row) => gridOf(row, bits));
  for (let i = 0; i < ins; i++) {
    const diagonal = inverse[i]![i]!;
    for (const [r, row] of rows.entries()) {
      const q = snap(row[i]!, grids[r]!);
      const error = (row[i]! - q) / diagonal;
      row[i] = q;
      for (let j = i + 1; j < ins; j++) row[j]! -= error * inverse[i]![j]!;
    }
    for (let j = i + 1; j < ins; j++) {
      const factor = inverse[j]![i]! / diagonal;
      for (let k = i + 1; k < ins; k++) inverse[j]![k]! -= factor * inverse[i]![k]!;
    }
  }
  return tf.tensor2d(rows);
}

// %% [markdown]
// > **Predict.** Compared with rounding to nearest at 3 bits: is GPTQ's *weight* error smaller or larger? Its *output* error?

// %%
const rounded = roundToNearest(W, 3);
const compensated = gptqByHand(W, inputs.correlated, 3);
display.table(
  Object.entries({ 'round to nearest': rounded, 'GPTQ by hand': compensated }).map(
    ([method, q]) => ({
      method,
      'weight error': percent(weightError(q)),
      'output error, correlated inputs': percent(outputError(inputs.correlated, q)),
    }),
  ),
);

// %%
prove(
  'GPTQ makes a larger error in the weights and a smaller one in the outputs',
  weightError(compensated) > weightError(rounded) &&
    outputError(inputs.correlated, compensated) < 0.5 * outputError(inputs.correlated, rounded),
  `weights ${percent(weightError(rounded))} → ${percent(weightError(compensated))}, outputs ${percent(outputError(inputs.correlated, rounded))} → ${percent(outputError(inputs.correlated, compensated))}`,
);

// %% [markdown]
// ### The library's
//
// `quantizeGptq` does the same, with a Cholesky factor in the place of the shrinking inverse (all the eliminations at once) and in blocks of
// 128 columns, so that matrix products do the work. The settings are auto_gptq's.

// %%
function gptq(w: tf.Tensor2D, x: tf.Tensor2D, options: GptqOptions): tf.Tensor2D {
  const hessian = new GptqHessian(x.shape[1]);
  hessian.addBatch(x);
  const result = quantizeGptq(w, hessian, { sym: false, ...options });
  hessian.dispose();
  return tf.tensor2d(dequantizeGptq(result), w.shape);
}
const library = gptq(W, inputs.correlated, { bits: 3 });
const [mine, theirs] = [compensated.dataSync(), library.dataSync()];
const alike = mine.filter((x, i) => Math.abs(x - theirs[i]!) < 1e-4).length / mine.length;
prove(
  'GPTQ by hand chooses the levels that the library chooses',
  alike > 0.99,
  `${percent(alike, 1)} of ${mine.length} weights`,
);

// %% [markdown]
// ## 5. The control: white inputs
//
// A method that always wins should make you suspicious. GPTQ's only source of gain is what one input tells about another; take that away, and the
// gain must vanish.
//
// > **Predict.** What is GPTQ's output error over RTN's, with white inputs: 0.5, 0.9, or 1?

// %%
const SEEDS = [11, 12, 13];
const heldOut = { white: white(2048, 90), correlated: correlated(2048, 91) };
const makers = { white, correlated };
type Kind = keyof typeof makers;

/** Output error on inputs that were not used for calibration: GPTQ's over RTN's, one a seed. */
const ratios = (kind: Kind, bits: number) =>
  SEEDS.map((seed) =>
    tf.tidy(() => {
      const w = normal([outs, ins], seed);
      const [q, plain] = [gptq(w, makers[kind](1024, seed), { bits }), roundToNearest(w, bits)];
      return outputError(heldOut[kind], q, w) / outputError(heldOut[kind], plain, w);
    }),
  );
const table = (['correlated', 'white'] as const).flatMap((kind) =>
  [2, 3, 4].map((bits) => ({ kind, bits, ratios: ratios(kind, bits) })),
);

// %% [markdown]
// One is the line at which GPTQ stops to be of use.

// %%
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;
const ofKind = (kind: Kind) => table.filter((row) => row.kind === kind);
barChart({
  title: 'GPTQ over rounding to nearest, on inputs it has not seen (three seeds)',
  x: 'bits',
  y: 'output error, GPTQ / RTN',
  categories: ['2 bits', '3 bits', '4 bits'],
  series: (['correlated', 'white'] as const).map((kind) => ({
    name: `${kind} inputs`,
    y: ofKind(kind).map((row) => mean(row.ratios)),
    low: ofKind(kind).map((row) => Math.min(...row.ratios)),
    high: ofKind(kind).map((row) => Math.max(...row.ratios)),
  })),
});

// %%
const all = (kind: Kind) => ofKind(kind).flatMap((row) => row.ratios);
prove(
  'On correlated inputs GPTQ loses less than 60 % of what rounding loses, for each seed and width',
  Math.max(...all('correlated')) < 0.6,
  `ratios ${Math.min(...all('correlated')).toFixed(2)} to ${Math.max(...all('correlated')).toFixed(2)}`,
);
prove(
  'On white inputs it gains next to nothing',
  Math.min(...all('white')) > 0.85,
  `ratios ${Math.min(...all('white')).toFixed(2)} to ${Math.max(...all('white')).toFixed(2)}`,
);

// %% [markdown]
// On white inputs GPTQ can even be slightly *worse*: it takes the chance correlations of its 1024 calibration rows for real.
//
// **The published numbers** (OPT on WikiText-2, perplexity; Frantar et al. 2022): 125M: 27.65 in 16 bits, RTN 37.28 and GPTQ 31.12 at 4 bits; at 3 bits
// RTN 1,300 and GPTQ 53.85. 175B: 8.34, 10.54, 8.37. Direction only, but the same direction: the fewer the bits, the more it matters.
//
// ## 6. How much calibration data?
//
// $H$ has 64 × 64 numbers. From a handful of rows it is *singular*: there are directions that no row has. The library dampens and says so.
//
// > **Predict.** With 4 rows of calibration, is GPTQ better than rounding on **other** inputs?

// %%
const rowCounts = [4, 16, 64, 256, 1024];
const errorsBy = rowCounts.map((rows) => {
  const own = SEEDS.map((seed) => {
    const x = correlated(rows, 40 + seed);
    const q = gptq(W, x, { bits: 3 });
    const errors = [outputError(x, q), outputError(heldOut.correlated, q)] as const;
    tf.dispose([x, q]);
    return errors;
  });
  return {
    rows,
    seen: mean(own.map(([seen]) => seen)),
    unseen: mean(own.map(([, unseen]) => unseen)),
  };
});

// %% [markdown]
// Both axes are logarithmic:

// %%
const plainError = outputError(heldOut.correlated, rounded);
lineChart({
  title: 'Calibration rows, and the error on inputs seen and not seen (3 bits)',
  x: 'calibration rows',
  y: 'output error (share)',
  xScale: 'log',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: 'on the calibration rows', x: rowCounts, y: errorsBy.map(({ seen }) => seen) },
    { name: 'on other rows', x: rowCounts, y: errorsBy.map(({ unseen }) => unseen) },
    { name: 'round to nearest', x: rowCounts, y: rowCounts.map(() => plainError) },
  ],
});

// %%
prove(
  'Few rows are overfitted: great on them, poor on others; many rows close the gap',
  errorsBy[0]!.unseen > 3 * errorsBy[0]!.seen &&
    errorsBy.at(-1)!.unseen < 1.5 * errorsBy.at(-1)!.seen,
  `4 rows: ${percent(errorsBy[0]!.seen)} seen, ${percent(errorsBy[0]!.unseen)} unseen; 1024: ${percent(errorsBy.at(-1)!.seen)}, ${percent(errorsBy.at(-1)!.unseen)}`,
);

// %% [markdown]
// The usual 128 sequences of 2048 tokens are 262,144 rows for 4096 inputs. That is plenty, *if they are like what the model will read*: a
// code model calibrated on novels sees the wrong $H$.
//
// ## 7. Groups and act-order
//
// Two settings that every configuration file has. **Groups** (`group_size: 128`): a new scale every so many inputs; better, and it costs bits.
// **Act-order** (`desc_act`): round the inputs with the largest $H_{ii}$ first, while most other weights are still free to make up for it.

// %%
/** Bits a weight with a 16-bit scale and a zero of `bits` bits for each group. */
const bitsWith = (bits: number, group: number) => bits + (16 + bits) / group;
const loud = tf.tidy(() => {
  const sizes = tf.exp(randomNormal([ins], new RandomState(8), { std: 0.8 }));
  return tf.mul(correlated(1024, 5), sizes) as tf.Tensor2D;
});
const settings: [string, GptqOptions, number][] = [
  ['one scale a row', { bits: 3 }, ins],
  ['one scale a row, act-order', { bits: 3, descAct: true }, ins],
  ['groups of 16', { bits: 3, groupSize: 16 }, 16],
  ['groups of 16, act-order', { bits: 3, groupSize: 16, descAct: true }, 16],
];
const tried = settings.map(([name, options, group]) => {
  const q = gptq(W, loud, options);
  return { name, bits: bitsWith(3, group), error: outputError(loud, q) };
});
display.table(
  tried.map(({ name, bits, error }) => ({
    setting: name,
    'bits a weight': bits.toFixed(2),
    'output error': percent(error, 3),
  })),
);

// %% [markdown]
// With act-order, weights that share a scale lie scattered over the row, so a kernel has to look up the group of each input: `g_idx` in the file.
// That is why it is often switched off, and why `static_groups` exists.

// %%
prove(
  'Act-order helps where inputs differ in size',
  tried[1]!.error < tried[0]!.error,
  `${percent(tried[0]!.error, 3)} → ${percent(tried[1]!.error, 3)}`,
);

// %% [markdown]
// ## 8. AWQ: a few channels carry it all
//
// Another thing that is true of language models: in most layers *a few* inputs are ten or a hundred times as large as the others, always the same
// ones. An error in a weight that meets a large input is a large error. AWQ's paper asks: what if we kept 1 % of the input channels in 16 bits? Chosen
// how: by the size of the **activations**, of the **weights**, or at **random**?
//
// > **Predict.** The order of the three.

// %%
const HOT = [7, 31]; // two of 64 channels
const hotInputs = (rows: number, seed: number) =>
  tf.tidy(() => {
    const sizes = Array.from({ length: ins }, (_, i) => (HOT.includes(i) ? 12 : 1));
    return tf.mul(white(rows, seed), tf.tensor1d(sizes)) as tf.Tensor2D;
  });
const columnMeans = (x: tf.Tensor2D) => [...tf.tidy(() => tf.mean(tf.abs(x), 0)).dataSync()];
const largestTwo = (values: number[]) =>
  values
    .map((value, i) => ({ value, i }))
    .sort((a, b) => b.value - a.value)
    .slice(0, 2)
    .map(({ i }) => i);

/** RTN at 3 bits, with some columns as they were. */
function keeping(w: tf.Tensor2D, columns: number[]): tf.Tensor2D {
  const [exact, q] = [matrixOf(w), matrixOf(roundToNearest(w, 3))];
  return tf.tensor2d(
    q.map((row, r) => row.map((x, i) => (columns.includes(i) ? exact[r]![i]! : x))),
  );
}

// %%
const chosen = SEEDS.map((seed) => {
  const [w, x] = [normal([outs, ins], seed), hotInputs(512, seed + 20)];
  const random = new RandomState(seed).permutation([...Array(ins).keys()]).slice(0, 2);
  const by = {
    nothing: [],
    random,
    weights: largestTwo(columnMeans(w)),
    activations: largestTwo(columnMeans(x)),
  };
  return Object.fromEntries(
    Object.entries(by).map(([how, columns]) => [how, outputError(x, keeping(w, columns), w)]),
  );
});
const HOW = ['nothing', 'random', 'weights', 'activations'];
barChart({
  title: 'Two of 64 channels kept in full, chosen in four ways (three seeds)',
  x: 'chosen by',
  y: 'output error (share)',
  categories: HOW,
  series: [
    {
      name: '3 bits',
      y: HOW.map((how) => mean(chosen.map((errors) => errors[how]!))),
      low: HOW.map((how) => Math.min(...chosen.map((errors) => errors[how]!))),
      high: HOW.map((how) => Math.max(...chosen.map((errors) => errors[how]!))),
    },
  ],
});

// %%
prove(
  'Channels to protect are found by activations, not by weights or chance',
  chosen.every((errors) => errors.activations! < 0.4 * Math.min(errors.weights!, errors.random!)),
  HOW.map((how) => `${how} ${percent(mean(chosen.map((errors) => errors[how]!)), 1)}`).join(', '),
);

// %% [markdown]
// (The paper's, OPT-6.7B at 3 bits, perplexity: RTN 23.54; 1 % kept by activation 11.39, by weight 22.37, at random 24.23. Direction only.)
//
// ## 9. Scaling instead of keeping
//
// A matrix with a few 16-bit columns is slow on every chip. **AWQ does not do that**, though many texts say so ("mixed precision"). It *scales*: multiply
// column $i$ of $W$ by $s_i > 1$ and divide input $i$ by it. The product is the same before rounding,
//
// $$x W^\top = (x / s)\,(W s)^\top,$$
//
// and after rounding the error of that column is *divided by* $s_i$, as long as the largest weight of the group, and so the step, hardly changes. All
// columns stay at 4 bits; $1/s$ is folded into the layer before.

// %%
const s2 = tf.tensor1d(Array.from({ length: ins }, (_, i) => (HOT.includes(i) ? 2 : 1)));
const hot = hotInputs(512, 31);
const [unscaled, scaled] = tf.tidy(() => {
  const q = roundToNearest(tf.mul(W, s2) as tf.Tensor2D, 3);
  return [outputError(hot, roundToNearest(W, 3)), outputError(hot, tf.div(q, s2) as tf.Tensor2D)];
});
prove(
  'Doubling two columns before rounding, halving them after, cuts the error',
  scaled < 0.6 * unscaled,
  `${percent(unscaled, 1)} → ${percent(scaled, 1)}, every weight in 3 bits`,
);

// %% [markdown]
// How much scaling? Too little protects nothing, too much makes the step coarse for everybody else. AWQ tries 20 exponents $r$ of one formula and takes
// the best: $s = \bar{x}^{\,r} / \bar{w}^{\,1-r}$, with $\bar x$ the mean size of each input and $\bar w$ that of its weights. (Without the lower part:
// `duo_scaling: false`.)

// %%
const search = searchAwqScales([W], hot, { wBit: 3, groupSize: 64, duoScaling: false });
lineChart({
  title: 'AWQ searches one number',
  x: 'exponent r',
  y: 'mean squared output error',
  yScale: 'log',
  mode: 'lines+markers',
  series: [
    { name: '3 bits, groups of 64', x: search.losses.map((_, i) => i / 20), y: search.losses },
  ],
});

// %%
prove(
  'The best exponent lies between no scaling and full scaling',
  search.ratio > 0 && search.ratio < 0.95 && Math.min(...search.losses) < 0.5 * search.losses[0]!,
  `r = ${search.ratio}: error ${search.losses[0]!.toFixed(3)} → ${Math.min(...search.losses).toFixed(3)}; hot channels scaled by ${HOT.map((i) => search.scales[i]!.toFixed(1)).join(' and ')}`,
);

// %% [markdown]
// Then AWQ **clips**: for each group it tries to cut off up to half of the largest weight, if the finer step is worth it. `quantizeAwq` does all of it.
//
// ## 10. Side by side
//
// Three methods, four kinds of inputs, 3 bits, groups of 64, errors on inputs that nobody calibrated on.
//
// > **Predict.** Where does each of them win? Is there one that wins everywhere?

// %%
const both = (rows: number, seed: number) =>
  tf.tidy(() => {
    const sizes = Array.from({ length: ins }, (_, i) => (HOT.includes(i) ? 12 : 1));
    return tf.mul(correlated(rows, seed), tf.tensor1d(sizes)) as tf.Tensor2D;
  });
const kindsOfInput = { white, correlated, 'hot channels': hotInputs, 'correlated + hot': both };
const asTensor = (values: Float32Array) => tf.tensor2d(values, [outs, ins]);
const methods: Record<string, (w: tf.Tensor2D, x: tf.Tensor2D) => tf.Tensor2D> = {
  RTN: (w) =>
    asTensor(
      pseudoQuantize(w.dataSync() as Float32Array, w.shape, { wBit: 3, groupSize: 64 }).values,
    ),
  GPTQ: (w, x) => gptq(w, x, { bits: 3, groupSize: 64 }),
  AWQ: (w, x) => asTensor(dequantizeAwq(quantizeAwq(w, x, { wBit: 3, groupSize: 64 }))),
};
const grid = Object.entries(kindsOfInput).map(([, make]) => {
  const perSeed = SEEDS.map((seed) => {
    const [w, x, test] = [normal([outs, ins], seed), make(1024, seed + 60), make(1024, seed + 160)];
    return Object.values(methods).map((method) => outputError(test, method(w, x), w));
  });
  return Object.keys(methods).map((_, m) => mean(perSeed.map((errors) => errors[m]!)));
});

// %% [markdown]
// The darker, the better:

// %%
heatMap({
  title: 'Output error by method and inputs (mean of three seeds)',
  x: 'method',
  y: 'inputs',
  z: 'output error (%)',
  columns: Object.keys(methods),
  rows: Object.keys(kindsOfInput),
  values: grid.map((row) => row.map((error) => 100 * error)),
});

// %%
const [rtn, byGptq, byAwq] = [0, 1, 2].map((m) => grid.map((row) => row[m]!)) as [
  number[],
  number[],
  number[],
];
prove(
  'GPTQ wins on correlated inputs, AWQ beats rounding on hot channels, and on white inputs nobody wins much',
  byGptq[1]! < 0.7 * rtn[1]! &&
    byGptq[1]! < byAwq[1]! &&
    byAwq[2]! < 0.6 * rtn[2]! &&
    Math.min(byGptq[0]!, byAwq[0]!) > 0.75 * rtn[0]!,
  `over RTN: correlated ${(byGptq[1]! / rtn[1]!).toFixed(2)} (GPTQ), hot ${(byAwq[2]! / rtn[2]!).toFixed(2)} (AWQ), white ${(byGptq[0]! / rtn[0]!).toFixed(2)} and ${(byAwq[0]! / rtn[0]!).toFixed(2)}`,
);

// %% [markdown]
// So *"AWQ is more accurate than GPTQ"* is a statement about the inputs of certain models, not a law. They can be combined: scale first, then compensate.
//
// ## 11. A real layer
//
// The small language model of the other lessons, trained in half a minute, and its most sensitive matrix: the output head. Its inputs are what the last
// norm gives, so we can catch them.

// %%
const statements = [...loadDataset<{ statement: string }>('small-world')].map(
  ({ statement }) => statement,
);
const words = [...new Set(statements.flatMap((text) => text.split(' ')))];
const idOf = new Map(words.map((word, id) => [word, id]));
const draws = new RandomState(1);
const shape = {
  vocabSize: words.length,
  hiddenSize: 64,
  intermediateSize: 128,
  numHiddenLayers: 2,
  numAttentionHeads: 4,
};
const model: CausalLM = fromConfig(llamaConfig({ ...shape, maxPositionEmbeddings: 64 }), {
  init: (size) =>
    randomNormal(size, draws, { std: size[0] === words.length ? 0.1 : 1 / Math.sqrt(size[1]!) }),
});

// %% [markdown]
// It reads rows of 17 words.

// %%
/** Rows of 17 words from the statements, in ever new orders. */
function* reading(seed: number, steps: number): Generator<tf.Tensor2D> {
  const draw = new RandomState(seed);
  let ids: number[] = [];
  for (let i = 0; i < steps; i++) {
    while (ids.length < 544) {
      ids = ids.concat(
        draw
          .permutation(statements)
          .flatMap((text) => text.split(' ').map((word) => idOf.get(word)!)),
      );
    }
    yield tf.tensor2d(ids.slice(0, 544), [32, 17], 'int32');
    ids = ids.slice(544);
  }
}

// %% [markdown]
// Training in compiled steps, as in lesson 04.

// %%
function lossOf(rows: tf.Tensor2D): tf.Scalar {
  const { logits } = model.forward(tf.slice2d(rows, [0, 0], [32, 16]));
  const labels = tf.reshape(tf.slice2d(rows, [0, 1], [32, 16]), [-1]);
  return crossEntropy(tf.reshape(logits, [-1, words.length]), labels) as tf.Scalar;
}
const trained = model.parameters();
const optimizer = new AdamW(trained, { lr: 4e-3, betas: [0.9, 0.99], weightDecay: 0.01 });
const step = jit((rows: tf.Tensor2D, numbers: AdamWNumbers[]) => {
  const { value, grads } = tf.variableGrads(() => lossOf(rows), trained);
  optimizer.apply(
    trained.map(({ name }) => grads[name]!),
    numbers,
  );
  return value;
});
for (const rows of progress(reading(2, 500), { total: 500, desc: 'pretraining' })) {
  const numbers = optimizer.numbers();
  const loss = step(rows, numbers);
  await loss.data();
  tf.dispose([rows, loss]);
  tf.dispose(numbers);
}

// %% [markdown]
// Catch the inputs of the head, and keep the head as it is.

// %%
step.dispose();
optimizer.dispose();
model.eval();
const testRows = [...reading(99, 4)];
const modelLoss = () => mean(testRows.map((rows) => number(tf.tidy(() => lossOf(rows)))));
const head = new Map(model.namedParameters()).get('lm_head.weight') as tf.Variable<tf.Rank.R2>;
const headWeight = tf.clone(head) as tf.Tensor2D;
/** What enters the head: the last hidden states, [rows · 16, 64]. */
const headInputs = tf.tidy(() => {
  const states = [...reading(50, 8)].map((rows) => {
    const { hiddenStates } = model.forward(tf.slice2d(rows, [0, 0], [32, 16]), {
      outputHiddenStates: true,
    });
    return tf.reshape(hiddenStates!.at(-1)!, [-1, 64]) as tf.Tensor2D;
  });
  return tf.concat(states, 0) as tf.Tensor2D;
});
const fullLoss = modelLoss();
console.log(
  `loss ${fullLoss.toFixed(4)}; head [${headWeight.shape}], inputs [${headInputs.shape}]`,
);

// %% [markdown]
// > **Predict.** At 2 bits: who does best on a *real* layer?

// %%
const rowsOfHead = headWeight.shape[0];
const headMethods: Record<string, (bits: number) => tf.Tensor2D> = {
  RTN: (bits) => gptq(headWeight, tf.eye(64), { bits }),
  GPTQ: (bits) => gptq(headWeight, headInputs, { bits }),
  'GPTQ, act-order': (bits) => gptq(headWeight, headInputs, { bits, descAct: true }),
  AWQ: (bits) =>
    tf.tensor2d(dequantizeAwq(quantizeAwq(headWeight, headInputs, { wBit: bits, groupSize: 64 })), [
      rowsOfHead,
      64,
    ]),
};
const results = Object.entries(headMethods).flatMap(([method, quantize]) =>
  [4, 3, 2].map((bits) => {
    const q = quantize(bits);
    head.assign(q);
    const loss = modelLoss();
    head.assign(headWeight);
    return { method, bits, error: outputError(headInputs, q, headWeight), added: loss - fullLoss };
  }),
);
display.table(
  results.map(({ method, bits, error, added }) => ({
    method,
    bits,
    'output error': percent(error),
    'added loss': added.toFixed(4),
  })),
);

// %%
const at = (method: string, bits: number) =>
  results.find((one) => one.method === method && one.bits === bits)!;
prove(
  'On the real head GPTQ loses less than rounding, in outputs and in the loss of the model',
  [2, 3].every((bits) => at('GPTQ', bits).error < 0.9 * at('RTN', bits).error) &&
    at('GPTQ', 2).added < at('RTN', 2).added,
  `2 bits: added loss ${at('RTN', 2).added.toFixed(3)} (RTN), ${at('GPTQ', 2).added.toFixed(3)} (GPTQ), ${at('AWQ', 2).added.toFixed(3)} (AWQ)`,
);

// %% [markdown]
// ## 12. On disk
//
// **AutoGPTQ** packs codes along the inputs: with 4 bits, eight inputs share a 32-bit word, the first in the lowest bits. Its `qzeros` hold the zero
// points **less one** (an accident that became a format; `gptq_v2` stores them as they are).
//
// **AutoAWQ** packs along the *outputs*, and in the order 0, 2, 4, 6, 1, 3, 5, 7, which suited the first kernel.

// %%
const w64 = normal([64, 64], 4);
const hessian = new GptqHessian(64);
hessian.addBatch(inputs.correlated);
const layer = quantizeGptq(w64, hessian, { groupSize: 32 });
const packed = packGptq(layer);
hessian.dispose();
const word = (packed.qweight.data as Int32Array)[0]! >>> 0;
console.log(`codes of output 0, inputs 0 to 7: ${[...layer.codes.subarray(0, 8)]}`);
console.log(
  `first word of qweight:            ${word.toString(16).padStart(8, '0')} (read it from the right)`,
);
console.log(
  `zero point ${layer.zeros[0]}, stored as    ${((packed.qzeros.data as Int32Array)[0]! >>> 0).toString(16)}`,
);
console.log(
  Object.entries(packed)
    .map(([name, { dtype, shape: size }]) => `${name} ${dtype} [${size}]`)
    .join(', '),
);

// %%
const back = unpackGptq(packed, 4);
const awqWords = packAwq(
  pseudoQuantize(w64.dataSync() as Float32Array, [64, 64], { groupSize: 32 }),
);
prove(
  'Unpacking gives back every code and zero point',
  String(back.codes) === String(layer.codes) && String(back.zeros) === String(layer.zeros),
  `${layer.codes.length} codes in ${packed.qweight.data.byteLength} bytes; AutoAWQ's qweight is [${awqWords.qweight.shape}], GPTQ's [${packed.qweight.shape}]`,
);

// %% [markdown]
// ## 13. The methods, and which to take
//
// | Method | for | Bits | Looks at data | Strong where | Weak where |
// |---|---|---|---|---|---|
// | bitsandbytes (NF4, INT8) | **training** (QLoRA), quick loading | 4, 8 | no | no calibration at all, any model | slower inference than packed kernels |
// | GPTQ | inference on GPUs | 2, 3, 4, 8 | yes, second order | few bits, correlated inputs | overfits thin calibration data |
// | AWQ | inference on GPUs | 4 (3) | yes, first order | hot channels; little data needed | nothing special on even inputs |
// | GGUF (K formats) | CPUs, laptops, phones | 2 to 8 | optional (importance matrix) | one file, runs anywhere | less throughput on servers |
//
// What people say of them, and what we found:
//
// | said | verdict |
// |---|---|
// | "GPTQ: about 1-2 % loss" | depends on bits and model: on our head the loss at 2 bits is twenty times that at 4 |
// | "GPTQ takes hours" | for a 175B model four GPU-hours; a 7B model takes minutes, our layer milliseconds |
// | "GPTQ requires a GPU for inference" | its fast kernels do; the format is only packed integers, as section 12 shows |
// | "AWQ keeps important weights at higher precision" | it scales them; all weights have the same bits (section 9) |
// | "AWQ has better accuracy than GPTQ at 4 bits" | on inputs with hot channels; the other way round on correlated ones (section 10) |
// | "AWQ is faster to make" | usually: 20 forward passes against a factorization a layer |
//
// ```
// Will you train it further?
// ├─ yes → bitsandbytes NF4 (QLoRA), lesson 06
// └─ no, inference only
//    ├─ on a GPU server with batches
//    │  ├─ 4 bits  → AWQ or GPTQ: measure both on your task
//    │  └─ 2-3 bits → GPTQ with act-order (and good calibration data)
//    └─ on a CPU or a laptop → GGUF, Q4_K_M to begin with, lesson 08
// ```

// %% [markdown]
// ## 14. Common mistakes
//
// | Mistake | What you see | What catches it |
// |---|---|---|
// | judging by weight error | GPTQ looks *worse* than rounding | output error, section 4 |
// | calibrating on too little, or on other text | fine on the calibration set only | held-out inputs, section 6 |
// | testing on white noise | "GPTQ does nothing" | it cannot: section 5 |
// | forgetting to divide inputs by $s$ | a broken model after AWQ | the product must be the same before rounding |
// | comparing 4 bits with groups of 32 to 4 bits without | an unfair win | bits a weight, scales counted |
// | reading `qzeros` as zero points | everything shifted by one step | zeros less one, section 12 |

// %% [markdown]
// ## 15. Now you
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
  const isLike = (value: number) =>
    Math.abs(value - answer) <= 0.005 * Math.max(1e-9, Math.abs(value));
  if (isLike(right)) return console.log(`✔ ${title}: right`);
  const slip = Object.keys(slips).find((name) => isLike(slips[name]!));
  console.log(`✘ ${title}: not yet. ${slip ?? `Got ${answer}`}`);
}

// %% [markdown]
// ### Exercise 1: the move
//
// *Easy, 3 minutes.* $H = \begin{pmatrix} 4 & 1 \\ 1 & 2 \end{pmatrix}$. Rounding moved the first weight by $+0.1$. By how much should the second move?

// %%
const myMove: number | undefined = undefined; // your answer here

// %%
judge('Exercise 1', myMove, -0.05, {
  'The sign: it has to make up for the first.': 0.05,
  'You divided by H₁₁; the second weight moves along its own curvature H₂₂.': -0.025,
});

// %% [markdown]
// <details><summary>Hint</summary>
//
// $e_2 = -e_1 H_{12} / H_{22}$.
//
// </details>
// <details><summary>Solution</summary>
//
// $-0.1 \cdot 1 / 2 = -0.05$.
//
// </details>

// %% [markdown]
// ### Exercise 2: bits with overhead
//
// *Medium, 5 minutes.* AutoGPTQ, 4 bits, groups of 128: each group of a row has a 16-bit scale and a 4-bit zero point. Bits a weight?

// %%
const myBits: number | undefined = undefined; // your answer here

// %%
judge('Exercise 2', myBits, 4 + 20 / 128, {
  'You left out the zero point.': 4 + 16 / 128,
  'You took 32-bit scales.': 4 + 36 / 128,
  'That is without any overhead.': 4,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// $4 + (16 + 4) / 128 = 4.156$. A 7B model: 6.5 billion weights in linear layers are 3.4 GB, plus embeddings in 16 bits.
//
// </details>

// %% [markdown]
// ### Exercise 3: what scaling does
//
// *Medium, 6 minutes.* In a group the largest weight is 1.0, and a hot channel has the weight 0.3. The step is proportional to the largest weight. You scale the
// hot channel by $s = 4$. By what factor does the *largest possible* rounding error of that channel change (after dividing by $s$ again)?

// %%
const myFactor: number | undefined = undefined; // your answer here

// %%
judge('Exercise 3', myFactor, 1.2 / 4, {
  'The step grew too: 0.3 · 4 = 1.2 is now the largest weight.': 0.25,
  'You forgot to divide by s.': 1.2,
});

// %% [markdown]
// <details><summary>Solution</summary>
//
// The scaled weight is 1.2, the new largest, so the step grows by 1.2; the error is divided by 4: $1.2 / 4 = 0.3$. All *other* channels of the group
// lose a fifth. That is what the search over $r$ weighs.
//
// </details>

// %% [markdown]
// ## 16. In the interview
//
// **What is the difference between GPTQ and AWQ?** *(mid)* GPTQ compensates: it rounds weight by weight and moves the rest by the inverse Hessian of the inputs.
// AWQ prevents: it scales up channels with large activations before rounding. Both need calibration inputs, neither needs gradients. Proof: sections 4 and 9.
//
// **Why does GPTQ use the inputs' second moments?** *(mid)* Because the output error is $\operatorname{tr}(\Delta H \Delta^\top)$. If inputs are independent, $H$ is diagonal
// and rounding is already best. Proof: sections 2 and 5.
//
// **You have a 70B model and one 48 GB card. What do you do?** *(senior)* 4 bits with groups of 128 are 4.16 bits: 36 GB, leaving 12 for the KV cache. AWQ and GPTQ both; measure on
// the task; calibrate on text like the task's. Below 4 bits GPTQ with act-order; watch rare languages and code.
//
// **Can you fine-tune a GPTQ model?** *(senior)* Adapters on top of it, yes; merging them back, no, not without quantizing again.
//
// Follow-ups to expect: What if H is singular? *(Dampen.)* Why is the weight error larger after GPTQ? *(Section 4.)* What is `g_idx`? *(Section 7.)*
//
// ## 17. What to try next
//
// - Scale with AWQ, then compensate with GPTQ. Does it beat both in the last row of section 10?
// - Calibrate the head on shuffled words. How much of GPTQ's gain is left?
// - Make the number of hidden causes 2, 8, 32, 64: at which does GPTQ stop to help?
//
// **Next:** lesson 08 packs a whole model into one file.

// %% [markdown]
// ## The finish line

// %%
display.table([...proven].map(([claim, evidence], i) => ({ '': `✔ ${i + 1}`, claim, evidence })));
console.log(`${proven.size} of 14 proofs hold.`);
