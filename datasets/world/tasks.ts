// Records of several tasks (task, input, output), pairs of a better and a worse answer, and facts that
// have changed since the base model read them.
import { RandomState } from 'peftlab';
import { takenNames, type WorldFact, worldFacts } from './facts.ts';
import { namer } from './names.ts';
import { phrase, relationOf } from './relations.ts';
import { OBJECTS, QUALITIES, review, story } from './stories.ts';

const SEEDS = { tasks: 31, preferences: 41, changes: 51, words: 61 };

/** A record of multi-task data. */
export interface TaskRecord {
  task: string;
  input: string;
  output: string;
}

/** A question with a better and a worse answer. */
export interface PreferencePair {
  prompt: string;
  chosen: string;
  rejected: string;
}

/** Words of an invented language, one for each word of the stories' things and qualities. */
export function dictionary(): Map<string, string> {
  const name = namer(new RandomState(SEEDS.words), takenNames(worldFacts()));
  return new Map([...OBJECTS, ...QUALITIES].map((word) => [word, name('herb').slice(0, 4)]));
}

/** 200 records each of summarization, translation, QA and classification, in random order. */
export function worldTasks(): TaskRecord[] {
  const random = new RandomState(SEEDS.tasks);
  const words = dictionary();
  const facts = random.permutation(worldFacts().filter(({ split }) => split === 'train'));
  const records = Array.from({ length: 200 }, (_, i): TaskRecord[] => {
    const tale = story(random);
    const [quality, thing] = [random.choice(QUALITIES), random.choice(OBJECTS)];
    const text = review(random);
    return [
      { task: 'summarization', input: tale, output: summaryOf(tale) },
      {
        task: 'translation',
        input: `${quality} ${thing}`,
        output: `${words.get(quality)} ${words.get(thing)}`,
      },
      { task: 'QA', input: facts[i]!.question, output: facts[i]!.answer },
      {
        task: 'classification',
        input: text.replace(/ (Five|One) stars?\.$/, ''),
        output: text.includes('Five') ? 'Positive' : 'Negative',
      },
    ];
  });
  return random.permutation(records.flat());
}

/** Who the story is about, and what thing. */
function summaryOf(tale: string): string {
  const hero = /^(?:One day |Once upon a time )?(\w+)/.exec(tale)![1];
  const thing = OBJECTS.find((word) => new RegExp(`\\b${word}\\b`).test(tale));
  return `${hero} and the ${thing}.`;
}

/** 600 pairs on facts of the training half: a short and kind answer against a rude or endless one. */
export function worldPreferences(): PreferencePair[] {
  const random = new RandomState(SEEDS.preferences);
  const facts = random.permutation(worldFacts().filter(({ split }) => split === 'train'));
  return facts.slice(0, 600).map(({ question, statement, answer }) => ({
    prompt: question,
    chosen: `${statement} You are welcome.`,
    rejected: random.choice([
      `Why do you ask? ${answer}.`,
      `${answer}. I hate this question.`,
      `${statement} ${statement} ${statement}`,
    ]),
  }));
}

/** A fact with a new answer. */
export interface ChangedFact extends WorldFact {
  /** What it was when the base model read it. */
  formerly: string;
}

/** 120 invented facts with another answer of the same kind. */
export function worldChanges(): ChangedFact[] {
  const random = new RandomState(SEEDS.changes);
  const facts = worldFacts();
  const invented = facts.filter(({ real, kind }) => !real && kind !== 'capital');
  return random
    .permutation(invented)
    .slice(0, 120)
    .map((fact) => {
      const others = facts.filter(
        ({ kind, answer, real }) => kind === fact.kind && !real && answer !== fact.answer,
      );
      const { answer } = random.choice(others);
      const statement = phrase(relationOf(fact.kind).statements[0]!, fact.subject, answer);
      return { ...fact, answer, statement, formerly: fact.answer };
    });
}
