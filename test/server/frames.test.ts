// WebSocket framing, against bytes laid out by the protocols' own description.
import { expect } from 'chai';
import { decodeLegacy, decodeV1, encodeLegacy, encodeV1 } from '../../src/server/frames.ts';

const json = (value: object) => Buffer.from(JSON.stringify(value));
const message = {
  channel: 'shell',
  parts: [json({ msg_id: 'a', msg_type: 'b' }), json({}), json({ m: 1 }), json({ c: 'é' })],
};
const withBuffers = {
  ...message,
  parts: [...message.parts, Buffer.from([1, 2]), Buffer.alloc(0), Buffer.from([3])],
};

describe('Frames of the WebSocket', () => {
  it('of the newer protocol: a count, offsets, then channel and parts', () => {
    const bytes = encodeV1(message);
    const count = Number(bytes.readBigUInt64LE(0));
    expect(count).to.equal(6);
    const offsets = Array.from({ length: count }, (_, i) =>
      Number(bytes.readBigUInt64LE(8 + 8 * i)),
    );
    expect(offsets[0]).to.equal(8 * 7);
    expect(offsets.at(-1)).to.equal(bytes.length);
    expect(bytes.subarray(offsets[0], offsets[1]).toString()).to.equal('shell');
    expect(bytes.subarray(offsets[4], offsets[5]).toString()).to.equal('{"c":"é"}');
  });

  it('come back as they were, with and without buffers, in both protocols', () => {
    for (const one of [message, withBuffers]) {
      expect(decodeV1(encodeV1(one))).to.deep.equal(one);
      const legacy = encodeLegacy(one);
      expect(decodeLegacy(Buffer.from(legacy), typeof legacy !== 'string')).to.deep.equal(one);
    }
    expect(JSON.parse(encodeLegacy(message) as string)).to.deep.equal({
      ...{ channel: 'shell', msg_id: 'a', msg_type: 'b', header: { msg_id: 'a', msg_type: 'b' } },
      ...{ parent_header: {}, metadata: { m: 1 }, content: { c: 'é' }, buffers: [] },
    });
  });

  it('are refused when they are too short', () => {
    expect(() => decodeV1(Buffer.from([1, 2]))).to.throw('at least 6 offsets');
    expect(() => decodeV1(Buffer.alloc(16, 255))).to.throw('at least 6 offsets');
  });
});
