import { expect } from 'chai';
import fc from 'fast-check';
import { setBackend } from '../../src/jit/backend.ts';
import { jit } from '../../src/jit/jit.ts';
import { constant, PackedBytes } from '../../src/quant/packed-bytes.ts';

describe('PackedBytes', () => {
  before(() => setBackend('auto'));

  it('gives back any bytes, read directly or unpacked by ops', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 70 }), (bytes) => {
        const packed = new PackedBytes(bytes);
        expect(packed.bytes()).to.deep.equal(bytes);
        const unpacked = packed.unpack();
        expect([...unpacked.dataSync()].slice(0, bytes.length)).to.deep.equal([...bytes]);
        unpacked.dispose();
        packed.tensor.dispose();
      }),
      { numRuns: 60, seed: 2 },
    );
  });

  it('unpacks in a compiled graph', () => {
    const bytes = Uint8Array.from({ length: 256 }, (_, i) => 255 - i);
    const packed = new PackedBytes(bytes);
    const unpack = jit(() => packed.unpack());
    const unpacked = unpack();
    expect([...unpacked.dataSync()]).to.deep.equal([...bytes]);
    expect(unpack.fallback).to.equal(undefined);
    unpack.dispose();
    unpacked.dispose();
    packed.tensor.dispose();
  });

  it('takes a quarter of the bytes that float32 takes, and is not trained', () => {
    const { tensor } = new PackedBytes(new Uint8Array(4096));
    expect(tensor.dtype).to.equal('bool');
    expect(tensor.size).to.equal(4096);
    expect(tensor.trainable).to.equal(false);
    expect(constant(tensor.clone()).trainable).to.equal(false);
  });
});
