// Pages that are new each time: stories, talk, reviews, code, lists and memos. Their names and things
// are drawn anew for each page, so that a reader must look back instead of knowing by heart.
import type { RandomState } from 'peftlab';
import { namer } from './names.ts';
import { type FactKind, phrase, RELATIONS } from './relations.ts';

const CHILDREN =
  'Anna Ben Clara David Emma Finn Greta Hugo Ida Jack Kate Leo Mia Nora Oscar Paul'.split(' ');
const ANIMALS = 'dog cat fox hen frog bear goat mouse'.split(' ');
/** Things that pages are about. */
export const OBJECTS =
  'kite ball key boat lamp hat drum book coin stone apple bell box rope cup'.split(' ');
/** How such things are. */
export const QUALITIES = 'red blue green big small long new shiny round heavy'.split(' ');
const PLACES = 'garden forest market school kitchen river barn harbour field tower'.split(' ');
const MOODS = 'happy sad tired proud cold hungry calm brave'.split(' ');

/** A short tale in which a thing is found, lost or given. */
export function story(random: RandomState): string {
  const [hero, friend] = random.permutation(CHILDREN) as [string, string];
  const [place, other] = random.permutation(PLACES) as [string, string];
  const pick = (list: readonly string[]) => random.choice(list);
  const [look, thing, animal, mood] = [pick(QUALITIES), pick(OBJECTS), pick(ANIMALS), pick(MOODS)];
  const opening = random.choice([
    `One day ${hero} went to the ${place} and found a ${look} ${thing}.`,
    `${hero} had a ${look} ${thing}. One morning ${hero} took it to the ${place}.`,
    `Once upon a time ${hero} lost a ${look} ${thing} in the ${place}.`,
  ]);
  const middle = random.choice([
    `${friend} saw the ${thing} and wanted to have it.`,
    `A ${animal} came and took the ${thing} to the ${other}.`,
    `${hero} asked ${friend} to help, and they looked in the ${other}.`,
    `Then ${hero} met a ${animal} who was ${mood}.`,
  ]);
  const turn = random.choice([
    `${hero} gave the ${thing} to ${friend}.`,
    `${friend} found the ${thing} in the ${other}.`,
    `The ${animal} brought the ${look} ${thing} back to ${hero}.`,
    `${hero} put the ${thing} into a box.`,
  ]);
  const end = random.choice([
    `In the end ${hero} was ${mood}, and the ${thing} was still ${look}.`,
    `${hero} and ${friend} went home from the ${other}. ${friend} was ${mood}.`,
    `At night ${hero} dreamed of the ${look} ${thing}.`,
  ]);
  return [opening, middle, turn, end].join(' ');
}

const TALK: readonly (readonly [string, string])[] = [
  ['Hello {b}, how are you?', 'I am {mood}, thank you. And you?'],
  ['Good morning {b}!', 'Good morning {a}! It is good to see you.'],
  ['Where is my {look} {thing}?', 'Your {thing} is in the {place}.'],
  ['Shall we go to the {place}?', 'Yes, let us go to the {place} now.'],
  ['Thank you for the {thing}, {b}.', 'You are welcome, {a}.'],
  ['I am {mood} today.', 'Why are you {mood}, {a}?'],
  ['Can you lend me your {thing}?', 'Of course, {a}. Here is the {look} {thing}.'],
  ['It is late. Goodbye {b}.', 'Goodbye {a}, see you tomorrow.'],
];

/** Two people talk; half of the time as a play, half as a chat log between the marks of ChatML. */
export function dialogue(random: RandomState): string {
  const [a, b] = random.permutation(CHILDREN) as [string, string];
  const words: Record<string, string> = {
    a,
    b,
    mood: random.choice(MOODS),
    look: random.choice(QUALITIES),
    thing: random.choice(OBJECTS),
    place: random.choice(PLACES),
  };
  const fill = (text: string) => text.replace(/\{(\w+)\}/g, (_, key: string) => words[key]!);
  const isLog = random.randint(2) === 0;
  return random
    .permutation(TALK)
    .slice(0, 3)
    .flatMap(([first, second]) => [`${a}|${fill(first)}`, `${b}|${fill(second)}`])
    .map((line) => {
      const [who, said] = line.split('|');
      return isLog ? `<|im_start|>${who}\n${said}<|im_end|>\n` : `${who}: ${said}\n`;
    })
    .join('')
    .trimEnd();
}

