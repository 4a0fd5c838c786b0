// Files that this package brings along, named from its folder as 'models/world-3m'.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PACKAGE = fileURLToPath(new URL('../../', import.meta.url));

/** Where `path` is: below the working folder, or in this package if it is only there. */
export function ownPath(path: string): string {
  const own = join(PACKAGE, path);
  return !existsSync(path) && path.startsWith('models/') && existsSync(own) ? own : path;
}
