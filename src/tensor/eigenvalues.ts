// Eigenvalues of a symmetric matrix, without vectors: Householder reflections to a tridiagonal one, then
// the implicit QL algorithm (Martin, Reinsch and Wilkinson 1968). 4/3 n^3 steps in double precision, so
// much faster than svd.ts where only the spectrum is wanted.

const MAX_TURNS = 60;

/** Eigenvalues, largest first, of the symmetric matrix with these rows, which are overwritten. */
export function symmetricEigenvalues(rows: readonly Float64Array[]): number[] {
  const { diagonal, side } = tridiagonal(rows);
  // What is lost below this is lost in rounding anyway; a matrix of low rank has nothing else there.
  const floor = Number.EPSILON * Math.max(...diagonal.map(Math.abs), ...side.map(Math.abs), 0);
  for (let l = 0; l < diagonal.length; l++) {
    for (let turn = 0; ; turn++) {
      const m = blockEnd(diagonal, side, { from: l, floor });
      if (m === l) break;
      if (turn === MAX_TURNS) throw new Error(`Eigenvalue ${l} did not converge`);
      implicitTurn(diagonal, side, l, m);
    }
  }
  return Array.from(diagonal).sort((a, b) => b - a);
}

/** The diagonal and the one below it of Q^T A Q. */
function tridiagonal(rows: readonly Float64Array[]): {
  diagonal: Float64Array;
  side: Float64Array;
} {
  const n = rows.length;
  const side = new Float64Array(n);
  const [v, w] = [new Float64Array(n), new Float64Array(n)];
  for (let k = 0; k < n - 2; k++) {
    let squares = 0;
    for (let i = k + 1; i < n; i++) {
      v[i] = rows[i]![k]!;
      squares += v[i]! ** 2;
    }
    const alpha = -Math.sign(v[k + 1]! || 1) * Math.sqrt(squares);
    side[k] = alpha;
    const half = squares - alpha * v[k + 1]!; // |v|^2 / 2 of the reflection's normal
    if (half === 0) continue;
    v[k + 1]! -= alpha;
    let overlap = 0;
    for (let i = k + 1; i < n; i++) {
      const row = rows[i]!;
      let sum = 0;
      for (let j = k + 1; j < n; j++) sum += row[j]! * v[j]!;
      w[i] = sum / half;
      overlap += w[i]! * v[i]!;
    }
    for (let i = k + 1; i < n; i++) w[i]! -= (overlap / (2 * half)) * v[i]!;
    for (let i = k + 1; i < n; i++) {
      const row = rows[i]!;
      const [vi, wi] = [v[i]!, w[i]!];
      for (let j = k + 1; j < n; j++) row[j]! -= vi * w[j]! + wi * v[j]!;
    }
  }
  if (n > 1) side[n - 2] = rows[n - 1]![n - 2]!;
  return { diagonal: Float64Array.from(rows, (row, i) => row[i]!), side };
}

/** The last place of the block that begins at `from`: beyond it the side diagonal is nothing. */
function blockEnd(
  diagonal: Float64Array,
  side: Float64Array,
  { from, floor }: { from: number; floor: number },
): number {
  for (let m = from; m < diagonal.length - 1; m++) {
    const size = Math.abs(diagonal[m]!) + Math.abs(diagonal[m + 1]!);
    if (Math.abs(side[m]!) <= Math.max(floor, Number.EPSILON * size)) return m;
  }
  return diagonal.length - 1;
}

/** One QL step with Wilkinson's shift on the block from l to m. */
function implicitTurn(d: Float64Array, e: Float64Array, l: number, m: number): void {
  const ratio = (d[l + 1]! - d[l]!) / (2 * e[l]!);
  const root = Math.hypot(ratio, 1);
  let g = d[m]! - d[l]! + e[l]! / (ratio + (ratio < 0 ? -root : root));
  let [sine, cosine, shift] = [1, 1, 0];
  for (let i = m - 1; i >= l; i--) {
    const [f, b] = [sine * e[i]!, cosine * e[i]!];
    const r = Math.hypot(f, g);
    e[i + 1] = r;
    if (r === 0) {
      d[i + 1]! -= shift;
      e[m] = 0;
      return;
    }
    [sine, cosine] = [f / r, g / r];
    g = d[i + 1]! - shift;
    const turned = (d[i]! - g) * sine + 2 * cosine * b;
    shift = sine * turned;
    d[i + 1] = g + shift;
    g = cosine * turned - b;
  }
  d[l]! -= shift;
  e[l] = g;
  e[m] = 0;
}
