// AdamW whose averages are kept in 8 or 32 bits and in pages (bitsandbytes' AdamW8bit, PagedAdamW8bit and
// PagedAdamW32bit): 8-bit averages are codes of the dynamic maps, signed for m and unsigned for v, with
// an absmax for 256 numbers (arXiv 2110.02861). Rule and order are those of bitsandbytes' CPU backend.
// Left out: percentile clipping, and the CUDA kernel's care that a code keeps the sign of m.
import type * as tf from '@tensorflow/tfjs';
import { placeTensor } from '../jit/place.ts';
import { encodeBlocks } from '../quant/blockwise.ts';
import { codebook, createDynamicMap, DYNAMIC_MAP } from '../quant/codebook.ts';
import type { RawTensor } from '../tensor/safetensors.ts';
import { type AdamWOptions, asGroups, checkAdamW, type ParamGroup } from './optimizers.ts';
import { type Extent, type PageOptions, type PageStatistics, PageStore } from './page-store.ts';

/** Numbers that share a scale. */
const BLOCK = 256;

/** Averages of smaller parameters stay in 32 bits: bitsandbytes' min_8bit_size. */
const MIN_8BIT_SIZE = 4096;

const SIGNED = DYNAMIC_MAP;
const UNSIGNED = codebook(createDynamicMap(false));

/** AdamW's settings, the bits of its averages, and how they are paged. */
export interface PagedAdamWOptions extends AdamWOptions, PageOptions {
  /** Bits of the averages; default 8. */
  optimBits?: 8 | 32;
}

/** A parameter and where its averages are. */
interface Slot {
  param: tf.Variable;
  group: number;
  bits: 8 | 32;
  extents: Extent[];
}

/** Numbers of a step for one group. */
interface Rates {
  beta1: number;
  beta2: number;
  eps: number;
  /** 1 - lr decay. */
  kept: number;
  /** lr / (1 - beta1^t), and sqrt(1 - beta2^t). */
  rate: number;
  root: number;
}

/** AdamW over variables, with paged averages; each step runs outside of any compiled graph. */
export class PagedAdamW {
  /** Settings of each group; changing `lr` counts from the next step. */
  readonly paramGroups: ParamGroup<Required<AdamWOptions> & { lrRatio: number }>[];
  readonly optimBits: 8 | 32;
  /** Steps done so far. */
  stepCount = 0;
  private readonly store: PageStore;
  private readonly slots: Slot[];

  /** Throws a RangeError for a setting out of range, or a parameter that is in two groups. */
  constructor(
    params: tf.Variable[] | ParamGroup<AdamWOptions & { lrRatio?: number }>[],
    options: PagedAdamWOptions = {},
  ) {
    const { lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, weightDecay = 0.01 } = options;
    const { optimBits = 8, ...pages } = options;
    if (optimBits !== 8 && optimBits !== 32) {
      throw new RangeError(`optimBits must be 8 or 32, got ${optimBits}`);
    }
    const defaults = { lr, betas, eps, weightDecay, lrRatio: 1 };
    this.paramGroups = asGroups(params).map((group) => ({ ...defaults, ...group }));
    this.paramGroups.forEach(checkAdamW);
    this.optimBits = optimBits;
    this.store = new PageStore(pages);
    this.slots = this.paramGroups.flatMap(({ params: own }, group) =>
      own.map((param) => {
        const bits = param.size < MIN_8BIT_SIZE ? 32 : optimBits;
        const extents = this.store.allocate(Math.ceil(param.size / BLOCK), recordBytes(bits));
        return { param, group, bits, extents };
      }),
    );
  }

  /** All parameters, group after group. */
  get params(): tf.Variable[] {
    return this.slots.map(({ param }) => param);
  }

  /** Pages moved so far. */
  get statistics(): PageStatistics {
    return this.store.statistics;
  }

  /** Bytes of all averages, in memory or not. */
  get stateBytes(): number {
    const bytes = ({ param, bits }: Slot) => Math.ceil(param.size / BLOCK) * recordBytes(bits);
    return this.slots.reduce((sum, slot) => sum + bytes(slot), 0);
  }

