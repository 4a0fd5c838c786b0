import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { RandomState } from '../../src/tensor/random.ts';
import { nextLossScale, roundHalf } from '../../src/train/half-precision.ts';
import { Trainer } from '../../src/train/trainer.ts';
import type { TrainingArguments } from '../../src/train/training-arguments.ts';

/** Nearest number with `bits` significant bits, ties to even, by doubles; fp16's limits besides. */
function nearest(x: number, precision: 'fp16' | 'bf16'): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  const bits = precision === 'fp16' ? 11 : 8;
  const lowest = precision === 'fp16' ? -14 : -126;
  const unit = 2 ** (Math.max(Math.floor(Math.log2(Math.abs(x))), lowest) - bits + 1);
  const scaled = x / unit;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  const up = rest > 0.5 || (rest === 0.5 && floor % 2 !== 0);
  const value = (floor + (up ? 1 : 0)) * unit;
  return precision === 'fp16' && Math.abs(value) > 65504 ? Math.sign(x) * Infinity : value;
}

const random = new RandomState(5);
const numbers = [
  ...[0, 1, -1, 65504, 65519, 65520, 70000, -1e30, Infinity, 6e-8, 2.9e-8, 3e-8, 2 ** -14],
  ...[1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 3e38, -2e31],
  ...Array.from({ length: 2000 }, () => random.normal() * 10 ** (random.uniform() * 12 - 8)),
].map(Math.fround);

describe('roundHalf', () => {
  for (const backend of ['wasm', 'auto'] as const) {
    for (const precision of ['fp16', 'bf16'] as const) {
      it(`rounds to the nearest ${precision} number, ties to even, with ${backend}`, async () => {
        await setBackend(backend);
        const round = jit((x: tf.Tensor) => roundHalf(x, precision));
        const got = await round(tf.tensor1d(numbers)).data();
        for (const [i, x] of numbers.entries()) {
          if (precision === 'bf16' && Math.abs(x) > 3.3e38) continue;
          expect(got[i], String(x)).to.equal(nearest(x, precision));
        }
      });
    }
  }

  it('rounds its gradient too', () => {
    const slope = tf.grad((x) => tf.mul(roundHalf(x, 'bf16'), 1.001))(tf.scalar(2));
    expect(slope.dataSync()[0]).to.equal(nearest(Math.fround(1.001), 'bf16'));
  });
});

describe('Mixed precision', () => {
  const path = join(import.meta.dirname, '../peers/01_models/gpt2');
  const inputIds = [5, 10, 15, 20, 25, 30];
  const make = (args: TrainingArguments) =>
    new Trainer({
      model: loadFolder(path),
      trainDataset: [{ inputIds, labels: inputIds }],
      args: { maxSteps: 5, learningRate: 1e-3, ...args },
    });
  const losses = async (args: TrainingArguments) =>
    (await make(args).train()).logHistory.map(({ loss }) => loss);

  it('stays near full precision and yet differs from it, bf16 more than fp16', async () => {
    const [full, fp16, bf16] = [
      await losses({}),
      await losses({ fp16: true }),
      await losses({ bf16: true }),
    ];
    const distance = (other: number[]) =>
      Math.max(...other.map((loss, i) => Math.abs(loss - full[i]!)));
    expect(distance(fp16)).to.be.above(0).and.below(0.01);
    expect(distance(bf16)).to.be.above(distance(fp16)).and.below(0.1);
  });

  it('halves the loss scale after an overflow, and doubles it after 2000 good steps', () => {
    const start = { scale: 1024, goodSteps: 1999 };
    expect(nextLossScale(start, false)).to.deep.equal({ scale: 512, goodSteps: 0 });
    expect(nextLossScale(start, true)).to.deep.equal({ scale: 2048, goodSteps: 0 });
    expect(nextLossScale({ scale: 4, goodSteps: 3 }, true)).to.deep.equal({
      scale: 4,
      goodSteps: 4,
    });
  });

  it('skips steps whose gradients overflow until the scale fits', async () => {
    const trainer = make({ fp16: true, maxSteps: 12 });
    trainer.state.lossScale.scale = 2 ** 24;
    const { logHistory, optimizerSteps, lossScale } = await trainer.train();
    const skipped = logHistory.filter((entry) => entry.skipped).length;
    expect(skipped).to.be.above(0);
    expect(optimizerSteps).to.equal(12 - skipped);
    expect(lossScale.scale).to.equal(2 ** (24 - skipped));
    expect(logHistory.at(-1)!.loss).to.be.below(logHistory[0]!.loss);
  });
});
