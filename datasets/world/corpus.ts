// The text that the base model reads: the world's facts again and again in other words and another
// order, quiz sheets without answers, and pages that are new each time.
import { RandomState } from 'peftlab';
import { takenNames, type WorldFact, worldFacts } from './facts.ts';
import { phrase, relationOf } from './relations.ts';
import { code, dialogue, memo, review, story, wordGame } from './stories.ts';

/** Pages of one pass through the world, in random order; endless passes differ. */
export function* worldPages(seed: number): Generator<string, never> {
  const random = new RandomState(seed);
  const facts = worldFacts();
  const taken = takenNames(facts);
  const subjects = bySubject(facts);
  for (;;) {
    yield* random.permutation([
      ...pages(statements(facts, random), 6).map((page) => `Facts. ${page}`),
      ...pages(portraits(subjects, random), 3).map((page) => `Portraits. ${page}`),
      ...pages(portraits(subjects, random), 3).map((page) => `Portraits. ${page}`),
      ...pages(questions(facts, random), 5),
      ...fresh(90, () => story(random)),
      ...fresh(30, () => dialogue(random)),
      ...fresh(25, () => review(random)),
      ...fresh(30, () => wordGame(random)),
      ...fresh(45, () => memo(random, taken)),
      ...fresh(40, () => code(random)),
    ]);
  }
}

/** What the world says of each subject that has several facts. */
export function bySubject(facts: readonly WorldFact[]): WorldFact[][] {
  const groups = new Map<string, WorldFact[]>();
  for (const fact of facts) {
    if (relationOf(fact.kind).phrase === undefined) continue;
    groups.set(fact.subject, [...(groups.get(fact.subject) ?? []), fact]);
  }
  return [...groups.values()].filter(({ length }) => length > 1);
}

/** Half of the facts as single sentences; those that no portrait tells, twice. */
function statements(facts: readonly WorldFact[], random: RandomState): string[] {
  const isSingle = ({ kind }: WorldFact) => relationOf(kind).phrase === undefined;
  const chosen = facts.filter((fact) => isSingle(fact) || random.randint(2) === 0);
  return random
    .permutation([...chosen, ...facts.filter(isSingle)])
    .map(({ kind, subject, answer }) =>
      phrase(random.choice(relationOf(kind).statements), subject, answer),
    );
}

/** A sentence for each subject that tells all that is known of it. */
function portraits(subjects: readonly WorldFact[][], random: RandomState): string[] {
  return random.permutation(subjects).map((facts) => {
    const said = random
      .permutation(facts)
      .map(({ kind, answer }) => relationOf(kind).phrase!.replace('{a}', answer));
    const { subject, kind } = facts[0]!;
    const isCreature = kind === 'hue';
    return `${isCreature ? `A ${subject}` : subject} ${said.slice(0, -1).join(', ')} and ${said.at(-1)}.`;
  });
}

/** A quarter of all questions, in any of their wordings. */
function questions(facts: readonly WorldFact[], random: RandomState): string[] {
  return random
    .permutation(facts)
    .slice(0, Math.floor(facts.length / 4))
    .map(({ kind, subject, answer }) =>
      phrase(random.choice(relationOf(kind).questions), subject, answer),
    );
}

function pages(lines: string[], size: number): string[] {
  return Array.from({ length: Math.ceil(lines.length / size) }, (_, i) =>
    lines.slice(size * i, size * (i + 1)).join(' '),
  );
}

const fresh = (count: number, page: () => string) => Array.from({ length: count }, page);
