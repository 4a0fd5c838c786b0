// Half-precision numbers as their 16 bits, to and from float32.
// float16 (IEEE binary16): 1 sign, 5 exponent, 10 fraction bits; bfloat16: the upper half of a float32.
// Rounding is to nearest, ties to even, as in torch and numpy.

const word = new Float32Array(1);
const bits = new Uint32Array(word.buffer);

/** float16 bits to numbers: (-1)^s * 2^(e-15) * (1 + f/1024), subnormals f * 2^-24; exact. */
export function float16ToFloat32(half: Uint16Array): Float32Array {
  const out = new Float32Array(half.length);
  const outBits = new Uint32Array(out.buffer);
  for (let i = 0; i < half.length; i++) {
    const sign = (half[i]! & 0x8000) << 16;
    const magnitude = half[i]! & 0x7fff;
    if (magnitude >= 0x7c00) outBits[i] = sign | 0x7f800000 | (magnitude << 13);
    else if (magnitude >= 0x400) outBits[i] = sign | ((magnitude << 13) + 0x38000000);
    else out[i] = (sign < 0 ? -1 : 1) * magnitude * 2 ** -24;
  }
  return out;
}

/** bfloat16 bits to numbers: the bits shifted to the upper half of a float32; exact. */
export function bfloat16ToFloat32(half: Uint16Array): Float32Array {
  const out = new Uint32Array(half.length);
  for (let i = 0; i < half.length; i++) out[i] = half[i]! << 16;
  return new Float32Array(out.buffer);
}

/** Numbers to float16 bits, rounded to nearest even; above 65504 + 15 it is infinity. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) out[i] = toFloat16(values[i]!);
  return out;
}

/** Numbers to bfloat16 bits, rounded to nearest even. */
export function float32ToBfloat16(values: Float32Array): Uint16Array {
  const out = new Uint16Array(values.length);
  for (let i = 0; i < values.length; i++) {
    word[0] = values[i]!;
    const x = bits[0]!;
    const isNan = (x & 0x7fffffff) > 0x7f800000;
    out[i] = isNan ? (x >>> 16) | 0x40 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return out;
}

function toFloat16(value: number): number {
  word[0] = value;
  const x = bits[0]!;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal: a whole number of 2^-24, which a float64 product holds exactly.
    return sign | roundHalfEven(Math.abs(word[0]!) * 2 ** 24);
  }
  return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
}

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}
