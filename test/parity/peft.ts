// Kinds 02_peft and 02_adapters: an adapter that PEFT or the adapters library saved, with its logits,
// gradients, merged weights and counts; it is saved again here, and must be the same files.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { causalLMLoss } from '../../src/models/causal-lm.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { configFromJson } from '../../src/peft/mapping.ts';
import { getPeftModel, PeftModel } from '../../src/peft/peft-model.ts';
import { trainableParametersLine } from '../../src/peft/trainable-parameters.ts';
import { loadFile, type RawTensor, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Manifest, type Measure, same } from './measure.ts';

type Stored = Map<string, RawTensor>;
type Json = Record<string, unknown>;

interface Expected {
  print_trainable_parameters: string;
  trainable_all: [number, number];
  loss: number;
}

/** An adapter of the adapters library. */
export const checkBottleneck: Check = async (folder, manifest) => {
  const { trainable, total, loss } = manifest.expected as Record<string, number>;
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const tolerance = { loss_atol: 2e-5, ...(manifest.tolerance as Record<string, number>) };
  const base = join(folder, manifest.base_model as string);
  const model = getPeftModel(loadFolder(base), configFromJson(readConfig(folder)));
  const counts = model.getNbTrainableParameters();
  model.dispose();
  return [
    same('trainable, total', counts, [trainable, total]),
    ...compareNumbers(base, folder, stored, { loss: loss! }, tolerance),
    ...compareFiles(base, folder, { adapterName: 'bn', weights: 'adapter.safetensors' }),
  ];
};

/** Compares one adapter with PEFT's numbers for it. */
export const checkPeft: Check = async (folder, manifest) => {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const tolerance = manifest.tolerance as Record<string, number>;
  const base = join(folder, manifest.base_model as string);
  return [
    ...compareCounts(base, folder, manifest),
    ...compareNumbers(base, folder, stored, manifest.expected as unknown as Expected, tolerance),
    ...compareFiles(base, folder),
    ...compareMerged(base, folder, stored, tolerance),
  ];
};

/** Labels [B, nv + T] for logits of as many positions: virtual tokens have none. */
export function padLabels(labels: tf.Tensor, logits: tf.Tensor): tf.Tensor2D {
  const missing = logits.shape[1]! - labels.shape[1]!;
  return tf.pad(
    labels,
    [
      [0, 0],
      [missing, 0],
    ],
    -100,
  ) as tf.Tensor2D;
}

function compareCounts(base: string, folder: string, manifest: Manifest): Measure[] {
  const json = readConfig(folder);
  const expected = manifest.expected as unknown as Expected;
  const model = getPeftModel(loadFolder(base), configFromJson({ ...json, inference_mode: false }));
  const counts = model.getNbTrainableParameters();
  model.dispose();
  const line = trainableParametersLine(...counts);
  return [
    same('trainable_all', counts, expected.trainable_all),
    same('print_trainable_parameters', line, expected.print_trainable_parameters),
  ];
}

function compareNumbers(
  base: string,
  folder: string,
  stored: Stored,
  expected: Pick<Expected, 'loss'>,
  tolerance: Record<string, number>,
): Measure[] {
  const isTrainable = [...stored.keys()].some((key) => key.startsWith('grad:'));
  const model = PeftModel.fromPretrained(loadFolder(base), folder, { isTrainable });
  const named = new Map(
    [...model.getAdapterState()].map(([key, tensor]) => [
      key.replace('.adapters.default.', '.adapters.bn.'),
      tensor,
    ]),
  );
  const variables = named as Map<string, tf.Variable>;
  const grads = [...stored.keys()].filter((key) => key.startsWith('grad:'));
  const measures = tf.tidy(() => {
    const inputIds = toTensor(stored.get('input_ids')!) as tf.Tensor2D;
    const labels = toTensor(stored.get('labels')!);
    const { logits } = model.forward(inputIds);
    const loss = () => {
      const output = model.forward(inputIds);
      return causalLMLoss(output.logits, padLabels(labels, output.logits));
    };
    const found = grads.map((key) => variables.get(key.slice(5))!);
    const gradients = isTrainable ? tf.variableGrads(loss, found).grads : {};
    return [
      close('logits', logits.dataSync(), toFloat32(stored.get('logits')!), {
        atol: tolerance.logits_atol!,
      }),
      close('loss', loss().dataSync(), [expected.loss], { atol: tolerance.loss_atol! }),
      ...grads.map((key, i) =>
        close(key, gradients[found[i]!.name]!.dataSync(), toFloat32(stored.get(key)!), {
          atol: tolerance.grad_atol!,
          rtol: tolerance.grad_rtol!,
        }),
      ),
    ] as unknown as tf.TensorContainer;
  }) as unknown as Measure[];
  model.dispose();
  return measures;
}

