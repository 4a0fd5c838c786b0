import { join } from 'node:path';
import { expect } from 'chai';
import { markGenerations, tokenizeRow, tokenizeRows } from '../../src/data/tokenize-rows.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';

const folder = join(import.meta.dirname, '../peers/08_tokenizer/gpt2_bytelevel');

describe('tokenizeRows', () => {
  const tokenizer = Tokenizer.fromFolder(folder);

  it('learns the completion and the end, not the prompt', () => {
    const { inputIds, labels } = tokenizeRow({ prompt: '2+2=', completion: '4' }, tokenizer);
    expect(tokenizer.decode(inputIds)).to.equal(`2+2=4${tokenizer.eosToken}`);
    expect(labels.slice(0, 4)).to.deep.equal([-100, -100, -100, -100]);
    expect(labels.slice(4)).to.deep.equal(inputIds.slice(4));
  });

  it('drops rows that lose all their labels to truncation', () => {
    const rows = [{ prompt: 'a long prompt', completion: 'x' }, { text: 'yes' }];
    expect(tokenizeRows(rows, tokenizer, { maxLength: 3 })).to.have.length(1);
    const end = tokenizeRows(rows, tokenizer, { maxLength: 3, truncationMode: 'keep_end' });
    expect(end).to.have.length(2);
  });

  it('names the row that has nothing to read', () => {
    expect(() => tokenizeRows([{ text: 'a' }, { body: 'b' }], tokenizer)).to.throw(
      'Row 1 must have text, messages, or prompt and completion, got body',
    );
  });

  it('says what assistantOnlyLoss needs of a chat template', () => {
    const row = { messages: [{ role: 'assistant', content: 'hi' }] };
    expect(() => tokenizeRow(row, tokenizer, { assistantOnlyLoss: true })).to.throw(
      'Row 0 has no token of an assistant: assistantOnlyLoss needs {% generation %}',
    );
  });

  it('keeps the white space that blocks of a template would keep', () => {
    const marked = markGenerations('a\n  {% generation %}\nb{%- endgeneration -%}');
    expect(marked).to.match(/^a\n\{\{ '.' \}\}b\{\{- '.' -\}\}$/);
  });
});
