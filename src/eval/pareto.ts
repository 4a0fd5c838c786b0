// Learning against forgetting: which runs no other run beats in both.

/** One run: what it learnt (higher is better) and what it forgot (lower is better). */
export interface LearningForgetting {
  name: string;
  learning: number;
  forgetting: number;
}

/** The runs that no other beats: none learns as much and forgets less, or more and forgets as little. */
export function paretoFront<Run extends LearningForgetting>(runs: readonly Run[]): Run[] {
  const beats = (a: Run, b: Run) =>
    a.learning >= b.learning &&
    a.forgetting <= b.forgetting &&
    (a.learning > b.learning || a.forgetting < b.forgetting);
  return runs
    .filter((run) => !runs.some((other) => beats(other, run)))
    .sort((a, b) => a.learning - b.learning);
}
