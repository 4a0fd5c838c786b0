// Writes small WebAssembly modules with 128-bit SIMD: expressions are lists of bytes that are put
// together by functions named as the instructions are. One memory, exported functions of int32
// parameters without results. Left out: everything that the kernels here do not use.

import { instance, type Kernels } from '../jit/chunks.mjs';

/** Bytes of one or more instructions. */
export type Code = readonly number[];

/** A function: parameters i32, then its own variables by type, then what it does. */
export interface SimdFunction {
  name: string;
  parameters: number;
  variables: readonly ('i32' | 'f32' | 'v128')[];
  body: Code;
}

const TYPES = { i32: 0x7f, f32: 0x7d, v128: 0x7b };

/** Unsigned LEB128. */
function leb(value: number): number[] {
  return value < 128 ? [value] : [(value & 127) | 128, ...leb(value >>> 7)];
}

/** Signed LEB128. */
function signed(value: number): number[] {
  const low = value & 127;
  const rest = value >> 7;
  const isLast = (rest === 0 && !(low & 64)) || (rest === -1 && !!(low & 64));
  return isLast ? [low] : [low | 128, ...signed(rest)];
}

const simd = (code: number) => [0xfd, ...leb(code)];
const unary =
  (code: number[]) =>
  (a: Code): Code => [...a, ...code];
const ternary =
  (code: number[]) =>
  (a: Code, b: Code, c: Code): Code => [...a, ...b, ...c, ...code];
const binary =
  (code: number[]) =>
  (a: Code, b: Code): Code => [...a, ...b, ...code];
const access =
  (code: number[], align: number) =>
  (at: Code, offset: number): Code => [...at, ...code, align, ...leb(offset)];
const store =
  (code: number[], align: number) =>
  (at: Code, value: Code, offset: number): Code => [
    ...at,
    ...value,
    ...code,
    align,
    ...leb(offset),
  ];

/** Variables, by their number among parameters and variables. */
export const local = {
  get: (i: number): Code => [0x20, ...leb(i)],
  set: (i: number, value: Code): Code => [...value, 0x21, ...leb(i)],
};

export const i32 = {
  const: (value: number): Code => [0x41, ...signed(value)],
  add: binary([0x6a]),
  sub: binary([0x6b]),
  ltU: binary([0x49]),
  and: binary([0x71]),
};

export const f32 = {
  const: (value: number): Code => [0x43, ...new Uint8Array(Float32Array.of(value).buffer)],
  load: access([0x2a], 2),
  store: store([0x38], 2),
  abs: unary([0x8b]),
  neg: unary([0x8c]),
  div: binary([0x95]),
  max: binary([0x97]),
  eq: binary([0x5b]),
  ne: binary([0x5c]),
};

export const v128 = {
  load: access(simd(0), 2),
  store: store(simd(11), 0),
  load32Splat: access(simd(9), 2),
  and: binary(simd(78)),
  /** a where b is not. */
  andnot: binary(simd(79)),
  or: binary(simd(80)),
  /** a where c is, else b. */
  bitselect: ternary(simd(82)),
  anyTrue: unary(simd(83)),
  /** Sixteen bytes. */
  const: (bytes: readonly number[]): Code => [...simd(12), ...bytes],
};

export const f32x4 = {
  splat: unary(simd(19)),
  lane: (v: Code, i: number): Code => [...v, ...simd(31), i],
  trunc: unary(simd(105)),
  /** Halves to even. */
  nearest: unary(simd(106)),
  eq: binary(simd(65)),
  lt: binary(simd(67)),
  gt: binary(simd(68)),
  abs: unary(simd(224)),
  neg: unary(simd(225)),
  add: binary(simd(228)),
  sub: binary(simd(229)),
  mul: binary(simd(230)),
  div: binary(simd(231)),
  min: binary(simd(232)),
  max: binary(simd(233)),
};

export const i32x4 = {
  truncSat: unary(simd(248)),
  sub: binary(simd(177)),
};

export const i16x8 = {
  narrow: binary(simd(133)),
  shl: binary(simd(139)),
  shrU: binary(simd(141)),
};

export const i8x16 = {
  narrow: binary(simd(101)),
  narrowU: binary(simd(102)),
  shl: binary(simd(107)),
  shrU: binary(simd(109)),
  /** Bytes of a at the places that b tells, below 16. */
  swizzle: binary(simd(14)),
  /** Bytes of a (0 to 15) and b (16 to 31) at these places. */
  shuffle: (a: Code, b: Code, places: readonly number[]): Code => [
    ...a,
    ...b,
    ...simd(13),
    ...places,
  ],
};

/** a if the condition is not 0, else b. */
export const select = (a: Code, b: Code, condition: Code): Code => [...a, ...b, ...condition, 0x1b];

/** Runs `body` if the condition is not 0. */
export const when = (condition: Code, body: Code): Code => [
  ...condition,
  ...[0x04, 0x40],
  ...body,
  0x0b,
];

/** Runs `body` while `condition` is not 0. */
export const whileLoop = (condition: Code, body: Code): Code => [
  ...[0x02, 0x40, 0x03, 0x40], // block, loop
  ...[...condition, 0x45, 0x0d, 1], // leave the block if it is 0
  ...[...body, 0x0c, 0], // again
  ...[0x0b, 0x0b],
];

/** The exported functions and memory of a module of so many pages of 64 KiB. */
export function instantiate(
  functions: readonly SimdFunction[],
  pages: number,
): Kernels & { module: WebAssembly.Module } {
  const module = new WebAssembly.Module(encode(functions, pages));
  return { module, ...instance(module) };
}

function encode(functions: readonly SimdFunction[], pages: number): Uint8Array<ArrayBuffer> {
  const section = (id: number, items: readonly Code[]) => {
    const content = [...leb(items.length), ...items.flat()];
    return [id, ...leb(content.length), ...content];
  };
  const name = (text: string) => [...leb(text.length), ...Buffer.from(text)];
  return Uint8Array.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(
      1,
      functions.map((f) => [0x60, f.parameters, ...Array(f.parameters).fill(0x7f), 0]),
    ),
    ...section(
      3,
      functions.map((_, i) => leb(i)),
    ),
    ...section(5, [[0, ...leb(pages)]]),
    ...section(7, [
      [...name('memory'), 2, 0],
      ...functions.map((f, i) => [...name(f.name), 0, ...leb(i)]),
    ]),
    ...section(10, functions.map(encodeBody)),
  ]);
}

function encodeBody({ variables, body }: SimdFunction): Code {
  const own = variables.map((type) => [1, TYPES[type]]);
  const content = [...leb(own.length), ...own.flat(), ...body, 0x0b];
  return [...leb(content.length), ...content];
}
