// How ggml chooses scales for groups of Q3_K and Q6_K: it tries several, rounds, fits the scale again by
// weighted least squares and keeps the best. Each step is rounded to float32 in the order of
// ggml-quants.c, so that the bytes agree. Left out: importance matrices.
const { fround } = Math;

/** Groups whose numbers are all smaller are zero. */
const TINY = fround(1e-15);

const TENTH = fround(0.1);

/** x rounded to a whole number, halves to even; |x| below 2^22. */
export function nearest(x: number): number {
  return fround(x + 12582912) - 12582912;
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
    for (let j = 0; j < x.length; j++) {
      const l = clamp(nearest(fround(inverse * x[j]!)), half);
      const w = fround(x[j]! * x[j]!);
      lx = fround(lx + fround(fround(w * x[j]!) * l));
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
  for (let i = 0; i < x.length; i++) {
    if (Math.abs(x[i]!) > Math.abs(largest)) largest = x[i]!;
  }
  return largest;
}
