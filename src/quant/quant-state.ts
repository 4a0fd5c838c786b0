// QuantState: what bitsandbytes keeps beside packed 4-bit numbers, and its tensors in a checkpoint:
// `.absmax`, `.quant_map`, with double quantization `.nested_absmax` and `.nested_quant_map`, and the
// rest as JSON in the bytes of `.quant_state.bitsandbytes__nf4` (or `__fp4`).
import type { RawTensor } from '../tensor/safetensors.ts';
import { type FourBitType, getFourBitType } from './codebook.ts';

/** Types of the numbers that were quantized. */
export type FloatType = 'float32' | 'float16' | 'bfloat16';

const FLOAT_TYPES = ['float32', 'float16', 'bfloat16'];

/** The second quantization, of absmax - offset. */
export interface NestedState {
  absmax: Float32Array;
  /** 256 levels. */
  code: Float32Array;
  blocksize: number;
}

/** Fields of a QuantState; `absmax` are 8-bit codes where there is a `state2`. */
export interface QuantStateFields {
  quantType: FourBitType;
  blocksize: number;
  dtype: FloatType;
  shape: number[];
  absmax: Float32Array | Uint8Array;
  offset?: number;
  state2?: NestedState;
}

/** How to read 4-bit codes: their levels, scales, and the shape and type of the numbers. */
export class QuantState {
  readonly quantType: FourBitType;
  readonly blocksize: number;
  readonly dtype: FloatType;
  readonly shape: number[];
  readonly absmax: Float32Array | Uint8Array;
  readonly offset: number | undefined;
  readonly state2: NestedState | undefined;

  constructor(fields: QuantStateFields) {
    const { quantType, blocksize, dtype, shape, absmax, offset, state2 } = fields;
    getFourBitType(quantType);
    const isNested = state2 !== undefined && offset !== undefined;
    if (absmax instanceof Uint8Array !== isNested) {
      throw new TypeError('QuantState.absmax must be bytes with state2 and offset, else float32');
    }
    if (!FLOAT_TYPES.includes(dtype)) {
      throw new RangeError(`QuantState.dtype must be one of ${FLOAT_TYPES}, got '${dtype}'`);
    }
    if (!isCount(blocksize) || blocksize % 2 || (state2 && !isCount(state2.blocksize))) {
      throw new RangeError(
        `QuantState.blocksize must be a positive even integer, got ${blocksize}`,
      );
    }
    if (!Array.isArray(shape) || !shape.every(isCount)) {
      throw new RangeError(
        `QuantState.shape must be positive integers, got ${JSON.stringify(shape)}`,
      );
    }
    this.quantType = quantType;
    this.blocksize = blocksize;
    this.dtype = dtype;
    this.shape = shape;
    this.absmax = absmax;
    this.offset = offset;
    this.state2 = state2;
  }

  /** Bytes of the scales and what belongs to them, without the tables of levels. */
  get bytes(): number {
    return this.absmax.byteLength + (this.state2 ? this.state2.absmax.byteLength + 4 : 0);
  }

  /** The tensors of a checkpoint by what follows the weight's name and a dot. */
  asTensors(): Map<string, RawTensor> {
    const { absmax, state2, quantType } = this;
    const tensors = new Map([
      ['absmax', raw(absmax)],
      ['quant_map', raw(getFourBitType(quantType).values)],
    ]);
    if (state2) {
      tensors.set('nested_absmax', raw(state2.absmax));
      tensors.set('nested_quant_map', raw(state2.code));
    }
    const json = new TextEncoder().encode(this.json());
    return tensors.set(`quant_state.bitsandbytes__${quantType}`, raw(json));
  }

  /** Reads what `asTensors` gives; throws if a part is missing or has another type. */
  static fromTensors(tensors: ReadonlyMap<string, RawTensor>): QuantState {
    const keys = [...tensors.keys()].filter((key) => key.startsWith('quant_state.bitsandbytes__'));
    if (keys.length !== 1) {
      throw new Error(`Expected one tensor 'quant_state.bitsandbytes__...', got ${keys.length}`);
    }
    const fields = parse(tensors.get(keys[0]!)!.data as Uint8Array);
    const absmax = tensors.get('absmax')?.data;
    if (!(absmax instanceof Float32Array || absmax instanceof Uint8Array)) {
      throw new Error("Tensor 'absmax' of a 4-bit weight must be float32 or bytes");
    }
    const common = {
      quantType: fields.quant_type as FourBitType,
      blocksize: fields.blocksize as number,
      dtype: fields.dtype as FloatType,
      shape: fields.shape as number[],
      absmax,
    };
    if (absmax instanceof Float32Array) return new QuantState(common);
    const state2 = {
      absmax: floats(tensors, 'nested_absmax'),
      code: floats(tensors, 'nested_quant_map'),
      blocksize: fields.nested_blocksize as number,
    };
    return new QuantState({ ...common, state2, offset: Math.fround(Number(fields.nested_offset)) });
  }

  /** The shape that the JSON tensor of a checkpoint tells. */
  static shapeIn(raw: RawTensor): number[] {
    const { shape } = parse(raw.data as Uint8Array);
    if (Array.isArray(shape) && shape.every(isCount)) return shape;
    throw new RangeError(
      `QuantState.shape must be positive integers, got ${JSON.stringify(shape)}`,
    );
  }

  private json(): string {
    const { quantType, blocksize, dtype, shape, state2, offset } = this;
    const fields = [
      `"quant_type": "${quantType}"`,
      `"blocksize": ${blocksize}`,
      `"dtype": "${dtype}"`,
      `"shape": [${shape.join(', ')}]`,
    ];
    if (state2) {
      fields.push(`"nested_blocksize": ${state2.blocksize}`, '"nested_dtype": "float32"');
      fields.push(`"nested_offset": ${pythonFloat(offset!)}`);
    }
    return `{${fields.join(', ')}}`;
  }
}

/** A number as Python writes a float: always with a point or an exponent of two digits. */
export function pythonFloat(x: number): string {
  const size = Math.abs(x);
  if (size !== 0 && (size < 1e-4 || size >= 1e16)) {
    return x.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
  }
  return Number.isInteger(x) ? x.toFixed(1) : String(x);
}

const isCount = (n: unknown): n is number => Number.isSafeInteger(n) && (n as number) > 0;

function raw(data: Float32Array | Uint8Array): RawTensor {
  return { dtype: data instanceof Uint8Array ? 'U8' : 'F32', shape: [data.length], data };
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  try {
    const fields: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof fields !== 'object' || fields === null) throw new TypeError('no object');
    return fields as Record<string, unknown>;
  } catch {
    throw new Error("Tensor 'quant_state' of a 4-bit weight must hold a JSON object");
  }
}

function floats(tensors: ReadonlyMap<string, RawTensor>, name: string): Float32Array {
  const data = tensors.get(name)?.data;
  if (!(data instanceof Float32Array)) {
    throw new Error(`Tensor '${name}' of a 4-bit weight must be float32`);
  }
  return data;
}
