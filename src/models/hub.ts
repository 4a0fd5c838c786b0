// Models from the Hugging Face hub: downloaded by @huggingface/hub into a cache, piece by piece, so that a
// broken download goes on where it stopped; each file is held against its size and hash.
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { appendFile, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { ListFileEntry } from '@huggingface/hub';

/** How far a download is, in bytes of all files. */
export interface DownloadProgress {
  file: string;
  loaded: number;
  total: number;
}

/** Where from and where to. */
export interface HubOptions {
  /** Branch, tag or commit. Default 'main'. */
  revision?: string;
  /** Default `cacheFolder()`. */
  cacheDir?: string;
  /** For private models. Default the environment's HF_TOKEN. */
  accessToken?: string;
  /** Another server with the hub's interface. Default the environment's HF_ENDPOINT. */
  hubUrl?: string;
  onProgress?: (progress: DownloadProgress) => void;
}

/** Files that make a model; others of a repository are not downloaded. */
const WANTED =
  /^((config|generation_config|tokenizer|tokenizer_config|special_tokens_map)\.json|chat_template\.jinja|model[\w.-]*\.safetensors(\.index\.json)?)$/;
const PIECE = 2 ** 24;
const COMPLETE = '.complete';

/** Whether a text has the form of a hub id, 'owner/name'. */
export function isHubId(text: string): boolean {
  return /^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(text);
}

/** Where models are kept: PEFTLAB_CACHE_DIR, else ~/.cache/peftlab; never inside a repository. */
export function cacheFolder(): string {
  return process.env.PEFTLAB_CACHE_DIR ?? join(homedir(), '.cache', 'peftlab');
}

/**
 * The folder of a model of the hub, downloaded if it is not in the cache. Without a connection it
 * throws one sentence that says what to do.
 */
export async function snapshotDownload(repo: string, options: HubOptions = {}): Promise<string> {
  if (!isHubId(repo)) throw new RangeError(`A hub id must be 'owner/name', got '${repo}'`);
  const { revision = 'main', cacheDir = cacheFolder() } = options;
  const folder = join(cacheDir, `models--${repo.replace('/', '--')}`, encodeURIComponent(revision));
  if (existsSync(join(folder, COMPLETE))) return folder;
  await mkdir(folder, { recursive: true });
  const files = await list(repo, options);
  const total = files.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const file of files) {
    const onLoaded = (loaded: number) =>
      options.onProgress?.({ file: file.path, loaded: done + loaded, total });
    await download(repo, file, folder, options, onLoaded);
    done += file.size;
  }
  await writeFile(join(folder, COMPLETE), '');
  return folder;
}

/** The SHA-256 of a file, in hexadecimal. */
export async function sha256(path: string): Promise<string> {
  return digest(path, 'sha256', '');
}

async function list(repo: string, options: HubOptions): Promise<ListFileEntry[]> {
  const { listFiles } = await import('@huggingface/hub');
  const files: ListFileEntry[] = [];
  try {
    for await (const file of listFiles(request(repo, options))) {
      if (file.type === 'file' && WANTED.test(file.path)) files.push(file);
    }
  } catch (error) {
    throw explained(repo, error);
  }
  if (!files.some(({ path }) => path.endsWith('.safetensors'))) {
    throw new Error(`'${repo}' has no safetensors weights on the hub`);
  }
  return files;
}

/** Completes `folder/path`: what `path.part` holds already is not fetched again. */
async function download(
  repo: string,
  file: ListFileEntry,
  folder: string,
  options: HubOptions,
  onLoaded: (loaded: number) => void,
): Promise<void> {
  const { downloadFile } = await import('@huggingface/hub');
  const path = join(folder, file.path);
  const part = `${path}.part`;
  if (existsSync(path) && statSync(path).size === file.size) return onLoaded(file.size);
  let loaded = existsSync(part) ? statSync(part).size : 0;
  if (loaded > file.size) {
    await rm(part);
    loaded = 0;
  }
  try {
    const blob = await downloadFile({ ...request(repo, options), path: file.path, xet: false });
    if (!blob || blob.size !== file.size) {
      throw new Error(`the hub offers ${blob?.size ?? 'no'} bytes instead of ${file.size}`);
    }
    if (file.size === 0) await writeFile(part, '');
    while (loaded < file.size) {
      const end = Math.min(loaded + PIECE, file.size);
      const piece = new Uint8Array(await blob.slice(loaded, end).arrayBuffer());
      if (piece.length !== end - loaded) throw new Error(`a piece of ${piece.length} bytes came`);
      await appendFile(part, piece);
      loaded = end;
      onLoaded(loaded);
    }
  } catch (error) {
    throw explained(repo, error);
  }
  await verify(part, file, repo);
  await rename(part, path);
}

/** Large files have a SHA-256, the others git's hash of their content. */
async function verify(part: string, file: ListFileEntry, repo: string): Promise<void> {
  const found = file.lfs ? await sha256(part) : await digest(part, 'sha1', `blob ${file.size}\0`);
  const expected = file.lfs?.oid ?? file.oid;
  if (found === expected) return;
  await rm(part);
  throw new Error(
    `${file.path} of '${repo}' came damaged: its hash is ${found}, the hub's ${expected}; try again`,
  );
}

async function digest(path: string, algorithm: string, before: string): Promise<string> {
  const hash = createHash(algorithm).update(before);
  for await (const bytes of createReadStream(path)) hash.update(bytes as Buffer);
  return hash.digest('hex');
}

function request(repo: string, options: HubOptions) {
  const accessToken = options.accessToken ?? process.env.HF_TOKEN;
  const hubUrl = options.hubUrl ?? process.env.HF_ENDPOINT;
  return {
    repo,
    revision: options.revision ?? 'main',
    ...(accessToken ? { accessToken } : {}),
    ...(hubUrl ? { hubUrl } : {}),
  };
}

function explained(repo: string, error: unknown): Error {
  const { message, statusCode, cause } = error as Error & { statusCode?: number };
  const isOffline = message === 'fetch failed' || message === 'terminated';
  if (isOffline) {
    const why = (cause as { code?: string } | undefined)?.code ?? message;
    return new Error(
      `The hub can't be reached for '${repo}' (${why}): connect to the internet and try again, or name a folder or .gguf file that holds the model`,
      { cause: error },
    );
  }
  const status = statusCode ? ` (${statusCode})` : '';
  return new Error(`The hub did not give '${repo}'${status}: ${message}`, { cause: error });
}
