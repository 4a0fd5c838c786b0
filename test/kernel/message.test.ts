import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { expect } from 'chai';
import fc from 'fast-check';
import { frame, readFrames } from '../../src/kernel/frames.ts';
import { History } from '../../src/kernel/history.ts';
import { parseMagics } from '../../src/kernel/magics.ts';
import { MessageError, Wire } from '../../src/kernel/message.ts';
import { codePointOffset, codeUnitOffset } from '../../src/kernel/text-offset.ts';

describe('Messages', () => {
  const wire = new Wire('key');
  const json = fc.dictionary(fc.string(), fc.jsonValue()).map((o) => JSON.parse(JSON.stringify(o)));

  it('come back as they were sent, with identities and buffers', () => {
    const bytes = fc.uint8Array().map((b) => Buffer.from(b));
    // An identity is a frame of its own choice of bytes, but never the delimiter.
    const identity = bytes.filter((b) => !b.equals(Buffer.from('<IDS|MSG>')));
    fc.assert(
      fc.property(
        json,
        json,
        fc.array(identity),
        fc.array(bytes),
        (content, metadata, identities, buffers) => {
          const sent = wire.message('t', content, null, { identities, metadata, buffers });
          expect(wire.decode(wire.encode(sent))).to.deep.equal(sent);
        },
      ),
    );
  });

  it('are refused in one sentence, whatever bytes they are', () => {
    const valid = wire.encode(wire.message('t', { a: 1 }));
    const part = fc.oneof(
      fc.uint8Array().map((b) => Buffer.from(b)),
      fc.constantFrom(...valid),
    );
    fc.assert(
      fc.property(fc.array(part, { maxLength: 9 }), (frames) => {
        try {
          wire.decode(frames);
        } catch (error) {
          expect(error).to.be.instanceOf(MessageError);
        }
      }),
    );
  });

  it('are refused when a single byte of a signed part is another one', () => {
    const valid = wire.encode(wire.message('t', { a: 1 }));
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 5 }),
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (at, byte, by) => {
          const frames = valid.map((f) => Buffer.from(f));
          const target = frames[at]!;
          target[byte % target.length]! ^= by;
          expect(() => wire.decode(frames)).to.throw(MessageError);
        },
      ),
    );
  });

  it('may be unsigned only if the connection has no key', () => {
    const open = new Wire('');
    const message = open.message('t', {});
    expect(open.decode(open.encode(message))).to.deep.equal(message);
    expect(() => wire.decode(open.encode(message))).to.throw(MessageError, /signature/);
  });
});

describe('Frames', () => {
  it('arrive whole however the pipe cuts them', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.jsonValue(), { maxLength: 5 }),
        fc.integer({ min: 1, max: 7 }),
        async (values, size) => {
          const bytes = Buffer.concat(values.map(frame));
          const stream = new PassThrough();
          const got: unknown[] = [];
          readFrames(stream, (value) => got.push(value));
          for (let i = 0; i < bytes.length; i += size) stream.write(bytes.subarray(i, i + size));
          stream.end();
          await new Promise((resolve) => stream.on('end', resolve));
          expect(got).to.deep.equal(values);
        },
      ),
    );
  });
});

describe('Offsets', () => {
  it('change between code points and UTF-16 units and back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        const points = [...text];
        for (let i = 0; i <= points.length; i++) {
          expect(codeUnitOffset(text, i)).to.equal(points.slice(0, i).join('').length);
          expect(codePointOffset(text, codeUnitOffset(text, i))).to.equal(i);
        }
      }),
    );
  });
});

describe('Magics', () => {
  it('are blanked where they stand, so that lines keep their numbers', () => {
    expect(parseMagics('// note\n%types off\nx')).to.deep.include({
      text: '// note\n\nx',
      types: 'off',
    });
    expect(parseMagics('x\n%types off')).to.deep.include({ text: 'x\n%types off', types: null });
    expect(parseMagics('# This cell (id:abc) was restored\nx')).to.deep.include({ text: '\nx' });
    expect(parseMagics('?Math.max').inspect).to.equal('Math.max');
    expect(parseMagics('Math.max?').inspect).to.equal('Math.max');
    expect(parseMagics('a ? b : c').inspect).to.equal(null);
  });
});

describe('History', () => {
  it('survives damaged lines in its file', () => {
    const folder = mkdtempSync(join(tmpdir(), 'peftlab history '));
    const path = join(folder, 'history.jsonl');
    writeFileSync(path, '{"session":3,"line":1,"input":"old"}\nnot json\n{"session":"x"}\n{"sess');
    const history = new History(path);
    expect(history.session).to.equal(4);
    history.add(1, 'new', 'out');
    expect(history.query({ hist_access_type: 'tail', n: 5, output: true })).to.deep.equal([
      [3, 1, ['old', null]],
      [4, 1, ['new', 'out']],
    ]);
    rmSync(folder, { recursive: true });
  });
});
