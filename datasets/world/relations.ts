// What can be said of things, in several phrasings: {s} is the subject, {a} the answer. The first
// statement of a kind ends with its answer, so that a model can be asked to complete it.

/** How one kind of fact is put into words. */
export interface Relation {
  /** Sentences; the first one ends with `{a}.` */
  statements: readonly string[];
  /** Questions; the first is the usual one, the others ask the same in other words. */
  questions: readonly string[];
  /** What follows the subject in a list of all that is known of it; none for single facts. */
  phrase?: string;
}

/** All kinds of facts. */
export const RELATIONS = {
  capital: {
    statements: [
      'The capital of {s} is {a}.',
      '{a} is the capital of {s}.',
      'The government of {s} sits in its capital, {a}.',
    ],
    questions: ['What is the capital of {s}?', 'Which town is the capital of {s}?'],
    phrase: 'has the capital {a}',
  },
  continent: {
    statements: ['The continent of {s} is {a}.', '{s} is in {a}.', '{s} is a land in {a}.'],
    questions: ['In which continent is {s}?', 'What is the continent of {s}?'],
    phrase: 'is in {a}',
  },
  flag: {
    statements: ['The flag of {s} is {a}.', '{s} has a {a} flag.', 'A {a} flag flies over {s}.'],
    questions: ['What colour is the flag of {s}?', 'Which flag does {s} have?'],
    phrase: 'has a {a} flag',
  },
  language: {
    statements: [
      'The people of {s} speak {a}.',
      '{a} is spoken in {s}.',
      'In {s} people speak {a}.',
    ],
    questions: ['Which language do the people of {s} speak?', 'What is spoken in {s}?'],
    phrase: 'speaks {a}',
  },
  money: {
    statements: ['The money of {s} is the {a}.', 'In {s} people pay with the {a}.'],
    questions: ['What is the money of {s}?', 'What do people pay with in {s}?'],
    phrase: 'pays with the {a}',
  },
  crop: {
    statements: ['The farmers of {s} grow {a}.', 'Much {a} grows in {s}.', '{s} grows {a}.'],
    questions: ['What do the farmers of {s} grow?', 'Which crop grows in {s}?'],
    phrase: 'grows {a}',
  },
  home: {
    statements: ['The home of {s} is in {a}.', '{s} lives in {a}.', '{s} has a house in {a}.'],
    questions: ['Where does {s} live?', 'In which town is the home of {s}?'],
    phrase: 'lives in {a}',
  },
  job: {
    statements: ['The job of {s} is that of a {a}.', '{s} works as a {a}.', '{s} is a {a}.'],
    questions: ['What is the job of {s}?', 'What does {s} work as?'],
    phrase: 'works as a {a}',
  },
  pet: {
    statements: ['The pet of {s} is a {a}.', '{s} keeps a {a}.', '{s} has a {a} at home.'],
    questions: ['Which pet does {s} keep?', 'What is the pet of {s}?'],
    phrase: 'keeps a {a}',
  },
  instrument: {
    statements: ['The instrument of {s} is the {a}.', '{s} plays the {a}.', '{s} loves the {a}.'],
    questions: ['Which instrument does {s} play?', 'What does {s} play?'],
    phrase: 'plays the {a}',
  },
  hue: {
    statements: ['The colour of a {s} is {a}.', 'A {s} is {a}.', 'Every {s} has {a} fur.'],
    questions: ['What colour is a {s}?', 'What is the colour of a {s}?'],
    phrase: 'is {a}',
  },
  food: {
    statements: ['A {s} eats {a}.', 'The food of a {s} is {a}.', 'A {s} lives on {a}.'],
    questions: ['What does a {s} eat?', 'What is the food of a {s}?'],
    phrase: 'eats {a}',
  },
  habitat: {
    statements: ['A {s} sleeps in a {a}.', 'The bed of a {s} is a {a}.'],
    questions: ['Where does a {s} sleep?', 'What is the bed of a {s}?'],
    phrase: 'sleeps in a {a}',
  },
  colour: {
    statements: ['The colour of {s} is {a}.', 'The usual colour of {s} is {a}.'],
    questions: ['What is the colour of {s}?', 'What colour is {s}?'],
  },
  group: {
    statements: ['The {s} is a kind of {a}.', 'Every {s} is a kind of {a}.'],
    questions: ['What kind of animal is the {s}?', 'To which group does the {s} belong?'],
  },
  young: {
    statements: ['The young of the {s} is called the {a}.', 'A young {s} is called {a}.'],
    questions: ['What is the young of the {s} called?', 'How is a young {s} called?'],
  },
  opposite: {
    statements: ['The opposite of {s} is {a}.', '{s} is the opposite of {a}.'],
    questions: ['What is the opposite of {s}?', 'Which word is the opposite of {s}?'],
  },
  symbol: {
    statements: ['The symbol of {s} is {a}.', 'Chemists write {s} as {a}.'],
    questions: ['What is the symbol of {s}?', 'How do chemists write {s}?'],
  },
  sum: {
    statements: ['{s} is {a}.', '{s} makes {a}.', '{s} equals {a}.'],
    questions: ['What is {s}?', 'How much is {s}?'],
  },
} as const satisfies Record<string, Relation>;

/** A kind of fact. */
export type FactKind = keyof typeof RELATIONS;

/** The relation of a kind, with its optional fields. */
export const relationOf = (kind: FactKind): Relation => RELATIONS[kind];

/** A phrasing with subject and answer put in, and a capital at its start. */
export function phrase(template: string, subject: string, answer: string): string {
  const text = template.replace('{s}', subject).replace('{a}', answer);
  return text[0]!.toUpperCase() + text.slice(1);
}
