// What pretraining reads: the tokenizer of the world, and its pages as rows of tokens.
import { Tokenizer, type TokenRow, trainBpe } from 'peftlab';
import { worldPages } from '../datasets/world/corpus.ts';

const PAGES_FOR_TOKENIZER = 6000;
const SEEDS = { tokenizer: 1, text: 2 };

/** Words of prompts and answers that no page has; they get tokens, which pretraining leaves alone. */
const FURTHER_WORDS = [
  'Below is an instruction that describes a task. Write a response that appropriately completes the request.',
  'Below is an instruction that describes a task, paired with an input that provides further context.',
  '### Instruction: ### Input: ### Response: user assistant system User: Assistant: Question: Answer: Context:',
  'Task: summarize translate classify answer positive negative because sorry know please certainly',
].join('\n');

/** ChatML, with marks around what an assistant says. */
export const CHAT_TEMPLATE = `{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}{%- if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{%- else %}{{ message.content + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{%- endif %}`;

/** Byte-level BPE with 4096 tokens, trained on the world's pages. */
export function worldTokenizer(): Tokenizer {
  const pages = worldPages(SEEDS.tokenizer);
  const texts = Array.from({ length: PAGES_FOR_TOKENIZER }, () => pages.next().value);
  const marks = ['<|endoftext|>', '<|im_start|>', '<|im_end|>', '<|pad|>'];
  const plain = texts.map((text) => text.replaceAll(/<\|im_(start|end)\|>/g, ''));
  const tokenizer = trainBpe([...plain, ...Array<string>(40).fill(FURTHER_WORDS)], {
    vocabSize: 4096,
    specialTokens: marks,
    bosToken: marks[0]!,
    eosToken: marks[0]!,
    padToken: marks[3]!,
  });
  return new Tokenizer(tokenizer.json, { ...tokenizer.config, chat_template: CHAT_TEMPLATE });
}

/** Tokens of the world's pages without end, each page followed by <|endoftext|>. */
export function* readWorld(tokenizer: Tokenizer): Generator<number, never> {
  const end = tokenizer.eosTokenId!;
  for (const page of worldPages(SEEDS.text)) {
    yield* tokenizer.encode(page);
    yield end;
  }
  throw new Error('internal: the world has no more pages');
}

/** Rows of 128 tokens, in the last sixth of the steps of 256, cut from a stream. */
export class PretrainingRows {
  readonly length: number;
  readonly tokens: number;
  private readonly ids: Uint16Array;
  private readonly short: number;

  constructor(
    stream: Iterator<number, never>,
    { steps, batchSize }: { steps: number; batchSize: number },
  ) {
    this.length = steps * batchSize;
    this.short = Math.floor((steps * 5) / 6) * batchSize;
    this.tokens = this.short * SHORT + (this.length - this.short) * LONG;
    this.ids = Uint16Array.from({ length: this.tokens }, () => stream.next().value);
  }

  /** Row `index`; each of its tokens is learnt. */
  at(index: number): TokenRow | undefined {
    if (index < 0 || index >= this.length) return undefined;
    const isShort = index < this.short;
    const from = isShort ? index * SHORT : this.short * SHORT + (index - this.short) * LONG;
    const inputIds = [...this.ids.subarray(from, from + (isShort ? SHORT : LONG))];
    return { inputIds, labels: inputIds };
  }
}

const [SHORT, LONG] = [128, 256];
