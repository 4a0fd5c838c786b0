// GPTQ (Frantar et al. 2022), as auto_gptq does it: columns are rounded one after another, and each
// error e = (w - q) / U_ii is taken out of the columns that follow, w -= e U_i, H^-1 = U^T U.
// Blocks of 128 columns update the rest at once. Left out: the search for a scale of least squared error.
import type * as tf from '@tensorflow/tfjs';
import { findGrid, type Grid } from './gptq-grid.ts';
import { type GptqHessian, inverseFactor, part, product } from './gptq-hessian.ts';
import { BLOCK, gptqTile, TILE } from './gptq-simd.ts';

/** auto_gptq's settings, with its defaults. */
export interface GptqOptions {
  /** 2, 3, 4 (default) or 8. */
  bits?: number;
  /** Columns that share scales, -1 (default) for all. */
  groupSize?: number;
  /** Whether zero lies in the middle of the codes. Default true. */
  sym?: boolean;
  /** Takes columns by falling diagonal of H ("act-order"). Default false. */
  descAct?: boolean;
  /** Finds the scales of all groups before anything is rounded. Default false. */
  staticGroups?: boolean;
  /** What is added to the diagonal of H, as part of its mean. Default 0.01. */
  dampPercent?: number;
}

/** A quantized layer: w[o, i] = scales[o, g] (codes[o, i] - zeros[o, g]), g = gIdx[i]. */
export interface GptqWeight {
  bits: number;
  /** [out, in] */
  shape: [number, number];
  /** [out, in] */
  codes: Uint8Array;
  /** [out, groups] */
  scales: Float32Array;
  /** [out, groups] */
  zeros: Float32Array;
  /** [in] */
  gIdx: Int32Array;
}

/** What GPTQ returns: the layer, the damping that was needed, and what the user should know. */
export interface GptqResult extends GptqWeight {
  dampPercent: number;
  warnings: string[];
}

/** How often the damping is multiplied by 10 before GPTQ gives up. */
const RETRIES = 4;

/**
 * Quantizes `weight` [out, in] with the Hessian of its inputs. A Hessian that is not positive definite is
 * damped ten times as much until it is, which `warnings` tells, as it tells of too few rows.
 */
export function quantizeGptq(
  weight: tf.Tensor2D,
  hessian: GptqHessian,
  options: GptqOptions = {},
): GptqResult {
  const settings = checked(options);
  const [rows, columns] = weight.shape;
  if (hessian.columns !== columns) {
    throw new RangeError(`The Hessian must have ${columns} columns, got ${hessian.columns}`);
  }
  if (weight.size === 0) throw new RangeError('A weight for GPTQ must not be empty');
  const w = Float32Array.from(weight.dataSync());
  const odd = w.findIndex((x) => !Number.isFinite(x));
  if (odd >= 0) throw new RangeError(`A weight for GPTQ must be finite, got ${w[odd]} at ${odd}`);
  const h = hessian.values();
  clearDead(w, h, rows, columns);
  const task = new Task(w, rows, columns, settings);
  const order = settings.descAct ? byDiagonal(h, columns) : undefined;
  if (order) task.permute(order);
  const { factor, dampPercent } = damped(order ? permuted(h, order) : h, columns, settings);
  task.run(factor);
  return {
    ...task.result(order),
    dampPercent,
    warnings: warningsOf(hessian, settings, dampPercent),
  };
}

/** The weights of a quantized layer, [out, in]. */
export function dequantizeGptq({ shape, codes, scales, zeros, gIdx }: GptqWeight): Float32Array {
  const [rows, columns] = shape;
  const groups = scales.length / rows;
  const out = new Float32Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < columns; i++) {
      const g = row * groups + gIdx[i]!;
      out[row * columns + i] = scales[g]! * (codes[row * columns + i]! - zeros[g]!);
    }
  }
  return out;
}

/** The weights of one layer on their way. */
class Task {
  private w: Float32Array;
  private readonly codes: Uint8Array;
  private readonly grids: Grid[][];
  private readonly rows: number;
  private readonly columns: number;
  private readonly settings: Required<GptqOptions>;
  private readonly size: number;
  /** Of each column in the order of work, its place in the layer. */
  private order: Int32Array;

