import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { Linear, linear } from '../../src/nn/linear.ts';
import { Module } from '../../src/nn/module.ts';
import {
  BitsAndBytesConfig,
  getMemoryFootprint,
  prepareModelForKbitTraining,
  quantizeModel,
} from '../../src/quant/bnb-config.ts';
import { Linear4bit } from '../../src/quant/linear-4bit.ts';
import { Linear8bitLt } from '../../src/quant/linear-8bit.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

/** The largest difference between two tensors. */
const apart = (a: tf.Tensor, b: tf.Tensor) =>
  tf.tidy(() => tf.max(tf.abs(tf.sub(a, b))).dataSync()[0]!);

class Net extends Module {
  readonly first = new Linear(64, 40);
  readonly lmHead = new Linear(40, 8, { bias: false });
}

describe('quantized linear layers', () => {
  before(() => setBackend('auto'));

  const cases = [
    { shape: [40, 64], compressStatistics: false },
    { shape: [40, 64], compressStatistics: true },
    { shape: [7, 30], compressStatistics: true },
    { shape: [3, 33], compressStatistics: false },
  ] as { shape: [number, number]; compressStatistics: boolean }[];

  for (const { shape, compressStatistics } of cases) {
    it(`multiplies by dequantized weights, eagerly and compiled, ${shape} ${compressStatistics}`, () => {
      const weight = randomNormal<tf.Rank.R2>(shape, new RandomState(3));
      const bias = tf.variable(tf.ones([shape[0]]));
      const layer = Linear4bit.fromWeight(weight, bias, { quantType: 'nf4', compressStatistics });
      const x = randomNormal<tf.Rank.R3>([2, 3, shape[1]], new RandomState(4));
      const plain = layer.dequantize();
      const loss = (y: tf.Tensor) => tf.sum(tf.square(y)).asScalar();
      const wanted = tf.grad((input) => loss(linear(input, plain, bias)))(x);
      const step = (input: tf.Tensor) => ({
        y: layer.forward(input),
        dx: tf.grad((inner) => loss(layer.forward(inner)))(input),
      });
      const compiled = jit(step);
      for (const { y, dx } of [step(x), compiled(x)]) {
        expect(apart(y, linear(x, plain, bias))).to.be.below(1e-4);
        expect(apart(dx, wanted)).to.be.below(1e-2);
      }
      expect(compiled.fallback).to.equal(undefined);
      expect(apart(jit(() => layer.dequantize())(), plain)).to.be.below(1e-6);
      expect(layer.state().quantState.shape).to.deep.equal(shape);
    });
  }

  it('multiplies in int8, with columns of outliers apart', () => {
    const weight = randomNormal<tf.Rank.R2>([24, 32], new RandomState(5));
    const x = tf.tidy(() => {
      const spike = tf.oneHot(tf.fill([6], 9, 'int32'), 32).mul(20);
      return tf.add(randomNormal<tf.Rank.R2>([6, 32], new RandomState(6)), spike);
    });
    const exact = linear(x, weight);
    const errors = [0, 6].map((threshold) => {
      const layer = new Linear8bitLt(weight, undefined, { threshold });
      const compiled = jit((input: tf.Tensor) => layer.forward(input));
      const y = layer.forward(x);
      expect(apart(compiled(x), y)).to.be.below(1e-4);
      return apart(y, exact);
    });
    expect(errors[1]).to.be.below(errors[0]! / 2);
    // 32 products, each at most |x| max|w| / 254 + |w| max|x| / 254 away.
    expect(errors[1]).to.be.below(0.6);
  });

  it('keeps the base packed: 4.5 bits a weight, about 4.13 with double quantization', () => {
    const weight = randomNormal<tf.Rank.R2>([256, 512], new RandomState(7));
    const bits = [false, true].map((compressStatistics) => {
      const layer = Linear4bit.fromWeight(weight, undefined, { compressStatistics });
      return (layer.bytes * 8) / weight.size;
    });
    expect(bits[0]).to.equal(4.5);
    expect(bits[1]).to.be.closeTo(4.127, 0.001);
  });

  it('replaces the linear layers of a model but for its head, and freezes the rest', () => {
    const model = new Net();
    expect(() => prepareModelForKbitTraining(model)).to.throw('quantized before');
    const before = getMemoryFootprint(model);
    const config = new BitsAndBytesConfig({ loadIn4bit: true, bnb4bitQuantType: 'nf4' });
    prepareModelForKbitTraining(quantizeModel(model, config));
    expect(model.first).to.be.instanceOf(Linear4bit);
    expect(model.lmHead).to.be.instanceOf(Linear);
    expect(model.parameters().some(({ trainable }) => trainable)).to.equal(false);
    expect(before - getMemoryFootprint(model)).to.equal(64 * 40 * (4 - 4.5 / 8));
    expect([...model.namedParameters()].map(([name]) => name)).to.deep.equal([
      ...['first.bias', 'lm_head.weight'],
    ]);
  });

  it('refuses configs that ask for both or neither', () => {
    expect(() => new BitsAndBytesConfig({})).to.throw('one of loadIn4bit and loadIn8bit');
    expect(() => new BitsAndBytesConfig({ loadIn4bit: true, loadIn8bit: true })).to.throw('one of');
    const wrong = { loadIn4bit: true, bnb4bitQuantType: 'int4' as 'nf4' };
    expect(() => new BitsAndBytesConfig(wrong)).to.throw("'nf4' or 'fp4', got 'int4'");
    expect(() => Linear4bit.fromWeight(tf.ones([4]))).to.throw('2 dimensions');
  });
});
