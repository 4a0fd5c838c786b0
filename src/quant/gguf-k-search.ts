// How ggml chooses scales for groups of its K types: it tries several, rounds, fits the scale again by
// weighted least squares and keeps the best. Each step is rounded to float32 in the order of
// ggml-quants.c, so that the bytes agree. Left out: importance matrices.
const { fround } = Math;

/** Groups whose numbers are all smaller are zero. */
const TINY = fround(1e-15);

const TENTH = fround(0.1);

/** How `fitAffine` searches: inverse scales (top + from + 0.1 i) / (max - min), i = 0..steps. */
export interface AffineSearch {
  top: number;
  from: number;
  steps: number;
  /** Judges by sum w |e| instead of sum w e e. */
  isAbsolute: boolean;
}

/** x rounded to a whole number, halves to even; |x| below 2^22. */
export function nearest(x: number): number {
  return fround(x + 12582912) - 12582912;
}

/**
 * x = scale q - lowest with q = 0..top and lowest >= 0: fills `codes` and returns [scale, lowest], which
 * minimize the weighted error among the candidates. As in ggml, each candidate starts from the lowest
 * value of the best one so far.
 */
export function fitAffine(
  x: Float32Array,
  weights: Float32Array,
  codes: Uint8Array,
  { top, from, steps, isAbsolute }: AffineSearch,
): [number, number] {
  let min = x[0]!;
  let max = min;
  let sumW = 0;
  let sumX = 0;
  for (let i = 0; i < x.length; i++) {
    if (x[i]! < min) min = x[i]!;
    if (x[i]! > max) max = x[i]!;
    sumW = fround(sumW + weights[i]!);
    sumX = fround(sumX + fround(weights[i]! * x[i]!));
  }
  if (min > 0) min = 0;
  if (max === min) {
    codes.fill(0);
    return [0, -min];
  }
  const first = fround(top / fround(max - min));
  let scale = fround(1 / first);
  roundTo(x, min, first, top, codes);
  let best = errorOf(x, weights, codes, scale, min, isAbsolute);
  const tried = new Uint8Array(x.length);
  for (let step = 0; step <= steps; step++) {
    const shift = fround(fround(from + fround(TENTH * step)) + top);
    roundTo(x, min, fround(shift / fround(max - min)), top, tried);
    const fit = leastSquares(x, weights, tried, sumW, sumX);
    if (!fit) continue;
    const error = errorOf(x, weights, tried, fit.scale, fit.min, isAbsolute);
    if (error < best) {
      codes.set(tried);
      best = error;
      ({ scale, min } = fit);
    }
  }
  return [scale, -min];
}

/**
 * x = scale q with q = -half..half-1, weights x x: tries 19 scales, fills `codes` with the best one's
 * q + half and returns it.
 */
export function fitSigned(x: Float32Array, codes: Uint8Array, half: number): number {
  const largest = largestOf(x);
  codes.fill(0);
  if (Math.abs(largest) < TINY) return 0;
  let scale = 0;
  let best = 0;
  for (let i = 0; i <= 18; i++) {
    const step = i === 0 ? 0 : i <= 9 ? i - 10 : i - 9;
    const inverse = fround(-fround(half + fround(TENTH * step)) / largest);
    let lx = 0;
    let ll = 0;
    for (const value of x) {
      const l = clamp(nearest(fround(inverse * value)), half);
      const w = fround(value * value);
      lx = fround(lx + fround(fround(w * value) * l));
      ll = fround(ll + fround(fround(w * l) * l));
    }
    if (i === 0 || (ll > 0 && fround(lx * lx) > fround(best * ll))) {
      scale = ll > 0 ? fround(lx / ll) : 0;
      best = fround(scale * lx);
      for (let j = 0; j < x.length; j++) {
        codes[j] = clamp(nearest(fround(inverse * x[j]!)), half) + half;
      }
    }
  }
  return scale;
}

