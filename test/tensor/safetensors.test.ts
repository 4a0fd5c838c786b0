import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { expect } from 'chai';
import fc from 'fast-check';
import { setBackend } from '../../src/jit/backend.ts';
import {
  fromTensor,
  loadFile,
  parseSafetensors,
  type RawTensor,
  safeOpen,
  saveFile,
  serializeSafetensors,
  toFloat32,
  toTensor,
} from '../../src/tensor/safetensors.ts';

const peers = join(import.meta.dirname, '../peers/safetensors');

/** A file with this header and body, right or wrong. */
function file(header: unknown, body = 0, claimed?: bigint): Uint8Array {
  const text = typeof header === 'string' ? header : JSON.stringify(header);
  const json = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + json.length + body);
  new DataView(bytes.buffer).setBigUint64(0, claimed ?? BigInt(json.length), true);
  bytes.set(json, 8);
  return bytes;
}

const one = (dtype: string, shape: unknown, data_offsets: unknown) => ({
  a: { dtype, shape, data_offsets },
});

describe('safetensors', () => {
  before(() => setBackend('cpu'));

  it('reads every number type as the Python library wrote it', () => {
    const tensors = loadFile(join(peers, 'dtypes.safetensors'));
    const expected = JSON.parse(readFileSync(join(peers, 'dtypes.json'), 'utf8'));
    expect([...tensors.keys()].sort()).to.deep.equal(Object.keys(expected).sort());
    for (const [name, raw] of tensors) {
      const { dtype, shape, values } = expected[name];
      expect(raw.dtype, name).to.equal(dtype);
      expect(raw.shape, name).to.deep.equal(shape);
      const isHalf = dtype === 'F16' || dtype === 'BF16';
      const numbers: ArrayLike<number | bigint> = isHalf ? toFloat32(raw) : raw.data;
      const exact = numbers[0] !== undefined && typeof numbers[0] === 'bigint';
      const text = exact ? values : values.map(Number).map(String);
      expect(Array.from(numbers, String), name).to.deep.equal(text);
    }
  });

  it('writes the very bytes that the Python library writes', () => {
    const bytes = readFileSync(join(peers, 'dtypes.safetensors'));
    const written = serializeSafetensors(parseSafetensors(bytes), { format: 'pt' });
    expect(Buffer.from(written).equals(bytes)).to.equal(true);
  });

  it('reads one tensor of an open file without the others', () => {
    const reader = safeOpen(join(peers, 'dtypes.safetensors'));
    expect(reader.metadata).to.deep.equal({ format: 'pt' });
    expect(reader.read('i16').shape).to.deep.equal([6]);
    expect(() => reader.read('none')).to.throw(/No tensor named 'none' in .*dtypes/);
    reader.close();
  });

  it('turns tensors into files and back', () => {
    const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
    const path = join(folder, 'a.safetensors');
    const tensors = [
      tf.tensor2d([[1.5, -2, 3e-9]]),
      tf.tensor1d([7, -8], 'int32'),
      tf.scalar(1, 'bool'),
    ];
    saveFile(new Map(tensors.map((t, i) => [`t${i}`, fromTensor(t)])), path);
    const back = [...loadFile(path)].sort().map(([, raw]) => toTensor(raw));
    for (const [i, t] of tensors.entries()) {
      expect(back[i]!.dtype).to.equal(t.dtype);
      expect(back[i]!.shape).to.deep.equal(t.shape);
      expect([...back[i]!.dataSync()]).to.deep.equal([...t.dataSync()]);
    }
    rmSync(folder, { recursive: true });
  });

  it('refuses data that does not fit its shape, and the name __metadata__', () => {
    const raw: RawTensor = { dtype: 'F32', shape: [3], data: new Float32Array(2) };
    expect(() => serializeSafetensors(new Map([['w', raw]]))).to.throw(
      "Tensor 'w' of dtype F32 and shape [3] needs 3 values in a Float32Array, got 2 in a Float32Array",
    );
    expect(() => serializeSafetensors(new Map([['__metadata__', raw]]))).to.throw(/__metadata__/);
  });

  const damaged: [string, Uint8Array, RegExp][] = [
    ['an empty file', new Uint8Array(0), /has 0 bytes/],
    ['a header longer than the file', file({}, 0, 99n), /claims 99 bytes, 2 are left/],
    ['a gigantic header', file({}, 0, 2n ** 63n), /at most 100000000 are read/],
    ['a header that is not JSON', file('{"a":'), /not JSON/],
    ['a header that is not an object', file('[]'), /not a JSON object/],
    ['a header that is not UTF-8', file('{"a\u{fffd}"}').fill(0xff, 10, 12), /not UTF-8/],
    ['a name that occurs twice', file('{"a":{"x":1},"\\u0061":{}}'), /'a' occurs twice/],
    ['an unknown dtype', file(one('F7', [1], [0, 4]), 4), /dtype "F7", known are U64/],
    ['a dtype out of Object', file(one('constructor', [1], [0, 4]), 4), /dtype "constructor"/],
    ['a negative size', file(one('F32', [-1], [0, 4]), 4), /shape \[-1\]/],
    ['a size that is no number', file(one('F32', '1', [0, 4]), 4), /shape "1"/],
    ['offsets that run backwards', file(one('F32', [1], [4, 0]), 4), /data_offsets \[4,0\]/],
    [
      'offsets that do not fit the shape',
      file(one('F32', [2], [0, 4]), 4),
      /needs 8 bytes.* hold 4/,
    ],
    ['a product beyond all numbers', file(one('F32', [2 ** 40, 2 ** 40], [0, 4]), 4), /needs/],
    ['data beyond the file', file(one('F32', [2], [0, 8]), 4), /ends at byte 8, the file has 4/],
    [
      'bytes that no tensor holds',
      file(one('F32', [1], [0, 4]), 8),
      /end at byte 4, the file has 8/,
    ],
    ['metadata that is not text', file({ __metadata__: { a: 1 } }), /not an object of strings/],
    [
      'overlapping tensors',
      file(
        { ...one('F32', [2], [0, 8]), b: { dtype: 'F32', shape: [1], data_offsets: [4, 8] } },
        8,
      ),
      /'b' begins at byte 4, expected 8/,
    ],
  ];
  for (const [what, bytes, message] of damaged) {
    it(`refuses ${what}`, () => {
      expect(() => parseSafetensors(bytes)).to.throw(Error, message);
    });
  }

  it('answers any bytes with tensors or one sentence', () => {
    const good = readFileSync(join(peers, 'dtypes.safetensors'));
    const change = fc.tuple(fc.nat(good.length - 1), fc.nat(255));
    fc.assert(
      fc.property(fc.array(change, { maxLength: 6 }), fc.nat(good.length), (changes, cut) => {
        const bytes = new Uint8Array(good.subarray(0, cut < good.length / 2 ? good.length : cut));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        outcome(bytes);
      }),
      { numRuns: 500, seed: 1 },
    );
    fc.assert(
      fc.property(fc.json(), fc.nat(32), (json, body) => outcome(file(json, body))),
      { numRuns: 300, seed: 2 },
    );
  });

  it('opens damaged files by name and leaves none open', () => {
    const folder = mkdtempSync(join(tmpdir(), 'safetensors-'));
    const path = join(folder, 'bad.safetensors');
    writeFileSync(path, file({}, 0, 99n));
    for (let i = 0; i < 2000; i++) expect(() => safeOpen(path)).to.throw(/bad\.safetensors is not/);
    rmSync(folder, { recursive: true });
  });
});

function outcome(bytes: Uint8Array): void {
  try {
    const total = [...parseSafetensors(bytes).values()].reduce((n, t) => n + t.data.byteLength, 0);
    expect(total).to.be.at.most(bytes.length);
  } catch (error) {
    expect((error as Error).message).to.match(/^safetensors is not a whole safetensors file: /);
  }
}
