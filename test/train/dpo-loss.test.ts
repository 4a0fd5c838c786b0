import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { type DPOLossOptions, dpoLoss } from '../../src/train/dpo-loss.ts';
import { ktoLoss } from '../../src/train/kto-loss.ts';
import { orpoLoss } from '../../src/train/orpo-loss.ts';

// Losses under TRL's names are compared with TRL in the golden case 06_dpo_loss.
describe('losses of preferences', () => {
  before(() => setBackend('wasm'));

  const start = (options: DPOLossOptions = {}) => {
    const same = tf.tensor1d([-3, -5]);
    const lengths = tf.tensor1d([2, 4]);
    return dpoLoss(
      {
        chosen: same,
        rejected: same,
        refChosen: same,
        refRejected: same,
        chosenLengths: lengths,
        rejectedLengths: lengths,
      },
      options,
    );
  };

  it('start at ln 2 with no margin, where policy and reference agree', () => {
    const { loss, margin } = start();
    expect(loss.dataSync()[0]).to.be.closeTo(Math.LN2, 1e-6);
    expect(margin.dataSync()[0]).to.equal(0);
  });

  it('of ipo start at 1 / (2 beta) squared', () => {
    expect(start({ lossType: 'ipo', beta: 0.2 }).loss.dataSync()[0]).to.be.closeTo(6.25, 1e-5);
  });

  it('refuse what TRL would refuse', () => {
    expect(() => start({ lossType: 'dpo' as never })).to.throw(/must be one of sigmoid.*got 'dpo'/);
    expect(() => start({ beta: 0 })).to.throw('beta must be above 0, got 0');
    expect(() => start({ lossType: 'exo_pair' })).to.throw('above 0 for exo_pair, got 0');
  });

  it('of KTO and ORPO are what the formulas give in torch', () => {
    const ratios = tf.tensor1d([0.5, -1, 2, 0.25]);
    const mismatched = tf.tensor1d([0.5, 0.2, -0.1, 1]);
    const kto = ktoLoss(ratios, tf.tensor1d([1, 0, 0, 1]), mismatched, {
      beta: 0.3,
      undesirableWeight: 2,
    });
    expect(kto.dataSync()[0]).to.be.closeTo(0.7580695152282715, 1e-6);
    const chosen = tf.tensor1d([-0.5, -1.25, -2]);
    const rejected = tf.tensor1d([-0.75, -0.5, -3]);
    const orpo = orpoLoss(chosen, rejected, tf.scalar(1.5), { beta: 0.2 });
    expect(orpo.dataSync()[0]).to.be.closeTo(1.6548893451690674, 1e-6);
  });
});