/** The same for few bits: fills `codes` with q + half and moves single q, in up to 5 rounds, while that helps. */
export function fitSignedByMoves(x: Float32Array, codes: Uint8Array, half: number): number {
  const largest = largestOf(x);
  codes.fill(0);
  if (Math.abs(largest) < TINY) return 0;
  const inverse = fround(-half / largest);
  const q = Array.from(x, (value) => clamp(nearest(fround(inverse * value)), half));
  let lx = 0;
  let ll = 0;
  for (let i = 0; i < x.length; i++) {
    const w = fround(x[i]! * x[i]!);
    lx = fround(lx + fround(fround(w * x[i]!) * q[i]!));
    ll = fround(ll + fround(fround(w * q[i]!) * q[i]!));
  }
  for (let round = 0, moved = true; round < 5 && moved; round++) {
    moved = false;
    for (let i = 0; i < x.length; i++) {
      const w = fround(x[i]! * x[i]!);
      const wx = fround(w * x[i]!);
      let otherLx = fround(lx - fround(wx * q[i]!));
      if (!(otherLx > 0)) continue;
      let otherLl = fround(ll - fround(fround(w * q[i]!) * q[i]!));
      const l = clamp(nearest(fround(fround(x[i]! * otherLl) / otherLx)), half);
      if (l === q[i]) continue;
      otherLx = fround(otherLx + fround(wx * l));
      otherLl = fround(otherLl + fround(fround(w * l) * l));
      const after = fround(fround(otherLx * otherLx) * ll);
      if (otherLl > 0 && after > fround(fround(lx * lx) * otherLl)) {
        q[i] = l;
        [lx, ll] = [otherLx, otherLl];
        moved = true;
      }
    }
  }
  for (let i = 0; i < q.length; i++) codes[i] = q[i]! + half;
  return ll > 0 ? fround(lx / ll) : 0;
}

/** A whole number held within -half..half-1. */
export function clamp(l: number, half: number): number {
  return l < -half ? -half : l > half - 1 ? half - 1 : l;
}

/** The number of largest size, with its sign; the first of equals. */
function largestOf(x: Float32Array): number {
  let largest = 0;
  for (const value of x) if (Math.abs(value) > Math.abs(largest)) largest = value;
  return largest;
}

function roundTo(
  x: Float32Array,
  min: number,
  inverse: number,
  top: number,
  codes: Uint8Array,
): void {
  for (let i = 0; i < x.length; i++) {
    const l = nearest(fround(inverse * fround(x[i]! - min)));
    codes[i] = l < 0 ? 0 : l > top ? top : l;
  }
}

/** Scale and lowest value (at most 0) that fit x to its codes best; undefined if all codes are equal. */
function leastSquares(
  x: Float32Array,
  weights: Float32Array,
  codes: Uint8Array,
  sumW: number,
  sumX: number,
): { scale: number; min: number } | undefined {
  let sumL = 0;
  let sumLL = 0;
  let sumXL = 0;
  for (let i = 0; i < x.length; i++) {
    const wl = fround(weights[i]! * codes[i]!);
    sumL = fround(sumL + wl);
    sumLL = fround(sumLL + fround(wl * codes[i]!));
    sumXL = fround(sumXL + fround(wl * x[i]!));
  }
  const determinant = fround(fround(sumW * sumLL) - fround(sumL * sumL));
  if (!(determinant > 0)) return undefined;
  const min = fround(fround(fround(sumLL * sumX) - fround(sumL * sumXL)) / determinant);
  if (min > 0) return { scale: fround(sumXL / sumLL), min: 0 };
  const slope = fround(fround(sumW * sumXL) - fround(sumX * sumL));
  return { scale: fround(slope / determinant), min };
}

function errorOf(
  x: Float32Array,
  weights: Float32Array,
  codes: Uint8Array,
  scale: number,
  min: number,
  isAbsolute: boolean,
): number {
  let sum = 0;
  for (let i = 0; i < x.length; i++) {
    const difference = fround(fround(fround(scale * codes[i]!) + min) - x[i]!);
    const error = isAbsolute ? Math.abs(difference) : fround(difference * difference);
    sum = fround(sum + fround(weights[i]! * error));
  }
  return sum;
}
