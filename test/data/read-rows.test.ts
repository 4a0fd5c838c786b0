import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { convertRows } from '../../src/data/formats.ts';
import { JsonLinesFile } from '../../src/data/json-lines-file.ts';
import { readRows } from '../../src/data/read-rows.ts';

const tables = join(import.meta.dirname, '../peers/tables');
const failure = (run: Promise<unknown>) => run.then(String, (error: Error) => error.message);
/** The rows of test/peers/tables/make.py. */
const rows = Array.from({ length: 7 }, (_, i) => ({
  instruction: `Say ${i}, "quoted"\nand more é`,
  output: String(i * i),
  score: i / 4,
  count: i,
  messages: [{ role: 'user', content: `m${i}` }],
}));

describe('Files of rows', () => {
  let folder = '';
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text);
    return join(folder, name);
  };
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'rows-'));
  });
  after(() => rmSync(folder, { recursive: true }));

  it('reads the Parquet of pyarrow, nested values included', async () => {
    expect([...(await readRows(join(tables, 'rows.parquet'))).rows]).to.deep.equal(rows);
  });

  it("reads the CSV of Python's writer as text", async () => {
    const text = rows.map(({ instruction, output, score, count }) => ({
      instruction,
      output,
      score: Number.isInteger(score) ? `${score}.0` : String(score),
      count: String(count),
    }));
    expect([...(await readRows(join(tables, 'rows.csv'))).rows]).to.deep.equal(text);
  });

  it('reads JSON and JSON Lines', async () => {
    for (const [name, text] of [
      ['a.json', JSON.stringify(rows)],
      ['b.json', JSON.stringify({ data: rows })],
      ['c.jsonl', `${rows.map((row) => JSON.stringify(row)).join('\n\n')}\n`],
    ] as const) {
      expect([...(await readRows(write(name, text))).rows]).to.deep.equal(rows);
    }
  });

  it('names file, line and field of a malformed row', async () => {
    const cases: [string, string, RegExp][] = [
      ['d.jsonl', '{"a":1}\n{"a"\n', /^d\.jsonl line 2 is not JSON: /],
      ['e.jsonl', '{"a":1}\n\n{"b":2}', /^e\.jsonl line 3 must have a, got b$/],
      ['f.jsonl', '[1]', /^f\.jsonl line 1 must be an object, got \[1\]$/],
      ['g.csv', 'a,b\n1,2\n"x\ny",1,2\n', /^g\.csv line 4 must have 2 fields, got 3$/],
      ['h.json', '{"x": 1}', /^h\.json must be a list of rows, or hold one as 'data'$/],
      ['i.json', '[{"a": null}]', /^i\.json row 1 must have a, got a$/],
      ['j.parquet', 'PAR', /^j\.parquet is not Parquet: /],
      ['k.jsonl', '\n', /^k\.jsonl must hold at least one row, got none$/],
      ['l.txt', 'a', /^l\.txt must end in \.json, \.jsonl, \.csv or \.parquet, got '\.txt'$/],
    ];
    for (const [name, text, message] of cases) {
      expect(await failure(readRows(write(name, text), { required: ['a'] }))).to.match(message);
    }
  });

  it('leaves malformed rows out and tells of each, if asked', async () => {
    const path = write('m.jsonl', '{"a":1}\n{"b":2}\nno\n');
    const { rows: kept, skipped } = await readRows(path, { required: ['a'], skipMalformed: true });
    expect([...kept]).to.deep.equal([{ a: 1 }]);
    expect(skipped[0]).to.equal('m.jsonl line 2 must have a, got b');
    expect(skipped[1]).to.match(/^m\.jsonl line 3 is not JSON/);
  });

  it('lets converters name the line of a field that is wrong', async () => {
    const path = write('q.jsonl', 'no\n\n{"text":"a"}\n{"text":3}\n');
    const { rows: kept, places } = await readRows(path, { skipMalformed: true });
    expect(places).to.deep.equal(['line 3', 'line 4']);
    expect(() => convertRows(kept, 'text', { name: 'q.jsonl', places })).to.throw(
      TypeError,
      'q.jsonl line 4: text must be text, got 3',
    );
  });

  it('reads rows of JSON Lines from disk when they are asked for', () => {
    const path = write('n.jsonl', `\n${rows.map((row) => JSON.stringify(row)).join('\r\n \n')}`);
    const file = new JsonLinesFile<(typeof rows)[0]>(path);
    expect(file.length).to.equal(7);
    expect([...file]).to.deep.equal(rows);
    expect(file.at(-1)).to.deep.equal(rows[6]);
    expect(file.at(7)).to.equal(undefined);
    const lazy = file.map(({ count }, i) => [count, i]);
    expect([lazy.length, lazy.at(3), lazy.at(-1)]).to.deep.equal([7, [3, 3], [6, 6]]);
    file.close();
    const broken = new JsonLinesFile(write('o.jsonl', '{}\n{\n3'));
    expect(() => broken.at(1)).to.throw(/^o\.jsonl line 2 is not JSON/);
    expect(() => broken.at(2)).to.throw('o.jsonl line 3 must be an object, got 3');
    broken.close();
    expect(() => new JsonLinesFile(write('p.jsonl', ' \n'))).to.throw('at least one row, got none');
  });
});
