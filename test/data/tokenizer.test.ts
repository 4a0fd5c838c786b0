import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import fc from 'fast-check';
import { trainBpe } from '../../src/data/bpe-trainer.ts';
import { tokenizerFromGguf } from '../../src/data/gguf-tokenizer.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';

const peers = join(import.meta.dirname, '../peers');
const load = (name: string) => Tokenizer.fromFolder(join(peers, '08_tokenizer', name));

describe('Tokenizer', () => {
  it('turns any text into ids and back', () => {
    const tokenizers = ['gpt2_bytelevel', 'llama3_split'].map(load);
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        for (const tokenizer of tokenizers) {
          expect(tokenizer.decode(tokenizer.encode(text))).to.equal(text);
        }
      }),
      { numRuns: 200, seed: 4 },
    );
  });

  it('gives each token of any text a place within it, in order', () => {
    const tokenizers = ['gpt2_bytelevel', 'llama3_split', 'llama2_spm_bpe', 'digits_nfc'].map(load);
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const length = Array.from(text).length;
        for (const tokenizer of tokenizers) {
          const { ids, offsets } = tokenizer.encodeWithOffsets(text);
          expect(offsets).to.have.length(ids.length);
          expect(ids).to.deep.equal(tokenizer.encode(text));
          for (const [start, end] of offsets)
            expect(0 <= start && start <= end && end <= length).to.equal(true);
        }
      }),
      { numRuns: 150, seed: 5 },
    );
  });

  it('gives a replacement character for each byte that is no UTF-8', () => {
    const tokenizer = load('llama2_spm_bpe');
    const ids = ['<0xE5>', '<0x8F>', 'a'].map((token) => tokenizer.tokenToId(token)!);
    expect(tokenizer.decode(ids)).to.equal('\ufffd\ufffda');
  });

  it('knows its special tokens and its size', () => {
    const tokenizer = load('gpt2_bytelevel');
    expect([tokenizer.bosTokenId, tokenizer.eosTokenId, tokenizer.padTokenId]).to.deep.equal([
      0, 0, 1,
    ]);
    expect(tokenizer.vocabSize).to.equal(400);
    expect(tokenizer.idToToken(3)).to.equal('<|im_end|>');
    expect(load('llama3_split').eosTokenId).to.equal(undefined);
  });

  it('is the same after it was saved', () => {
    const folder = mkdtempSync(join(tmpdir(), 'tokenizer-'));
    const first = load('gpt2_bytelevel');
    first.savePretrained(folder);
    const again = Tokenizer.fromFolder(folder);
    expect(again.json).to.deep.equal(first.json);
    expect(again.chatTemplate).to.equal(first.chatTemplate);
    expect(again.padTokenId).to.equal(1);
    rmSync(folder, { recursive: true });
  });

  it('names what is missing', () => {
    expect(() => Tokenizer.fromFolder(peers)).to.throw(/^No tokenizer.json in /);
    expect(() => new Tokenizer({} as never)).to.throw('must have the field model');
    expect(() => load('llama3_split').applyChatTemplate([])).to.throw('has no chat template');
  });
});

describe('chat templates', () => {
  it("render messages and the opening of the assistant's turn", () => {
    const tokenizer = load('gpt2_bytelevel');
    const messages = [{ role: 'user', content: 'Hi' }];
    expect(tokenizer.applyChatTemplate(messages)).to.equal('<|im_start|>user\nHi<|im_end|>\n');
    expect(tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true })).to.equal(
      '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n',
    );
  });

  it('see the special tokens and may refuse a chat', () => {
    const { json } = load('gpt2_bytelevel');
    const template =
      "{{ bos_token }}{% if messages|length > 1 %}{{ raise_exception('one only') }}{% endif %}";
    const tokenizer = new Tokenizer(json, {
      bos_token: { content: '<|pad|>' },
      chat_template: [{ name: 'default', template }],
    });
    const turn = { role: 'user', content: '' };
    expect(tokenizer.applyChatTemplate([turn])).to.equal('<|pad|>');
    expect(() => tokenizer.applyChatTemplate([turn, turn])).to.throw('one only');
  });
});

