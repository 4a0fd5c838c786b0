import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import { tokenizerFromGguf } from '../../src/data/gguf-tokenizer.ts';
import { setBackend } from '../../src/jit/backend.ts';
import { AutoModelForCausalLM, AutoTokenizer } from '../../src/models/auto.ts';
import { openGguf, parseGguf } from '../../src/models/gguf.ts';
import { unpermute } from '../../src/models/gguf-model.ts';
import { loadFile, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';

const peers = join(import.meta.dirname, '../peers/04_gguf/llama64');
const golden = JSON.parse(readFileSync(join(peers, 'manifest.json'), 'utf8')) as {
  spm_tokenize: { text: string; ids: number[] };
  quants: Record<
    string,
    { tensors: Record<string, { type: string; shape: number[]; dequant_sha256: string }> }
  >;
};

/** Little-endian bytes of a file: numbers of so many bytes, or texts with their length before them. */
function bytes(...parts: ([4 | 8, number | bigint] | string)[]): Uint8Array {
  return Buffer.concat(
    parts.map((part) => {
      if (typeof part === 'string') {
        const text = Buffer.from(part);
        return Buffer.concat([bytes([8, text.length]), text]);
      }
      const out = Buffer.alloc(part[0]);
      if (part[0] === 4) out.writeUInt32LE(Number(part[1]));
      else out.writeBigUInt64LE(BigInt(part[1]));
      return out;
    }),
  );
}

const file = (counts: [number | bigint, number | bigint], ...rest: Parameters<typeof bytes>) =>
  Buffer.concat([Buffer.from('GGUF'), bytes([4, 3], [8, counts[0]], [8, counts[1]], ...rest)]);

describe('GGUF', () => {
  before(() => setBackend('wasm'));

  for (const [name, { tensors }] of Object.entries(golden.quants)) {
    it(`reads ${name} to the very bits of gguf-py`, () => {
      const reader = openGguf(join(peers, `${name}.gguf`));
      expect([...reader.tensors.keys()].sort()).to.deep.equal(Object.keys(tensors).sort());
      for (const [tensor, { type, shape, dequant_sha256 }] of Object.entries(tensors)) {
        const info = reader.tensors.get(tensor)!;
        expect([info.type.name, info.shape], tensor).to.deep.equal([type, shape]);
        const values = new Uint8Array(reader.read(tensor).buffer);
        expect(createHash('sha256').update(values).digest('hex'), tensor).to.equal(dequant_sha256);
      }
      reader.close();
    });

    it(`gives the logits of transformers with the weights of ${name}`, async () => {
      const model = await AutoModelForCausalLM.fromPretrained(join(peers, `${name}.gguf`));
      const stored = loadFile(join(peers, 'expected.safetensors'));
      const ids = toTensor(stored.get('input_ids')!) as tf.Tensor2D;
      const logits = model.forward(ids).logits.dataSync();
      for (const [i, x] of toFloat32(stored.get(`logits.${name}`)!).entries()) {
        expect(logits[i]).to.be.closeTo(x, 1e-4);
      }
      model.dispose();
    });
  }

  it('tokenizes by scores as llama.cpp does', async () => {
    const tokenizer = await AutoTokenizer.fromPretrained(join(peers, 'q8_0.gguf'));
    expect(tokenizer.encode(golden.spm_tokenize.text)).to.deep.equal(golden.spm_tokenize.ids);
    expect(tokenizer.decode(tokenizer.encode('the tent'), { skipSpecialTokens: true })).to.equal(
      'the tent',
    );
  });

  it('names a type that it does not read', () => {
    const content = Buffer.concat([file([1, 0], ...tensor(19, 0, 'w', 256)), Buffer.alloc(400)]);
    const reader = parseGguf(content);
    expect(() => reader.read('w')).to.throw(
      /^Tensor 'w' in gguf is IQ1_S, read are F32, F16, Q4_0, .*Q6_K, IQ4_NL, BF16$/,
    );
    expect(() => reader.read('none')).to.throw(/^No tensor named 'none'/);
    expect(reader.readBlocks('w')).to.have.lengthOf(50);
  });

  it('puts rows of rotary pairs back in halves', () => {
    const rows = Float32Array.from([0, 4, 1, 5, 2, 6, 3, 7].flatMap((x) => [x, x]));
    expect([...unpermute(rows, 8, 1)].filter((_, i) => i % 2)).to.deep.equal([
      0, 1, 2, 3, 4, 5, 6, 7,
    ]);
  });

  const tensor = (type: number, offset: number | bigint, name = 'w', size = 32) =>
    [name, [4, 1], [8, size], [4, type], [8, offset]] as Parameters<typeof bytes>;
  const damaged: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(0), /does not begin with GGUF/],
    ['another format', Buffer.from('PK\u0003\u0004 zip'), /does not begin with GGUF/],
    [
      'a version of its future',
      Buffer.concat([Buffer.from('GGUF'), bytes([4, 9])]),
      /version is 9/,
    ],
    ['more tensors than fit', file([2n ** 60n, 0]), /a size of|claims \d+ tensors, /],
    ['more metadata than fits', file([0, 1_000_000]), /claims 1000000 metadata entries, 0 bytes/],
    ['a text beyond the file', file([0, 1], [8, 5_000]), /metadata entries|bytes of text/],
    ['a list beyond the file', file([0, 1], 'k', [4, 9], [4, 4], [8, 2n ** 40n]), /list items/],
    [
      'a text that is not UTF-8',
      file([0, 1], 'key', [4, 8], 'text').fill(0xff, 32, 34),
      /not UTF-8/,
    ],
    ['an unknown type of metadata', file([0, 1], 'key', [4, 77], [8, 0]), /unknown type 77/],
    ['a key twice', file([0, 2], 'k', [4, 4], [4, 1], 'k', [4, 4], [4, 1]), /'k' twice/],
    ['a tensor beyond the file', file([1, 0], ...tensor(0, 0)), /'w' ends at byte/],
    ['an offset beyond all files', file([1, 0], ...tensor(0, 2n ** 63n)), /a size of 9223/],
    ['an unknown type of tensor', file([1, 0], ...tensor(99, 0)), /'w' has the unknown type 99/],
    ['a width that no block fits', file([1, 0], ...tensor(8, 0, 'w', 33)), /fit blocks of Q8_0/],
    [
      'overlapping tensors',
      Buffer.concat([file([2, 0], ...tensor(0, 0), ...tensor(0, 64, 'v')), Buffer.alloc(400)]),
      /'v' overlaps/,
    ],
  ];
  for (const [what, content, message] of damaged) {
    it(`refuses ${what}`, () => {
      expect(() => parseGguf(content)).to.throw(Error, message);
    });
  }

  it('answers any bytes with tensors or one sentence', () => {
    const good = readFileSync(join(peers, 'q4_0.gguf'));
    const head = good.indexOf('blk.1.') + 900;
    const change = fc.tuple(fc.nat(head), fc.nat(255));
    fc.assert(
      fc.property(
        fc.array(change, { minLength: 1, maxLength: 5 }),
        fc.nat(good.length),
        (changes, cut) => {
          const content = new Uint8Array(good.subarray(0, cut < head ? cut : good.length));
          for (const [at, value] of changes) if (at < content.length) content[at] = value;
          try {
            const reader = parseGguf(content);
            for (const { begin, end } of reader.tensors.values()) {
              expect(begin <= end && end <= content.length).to.equal(true);
            }
          } catch (error) {
            expect((error as Error).message).to.match(/^gguf is not a whole GGUF file: /);
          }
        },
      ),
      { numRuns: 400, seed: 3 },
    );
  });

  it('refuses models and tokenizers of other kinds in one sentence', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gguf-'));
    const path = join(folder, 'x.gguf');
    writeFileSync(path, file([0, 1], 'general.architecture', [4, 8], 'mamba'));
    const message = await AutoModelForCausalLM.fromPretrained(folder).then(
      () => '',
      (error: Error) => error.message,
    );
    expect(message).to.equal("general.architecture must be 'llama', got 'mamba'");
    expect(() => tokenizerFromGguf(new Map())).to.throw('lacks tokenizer.ggml.tokens');
    const odd = { 'tokenizer.ggml.model': 'bert', 'tokenizer.ggml.tokens': ['a'] };
    expect(() => tokenizerFromGguf(new Map(Object.entries(odd)))).to.throw("got 'bert'");
    rmSync(folder, { recursive: true });
  });
});
