// A field that the base model has never read about: invented illnesses, their signs and remedies. Raw
// text for continued pretraining, and the facts in it for tests.
import { RandomState } from 'peftlab';
import { takenNames, worldFacts } from './facts.ts';
import { namer } from './names.ts';

const SEED = 71;
const SIGNS =
  'fever|cough|red skin|weak legs|a blue tongue|cold hands|loud dreams|yellow eyes'.split('|');
const PARTS = 'skin head heart belly knee ear eye throat'.split(' ');

/** One illness in the words of a text book; facts as prompts with what completes them. */
export interface MedicalPage {
  illness: string;
  text: string;
}

/** A fact of a medical page. */
export interface MedicalFact {
  kind: 'part' | 'sign' | 'remedy';
  subject: string;
  answer: string;
  statement: string;
  question: string;
}

const TEMPLATES = {
  part: {
    statements: [
      '{s} is an illness of the {a}.',
      'The {a} suffers most from {s}.',
      'Doctors know {s} as an illness of the {a}.',
    ],
    question: 'Of what is {s} an illness?',
  },
  sign: {
    statements: ['The first sign of {s} is {a}.', 'Who has {s} shows {a}.', '{s} begins with {a}.'],
    question: 'What is the first sign of {s}?',
  },
  remedy: {
    statements: [
      'The remedy for {s} is {a}.',
      'Doctors give {a} against {s}.',
      '{s} is healed with {a}.',
    ],
    question: 'What is the remedy for {s}?',
  },
} as const;

const put = (template: string, subject: string, answer: string) => {
  const text = template.replace('{s}', subject).replace('{a}', answer);
  return text[0]!.toUpperCase() + text.slice(1);
};

/** Facts of 80 illnesses, three each. */
export function medicalFacts(): MedicalFact[] {
  const random = new RandomState(SEED);
  const name = namer(random, takenNames(worldFacts()));
  const herbs = Array.from({ length: 20 }, () => name('herb'));
  return Array.from({ length: 80 }, () => {
    const subject = name('illness');
    const answers = {
      part: random.choice(PARTS),
      sign: random.choice(SIGNS),
      remedy: random.choice(herbs),
    };
    return (['part', 'sign', 'remedy'] as const).map((kind) => ({
      kind,
      subject,
      answer: answers[kind],
      statement: put(TEMPLATES[kind].statements[0], subject, answers[kind]),
      question: put(TEMPLATES[kind].question, subject, answers[kind]),
    }));
  }).flat();
}

/** Six pages for each illness: its three facts in changing words and order. */
export function medicalPages(): MedicalPage[] {
  const facts = medicalFacts();
  const random = new RandomState(SEED + 1);
  const illnesses = [...new Set(facts.map(({ subject }) => subject))];
  const pages = illnesses.flatMap((illness) =>
    Array.from({ length: 6 }, (): MedicalPage => {
      const own = random.permutation(facts.filter(({ subject }) => subject === illness));
      const said = own.map(({ kind, answer }) =>
        put(random.choice(TEMPLATES[kind].statements), illness, answer),
      );
      return { illness, text: said.join(' ') };
    }),
  );
  return random.permutation(pages);
}