describe('trainBpe', () => {
  const { corpus, vocab, merges } = JSON.parse(readFileSync(join(peers, 'bpe/bpe.json'), 'utf8'));

  it("learns the merges and the vocabulary of tokenizers' BpeTrainer", () => {
    const specialTokens = ['<|endoftext|>', '<|pad|>'];
    const { json } = trainBpe(corpus, { vocabSize: 420, specialTokens });
    expect(json.model.merges).to.deep.equal(merges);
    expect(json.model.vocab).to.deep.equal(vocab);
  });

  it('stops when no pair occurs often enough, and encodes what it never saw', () => {
    const tokenizer = trainBpe(['ab ab ab'], {
      vocabSize: 5000,
      specialTokens: ['<e>'],
      eosToken: '<e>',
    });
    expect(tokenizer.vocabSize).to.equal(259);
    expect(tokenizer.eosTokenId).to.equal(0);
    expect(tokenizer.decode(tokenizer.encode('ñandú<e>'), { skipSpecialTokens: true })).to.equal(
      'ñandú',
    );
  });

  it('refuses a vocabulary that the bytes do not fit', () => {
    expect(() => trainBpe([], { vocabSize: 100 })).to.throw('256 bytes, got 100');
  });
});

describe('tokenizers in GGUF metadata', () => {
  const metadata = (fields: object) =>
    new Map(Object.entries(fields).map(([key, value]) => [`tokenizer.ggml.${key}`, value]));

  it('make the byte-level ids of the same tokenizer.json, digits and words cut by name', () => {
    const { json } = load('llama3_split');
    const vocab = json.model.vocab as Record<string, number>;
    const tokens = Object.keys(vocab).sort((a, b) => vocab[a]! - vocab[b]!);
    const tokenizer = tokenizerFromGguf(
      metadata({
        model: 'gpt2',
        pre: 'llama-bpe',
        tokens,
        merges: (json.model.merges as string[][]).map((pair) => pair.join(' ')),
        token_type: tokens.map((_, id) => (id < 4 ? 3 : 1)),
        eos_token_id: 3,
      }),
    );
    for (const text of ["it's 12345 <|im_end|> THEY'LL\n\n x", '日本 naïve  ']) {
      expect(tokenizer.encode(text)).to.deep.equal(load('llama3_split').encode(text));
    }
    expect(tokenizer.eosToken).to.equal('<|im_end|>');
    // A file without one of these is refused by tokenizers.
    const flags = ['single_word', 'lstrip', 'rstrip', 'normalized', 'special'];
    expect(tokenizer.json.added_tokens[3]).to.include.all.keys('id', 'content', ...flags);
  });

  it('join the neighbours with the best score first, spell the unknown in bytes, and begin with <s>', () => {
    const bytes = Array.from(
      { length: 256 },
      (_, b) => `<0x${b.toString(16).toUpperCase().padStart(2, '0')}>`,
    );
    const pieces = ['▁', 'a', 'b', 'c', 'ab', 'bc', '▁a'];
    const scores = [0, 0, 0, ...bytes.map(() => 0), -9, -9, -9, -9, -2, -1, -3];
    const types = [2, 3, 3, ...bytes.map(() => 6), ...pieces.map(() => 1)];
    const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...pieces];
    const tokenizer = tokenizerFromGguf(
      metadata({
        model: 'llama',
        tokens,
        scores,
        token_type: types,
        bos_token_id: 1,
        eos_token_id: 2,
      }),
    );
    const { tokens: spelled } = tokenizer.encodeWithOffsets('abc é');
    expect(spelled).to.deep.equal(['<s>', '▁a', 'bc', '▁', '<0xC3>', '<0xA9>']);
    expect(tokenizer.decode(tokenizer.encode('abc é'), { skipSpecialTokens: true })).to.equal(
      'abc é',
    );
  });

  for (const [kind, model] of [
    ['bpe', 'llama'],
    ['unigram', 't5'],
  ] as const) {
    it(`give the ids of SentencePiece (${kind})`, () => {
      const path = join(peers, 'sentencepiece/sentencepiece.json');
      const { encodings, ...fields } = JSON.parse(readFileSync(path, 'utf8'))[kind];
      const tokenizer = tokenizerFromGguf(metadata({ model, ...fields, unknown_token_id: 0 }));
      for (const { text, ids } of encodings) {
        expect(tokenizer.encode(text, { addSpecialTokens: false }), text).to.deep.equal(ids);
      }
    });
  }

  it('find the best Unigram split', () => {
    const tokens = ['<unk>', '</s>', '▁', 'a', 'b', '▁ab', '▁a'];
    const tokenizer = tokenizerFromGguf(
      metadata({
        model: 't5',
        tokens,
        scores: [0, 0, -2, -3, -3, -9, -4],
        eos_token_id: 1,
        unknown_token_id: 0,
      }),
    );
    expect(tokenizer.encodeWithOffsets('ab').tokens).to.deep.equal(['▁a', 'b', '</s>']);
  });

  it('refuse a name for cutting words that is not known', () => {
    const fields = metadata({ model: 'gpt2', pre: 'odd', tokens: ['a'], merges: [] });
    expect(() => tokenizerFromGguf(fields)).to.throw(
      /tokenizer.ggml.pre must be one of .*, got 'odd'/,
    );
  });
});