  constructor(w: Float32Array, rows: number, columns: number, settings: Required<GptqOptions>) {
    this.w = w;
    this.rows = rows;
    this.columns = columns;
    this.settings = settings;
    this.size = settings.groupSize === -1 ? columns : settings.groupSize;
    this.codes = new Uint8Array(rows * columns);
    this.order = Int32Array.from({ length: columns }, (_, i) => i);
    this.grids = [];
    if (settings.groupSize === -1) this.grids.push(this.gridsAt(0));
    else if (settings.staticGroups) {
      for (let i = 0; i < columns; i += this.size) this.grids.push(this.gridsAt(i));
    }
  }

  permute(order: Int32Array): void {
    this.order = order;
    this.w = this.w.map((_, i) => {
      const column = i % this.columns;
      return this.w[i - column + order[column]!]!;
    });
  }

  /** Rounds all columns; `u` is the factor of H^-1. */
  run(u: Float32Array): void {
    const { rows, columns, w } = this;
    for (let begin = 0; begin < columns; begin += BLOCK) {
      const end = Math.min(begin + BLOCK, columns);
      const errors = this.roundBlock(u, begin, end);
      if (end === columns) return;
      const beside = part(u, columns, [begin, end], [end, columns]);
      const taken = product(errors, beside, [rows, end - begin, columns - end]);
      const width = columns - end;
      for (let row = 0; row < rows; row++) {
        const at = row * columns + end;
        for (let i = 0; i < width; i++) w[at + i]! -= taken[row * width + i]!;
      }
    }
  }

  /** Rounds a block's columns and returns their errors [rows, end - begin]. */
  private roundBlock(u: Float32Array, begin: number, end: number): Float32Array {
    const { rows, columns, w, codes } = this;
    const width = end - begin;
    const errors = new Float32Array(rows * width);
    const tile = gptqTile();
    this.prepareGrids(begin, end);
    for (let i = 0; i < width; i++) {
      const line = (begin + i) * columns;
      tile.u.set(u.subarray(line + begin, line + end), i * BLOCK);
    }
    const groups = Int32Array.from({ length: width }, (_, i) => this.groupOf(begin + i));
    const used = [...new Set(groups)];
    const places = groups.map((group) => used.indexOf(group));
    for (let first = 0; first < rows; first += TILE) {
      const height = Math.min(TILE, rows - first);
      for (const [g, group] of used.entries()) {
        for (let row = 0; row < height; row++) {
          const { scale, zero } = this.grids[group]![first + row]!;
          tile.scales[g * TILE + row] = scale;
          tile.zeros[g * TILE + row] = zero;
        }
      }
      for (let row = 0; row < height; row++) {
        const at = (first + row) * columns + begin;
        for (let i = 0; i < width; i++) tile.own[i * TILE + row] = w[at + i]!;
      }
      tile.run(width, 2 ** this.settings.bits - 1, places);
      for (let row = 0; row < height; row++) {
        const at = (first + row) * columns + begin;
        const mine = (first + row) * width;
        for (let i = 0; i < width; i++) {
          codes[at + i] = tile.codes[i * TILE + row]!;
          errors[mine + i] = tile.errors[i * TILE + row]!;
        }
      }
    }
    return errors;
  }

  /** Grids of groups that begin among these columns, from weights as they were before their block. */
  private prepareGrids(left: number, right: number): void {
    if (this.settings.staticGroups || this.settings.groupSize === -1) return;
    for (let i = left; i < right; i++) {
      if (i % this.size === 0) this.grids.push(this.gridsAt(i));
    }
  }

  private gridsAt(begin: number): Grid[] {
    const end = Math.min(begin + this.size, this.columns);
    return Array.from({ length: this.rows }, (_, row) =>
      findGrid(this.w, row * this.columns + begin, row * this.columns + end, this.settings),
    );
  }

  /** The group of the i-th column in the order of work. */
  private groupOf(i: number): number {
    return Math.floor((this.settings.staticGroups ? this.order[i]! : i) / this.size);
  }

