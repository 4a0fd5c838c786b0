import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import {
  type GenerationConfig,
  generate,
  streamText,
  streamTokens,
} from '../../src/models/generation.ts';
import { logitsProcessors } from '../../src/models/logits-processor.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { LoraConfig } from '../../src/peft/lora-config.ts';
import { getPeftModel } from '../../src/peft/peft-model.ts';
import { RandomState, randomNormal } from '../../src/tensor/random.ts';

const peers = join(import.meta.dirname, '../peers');
const golden = JSON.parse(readFileSync(join(peers, 'generation/generation.json'), 'utf8')) as {
  processed: { options: Options; ids: number[]; scores: number[]; result: (number | null)[] }[];
  prompts: number[][];
  batches: { options: Options; outputs: number[][] }[];
};
type Options = Record<string, number | boolean | number[]>;

const camel = (options: Options) =>
  Object.fromEntries(
    Object.entries(options).map(([key, value]) => [
      key.replace(/_([a-z])/g, (_, c: string) => c.toUpperCase()),
      value,
    ]),
  ) as GenerationConfig;

describe('logits processors', () => {
  for (const { options, ids, scores, result } of golden.processed) {
    it(`change scores as transformers' do with ${JSON.stringify(options)}`, () => {
      const row = Float32Array.from(scores);
      for (const process of logitsProcessors(camel(options))) process(row, ids);
      for (const [i, value] of result.entries()) {
        if (value === null) expect(row[i]).to.equal(-Infinity);
        else expect(row[i]).to.be.closeTo(value, 1e-6);
      }
    });
  }

  it('refuse values out of range', () => {
    const make = (options: object) => () => logitsProcessors({ doSample: true, ...options });
    expect(make({ temperature: 0 })).to.throw('temperature must be above 0, got 0');
    expect(make({ topK: 1.5 })).to.throw('topK must be a positive integer, or 0 for all, got 1.5');
    expect(make({ topP: 0 })).to.throw('topP must be above 0 and at most 1, got 0');
    expect(make({ repetitionPenalty: -1 })).to.throw('repetitionPenalty must be above 0, got -1');
  });
});

