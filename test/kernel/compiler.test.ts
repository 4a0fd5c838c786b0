import { compileFunction } from 'node:vm';
import { expect } from 'chai';
import fc from 'fast-check';
import ts from 'typescript';
import { CELL_PARAMETERS, compileCell, parseCell } from '../../src/kernel/compiler.ts';
import { Scope } from '../../src/kernel/scope.ts';
import { TestKernel } from './support.ts';

const NAMES = ['a', 'b', 'c', 'd'];
const GLOBALS = new Set(Object.getOwnPropertyNames(globalThis));

/** Runs cells one after the other in a live scope, as the kernel's child does. */
async function runCells(cells: readonly string[]): Promise<Record<string, unknown>> {
  const scope = new Scope();
  const known = new Set<string>();
  for (const text of cells) {
    const file = parseCell('cell.ts', text, false);
    const compiled = compileCell(file, {
      path: 'cell.ts',
      known: (name) => known.has(name),
      isGlobal: (name) => GLOBALS.has(name),
    });
    for (const name of compiled.declares.keys()) {
      known.add(name);
      scope.declare(name);
    }
    const make = compileFunction(compiled.js, [...CELL_PARAMETERS]) as () => (
      ...boxes: unknown[]
    ) => Promise<unknown>;
    await make()(...compiled.boxes.map((name) => scope.box(name)));
  }
  return Object.fromEntries(scope.values());
}

/** Runs the whole program as one strict piece of code, as a module runs. */
async function runModule(
  program: string,
  names: readonly string[],
): Promise<Record<string, unknown>> {
  const body = `"use strict"; return async () => { ${program}\nreturn { ${names.join(', ')} } }`;
  const { outputText } = ts.transpileModule(body, {
    compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
  });
  return (compileFunction(outputText) as () => () => Promise<Record<string, unknown>>)()();
}

/** Data alone: functions and classes have no value to compare. */
const data = (values: Record<string, unknown>) =>
  JSON.stringify(
    Object.entries(values)
      .filter(([, v]) => typeof v !== 'function')
      .sort(),
  );

/** The values of `names` as JSON, or the message of the error that ended the program. */
const outcome = async (
  run: () => Promise<Record<string, unknown>>,
  names: readonly string[],
): Promise<string> => {
  try {
    const values = await run();
    return data(Object.fromEntries(names.map((name) => [name, values[name]])));
  } catch (error) {
    return error instanceof Error ? `${error.name}: ${error.message}` : `thrown: ${error}`;
  }
};

/** Statements of programs over a few numbers, with functions, closures, loops, patterns, classes and shadows. */
const program = (): fc.Arbitrary<{ statements: string[]; names: string[] }> => {
  const name = fc.constantFrom(...NAMES);
  const number = fc.integer({ min: -9, max: 9 });
  const { expression } = fc.letrec<{ expression: string }>((tie) => ({
    expression: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      number.map((n) => `(${n})`),
      name,
      fc
        .tuple(
          tie('expression'),
          fc.constantFrom('+', '-', '*', '>', '??', '&&'),
          tie('expression'),
        )
        .map(([l, o, r]) =>
          o === '??' || o === '&&' ? `((${l}) ${o} (${r}))` : `(Number(${l}) ${o} Number(${r}))`,
        ),
      fc.tuple(name, tie('expression')).map(([n, e]) => `(${n} = Number(${e}) % 97)`),
      name.map((n) => `${n}++`),
      fc.tuple(name, tie('expression')).map(([n, e]) => `((${n}: any): any => ${n} + (${e}))(1)`),
      fc.tuple(name, tie('expression')).map(([n, e]) => `({ ${n}, k: ${e} }).${n}`),
      fc.tuple(name, name).map(([n, m]) => `[${n}, ${m}].map((x) => Number(x) + 1).length`),
      fc.tuple(name, tie('expression')).map(([n, e]) => `\`\${${n}}\${${e}}\`.length`),
      tie('expression').map((e) => `(typeof (${e})).length`),
    ),
  }));
  const statement = (i: number): fc.Arbitrary<{ text: string; declares: string[] }> => {
    const plain = (arbitrary: fc.Arbitrary<string>) =>
      arbitrary.map((text) => ({ text, declares: [] as string[] }));
    const pair = fc.tuple(name, expression);
    return fc.oneof(
      plain(pair.map(([n, e]) => `${n} = ${e}`)),
      plain(pair.map(([n, e]) => `;{ let ${n} = ${e}; ${n} = 5; var w${i} = ${n} }`)).map(
        ({ text }) => ({ text, declares: [`w${i}`] }),
      ),
      plain(
        fc
          .tuple(name, name, expression)
          .map(
            ([n, m, e]) =>
              `for (let ${n} = 0, z = 0; ${n} < 3 && z < 5; ${n}++, z++) { ${m} = Number(${e}) % 89 + ${n} }`,
          ),
      ),
      plain(pair.map(([n, e]) => `for (const ${n} of [1, 2]) { b = Number(${e}) + ${n} }`)),
      plain(
        fc
          .tuple(name, name)
          .map(([n, m]) => `[${n}, ${m}] = [${m}, ${n}]`)
          .map((t) => `;${t}`),
      ),
      plain(pair.map(([n, e]) => `;({ ${n}, z: c = ${e} } = { ${n}: 3 } as any);`)),
      plain(pair.map(([n, e]) => `if (Number(${e}) > 0) ${n} = 1\nelse { ${n} = 2 }`)),
      plain(pair.map(([n, e]) => `try { throw ${e} } catch (${n}) { d = Number(${n}) }`)),
      plain(
        pair.map(
          ([n, e]) =>
            `switch (Number(${e}) % 3) { case 0: ${n} = 7; break; default: let ${n}2 = 8; ${n} = ${n}2 }`,
        ),
      ),
      expression.map((e) => ({ text: `const k${i} = ${e}`, declares: [`k${i}`] })),
      pair.map(([n, e]) => ({
        text: `const { x: x${i} = ${e}, ...y${i} } = { ${n}, q: 1 } as any`,
        declares: [`x${i}`, `y${i}`],
      })),
      pair.map(([n, e]) => ({
        text: `function f${i}(${n}: any): any { return ${e} }\nlet g${i}: any = f${i}(${i})`,
        declares: [`g${i}`],
      })),
      pair.map(([n, e]) => ({
        text: `const h${i} = (): any => { ${n} = ${n} + 1; return ${e} }\nlet r${i}: any = h${i}() + h${i}()`,
        declares: [`r${i}`],
      })),
      pair.map(([n, e]) => ({
        text: `class C${i} { constructor(public ${n}: any) {} get v(): any { return this.${n} + (${e}) } static make() { return new C${i}(2) } }\nlet o${i} = C${i}.make().v`,
        declares: [`o${i}`],
      })),
      number.map((n) => ({
        text: `enum E${i} { A = ${n}, B, C = A + B }\nconst e${i} = [E${i}.A, E${i}.B, E${i}.C]`,
        declares: [`e${i}`],
      })),
      pair.map(([n, e]) => ({
        text: `namespace N${i} { export const ${n} = 4; export const out = Number(${e}) + ${n} }\nconst n${i} = N${i}.out`,
        declares: [`n${i}`],
      })),
      pair.map(([n, e]) => ({
        text: `const t${i} = await Promise.resolve(${e}).then((${n}) => ${n})`,
        declares: [`t${i}`],
      })),
    );
  };
  return fc
    .integer({ min: 1, max: 8 })
    .chain((count) => fc.tuple(...Array.from({ length: count }, (_, i) => statement(i))))
    .map((parts) => ({
      statements: [
        'let a: any = 1, b: any = 2',
        'let c: any = 3; var d: any = 4',
        ...parts.map((p) => p.text),
      ],
      names: [...NAMES, ...parts.flatMap((p) => p.declares)],
    }));
};