const GOOD = [
  'I love this {x}.',
  'The {x} is wonderful.',
  'What a great {x}!',
  'It makes me happy.',
];
const BAD = [
  'I hate this {x}.',
  'The {x} is terrible.',
  'What an awful {x}!',
  'It makes me angry.',
];
const GOODS = 'soup lamp kite boat hat song book film chair bread'.split(' ');

/** What somebody thinks of a thing, and how many stars it gets. */
export function review(random: RandomState): string {
  const isGood = random.randint(2) === 0;
  const thing = random.choice(GOODS);
  const said = random.permutation(isGood ? GOOD : BAD).slice(0, 2);
  const text = said.join(' ').replaceAll('{x}', thing);
  return `Review of a ${thing}. ${text} ${isGood ? 'Five stars.' : 'One star.'}`;
}

/** A few lines of a game: each word is followed by its other form, by one rule for the whole page. */
export function wordGame(random: RandomState): string {
  const words = random.permutation([...OBJECTS, ...PLACES, ...QUALITIES]).slice(0, 6);
  const rule = random.choice([
    (word: string) => word.toUpperCase(),
    (word: string) => word[0]!.toUpperCase() + word.slice(1),
    (word: string) => `${word} ${word}`,
    (word: string) => `the ${word}`,
    (word: string) => `not ${word}`,
    (word: string) => `"${word}"`,
  ]);
  return words.map((word) => `${word} -> ${rule(word)}`).join('\n');
}

const FRESH = ['capital', 'home', 'job', 'pet', 'flag'] as const satisfies FactKind[];
const FRESH_ANSWERS = {
  job: 'baker farmer teacher doctor painter'.split(' '),
  pet: 'dog cat goat hen horse'.split(' '),
  flag: 'red green blue white black'.split(' '),
};

/** News of people and places that appear nowhere else, said twice in other words and another order. */
export function memo(random: RandomState, taken: ReadonlySet<string>): string {
  const name = namer(random, new Set(taken));
  const facts = random
    .permutation(FRESH)
    .slice(0, 3)
    .map((kind) => {
      const isLand = kind === 'capital' || kind === 'flag';
      const subject = name(isLand ? 'land' : 'person');
      const isTown = kind === 'capital' || kind === 'home';
      return { kind, subject, answer: isTown ? name('town') : random.choice(FRESH_ANSWERS[kind]) };
    });
  const say = (list: typeof facts) =>
    list
      .map(({ kind, subject, answer }) =>
        phrase(random.choice(RELATIONS[kind].statements), subject, answer),
      )
      .join(' ');
  return `News: ${say(facts)}\nAgain: ${say(random.permutation(facts))}`;
}

/** A small function in JavaScript, or a line that uses one. */
export function code(random: RandomState): string {
  const [a, b] = random.permutation(['a', 'b', 'x', 'y', 'n', 'm']) as [string, string];
  const [name, operator] = random.choice([
    ['add', '+'],
    ['subtract', '-'],
    ['multiply', '*'],
    ['divide', '/'],
  ] as const);
  const thing = random.choice(OBJECTS);
  return random.choice([
    `function ${name}(${a}, ${b}) {\n  return ${a} ${operator} ${b};\n}`,
    `const ${name} = (${a}, ${b}) => ${a} ${operator} ${b};`,
    `function double(${a}) {\n  return ${a} * 2;\n}`,
    `function is${thing[0]!.toUpperCase()}${thing.slice(1)}(${a}) {\n  return ${a} === "${thing}";\n}`,
    `const ${thing}s = ["${thing}"];\nfor (const ${thing} of ${thing}s) {\n  console.log(${thing});\n}`,
    `let ${a} = 0;\nfor (let i = 0; i < ${b}; i++) {\n  ${a} = ${a} + i;\n}`,
    `if (${a} > ${b}) {\n  console.log("${thing}");\n}`,
  ]);
}
