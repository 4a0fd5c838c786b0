// The weights of a saved model: model.safetensors, or shards that model.safetensors.index.json lists.
// Tensors are read one at a time, so that weights are never held twice.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type * as tf from '@tensorflow/tfjs';
import { placeTensor } from '../jit/place.ts';
import { float32ToBfloat16, float32ToFloat16 } from '../tensor/float16.ts';
import {
  fromTensor,
  type RawTensor,
  type SafetensorsReader,
  safeOpen,
  saveFile,
  toFloat32,
  toTensor,
} from '../tensor/safetensors.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Number types that weights can be saved in. */
export type SaveDtype = 'float32' | 'float16' | 'bfloat16';

/** Open weights: shapes by name, and one tensor at a time. */
export interface Checkpoint {
  shapes: Map<string, number[]>;
  read(name: string): tf.Tensor;
  close(): void;
}

/** Opens the safetensors weights of a folder; throws if it has none, or a shard is missing. */
export function openCheckpoint(folder: string): Checkpoint {
  const names = existsSync(join(folder, INDEX)) ? shardNames(join(folder, INDEX)) : [SINGLE];
  if (!existsSync(join(folder, names[0]!))) {
    throw new Error(`No weights in ${folder}: expected ${SINGLE}, ${INDEX} or a .gguf file`);
  }
  const files: SafetensorsReader[] = [];
  const close = () => files.forEach((file) => void file.close());
  const owners = new Map<string, SafetensorsReader>();
  const shapes = new Map<string, number[]>();
  try {
    for (const name of names) {
      const file = safeOpen(join(folder, name));
      files.push(file);
      for (const [tensor, { shape }] of file.tensors) {
        if (owners.has(tensor)) throw new Error(`Tensor '${tensor}' is in two files of ${folder}`);
        owners.set(tensor, file);
        shapes.set(tensor, shape);
      }
    }
  } catch (error) {
    close();
    throw error;
  }
  const read = (name: string) => {
    const file = owners.get(name);
    if (!file) throw new Error(`No tensor named '${name}' in ${folder}`);
    const raw = file.read(name);
    return /^(F|BF)/.test(raw.dtype) ? placeTensor(toFloat32(raw), raw.shape) : toTensor(raw);
  };
  return { shapes, read, close };
}

/**
 * Writes named tensors as model.safetensors, or as shards of at most `maxShardSize` bytes (default
 * 5 GB) and their index; weights of an earlier save in `folder` are removed.
 */
export function saveCheckpoint(
  folder: string,
  tensors: Map<string, tf.Tensor>,
  { dtype = 'float32' as SaveDtype, maxShardSize = 5e9 } = {},
): void {
  mkdirSync(folder, { recursive: true });
  if (existsSync(join(folder, INDEX))) {
    for (const name of shardNames(join(folder, INDEX))) rmSync(join(folder, name), { force: true });
    rmSync(join(folder, INDEX));
  }
  const width = dtype === 'float32' ? 4 : 2;
  const shards = groupBySize(tensors, width, maxShardSize);
  if (shards.length === 1) return saveFile(converted(tensors, dtype), join(folder, SINGLE));
  rmSync(join(folder, SINGLE), { force: true });
  const weightMap: Record<string, string> = {};
  const count = String(shards.length).padStart(5, '0');
  for (const [i, shard] of shards.entries()) {
    const file = `model-${String(i + 1).padStart(5, '0')}-of-${count}.safetensors`;
    saveFile(converted(shard, dtype), join(folder, file));
    for (const name of shard.keys()) weightMap[name] = file;
  }
  const total = [...tensors.values()].reduce((sum, { size }) => sum + size * width, 0);
  const index = { metadata: { total_size: total }, weight_map: weightMap };
  writeFileSync(join(folder, INDEX), `${JSON.stringify(index, null, 2)}\n`);
}

/** The files that an index names, which must be plain names beside it. */
function shardNames(path: string): string[] {
  const { weight_map: map } = JSON.parse(readFileSync(path, 'utf8')) as { weight_map?: unknown };
  const names = typeof map === 'object' && map !== null ? [...new Set(Object.values(map))] : [];
  const isPlain = (name: unknown) =>
    typeof name === 'string' && name === basename(name) && name.endsWith('.safetensors');
  if (names.length === 0 || !names.every(isPlain)) {
    throw new Error(`${path} must map tensors to names of .safetensors files beside it`);
  }
  return (names as string[]).sort();
}

function groupBySize(
  tensors: Map<string, tf.Tensor>,
  width: number,
  maxSize: number,
): Map<string, tf.Tensor>[] {
  const groups = [new Map<string, tf.Tensor>()];
  let size = 0;
  for (const [name, tensor] of tensors) {
    if (size > 0 && size + tensor.size * width > maxSize) {
      groups.push(new Map());
      size = 0;
    }
    groups.at(-1)!.set(name, tensor);
    size += tensor.size * width;
  }
  return groups;
}

function converted(tensors: Map<string, tf.Tensor>, dtype: SaveDtype): Map<string, RawTensor> {
  return new Map([...tensors].map(([name, tensor]) => [name, convert(fromTensor(tensor), dtype)]));
}

function convert(raw: RawTensor, dtype: SaveDtype): RawTensor {
  if (dtype === 'float32' || !(raw.data instanceof Float32Array)) return raw;
  return dtype === 'float16'
    ? { ...raw, dtype: 'F16', data: float32ToFloat16(raw.data) }
    : { ...raw, dtype: 'BF16', data: float32ToBfloat16(raw.data) };
}
