// Q8_0 and Q4_0 blocks by SIMD, the same bytes as gguf-simple.ts computes one number at a time.
// Scales go out as float32 and become float16 outside; that of a block with a NaN is NaN.
import { MID_PAGE } from '../jit/chunks.mjs';
import {
  type Code,
  f32,
  f32x4,
  i8x16,
  i16x8,
  i32,
  i32x4,
  instantiate,
  local,
  type SimdFunction,
  select,
  v128,
  whileLoop,
} from './simd.ts';

/** Blocks that lie in memory at once: 128 bytes of numbers, 34 of blocks and 4 of scales each. */
const CHUNK = 2048;

const [FROM, TO, SCALES, COUNT, LARGEST, INVERSE, WIDE, AT] = [0, 1, 2, 3, 4, 5, 6, 7];
const VARIABLES = ['f32', 'f32', 'v128', 'i32'] as const;

/** The k-th four of a block's 32 numbers. */
const four = (k: number) => v128.load(local.get(FROM), 16 * k);

const eight = [0, 1, 2, 3, 4, 5, 6, 7];

const reduce = (values: Code[], combine: (a: Code, b: Code) => Code): Code =>
  values.reduce((a, b) => combine(a, b));

/** max |x| of the block; NaN if it holds one. */
const largestSize: Code = [
  ...local.set(
    WIDE,
    reduce(
      eight.map((k) => f32x4.abs(four(k))),
      f32x4.max,
    ),
  ),
  ...local.set(
    LARGEST,
    reduce(
      [0, 1, 2, 3].map((i) => f32x4.lane(local.get(WIDE), i)),
      f32.max,
    ),
  ),
];

/** Writes d, and makes 1 / d, or 0 where d is 0. */
const keepScale = (d: Code): Code => [
  ...f32.store(local.get(SCALES), d, 0),
  ...local.set(INVERSE, f32.load(local.get(SCALES), 0)),
  ...local.set(
    INVERSE,
    select(
      f32.div(f32.const(1), local.get(INVERSE)),
      f32.const(0),
      f32.ne(local.get(INVERSE), f32.const(0)),
    ),
  ),
  ...local.set(WIDE, f32x4.splat(local.get(INVERSE))),
];

/** Sixteen numbers as bytes, from four vectors of whole numbers. */
const bytes = (lanes: Code[]): Code =>
  i8x16.narrow(i16x8.narrow(lanes[0]!, lanes[1]!), i16x8.narrow(lanes[2]!, lanes[3]!));

/** x / d rounded, halves away from zero: trunc(y) + trunc(2 (y - trunc(y))), where all but y is exact. */
const rounded = (k: number): Code => {
  const y = f32x4.mul(four(k), local.get(WIDE));
  const whole = f32x4.trunc(y);
  const rest = f32x4.sub(y, whole);
  return i32x4.truncSat(f32x4.add(whole, f32x4.trunc(f32x4.add(rest, rest))));
};

/** trunc(x / d + 8.5), at most 15. */
const shifted = (k: number): Code => {
  const y = f32x4.add(f32x4.mul(four(k), local.get(WIDE)), f32x4.splat(f32.const(8.5)));
  return i32x4.truncSat(f32x4.min(y, f32x4.splat(f32.const(15))));
};

/** The first number of the largest size; any number if that is NaN. */
const signedLargest: Code = [
  ...local.set(AT, local.get(FROM)),
  ...whileLoop(
    i32.and(
      f32.ne(f32.abs(f32.load(local.get(AT), 0)), local.get(LARGEST)),
      f32.eq(local.get(LARGEST), local.get(LARGEST)),
    ),
    local.set(AT, i32.add(local.get(AT), i32.const(4))),
  ),
];

const eachBlock = (width: number, body: Code): Code =>
  whileLoop(local.get(COUNT), [
    ...body,
    ...local.set(FROM, i32.add(local.get(FROM), i32.const(128))),
    ...local.set(TO, i32.add(local.get(TO), i32.const(width))),
    ...local.set(SCALES, i32.add(local.get(SCALES), i32.const(4))),
    ...local.set(COUNT, i32.sub(local.get(COUNT), i32.const(1))),
  ]);

const q80: SimdFunction = {
  name: 'q80',
  parameters: 4,
  variables: VARIABLES,
  body: eachBlock(34, [
    ...largestSize,
    ...keepScale(f32.div(local.get(LARGEST), f32.const(127))),
    ...v128.store(local.get(TO), bytes([0, 1, 2, 3].map(rounded)), 2),
    ...v128.store(local.get(TO), bytes([4, 5, 6, 7].map(rounded)), 18),
  ]),
};

const q40: SimdFunction = {
  name: 'q40',
  parameters: 4,
  variables: VARIABLES,
  body: eachBlock(18, [
    ...largestSize,
    ...signedLargest,
    ...keepScale(
      select(
        f32.div(f32.load(local.get(AT), 0), f32.const(-8)),
        local.get(LARGEST),
        f32.eq(local.get(LARGEST), local.get(LARGEST)),
      ),
    ),
    ...v128.store(
      local.get(TO),
      v128.or(
        bytes([0, 1, 2, 3].map(shifted)),
        i8x16.shl(bytes([4, 5, 6, 7].map(shifted)), i32.const(4)),
      ),
      2,
    ),
  ]),
};

const PLACES = { to: MID_PAGE + CHUNK * 128, scales: MID_PAGE + CHUNK * (128 + 34) };
const { memory, run } = instantiate([q80, q40], Math.ceil((MID_PAGE + CHUNK * 166 + 64) / 65536));

/** Codes of whole blocks in `out`, whose first two bytes a block are left for the scales that it returns. */
export function encodeBlocks(
  kind: 'q80' | 'q40',
  values: Float32Array,
  out: Uint8Array,
): Float32Array {
  const width = kind === 'q80' ? 34 : 18;
  const total = values.length / 32;
  const scales = new Float32Array(total);
  for (let begin = 0; begin < total; begin += CHUNK) {
    const count = Math.min(CHUNK, total - begin);
    new Float32Array(memory.buffer, 0, count * 32).set(
      values.subarray(begin * 32, (begin + count) * 32),
    );
    run[kind]!(0, PLACES.to, PLACES.scales, count);
    out.set(new Uint8Array(memory.buffer, PLACES.to, count * width), begin * width);
    scales.set(new Float32Array(memory.buffer, PLACES.scales, count), begin);
  }
  return scales;
}
