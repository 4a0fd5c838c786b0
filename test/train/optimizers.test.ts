import { readFileSync } from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { AdamW, SGD } from '../../src/train/optimizers.ts';

interface PeerCase {
  kind: 'AdamW' | 'SGD';
  options: Record<string, number>;
  groups: Record<string, number>[] | null;
  after: number[][][];
}

// Made by test/peers/optimizers.py.
const peer = JSON.parse(
  readFileSync(new URL('../peers/optimizers.json', import.meta.url), 'utf8'),
) as { shapes: number[][]; start: number[][]; grads: number[][][]; cases: PeerCase[] };

const camel = (options: Record<string, number>) =>
  Object.fromEntries(
    Object.entries(options).map(([k, v]) => [k.replace(/_(.)/g, (_, c) => c.toUpperCase()), v]),
  );

function optimizerOf({ kind, options, groups }: PeerCase): AdamW | SGD {
  const params = peer.start.map((values, i) => tf.variable(tf.tensor(values, peer.shapes[i])));
  const given = groups ? params.map((p, i) => ({ params: [p], ...camel(groups[i]!) })) : params;
  return kind === 'AdamW' ? new AdamW(given, camel(options)) : new SGD(given, camel(options));
}

function expectClose(params: tf.Variable[], wanted: number[][]): void {
  for (const [i, param] of params.entries()) {
    for (const [j, value] of [...param.dataSync()].entries()) {
      expect(value).to.be.closeTo(wanted[i]![j]!, 1e-6 + 1e-6 * Math.abs(wanted[i]![j]!));
    }
  }
}

describe('Optimizers', () => {
  before(() => setBackend('auto'));

  for (const [number, peerCase] of peer.cases.entries()) {
    it(`take the steps of torch's ${peerCase.kind}, case ${number}`, () => {
      const optimizer = optimizerOf(peerCase);
      for (const [t, grads] of peer.grads.entries()) {
        const tensors = grads.map((values, i) => tf.tensor(values, peer.shapes[i]));
        optimizer.step(tensors);
        expectClose(optimizer.params, peerCase.after[t]!);
      }
    });
  }

  it('take the same AdamW steps inside a compiled function, compiled once', async () => {
    const peerCase = peer.cases[0]!;
    const optimizer = optimizerOf(peerCase) as AdamW;
    const step = jit((grads: tf.Tensor[], numbers: ReturnType<AdamW['numbers']>) =>
      optimizer.apply(grads, numbers),
    );
    for (const grads of peer.grads) {
      step(
        grads.map((values, i) => tf.tensor(values, peer.shapes[i])),
        optimizer.numbers(),
      );
    }
    expectClose(optimizer.params, peerCase.after.at(-1)!);
    expect(step.fallback).to.equal(undefined);
    expect(step.compilations).to.be.at.most(1);
    step.dispose();
  });

  it('begin anew after a reset, with the step that was compiled before', async () => {
    const peerCase = peer.cases[0]!;
    const optimizer = optimizerOf(peerCase) as AdamW;
    const step = jit((grads: tf.Tensor[], numbers: ReturnType<AdamW['numbers']>) =>
      optimizer.apply(grads, numbers),
    );
    for (let run = 0; run < 2; run++) {
      optimizer.reset();
      for (const [i, param] of optimizer.params.entries()) {
        param.assign(tf.tensor(peer.start[i]!, peer.shapes[i]));
      }
      for (const grads of peer.grads) {
        step(
          grads.map((values, i) => tf.tensor(values, peer.shapes[i])),
          optimizer.numbers(),
        );
      }
      expectClose(optimizer.params, peerCase.after.at(-1)!);
    }
    expect(step.compilations).to.be.at.most(1);
    step.dispose();
  });

  it('refuse settings out of range, no parameter, and a wrong number of gradients', () => {
    const param = tf.variable(tf.zeros([1]));
    expect(() => new AdamW([param], { lr: -1 })).to.throw('The lr must be at least 0, got -1');
    expect(() => new AdamW([param], { betas: [1, 0.9] })).to.throw(
      'The betas must be at least 0 and below 1, got 1',
    );
    expect(() => new AdamW([])).to.throw('at least one parameter');
    expect(() => new AdamW([param, param])).to.throw('got one twice');
    const optimizer = new AdamW([param]);
    expect(() => optimizer.step([])).to.throw('A step needs 1 gradients, got 0');
    expect(optimizer.stepCount).to.equal(0);
  });
});