  /**
   * One step from finite gradients in the order of `params`, which stay the caller's. Every other
   * step goes from the last parameter to the first, so that it begins with the pages in memory.
   */
  step(grads: readonly tf.Tensor[]): void {
    if (grads.length !== this.slots.length) {
      throw new RangeError(`A step needs ${this.slots.length} gradients, got ${grads.length}`);
    }
    const t = ++this.stepCount;
    const rates = this.paramGroups.map((group) => ratesOf(group, t));
    const order = this.slots.map((slot, i) => ({ slot, grad: grads[i]! }));
    for (const { slot, grad } of t % 2 ? order : order.reverse()) {
      this.update(slot, grad.dataSync() as Float32Array, rates[slot.group]!, t % 2 === 0);
    }
  }

  /** A step at a schedule's learning rate, times each group's `lrRatio`. */
  stepAt(learningRate: number, grads: readonly tf.Tensor[]): void {
    for (const group of this.paramGroups) group.lr = learningRate * group.lrRatio;
    this.step(grads);
  }

  /** The averages as bitsandbytes names them, `state1.0` and so on by the number of the parameter. */
  stateTensors(): Map<string, RawTensor> {
    const tensors = new Map<string, RawTensor>();
    for (const [i, slot] of this.slots.entries()) {
      const parts = this.collect(slot);
      for (const [name, data] of Object.entries(parts)) {
        const dtype = data instanceof Uint8Array ? 'U8' : 'F32';
        tensors.set(`${name}.${i}`, { dtype, shape: [data.length], data });
      }
    }
    return tensors;
  }

  /** Takes over what `stateTensors` gave, after `stepCount` steps; throws if a part does not fit. */
  loadState(tensors: ReadonlyMap<string, RawTensor>, stepCount: number): void {
    for (const [i, slot] of this.slots.entries()) {
      const parts = this.collect(slot);
      for (const [name, data] of Object.entries(parts)) {
        const stored = tensors.get(`${name}.${i}`);
        if (stored?.data.constructor !== data.constructor || stored.data.length !== data.length) {
          throw new Error(`The optimizer's ${name}.${i} must have ${data.length} values`);
        }
        data.set(stored.data as Float32Array & Uint8Array);
      }
      this.spread(slot, parts);
    }
    this.stepCount = stepCount;
  }

  /** Frees the averages; parameters stay. */
  dispose(): void {
    this.store.dispose();
  }

  private update(slot: Slot, grads: Float32Array, rates: Rates, isBackward: boolean): void {
    const values = Float32Array.from(slot.param.dataSync());
    let start = 0;
    const parts = slot.extents.map((extent) => {
      const part = { extent, start, end: Math.min(start + extent.count * BLOCK, values.length) };
      start = part.end;
      return part;
    });
    for (const { extent, start, end } of isBackward ? parts.reverse() : parts) {
      const state = viewOf(this.store.page(extent.page), extent, slot.bits);
      const own = values.subarray(start, end);
      if ('absmax1' in state) update8bit(own, grads.subarray(start, end), state, rates);
      else update32bit(own, grads.subarray(start, end), state, rates);
    }
    const next = placeTensor(values, slot.param.shape);
    slot.param.assign(next);
    next.dispose();
  }

  /** The averages of a parameter as whole arrays. */
  private collect({ param, bits, extents }: Slot): Record<string, Float32Array | Uint8Array> {
    const size = Math.ceil(param.size / BLOCK) * BLOCK;
    const whole: Record<string, Float32Array | Uint8Array> =
      bits === 32
        ? { state1: new Float32Array(size), state2: new Float32Array(size) }
        : {
            state1: new Uint8Array(size),
            state2: new Uint8Array(size),
            absmax1: new Float32Array(size / BLOCK),
            absmax2: new Float32Array(size / BLOCK),
          };
    this.forEachPart(whole, { bits, extents }, (part, place) => place.set(part));
    return whole;
  }

