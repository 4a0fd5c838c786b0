// The weights of a saved model: model.safetensors, or shards that model.safetensors.index.json lists.
// Tensors are read one at a time, so that weights are never held twice.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { placeTensor } from '../jit/place.ts';
import { unpackTensors } from '../quant/bnb-checkpoint.ts';
import { QuantState } from '../quant/quant-state.ts';
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

/** What is saved: a tensor, in the number type of the save, or numbers as they are. */
type Stored = tf.Tensor | RawTensor;

/** Open weights: shapes by name, and one tensor at a time. */
export interface Checkpoint {
  shapes: Map<string, number[]>;
  read(name: string): tf.Tensor;
  /** The stored parts of a weight that is quantized, by what follows its layer's path and a dot. */
  packed?(name: string): Map<string, RawTensor> | undefined;
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
  const raw = (name: string) => {
    const file = owners.get(name);
    if (!file) throw new Error(`No tensor named '${name}' in ${folder}`);
    return file.read(name);
  };
  const packed = packedWeights(shapes, raw);
  const read = (name: string) => {
    const parts = packed(name);
    if (parts) return placeTensor(unpackTensors(parts), shapes.get(name)!);
    return place(raw(name));
  };
  return { shapes, read, packed, close };
}

/** A tensor with a file's numbers; floats become float32. */
function place(raw: RawTensor): tf.Tensor {
  return /^(F|BF)/.test(raw.dtype) ? placeTensor(toFloat32(raw), raw.shape) : toTensor(raw);
}

/**
 * Makes a quantized weight one entry of `shapes`, in the shape that it has unpacked; returns what gives
 * its parts.
 */
function packedWeights(
  shapes: Map<string, number[]>,
  raw: (name: string) => RawTensor,
): (name: string) => Map<string, RawTensor> | undefined {
  const places = new Map<string, string[]>();
  for (const name of [...shapes.keys()]) {
    const path = /^(.*)\.(?:SCB|weight\.quant_state\.bitsandbytes__\w+)$/.exec(name)?.[1];
    if (path === undefined || !shapes.has(`${path}.weight`)) continue;
    const names = [...shapes.keys()].filter(
      (own) => own.startsWith(`${path}.weight`) || own === `${path}.SCB`,
    );
    places.set(`${path}.weight`, names);
    if (!name.endsWith('.SCB')) shapes.set(`${path}.weight`, QuantState.shapeIn(raw(name)));
    for (const own of names) if (own !== `${path}.weight`) shapes.delete(own);
  }
  return (name) => {
    const names = places.get(name);
    const start = name.length - 'weight'.length;
    return names && new Map(names.map((own) => [own.slice(start), raw(own)]));
  };
}

/**
 * Writes named tensors as model.safetensors, or as shards of at most `maxShardSize` bytes (default
 * 5 GB) and their index; weights of an earlier save in `folder` are removed.
 */
export function saveCheckpoint(
  folder: string,
  tensors: ReadonlyMap<string, Stored>,
  { dtype = 'float32' as SaveDtype, maxShardSize = 5e9 } = {},
): void {
  mkdirSync(folder, { recursive: true });
  if (existsSync(join(folder, INDEX))) {
    for (const name of shardNames(join(folder, INDEX))) rmSync(join(folder, name), { force: true });
    rmSync(join(folder, INDEX));
  }
  const bytesOf = (tensor: Stored) =>
    tensor instanceof tf.Tensor
      ? tensor.size * (dtype === 'float32' ? 4 : 2)
      : tensor.data.byteLength;
  const shards = groupBySize(tensors, bytesOf, maxShardSize);
  if (shards.length === 1) return saveFile(converted(tensors, dtype), join(folder, SINGLE));
  rmSync(join(folder, SINGLE), { force: true });
  const weightMap: Record<string, string> = {};
  const count = String(shards.length).padStart(5, '0');
  for (const [i, shard] of shards.entries()) {
    const file = `model-${String(i + 1).padStart(5, '0')}-of-${count}.safetensors`;
    saveFile(converted(shard, dtype), join(folder, file));
    for (const name of shard.keys()) weightMap[name] = file;
  }
  const total = [...tensors.values()].reduce((sum, tensor) => sum + bytesOf(tensor), 0);
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
  tensors: ReadonlyMap<string, Stored>,
  bytesOf: (tensor: Stored) => number,
  maxSize: number,
): Map<string, Stored>[] {
  const groups = [new Map<string, Stored>()];
  let size = 0;
  for (const [name, tensor] of tensors) {
    if (size > 0 && size + bytesOf(tensor) > maxSize) {
      groups.push(new Map());
      size = 0;
    }
    groups.at(-1)!.set(name, tensor);
    size += bytesOf(tensor);
  }
  return groups;
}

function converted(tensors: ReadonlyMap<string, Stored>, dtype: SaveDtype): Map<string, RawTensor> {
  return new Map(
    [...tensors].map(([name, tensor]) => [
      name,
      tensor instanceof tf.Tensor ? convert(fromTensor(tensor), dtype) : tensor,
    ]),
  );
}

function convert(raw: RawTensor, dtype: SaveDtype): RawTensor {
  if (dtype === 'float32' || !(raw.data instanceof Float32Array)) return raw;
  return dtype === 'float16'
    ? { ...raw, dtype: 'F16', data: float32ToFloat16(raw.data) }
    : { ...raw, dtype: 'BF16', data: float32ToBfloat16(raw.data) };
}
