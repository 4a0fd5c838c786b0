// What a kernelspec starts: `node launch.mjs <connection file>`. The kernel's TypeScript is bundled by
// esbuild into the cache once per change of its sources (about 50 ms), since starting from the
// sources through tsx would cost 150 ms and 100 MB each time.
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(dirname(here));
const ENTRIES = ['main', 'child', 'helper-thread', 'module-hooks', 'language-thread'];

/** Names of the sources with size and time: another text means another bundle. */
function sourceStamp() {
  const hash = createHash('sha256').update(process.version);
  for (const name of readdirSync(here).sort()) {
    const { size, mtimeMs } = statSync(join(here, name));
    hash.update(`${name} ${size} ${mtimeMs}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}

/** The folder of bundles: inside the package, so that its dependencies are found. */
function cacheFolder() {
  const modules = dirname(dirname(createRequire(import.meta.url).resolve('zeromq/package.json')));
  return join(modules, '.cache', 'peftlab', `kernel-${sourceStamp()}`);
}

/** Bundles the kernel into `folder`, which appears whole or not at all. */
async function bundle(folder) {
  const { build, stop } = await import('esbuild');
  const partial = `${folder}.${process.pid}`;
  mkdirSync(partial, { recursive: true });
  await build({
    entryPoints: ENTRIES.map((name) => join(here, `${name}.ts`)),
    outdir: partial,
    bundle: true,
    splitting: false,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    packages: 'external',
    sourcemap: 'linked',
    logLevel: 'error',
    outExtension: { '.js': '.js' },
  });
  await stop();
  writeFileSync(join(partial, 'package.json'), '{"type":"module"}\n');
  try {
    renameSync(partial, folder);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(folder)) throw error;
  }
  removeOld(dirname(folder), folder);
}

function removeOld(cache, current) {
  const day = Date.now() - 86_400_000;
  for (const name of readdirSync(cache)) {
    const path = join(cache, name);
    if (!name.startsWith('kernel-') || path === current) continue;
    if (statSync(path).mtimeMs < day) rmSync(path, { recursive: true, force: true });
  }
}

try {
  const folder = cacheFolder();
  if (!existsSync(folder)) await bundle(folder);
  const { main } = await import(pathToFileURL(join(folder, 'main.js')).href);
  await main(process.argv[2], root);
} catch (error) {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
}
