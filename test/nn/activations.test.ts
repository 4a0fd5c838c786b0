import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { getActivation } from '../../src/nn/activations.ts';

const path = join(import.meta.dirname, '../peers/activations/activations.json');
const { x, values } = JSON.parse(readFileSync(path, 'utf8')) as {
  x: number[];
  values: Record<string, number[]>;
};

describe('activations', () => {
  before(() => setBackend('wasm'));

  for (const [name, expected] of Object.entries(values)) {
    it(`computes ${name} as transformers does`, () => {
      const actual = getActivation(name)(tf.tensor1d(x)).dataSync();
      for (const [i, value] of expected.entries()) expect(actual[i]).to.be.closeTo(value, 2e-6);
    });
  }

  it('names what it knows when asked for another', () => {
    expect(() => getActivation('swiglu')).to.throw(/must be one of silu, .*, got 'swiglu'/);
    expect(() => getActivation('constructor')).to.throw(RangeError);
  });
});
