import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { causalLMLoss } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { following, isPlace, learntPlaces } from '../../src/train/learnt-places.ts';
import { Trainer } from '../../src/train/trainer.ts';

const folder = (name: string) => join(import.meta.dirname, '../peers/01_models', name);

describe('The places of what is learnt', () => {
  before(() => setBackend('auto'));

  it('are before each learnt token, filled up to a quarter of the length', () => {
    const row = (...learnt: number[]) => Array.from({ length: 12 }, (_, t) => learnt.includes(t));
    expect(learntPlaces([row(5, 6), row(0, 9)])).to.deep.equal([
      [4, 5, -1],
      [8, -1, -1],
    ]);
    expect(learntPlaces([row(1, 2, 3, 4), row()])?.map((list) => list.length)).to.deep.equal([
      6, 6,
    ]);
    expect(learntPlaces([row(...Array(12).keys())])).to.equal(undefined);
  });

  it('tell what follows them', () => {
    const x = tf.tensor2d(
      [
        [10, 11, 12],
        [20, 21, 22],
      ],
      undefined,
      'int32',
    );
    const places = tf.tensor2d(
      [
        [1, -1],
        [0, 1],
      ],
      undefined,
      'int32',
    );
    const [[first], rest] = following(x, places).arraySync() as [number[], number[]];
    expect([first, ...rest]).to.deep.equal([12, 21, 22]);
    expect(isPlace(places).arraySync()).to.deep.equal([
      [1, 0],
      [1, 1],
    ]);
  });

  for (const name of ['gpt2', 'llama']) {
    it(`give ${name} the logits that it has there`, () => {
      const model = loadFolder(folder(name));
      const ids = tf.tensor2d(
        [
          [5, 6, 7, 8],
          [9, 10, 11, 12],
        ],
        undefined,
        'int32',
      );
      const at = tf.tensor2d(
        [
          [0, 2],
          [3, 1],
        ],
        undefined,
        'int32',
      );
      const all = model.forward(ids).logits.arraySync();
      const some = model.forward(ids, { logitsAt: at }).logits.arraySync();
      const wanted = [
        [all[0]![0]!, all[0]![2]!],
        [all[1]![3]!, all[1]![1]!],
      ];
      expect(some.flat(2)).to.have.length(wanted.flat(2).length);
      for (const [i, value] of wanted.flat(2).entries()) {
        expect(some.flat(2)[i]).to.be.closeTo(value, 1e-5);
      }
    });
  }

  it('leave the loss and the gradient of a step as they are with a head everywhere', async () => {
    const inputIds = Array.from({ length: 24 }, (_, i) => (i * 7) % 90);
    const labels = inputIds.map((id, i) => (i >= 15 && i < 20 ? id : -100));
    const model = loadFolder(folder('llama'));
    const [ids, targets] = [inputIds, labels].map((list) =>
      tf.tensor2d([list], undefined, 'int32'),
    );
    const { value, grads } = tf.variableGrads(
      () => causalLMLoss(model.forward(ids as tf.Tensor2D).logits, targets as tf.Tensor2D),
      model.parameters(),
    );
    const squares = Object.values(grads).map((grad) => tf.sum(tf.square(grad)).dataSync()[0]!);
    const trainDataset = [{ inputIds, labels }];
    const trainer = new Trainer({ model, trainDataset, args: { maxSteps: 1 } });
    const [entry] = (await trainer.train()).logHistory;
    expect(entry!.loss).to.be.closeTo(value.dataSync()[0]!, 1e-5);
    const norm = Math.sqrt(squares.reduce((sum, square) => sum + square, 0));
    expect(entry!.gradNorm / norm).to.be.closeTo(1, 1e-5);
  });
});
