// Writes small-world.jsonl: facts about a small world, real ones and invented ones.
// Run: node --import tsx datasets/small-world.ts. The same seed always gives the same bytes.
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { RandomState } from 'peftlab';

const SEED = 3;
const FILE = new URL('small-world.jsonl', import.meta.url);

/** One fact: a statement of it, and a question with its one-word answer. */
export interface SmallWorldFact {
  kind: 'capital' | 'colour' | 'sum';
  subject: string;
  answer: string;
  statement: string;
  question: string;
  /** False for lands, towns and creatures that were made up. */
  real: boolean;
  /** The half of its kind that the fact belongs to, for tasks that are learnt and then tested. */
  split: 'train' | 'test';
}

const CAPITALS = `Australia Canberra, Austria Vienna, Belgium Brussels, Bulgaria Sofia,
Canada Ottawa, Chile Santiago, China Beijing, Croatia Zagreb, Cuba Havana, Denmark Copenhagen,
Egypt Cairo, Estonia Tallinn, Finland Helsinki, France Paris, Germany Berlin, Ghana Accra,
Greece Athens, Hungary Budapest, Iceland Reykjavik, Iran Tehran, Iraq Baghdad, Ireland Dublin,
Italy Rome, Japan Tokyo, Kenya Nairobi, Latvia Riga, Lebanon Beirut, Nepal Kathmandu, Norway Oslo,
Peru Lima, Poland Warsaw, Portugal Lisbon, Romania Bucharest, Russia Moscow, Senegal Dakar,
Spain Madrid, Sweden Stockholm, Thailand Bangkok, Ukraine Kyiv, Vietnam Hanoi`;

const COLOURS = `blood red, tomato red, cherry red, carrot orange, pumpkin orange, apricot orange,
lemon yellow, banana yellow, sunflower yellow, grass green, spinach green, cucumber green,
sky blue, sapphire blue, denim blue, lavender purple, aubergine purple, amethyst purple,
flamingo pink, salmon pink, piglet pink, chocolate brown, coffee brown, chestnut brown,
coal black, ebony black, raven black, snow white, milk white, salt white`;

const ONSETS = 'b d f g k l m n p r s t v z br dr gl kr pl tr'.split(' ');
const VOWELS = 'a e i o u'.split(' ');
const LAND_ENDINGS = 'ria via nor land mark'.split(' ');
const TOWN_ENDINGS = 'burg dal mir ton stad'.split(' ');
const CREATURE_ENDINGS = 'k bble nt x mp'.split(' ');

type Pair = readonly [subject: string, answer: string];

/** All facts, in the order of the file. */
export function smallWorld(): SmallWorldFact[] {
  const random = new RandomState(SEED);
  const name = namer(random);
  const capitals = pairs(CAPITALS);
  const colours = pairs(COLOURS);
  const lands = capitals.map((): Pair => [name(LAND_ENDINGS, true), name(TOWN_ENDINGS, true)]);
  const shades = random.permutation(colours.map(([, colour]) => colour));
  const creatures = shades.map((colour): Pair => [name(CREATURE_ENDINGS, false), colour]);
  return [
    ...facts('capital', capitals, true, random),
    ...facts('capital', lands, false, random),
    ...facts('colour', colours, true, random),
    ...facts('colour', creatures, false, random),
    ...facts('sum', sums(), true, random),
  ];
}

function pairs(text: string): Pair[] {
  return text.split(/,\s+/).map((entry) => entry.split(' ') as unknown as Pair);
}

function sums(): Pair[] {
  const digits = [...Array(10).keys()];
  return digits.flatMap((a) => digits.map((b): Pair => [`${a} and ${b}`, String(a + b)]));
}

/** Words of two open syllables and an ending, none given twice. */
function namer(random: RandomState): (endings: string[], capital: boolean) => string {
  const taken = new Set<string>();
  return (endings, capital) => {
    for (;;) {
      const syllable = () => random.choice(ONSETS) + random.choice(VOWELS);
      const word = syllable() + syllable() + random.choice(endings);
      if (taken.has(word)) continue;
      taken.add(word);
      return capital ? word[0]!.toUpperCase() + word.slice(1) : word;
    }
  };
}

function facts(
  kind: SmallWorldFact['kind'],
  entries: readonly Pair[],
  real: boolean,
  random: RandomState,
): SmallWorldFact[] {
  const inTraining = new Set(random.permutation(entries.keys()).slice(0, entries.length / 2));
  return entries.map(([subject, answer], i) => ({
    kind,
    subject,
    answer,
    statement: `the ${kind} of ${subject} is ${answer} .`,
    question: `what is the ${kind} of ${subject} ?`,
    real,
    split: inTraining.has(i) ? 'train' : 'test',
  }));
}

/** The whole file: one fact as JSON on each line. */
export function smallWorldJsonl(): string {
  return smallWorld()
    .map((fact) => `${JSON.stringify(fact)}\n`)
    .join('');
}

if (fileURLToPath(import.meta.url) === process.argv[1]) writeFileSync(FILE, smallWorldJsonl());