/** Splits statements into cells at some of the boundaries. */
const split = (statements: readonly string[], cuts: readonly boolean[]): string[] => {
  const cells: string[][] = [[]];
  statements.forEach((text, i) => {
    if (i > 0 && cuts[i % cuts.length]) cells.push([]);
    cells.at(-1)!.push(text);
  });
  return cells.map((lines) => lines.join('\n'));
};

describe('The compiler of cells', () => {
  it('gives the values of a module for random programs, however they are cut into cells', async () => {
    const cuts = fc.array(fc.boolean(), { minLength: 1, maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(program(), cuts, async ({ statements, names }, where) => {
        const cells = split(statements, where);
        const expected = await outcome(() => runModule(statements.join('\n'), names), names);
        expect(await outcome(() => runCells(cells), names)).to.equal(expected);
      }),
      { numRuns: 400 },
    );
  }).timeout(120_000);

  it('gives the same values in the real kernel', async () => {
    const kernel = new TestKernel();
    await kernel.start();
    try {
      for (const { statements, names } of fc.sample(program(), { numRuns: 30, seed: 20 })) {
        const expected = await runModule(statements.join('\n'), names).catch(() => null);
        if (expected === null) continue;
        for (const cell of split(statements, [true, false])) {
          const { reply } = await kernel.run(`%types off\n${cell}`);
          expect(reply.status, `${reply.evalue}\n${cell}`).to.equal('ok');
        }
        const value = await kernel.run(
          `JSON.stringify(Object.entries({ ${names.join(', ')} }).sort())`,
        );
        expect(value.value).to.equal(
          (await import('node:util')).inspect(data(expected), { breakLength: 100 }),
        );
      }
    } finally {
      await kernel.stop();
    }
  }).timeout(60_000);

  it('maps each statement to its line', () => {
    const text = 'interface A {\n  x: number;\n}\nlet first = 1;\n\nconst second = first + 2;';
    const { js, map } = compileCell(parseCell('x.ts', text, false), {
      path: 'x.ts',
      known: () => false,
      isGlobal: () => true,
    });
    expect(js).to.contain('__$second.v = __$first.v + 2');
    expect(JSON.parse(map)).to.deep.include({ version: 3, sources: ['x.ts'] });
  });

  it("accepts the cells that tslab's converter accepts", async () => {
    const { createRequire } = await import('node:module');
    const { createConverter } = createRequire(import.meta.url)('tslab/dist/converter.js') as {
      createConverter: (options: object) => {
        convert: (previous: string, text: string) => { diagnostics: unknown[] };
        close: () => void;
      };
    };
    const converter = createConverter({ _jsx: false });
    try {
      for (const cell of [
        'const x = 1; let y: string = "a"; x + y.length',
        'function f<T>(a: T): T[] { return [a] }\nf(3)',
        'class A { constructor(public n: number) {} }\nnew A(2).n',
        'enum E { A, B }\nE.B',
        'const { a, ...rest } = { a: 1, b: 2 };\nrest.b',
        'await Promise.resolve(1)',
        'for (const i of [1, 2]) { i }',
        'type T = { x: number }; const t: T = { x: 1 }; t',
      ]) {
        expect(converter.convert('', cell).diagnostics, cell).to.deep.equal([]);
        await runCells([cell]);
      }
    } finally {
      converter.close();
    }
  }).timeout(60_000);
});
