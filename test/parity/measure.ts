// What a check against a peer finds: errors beside the tolerances they must stay within.

/** One comparison; it passes when `error` is at most `tolerance`. */
export type Measure = {
  what: string;
  error: number;
  tolerance: number;
};

/** The description of a case: `case` is its kind, the other fields depend on it. */
export interface Manifest {
  case: string;
  [field: string]: unknown;
}

/** Compares one case, in this folder, with what the library does. */
export type Check = (folder: string, manifest: Manifest) => Promise<Measure[]>;

/**
 * |actual - expected| <= atol + rtol * |expected| for each number; the measure is of the one that is
 * nearest to failing. Other lengths, or a NaN where none is expected, are infinitely wrong.
 */
export function close(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { atol = 0, rtol = 0 }: { atol?: number; rtol?: number },
): Measure {
  if (actual.length !== expected.length) return { what, error: Infinity, tolerance: atol };
  let worst: Measure = { what, error: 0, tolerance: atol };
  let share = 0;
  for (let i = 0; i < actual.length; i++) {
    if (Object.is(actual[i], expected[i])) continue;
    const error = Math.abs(actual[i]! - expected[i]!);
    const tolerance = atol + rtol * Math.abs(expected[i]!);
    if (!(error <= tolerance))
      return { what, error: Number.isNaN(error) ? Infinity : error, tolerance };
    if (error > share * tolerance) {
      worst = { what, error, tolerance };
      share = error / tolerance;
    }
  }
  return worst;
}

/** 0 when both are the same JSON, else 1; the tolerance is 0. */
export function same(what: string, actual: unknown, expected: unknown): Measure {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  return a === b
    ? { what, error: 0, tolerance: 0 }
    : { what: `${what}: ${clip(a)} instead of ${clip(b)}`, error: 1, tolerance: 0 };
}

/** Whether a comparison holds. */
export function passes({ error, tolerance }: Measure): boolean {
  return error <= tolerance;
}

/** The comparison that failed worst, or came nearest to failing. */
export function worstOf(measures: Measure[]): Measure {
  const share = ({ error, tolerance }: Measure) =>
    error === 0 ? 0 : tolerance === 0 ? Infinity : error / tolerance;
  return measures.reduce((worst, measure) => (share(measure) > share(worst) ? measure : worst));
}

const clip = (text: string | undefined) => (text ?? 'nothing').slice(0, 120);
