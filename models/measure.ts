// What a base model knows: facts that it completes, questions that it answers, what stories cost it.
import { AutoModelForCausalLM, AutoTokenizer, exactMatches } from 'peftlab';
import type { WorldFact } from '../datasets/world/facts.ts';

/** Facts known of a kind, of all of that kind. */
export interface Known {
  known: number;
  all: number;
}

/** What was measured. */
export interface Measured {
  statements: Record<string, Known>;
  /** Real and invented facts together. */
  total: Known;
  real: Known;
  invented: Known;
  /** Questions whose answer the model gives at once, which it was never shown. */
  questions: Known;
}

/** Reads the model of `folder` and asks it for every fact: greedy, the whole answer and the full stop. */
export async function measureBase(folder: string, facts: readonly WorldFact[]): Promise<Measured> {
  const model = await AutoModelForCausalLM.fromPretrained(folder);
  const tokenizer = await AutoTokenizer.fromPretrained(folder);
  const begun = facts.map(({ statement, answer }) => {
    const end = ` ${answer}.`;
    return { prompt: statement.slice(0, -end.length), completion: end };
  });
  const asked = facts.map(({ question, answer }) => ({
    prompt: question,
    completion: ` ${answer}`,
  }));
  const told = await exactMatches(model, tokenizer, begun);
  const answered = await exactMatches(model, tokenizer, asked);
  model.dispose();
  const count = (hits: boolean[], keep: (fact: WorldFact) => boolean): Known => ({
    known: facts.filter((fact, i) => keep(fact) && hits[i]).length,
    all: facts.filter(keep).length,
  });
  const kinds = [...new Set(facts.map(({ kind }) => kind))];
  return {
    statements: Object.fromEntries(
      kinds.map((kind) => [kind, count(told, (fact) => fact.kind === kind)]),
    ),
    total: count(told, () => true),
    real: count(told, ({ real }) => real),
    invented: count(told, ({ real }) => !real),
    questions: count(answered, () => true),
  };
}