  /** Puts whole arrays into the pages. */
  private spread(slot: Slot, whole: Record<string, Float32Array | Uint8Array>): void {
    this.forEachPart(whole, slot, (part, place) => part.set(place));
  }

  private forEachPart(
    whole: Record<string, Float32Array | Uint8Array>,
    { bits, extents }: Pick<Slot, 'bits' | 'extents'>,
    visit: (part: Float32Array | Uint8Array, place: Float32Array | Uint8Array) => void,
  ): void {
    let first = 0;
    for (const extent of extents) {
      const view = viewOf(this.store.page(extent.page), extent, bits);
      for (const [name, part] of Object.entries(view) as [string, Float32Array | Uint8Array][]) {
        const each = part.length / extent.count;
        visit(part, whole[name]!.subarray(first * each, first * each + part.length));
      }
      first += extent.count;
    }
  }
}

interface State32 {
  state1: Float32Array;
  state2: Float32Array;
}

interface State8 {
  state1: Uint8Array;
  state2: Uint8Array;
  absmax1: Float32Array;
  absmax2: Float32Array;
}

/** Bytes of the averages of one block. */
const recordBytes = (bits: 8 | 32) => (bits === 32 ? 8 * BLOCK : 2 * BLOCK + 8);

/** The parts of an extent: absmax first, so that floats lie at multiples of 4. */
function viewOf(page: Uint8Array, { offset, count }: Extent, bits: 8 | 32): State32 | State8 {
  const { buffer } = page;
  const floats = (at: number, length: number) =>
    new Float32Array(buffer, page.byteOffset + offset + at, length);
  const size = count * BLOCK;
  if (bits === 32) return { state1: floats(0, size), state2: floats(4 * size, size) };
  const codes = (at: number) => new Uint8Array(buffer, page.byteOffset + offset + at, size);
  return {
    absmax1: floats(0, count),
    absmax2: floats(4 * count, count),
    state1: codes(8 * count),
    state2: codes(8 * count + size),
  };
}

function ratesOf({ lr, betas, eps, weightDecay }: Required<AdamWOptions>, t: number): Rates {
  const [beta1, beta2] = betas;
  const root = Math.sqrt(1 - beta2 ** t);
  return { beta1, beta2, eps, kept: 1 - lr * weightDecay, rate: lr / (1 - beta1 ** t), root };
}

/** m <- b1 m + (1 - b1) g, v <- b2 v + (1 - b2) g^2, p <- kept p - rate m / (sqrt(v) / root + eps). */
function update32bit(
  values: Float32Array,
  grads: Float32Array,
  { state1, state2 }: State32,
  { beta1, beta2, eps, kept, rate, root }: Rates,
): void {
  for (let i = 0; i < values.length; i++) {
    const g = grads[i]!;
    state1[i] = state1[i]! * beta1 + g * (1 - beta1);
    state2[i] = state2[i]! * beta2 + g * g * (1 - beta2);
    values[i] = values[i]! * kept - (rate * state1[i]!) / (Math.sqrt(state2[i]!) / root + eps);
  }
}

/** The same between unpacking m and v and packing them again. */
function update8bit(
  values: Float32Array,
  grads: Float32Array,
  { state1, state2, absmax1, absmax2 }: State8,
  rates: Rates,
): void {
  const averages = {
    state1: new Float32Array(values.length),
    state2: new Float32Array(values.length),
  };
  for (let i = 0; i < values.length; i++) {
    const block = (i / BLOCK) | 0;
    averages.state1[i] = SIGNED.values[state1[i]!]! * absmax1[block]!;
    averages.state2[i] = UNSIGNED.values[state2[i]!]! * absmax2[block]!;
  }
  update32bit(values, grads, averages, rates);
  absmax1.set(encodeBlocks(averages.state1, BLOCK, SIGNED, (codes, at) => state1.set(codes, at)));
  absmax2.set(encodeBlocks(averages.state2, BLOCK, UNSIGNED, (codes, at) => state2.set(codes, at)));
}
