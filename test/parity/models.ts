// Kind 01_models: a folder that transformers saved, with logits, hidden states, losses, greedy output.
import { join } from 'node:path';
import * as tf from '@tensorflow/tfjs';
import { causalLMLoss, maskedPositions, numParameters } from '../../src/models/causal-lm.ts';
import { generate } from '../../src/models/generation.ts';
import { loadFolder } from '../../src/models/pretrained.ts';
import { loadFile, toFloat32, toTensor } from '../../src/tensor/safetensors.ts';
import { type Check, close, type Measure, same } from './measure.ts';

type Model = ReturnType<typeof loadFolder>;
type Expected = Record<string, unknown> & { greedy_prompt: number[]; greedy_output: number[] };

/** What a case can expect; the margin only tells how safe the greedy choice is. */
const KNOWN = new Set([
  'logits',
  'logits_leftpad',
  'hidden_states',
  'loss_labels_eq_inputs',
  'loss_labels_first6_masked',
  'greedy_prompt',
  'greedy_output',
  'greedy_min_top2_margin',
  'num_parameters',
  'num_parameters_exclude_embeddings',
]);

/** Compares a model's numbers with transformers'. */
export const checkModel: Check = async (folder, manifest) => {
  const expected = manifest.expected as Expected;
  const unknown = Object.keys(expected).filter((key) => !KNOWN.has(key));
  if (unknown.length > 0) throw new Error(`Unknown expectation '${unknown[0]}'`);
  const model = loadFolder(folder);
  const tolerance = manifest.tolerance as Record<string, number>;
  try {
    const losses = { atol: tolerance.loss_atol ?? 0 };
    const logits = { atol: tolerance.logits_atol ?? 0, rtol: tolerance.logits_rtol ?? 0 };
    return [
      ...compareLogits(model, folder, logits),
      ...compareLosses(model, folder, expected, losses),
      await compareGreedy(model, expected),
      same('num_parameters', numParameters(model), expected.num_parameters),
      same(
        'num_parameters_exclude_embeddings',
        numParameters(model, { excludeEmbeddings: true }),
        expected.num_parameters_exclude_embeddings,
      ),
    ];
  } finally {
    model.dispose();
  }
};

function compareLogits(
  model: Model,
  folder: string,
  tolerance: { atol: number; rtol: number },
): Measure[] {
  const stored = loadFile(join(folder, 'expected.safetensors'));
  const numbers = (name: string) => toFloat32(stored.get(name)!);
  return tf.tidy(() => {
    const inputIds = toTensor(stored.get('input_ids')!) as tf.Tensor2D;
    const mask = toTensor(stored.get('attention_mask_leftpad')!) as tf.Tensor2D;
    const output = model.forward(inputIds, { outputHiddenStates: true });
    const padded = model.forward(inputIds, {
      attentionMask: mask,
      positionIds: maskedPositions(mask),
    });
    const real = (values: ArrayLike<number>) => {
      const width = values.length / mask.size;
      const kept = mask.dataSync();
      return Array.from(values).filter((_, i) => kept[Math.floor(i / width)] === 1);
    };
    return [
      close('logits', output.logits.dataSync(), numbers('logits'), tolerance),
      close(
        'logits_leftpad',
        real(padded.logits.dataSync()),
        real(numbers('logits_leftpad')),
        tolerance,
      ),
      ...output.hiddenStates!.map((state, i) =>
        close(`hidden_states.${i}`, state.dataSync(), numbers(`hidden_states.${i}`), tolerance),
      ),
      same('hidden states', stored.has(`hidden_states.${output.hiddenStates!.length}`), false),
    ];
  });
}

function compareLosses(
  model: Model,
  folder: string,
  expected: Expected,
  tolerance: { atol: number },
): Measure[] {
  const inputIds = toTensor(loadFile(join(folder, 'expected.safetensors')).get('input_ids')!);
  const ids = inputIds.arraySync() as number[][];
  inputIds.dispose();
  const masked = ids.map((row) => row.map((id, i) => (i < 6 ? -100 : id)));
  const loss = (labels: number[][]) =>
    tf.tidy(() => {
      const { logits } = model.forward(tf.tensor2d(ids, undefined, 'int32'));
      return causalLMLoss(logits, tf.tensor2d(labels, undefined, 'int32')).dataSync();
    });
  return [
    close('loss', loss(ids), [expected.loss_labels_eq_inputs as number], tolerance),
    close('masked loss', loss(masked), [expected.loss_labels_first6_masked as number], tolerance),
  ];
}

async function compareGreedy(model: Model, expected: Expected): Promise<Measure> {
  const { greedy_prompt: prompt, greedy_output: output } = expected;
  const ends = [model.config.eosTokenId ?? []].flat();
  const goesOn = output.slice(prompt.length, -1).some((id) => ends.includes(id));
  const maxNewTokens = output.length - prompt.length;
  const config = { maxNewTokens, ...(goesOn ? { eosTokenId: null } : {}) };
  const [ids] = await generate(model, [prompt], config);
  return same('greedy_output', ids, output);
}
