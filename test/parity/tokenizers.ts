// Kind 08_tokenizer: ids, tokens, offsets and decoded texts of the Python library, tokenizers.
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { type Check, same } from './measure.ts';

interface Encoded {
  text: string;
  ids: number[];
  tokens: string[];
  offsets: [number, number][];
  ids_no_special: number[];
  decoded: string;
  decoded_with_special: string;
}

/** Compares each text of the case, exactly. */
export const checkTokenizer: Check = async (folder, manifest) => {
  const tokenizer = Tokenizer.fromFolder(folder);
  return [
    same('vocab_size', tokenizer.vocabSize, manifest.vocab_size),
    ...(manifest.encodings as Encoded[]).flatMap((expected) => {
      const { text, ids } = expected;
      const encoded = tokenizer.encodeWithOffsets(text);
      const name = JSON.stringify(text);
      const plain = tokenizer.encode(text, { addSpecialTokens: false });
      return [
        same(`ids of ${name}`, encoded.ids, ids),
        same(`tokens of ${name}`, encoded.tokens, expected.tokens),
        same(`offsets of ${name}`, encoded.offsets, expected.offsets),
        same(`encode(${name})`, tokenizer.encode(text), ids),
        same(`ids without special of ${name}`, plain, expected.ids_no_special),
        same(
          `decoded ${name}`,
          tokenizer.decode(ids, { skipSpecialTokens: true }),
          expected.decoded,
        ),
        same(`decoded with special ${name}`, tokenizer.decode(ids), expected.decoded_with_special),
      ];
    }),
  ];
};
