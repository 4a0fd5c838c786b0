import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { Linear } from '../../src/nn/linear.ts';
import { rowNorms } from '../../src/peft/dora.ts';
import type { LoraLinear } from '../../src/peft/lora.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { type InitLoraWeights, initLinear } from '../../src/peft/lora-init.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { dequantize4bit, quantize4bit } from '../../src/quant/four-bit.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';
import { singularValues } from '../../src/tensor/svd.ts';

const numbers = (run: () => tf.Tensor) => tf.tidy(() => Array.from(run().dataSync()));
const norm = (run: () => tf.Tensor) => Math.hypot(...numbers(run));
const layer = () => {
  const random = new RandomState(2);
  return new Linear(24, 16, { init: (shape) => randomNormal(shape, random) });
};
const draw = (init: InitLoraWeights, loftq = {}) => ({
  random: new RandomState(1),
  init,
  loftq,
});
const sizes = (r: number, scaling = 1) => ({ r, scaling, dropout: 0, salt: 0 });

describe('First values of LoRA', () => {
  before(() => setBackend('wasm'));

  it('are uniform within 1/sqrt(in) in A and zero in B', () => {
    const { a, b } = initLinear(layer(), sizes(8), draw(true));
    const values = a.dataSync();
    const bound = 24 ** -0.5;
    expect(Math.max(...values)).to.be.within(0.9 * bound, bound);
    expect(Math.min(...values)).to.be.within(-bound, -0.9 * bound);
    expect(Math.max(...b.dataSync())).to.equal(0);
  });

  it('are Gaussian with deviation 1/r on demand, and random in B where the update is to count', () => {
    const { a } = initLinear(new Linear(2000, 4), sizes(4), draw('gaussian'));
    expect(norm(() => a) / Math.sqrt(a.size)).to.be.closeTo(0.25, 0.01);
    expect(norm(() => initLinear(layer(), sizes(8), draw(false)).b)).to.be.above(1);
  });

  it('take the largest singular values out of the weight with PiSSA', () => {
    const linear = layer();
    const { a, b, weight } = initLinear(linear, sizes(3, 2), draw('pissa'));
    const all = singularValues(linear.weight as tf.Tensor2D);
    const rest = singularValues(weight as tf.Tensor2D);
    for (const [i, value] of all.slice(3).entries()) expect(rest[i]).to.be.closeTo(value, 1e-4);
    const back = () => tf.sub(tf.add(weight!, tf.mul(tf.matMul(b, a), 2)), linear.weight);
    expect(norm(back)).to.be.below(1e-4);
  });

  it('come near to those singular values by power iterations with pissa_niter_N', () => {
    const linear = layer();
    const parts = (init: 'pissa' | 'pissa_niter_16') => {
      const { a, b } = initLinear(linear, sizes(3), draw(init));
      return tf.matMul(b, a) as tf.Tensor2D;
    };
    const [exact, near] = [parts('pissa'), parts('pissa_niter_16')];
    expect(norm(() => tf.sub(exact, near)) / norm(() => exact)).to.be.below(0.05);
  });

  it('bring the quantized weight nearer to the weight with LoftQ, the more often the nearer', () => {
    const linear = layer();
    const error = (loftqIter: number, loftqBits = 4) => {
      const { a, b, weight } = initLinear(
        linear,
        sizes(4),
        draw('loftq', { loftqIter, loftqBits }),
      );
      return norm(() => tf.sub(tf.add(weight!, tf.matMul(b, a)), linear.weight));
    };
    const { packed, quantState } = quantize4bit(linear.weight, { quantType: 'nf4' });
    const plain = norm(() => tf.sub(dequantize4bit(packed, quantState), linear.weight));
    expect(error(1)).to.be.below(0.95 * plain);
    expect(error(5)).to.be.below(error(1));
    expect(error(1, 8)).to.be.below(0.2 * error(1));
  });

  it('name what LoftQ and PiSSA can not do', () => {
    expect(() => initLinear(layer(), sizes(4), draw('loftq', { loftqBits: 3 }))).to.throw(
      'loftqBits must be 4 or 8, got 3',
    );
    expect(() => initLinear(layer(), sizes(17), draw('pissa'))).to.throw(
      'r must be at most 16 for a weight [16,24], got 17',
    );
  });

  it('measure rows of W + s B A for DoRA without making it', () => {
    const random = new RandomState(3);
    const [w, a, b] = [
      [16, 24],
      [3, 24],
      [16, 3],
    ].map((shape) => randomNormal(shape, random));
    const made = numbers(() => rowNorms(w!, a!, b!, 0.7));
    const known = numbers(() => {
      const whole = tf.add(w!, tf.mul(tf.matMul(b!, a!), 0.7));
      return tf.sqrt(tf.sum(tf.square(whole), 1));
    });
    for (const [i, value] of known.entries()) expect(made[i]).to.be.closeTo(value, 1e-4);
  });

  it('follow patterns of ranks and alphas', () => {
    const folder = join(import.meta.dirname, '../peers/01_models/gpt2');
    const config = new LoraConfig({
      r: 8,
      loraAlpha: 16,
      targetModules: ['c_attn', 'c_proj'],
      rankPattern: { 'mlp.c_proj': 2, '^transformer.h.1.attn.c_proj': 3 },
      alphaPattern: { 'h.0.attn.c_proj': 4 },
      useRslora: true,
    });
    const model = getPeftModel(loadFolder(folder), config);
    const found = [...model.layers].map(([path, tuner]) => {
      const { numbers: own } = tuner.adapters.get('default') as LoraLinear;
      return [path, own.r, Number((own.scaling * Math.sqrt(own.r)).toFixed(6))];
    });
    expect(found).to.deep.include(['transformer.h.0.mlp.c_proj', 2, 16]);
    expect(found).to.deep.include(['transformer.h.1.attn.c_proj', 3, 16]);
    expect(found).to.deep.include(['transformer.h.0.attn.c_proj', 8, 4]);
    expect(found).to.have.length(6);
  });
});
