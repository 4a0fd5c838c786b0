// Which notebooks were run or saved here: only their HTML and scripts are shown as they are. The digest is
// Jupyter's (HMAC-SHA256 with a secret of the user over the notebook's content); the list of known digests is a
// file of our own, for Node 20 has no SQLite to read Jupyter's.
import { createHmac, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Notebook } from '../notebook/nbformat.ts';
import { JsonFile, userDataFolder } from './data-folder.ts';

const MOST = 10_000;

/** Signs notebooks and knows those that were signed. */
export class Trust {
  private readonly signatures = new JsonFile<string>('signatures.json');
  private secret: Buffer | null = null;

  /** Sets `trusted` of each code cell, as JupyterLab reads it. */
  mark(notebook: Notebook): Notebook {
    const trusted = this.signatures.all()[this.digest(notebook)] !== undefined;
    const cells = notebook.cells.map((cell) =>
      cell.cell_type === 'code' ? { ...cell, metadata: { ...cell.metadata, trusted } } : cell,
    );
    return { ...notebook, cells };
  }

  /** The notebook as it is written; it is signed if the front end trusts all of its code cells. */
  unmark(notebook: Notebook): Notebook {
    const isTrusted = notebook.cells.every(
      (cell) => cell.cell_type !== 'code' || cell.metadata.trusted !== false,
    );
    const cells = notebook.cells.map((cell) => {
      const { trusted: _trusted, ...metadata } = cell.metadata;
      return { ...cell, metadata };
    });
    const plain = { ...notebook, cells };
    if (isTrusted) this.sign(plain);
    return plain;
  }

  private sign(notebook: Notebook): void {
    const digest = this.digest(notebook);
    const all = this.signatures.all();
    if (all[digest]) return;
    const [oldest] = Object.keys(all);
    if (oldest && Object.keys(all).length >= MOST) delete all[oldest];
    try {
      this.signatures.set(digest, new Date().toISOString());
    } catch {
      // Without a place to write to, the notebook is not trusted the next time.
    }
  }

  private digest(notebook: Notebook): string {
    const hmac = createHmac('sha256', this.key());
    const feed = (value: unknown): void => {
      if (Array.isArray(value)) for (const item of value) feed(item);
      else if (typeof value === 'object' && value !== null) {
        for (const key of Object.keys(value).sort()) {
          hmac.update(key);
          feed((value as Record<string, unknown>)[key]);
        }
      } else hmac.update(pythonText(value));
    };
    const { signature: _signature, ...metadata } = notebook.metadata;
    feed({ ...notebook, metadata });
    return hmac.digest('hex');
  }

  private key(): Buffer {
    if (this.secret) return this.secret;
    const path = join(userDataFolder(), 'notebook_secret');
    try {
      this.secret = readFileSync(path);
    } catch {
      this.secret = randomBytes(48);
      try {
        mkdirSync(userDataFolder(), { recursive: true });
        writeFileSync(path, this.secret, { mode: 0o600 });
        chmodSync(path, 0o600);
      } catch {
        // It lasts as long as the server then.
      }
    }
    return this.secret;
  }
}

/** A value as Python writes it, for the digest is of its texts; integral floats are taken for integers. */
function pythonText(value: unknown): string {
  if (value === null) return 'None';
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value !== 'number' || value === 0 || Math.abs(value) >= 1e-4) return String(value);
  return value.toExponential().replace(/e-(\d)$/, 'e-0$1');
}
