// Kind 03_bnb: packed bytes, scales and numbers of bitsandbytes' blockwise and int8 quantization.
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { dequantizeBlockwise, quantizeBlockwise } from '../../src/quant/blockwise.ts';
import { createDynamicMap, type FourBitType, getFourBitType } from '../../src/quant/codebook.ts';
import { pack4bit, scalesOf, unpack4bit } from '../../src/quant/four-bit.ts';
import {
  dequantizeProduct,
  dequantizeRows,
  multiplyInt8,
  quantizeRows,
} from '../../src/quant/llm-int8.ts';
import type { FloatType } from '../../src/quant/quant-state.ts';
import { float16ToFloat32, float32ToFloat16 } from '../../src/tensor/float16.ts';
import { loadFile, type RawTensor, toFloat32 } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure, same } from './measure.ts';

type Stored = Map<string, RawTensor>;

interface FourBitCase {
  key: string;
  input: string;
  quant_type: FourBitType;
  blocksize: number;
  compress_statistics: boolean;
  dtype: string;
  shape: number[];
  dequant_sha256: string;
  offset?: number;
}

/** Compares the library's quantization with bitsandbytes' generic backend. */
export const checkBnb: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const tolerance = manifest.tolerance as Record<string, number>;
  const fourBit = (manifest.four_bit ?? []) as FourBitCase[];
  const blockwise = (manifest.blockwise8 ?? []) as { key: string; blocksize: number }[];
  const int8 = (manifest.int8 ?? []) as { key: string; threshold: number }[];
  return [
    ...compareTables(join(folder, 'tables.safetensors')),
    ...fourBit.flatMap((one) => compareFourBit(one, stored, tolerance)),
    ...blockwise.flatMap((one) => compareBlockwise(one, stored)),
    ...(int8.length > 0 ? compareInt8(int8, stored) : []),
  ];
};

function compareTables(path: string): Measure[] {
  if (!existsSync(path)) return [];
  const tables = loadFile(path);
  const ours: [string, Float32Array][] = [
    ['nf4.get_4bit_type', getFourBitType('nf4').values],
    ['fp4.get_4bit_type', getFourBitType('fp4').values],
    ['dynamic8.signed', createDynamicMap()],
    ['dynamic8.unsigned', createDynamicMap(false)],
  ];
  return ours
    .filter(([name]) => tables.has(name))
    .map(([name, values]) => exact(name, values, toFloat32(tables.get(name)!)));
}

function compareFourBit(
  one: FourBitCase,
  stored: Stored,
  tolerance: Record<string, number>,
): Measure[] {
  const { key, quant_type: quantType, blocksize, compress_statistics: compressStatistics } = one;
  const dtype = one.dtype.replace('torch.', '') as FloatType;
  const options = { quantType, blocksize, compressStatistics, dtype };
  const { packed, quantState } = pack4bit(toFloat32(stored.get(one.input)!), one.shape, options);
  const back = unpack4bit(packed, quantState);
  const { absmax, state2, offset } = quantState;
  const measures = [
    exact(`${key}.packed`, packed, bytes(stored, `${key}.packed`)),
    exact(`${key}.absmax`, absmax, stored.get(`${key}.absmax`)!.data as Float32Array | Uint8Array),
    same(`${key} sha256`, sha256(back), one.dequant_sha256),
  ];
  if (stored.has(`${key}.dequant`)) {
    measures.push(exact(`${key}.dequant`, back, toFloat32(stored.get(`${key}.dequant`)!)));
  }
  if (!state2) return measures;
  const numbers = (name: string) => toFloat32(stored.get(`${key}.${name}`)!);
  return [
    ...measures,
    exact(`${key}.nested_absmax`, state2.absmax, numbers('nested_absmax')),
    exact(`${key}.absmax_dequant`, scalesOf(quantState), numbers('absmax_dequant')),
    close(`${key} offset`, [offset!], [one.offset!], { rtol: tolerance.offset_rtol ?? 0 }),
  ];
}

function compareBlockwise(
  { key, blocksize }: { key: string; blocksize: number },
  stored: Stored,
): Measure[] {
  const numbers = (name: string) => toFloat32(stored.get(name)!);
  const blocks = quantizeBlockwise(numbers('in8.blockwise'), { blocksize });
  return [
    exact(`${key}.q`, blocks.codes, bytes(stored, `${key}.q`)),
    exact(`${key}.absmax`, blocks.absmax, numbers(`${key}.absmax`)),
    exact(`${key}.dequant`, dequantizeBlockwise(blocks, { blocksize }), numbers(`${key}.dequant`)),
  ];
}

/** bitsandbytes quantizes float16 numbers. */
function compareInt8(cases: { key: string; threshold: number }[], stored: Stored): Measure[] {
  const numbers = (name: string) => toFloat32(stored.get(name)!);
  const halves = (name: string) => float16ToFloat32(float32ToFloat16(numbers(name)));
  const columns = stored.get('int8.W')!.shape[1]!;
  const weight = quantizeRows(halves('int8.W'), columns);
  const plain = quantizeRows(halves('int8.A'), columns);
  const product = multiplyInt8(plain.codes, weight.codes, columns);
  const scaled = dequantizeProduct(product, plain.rowStats, weight.rowStats);
  return [
    exact('int8.Wq', weight.codes, stored.get('int8.Wq')!.data as Int8Array),
    exact('int8.SCB', weight.rowStats, numbers('int8.W_row_stats(SCB)')),
    exact('int8.W_dequant', dequantizeRows(weight), numbers('int8.W_dequant')),
    exact('int8.acc_i32', product, stored.get('int8.acc_i32')!.data as Int32Array),
    exact('int8.mm_dequant', scaled, numbers('int8.mm_dequant_fp32')),
    ...cases.flatMap(({ key, threshold }) => {
      const x = quantizeRows(halves('int8.A'), columns, threshold);
      const outliers = stored.get(`${key}.outlier_cols`);
      const named = outliers ? Array.from(outliers.data as BigInt64Array, Number) : [];
      return [
        exact(`${key}.Aq`, x.codes, stored.get(`${key}.Aq`)!.data as Int8Array),
        exact(`${key}.row_stats`, x.rowStats, numbers(`${key}.row_stats`)),
        same(`${key}.outlier_cols`, x.outlierColumns, named),
      ];
    }),
  ];
}

const bytes = (stored: Stored, name: string) => stored.get(name)!.data as Uint8Array;

const exact = (what: string, actual: ArrayLike<number>, expected: ArrayLike<number>) =>
  close(what, Array.from(actual, zero), Array.from(expected, zero), {});

/** -0 is 0 here: their difference is none. */
const zero = (x: number) => x + 0;

const sha256 = (values: Float32Array) =>
  createHash('sha256').update(new Uint8Array(values.buffer)).digest('hex');