  result(order: Int32Array | undefined): GptqWeight {
    const { rows, columns, grids } = this;
    const gIdx = new Int32Array(columns);
    for (let i = 0; i < columns; i++) gIdx[this.order[i]!] = this.groupOf(i);
    const codes = order ? new Uint8Array(this.codes.length) : this.codes;
    if (order) {
      for (let row = 0; row < rows * columns; row += columns) {
        for (let i = 0; i < columns; i++) codes[row + order[i]!] = this.codes[row + i]!;
      }
    }
    const each = (pick: (grid: Grid) => number) =>
      Float32Array.from({ length: rows * grids.length }, (_, i) =>
        pick(grids[i % grids.length]![Math.floor(i / grids.length)]!),
      );
    const [scales, zeros] = [each(({ scale }) => scale), each(({ zero }) => zero)];
    return { bits: this.settings.bits, shape: [rows, columns], codes, scales, zeros, gIdx };
  }
}

function checked(options: GptqOptions): Required<GptqOptions> {
  const { bits = 4, groupSize = -1, sym = true, descAct = false } = options;
  const { staticGroups = false, dampPercent = 0.01 } = options;
  if (![2, 3, 4, 8].includes(bits)) {
    throw new RangeError(`GPTQ's bits must be 2, 3, 4 or 8, got ${bits}`);
  }
  if (groupSize !== -1 && !(Number.isInteger(groupSize) && groupSize > 0)) {
    throw new RangeError(`GPTQ's groupSize must be -1 or a positive integer, got ${groupSize}`);
  }
  if (!(dampPercent > 0 && dampPercent < 1)) {
    throw new RangeError(`GPTQ's dampPercent must lie between 0 and 1, got ${dampPercent}`);
  }
  return { bits, groupSize, sym, descAct, staticGroups, dampPercent };
}

/** Inputs that are always zero: their weights become 0, their place in H 1. */
function clearDead(w: Float32Array, h: Float32Array, rows: number, columns: number): void {
  for (let i = 0; i < columns; i++) {
    if (h[i * columns + i] !== 0) continue;
    h[i * columns + i] = 1;
    for (let row = 0; row < rows; row++) w[row * columns + i] = 0;
  }
}

function byDiagonal(h: Float32Array, n: number): Int32Array {
  return Int32Array.from({ length: n }, (_, i) => i).sort(
    (a, b) => h[b * n + b]! - h[a * n + a]! || a - b,
  );
}

function permuted(h: Float32Array, order: Int32Array): Float32Array {
  const n = order.length;
  return h.map((_, i) => h[order[Math.floor(i / n)]! * n + order[i % n]!]!);
}

/** The factor of (H + damp mean(diag H) I)^-1, with ten times the damping where it has none. */
function damped(
  h: Float32Array,
  n: number,
  { dampPercent }: Required<GptqOptions>,
): { factor: Float32Array; dampPercent: number } {
  let mean = 0;
  for (let i = 0; i < n; i++) mean += h[i * n + i]! / n;
  for (let retry = 0, damp = dampPercent; retry <= RETRIES; retry++, damp *= 10) {
    const copy = h.slice();
    for (let i = 0; i < n; i++) copy[i * n + i]! += damp * mean;
    const factor = inverseFactor(copy, n);
    if (factor) return { factor, dampPercent: damp };
  }
  throw new RangeError(
    `The Hessian must become positive definite by damping, got none of ${n} inputs that did`,
  );
}

function warningsOf(
  { rows, columns }: GptqHessian,
  { dampPercent: wanted }: Required<GptqOptions>,
  dampPercent: number,
): string[] {
  const warnings: string[] = [];
  if (rows < columns) {
    warnings.push(
      `GPTQ: ${rows} calibration rows for ${columns} inputs leave directions unseen; take ${columns} or more`,
    );
  }
  if (dampPercent > wanted) {
    warnings.push(
      `GPTQ: the Hessian was singular, so it was damped by ${dampPercent} of its mean diagonal, not ${wanted}`,
    );
  }
  for (const warning of warnings) console.log(warning);
  return warnings;
}
