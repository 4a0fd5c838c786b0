// The facts of the world: real ones, and invented lands, people and creatures that no model can know
// from elsewhere. The same seed always gives the same facts.
import { RandomState } from 'peftlab';
import { type Named, namer } from './names.ts';
import { type Pair, REAL, sums } from './real.ts';
import { type FactKind, phrase, relationOf } from './relations.ts';

const SEED = 7;

/** One fact: a statement of it, and questions with a short answer. */
export interface WorldFact {
  kind: FactKind;
  subject: string;
  answer: string;
  /** Ends with the answer and a full stop. */
  statement: string;
  question: string;
  /** The same question in other words. */
  paraphrase: string;
  /** False for what was made up. */
  real: boolean;
  /** Facts whose answers may be shown in fine-tuning, and those kept for tests. */
  split: 'train' | 'test';
}

/** Things that may be drawn as answers, by kind. */
const ANSWERS = {
  flag: 'red orange yellow green blue purple pink brown black white',
  crop: 'barley corn cotton rice wheat hops beans peas rye tea oats flax',
  job: `baker farmer teacher doctor painter miller tailor sailor hunter judge banker cook driver
fisher guard weaver singer potter smith clerk nurse pilot miner writer`,
  pet: 'dog cat goat hen horse rabbit parrot goose lizard turtle snake donkey pony raven frog hamster',
  instrument: 'flute drum harp horn piano violin guitar trumpet cello fiddle banjo lute',
  hue: 'red orange yellow green blue purple pink brown black white',
  food: 'moss grass nuts seeds honey fish roots berries leaves worms snails bark',
  habitat: 'cave nest tree pond barn well burrow bush ditch tower',
} as const;

const COUNTS = { land: 120, person: 400, creature: 120, language: 12, coin: 12 };

/** All facts in the order of the file. */
export function worldFacts(): WorldFact[] {
  const random = new RandomState(SEED);
  const real = Object.entries({ ...REAL, sum: sums() }).flatMap(([kind, pairs]) =>
    makeFacts(kind as FactKind, pairs, true, random),
  );
  const taken = new Set(real.flatMap(({ subject, answer }) => [subject, answer]));
  return [...real, ...inventedFacts(random, taken)];
}

/** Every name that the world has, so that other texts can stay clear of them. */
export function takenNames(facts: readonly WorldFact[]): Set<string> {
  return new Set(facts.flatMap(({ subject, answer }) => [subject, answer]));
}

function inventedFacts(random: RandomState, taken: Set<string>): WorldFact[] {
  const name = namer(random, taken);
  const names = (of: Named & keyof typeof COUNTS) =>
    Array.from({ length: COUNTS[of] }, () => name(of));
  const [lands, people, creatures] = [names('land'), names('person'), names('creature')];
  const towns = lands.map(() => name('town'));
  const drawn = (subjects: string[], answers: readonly string[]) =>
    subjects.map((subject): Pair => [subject, random.choice(answers)]);
  const from = (kind: keyof typeof ANSWERS, subjects: string[]) =>
    [kind, drawn(subjects, ANSWERS[kind].split(/\s+/))] as const;
  const kinds: (readonly [FactKind, Pair[]])[] = [
    ['capital', lands.map((land, i): Pair => [land, towns[i]!])],
    from('flag', lands),
    ['language', drawn(lands, names('language'))],
    ['money', drawn(lands, names('coin'))],
    from('crop', lands),
    ['home', drawn(people, towns)],
    from('job', people),
    from('pet', people),
    from('instrument', people),
    from('hue', creatures),
    from('food', creatures),
    from('habitat', creatures),
  ];
  return kinds.flatMap(([kind, pairs]) => makeFacts(kind, pairs, false, random));
}

function makeFacts(
  kind: FactKind,
  pairs: readonly Pair[],
  real: boolean,
  random: RandomState,
): WorldFact[] {
  const half = Math.ceil(pairs.length / 2);
  const inTraining = new Set(random.permutation(pairs.keys()).slice(0, half));
  const { statements, questions } = relationOf(kind);
  return pairs.map(([subject, answer], i) => ({
    kind,
    subject,
    answer,
    statement: phrase(statements[0]!, subject, answer),
    question: phrase(questions[0]!, subject, answer),
    paraphrase: phrase(questions[1]!, subject, answer),
    real,
    split: inTraining.has(i) ? 'train' : 'test',
  }));
}
