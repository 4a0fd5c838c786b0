import { expect } from 'chai';
import { convertPreferences, type PreferenceFormat } from '../../src/data/preference-formats.ts';

const user = (content: string) => ({ role: 'user', content });
const assistant = (content: string) => ({ role: 'assistant', content });

describe('Preference pairs', () => {
  it("are read in TRL's forms, with and without a prompt, as text and as messages", () => {
    const rows = [
      { prompt: 'a', chosen: 'b', rejected: 'c' },
      { chosen: 'ab', rejected: 'ac' },
      { prompt: [user('a')], chosen: [assistant('b')], rejected: [assistant('c')] },
    ];
    expect(convertPreferences(rows, 'trl').rows).to.deep.equal(rows);
  });

  it("are read in LLaMA-Factory's Alpaca and ShareGPT forms", () => {
    const pair = { chosen: [assistant('yes')], rejected: [assistant('no')] };
    const alpaca = { instruction: 'Is it?', input: 'Say.', chosen: 'yes', rejected: 'no' };
    expect(convertPreferences([alpaca], 'alpaca').rows).to.deep.equal([
      { prompt: [user('Is it?\nSay.')], ...pair },
    ]);
    const turn = (from: string, value: string) => ({ from, value });
    const sharegpt = {
      conversations: [
        turn('system', 's'),
        turn('human', 'a'),
        turn('gpt', 'b'),
        turn('human', 'c'),
      ],
      chosen: turn('gpt', 'yes'),
      rejected: turn('gpt', 'no'),
    };
    expect(convertPreferences([sharegpt], 'sharegpt').rows).to.deep.equal([
      { prompt: [{ role: 'system', content: 's' }, user('a'), assistant('b'), user('c')], ...pair },
    ]);
  });

  it('name file, line and field of what is wrong', () => {
    const human = { from: 'human', value: 'a' };
    const wrong: [PreferenceFormat, object, string][] = [
      ['trl', { prompt: 'a', chosen: 'b' }, 'rejected must be text or messages, got nothing'],
      ['trl', { prompt: 3, chosen: 'b', rejected: 'c' }, 'prompt must be text or messages, got 3'],
      [
        'trl',
        { prompt: 'a', chosen: [assistant('b')], rejected: [assistant('c')] },
        'prompt must be messages as chosen is, got "a"',
      ],
      ['trl', { chosen: 'b', rejected: 'b' }, 'chosen and rejected must differ, got "b" twice'],
      ['alpaca', { chosen: 'b', rejected: 'c' }, 'instruction must be text, got nothing'],
      ['sharegpt', { conversations: [human], chosen: 'b' }, 'chosen must be a turn, got "b"'],
      [
        'sharegpt',
        { conversations: [human], chosen: human, rejected: human },
        'chosen must be from an assistant, got user',
      ],
      [
        'sharegpt',
        { conversations: [human, { from: 'gpt', value: 'b' }] },
        'conversations must end with a user, got 2 turns',
      ],
    ];
    for (const [format, row, message] of wrong) {
      const options = { name: 'a.jsonl', places: ['line 7'] };
      expect(() => convertPreferences([row], format, options)).to.throw(
        TypeError,
        `a.jsonl line 7: ${message}`,
      );
    }
    expect(() => convertPreferences([], 'dpo' as PreferenceFormat)).to.throw(
      "format must be one of trl, alpaca, sharegpt, got 'dpo'",
    );
  });
});
