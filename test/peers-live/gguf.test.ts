import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import {
  AutoModelForCausalLM,
  AutoTokenizer,
  type CausalLM,
  convertToGguf,
  fromConfig,
  llamaConfig,
  openGguf,
  quantizeGguf,
  RandomState,
  saveGguf,
  setBackend,
  Tokenizer,
} from 'peftlab';
import { loadFile, toFloat32 } from '../../src/tensor/safetensors.ts';
import { askPython, peersPython } from './python.ts';

const peers = join(import.meta.dirname, '../peers');
const TYPES = [
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q2_k',
  'q3_k',
  'q4_k_m',
  'q5_k_m',
  'q6_k',
  'iq4_nl',
];
const IDS = [1, 5, 9, 2, 7, 3, 8, 30, 11, 4];

/** A small Llama whose logits spread as those of a trained model do. */
function modelOf(options: Parameters<typeof llamaConfig>[0]): CausalLM {
  const config = llamaConfig({
    vocabSize: 64,
    hiddenSize: 256,
    intermediateSize: 256,
    numHiddenLayers: 2,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    maxPositionEmbeddings: 128,
    rmsNormEps: 1e-5,
    ...options,
  });
  const model = fromConfig(config);
  const random = new RandomState(4);
  for (const [, parameter] of model.namedParameters()) {
    const isVector = parameter.rank === 1;
    const values = Float32Array.from({ length: parameter.size }, () =>
      isVector ? random.normal(1, 0.05) : random.normal(0, 0.06),
    );
    parameter.assign(tf.tensor(values, parameter.shape));
  }
  return model.eval() as CausalLM;
}

const logitsOf = (model: CausalLM) =>
  tf.tidy(() => model.forward(tf.tensor2d([IDS], undefined, 'int32')).logits.arraySync())[0]!;

/** Largest difference, after what is common to all logits of a position. */
function worst(a: number[][], b: number[][]): number {
  return Math.max(...a.flatMap((row, t) => row.map((x, i) => Math.abs(x - b[t]![i]!))));
}

describe('GGUF files beside llama.cpp and gguf-py', function () {
  this.timeout(600_000);
  let folder: string;
  let python: string;

  before(async function () {
    const found = peersPython();
    if (!found) {
      console.log('No python3: llama.cpp and gguf-py are left out');
      this.skip();
    }
    python = found;
    folder = mkdtempSync(join(tmpdir(), 'gguf-live-'));
    await setBackend('wasm');
  });
  after(() => folder && rmSync(folder, { recursive: true }));

  const logits = (path: string) =>
    askPython(python, 'gguf.py', 'logits', path, JSON.stringify(IDS)) as number[][];

  for (const type of TYPES) {
    it(`llama.cpp loads ${type} and gives the logits of its dequantized weights`, async () => {
      const model = modelOf({ tieWordEmbeddings: type === 'q4_k_m' });
      const path = join(folder, `${type}.gguf`);
      saveGguf(model, path, { type });
      model.dispose();
      const back = await AutoModelForCausalLM.fromPretrained(path);
      const own = logitsOf(back);
      back.dispose();
      // llama.cpp rounds activations to 8 bits beside quantized weights, to 16 beside F16 and BF16.
      const allowed = { f32: 0.02, f16: 0.02, bf16: 0.1 }[type] ?? 0.25;
      expect(worst(logits(path), own)).to.be.below(allowed);
    });

    it(`gguf-py reads the types, metadata and numbers of ${type}`, () => {
      const path = join(folder, `${type}.gguf`);
      const file = openGguf(path);
      const { types, sums, fields } = askPython(python, 'gguf.py', 'info', path) as {
        types: Record<string, string>;
        sums: Record<string, number>;
        fields: Record<string, unknown>;
      };
      for (const [name, { type: own }] of file.tensors) {
        expect(types[name], name).to.equal(own.name);
        const sum = file.read(name).reduce((total, x) => total + x, 0);
        expect(sums[name], name).to.be.closeTo(sum, 1e-6 * (1 + Math.abs(sum)));
      }
      expect(Object.keys(types)).to.have.lengthOf(file.tensors.size);
      for (const [key, value] of file.metadata) {
        if (!key.startsWith('tokenizer')) expect(fields[key], key).to.deep.equal(value);
      }
      file.close();
    });
  }

  const ropes = {
    linear: { ropeType: 'linear', ropeTheta: 10000, factor: 2 },
    yarn: { ropeType: 'yarn', ropeTheta: 10000, factor: 4, originalMaxPositionEmbeddings: 32 },
    llama3: {
      ropeType: 'llama3',
      ropeTheta: 500000,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalMaxPositionEmbeddings: 64,
    },
  };
  for (const [name, ropeParameters] of Object.entries(ropes)) {
    it(`llama.cpp turns positions by ${name} as we do`, () => {
      const model = modelOf({ ropeParameters, attentionBias: true });
      const path = join(folder, `${name}.gguf`);
      saveGguf(model, path, { type: 'f32' });
      expect(worst(logits(path), logitsOf(model))).to.be.below(0.02);
      model.dispose();
    });
  }

  for (const name of ['gpt2_bytelevel', 'llama3_split', 'llama2_spm_bpe', 'digits_nfc']) {
    it(`llama.cpp gives the ids of ${name}`, () => {
      const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer', name));
      const model = modelOf({
        vocabSize: tokenizer.vocabSize,
        hiddenSize: 64,
        intermediateSize: 64,
      });
      const path = join(folder, `${name}.gguf`);
      saveGguf(model, path, { type: 'f32', tokenizer });
      model.dispose();
      for (const text of ['the hen in a tent', 'Hello, world 12', 'a b  c', 'naïve café']) {
        const ids = askPython(python, 'gguf.py', 'tokens', path, text);
        expect(ids, text).to.deep.equal(tokenizer.encode(text, { addSpecialTokens: false }));
      }
    });
  }

  it('requantizes a file of llama.cpp, which loads it with its tokenizer', async () => {
    const path = join(folder, 'requantized.gguf');
    await convertToGguf(join(peers, '04_gguf/llama64/f16.gguf'), path, { type: 'q5_1' });
    const tokenizer = await AutoTokenizer.fromPretrained(path);
    const text = 'the hen in a tent, Then 42';
    const ids = askPython(python, 'gguf.py', 'tokens', path, text);
    expect(ids).to.deep.equal(tokenizer.encode(text, { addSpecialTokens: false }));
    const back = await AutoModelForCausalLM.fromPretrained(path);
    expect(worst(logits(path), logitsOf(back))).to.be.below(0.35);
    back.dispose();
  });

  it('packs a million random numbers to the bytes of ggml', () => {
    const path = join(folder, 'blocks.safetensors');
    const script = join(peers, 'gguf_blocks.py');
    const made = spawnSync(python, [script, path, '--seed', '11', '--random-rows', '4096']);
    expect(made.status, String(made.stderr)).to.equal(0);
    const stored = loadFile(path);
    const source = toFloat32(stored.get('source')!);
    for (const key of stored.keys()) {
      if (!key.startsWith('raw.')) continue;
      const ours = quantizeGguf(source, key.slice(4), 256);
      expect(Buffer.compare(ours, stored.get(key)!.data as Uint8Array), key).to.equal(0);
    }
  });
});
