import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { histogram, histogramChart } from '../../src/eval/histogram.ts';
import { benchLayer, benchModel, paretoRows, quantChart } from '../../src/eval/quant-bench.ts';
import {
  awqMethod,
  dynamic8Method,
  fourBitMethod,
  ggufMethod,
  gptqMethod,
  halfMethod,
  hqqMethod,
  integerMethod,
  llmInt8Method,
} from '../../src/eval/quant-methods.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { llamaConfig } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { pseudoQuantize } from '../../src/quant/awq.ts';
import { packAwq } from '../../src/quant/awq-pack.ts';
import { pack4bit } from '../../src/quant/four-bit.ts';
import { quantizeGptq } from '../../src/quant/gptq.ts';
import { GptqHessian } from '../../src/quant/gptq-hessian.ts';
import { packGptq } from '../../src/quant/gptq-pack.ts';
import { integerBytes, quantizeInteger } from '../../src/quant/integer.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const shape: [number, number] = [64, 256];
const normal = (size: [number, number], seed: number) =>
  randomNormal<tf.Rank.R2>(size, new RandomState(seed));
const sum = (parts: object) =>
  Object.values(parts).reduce((all, { data }) => all + data.byteLength, 0);

describe('the quantization bench', () => {
  before(() => setBackend('auto'));

  it('counts the bytes that packed tensors take', () => {
    const w = normal(shape, 1);
    const values = w.dataSync() as Float32Array;
    for (const scheme of ['absmax', 'zeropoint'] as const) {
      for (const granularity of ['tensor', 'channel', 64] as const) {
        const options = { bits: 4, scheme, granularity };
        const packed = quantizeInteger(values, shape, options);
        expect(integerMethod(options).bytes(shape)).to.equal(integerBytes(packed));
      }
    }
    for (const compressStatistics of [false, true]) {
      const { packed, quantState } = pack4bit(values, shape, { compressStatistics });
      const bytes = fourBitMethod('fp4', { compressStatistics }).bytes(shape);
      expect(bytes).to.equal(packed.length + quantState.bytes);
    }
    const hessian = new GptqHessian(256);
    hessian.addBatch(normal([300, 256], 2));
    for (const bits of [3, 4]) {
      const gptq = packGptq(quantizeGptq(w, hessian, { bits, groupSize: 64 }));
      expect(gptqMethod({ bits, groupSize: 64 }).bytes(shape)).to.equal(sum(gptq));
    }
    const awq = packAwq(pseudoQuantize(values, shape, { groupSize: 64 }));
    expect(awqMethod({ groupSize: 64 }).bytes(shape)).to.equal(sum(awq));
    expect(ggufMethod('q4_k').bytes(shape)).to.equal((64 * 256 * 4.5) / 8);
    expect(dynamic8Method().bytes(shape)).to.equal(64 * 256 + 4 * 4);
    expect(llmInt8Method().bytes(shape)).to.equal(64 * 256 + 64 * 4);
    expect(hqqMethod().bytes(shape)).to.equal((64 * 256 * 4.5) / 8);
  });

  it('measures errors of weights and outputs of a layer', () => {
    const [w, x] = [normal(shape, 3), normal([128, 256], 4)];
    const half = { ...halfMethod(), round: (v: Float32Array) => v.map((a) => a / 2) };
    const [exact, halved] = benchLayer(w, [{ ...half, round: (v) => v }, half], { inputs: x });
    expect([exact!.weightError, exact!.outputError]).to.deep.equal([0, 0]);
    expect(halved!.weightError).to.be.closeTo(0.5, 1e-6);
    expect(halved!.outputError).to.be.closeTo(0.5, 1e-6);
    expect(benchLayer(w, [half])[0]!.outputError).to.equal(undefined);
  });

  it('orders formats as more bits and better levels should, for each seed', () => {
    for (const seed of [5, 6, 7]) {
      const methods = [
        integerMethod({ bits: 8 }),
        fourBitMethod('nf4'),
        fourBitMethod('fp4'),
        integerMethod({ bits: 4, granularity: 64 }),
        integerMethod({ bits: 2, granularity: 64 }),
      ];
      const [int8, nf4, fp4, int4, int2] = benchLayer(normal(shape, seed), methods).map(
        ({ weightError }) => weightError,
      ) as [number, number, number, number, number];
      expect(int8).to.be.below(nf4 / 5);
      expect(nf4).to.be.below(int4 * 0.97);
      expect(nf4).to.be.below(fp4 * 0.9);
      expect(int4).to.be.below(int2 / 3);
    }
  });

  it('benches a model and leaves it as it was', () => {
    const draws = new RandomState(8);
    const model = fromConfig(
      llamaConfig({
        ...{ vocabSize: 40, hiddenSize: 64, intermediateSize: 128, numHiddenLayers: 1 },
        ...{ numAttentionHeads: 2, maxPositionEmbeddings: 32 },
      }),
      { init: (size) => randomNormal(size, draws, { std: 0.2 }) },
    );
    const ids = tf.tensor2d([[1, 5, 9, 2, 7, 3, 11, 8]], undefined, 'int32');
    const logits = () => tf.tidy(() => model.forward(ids).logits.dataSync());
    const before = logits();
    const count = tf.memory().numTensors;
    const methods = [
      halfMethod(),
      integerMethod({ activationBits: 8 }),
      llmInt8Method(),
      gptqMethod({ groupSize: 64 }),
      awqMethod({ groupSize: 64 }),
    ];
    const rows = benchModel(model, methods, { calibration: ids, test: ids });
    expect(tf.memory().numTensors).to.equal(count);
    expect(logits()).to.deep.equal(before);
    expect(rows.map(({ outputError }) => outputError! < 0.2)).to.deep.equal(Array(5).fill(true));
    expect(Math.abs(rows[0]!.addedLoss)).to.be.below(1e-3);
    expect(rows[0]!.divergence).to.be.within(-1e-6, 1e-5);
    expect(Math.min(...rows.slice(1).map(({ divergence }) => divergence))).to.be.above(1e-5);
    expect(rows[3]!.perplexity).to.be.closeTo(Math.exp(rows[3]!.loss), 1e-9);
    const chart = quantChart(rows, { title: 't', y: 'e', error: (row) => row.weightError });
    expect(chart.data).to.have.length(6);
  });

  it('finds the rows that no other beats', () => {
    const row = (bitsPerWeight: number, weightError: number) => ({
      ...{ method: 'm', bits: 4, group: 0, outputError: undefined, milliseconds: 0 },
      ...{ bitsPerWeight, weightError },
    });
    const [a, b, c, d] = [row(2, 9), row(4, 3), row(4.5, 3.5), row(8, 1)];
    expect(paretoRows([d!, c!, b!, a!], (one) => one.weightError)).to.deep.equal([a, b, d]);
  });
});

describe('histogram', () => {
  it('gives the shares of equal bins', () => {
    expect(histogram([0, 0.5, 1, 3.9, 4], { bins: 4 })).to.deep.equal({
      middles: [0.5, 1.5, 2.5, 3.5],
      shares: [0.4, 0.2, 0, 0.4],
    });
    expect(histogram([1, 9], { bins: 2, range: [0, 4] }).shares).to.deep.equal([0.5, 0]);
    expect(histogram([2, 2], { bins: 2 }).shares).to.deep.equal([1, 0]);
    const chart = histogramChart({ title: 't', x: 'w', series: [{ name: 'a', values: [1, 2] }] });
    expect(chart.text).to.include('share of the numbers');
    expect(() => histogram([])).to.throw('needs numbers');
    expect(() => histogram([Number.NaN])).to.throw('finite');
  });
});
