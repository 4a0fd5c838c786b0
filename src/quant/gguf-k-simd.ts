// How ggml fits x = scale q - lowest to a group of its K types: it tries several scales, rounds, fits both
// again by weighted least squares and keeps the best (make_qkx2_quants in ggml-quants.c). Four groups
// run in the four lanes of SIMD; within a lane every sum has ggml's order, so that the bytes agree.
import {
  type Code,
  f32,
  f32x4,
  i32,
  instantiate,
  local,
  type SimdFunction,
  v128,
  when,
  whileLoop,
} from './simd.ts';

/** How `fitAffine` searches: inverse scales (top + from + 0.1 i) / (max - min), i = 0..steps. */
export interface AffineSearch {
  top: number;
  from: number;
  steps: number;
  /** Judges by sum w |e| instead of sum w e e. */
  isAbsolute: boolean;
}

/** Scale and lowest value (its size) of each group. */
export interface AffineFit {
  scales: Float32Array;
  lowest: Float32Array;
}

const [X, W, CODES, TRIED, OUT, SIZE, SHIFTS, STEPS] = [0, 1, 2, 3, 4, 5, 6, 7];
const [AT, MIN, MAX, SUM_W, SUM_X, SCALE, BEST, INVERSE] = [8, 9, 10, 11, 12, 13, 14, 15];
const [SUM_L, SUM_LL, SUM_XL, ERROR, DET, FIT_MIN, FIT_SCALE] = [16, 17, 18, 19, 20, 21, 22];
const [MASK, TOP, ZERO, MAGIC, FLAT] = [23, 24, 25, 26, 27];

const get = local.get;
const here = (base: number) => i32.add(get(base), get(AT));
const [x, w] = [v128.load(here(X), 0), v128.load(here(W), 0)];
const add = (sum: number, value: Code) => local.set(sum, f32x4.add(get(sum), value));

/** Runs `body` for each number of the groups; `here` is its place. */
const each = (body: Code): Code => [
  ...local.set(AT, i32.const(0)),
  ...whileLoop(i32.ltU(get(AT), get(SIZE)), [
    ...body,
    ...local.set(AT, i32.add(get(AT), i32.const(16))),
  ]),
];

/** round((x - min) inverse), halves to even, within 0..top. */
const code: Code = (() => {
  const scaled = f32x4.mul(get(INVERSE), f32x4.sub(x, get(MIN)));
  const whole = f32x4.sub(f32x4.add(scaled, get(MAGIC)), get(MAGIC));
  return f32x4.min(f32x4.max(whole, get(ZERO)), get(TOP));
})();

/** w |scale q + min - x|, or w times its square. */
function errorOf(codes: number, scale: number, min: number, isAbsolute: boolean): Code {
  const q = v128.load(here(codes), 0);
  const lost = f32x4.sub(f32x4.add(f32x4.mul(get(scale), q), get(min)), x);
  return f32x4.mul(w, isAbsolute ? f32x4.abs(lost) : f32x4.mul(lost, lost));
}

/** Lowest (at most 0) and highest number, sums of w and w x; `FLAT` marks groups of equal numbers. */
const survey: Code = [
  ...local.set(MIN, v128.load(get(X), 0)),
  ...local.set(MAX, get(MIN)),
  ...each([
    ...local.set(MIN, f32x4.min(get(MIN), x)),
    ...local.set(MAX, f32x4.max(get(MAX), x)),
    ...add(SUM_W, w),
    ...add(SUM_X, f32x4.mul(w, x)),
  ]),
  ...local.set(MIN, f32x4.min(get(MIN), get(ZERO))),
  ...local.set(FLAT, f32x4.eq(get(MAX), get(MIN))),
];

/** The first candidate: the plain scale. */
const first = (isAbsolute: boolean): Code => [
  ...local.set(INVERSE, f32x4.div(get(TOP), f32x4.sub(get(MAX), get(MIN)))),
  ...local.set(SCALE, f32x4.div(f32x4.splat(f32.const(1)), get(INVERSE))),
  ...each([
    ...v128.store(here(CODES), code, 0),
    ...add(BEST, errorOf(CODES, SCALE, MIN, isAbsolute)),
  ]),
];

/** Scale and lowest value that fit x best to the codes just tried. */
const leastSquares: Code = (() => {
  const product = (a: number, b: number) => f32x4.mul(get(a), get(b));
  const slope = f32x4.sub(product(SUM_W, SUM_XL), product(SUM_X, SUM_L));
  const min = f32x4.sub(product(SUM_LL, SUM_X), product(SUM_L, SUM_XL));
  return [
    ...local.set(DET, f32x4.sub(product(SUM_W, SUM_LL), product(SUM_L, SUM_L))),
    ...local.set(FIT_MIN, f32x4.div(min, get(DET))),
    ...local.set(MASK, f32x4.gt(get(FIT_MIN), get(ZERO))),
    ...local.set(
      FIT_SCALE,
      v128.bitselect(f32x4.div(get(SUM_XL), get(SUM_LL)), f32x4.div(slope, get(DET)), get(MASK)),
    ),
    ...local.set(FIT_MIN, v128.andnot(get(FIT_MIN), get(MASK))),
  ];
})();

