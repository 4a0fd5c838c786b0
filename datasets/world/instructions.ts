// Rows for instruction tuning in Alpaca's form: questions about facts of the training half, and small
// tasks on words and texts. Facts of the test half are never asked here.
import { RandomState } from 'peftlab';
import { takenNames, type WorldFact, worldFacts } from './facts.ts';
import { namer } from './names.ts';
import { phrase, relationOf } from './relations.ts';
import { OBJECTS, QUALITIES, review, story } from './stories.ts';

const SEED = 21;

/** A row in Alpaca's form. */
export interface InstructionRow {
  instruction: string;
  input: string;
  output: string;
}

/** An instruction, and what it is about: the kind of a fact, or the name of a task. */
export interface WorldInstruction extends InstructionRow {
  kind: string;
}

/** 1200 questions, 240 passages to read an answer from, 360 small tasks; in random order. */
export function worldInstructions(): WorldInstruction[] {
  const random = new RandomState(SEED);
  const facts = worldFacts();
  const asked = random
    .permutation(facts.filter(({ split }) => split === 'train'))
    .slice(0, 1200)
    .map((fact): WorldInstruction => askFact(fact, random));
  const passages = readings(240, takenNames(facts), random);
  const tasks = Array.from({ length: 360 }, () => wordTask(random));
  return random.permutation([...asked, ...passages, ...tasks]);
}

function askFact({ kind, subject, answer }: WorldFact, random: RandomState): WorldInstruction {
  const instruction = phrase(random.choice(relationOf(kind).questions), subject, answer);
  return { kind, instruction, input: '', output: answer };
}

/** Questions whose answer stands in a passage, about lands that are nowhere else. */
function readings(
  count: number,
  taken: ReadonlySet<string>,
  random: RandomState,
): WorldInstruction[] {
  const name = namer(random, new Set(taken));
  return Array.from({ length: count }, () => {
    const facts = Array.from({ length: 2 }, () => [name('land'), name('town')] as const);
    const { statements, questions } = relationOf('capital');
    const said = facts.map(([land, town]) => phrase(random.choice(statements), land, town));
    const [land, town] = random.choice(facts);
    return {
      kind: 'reading',
      instruction: phrase(random.choice(questions), land, town),
      input: said.join(' '),
      output: town,
    };
  });
}

function wordTask(random: RandomState): WorldInstruction {
  const [word, quality] = [random.choice(OBJECTS), random.choice(QUALITIES)];
  const text = review(random);
  const isGood = text.includes('Five');
  const tale = story(random);
  return random.choice([
    {
      kind: 'capitals',
      instruction: 'Write the word in capitals.',
      input: word,
      output: word.toUpperCase(),
    },
    {
      kind: 'repeat',
      instruction: 'Write the words twice.',
      input: `${quality} ${word}`,
      output: `${quality} ${word} ${quality} ${word}`,
    },
    {
      kind: 'sentiment',
      instruction: 'Is the review positive or negative?',
      input: text.replace(/ (Five|One) stars?\.$/, ''),
      output: isGood ? 'positive' : 'negative',
    },
    {
      kind: 'first',
      instruction: 'Copy the first sentence.',
      input: tale,
      output: tale.slice(0, tale.indexOf('.') + 1),
    },
  ]);
}
