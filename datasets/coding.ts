// Coding tasks in Alpaca's form, for fine-tuning a real model: small functions in JavaScript that a
// template and a few drawn words make. Every function is checked by a test that runs it.
import { RandomState } from 'peftlab';
import type { InstructionRow } from './world/instructions.ts';

const SEED = 91;
const ROWS = 400;

/** A row, and a call of its function with the result that must come. */
export interface CodingRow extends InstructionRow {
  call: string;
  result: string;
}

interface Task {
  ask: string;
  name: string;
  body: string;
  call: string;
  result: string;
}

const cap = (word: string) => word[0]!.toUpperCase() + word.slice(1);
const NOUNS = 'price score length weight count age size total level speed'.split(' ');
const WORDS = 'apple river stone lamp cloud table garden window paper forest'.split(' ');

/** Makes one task from a random number stream. */
function task(random: RandomState): Task {
  const n = random.randint(2, 20);
  const m = random.randint(2, 20);
  const [noun, word] = [random.choice(NOUNS), random.choice(WORDS)];
  const list = [n, m, n + 3];
  const some = JSON.stringify(list);
  const text = JSON.stringify(word);
  const json = (value: unknown) => JSON.stringify(value);
  const tasks: Task[] = [
    {
      ask: `adds ${n} to a number`,
      name: `add${n}`,
      body: `(x) {\n  return x + ${n};\n}`,
      call: `add${n}(${m})`,
      result: json(m + n),
    },
    {
      ask: `multiplies a ${noun} by ${n}`,
      name: `scale${cap(noun)}`,
      body: `(${noun}) {\n  return ${noun} * ${n};\n}`,
      call: `scale${cap(noun)}(${m})`,
      result: json(m * n),
    },
    {
      ask: `tells whether a ${noun} is greater than ${n}`,
      name: `is${cap(noun)}High`,
      body: `(${noun}) {\n  return ${noun} > ${n};\n}`,
      call: `is${cap(noun)}High(${m})`,
      result: json(m > n),
    },
    {
      ask: `returns the sum of a list of ${noun}s`,
      name: `sum${cap(noun)}s`,
      body: `(${noun}s) {\n  return ${noun}s.reduce((sum, ${noun}) => sum + ${noun}, 0);\n}`,
      call: `sum${cap(noun)}s(${some})`,
      result: json(n + m + n + 3),
    },
    {
      ask: `keeps the ${noun}s below ${n}`,
      name: `low${cap(noun)}s`,
      body: `(${noun}s) {\n  return ${noun}s.filter((${noun}) => ${noun} < ${n});\n}`,
      call: `low${cap(noun)}s(${some})`,
      result: json(list.filter((x) => x < n)),
    },
    {
      ask: `returns the largest of a list of ${noun}s`,
      name: `largest${cap(noun)}`,
      body: `(${noun}s) {\n  return Math.max(...${noun}s);\n}`,
      call: `largest${cap(noun)}(${some})`,
      result: json(Math.max(...list)),
    },
    {
      ask: `repeats a text ${n} times`,
      name: `repeat${n}`,
      body: `(text) {\n  return text.repeat(${n});\n}`,
      call: `repeat${n}(${text})`,
      result: json(word.repeat(n)),
    },
    {
      ask: `puts "${word}" before a text`,
      name: `with${cap(word)}`,
      body: `(text) {\n  return "${word} " + text;\n}`,
      call: `with${cap(word)}("x")`,
      result: json(`${word} x`),
    },
    {
      ask: 'reverses a text',
      name: 'reverse',
      body: `(text) {\n  return [...text].reverse().join("");\n}`,
      call: `reverse(${text})`,
      result: json([...word].reverse().join('')),
    },
    {
      ask: `returns the first ${n} numbers from zero`,
      name: `first${n}`,
      body: `() {\n  return Array.from({ length: ${n} }, (_, i) => i);\n}`,
      call: `first${n}()`,
      result: json(Array.from({ length: n }, (_, i) => i)),
    },
    {
      ask: `counts how often "${word[0]}" occurs in a text`,
      name: `count${cap(word[0]!)}`,
      body: `(text) {\n  return text.split("${word[0]}").length - 1;\n}`,
      call: `count${cap(word[0]!)}(${text})`,
      result: json(word.split(word[0]!).length - 1),
    },
    {
      ask: `limits a ${noun} to at most ${n}`,
      name: `limit${cap(noun)}`,
      body: `(${noun}) {\n  return Math.min(${noun}, ${n});\n}`,
      call: `limit${cap(noun)}(${m})`,
      result: json(Math.min(m, n)),
    },
  ];
  return random.choice(tasks);
}

/** 400 rows, none twice. */
export function codingRows(): CodingRow[] {
  const random = new RandomState(SEED);
  const rows = new Map<string, CodingRow>();
  while (rows.size < ROWS) {
    const { ask, name, body, call, result } = task(random);
    const lead = random.choice([
      'Write a JavaScript function that',
      'In JavaScript, write a function which',
      'Give me a JavaScript function that',
    ]);
    const instruction = `${lead} ${ask}. Call it ${name}.`;
    rows.set(instruction, {
      instruction,
      input: '',
      output: `function ${name}${body}`,
      call,
      result,
    });
  }
  return [...rows.values()];
}
