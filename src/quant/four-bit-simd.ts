// 4-bit blocks by SIMD, the same bytes and numbers as blockwise.ts and codebook.ts give one at a time: a
// code's rank is how many midpoints are below x / absmax, and levels are looked up byte by byte.
// Left out: a ragged last block.
import type * as tf from '@tensorflow/tfjs';
import { type ChunkedCall, MID_PAGE, runChunks } from '../jit/chunks.mjs';
import { nativeChunks } from '../jit/native.ts';
import { type FourBitType, getFourBitType } from './codebook.ts';
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
  v128,
  whileLoop,
} from './simd.ts';

/** Numbers in memory at once: a multiple of every block size. */
const CHUNK = 32768;

/** What stands for an absmax of 0 in a division, as in blockwise.ts. */
const TINY = Math.fround(1e-38);

const FOUR = [0, 1, 2, 3];
const PLACES = { numbers: MID_PAGE, packed: MID_PAGE + 4 * CHUNK, scales: MID_PAGE + 5 * CHUNK };

/** Parameters: where numbers, codes and scales are, blocks, and 32s of numbers in a block. */
const [NUMBERS, PACKED, SCALES, BLOCKS, GROUPS, LEFT, AT, SCALE, WIDE, MIDPOINT] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8, 9,
];
/** Four vectors of x / absmax, and four of ranks. */
const [X, RANK] = [10, 14];
const VARIABLES = ['i32', 'i32', 'f32', ...Array<'v128'>(10).fill('v128')] as const;

const add = (variable: number, value: number): Code =>
  local.set(variable, i32.add(local.get(variable), i32.const(value)));

/** Runs `body` for each 32 numbers of a block, from where NUMBERS points. */
const eachGroup = (body: Code): Code => [
  ...local.set(LEFT, local.get(GROUPS)),
  ...whileLoop(local.get(LEFT), [...body, ...add(LEFT, -1)]),
];

const eachBlock = (body: Code): Code =>
  whileLoop(local.get(BLOCKS), [...body, ...add(SCALES, 4), ...add(BLOCKS, -1)]);

const splat = (x: number) => f32x4.splat(f32.const(x));

/** SCALE = max |x| of the block, NaN if it holds one. */
const findAbsmax: Code = [
  ...local.set(AT, local.get(NUMBERS)),
  ...local.set(WIDE, splat(0)),
  ...eachGroup([
    ...local.set(
      WIDE,
      [...FOUR, 4, 5, 6, 7].reduce<Code>(
        (most, k) => f32x4.max(most, f32x4.abs(v128.load(local.get(AT), 16 * k))),
        local.get(WIDE),
      ),
    ),
    ...add(AT, 128),
  ]),
  ...local.set(
    SCALE,
    FOUR.map((lane) => f32x4.lane(local.get(WIDE), lane)).reduce((a, b) => f32.max(a, b)),
  ),
];

/** Ranks of 16 numbers as bytes. */
function ranks(midpoints: Float32Array, first: number): Code {
  const scaled = FOUR.flatMap((k) =>
    local.set(X + k, f32x4.mul(v128.load(local.get(NUMBERS), first + 16 * k), local.get(WIDE))),
  );
  const zeros = FOUR.flatMap((k) => local.set(RANK + k, splat(0)));
  const counted = [...midpoints].flatMap((midpoint) => [
    ...local.set(MIDPOINT, splat(midpoint)),
    ...FOUR.flatMap((k) => {
      const isAbove = f32x4.gt(local.get(X + k), local.get(MIDPOINT)); // -1 where it is
      return local.set(RANK + k, i32x4.sub(local.get(RANK + k), isAbove));
    }),
  ]);
  const [a, b, c, d] = FOUR.map((k) => local.get(RANK + k)) as [Code, Code, Code, Code];
  const bytes = i8x16.narrow(i16x8.narrow(a, b), i16x8.narrow(c, d));
  return [...scaled, ...zeros, ...counted, ...bytes];
}

/** Every other byte. */
const EVEN = Array.from({ length: 16 }, (_, i) => (i % 2 ? 0 : 255));

/** Sixteen codes as eight pairs in 16 bits each, the first code in the high half of the low byte. */
const paired = (codes: Code): Code => [
  ...local.set(X, codes),
  ...v128.or(
    i16x8.shl(v128.and(local.get(X), v128.const(EVEN)), i32.const(4)),
    i16x8.shrU(local.get(X), i32.const(8)),
  ),
];

function encoder(quantType: FourBitType): SimdFunction {
  const { midpoints, order } = getFourBitType(quantType);
  const codes = (first: number) => {
    const own = ranks(midpoints, first);
    const table = v128.const([...order]);
    return paired([
      ...own,
      ...local.set(MIDPOINT, []),
      ...i8x16.swizzle(table, local.get(MIDPOINT)),
    ]);
  };
  return {
    name: `${quantType}Encode`,
    parameters: 5,
    variables: VARIABLES,
    body: eachBlock([
      ...findAbsmax,
      ...f32.store(local.get(SCALES), local.get(SCALE), 0),
      ...local.set(
        WIDE,
        f32x4.splat(f32.div(f32.const(1), f32.max(local.get(SCALE), f32.const(TINY)))),
      ),
      ...eachGroup([
        ...v128.store(local.get(PACKED), i8x16.narrowU(codes(0), codes(64)), 0),
        ...add(NUMBERS, 128),
        ...add(PACKED, 16),
      ]),
    ]),
  };
}

