import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'chai';
import { TestKernel } from './support.ts';

describe('Cells', () => {
  const kernel = new TestKernel();
  before(() => kernel.start());
  after(() => kernel.stop());
  const file = (name: string, text: string, time?: number): void => {
    const path = join(kernel.folder, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, text);
    if (time !== undefined) utimesSync(path, time, time);
  };

  for (const [what, cells, value] of [
    ['await at the top level', ['const a = await Promise.resolve(4);', 'a + (await 1)'], '5'],
    [
      'declare a name again, with another type',
      ['const b = 1', "const b = 'two'", 'b.length'],
      '3',
    ],
    [
      'share live bindings',
      [
        'let counter = 0; function inc(): number { return ++counter }',
        'inc(); inc()',
        'counter = 10; inc()',
      ],
      '11',
    ],
    [
      'see a function that a later cell replaces',
      [
        'function inner() { return 1 } function outer() { return inner() }',
        'function inner() { return 2 }',
        'outer()',
      ],
      '2',
    ],
    [
      'keep names declared before a throw',
      ['const early = 5; throw new Error("x"); const late = 6', 'early'],
      '5',
    ],
    [
      'know nothing of names after a throw',
      ['const first = 5; throw new Error("x"); const second = 6', 'second'],
      'ReferenceError: second is not defined',
    ],
    [
      'declare with destructuring',
      [
        'const { p, q: [r = 3], ...others } = { p: 1, q: [], s: 4, t: 5 } as { p: number; q: number[]; s: number; t: number };',
        '[p, r, others]',
      ],
      '[ 1, 3, { s: 4, t: 5 } ]',
    ],
    [
      'swap and assign by destructuring',
      ['let m = 1, n = 2;', '[m, n] = [n, m]; ({ m } = { m: m + 10 }); [m, n]'],
      '[ 12, 1 ]',
    ],
    [
      'use var in loops and blocks',
      ['for (var i = 0; i < 3; i++) { var last = i }', '[i, last]'],
      '[ 3, 2 ]',
    ],
    [
      'keep block scopes apart',
      ['let x1 = 1; { let x1 = 2; x1++ } for (const x1 of [9]) { x1 } x1'],
      '1',
    ],
    [
      'keep names of functions',
      [
        'const named = () => 1; let other = function () {}; const K = class {}',
        '[named.name, other.name, K.name]',
      ],
      "[ 'named', 'other', 'K' ]",
    ],
    [
      'call functions without a this',
      ['function self(this: unknown) { return this }', 'self() === undefined'],
      'true',
    ],
    [
      'shorthand properties and templates',
      [
        'const sh = 2; const tag = (s: TemplateStringsArray, ...v: number[]) => s.join("|") + v',
        'tag`a${{ sh }.sh}b`',
      ],
      "'a|b2'",
    ],
    [
      'do without semicolons',
      [
        'let aa = 1\nlet bb = aa\n;[1].forEach(() => { bb++ })\nfunction go() { return 7 }\nconst cc = bb\ngo()',
      ],
      '7',
    ],
    [
      'enums, const enums and namespaces',
      [
        'enum E { A = 2, B } const enum F { C = 7 } namespace N { export const deep = E.B }',
        '[E.A, F.C, N.deep]',
      ],
      '[ 2, 7, 3 ]',
    ],
    [
      'classes across cells, with parameter properties',
      [
        'class Base { constructor(protected v: number) {} get() { return this.v } static make() { return new Base(1) } }',
        'class Derived extends Base { override get() { return super.get() + 1 } }',
        '[new Derived(4).get(), Base.make().get()]',
      ],
      '[ 5, 1 ]',
    ],
    [
      'abstract classes, generics, overloads, satisfies',
      [
        'abstract class Shape<T> { abstract area(): T }\nfunction over(a: string): string; function over(a: number): number; function over(a: unknown) { return a }\nclass Sq extends Shape<number> { area() { return 9 } }',
        'over(new Sq().area()) satisfies number',
      ],
      '9',
    ],
    [
      'standard decorators',
      [
        'function twice(f: (this: object) => number, _: ClassMethodDecoratorContext) { return function (this: object) { return 2 * f.call(this) } }\nclass Dec { @twice m(): number { return 4 } }',
        'new Dec().m()',
      ],
      '8',
    ],
    [
      'using',
      [
        'const log: string[] = []; { using r = { [Symbol.dispose]() { log.push("gone") } }; log.push("there") }',
        'log',
      ],
      "[ 'there', 'gone' ]",
    ],
    [
      'await using at the top',
      [
        'const seen: string[] = []; await using res = { async [Symbol.asyncDispose]() { seen.push("closed") } }; seen.push("open"); function during() { return res }',
        'seen',
      ],
      "[ 'open', 'closed' ]",
    ],
    [
      'export in every form',
      [
        'export const ex = 1; export function exf() { return 2 } export class ExC {} export { ex as again }; export type T9 = number',
        '[ex, exf(), ExC.name]',
      ],
      "[ 1, 2, 'ExC' ]",
    ],
    ['show an exported default', ['export default 6 * 7'], '42'],
    [
      'shadow a global without harm to others',
      [
        'const process = 1; const URL = "mine"; const name = "n"',
        'import { pathToFileURL } from "node:url"; [process, URL, name, pathToFileURL("/a").pathname]',
      ],
      "[ 1, 'mine', 'n', '/a' ]",
    ],
    [
      'generators, async iteration, labels',
      [
        'async function* gen() { yield 1; yield 2 }\nlet sum = 0; outer: for await (const v of gen()) { for (;;) { sum += v; continue outer } }\nsum',
      ],
      '3',
    ],
    [
      'import.meta and __dirname',
      [
        'import { basename } from "node:path"; basename(import.meta.dirname!) === basename(__dirname)',
      ],
      'true',
    ],
    ['typeof of what does not exist', ['%types off\ntypeof neverDeclared'], "'undefined'"],
    [
      'call what a later cell declares',
      [
        '%types off\nfunction early2() { return later2() }',
        'function later2() { return 3 }',
        'early2()',
      ],
      '3',
    ],
    [
      'close over loop variables',
      ['const fs3 = []; for (let k = 0; k < 3; k++) fs3.push(() => k); fs3.map((f) => f())'],
      '[ 0, 1, 2 ]',
    ],
    [
      'assign in conditions and update operators',
      ['%types warn\nlet u = 0; if ((u = 5)) u **= 2; u++; u'],
      '26',
    ],
    [
      'optional calls and non-null',
      ['let maybe: (() => number) | undefined = () => 8; maybe?.()', 'maybe!()'],
      '8',
    ],
  ] as const) {
    it(`can ${what}`, async () => {
      expect(await kernel.value(...cells)).to.equal(value);
    });
  }

  it('show nothing for statements, undefined and void', async () => {
    for (const code of ['', '// only words', 'const quiet = 1', 'void 0', 'if (true) { 5 }']) {
      expect((await kernel.run(code)).messages).to.deep.equal([]);
    }
  });

  it('import ESM, CommonJS, JSON, ESM with top-level await, and Node modules', async () => {
    const dir = 'node_modules/own-esm';
    file(`${dir}/package.json`, '{"name":"own-esm","type":"module","exports":"./i.js"}');
    file(`${dir}/i.js`, 'export const slow = await Promise.resolve(3); export default 4;');
    file('node_modules/own-cjs/index.js', 'module.exports = { name: "cjs", f() { return 5 } };');
    file('data.json', '{"a": [1, 2]}');
    const code = [
      "import def, { slow } from 'own-esm'",
      "import cjs, { f } from 'own-cjs'",
      "import data from './data.json' with { type: 'json' }",
      "import plain from './data.json'",
      "import * as path from 'node:path'",
      "import { type ParsedPath, join as glue } from 'path'",
      "const dynamic = await import('own-esm')",
      "const required = require('own-cjs') as { name: string }",
      "[def, slow, cjs.name, f(), data.a[1], plain.a[0], path.sep, glue('a', 'b'), dynamic.slow, required.name]",
    ].join('\n');
    expect(await kernel.value(code)).to.match(
      /4,\s+3,\s+'cjs',\s+5,\s+2,\s+1,\s+'\/',\s+'a\/b',\s+3,\s+'cjs'/,
    );
  });

  it('load a local TypeScript file anew after an edit, also of a file that it imports', async () => {
    file('deep.ts', 'export const deep: number = 1;\n', 1000);
    file(
      'lib.ts',
      "import { deep } from './deep.ts';\nexport interface I { x: number }\nexport const lib = (): number => 10 + deep;\n",
      1000,
    );
    const cell = "import { lib, type I } from './lib.ts';\nconst i9: I = { x: lib() };\ni9.x";
    expect(await kernel.value(cell)).to.equal('11');
    const same = "import { lib as again } from './lib.ts'; again === lib";
    expect(await kernel.value(same)).to.equal('true');
    file(
      'lib.ts',
      "import { deep } from './deep.ts';\nexport interface I { x: number }\nexport const lib = (): number => 20 + deep;\n",
      2000,
    );
    expect(await kernel.value(cell)).to.equal('21');
    file('deep.ts', 'export const deep: number = 5;\n', 3000);
    expect(await kernel.value(cell)).to.equal('25');
  });

  it('say which import is missing, and fail only where a missing export is used', async () => {
    expect(await kernel.value("import x from 'not-there-at-all'")).to.match(
      /^Error: Cannot find package 'not-there-at-all'/,
    );
    expect(
      await kernel.value("%types off\nimport { nope, join as j2 } from 'node:path'; j2('a')"),
    ).to.equal("'a'");
    expect(await kernel.value('%types off\nnope')).to.match(
      /SyntaxError: The module 'node:path' does not provide an export named 'nope'/,
    );
    await kernel.run('%types warn');
  });

  it('do without JSX unless tsconfig.json asks for it', async () => {
    expect(await kernel.value('const el = <b>hi</b>;')).to.match(/^SyntaxError/);
    file(
      'tsconfig.json',
      '{"compilerOptions": {"jsx": "react", "jsxFactory": "h", "strict": false}}',
    );
    await kernel.client.shutdown();
    await kernel.start();
    const h =
      'const h = (tag: string, props: object | null, ...children: string[]) => ({ tag, children });';
    expect(await kernel.value(h, '%types off\n(<b>hi</b>) as unknown')).to.equal(
      "{ tag: 'b', children: [ 'hi' ] }",
    );
    expect((await kernel.run('%types warn\nfunction loose(a) { return a }')).stdout).to.equal('');
  });
});
