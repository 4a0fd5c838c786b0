// The same questions in the forms in which data sets of the field come: ShareGPT's conversations,
// OpenAssistant's trees of messages, Dolly's rows.
import { RandomState } from 'peftlab';
import { type WorldFact, worldFacts } from './facts.ts';

const SEED = 81;

const askedOf = (seed: number) =>
  new RandomState(seed).permutation(worldFacts().filter(({ split }) => split === 'train'));

/** Groups of two facts of the training half. */
function pairsOf(seed: number, count: number): [WorldFact, WorldFact][] {
  const facts = askedOf(seed);
  return Array.from({ length: count }, (_, i) => [facts[2 * i]!, facts[2 * i + 1]!]);
}

/** 80 conversations of two questions and answers. */
export function shareGpt(): object[] {
  return pairsOf(SEED, 80).map((pair, i) => ({
    id: `talk-${i}`,
    conversations: pair.flatMap(({ question, answer }) => [
      { from: 'human', value: question },
      { from: 'gpt', value: answer },
    ]),
  }));
}

/** 80 trees: a question, two ranked answers, and a second question after the better one. */
export function openAssistant(): object[] {
  return pairsOf(SEED + 1, 80).flatMap(([first, second], i) => {
    const message = (
      id: string,
      parent: string | null,
      role: string,
      text: string,
      rank: number | null,
    ) => ({
      message_id: `${i}-${id}`,
      parent_id: parent === null ? null : `${i}-${parent}`,
      role,
      text,
      rank,
    });
    return [
      message('a', null, 'prompter', first.question, null),
      message('b', 'a', 'assistant', first.answer, 0),
      message('c', 'a', 'assistant', 'Why do you ask?', 1),
      message('d', 'b', 'prompter', second.question, null),
      message('e', 'd', 'assistant', second.answer, 0),
    ];
  });
}

/** 80 rows, every second one with its answer in a context. */
export function dolly(): object[] {
  return pairsOf(SEED + 2, 80).map(([fact, other], i) => {
    const isClosed = i % 2 === 0;
    return {
      instruction: fact.question,
      context: isClosed ? `${other.statement} ${fact.statement}` : '',
      response: fact.answer,
      category: isClosed ? 'closed_qa' : 'open_qa',
    };
  });
}
