// The mean of float32 numbers with torch's roundings on CPU (aten's SumKernel, 8 lanes, 4 sums at once,
// 4 levels of partial sums), so that what is centred by it has the same bits.
// Left out: torch's split over threads above 32768 numbers.

const LANES = 8;
const SUMS = 4;
const LEVELS = 4;

/** sum(x) / n, each step rounded to float32. */
export function torchMean(values: Float32Array): number {
  const lanes = new Float32Array(values.length < LANES ? 1 : LANES);
  const width = lanes.length;
  const vectors = Math.floor(values.length / width);
  for (let lane = 0; lane < width; lane++) {
    lanes[lane] = sumLane((vector) => values[vector * width + lane]!, vectors);
  }
  let sum = 0;
  for (let i = vectors * width; i < values.length; i++) sum = Math.fround(sum + values[i]!);
  for (const partial of lanes) sum = Math.fround(sum + partial);
  return Math.fround(sum / values.length);
}

/** The sum of one lane over all vectors. */
function sumLane(at: (vector: number) => number, vectors: number): number {
  const rows = Math.floor(vectors / SUMS);
  const sums = new Float32Array(SUMS);
  for (let k = 0; k < SUMS; k++) sums[k] = sumInLevels(rows, (row) => at(row * SUMS + k));
  let sum = sums[0]!;
  for (let i = rows * SUMS; i < vectors; i++) sum = Math.fround(sum + at(i));
  for (let k = 1; k < SUMS; k++) sum = Math.fround(sum + sums[k]!);
  return sum;
}

/** Runs of 2^power numbers are summed, then runs of such sums, and so on. */
function sumInLevels(count: number, at: (i: number) => number): number {
  const power = Math.max(4, Math.floor(ceilLog2(count) / LEVELS));
  const step = 2 ** power;
  const levels = new Float32Array(LEVELS);
  let i = 0;
  while (i + step <= count) {
    for (let j = 0; j < step; j++, i++) levels[0]! += at(i);
    for (let level = 1; level < LEVELS; level++) {
      levels[level]! += levels[level - 1]!;
      levels[level - 1] = 0;
      if ((i / step ** level) % step !== 0) break;
    }
  }
  for (; i < count; i++) levels[0]! += at(i);
  for (let level = 1; level < LEVELS; level++) levels[0]! += levels[level]!;
  return levels[0]!;
}

const ceilLog2 = (n: number) => (n <= 2 ? 1 : Math.ceil(Math.log2(n)));