const keep = (own: number, candidate: number) =>
  local.set(own, v128.bitselect(get(candidate), get(own), get(MASK)));

/** One more candidate; its lowest value starts from the best one's, as in ggml. */
const attempt = (isAbsolute: boolean): Code => [
  ...local.set(INVERSE, f32x4.div(v128.load32Splat(get(SHIFTS), 0), f32x4.sub(get(MAX), get(MIN)))),
  ...[SUM_L, SUM_LL, SUM_XL, ERROR].flatMap((sum) => local.set(sum, get(ZERO))),
  ...each([
    ...v128.store(here(TRIED), code, 0),
    ...local.set(FIT_MIN, v128.load(here(TRIED), 0)),
    ...local.set(FIT_SCALE, f32x4.mul(w, get(FIT_MIN))),
    ...add(SUM_L, get(FIT_SCALE)),
    ...add(SUM_LL, f32x4.mul(get(FIT_SCALE), get(FIT_MIN))),
    ...add(SUM_XL, f32x4.mul(get(FIT_SCALE), x)),
  ]),
  ...leastSquares,
  ...each(add(ERROR, errorOf(TRIED, FIT_SCALE, FIT_MIN, isAbsolute))),
  ...local.set(MASK, v128.and(f32x4.gt(get(DET), get(ZERO)), f32x4.lt(get(ERROR), get(BEST)))),
  ...when(v128.anyTrue(get(MASK)), [
    ...keep(SCALE, FIT_SCALE),
    ...keep(MIN, FIT_MIN),
    ...keep(BEST, ERROR),
    ...each(
      v128.store(
        here(CODES),
        v128.bitselect(v128.load(here(TRIED), 0), v128.load(here(CODES), 0), get(MASK)),
        0,
      ),
    ),
  ]),
];

const search = (name: string, isAbsolute: boolean): SimdFunction => ({
  name,
  parameters: 8,
  variables: ['i32', ...Array<'v128'>(19).fill('v128')],
  body: [
    ...local.set(TOP, v128.load32Splat(get(SHIFTS), 0)),
    ...local.set(MAGIC, f32x4.splat(f32.const(12582912))),
    ...survey,
    ...first(isAbsolute),
    ...whileLoop(get(STEPS), [
      ...local.set(SHIFTS, i32.add(get(SHIFTS), i32.const(4))),
      ...local.set(STEPS, i32.sub(get(STEPS), i32.const(1))),
      ...attempt(isAbsolute),
    ]),
    ...v128.store(get(OUT), v128.andnot(get(SCALE), get(FLAT)), 0),
    ...v128.store(get(OUT), f32x4.neg(get(MIN)), 16),
    ...each(v128.store(here(CODES), v128.andnot(v128.load(here(CODES), 0), get(FLAT)), 0)),
  ],
});

const PLACES = { x: 0, w: 512, codes: 1024, tried: 1536, out: 2048, shifts: 2080 };
const { memory, run } = instantiate([search('square', false), search('absolute', true)], 1);
const at = (place: number, count: number) => new Float32Array(memory.buffer, place, count);
const lanes = {
  x: at(PLACES.x, 128),
  w: at(PLACES.w, 128),
  codes: at(PLACES.codes, 128),
  out: at(PLACES.out, 8),
};

/**
 * x = scale q - lowest with q = 0..top and lowest >= 0 for each of `count` groups (a multiple of 4, at
 * most 32 numbers each) of x: fills `codes`, and returns what minimizes the weighted error.
 */
export function fitAffine(
  values: Float32Array,
  weights: Float32Array,
  codes: Uint8Array,
  count: number,
  { top, from, steps, isAbsolute }: AffineSearch,
): AffineFit {
  const size = values.length / count;
  const shifts = at(PLACES.shifts, steps + 2);
  shifts[0] = top;
  for (let i = 0; i <= steps; i++) {
    shifts[i + 1] = Math.fround(from + Math.fround(Math.fround(0.1) * i)) + top;
  }
  const [scales, lowest] = [new Float32Array(count), new Float32Array(count)];
  for (let group = 0; group < count; group += 4) {
    const begin = group * size;
    for (let i = 0; i < size * 4; i++) {
      const source = begin + (i & 3) * size + (i >> 2);
      lanes.x[i] = values[source]!;
      lanes.w[i] = weights[source]!;
    }
    const { x: atX, w: atW, codes: atCodes, tried, out, shifts: atShifts } = PLACES;
    const name = isAbsolute ? 'absolute' : 'square';
    run[name]!(atX, atW, atCodes, tried, out, size * 16, atShifts, steps + 1);
    for (let i = 0; i < size * 4; i++) codes[begin + (i & 3) * size + (i >> 2)] = lanes.codes[i]!;
    scales.set(lanes.out.subarray(0, 4), group);
    lowest.set(lanes.out.subarray(4, 8), group);
  }
  return { scales, lowest };
}
