// LLM.int8 (arXiv 2208.07339): y = (Q_x Q_W^T) * s_x s_W / 127^2 with rows of x and W scaled to int8 by
// their absmax; columns of x with a number of at least `threshold` are multiplied unquantized.
// The two constants are bitsandbytes' literals: the first is not quite 1 / 127^2, the second 1 / 127.

/** What int8 products are multiplied by. */
const PRODUCT_SCALE = Math.fround(6.200124e-5);

/** What int8 weights are multiplied by. */
const ROW_SCALE = Math.fround(7.874015718698502e-3);

/** 127 times it is a float32. */
const LARGEST = 2.6e36;

/** Rows in int8, their absmax, and the columns that were left out (all zeros in `codes`). */
export interface Int8Rows {
  codes: Int8Array;
  rowStats: Float32Array;
  outlierColumns: number[];
}

/**
 * codes = round(x * (127 / absmax of the row)), ties to even, for x [rows, columns]; torch divides by
 * multiplying with the rounded reciprocal, which decides ties. With `threshold` above 0, numbers of at least that size are left out of absmax, and their columns out of `codes`.
 */
export function quantizeRows(x: Float32Array, columns: number, threshold = 0): Int8Rows {
  if (x.length === 0 || x.length % columns !== 0) {
    throw new RangeError(`${x.length} numbers do not make rows of ${columns}`);
  }
  const rows = x.length / columns;
  const limit = threshold > 0 ? threshold : Infinity;
  const isOutlier = new Uint8Array(columns);
  const rowStats = new Float32Array(rows);
  for (let i = 0; i < x.length; i++) {
    const size = Math.abs(x[i]!);
    if (!Number.isFinite(size)) {
      throw new RangeError(`Numbers to quantize must be finite, got ${x[i]} at ${i}`);
    }
    if (size > LARGEST) {
      throw new RangeError(`Numbers for LLM.int8 must be at most 2.6e36, got ${x[i]} at ${i}`);
    }
    const row = (i / columns) | 0;
    if (size >= limit) isOutlier[i % columns] = 1;
    else if (size > rowStats[row]!) rowStats[row] = size;
  }
  const codes = new Int8Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const absmax = rowStats[(i / columns) | 0]!;
    const dropped = Math.abs(x[i]!) >= limit || (rows > 1 && isOutlier[i % columns]);
    if (dropped || absmax === 0) continue;
    const scale = Math.fround(127 * Math.fround(1 / absmax));
    codes[i] = roundHalfEven(Math.fround(x[i]! * scale));
  }
  const outlierColumns = [...isOutlier.keys()].filter((column) => isOutlier[column]);
  return { codes, rowStats, outlierColumns };
}

/** W = codes * absmax of the row / 127. */
export function dequantizeRows({
  codes,
  rowStats,
}: Pick<Int8Rows, 'codes' | 'rowStats'>): Float32Array {
  const columns = codes.length / rowStats.length;
  if (!Number.isInteger(columns)) {
    throw new RangeError(`${codes.length} codes do not make ${rowStats.length} rows`);
  }
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) {
    values[i] = Math.fround(codes[i]! * rowStats[(i / columns) | 0]!) * ROW_SCALE;
  }
  return values;
}

/** Q_x Q_W^T [rows, out] as exact integers. */
export function multiplyInt8(x: Int8Array, weight: Int8Array, columns: number): Int32Array {
  const [rows, out] = [x.length / columns, weight.length / columns];
  if (!Number.isInteger(rows) || !Number.isInteger(out)) {
    throw new RangeError(
      `${x.length} and ${weight.length} numbers do not both make rows of ${columns}`,
    );
  }
  const product = new Int32Array(rows * out);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < out; j++) {
      let sum = 0;
      for (let k = 0; k < columns; k++) sum += x[i * columns + k]! * weight[j * columns + k]!;
      product[i * out + j] = sum;
    }
  }
  return product;
}

/** y = product * (rowStats colStats) * 6.200124e-5, in float32. */
export function dequantizeProduct(
  product: Int32Array,
  rowStats: Float32Array,
  columnStats: Float32Array,
): Float32Array {
  const out = columnStats.length;
  if (product.length !== rowStats.length * out) {
    throw new RangeError(
      `A product must have ${rowStats.length} x ${out} numbers, got ${product.length}`,
    );
  }
  return Float32Array.from(product, (sum, i) => {
    const scale = Math.fround(rowStats[(i / out) | 0]! * columnStats[i % out]!);
    return Math.fround(Math.fround(sum) * scale) * PRODUCT_SCALE;
  });
}

/** The nearest integer, the even one of two. */
export function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
