import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { setBackend } from '../../src/jit/backend.ts';
import { llamaConfig } from '../../src/models/config.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { AdapterCache } from '../../src/peft/adapter-cache.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel, PeftModel } from '../../src/peft/peft-model.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const config = llamaConfig({
  vocabSize: 20,
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 2,
  numAttentionHeads: 2,
});
/** q_proj and v_proj of two layers, rank 2. */
const BYTES = 4 * 2 * 2 * 2 * (16 + 16);

describe('AdapterCache', () => {
  let root: string;
  const folders = new Map<string, string>();
  const expected = new Map<string, number[]>();

  const base = () => fromConfig(config);
  const outputs = (model: PeftModel) =>
    tf.tidy(() => {
      const ids = tf.tensor2d([[3, 7, 1]], undefined, 'int32');
      return Array.from(model.forward(ids).logits.dataSync());
    });
  const cached = (maxBytes?: number) => {
    const model = new PeftModel(base()) as unknown as PeftModel;
    return { model, cache: new AdapterCache(model, folders, maxBytes ? { maxBytes } : {}) };
  };

  before(async () => {
    await setBackend('wasm');
    root = mkdtempSync(join(tmpdir(), 'peftlab-'));
    for (const [seed, name] of ['a', 'b', 'c', 'd'].entries()) {
      const model = getPeftModel(base(), new LoraConfig({ r: 2 })) as unknown as PeftModel;
      const random = new RandomState(seed);
      for (const tensor of model.getAdapterState().values()) {
        tf.tidy(() => (tensor as tf.Variable).assign(randomNormal(tensor.shape, random)));
      }
      folders.set(name, join(root, name));
      model.savePretrained(join(root, name));
      expected.set(name, outputs(model));
      model.dispose();
    }
  });

  after(() => rmSync(root, { recursive: true }));

  it('switches to the adapter that is asked for, in memory or not', () => {
    const { model, cache } = cached(2 * BYTES);
    for (const name of ['a', 'b', 'a', 'c', 'b', 'd', 'a']) {
      cache.use(name);
      expect(outputs(model), name).to.deep.equal(expected.get(name));
      expect(cache.bytes).to.be.at.most(2 * BYTES);
    }
  });

  it('lets go of the one that was not used for longest', () => {
    const { cache } = cached(3 * BYTES);
    for (const name of ['a', 'b', 'c', 'a', 'd']) cache.use(name);
    expect(cache.residents).to.deep.equal(['c', 'a', 'd']);
    const { hits, misses, evictions } = cache.statistics;
    expect([hits, misses, evictions]).to.deep.equal([1, 4, 1]);
  });

  it('frees what it lets go of', () => {
    const { cache } = cached(BYTES);
    cache.use('a');
    const before = tf.memory();
    for (const name of ['b', 'c', 'd', 'b', 'a']) cache.use(name);
    const { numTensors, numBytes } = tf.memory();
    expect([numTensors, numBytes]).to.deep.equal([before.numTensors, before.numBytes]);
  });

  it('keeps the adapters of one batch together', () => {
    const { model, cache } = cached(2 * BYTES);
    for (const name of ['a', 'b']) cache.use(name);
    cache.ensure(['c', 'b']);
    expect(cache.residents).to.deep.equal(['c', 'b']);
    const ids = tf.tensor2d(
      [
        [3, 7, 1],
        [3, 7, 1],
      ],
      undefined,
      'int32',
    );
    const rows = model.forward(ids, { adapterNames: ['b', 'c'] }).logits.dataSync();
    const wanted = [...expected.get('b')!, ...expected.get('c')!];
    wanted.forEach((value, i) => void expect(rows[i]).to.be.closeTo(value, 1e-5));
  });

  it('says what does not fit and stays as it was', () => {
    const { model, cache } = cached(2 * BYTES);
    cache.use('a');
    expect(() => cache.use('z')).to.throw("No folder of adapter 'z'; have 4 others");
    expect(() => cache.ensure(['b', 'c', 'd'])).to.throw(
      `'b', 'c', 'd' need ${3 * BYTES} bytes together, the cache has ${2 * BYTES}`,
    );
    const broken = join(root, 'broken');
    folders.set('broken', broken);
    expect(() => cache.use('broken')).to.throw('No adapter_config.json');
    folders.delete('broken');
    expect(cache.residents).to.deep.equal(['a']);
    expect(outputs(model)).to.deep.equal(expected.get('a'));
    expect(() => new AdapterCache(model, folders, { maxBytes: 0 })).to.throw('above 0, got 0');
  });
});
