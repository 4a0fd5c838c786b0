// GPTQ's inner loop by SIMD: one column of a tile of rows is rounded, and its errors are taken out of the
// later columns of its block. Tiles lie transposed, so that a vector holds four rows of a column.
import { f32x4, i32, instantiate, local, type SimdFunction, v128, whileLoop } from './simd.ts';

/** Rows of a tile. */
export const TILE = 64;

/** Columns of a block at most. */
export const BLOCK = 128;

const COLUMN = 4 * TILE;
const PLACES = {
  top: 0,
  own: 64,
  errors: 64 + BLOCK * COLUMN,
  codes: 64 + 2 * BLOCK * COLUMN,
  scales: 64 + 3 * BLOCK * COLUMN,
  zeros: 64 + 4 * BLOCK * COLUMN,
  u: 64 + 5 * BLOCK * COLUMN,
} as const;
const BYTES = PLACES.u + 4 * BLOCK * BLOCK;

const [OWN, ERRORS, CODES, SCALE, ZERO, U, U_END] = [0, 1, 2, 3, 4, 5, 6];
const [LAST, LATER, FACTOR, ERROR, CODE] = [7, 8, 9, 10, 11];

const step = (pointer: number, bytes: number) =>
  local.set(pointer, i32.add(local.get(pointer), i32.const(bytes)));

const scale = v128.load(local.get(SCALE), 0);
const zero = v128.load(local.get(ZERO), 0);
const w = v128.load(local.get(OWN), 0);
const top = v128.load32Splat(i32.const(PLACES.top), 0);

const column: SimdFunction = {
  name: 'column',
  parameters: 7,
  variables: ['i32', 'i32', 'i32', 'v128', 'v128'],
  body: [
    ...local.set(LAST, i32.add(local.get(OWN), i32.const(COLUMN))),
    ...whileLoop(i32.ltU(local.get(OWN), local.get(LAST)), [
      // code = clamp(round(w / scale) + zero, 0, top)
      ...local.set(CODE, f32x4.add(f32x4.nearest(f32x4.div(w, scale)), zero)),
      ...local.set(CODE, f32x4.min(f32x4.max(local.get(CODE), v128.const(Array(16).fill(0))), top)),
      ...v128.store(local.get(CODES), local.get(CODE), 0),
      // error = (w - scale (code - zero)) / u_ii
      ...local.set(
        ERROR,
        f32x4.div(
          f32x4.sub(w, f32x4.mul(scale, f32x4.sub(local.get(CODE), zero))),
          v128.load32Splat(local.get(U), 0),
        ),
      ),
      ...v128.store(local.get(ERRORS), local.get(ERROR), 0),
      // w_j -= error u_ij
      ...local.set(LATER, i32.add(local.get(OWN), i32.const(COLUMN))),
      ...local.set(FACTOR, i32.add(local.get(U), i32.const(4))),
      ...whileLoop(i32.ltU(local.get(FACTOR), local.get(U_END)), [
        ...v128.store(
          local.get(LATER),
          f32x4.sub(
            v128.load(local.get(LATER), 0),
            f32x4.mul(local.get(ERROR), v128.load32Splat(local.get(FACTOR), 0)),
          ),
          0,
        ),
        ...step(LATER, COLUMN),
        ...step(FACTOR, 4),
      ]),
      ...[OWN, ERRORS, CODES, SCALE, ZERO].flatMap((pointer) => step(pointer, 16)),
    ]),
  ],
};

/** A block of columns, [columns][TILE] of rows; groups of columns have their scales and zeros. */
export interface Tile {
  /** Weights as they change. */
  own: Float32Array;
  errors: Float32Array;
  codes: Float32Array;
  /** [group of the block][TILE] */
  scales: Float32Array;
  zeros: Float32Array;
  /** [BLOCK, BLOCK], the block of U. */
  u: Float32Array;
}

let kernels: (Tile & { run: (width: number, top: number, groups: Int32Array) => void }) | undefined;

/** The tile in memory, and what rounds its columns; `groups` tells the group of each. */
export function gptqTile(): NonNullable<typeof kernels> {
  if (kernels) return kernels;
  const { memory, run } = instantiate([column], Math.ceil(BYTES / 65536));
  const numbers = (place: number, length: number) => new Float32Array(memory.buffer, place, length);
  const columns = (place: number) => numbers(place, BLOCK * TILE);
  const { own, errors, codes, scales, zeros, u } = PLACES;
  kernels = {
    own: columns(own),
    errors: columns(errors),
    codes: columns(codes),
    scales: columns(scales),
    zeros: columns(zeros),
    u: numbers(u, BLOCK * BLOCK),
    run: (width, highest, groups) => {
      numbers(PLACES.top, 1)[0] = highest;
      for (let i = 0; i < width; i++) {
        const line = u + 4 * BLOCK * i;
        run.column!(
          own + i * COLUMN,
          errors + i * COLUMN,
          codes + i * COLUMN,
          scales + groups[i]! * COLUMN,
          zeros + groups[i]! * COLUMN,
          line + 4 * i,
          line + 4 * width,
        );
      }
    },
  };
  return kernels;
}
