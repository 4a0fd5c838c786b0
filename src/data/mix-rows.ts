// Which rows a run sees, and when: mixtures by proportions, replay of earlier rows against forgetting,
// a buffer that keeps a fair sample of a stream (Vitter's algorithm R, 1985), and curricula.
import { RandomState } from '../tensor/random.ts';

/** Rows of one kind, and their share of a mixture. */
export interface MixSource<Row> {
  rows: readonly Row[];
  /** Relative to the other weights: 80 and 20, or 0.8 and 0.2. */
  weight: number;
}

/**
 * `length` rows of which each source gives its share (the largest remainders are rounded up), in a
 * random order that `seed` fixes. A source with too few rows gives them again, each as often as the
 * others. Default length: the most that no source has to repeat a row for.
 */
export function mixRows<Row>(
  sources: readonly MixSource<Row>[],
  { length, seed = 0 }: { length?: number; seed?: number } = {},
): Row[] {
  const total = sources.reduce((sum, { weight }) => sum + weight, 0);
  for (const { rows, weight } of sources) {
    if (!(weight >= 0)) throw new RangeError(`A weight must be at least 0, got ${weight}`);
    if (weight > 0 && rows.length === 0) {
      throw new RangeError(`A source of weight ${weight} must have rows, got none`);
    }
  }
  if (!(total > 0)) throw new RangeError(`The weights must add up to more than 0, got ${total}`);
  const shares = sources.map(({ weight }) => weight / total);
  const most = Math.min(
    ...sources.map(({ rows }, i) =>
      shares[i]! > 0 ? Math.floor(rows.length / shares[i]!) : Infinity,
    ),
  );
  const counts = apportion(shares, length ?? most);
  const random = new RandomState(seed);
  const chosen = sources.flatMap(({ rows }, i) => take(rows, counts[i]!, random));
  return random.permutation(chosen);
}

/** New rows with earlier ones among them, which are `share` of the whole. */
export function withReplay<Row>(
  rows: readonly Row[],
  earlier: readonly Row[],
  { share, seed = 0 }: { share: number; seed?: number },
): Row[] {
  if (!(share >= 0 && share < 1)) {
    throw new RangeError(`The share of replayed rows must be at least 0 and below 1, got ${share}`);
  }
  const random = new RandomState(seed);
  const count = Math.round((rows.length * share) / (1 - share));
  return random.permutation([...rows, ...take(earlier, count, random)]);
}

/** Keeps at most `capacity` of the rows that it sees, each with the same chance. */
export class ReplayBuffer<Row> {
  readonly capacity: number;
  private readonly kept: Row[] = [];
  private seen = 0;
  private readonly random: RandomState;

  constructor(capacity: number, { seed = 0 } = {}) {
    if (!Number.isInteger(capacity) || capacity < 1) {
      throw new RangeError(`The capacity of a replay buffer must be positive, got ${capacity}`);
    }
    this.capacity = capacity;
    this.random = new RandomState(seed);
  }

  get rows(): readonly Row[] {
    return this.kept;
  }

  add(row: Row): void {
    this.seen++;
    if (this.kept.length < this.capacity) this.kept.push(row);
    else {
      const at = this.random.randint(this.seen);
      if (at < this.capacity) this.kept[at] = row;
    }
  }

  /** `count` kept rows, without one twice. Throws a RangeError for more than are kept. */
  sample(count: number): Row[] {
    if (count <= this.kept.length) return this.random.permutation(this.kept).slice(0, count);
    throw new RangeError(`The buffer holds ${this.kept.length} rows, ${count} were asked for`);
  }
}

/**
 * Rows from easy to hard in `stages` parts of equal size, each in a random order; for a trainer with
 * trainSamplingStrategy 'sequential'.
 */
export function curriculum<Row>(
  rows: readonly Row[],
  difficulty: (row: Row) => number,
  { stages = 3, seed = 0 }: { stages?: number; seed?: number } = {},
): Row[] {
  if (!Number.isInteger(stages) || stages < 1) {
    throw new RangeError(`stages must be a positive integer, got ${stages}`);
  }
  const random = new RandomState(seed);
  const scored = rows.map((row) => ({ row, score: difficulty(row) }));
  const sorted = scored.sort((a, b) => a.score - b.score).map(({ row }) => row);
  const edge = (stage: number) => Math.round((stage * rows.length) / stages);
  return Array.from({ length: stages }, (_, stage) =>
    random.permutation(sorted.slice(edge(stage), edge(stage + 1))),
  ).flat();
}

function apportion(shares: readonly number[], length: number): number[] {
  const exact = shares.map((share) => share * length);
  const counts = exact.map(Math.floor);
  const order = [...exact.keys()].sort((a, b) => exact[b]! - counts[b]! - (exact[a]! - counts[a]!));
  const left = length - counts.reduce((sum, count) => sum + count, 0);
  for (const i of order.slice(0, left)) counts[i]!++;
  return counts;
}

/** `count` rows in random order, all of them before any comes again. */
function take<Row>(rows: readonly Row[], count: number, random: RandomState): Row[] {
  if (count > 0 && rows.length === 0) throw new RangeError('There are no rows to take from');
  const rounds = rows.length === 0 ? 0 : Math.ceil(count / rows.length);
  return Array.from({ length: rounds }, () => random.permutation(rows))
    .flat()
    .slice(0, count);
}
