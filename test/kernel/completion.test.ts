import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import type { Json } from '../../src/kernel/message.ts';
import { pause, TestKernel } from './support.ts';

describe('Assistance', () => {
  const kernel = new TestKernel();
  before(async () => {
    const own = join(kernel.folder, 'node_modules', 'own-lib');
    mkdirSync(own, { recursive: true });
    writeFileSync(join(own, 'package.json'), '{"name":"own-lib","types":"i.d.ts","main":"i.js"}');
    writeFileSync(
      join(own, 'i.d.ts'),
      "export * from './more';\n/** Adds one. */\nexport declare function plusOneMore(n: number): number;\n",
    );
    writeFileSync(
      join(own, 'more.d.ts'),
      'export interface MoreThings { a: number }\nexport declare const evenMoreThings: MoreThings;\n',
    );
    writeFileSync(join(kernel.folder, 'package.json'), '{"dependencies":{"own-lib":"1"}}');
    await kernel.start();
    await kernel.run(
      'interface Config { rank: number; alpha: number }\n/** Scales the update.\n * @param r the rank */\nfunction scale(config: Config, r: number): number { return config.alpha / r }\nconst config: Config = { rank: 8, alpha: 16 };',
    );
  });
  after(() => kernel.stop());

  const complete = async (code: string, at = code.length) => {
    const cursor = [...code.slice(0, at)].length;
    const { content } = await kernel.client.request('shell', 'complete_request', {
      code,
      cursor_pos: cursor,
    });
    const items = (content.metadata as { _jupyter_types_experimental: Json[] })
      ._jupyter_types_experimental;
    return {
      ...(content as { matches: string[]; cursor_start: number; cursor_end: number }),
      items,
    };
  };
  const inspect = async (code: string, at = code.length) => {
    const { content } = await kernel.client.request('shell', 'inspect_request', {
      code,
      cursor_pos: at,
      detail_level: 0,
    });
    return content as { found: boolean; data: Record<string, string> };
  };

  it('completes members with types, of values of earlier cells too', async () => {
    const { matches, items, cursor_start, cursor_end } = await complete('config.ra');
    expect(matches).to.deep.equal(['rank']);
    expect([cursor_start, cursor_end]).to.deep.equal([7, 9]);
    expect(items[0]).to.include({
      text: 'rank',
      type: 'property',
      signature: 'Config.rank: number',
    });
    expect((await complete("'abc'.toUpp")).matches).to.deep.equal(['toUpperCase']);
    const signatures = async (code: string) => (await complete(code)).items.map((i) => i.signature);
    expect(await signatures('Math.atan2')).to.deep.equal([
      'Math.atan2(y: number, x: number): number',
    ]);
    expect(await signatures('[1].ind')).to.deep.equal([
      'Array.indexOf(searchElement: number, fromIndex?: number | undefined): number',
    ]);
    expect(await signatures('({ a: 1 }).a')).to.deep.equal(['a: number']);
    expect((await complete('const c: Config = { ra', 22)).matches).to.include('rank');
  });

  it('completes names of cells, globals, keys of objects and string literals', async () => {
    expect((await complete('sca')).matches[0]).to.equal('scale');
    expect((await complete('displ')).matches).to.deep.equal(['display']);
    const [parse] = (await complete('parseFl')).items;
    expect(parse!.signature).to.equal('function parseFloat(string: string): number');
    expect((await complete("const u: 'left' | 'right' = 'le", 31)).matches).to.deep.equal(['left']);
  });

  it('completes modules, and names that an installed package exports', async () => {
    expect((await complete("import { x } from 'own")).matches).to.deep.equal(['own-lib']);
    expect((await complete("import { plus } from 'own-lib'", 13)).matches).to.deep.equal([
      'plusOneMore',
    ]);
    expect((await complete("import * as fs from 'node:f")).matches).to.include('node:fs');
    let found = await complete('plusOne');
    // Packages are read one by one while nothing is asked for.
    for (let i = 0; i < 20 && found.matches.length === 0; i++) {
      await pause(300);
      found = await complete('plusOne');
    }
    const { matches, items } = found;
    expect(matches).to.deep.equal(['plusOneMore']);
    expect(items[0]!.signature).to.equal("from 'own-lib'");
    expect((await complete('evenMore')).matches).to.deep.equal(['evenMoreThings']);
    const [read] = (await complete('readFileSy')).items;
    expect(read).to.include({ text: 'readFileSync', signature: "from 'node:fs'" });
    const { reply } = await kernel.run('plusOneMore(1)');
    expect(reply.evalue).to.match(/import \{ plusOneMore \} from 'own-lib' would bring it$/);
  });

  it('counts positions in characters, not in UTF-16 units', async () => {
    const code = "const emoji = '🙂'; Math.flo";
    expect(await complete(code)).to.deep.include({
      matches: ['floor'],
      cursor_start: 24,
      cursor_end: 27,
    });
  });

  it('answers while a cell loops', async () => {
    const running = kernel.run('{ const t = Date.now(); while (Date.now() - t < 1200) {} }');
    await pause(100);
    const started = Date.now();
    expect((await complete('config.al')).matches).to.deep.equal(['alpha']);
    expect(Date.now() - started).to.be.lessThan(1000);
    await running;
  });

  it('documents a name with signature and JSDoc, as Markdown and plain text', async () => {
    const { found, data } = await inspect('scale');
    expect(found).to.equal(true);
    expect(data['text/markdown']).to.contain(
      '```typescript\nfunction scale(config: Config, r: number): number\n```',
    );
    expect(data['text/markdown'])
      .to.contain('Scales the update.')
      .and.to.contain('*@param* r the rank');
    expect(data['text/plain']).to.match(/^function scale/);
    expect((await inspect('nothingHere')).found).to.equal(false);
  });

  it('helps with the parameters inside a call', async () => {
    const { data } = await inspect('scale(config, ');
    expect(data['text/markdown'])
      .to.contain('scale(config: Config, r: number): number')
      .and.to.contain('**r: number** the rank');
  });

  it('tells complete, incomplete and invalid texts apart', async () => {
    const status = async (code: string) =>
      (await kernel.client.request('shell', 'is_complete_request', { code })).content;
    for (const code of [
      '',
      '1',
      'let a = 1',
      'const g = (x: string): string => x',
      'class A<T> { constructor(public x: T) {} }',
      '`a ${1 + 1} b`',
      '%types off',
      '?parseInt',
      '// c',
    ]) {
      expect((await status(code)).status, code).to.equal('complete');
    }
    for (const code of [
      'function f(x: number) {',
      'const a = [1, 2,',
      '`a template',
      '/* open',
      'const o = { a: 1,',
      '(1 +',
      'class A { m() {',
      'if (a) {\n  b(',
    ]) {
      expect((await status(code)).status, code).to.equal('incomplete');
    }
    for (const code of [
      'let 1a = 2',
      'function (',
      '}{',
      'const x = = 2',
      "'unterminated",
      'a b c',
    ]) {
      expect((await status(code)).status, code).to.equal('invalid');
    }
    expect((await status('if (x) {\n  for (;;) {')).indent).to.equal('    ');
  });
});