describe('generate', () => {
  let model: ReturnType<typeof loadFolder>;
  before(async () => {
    await setBackend('wasm');
    model = loadFolder(join(peers, '01_models/llama_b'));
  });
  afterEach(() => setBackend('wasm'));

  for (const [backend, { options, outputs }] of (['wasm', 'native'] as const).flatMap((name) =>
    golden.batches.map((batch) => [name, batch] as const),
  )) {
    it(`continues a batch of unequal prompts on ${backend} as transformers does with ${JSON.stringify(options)}`, async () => {
      await setBackend(backend);
      const config = { maxNewTokens: 12, padTokenId: 0, ...camel(options) };
      const rows = await generate(model, golden.prompts, config);
      const ends = [config.eosTokenId ?? 2].flat();
      for (const [i, row] of rows.entries()) {
        const end = outputs[i]!.findIndex((id) => ends.includes(id));
        const expected = end < 0 ? outputs[i]! : outputs[i]!.slice(0, end + 1);
        expect(row).to.deep.equal([...golden.prompts[i]!, ...expected]);
      }
    });
  }

  it('gives the same tokens with an assistant that guesses ahead, good or bad', async () => {
    await setBackend('native');
    const other = loadFolder(join(peers, '01_models/llama_b'));
    other.requiresGrad(false);
    for (const parameter of other.parameters()) parameter.assign(tf.mul(parameter, 0.7));
    for (const config of [{}, { doSample: true, temperature: 1.5, seed: 5 }]) {
      const options = { maxNewTokens: 20, eosTokenId: [], ...config };
      const alone = await generate(model, [[5, 6, 7]], options);
      for (const assistantModel of [model, other]) {
        const helped = await generate(model, [[5, 6, 7]], { ...options, assistantModel });
        expect(helped).to.deep.equal(alone);
      }
    }
    other.dispose();
  });

  it('refuses an assistant for several prompts', async () => {
    const run = generate(model, [[5], [6]], { assistantModel: model });
    expect(await run.catch((error: Error) => error.message)).to.contain(
      'helps with one prompt, got 2',
    );
  });

  it('leaves no tensor behind on native graphs, also when the reader stops', async () => {
    await setBackend('native');
    await generate(model, [[5, 6, 7]], { maxNewTokens: 3 });
    const before = tf.memory().numTensors;
    await generate(model, [[5, 6, 7]], { maxNewTokens: 8 });
    for await (const _ of streamTokens(model, [5, 6, 7], { maxNewTokens: 8 })) break;
    expect(tf.memory().numTensors).to.equal(before);
  });

  it('writes the same once it runs on packed weights, and follows a change of them', async () => {
    await setBackend('native');
    const own = loadFolder(join(peers, '01_models/llama_b'));
    own.requiresGrad(false);
    for (const config of [{}, { doSample: true, seed: 3 }]) {
      const options = { maxNewTokens: 40, eosTokenId: [], ...config };
      const first = await generate(own, [[5, 6, 7]], options);
      for (let i = 0; i < 3; i++) {
        expect(await generate(own, [[5, 6, 7]], options)).to.deep.equal(first); // packs after 64 tokens
      }
    }
    for (const parameter of own.parameters()) parameter.assign(tf.mul(parameter, 1.5));
    const options = { maxNewTokens: 40, eosTokenId: [] };
    const packed = await generate(own, [[5, 6, 7]], options);
    await setBackend('wasm');
    expect(packed).to.deep.equal(await generate(own, [[5, 6, 7]], options));
    own.dispose();
  });

  it('draws the same tokens from the same seed and others from another', async () => {
    const draw = (seed: number) =>
      generate(model, [[5, 6]], { doSample: true, temperature: 2, maxNewTokens: 16, seed });
    expect(await draw(1)).to.deep.equal(await draw(1));
    expect(await draw(1)).to.not.deep.equal(await draw(2));
  });

  it('draws tokens as often as their probabilities say', async () => {
    const logits = tf.tidy(() => {
      const out = model.forward(tf.tensor2d([[5, 6]], undefined, 'int32')).logits;
      return out.slice([0, 1, 0], [1, 1, -1]).softmax().dataSync();
    });
    const best = logits.indexOf(Math.max(...logits));
    const rows = await generate(model, Array(2000).fill([5, 6]), {
      doSample: true,
      topK: 0,
      maxNewTokens: 1,
      seed: 3,
    });
    const share = rows.filter((row) => row[2] === best).length / rows.length;
    const deviation = Math.sqrt((logits[best]! * (1 - logits[best]!)) / rows.length);
    expect(Math.abs(share - logits[best]!)).to.be.below(4 * deviation);
  });

  it('streams the tokens that it returns, and stops when the reader does', async () => {
    const [row] = await generate(model, [[5, 6, 7]], { maxNewTokens: 8 });
    const before = tf.memory().numTensors;
    const tokens: number[] = [];
    for await (const token of streamTokens(model, [5, 6, 7], { maxNewTokens: 8 })) {
      tokens.push(token);
      if (tokens.length === 4) break;
    }
    expect(tokens).to.deep.equal(row!.slice(3, 7));
    expect(tf.memory().numTensors).to.equal(before);
  });

  it('streams text that joins to the whole, and stops after a stop string', async () => {
    const tokenizer = {
      decode: (ids: readonly number[]) =>
        ids.map((id) => String.fromCharCode(97 + (id % 26))).join(''),
    };
    const config = { maxNewTokens: 12, eosTokenId: null, tokenizer };
    const read = async (more: object) => {
      const pieces: string[] = [];
      for await (const piece of streamText(model, [5, 6], { ...config, ...more }))
        pieces.push(piece);
      return pieces.join('');
    };
    const whole = await read({});
    expect(whole).to.have.length(12);
    const stop = whole.slice(4, 6);
    const until = whole.slice(0, whole.indexOf(stop) + 2);
    expect(await read({ stopStrings: stop })).to.equal(until);
  });

  it('holds back a character until all its bytes are there', async () => {
    const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));
    const ids = tokenizer.encode('é😀!', { addSpecialTokens: false });
    const scripted = {
      ...tokenizer,
      decode: (list: readonly number[]) => tokenizer.decode(ids.slice(0, list.length)),
    };
    const pieces: string[] = [];
    const config = { maxNewTokens: ids.length, eosTokenId: null, tokenizer: scripted };
    for await (const piece of streamText(model, [5], config)) pieces.push(piece);
    expect(pieces).to.deep.equal(['é', '😀', '!']);
  });

  it('refuses prompts that it cannot use', async () => {
    const error = async (prompts: number[][], config = {}) =>
      generate(model, prompts, config).then(
        () => '',
        (reason: Error) => reason.message,
      );
    expect(await error([[]])).to.match(/at least one token/);
    expect(await error([[96]])).to.equal("Token ids must be below the vocabulary's 96, got 96");
    expect(await error([[1]], { maxNewTokens: 0 })).to.match(
      /maxNewTokens must be a positive integer/,
    );
    expect(await error([[1]], { stopStrings: 'x' })).to.match(/stopStrings need a tokenizer/);
  });
});

describe('Generation with adapters', () => {
  before(() => setBackend('auto'));

  it('follows the adapter that is active, not the one that it was compiled for', async () => {
    const base = loadFolder(join(peers, '01_models/llama'));
    const write = (some: typeof base) =>
      generate(some, [[5, 6, 7]], { maxNewTokens: 8, eosTokenId: [] });
    const plain = await write(base);
    const config = () => new LoraConfig({ r: 4, targetModules: 'all-linear' });
    const adapted = getPeftModel(base, config());
    adapted.addAdapter('other', config());
    const random = new RandomState(3);
    for (const [name, own] of adapted.namedParameters()) {
      if (/lora_?b/i.test(name)) own.assign(randomNormal(own.shape, random, { std: 0.5 }));
    }
    const model = adapted as unknown as typeof base;
    const first = await write(model);
    adapted.setAdapter('other');
    const other = await write(model);
    expect(new Set([plain, first, other].map(String)).size).to.equal(3);
    expect(await adapted.disableAdapter(() => write(model))).to.deep.equal(plain);
    adapted.setAdapter('default');
    expect(await write(model)).to.deep.equal(first);
    adapted.mergeAdapter();
    expect(await write(model)).to.deep.equal(first);
  });
});
