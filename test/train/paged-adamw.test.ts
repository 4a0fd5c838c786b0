import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { dequantizeBlockwise } from '../../src/quant/blockwise.ts';
import { createDynamicMap } from '../../src/quant/codebook.ts';
import { RandomState } from '../../src/tensor/random.ts';
import { loadFile } from '../../src/tensor/safetensors.ts';
import { AdamW } from '../../src/train/optimizers.ts';
import { PagedAdamW, type PagedAdamWOptions } from '../../src/train/paged-adamw.ts';

interface PeerCase {
  bits: 8 | 32;
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
}

// Made by test/peers/paged_adamw.py with bitsandbytes' CPU backend.
const file = (ending: string) => join(import.meta.dirname, `../peers/paged-adamw.${ending}`);
const peer = JSON.parse(readFileSync(file('json'), 'utf8')) as {
  seed: number;
  shapes: number[][];
  steps: number;
  cases: PeerCase[];
};
const tensors = loadFile(file('safetensors'));
const wanted = (key: string) => tensors.get(key)!.data as Float32Array & Uint8Array;

const random = new RandomState(peer.seed);
const draw = (shape: number[], size: number) =>
  Float32Array.from({ length: tf.util.sizeFromShape(shape) }, () => random.normal() * size);
const start = peer.shapes.map((shape) => draw(shape, 1));
const grads = Array.from({ length: peer.steps }, (_, t) =>
  peer.shapes.map((shape) => draw(shape, 0.1 ** (t % 3))),
);
for (const step of grads) step[0]!.fill(0, 256, 512);

const variables = () => start.map((values, i) => tf.variable(tf.tensor(values, peer.shapes[i])));
const asTensors = (step: Float32Array[]) =>
  step.map((values, i) => tf.tensor(values, peer.shapes[i]));
const furthest = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0);

function optimizerOf({ bits, weight_decay: weightDecay, ...rest }: PeerCase, pages = {}) {
  const options: PagedAdamWOptions = { optimBits: bits, weightDecay, ...rest, ...pages };
  return new PagedAdamW(variables(), options);
}

describe('PagedAdamW', () => {
  before(() => setBackend('auto'));

  for (const [n, peerCase] of peer.cases.entries()) {
    it(`takes bitsandbytes' steps with averages in ${peerCase.bits} bits, case ${n}`, () => {
      const optimizer = optimizerOf(peerCase);
      for (const [t, step] of grads.entries()) {
        optimizer.step(asTensors(step));
        for (const [i, param] of optimizer.params.entries()) {
          expect(furthest(param.dataSync(), wanted(`${n}.step${t}.param.${i}`))).to.be.below(1e-6);
        }
      }
      const states = optimizer.stateTensors();
      if (peerCase.bits === 8) {
        for (const name of ['state1.0', 'state2.0']) {
          expect(states.get(name)!.data.slice(0, 4400)).to.deep.equal(wanted(`${n}.${name}`));
        }
        for (const name of ['absmax1.0', 'absmax2.0']) {
          const scales = states.get(name)!.data as Float32Array;
          expect(furthest(scales, wanted(`${n}.${name}`))).to.be.below(2e-7);
        }
      }
      optimizer.dispose();
    });
  }

  it('gives the same numbers whatever the budget, and moves pages where it is small', () => {
    const last = (pages: object) => {
      const optimizer = optimizerOf(peer.cases[1]!, { pageBytes: 2080, ...pages });
      for (const step of grads) optimizer.step(asTensors(step));
      const { statistics } = optimizer;
      const values = optimizer.params.map((param) => Array.from(param.dataSync()));
      const state = optimizer.stateTensors();
      optimizer.dispose();
      return { values, statistics, state };
    };
    const whole = last({});
    const paged = last({ budget: 4 * 2080 });
    expect(paged.values).to.deep.equal(whole.values);
    expect([...paged.state]).to.deep.equal([...whole.state]);
    // 18 blocks of 520 bytes and 4 of 2048 make 5 + 4 pages; each step after the first finds 4 of them.
    expect(whole.statistics).to.include({ pages: 9, faults: 9, pagesIn: 0, pagesOut: 0 });
    expect(paged.statistics).to.include({ residentPages: 4, faults: 9 + 5 * 5, pagesIn: 5 * 5 });
  });

  it('keeps 8-bit averages in a quarter of the bytes, near those in 32 bits', () => {
    const [eight, thirtyTwo] = [8, 32].map((optimBits) => {
      const param = tf.variable(tf.tensor(start[0]!));
      const optimizer = new PagedAdamW([param], { optimBits: optimBits as 8 });
      for (const step of grads) optimizer.step([tf.tensor(step[0]!)]);
      return optimizer;
    });
    expect(eight!.stateBytes / thirtyTwo!.stateBytes).to.be.closeTo((2 + 8 / 256) / 8, 1e-6);
    const state = eight!.stateTensors();
    const unpacked = dequantizeBlockwise(
      {
        codes: state.get('state2.0')!.data as Uint8Array,
        absmax: state.get('absmax2.0')!.data as Float32Array,
      },
      { code: createDynamicMap(false), blocksize: 256 },
    );
    const exact = thirtyTwo!.stateTensors().get('state2.0')!.data as Float32Array;
    // A dynamic map's widest step is 1/64 of absmax, and each of 6 steps adds half of it at most.
    const absmax = Math.max(...exact);
    expect(furthest(unpacked, exact)).to.be.below((6 * absmax) / 128);
    expect(furthest(unpacked, exact)).to.be.above(0);
  });

  it("takes torch's steps in 32 bits", () => {
    const [param, other] = [variables()[0]!, variables()[0]!];
    const options = { lr: 0.01, weightDecay: 0.1 };
    const paged = new PagedAdamW([param], { ...options, optimBits: 32 });
    const plain = new AdamW([other], options);
    for (const step of grads) {
      paged.step([tf.tensor(step[0]!)]);
      plain.step([tf.tensor(step[0]!)]);
    }
    expect(furthest(param.dataSync(), other.dataSync())).to.be.below(1e-5);
  });

  it('goes on from a saved state as if it had never stopped', () => {
    const peerCase = peer.cases[0]!;
    const [first, second] = [optimizerOf(peerCase), optimizerOf(peerCase, { budget: 65536 })];
    for (const step of grads.slice(0, 3)) first.step(asTensors(step));
    second.loadState(first.stateTensors(), 3);
    for (const [i, param] of second.params.entries()) param.assign(first.params[i]!);
    for (const step of grads.slice(3)) {
      first.step(asTensors(step));
      second.step(asTensors(step));
    }
    for (const [i, param] of second.params.entries()) {
      expect(Array.from(param.dataSync())).to.deep.equal(Array.from(first.params[i]!.dataSync()));
    }
    expect(() => second.loadState(new Map(), 0)).to.throw("The optimizer's state1.0 must have");
  });

  it('refuses other bits and a wrong number of gradients', () => {
    const wrong = { optimBits: 4 } as unknown as PagedAdamWOptions;
    expect(() => new PagedAdamW(variables(), wrong)).to.throw('optimBits must be 8 or 32, got 4');
    const optimizer = new PagedAdamW(variables());
    expect(() => optimizer.step([])).to.throw('A step needs 2 gradients, got 0');
    expect(optimizer.stepCount).to.equal(0);
  });
});
