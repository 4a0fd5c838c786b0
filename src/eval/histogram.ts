// Histograms: how many of some numbers fall into each of equal bins, as shares, drawn as a line a series, so
// that several can lie over one another. Left out: bins of unequal width.
import { type Chart, type ChartOptions, lineChart } from './chart.ts';

/** Bins of equal width: the middle of each, and the share of all numbers in it. */
export interface Histogram {
  middles: number[];
  shares: number[];
}

/** Numbers by name. */
export interface HistogramSeries {
  name: string;
  values: ArrayLike<number>;
}

/** How numbers are put into bins. */
export interface BinOptions {
  /** Default 50. */
  bins?: number;
  /** Numbers beyond it count in no bin. Default: from the lowest to the highest. */
  range?: readonly [number, number];
}

/** Shares of `values` by bin; throws if there are none, or one is not finite. */
export function histogram(
  values: ArrayLike<number>,
  { bins = 50, range }: BinOptions = {},
): Histogram {
  if (values.length === 0) throw new RangeError('A histogram needs numbers, got none');
  if (!(Number.isInteger(bins) && bins > 0)) {
    throw new RangeError(`bins must be a positive integer, got ${bins}`);
  }
  const [low, high] = range ?? ends(values);
  const width = (high - low) / bins || 1;
  const counts = new Array<number>(bins).fill(0);
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (!Number.isFinite(value)) {
      throw new RangeError(`Numbers of a histogram must be finite, got ${value} at ${i}`);
    }
    if (value >= low && value <= high) {
      counts[Math.min(bins - 1, Math.floor((value - low) / width))]!++;
    }
  }
  return {
    middles: counts.map((_, i) => low + (i + 0.5) * width),
    shares: counts.map((count) => count / values.length),
  };
}

/** One line a series, all in the same bins. */
export function histogramChart({
  series,
  bins = 50,
  range,
  ...options
}: Omit<ChartOptions, 'y'> &
  BinOptions & { y?: string; series: readonly HistogramSeries[] }): Chart {
  const all = series.map(({ values }) => ends(values));
  const shared = range ?? [
    Math.min(...all.map(([low]) => low)),
    Math.max(...all.map(([, high]) => high)),
  ];
  const lines = series.map(({ name, values }) => {
    const { middles, shares } = histogram(values, { bins, range: shared as [number, number] });
    return { name, x: middles, y: shares.map((share) => 100 * share) };
  });
  return lineChart({ y: 'share of the numbers (%)', ...options, series: lines });
}

function ends(values: ArrayLike<number>): [number, number] {
  let [low, high] = [Infinity, -Infinity];
  for (let i = 0; i < values.length; i++) {
    low = Math.min(low, values[i]!);
    high = Math.max(high, values[i]!);
  }
  return [low, high];
}
