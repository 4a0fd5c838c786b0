// Files that change whole or not at all: written beside the old one, flushed to the disk, then renamed. (The
// package write-file-atomic takes a short write on a full disk for success, and leaves half a file.)
import { randomBytes } from 'node:crypto';
import {
  chownSync,
  closeSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';

/** Writes `data` to `path`, with the rights and the owner of the file that was there; throws the system's error. */
export function writeFileWhole(path: string, data: string | Uint8Array, mode = 0o666): void {
  const before = statSync(path, { throwIfNoEntry: false });
  const target = before ? realpathSync(path) : path;
  const partial = `${target}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    const file = openSync(partial, 'wx', before ? before.mode & 0o7777 : mode);
    try {
      writeFileSync(file, data);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    if (before && process.getuid?.() === 0) chownSync(partial, before.uid, before.gid);
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { force: true });
    throw error;
  }
}
