// Runs after `npm install`: takes out of node_modules what no program here reads. Source maps of
// packages and ONNX Runtime's libraries for other systems are half of the whole installation.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const modules = join(dirname(dirname(dirname(fileURLToPath(import.meta.url)))), 'node_modules');

/** Removes every source map below `folder`. */
function removeMaps(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) removeMaps(path);
    else if (entry.isFile() && /\.([cm]?js|css|d\.[cm]?ts|html)\.map$/.test(entry.name)) {
      rmSync(path, { force: true });
    }
  }
}

/** Leaves of `folder`, whose subfolders are named by platform and then architecture, only this machine's. */
function keepOwnPlatform(folder) {
  if (!existsSync(join(folder, process.platform, process.arch))) return;
  for (const platform of readdirSync(folder)) {
    for (const arch of readdirSync(join(folder, platform))) {
      if (platform === process.platform && arch === process.arch) continue;
      rmSync(join(folder, platform, arch), { recursive: true, force: true });
    }
  }
}

if (existsSync(modules)) {
  removeMaps(modules);
  keepOwnPlatform(join(modules, 'onnxruntime-node', 'bin', 'napi-v6'));
}
