// One contestant of the QLoRA rows of `bench quant`: `make FOLDER` saves model C in float32 and in NF4, and
// `FOLDER/float` or `FOLDER/nf4` (and `checkpointing`) trains a LoRA on it. After its first step it answers each line 'N' with the
// milliseconds of N steps, and 'q' with its peak memory in MB and the bytes of its base.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import * as tf from '@tensorflow/tfjs';
import {
  AdamW,
  type AdamWNumbers,
  AutoModelForCausalLM,
  BitsAndBytesConfig,
  type CausalLM,
  crossEntropy,
  fromConfig,
  getMemoryFootprint,
  getPeftModel,
  jit,
  LoraConfig,
  llamaConfig,
  savePretrained,
  setBackend,
} from 'peftlab';
import { checkpointLayers } from '../src/train/gradient-checkpointing.ts';
import { MODELS } from './engine-models.ts';

const { C } = MODELS;

async function make(folder: string): Promise<void> {
  const config = llamaConfig({
    vocabSize: C.vocab,
    hiddenSize: C.hidden,
    intermediateSize: C.inner,
    numHiddenLayers: C.layers,
    numAttentionHeads: C.heads,
    numKeyValueHeads: C.keyHeads,
    tieWordEmbeddings: C.tied,
    maxPositionEmbeddings: 512,
    rmsNormEps: 1e-5,
  });
  const model = fromConfig(config);
  savePretrained(model, join(folder, 'float'));
  model.dispose();
  const options = {
    loadIn4bit: true,
    bnb4bitQuantType: 'nf4',
    bnb4bitUseDoubleQuant: true,
  } as const;
  const quantizationConfig = new BitsAndBytesConfig(options);
  const packed = await AutoModelForCausalLM.fromPretrained(join(folder, 'float'), {
    quantizationConfig,
  });
  savePretrained(packed, join(folder, 'nf4'));
}

/** A step of AdamW on one batch of random tokens. */
function makeStep(model: CausalLM): () => Promise<number> {
  const params = model.parameters().filter(({ trainable }) => trainable);
  const optimizer = new AdamW(params);
  const step = jit((ids: tf.Tensor2D, labels: tf.Tensor1D, numbers: AdamWNumbers[]) => {
    const loss = () => {
      const { logits } = model.forward(ids);
      return crossEntropy(tf.reshape(logits, [-1, C.vocab]), labels) as tf.Scalar;
    };
    const { value, grads } = tf.variableGrads(loss, params);
    optimizer.apply(
      params.map(({ name }) => grads[name]!),
      numbers,
    );
    return value;
  });
  return async () => {
    const size = C.batch * C.length;
    const ids = Int32Array.from({ length: size }, () => Math.floor(Math.random() * C.vocab));
    const labels = ids.map((id) => (id * 7 + 3) % C.vocab);
    const start = performance.now();
    const inputs = [
      tf.tensor2d(ids, [C.batch, C.length], 'int32'),
      tf.tensor1d(labels, 'int32'),
      optimizer.numbers(),
    ] as const;
    const value = step(...inputs);
    const [loss] = await value.data();
    if (Number.isNaN(loss)) throw new Error('The loss is not a number');
    tf.dispose([...inputs, value]);
    return performance.now() - start;
  };
}

const print = (value: unknown) => console.log(JSON.stringify(value));
const [command = '', option = ''] = process.argv.slice(2);
await setBackend('native');
if (command === 'make') {
  await make(option);
  process.exit(0);
}
const base = await AutoModelForCausalLM.fromPretrained(command);
const bytes = getMemoryFootprint(base);
const adapted = getPeftModel(base, new LoraConfig({ r: 8, targetModules: 'all-linear' }));
adapted.train();
if (option === 'checkpointing') checkpointLayers(adapted);
const step = makeStep(adapted as unknown as CausalLM);
print({ first: await step() });
for await (const line of createInterface({ input: process.stdin })) {
  if (line.trim() === 'q') break;
  const times: number[] = [];
  for (let i = 0; i < Number(line); i++) times.push(await step());
  print(times);
}
const status = readFileSync('/proc/self/status', 'utf8');
print({ peak: Number(/VmHWM:\s+(\d+)/.exec(status)![1]) / 1024, bytes });
process.exit(0);