/** Keys, shapes and numbers of the files, and all fields of the config. */
function compareFiles(
  base: string,
  folder: string,
  { adapterName = 'default', weights = 'adapter_model.safetensors' } = {},
): Measure[] {
  const model = PeftModel.fromPretrained(loadFolder(base), folder, { adapterName });
  const target = mkdtempSync(join(tmpdir(), 'adapter-'));
  try {
    model.savePretrained(target);
    const written = adapterName === 'default' ? target : join(target, adapterName);
    // With bias 'all', PEFT saves biases of modulesToSave again under these names.
    const isTwice = (key: string) => /\.(modules_to_save|original_module)\./.test(key);
    const once = (path: string) => [...loadFile(join(path, weights))].filter(([k]) => !isTwice(k));
    const [ours, theirs] = [new Map(once(written)), new Map(once(folder))];
    const shapes = (tensors: Stored) => [...tensors].map(([key, { shape }]) => [key, shape]).sort();
    return [
      same('saved keys', shapes(ours), shapes(theirs)),
      ...[...theirs].map(([key, raw]) => {
        const saved = ours.get(key);
        return close(`saved ${key}`, saved ? toFloat32(saved) : [], toFloat32(raw), {});
      }),
      same('saved config', knownFields(readConfig(written)), knownFields(readConfig(folder))),
    ];
  } finally {
    model.dispose();
    rmSync(target, { recursive: true });
  }
}

/** A config without what is empty or off, and with lists in order: PEFT writes sets. */
function knownFields(json: Json): Json {
  const isOff = (value: unknown) =>
    value === null ||
    value === false ||
    (typeof value === 'object' && Object.keys(value).length === 0);
  const entries = Object.entries(json).filter(
    ([key, value]) => !isOff(value) && key !== 'peft_version',
  );
  const sorted = (value: unknown): unknown => {
    if (Array.isArray(value)) return [...value].sort();
    return typeof value === 'object' ? knownFields(value as Json) : value;
  };
  return Object.fromEntries(entries.sort().map(([key, value]) => [key, sorted(value)]));
}

function compareMerged(
  base: string,
  folder: string,
  stored: Stored,
  tolerance: Record<string, number>,
): Measure[] {
  const keys = [...stored.keys()].filter((key) => key.startsWith('merged:'));
  if (keys.length === 0) return [];
  const merged = PeftModel.fromPretrained(loadFolder(base), folder).mergeAndUnload({
    safeMerge: true,
  });
  const before = loadFolder(base);
  const untouched = new Map(before.namedParameters());
  const atol = tolerance.merged_atol!;
  const measures = [...merged.namedParameters()].map(([name, weight]) => {
    const raw = stored.get(`merged:${name}`);
    const expected = raw ? toFloat32(raw) : untouched.get(name)?.dataSync();
    return close(`merged ${name}`, weight.dataSync(), expected ?? [], { atol });
  });
  merged.dispose();
  before.dispose();
  return measures;
}

const readConfig = (folder: string) =>
  JSON.parse(readFileSync(join(folder, 'adapter_config.json'), 'utf8')) as Json;
