// Model folders, hub ids and .gguf files to a .gguf file of another type, one tensor in memory at a time.
// A .gguf file that is requantized keeps its tokenizer's metadata as it is.
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { Tokenizer } from '../data/tokenizer.ts';
import { locate } from './auto.ts';
import { openCheckpoint } from './checkpoint.ts';
import { configFromJson } from './config.ts';
import { type GgufReader, openGguf } from './gguf.ts';
import { exportGguf, type GgufOptions } from './gguf-export.ts';
import { ggufCheckpoint, ggufConfig } from './gguf-model.ts';
import type { GgufEntry } from './gguf-write.ts';
import type { HubOptions } from './hub.ts';

/** Stored types of the entries `tokenizer.*`; ids of tokens are uint32, flags bool. */
const TYPES: Record<string, GgufEntry['type']> = {
  'tokenizer.ggml.tokens': 'string[]',
  'tokenizer.ggml.merges': 'string[]',
  'tokenizer.ggml.scores': 'float32[]',
  'tokenizer.ggml.token_type': 'int32[]',
  'tokenizer.ggml.precompiled_charsmap': 'uint8[]',
};

/** What was written. */
export interface Conversion {
  path: string;
  bytes: number;
  parameters: number;
}

/**
 * Writes the model of a folder, .gguf file or hub id to `path` as `type` (default 'q8_0'), with its
 * tokenizer if there is one.
 */
export async function convertToGguf(
  source: string,
  path: string,
  options: GgufOptions & HubOptions = {},
): Promise<Conversion> {
  const found = await locate(source, options);
  const name = basename(found).replace(/\.gguf$/, '');
  if (found.endsWith('.gguf')) fromFile(found, path, { name, ...options });
  else fromFolder(found, path, { name, ...options });
  const written = openGguf(path);
  const sizes = [...written.tensors.values()].map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  written.close();
  return { path, bytes: statSync(path).size, parameters: sizes.reduce((a, b) => a + b, 0) };
}

function fromFile(found: string, path: string, options: GgufOptions): void {
  if (found === path) throw new Error(`A file cannot be converted onto itself: ${path}`);
  const file = openGguf(found);
  try {
    const config = ggufConfig(file);
    exportGguf(config, ggufCheckpoint(file, config), path, {
      vocabulary: vocabularyOf(file),
      ...options,
    });
  } finally {
    file.close();
  }
}

function fromFolder(folder: string, path: string, options: GgufOptions): void {
  const configPath = join(folder, 'config.json');
  if (!existsSync(configPath)) throw new Error(`No config.json in ${folder}`);
  const config = configFromJson(JSON.parse(readFileSync(configPath, 'utf8')));
  const hasTokenizer = existsSync(join(folder, 'tokenizer.json'));
  const weights = openCheckpoint(folder);
  try {
    exportGguf(config, weights, path, {
      ...(hasTokenizer ? { tokenizer: Tokenizer.fromFolder(folder) } : {}),
      ...options,
    });
  } finally {
    weights.close();
  }
}

function vocabularyOf({ metadata }: GgufReader): Map<string, GgufEntry> {
  const entries = [...metadata].flatMap(([key, value]): [string, GgufEntry][] => {
    if (!key.startsWith('tokenizer.')) return [];
    const type =
      TYPES[key] ?? { boolean: 'bool', number: 'uint32', string: 'string' }[String(typeof value)];
    return type ? [[key, { type, value } as GgufEntry]] : [];
  });
  return new Map(entries);
}
