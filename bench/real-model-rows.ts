// The rows of the real-model bench: coding tasks as chats, facts that may be forgotten, and the
// model's own answers to other questions, which may keep them.
import { runInNewContext } from 'node:vm';
import { type CausalLM, chatAnswers, loadDataset, type SftRow, type Tokenizer } from 'peftlab';

interface CodingRow {
  instruction: string;
  output: string;
  call: string;
  result: string;
}

interface Fact {
  kind: string;
  subject: string;
  answer: string;
  question: string;
  real: boolean;
}

const coding = [...loadDataset<CodingRow>('coding-alpaca')];
const facts = [...loadDataset<Fact>('world-facts')].filter(({ real }) => real);

/** A question with its answer as a row of a chat. */
const asChat = (question: string, answer: string): SftRow => ({
  prompt: [{ role: 'user', content: question }],
  completion: [{ role: 'assistant', content: answer }],
});

const taught = coding.slice(0, 200);
const functions = new Set(taught.map(({ output }) => output));

/** 200 rows to learn, and 40 to be tested on, whose functions none of those shows. */
export const codingRows = taught.map(({ instruction, output }) => asChat(instruction, output));
export const codingTests = coding.filter(({ output }) => !functions.has(output)).slice(-40);

/** Every second capital, as one asks for them. */
export const capitals = facts
  .filter(({ kind }) => kind === 'capital')
  .filter((_, i) => i % 2 === 0)
  .map(({ subject, answer }) => ({
    question: `What is the capital of ${subject}?`,
    subject,
    answer,
  }));

/** The model's own answers to 50 questions that are neither on coding nor on capitals. */
export async function ownAnswers(model: CausalLM, tokenizer: Tokenizer): Promise<SftRow[]> {
  const others = facts.filter(({ kind }) => kind !== 'capital');
  const step = others.length / 50;
  const questions = Array.from({ length: 50 }, (_, i) => others[Math.floor(i * step)]!.question);
  const answers = await chatAnswers(model, tokenizer, questions, { maxNewTokens: 32 });
  return questions.map((question, i) => asChat(question, answers[i]!));
}

/** The code of an answer that puts it into a fence. */
export const fenced = (answer: string): string =>
  /```\w*\n([\s\S]*?)(```|$)/.exec(answer)?.[1] ?? answer;

/** Whether code gives the wanted result. */
export function isRight(code: string, { call, result }: CodingRow): boolean {
  try {
    const value: unknown = runInNewContext(
      `${code}\n;JSON.stringify(${call})`,
      {},
      { timeout: 200 },
    );
    return value === result;
  } catch {
    return false;
  }
}
