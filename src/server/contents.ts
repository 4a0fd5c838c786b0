// Files of the served folder as Jupyter's contents API has them, with one checkpoint a file. No path and no
// symbolic link leads out of the folder; files are replaced whole or not at all.
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs';
import { basename, dirname, extname, join, normalize, relative, resolve, sep } from 'node:path';
import type { Json } from '../kernel/message.ts';
import { writeFileWhole } from '../notebook/atomic-file.ts';
import {
  formatNotebook,
  NotebookError,
  parseNotebook,
  readNotebook,
} from '../notebook/nbformat.ts';
import type { Trust } from './trust.ts';

/** A request that can't be granted; `status` is HTTP's. */
export class ContentsError extends Error {
  override name = 'ContentsError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** What to read of a file. */
export interface ReadOptions {
  content: boolean;
  type: string | undefined;
  format: string | undefined;
}

const CHECKPOINTS = '.ipynb_checkpoints';
const MIME: Record<string, string> = {
  '.json': 'application/json',
  '.md': 'text/markdown',
  '.csv': 'text/csv',
  '.ts': 'text/typescript',
  '.js': 'text/javascript',
  '.html': 'text/html',
  '.png': 'image/png',
  '.svg': 'image/svg+xml',
};
const TEXT = /\.(md|txt|tsx?|[cm]?js|jsonl?|csv|tsv|html|css|svg|ya?ml|py|toml|ipynb)$/i;
/** What the disk says: status and words. */
const REASONS: Record<string, readonly [status: number, words: string]> = {
  EACCES: [403, 'no permission to write there'],
  EPERM: [403, 'no permission to write there'],
  EROFS: [403, 'the file system is read-only'],
  ENOSPC: [507, 'the disk is full'],
  EDQUOT: [507, 'the disk is full'],
  ENOENT: [404, 'there is no such file or folder'],
};

/** The files below one folder. */
export class Contents {
  readonly root: string;
  private readonly trust: Trust;

  constructor(root: string, trust: Trust) {
    this.root = realpathSync(root);
    this.trust = trust;
  }

  /** The place of `path` on disk; an error if it leads out of the folder or is hidden. */
  place(path: string): string {
    const parts = path.split('/').filter(Boolean);
    if (path.includes('\0') || parts.some((part) => part.startsWith('.'))) {
      throw new ContentsError(404, `No such file or folder: ${path}`);
    }
    const full = resolve(this.root, `.${sep}${normalize(`/${path}`)}`);
    for (let probe = full; ; probe = dirname(probe)) {
      const real = realPath(probe);
      if (real === null) continue;
      if (real === this.root || real.startsWith(this.root + sep)) return full;
      throw new ContentsError(403, `${path} leads out of the served folder`);
    }
  }

  /** A file or folder. */
  read(path: string, options: ReadOptions): Json {
    const full = this.place(path);
    const stat = this.stat(full, path);
    const { content, type } = options;
    if (stat.isDirectory()) {
      if (type && type !== 'directory') throw new ContentsError(400, `${path} is a folder`);
      return this.readFolder(full, stat, content);
    }
    if (type === 'directory') throw new ContentsError(400, `${path} is not a folder`);
    const kind = type ?? (full.endsWith('.ipynb') ? 'notebook' : 'file');
    const model = this.model(full, stat, kind);
    if (!content) return model;
    if (kind === 'notebook') {
      return { ...model, format: 'json', content: this.trust.mark(readNotebook(full)) };
    }
    const bytes = readFileSync(full);
    const isText = options.format !== 'base64' && (options.format === 'text' || TEXT.test(full));
    return isText
      ? { ...model, format: 'text', content: bytes.toString('utf8') }
      : { ...model, format: 'base64', content: bytes.toString('base64') };
  }

  /** Writes a file, or makes a folder. */
  save(path: string, { type, format, content }: Json): Json {
    const full = this.place(path);
    this.granting(`Can't save ${path}`, () => {
      if (type === 'directory') return void mkdirSync(full, { recursive: true });
      const isNotebook = type === 'notebook';
      const data = isNotebook
        ? formatNotebook(this.trust.unmark(parseNotebook(content, path)))
        : Buffer.from(String(content ?? ''), format === 'base64' ? 'base64' : 'utf8');
      writeFileWhole(full, data);
    });
    return this.read(path, { content: false, type: undefined, format: undefined });
  }

  /** Makes a new file or folder with a name that is free. */
  create(folder: string, { type = 'file', ext = '' }: { type?: string; ext?: string }): Json {
    const names: Record<string, readonly [string, string]> = {
      notebook: ['Untitled', '.ipynb'],
      directory: ['Untitled Folder', ''],
    };
    const [stem, ending] = names[type] ?? ['untitled', ext];
    const empty = { cells: [], metadata: {}, nbformat: 4, nbformat_minor: 5 };
    const path = this.freeName(folder, stem, ending, (n) => (n === 0 ? '' : String(n)));
    return this.save(path, { type, content: type === 'notebook' ? empty : '' });
  }

