import { expect } from 'chai';
import { getScheduler } from '../../src/train/schedulers.ts';

describe('schedulers', () => {
  it('start at 0 with a warm-up, reach the rate after it and end at 0', () => {
    const lr = getScheduler('linear', { learningRate: 2, numWarmupSteps: 4, numTrainingSteps: 10 });
    expect([0, 1, 4, 7, 10, 11].map(lr)).to.deep.equal([0, 0.5, 2, 1, 0, 0]);
  });

  it('need no warm-up', () => {
    expect(getScheduler('cosine', { learningRate: 1, numTrainingSteps: 2 })(1)).to.be.closeTo(
      0.5,
      1e-12,
    );
  });

  it('say what is missing or wrong', () => {
    const make =
      (name: string, options = {}) =>
      () =>
        getScheduler(name as never, { learningRate: 1, ...options })(5);
    expect(make('linear')).to.throw('The schedule needs numTrainingSteps, got undefined');
    expect(make('cosine_with_min_lr', { numTrainingSteps: 9 })).to.throw(
      'One of minLr and minLrRate',
    );
    expect(make('polynomial', { numTrainingSteps: 9, lrEnd: 1 })).to.throw('lrEnd must be below');
    expect(make('warmup')).to.throw(/must be one of constant, .*got 'warmup'/);
  });
});
