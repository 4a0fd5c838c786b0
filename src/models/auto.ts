// Models and tokenizers by name: a folder as transformers saves it, a .gguf file, or an id of the hub.
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { tokenizerFromGguf } from '../data/gguf-tokenizer.ts';
import { Tokenizer } from '../data/tokenizer.ts';
import type { BitsAndBytesConfig } from '../quant/bnb-config.ts';
import { ownPath } from '../tensor/own-path.ts';
import type { CausalLM } from './causal-lm.ts';
import { openGguf } from './gguf.ts';
import { ggufCheckpoint, ggufConfig } from './gguf-model.ts';
import { type HubOptions, isHubId, snapshotDownload } from './hub.ts';
import { loadFolder, loadModel } from './pretrained.ts';

/** How a model is found, and whether its linear layers are packed while they are read. */
export interface PretrainedOptions extends HubOptions {
  /** Holds unless the model's own config.json has a `quantization_config`. */
  quantizationConfig?: BitsAndBytesConfig;
}

/** Causal language models by name. */
export const AutoModelForCausalLM = {
  /** The model of a folder, .gguf file or hub id; weights become float32, those of bitsandbytes stay packed. */
  async fromPretrained(source: string, options: PretrainedOptions = {}): Promise<CausalLM> {
    const path = await locate(source, options);
    if (!path.endsWith('.gguf')) return loadFolder(path, options.quantizationConfig);
    const file = openGguf(path);
    try {
      const config = ggufConfig(file);
      return loadModel(config, ggufCheckpoint(file, config), options.quantizationConfig);
    } finally {
      file.close();
    }
  },
};

/** Tokenizers by the same names. */
export const AutoTokenizer = {
  /** The tokenizer of a folder, .gguf file or hub id. */
  async fromPretrained(source: string, options: HubOptions = {}): Promise<Tokenizer> {
    const path = await locate(source, options);
    if (!path.endsWith('.gguf')) return Tokenizer.fromFolder(path);
    const file = openGguf(path);
    try {
      return tokenizerFromGguf(file.metadata);
    } finally {
      file.close();
    }
  },
};

/** The folder or .gguf file that `name` means, downloaded if it is a hub id. */
export async function locate(name: string, options: HubOptions): Promise<string> {
  const source = ownPath(name);
  if (!existsSync(source)) {
    if (isHubId(source)) return snapshotDownload(source, options);
    throw new Error(
      `'${source}' is no folder, no .gguf file and no hub id such as 'HuggingFaceTB/SmolLM2-135M-Instruct'`,
    );
  }
  if (!statSync(source).isDirectory() || existsSync(join(source, 'config.json'))) return source;
  const files = readdirSync(source).filter((name) => name.endsWith('.gguf'));
  return files.length === 1 ? join(source, files[0]!) : source;
}
