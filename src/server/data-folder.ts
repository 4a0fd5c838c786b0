// Where the server keeps what belongs to the user: settings, workspaces, signatures of notebooks.
import { mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { writeFileWhole } from '../notebook/atomic-file.ts';

/** Folder of the user's data. */
export function userDataFolder(): string {
  const { PEFTLAB_DATA_DIR: own, APPDATA, XDG_DATA_HOME } = process.env;
  if (own) return own;
  if (process.platform === 'win32' && APPDATA) return join(APPDATA, 'peftlab');
  return join(XDG_DATA_HOME ?? join(homedir(), '.local', 'share'), 'peftlab');
}

/** One JSON object in a file; what can't be read is empty. */
export class JsonFile<T> {
  private readonly path: string;
  private values: Record<string, T> | null = null;

  constructor(name: string) {
    this.path = join(userDataFolder(), name);
  }

  all(): Record<string, T> {
    if (this.values) return this.values;
    try {
      this.values = JSON.parse(readFileSync(this.path, 'utf8')) as Record<string, T>;
    } catch {
      this.values = {};
    }
    return this.values;
  }

  set(key: string, value: T | undefined): void {
    const values = this.all();
    if (value === undefined) delete values[key];
    else values[key] = value;
    mkdirSync(dirname(this.path), { recursive: true });
    writeFileWhole(this.path, JSON.stringify(values), 0o600);
  }
}