/** Places of an unpacking of two vectors: their first or last halves in turn, `width` bytes each. */
const inTurn = (half: 0 | 1, width: number) =>
  Array.from({ length: 16 }, (_, i) => {
    const item = Math.floor(i / width);
    return (item % 2) * 16 + half * 8 + Math.floor(item / 2) * width + (i % width);
  });

function decoder(quantType: FourBitType): SimdFunction {
  const levels = new Uint8Array(getFourBitType(quantType).values.buffer);
  const plane = (byte: number) =>
    v128.const(Array.from({ length: 16 }, (_, code) => levels[4 * code + byte]!));
  const HIGH = X;
  const LOW = X + 1;
  const CODES = X + 2;
  const half = (which: 0 | 1): Code => [
    ...local.set(CODES, i8x16.shuffle(local.get(HIGH), local.get(LOW), inTurn(which, 1))),
    ...FOUR.flatMap((byte) => local.set(RANK + byte, i8x16.swizzle(plane(byte), local.get(CODES)))),
    ...([0, 1] as const).flatMap((end) => [
      ...local.set(
        CODES,
        i8x16.shuffle(local.get(RANK), local.get(RANK + 1), inTurn(end, 1)), // lower bytes
      ),
      ...local.set(
        MIDPOINT,
        i8x16.shuffle(local.get(RANK + 2), local.get(RANK + 3), inTurn(end, 1)), // upper bytes
      ),
      ...([0, 1] as const).flatMap((part) =>
        v128.store(
          local.get(NUMBERS),
          f32x4.mul(
            i8x16.shuffle(local.get(CODES), local.get(MIDPOINT), inTurn(part, 2)),
            local.get(WIDE),
          ),
          64 * which + 32 * end + 16 * part,
        ),
      ),
    ]),
  ];
  return {
    name: `${quantType}Decode`,
    parameters: 5,
    variables: VARIABLES,
    body: eachBlock([
      ...local.set(WIDE, f32x4.splat(f32.load(local.get(SCALES), 0))),
      ...eachGroup([
        ...local.set(HIGH, i8x16.shrU(v128.load(local.get(PACKED), 0), i32.const(4))),
        ...local.set(
          LOW,
          v128.and(v128.load(local.get(PACKED), 0), v128.const(Array(16).fill(15))),
        ),
        ...half(0),
        ...half(1),
        ...add(NUMBERS, 128),
        ...add(PACKED, 16),
      ]),
    ]),
  };
}

const kernels = instantiate(
  [encoder('nf4'), encoder('fp4'), decoder('nf4'), decoder('fp4')],
  Math.ceil((MID_PAGE + 6 * CHUNK) / 65536),
);

const { memory, run } = kernels;

/** Packs whole blocks of numbers into `packed`; returns their scales, NaN or infinite if a number is. */
export function encodeFourBit(
  quantType: FourBitType,
  values: Float32Array,
  blocksize: number,
  packed: Uint8Array,
): Float32Array {
  const scales = new Float32Array(values.length / blocksize);
  for (let begin = 0; begin < values.length; begin += CHUNK) {
    const end = Math.min(begin + CHUNK, values.length);
    const blocks = (end - begin) / blocksize;
    new Float32Array(memory.buffer, PLACES.numbers, end - begin).set(values.subarray(begin, end));
    run[`${quantType}Encode`]!(
      PLACES.numbers,
      PLACES.packed,
      PLACES.scales,
      blocks,
      blocksize / 32,
    );
    packed.set(new Uint8Array(memory.buffer, PLACES.packed, (end - begin) / 2), begin / 2);
    scales.set(new Float32Array(memory.buffer, PLACES.scales, blocks), begin / blocksize);
  }
  return scales;
}

/** 4-bit codes of whole blocks, and their scales. */
export interface FourBitBlocks {
  quantType: FourBitType;
  packed: Uint8Array;
  scales: Float32Array;
  blocksize: number;
}

const decoding = ({ quantType, packed, scales, blocksize }: FourBitBlocks): ChunkedCall => ({
  name: `${quantType}Decode`,
  chunk: CHUNK,
  block: blocksize,
  inputs: [
    { data: packed, place: PLACES.packed, per: 2 },
    { data: scales, place: PLACES.scales, per: blocksize },
  ],
  last: blocksize / 32,
});

/** Writes the numbers of whole blocks to `out`. */
export function decodeFourBit(blocks: FourBitBlocks, out: Float32Array): void {
  runChunks(kernels, decoding(blocks), out);
}

/** The numbers of whole blocks as a tensor, made in the native thread. */
export function decodeInThread(blocks: FourBitBlocks, shape: readonly number[]): tf.Tensor {
  return nativeChunks(kernels.module, 'four-bit', decoding(blocks), shape);
}
