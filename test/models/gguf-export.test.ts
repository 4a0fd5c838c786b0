import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import { tokenizerFromGguf } from '../../src/data/gguf-tokenizer.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/models/auto.ts';
import type { CausalLM } from '../../src/models/causal-lm.ts';
import { gpt2Config, llamaConfig } from '../../src/models/config.ts';
import { openGguf, parseGguf } from '../../src/models/gguf.ts';
import { convertToGguf } from '../../src/models/gguf-convert.ts';
import { saveGguf } from '../../src/models/gguf-export.ts';
import { ggufFileType, tensorType } from '../../src/models/gguf-mix.ts';
import { permute, unpermute } from '../../src/models/gguf-model.ts';
import { vocabularyEntries } from '../../src/models/gguf-vocabulary.ts';
import { writeGguf } from '../../src/models/gguf-write.ts';
import { fromConfig } from '../../src/models/pretrained.ts';
import { quantizeGguf } from '../../src/quant/gguf-types.ts';
import { loadFile, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';

const peers = join(import.meta.dirname, '../peers');
const llama64 = join(peers, '04_gguf/llama64');

const logitsOf = (model: CausalLM, ids: number[]) =>
  tf.tidy(() => model.forward(tf.tensor2d([ids], undefined, 'int32')).logits.dataSync());

const worst = (a: ArrayLike<number>, b: ArrayLike<number>) =>
  Array.from(a).reduce((max, x, i) => Math.max(max, Math.abs(x - b[i]!)), 0);

describe('GGUF export', () => {
  let folder: string;
  before(async () => {
    await setBackend('wasm');
    folder = mkdtempSync(join(tmpdir(), 'gguf-export-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  for (const type of ['f16', 'q8_0']) {
    it(`writes transformers' folder to the tensors of llama.cpp's ${type} file`, async () => {
      const path = join(folder, `hf-${type}.gguf`);
      await convertToGguf(join(llama64, 'hf'), path, { type });
      const [ours, theirs] = [openGguf(path), openGguf(join(llama64, `${type}.gguf`))];
      expect([...ours.tensors.keys()].sort()).to.deep.equal([...theirs.tensors.keys()].sort());
      for (const [name, { shape, type: own }] of theirs.tensors) {
        const tensor = ours.tensors.get(name)!;
        expect([tensor.shape, tensor.type.name], name).to.deep.equal([shape, own.name]);
        expect(tensor.begin % 32, name).to.equal(0);
        expect(Buffer.compare(ours.readBlocks(name), theirs.readBlocks(name)), name).to.equal(0);
      }
      for (const key of theirs.metadata.keys()) {
        if (!key.startsWith('llama.')) continue;
        expect(ours.metadata.get(key), key).to.deep.equal(theirs.metadata.get(key));
      }
      ours.close();
      theirs.close();
    });
  }

  it('requantizes a .gguf file and keeps its tokenizer', async () => {
    const path = join(folder, 'q8.gguf');
    const { bytes, parameters } = await convertToGguf(join(llama64, 'f16.gguf'), path);
    expect(bytes / parameters).to.be.within(34 / 32, 1.6);
    const stored = loadFile(join(llama64, 'expected.safetensors'));
    const ids = [...(toTensor(stored.get('input_ids')!).dataSync() as Int32Array)];
    const model = await AutoModelForCausalLM.fromPretrained(path);
    expect(worst(logitsOf(model, ids), toFloat32(stored.get('logits.q8_0')!))).to.be.below(5e-4);
    model.dispose();
    const [before, after] = await Promise.all(
      [join(llama64, 'f16.gguf'), path].map((file) => AutoTokenizer.fromPretrained(file)),
    );
    expect(after!.encode('the hen in a tent')).to.deep.equal(before!.encode('the hen in a tent'));
    const [old, made] = [openGguf(join(llama64, 'f16.gguf')), openGguf(path)];
    for (const [key, value] of old.metadata) {
      if (key.startsWith('tokenizer.')) expect(made.metadata.get(key), key).to.deep.equal(value);
    }
    old.close();
    made.close();
  });

  it('gives layers of Q4_K_M and Q5_K_M the types that llama.cpp gives them', () => {
    const model = { layers: 9, tied: false };
    for (const [type, base] of [
      ['q4_k_m', 'Q4_K'],
      ['q5_k_m', 'Q5_K'],
    ] as const) {
      const typeOf = (name: string, tied = false) =>
        tensorType(name, [256, 256], type, { ...model, tied });
      for (let layer = 0; layer < 9; layer++) {
        const mixed = [0, 3, 6, 7, 8].includes(layer) ? 'Q6_K' : base;
        expect(typeOf(`blk.${layer}.attn_v.weight`), `v ${layer}`).to.equal(mixed);
        expect(typeOf(`blk.${layer}.ffn_down.weight`), `down ${layer}`).to.equal(mixed);
        expect(typeOf(`blk.${layer}.attn_q.weight`)).to.equal(base);
      }
      expect([typeOf('output.weight'), typeOf('token_embd.weight')]).to.deep.equal(['Q6_K', base]);
      expect(typeOf('token_embd.weight', true)).to.equal('Q6_K');
      expect(tensorType('blk.0.attn_norm.weight', [256], type, model)).to.equal('F32');
    }
    const q8 = (name: string) => tensorType(name, [256, 256], ggufFileType('Q8_0'), model);
    expect([q8('output.weight'), q8('blk.0.attn_v.weight')]).to.deep.equal(['Q8_0', 'Q8_0']);
  });

  it('falls back where rows are no whole blocks of 256', () => {
    const shape = { vocabSize: 40, hiddenSize: 64, intermediateSize: 80, numHiddenLayers: 1 };
    const model = fromConfig(
      llamaConfig({ ...shape, numAttentionHeads: 2, tieWordEmbeddings: true }),
    );
    const path = join(folder, 'fallback.gguf');
    saveGguf(model, path, { type: 'q4_k_m' });
    const file = openGguf(path);
    const typeOf = (name: string) => file.tensors.get(name)!.type.name;
    expect(typeOf('blk.0.attn_q.weight')).to.equal('Q5_0');
    expect(typeOf('blk.0.attn_v.weight')).to.equal('Q8_0');
    expect(typeOf('blk.0.ffn_down.weight')).to.equal('F16');
    expect(typeOf('token_embd.weight')).to.equal('Q8_0');
    expect(file.tensors.has('output.weight')).to.equal(false);
    file.close();
    model.dispose();
  });

  for (const name of readdirSync(join(peers, '01_models')).filter((name) => /llama/.test(name))) {
    it(`keeps the logits of ${name} in F32, or says why it cannot`, async () => {
      const path = join(folder, `${name}.gguf`);
      const source = join(peers, '01_models', name);
      const { rope_parameters: rope } = JSON.parse(
        readFileSync(join(source, 'config.json'), 'utf8'),
      );
      let message = '';
      await convertToGguf(source, path, { type: 'f32' }).catch((error: Error) => {
        message = error.message;
      });
      if (message) {
        expect(rope.rope_type).to.be.oneOf(['dynamic', 'longrope', 'yarn']);
        expect(message).to.match(/to be written as GGUF/);
        expect(existsSync(path)).to.equal(false);
        return;
      }
      const [before, after] = [
        await AutoModelForCausalLM.fromPretrained(source),
        await AutoModelForCausalLM.fromPretrained(path),
      ];
      const ids = [1, 5, 9, 2, 7, 3, 8];
      expect(worst(logitsOf(before, ids), logitsOf(after, ids))).to.be.below(2e-5);
      before.dispose();
      after.dispose();
    });
  }

  const tokenizers = readdirSync(join(peers, '08_tokenizer')).map((name) =>
    join('08_tokenizer', name),
  );
  for (const name of tokenizers) {
    it(`keeps the ids of ${name}, or says why it cannot`, function () {
      const source = join(peers, name);
      const tokenizer = Tokenizer.fromFolder(source);
      const path = join(folder, 'vocabulary.gguf');
      try {
        writeGguf(path, vocabularyEntries(tokenizer, tokenizer.vocabSize + 3), []);
      } catch (error) {
        expect((error as Error).message).to.match(/to be written as GGUF, got|for GGUF must be/);
        this.skip();
      }
      const file = openGguf(path);
      const back = tokenizerFromGguf(file.metadata);
      file.close();
      for (const text of [
        'the hen in a tent',
        'Hello, world! 1234',
        '  two  spaces',
        'naïve café ☕ x\n\ny',
        '',
      ]) {
        // Metaspace puts no space before a space, GGUF's kinds always do.
        const shown = tokenizer.json.pre_tokenizer?.type === 'Metaspace' ? text.trimStart() : text;
        expect(back.encode(shown), shown).to.deep.equal(tokenizer.encode(shown));
      }
      expect(back.vocabSize).to.be.at.least(tokenizer.vocabSize);
      expect(back.bosToken).to.equal(tokenizer.bosToken ?? back.bosToken);
      expect(back.eosToken).to.equal(tokenizer.eosToken ?? back.eosToken);
    });
  }

  it('pads to any alignment, and reads back every kind of metadata', () => {
    const path = join(folder, 'kinds.gguf');
    const values = Float32Array.from({ length: 32 }, (_, i) => i - 16);
    const blocks = () => quantizeGguf(values, 'Q8_0');
    const tensor = (name: string) => ({ name, shape: [1, 32], type: 'Q8_0', blocks });
    writeGguf(
      path,
      new Map([
        ['general.alignment', { type: 'uint32', value: 128 }],
        ['a', { type: 'int32', value: -5 }],
        ['b', { type: 'uint64', value: 2 ** 40 }],
        ['c', { type: 'float32', value: 0.5 }],
        ['d', { type: 'bool', value: true }],
        ['e', { type: 'string', value: 'naïve ☕' }],
        ['f', { type: 'string[]', value: ['', 'x'] }],
        ['g', { type: 'uint8[]', value: [0, 255] }],
        ['h', { type: 'int32[]', value: [-1, 1] }],
        ['i', { type: 'float32[]', value: [] }],
      ]),
      [tensor('v'), tensor('w')],
    );
    const file = parseGguf(readFileSync(path));
    expect([...file.metadata.values()]).to.deep.equal([
      128,
      -5,
      2 ** 40,
      0.5,
      true,
      'naïve ☕',
      ['', 'x'],
      [0, 255],
      [-1, 1],
      [],
    ]);
    expect([...file.tensors.values()].map(({ begin }) => begin % 128)).to.deep.equal([0, 0]);
    expect(worst(file.read('w'), values)).to.be.below(0.07);
  });

  it('refuses what it cannot write in one sentence, and leaves no file', async () => {
    const path = join(folder, 'never.gguf');
    const gpt2 = fromConfig(
      gpt2Config({ vocabSize: 8, nEmbd: 8, nLayer: 1, nHead: 2, nPositions: 8 }),
    );
    expect(() => saveGguf(gpt2, path)).to.throw("must be a llama, got 'gpt2'");
    gpt2.dispose();
    const shape = { vocabSize: 40, hiddenSize: 32, intermediateSize: 32, numHiddenLayers: 1 };
    const model = fromConfig(llamaConfig({ ...shape, numAttentionHeads: 2 }));
    expect(() => saveGguf(model, path, { type: 'q7' })).to.throw(
      /^The type of a GGUF file must be one of f32, f16, .*, got 'q7'$/,
    );
    const [name, first] = [...model.namedParameters()].find(([own]) => own.includes('down_proj'))!;
    first.assign(tf.fill(first.shape, Number.NaN));
    expect(() => saveGguf(model, path)).to.throw(
      `Tensor '${name}': A number for Q8_0 must be finite, got NaN at index 0`,
    );
    const large = Tokenizer.fromFolder(join(peers, '08_tokenizer/llama3_split'));
    expect(() => saveGguf(model, path, { tokenizer: large })).to.throw(
      'must be below vocab_size 40',
    );
    model.dispose();
    expect(() =>
      writeGguf(path, new Map(), [
        { name: 'w', shape: [2, 33], type: 'Q8_0', blocks: () => new Uint8Array(0) },
      ]),
    ).to.throw("Tensor 'w' of shape [2,33] does not fit blocks of Q8_0");
    expect(() =>
      writeGguf(path, new Map(), [
        { name: 'w', shape: [32], type: 'Q8_0', blocks: () => new Uint8Array(3) },
      ]),
    ).to.throw("Tensor 'w' must have 34 bytes of Q8_0, got 3");
    expect(readdirSync(folder).filter((file) => file.startsWith('never'))).to.deep.equal([]);
    writeFileSync(join(folder, 'self.gguf'), readFileSync(join(llama64, 'q4_0.gguf')));
    const same = await convertToGguf(join(folder, 'self.gguf'), join(folder, 'self.gguf')).then(
      () => '',
      (error: Error) => error.message,
    );
    expect(same).to.match(/^A file cannot be converted onto itself/);
  });

  it('puts rows of halves in rotary pairs and back', () => {
    const rows = Float32Array.from({ length: 48 }, (_, i) => i);
    expect(unpermute(permute(rows, 16, 2), 16, 2)).to.deep.equal(rows);
    expect([...permute(Float32Array.of(0, 1, 2, 3), 4, 1)]).to.deep.equal([0, 2, 1, 3]);
  });
});