  /** Copies a file into a folder. */
  copy(from: string, folder: string): Json {
    const source = this.place(from);
    const ending = extname(from);
    const path = this.freeName(folder, basename(from, ending), ending, (n) => `-Copy${n + 1}`);
    this.granting(`Can't copy ${from}`, () =>
      cpSync(source, this.place(path), { recursive: true }),
    );
    return this.read(path, { content: false, type: undefined, format: undefined });
  }

  rename(path: string, to: string): Json {
    const [source, target] = [this.place(path), this.place(to)];
    if (realPath(target) !== null && source !== target) {
      throw new ContentsError(409, `There is a file ${to} already`);
    }
    this.granting(`Can't rename ${path}`, () => {
      renameSync(source, target);
      if (realPath(checkpointOf(source)) === null) return;
      mkdirSync(dirname(checkpointOf(target)), { recursive: true });
      renameSync(checkpointOf(source), checkpointOf(target));
    });
    return this.read(to, { content: false, type: undefined, format: undefined });
  }

  remove(path: string): void {
    const full = this.place(path);
    if (full === this.root) throw new ContentsError(400, 'The served folder itself must stay');
    this.stat(full, path);
    this.granting(`Can't delete ${path}`, () => {
      rmSync(full, { recursive: true });
      rmSync(checkpointOf(full), { force: true });
    });
  }

  /** Checkpoints of a file: none or one. */
  checkpoints(path: string): Json[] {
    const stat = tryStat(checkpointOf(this.place(path)));
    return stat ? [{ id: 'checkpoint', last_modified: stat.mtime.toISOString() }] : [];
  }

  checkpoint(path: string): Json {
    const full = this.place(path);
    this.granting(`Can't keep a checkpoint of ${path}`, () => {
      mkdirSync(dirname(checkpointOf(full)), { recursive: true });
      copyFileSync(full, checkpointOf(full));
    });
    return this.checkpoints(path)[0]!;
  }

  restore(path: string): void {
    const full = this.place(path);
    this.granting(`Can't restore ${path}`, () =>
      writeFileWhole(full, readFileSync(checkpointOf(full))),
    );
  }

  removeCheckpoint(path: string): void {
    rmSync(checkpointOf(this.place(path)), { force: true });
  }

  private stat(full: string, path: string): Stats {
    const stat = tryStat(full);
    if (!stat) throw new ContentsError(404, `No such file or folder: ${path}`);
    return stat;
  }

  private model(full: string, stat: Stats, type: string): Json {
    const path = relative(this.root, full).split(sep).join('/');
    return {
      ...{ name: path === '' ? '' : basename(full), path, type, writable: true },
      ...{ created: stat.birthtime.toISOString(), last_modified: stat.mtime.toISOString() },
      size: stat.isFile() ? stat.size : null,
      mimetype: type === 'file' ? (MIME[extname(full).toLowerCase()] ?? mimeOf(full)) : null,
      ...{ content: null, format: null },
    };
  }

  private readFolder(full: string, stat: Stats, content: boolean): Json {
    const model = this.model(full, stat, 'directory');
    if (!content) return model;
    const names = readdirSync(full).filter((n) => !n.startsWith('.') && n !== 'node_modules');
    const children = names.flatMap((name) => {
      const child = tryStat(join(full, name));
      if (!child) return [];
      const file = name.endsWith('.ipynb') ? 'notebook' : 'file';
      return [this.model(join(full, name), child, child.isDirectory() ? 'directory' : file)];
    });
    return { ...model, format: 'json', content: children };
  }

  private freeName(
    folder: string,
    stem: string,
    ending: string,
    suffix: (n: number) => string,
  ): string {
    for (let n = 0; ; n++) {
      const path = [folder, `${stem}${suffix(n)}${ending}`].filter(Boolean).join('/');
      if (realPath(this.place(path)) === null) return path;
    }
  }

  /** Does what the disk may refuse, and says so in words. */
  private granting(what: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      if (error instanceof NotebookError) throw new ContentsError(400, error.message);
      const { code = '', message } = error as NodeJS.ErrnoException;
      const [status, words] = REASONS[code] ?? [500, message];
      throw new ContentsError(status, `${what}: ${words}`);
    }
  }
}

function realPath(path: string): string | null {
  try {
    return realpathSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new ContentsError(403, 'No permission to look there');
  }
}

function tryStat(path: string): Stats | null {
  return statSync(path, { throwIfNoEntry: false }) ?? null;
}

function mimeOf(path: string): string {
  return TEXT.test(path) ? 'text/plain' : 'application/octet-stream';
}

function checkpointOf(path: string): string {
  const ending = extname(path);
  return join(dirname(path), CHECKPOINTS, `${basename(path, ending)}-checkpoint${ending}`);
}
