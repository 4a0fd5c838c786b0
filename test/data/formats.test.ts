import { join } from 'node:path';
import { expect } from 'chai';
import { chatTurns } from '../../src/data/chat-styles.ts';
import { convertRows, type RowFormat } from '../../src/data/formats.ts';
import { allPaths, type OasstMessage, rankedPairs } from '../../src/data/oasst.ts';
import { tokenizePreferences } from '../../src/data/preference-rows.ts';
import { preparePairs } from '../../src/data/prepare-pairs.ts';
import { alpacaPrompt } from '../../src/data/prompt-styles.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';
import { passes } from '../parity/measure.ts';
import { runCase } from '../parity.ts';

const peers = join(import.meta.dirname, '../peers');
const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });

describe('Formats of rows', () => {
  it('are those of axolotl, LLaMA-Factory and OpenAI', async () => {
    const bad = (await runCase(join(peers, '09_formats'))).filter((measure) => !passes(measure));
    expect(bad).to.deep.equal([]);
  });

  it('keep text, put the task first and leave prompts and completions apart', () => {
    expect(convertRows([{ text: 'a' }], 'text').rows).to.deep.equal([{ text: 'a' }]);
    const row = { task: 'translate', input: 'ja', output: 'yes' };
    expect(convertRows([row], 'multitask').rows).to.deep.equal([
      { messages: [user('translate: ja'), assistant('yes')] },
    ]);
    const pair = { prompt: 'a', completion: 'b' };
    expect(convertRows([pair], 'prompt-completion').rows).to.deep.equal([pair]);
  });

  it('name the row and the field that is wrong', () => {
    const wrong: [RowFormat, object, string][] = [
      ['alpaca', { instruction: 'a' }, 'output must be text, got nothing'],
      ['alpaca', { instruction: 3, output: 'a' }, 'instruction must be text, got 3'],
      [
        'alpaca',
        { instruction: 'a', output: 'b', history: [['x']] },
        'history[0] must be [question, answer], got ["x"]',
      ],
      ['dolly', { instruction: 'a', context: 1 }, 'context must be text, got 1'],
      ['sharegpt', {}, 'conversations must be a list of turns, got nothing'],
      [
        'sharegpt',
        { conversations: [{ from: 'tool', value: 'a' }] },
        "conversations[0] must be from one of human, user, prompter, gpt, assistant, model, system, got 'tool'",
      ],
      ['openai', { messages: [assistant('a')] }, 'messages must go on with a user, got assistant'],
      ['openai', { messages: [user('a')] }, 'messages must end with an assistant, got 1 turns'],
    ];
    for (const [format, row, message] of wrong) {
      expect(() => convertRows([row], format, { name: 'a.jsonl' })).to.throw(
        TypeError,
        `a.jsonl row 1: ${message}`,
      );
    }
  });

  it('leave malformed rows out and tell of each, if asked', () => {
    const rows = [{ text: 'a' }, { texts: 'b' }];
    expect(convertRows(rows, 'text', { skipMalformed: true })).to.deep.equal({
      rows: [{ text: 'a' }],
      skipped: ['Rows row 2: text must be text, got nothing'],
    });
    expect(() => convertRows([], 'text')).to.throw('Rows must hold at least one text row, got 0');
    expect(() => convertRows(rows, 'xml' as RowFormat)).to.throw(/^format must be one of alpaca/);
  });

  it('name styles that are unknown', () => {
    const tokens = { bosToken: '', eosToken: '' };
    expect(() => chatTurns([], 'toString' as 'empty', tokens)).to.throw(/^The chat's style must/);
    expect(() => alpacaPrompt({ instruction: '' }, 'toString' as 'chat')).to.throw(
      /got 'toString'/,
    );
  });

  it('take all paths and ranked pairs from trees', () => {
    const node = (id: string, parent: string | null, rank: number | null = null): OasstMessage => ({
      message_id: id,
      parent_id: parent,
      role: parent === null ? 'prompter' : 'assistant',
      text: id,
      rank,
    });
    const rows = [node('q', null), node('b', 'q', 1), node('a', 'q', 0), node('c', 'q')];
    expect(allPaths(rows)).to.deep.equal(
      ['a', 'b', 'c'].map((answer) => [user('q'), assistant(answer)]),
    );
    expect(rankedPairs(rows)).to.deep.equal([
      { prompt: [user('q')], chosen: [assistant('a')], rejected: [assistant('b')] },
    ]);
    expect(() => allPaths([node('x', 'gone')])).to.throw('Message x answers gone, which is not');
  });

  it('are repaired as prepare_data does: case, long prefixes, endings', () => {
    const rows = ['red', 'green', 'blue', 'white'].map((colour, i) => ({
      prompt: `THE COLOUR OF THING ${i}`,
      completion: `The colour is ${colour}`,
    }));
    expect(preparePairs(rows).rows[0]).to.deep.equal({
      prompt: '0 ->',
      completion: ' red\n',
    });
  });
});

describe('tokenizePreferences', () => {
  const tokenizer = Tokenizer.fromFolder(join(peers, '08_tokenizer/gpt2_bytelevel'));

  it('finds the prompt that both answers start with', () => {
    const [explicit] = tokenizePreferences(
      [{ prompt: 'Say', chosen: ' yes', rejected: ' no' }],
      tokenizer,
    );
    const [implicit] = tokenizePreferences([{ chosen: 'Say yes', rejected: 'Say no' }], tokenizer);
    expect(implicit).to.deep.equal(explicit);
    expect(explicit!.chosenIds.at(-1)).to.equal(tokenizer.eosTokenId);
  });

  it('takes chats', () => {
    const [row] = tokenizePreferences(
      [
        {
          chosen: [user('Hi'), assistant('Hello')],
          rejected: [user('Hi'), assistant('Go')],
        },
      ],
      tokenizer,
      {
        chatTemplate:
          "{% for m in messages %}{{ m.role + ':' + m.content + '\n' }}{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}",
      },
    );
    expect(tokenizer.decode(row!.promptIds)).to.equal('user:Hi\nassistant:');
    expect(tokenizer.decode(row!.chosenIds)).to.equal('Hello\n');
    expect(tokenizer.decode(row!.rejectedIds)).to.equal('Go\n');
  });

  it('names a row that lacks an answer', () => {
    const rows = [{ prompt: 'a', chosen: 'b' }] as never;
    expect(() => tokenizePreferences(rows, tokenizer)).to.throw(
      'Row 0 must have rejected as text or messages, got undefined',
    );
  });
});
