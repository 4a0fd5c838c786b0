import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'chai';
import { writeFileWhole } from '../../src/notebook/atomic-file.ts';

describe('A file written whole', () => {
  const folder = mkdtempSync(join(tmpdir(), 'peftlab file '));
  const path = join(folder, 'a.txt');
  after(() => rmSync(folder, { recursive: true, force: true }));

  it('keeps the rights of the old one, follows a link, and leaves nothing beside it', () => {
    writeFileSync(path, 'old');
    chmodSync(path, 0o640);
    symlinkSync(path, join(folder, 'link'));
    writeFileWhole(join(folder, 'link'), 'new');
    expect(readFileSync(path, 'utf8')).to.equal('new');
    expect(statSync(path).mode & 0o777).to.equal(0o640);
    expect(readdirSync(folder).sort()).to.deep.equal(['a.txt', 'link']);
  });

  it('stays as it was on a full disk, and says so', function () {
    const disk = join(folder, 'disk');
    try {
      execFileSync('mkdir', [disk]);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', disk], { stdio: 'ignore' });
    } catch {
      this.skip();
    }
    try {
      writeFileWhole(join(disk, 'b.txt'), 'old');
      const large = 'x'.repeat(200_000);
      expect(() => writeFileWhole(join(disk, 'b.txt'), large)).to.throw('ENOSPC');
      expect(readFileSync(join(disk, 'b.txt'), 'utf8')).to.equal('old');
      expect(readdirSync(disk)).to.deep.equal(['b.txt']);
    } finally {
      execFileSync('umount', [disk]);
    }
  });
});
